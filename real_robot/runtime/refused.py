"""The errors of the runtime: what is refused, where, what was expected and what was found."""

from __future__ import annotations


class Refused(Exception):
    """The runtime does not go on with this; whoever asked must hold, not guess."""

    def __init__(
        self, what: str, *, where: object = None, expected: object = None, found: object = None
    ):
        self.what, self.where, self.expected, self.found = what, where, expected, found
        rows = [("where", where), ("expected", expected), ("found", found)]
        lines = [f"  {name}: {_short(value)}" for name, value in rows if value is not None]
        super().__init__("\n".join([what, *lines]))


class BundleRefused(Refused):
    """A bundle is damaged, foreign, unsigned or of another kind."""


class ObservationRefused(Refused):
    """An observation is not what the policy was trained on."""


class ActionRefused(Refused):
    """What came out of the policy must not reach a robot."""


class DeadlineMissed(Refused):
    """The answer would come too late."""


def _short(value: object) -> str:
    text = str(value).encode("utf-8", "backslashreplace").decode()  # foreign text may not print
    return text if len(text) <= 300 else text[:300] + " ..."
