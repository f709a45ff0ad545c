"""The one error that a user sees without a traceback: what, where, expected, found, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something the user gave us cannot be used, and we can say what to do about it.

    The command line prints it as a short block and exits with 2; `--debug` adds the traceback.
    """

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        found: object = None,
        remedy: object = None,
    ):
        self.what, self.where = what, where
        self.expected, self.found, self.remedy = expected, found, remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        rows = [
            ("where", self.where),
            ("expected", self.expected),
            ("found", self.found),
            ("to do", self.remedy),
        ]
        return "\n".join(
            [self.what] + [f"  {name}: {value}" for name, value in rows if value is not None]
        )

    def __reduce__(self):  # crosses process boundaries with its fields
        return _rebuild, (self.what, self.where, self.expected, self.found, self.remedy)


def _rebuild(what, where, expected, found, remedy) -> UserError:
    return UserError(what, where=where, expected=expected, found=found, remedy=remedy)


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known names are close to `name`, or list them all when none is."""
    known = sorted(known)
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return "known: " + ", ".join(known)
