"""Returns of a random and of an expert policy, between which normalised scores are counted."""

from __future__ import annotations

import json
import re
from typing import Any

# D4RL's references (its infos.py), which later versions of an environment reuse.
D4RL = {
    "hopper": (-20.272305, 3234.3),
    "halfcheetah": (-280.178953, 12135.0),
    "walker2d": (1.629008, 4592.3),
    "pen": (96.262799, 3076.8331),
    "hammer": (-274.856578, 12794.1348),
    "door": (-56.512833, 2880.5693),
    "relocate": (-6.425911, 4233.8778),
    "antmaze": (0.0, 1.0),
    "kitchen": (0.0, 4.0),
}
FAMILY_PREFIXES = ("adroithand", "franka")  # in the ids of gymnasium-robotics


def score_range(metadata: dict[str, Any]) -> tuple[float, float] | None:
    """Read the references stored with a data set, else look its environment up in D4RL's table."""
    low, high = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    if low is not None and high is not None and low != high:
        return float(low), float(high)
    family = re.split(r"[_-]", environment_id(metadata).lower())[0]
    for prefix in FAMILY_PREFIXES:
        family = family.removeprefix(prefix)
    return D4RL.get(family)


def environment_id(metadata: dict[str, Any]) -> str:
    """Gymnasium id of the environment a data set was logged in; empty when unknown."""
    spec = metadata.get("env_spec")
    if isinstance(spec, str):
        try:
            spec = json.loads(spec)
        except ValueError:
            spec = None
    environment = metadata.get("environment")
    for about in (spec, environment):
        if isinstance(about, dict) and isinstance(about.get("id"), str):
            return about["id"]
    return ""
