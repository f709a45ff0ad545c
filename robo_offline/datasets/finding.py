"""Finding: one fault of a data set."""

from __future__ import annotations

from dataclasses import dataclass

SEVERITIES = ("error", "warning", "note")  # gravest first


@dataclass(frozen=True)
class Finding:
    """One kind of fault: how often it occurs, where first, what follows and what to do."""

    code: str
    severity: str
    message: str
    consequence: str
    remedy: str
    episode: int | None = None
    row: int | None = None
    count: int = 1

    def place(self) -> str:
        """Where it occurs first, in words."""
        named = (("episode", self.episode), ("row", self.row))
        return ", ".join(f"{word} {number}" for word, number in named if number is not None)
