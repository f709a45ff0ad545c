"""The lease: one commander at a time, known by a number that nobody can guess, and not for long."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Protocol

from real_robot.messages import Source


class Draw(Protocol):
    def __call__(self) -> int: ...


def random_number() -> int:
    """Return 63 random bits: a lease that is over cannot be met again."""
    return secrets.randbits(63) | 1


@dataclass(slots=True)
class Lease:
    """Who commands now. 0 is no lease."""

    ttl_ns: int
    number: int = 0
    holder: str = ""
    source: Source = Source.POLICY
    expires_ns: int = 0
    last_seq: int = -1
    draw: Draw = field(default=random_number)

    def valid(self, now_ns: int) -> bool:
        return self.number != 0 and now_ns <= self.expires_ns

    def take(self, holder: str, source: Source, now_ns: int) -> str:
        """Give the lease to `holder`; return why not, or nothing. A person outranks a policy."""
        others = self.valid(now_ns) and holder != self.holder
        if others and source <= self.source:
            return f"{self.source.name.lower()} holds the lease"
        self.number, self.holder, self.source = self.draw(), holder, source
        self.last_seq = -1
        self.renew(now_ns)
        return ""

    def of(self, holder: str, now_ns: int) -> int | None:
        """Return the number where this holder has a valid lease."""
        return self.number if self.valid(now_ns) and holder == self.holder else None

    def renew(self, now_ns: int) -> None:
        self.expires_ns = now_ns + self.ttl_ns

    def revoke(self) -> None:
        """End it; whatever carries its number is refused from now on."""
        self.number, self.holder = 0, ""
