"""A terminal's keys. It tells of no release, so a motion ends when its key stops repeating.

Nothing here is a dead-man in the proper sense: use it in simulation and for labels.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterable
from collections.abc import Mapping as Map
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from real_robot.clock import Clock, ns
from real_robot.teleop.mapping import STRAIGHT, Mapping
from real_robot.teleop.sample import TeleopSample
from real_robot.teleop.sampler import STUCK_AFTER_S, Buttons, Sampler

# After its last character a key counts as held for this long: more than the 25 to 40 ms between
# repetitions, less than what a person needs to be surprised. The first press moves as long, then
# rests until the terminal begins to repeat.
REPEAT_S = 0.15

# Axis and sign of each motion key: x forward, y left, z up, and the turns about them.
MOTIONS: Map[str, tuple[int, int]] = {
    "up": (0, 1),
    "down": (0, -1),
    "left": (1, 1),
    "right": (1, -1),
    "u": (2, 1),
    "j": (2, -1),
    "a": (3, -1),
    "d": (3, 1),
    "i": (4, 1),
    "k": (4, -1),
    "q": (5, 1),
    "e": (5, -1),
}
STOP_BYTES = b" \x03"  # space and Ctrl-C, wherever in the stream they are
_ENABLE = 0
_KEYS = {"c": 1, "o": 2, "y": 3, "n": 4, "r": 5}
BUTTONS = Buttons(enable=_ENABLE, close=1, open=2, success=3, failure=4, rerecord=5)

_ESCAPE = 0x1B
_ARROWS = {"A": "up", "B": "down", "C": "right", "D": "left"}
_LONGEST = 16  # bytes of an escape sequence; more is none


def decode(pending: bytes, data: bytes) -> tuple[list[str], bytes]:
    """Return the keys in what a terminal sent, and the unfinished rest for the next time.

    `pending` is the rest of the last time; where nothing follows it, a lone escape is the key.
    """
    keys, raw, at = [], pending + data, 0
    while at < len(raw):
        if raw[at] != _ESCAPE:
            if 0x21 <= raw[at] < 0x7F:
                keys.append(chr(raw[at]).lower())
            at += 1
            continue
        end = _sequence_end(raw, at)
        if end is None:
            if not data:  # it stays unfinished, so it was no sequence
                keys.append("escape")
                at += 1
                continue
            return keys, raw[at:]
        if end - at == 1:
            keys.append("escape")
        elif (name := _ARROWS.get(chr(raw[end - 1]))) and raw[at + 1] in b"[O":
            keys.append(name)
        at = end
    return keys, b""


def _sequence_end(raw: bytes, at: int) -> int | None:
    """Return where the escape sequence at `at` ends, None where it is not finished yet."""
    if at + 1 == len(raw):
        return None
    if raw[at + 1] not in b"[O":
        return at + 1  # not the beginning of one
    for end in range(at + 2, min(len(raw), at + _LONGEST)):
        if 0x40 <= raw[end] <= 0x7E:
            return end + 1
        if not 0x20 <= raw[end] <= 0x3F:
            return end  # broken off: what follows is read on its own
    return None if len(raw) < at + _LONGEST else at + _LONGEST


@dataclass(frozen=True)
class KeyState:
    """When each key was last heard of."""

    heard_ns: Map[str, int] = field(default_factory=dict)


def apply(state: KeyState, keys: Iterable[str], now_ns: int) -> KeyState:
    """Return the state after keys that came now."""
    known = {key: now_ns for key in keys if key in MOTIONS or key in _KEYS}
    return KeyState({**state.heard_ns, **known})


def alive(state: KeyState, now_ns: int, repeat_ns: int) -> frozenset[str]:
    """Return the keys that count as held."""
    return frozenset(k for k, at in state.heard_ns.items() if 0 <= now_ns - at <= repeat_ns)


class Tty(Protocol):
    """An open terminal."""

    def read(self) -> bytes:
        """Return the bytes that have come since; OSError where it is gone."""

    def close(self) -> None:
        """Give it back as it was."""


class Keyboard:
    """A terminal and the keys that are thought to be held."""

    def __init__(
        self,
        device: Tty,
        clock: Clock,
        mapping: Mapping = STRAIGHT,
        repeat_s: float = REPEAT_S,
        stuck_after_s: float = STUCK_AFTER_S,
    ):
        self.device, self.clock, self.repeat_ns = device, clock, ns(repeat_s)
        self._sampler = Sampler(clock, mapping, BUTTONS, stuck_after_s)
        self._state = KeyState()
        self._pending = b""
        self._lost = False

    def poll(self) -> TeleopSample:
        data = b""
        try:
            data = b"" if self._lost else self.device.read()
        except OSError:
            self._lost = True
        if self._lost:
            return self._sampler.lost()
        now = self.clock.now_ns()
        keys, self._pending = decode(self._pending, data)
        self._state = apply(self._state, keys, now)
        stop = ""
        if "escape" in keys or any(byte in STOP_BYTES for byte in data):
            stop, self._state = "the stop key was pressed", KeyState()
        held = alive(self._state, now, self.repeat_ns)
        axes = [0.0] * 6
        for key in held & MOTIONS.keys():
            axis, sign = MOTIONS[key]
            axes[axis] += sign
        buttons = {_KEYS[key] for key in held & _KEYS.keys()}
        if held & (MOTIONS.keys() | {"c", "o"}):
            buttons.add(_ENABLE)
        return self._sampler.sample(axes, frozenset(buttons), stop=stop)

    def close(self) -> None:
        self._lost = True
        self.device.close()


class Terminal:
    """This process's terminal without line editing, while it is open."""

    def __init__(self) -> None:
        import termios
        import tty

        self._file = sys.stdin.fileno()
        if not os.isatty(self._file):
            raise OSError("the keyboard is read from a terminal, and this input is none")
        self._before = termios.tcgetattr(self._file)
        tty.setcbreak(self._file)

    def read(self) -> bytes:
        if not select.select([self._file], [], [], 0)[0]:
            return b""
        data = os.read(self._file, 4096)
        if not data:
            raise OSError("the terminal was closed")
        return data

    def close(self) -> None:
        import termios

        with suppress(termios.error):  # of a terminal that is gone
            termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)
