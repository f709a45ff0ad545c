"""What an importer knows about the file it reads, beside the episodes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium


@dataclass
class Source:
    """One file being imported; `counts` and `notes` fill up while its episodes are read."""

    format: str
    path: Path
    total: int  # episodes in the file
    environment: dict[str, Any] = field(default_factory=dict)  # what the episodes were logged in
    observation_space: gymnasium.Space | None = None
    action_space: gymnasium.Space | None = None
    env_spec: Any = None
    counts: Counter[str] = field(default_factory=Counter)  # what was changed or left out
    notes: list[str] = field(default_factory=list)
