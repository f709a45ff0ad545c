"""Game controllers, from Linux's input events; laid out as the kernel lays out an Xbox one."""

from __future__ import annotations

from collections.abc import Mapping as Map
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from real_robot.clock import Clock
from real_robot.teleop.mapping import Mapping
from real_robot.teleop.sample import TeleopSample
from real_robot.teleop.sampler import STUCK_AFTER_S, Buttons, Controls, Sampler

# Numbers of linux/input-event-codes.h.
EV_SYN, EV_KEY, EV_ABS = 0, 1, 3
SYN_REPORT, SYN_DROPPED = 0, 3
ABS_X, ABS_Y, ABS_Z, ABS_RX, ABS_RY, ABS_RZ, ABS_HAT0X = 0, 1, 2, 3, 4, 5, 16
BTN_SOUTH, BTN_EAST, BTN_NORTH, BTN_WEST = 0x130, 0x131, 0x133, 0x134
BTN_TL, BTN_TR, BTN_SELECT, BTN_START = 0x136, 0x137, 0x13A, 0x13B
_KEY_MAX = 0x2FF
_READS = 64  # of up to 64 events each: a flood must not hold a poll

# Axes as `Controls` has them: left stick right and down, right stick right and down, the right
# trigger less the left one, and the cross to the right.
MAPPING = Mapping(source=(1, 0, 4, 5, 3, 2), sign=(-1, -1, 1, 1, -1, -1), dead_band=0.12)
BUTTONS = Buttons(
    enable=BTN_TL,
    close=BTN_SOUTH,
    open=BTN_EAST,
    success=BTN_START,
    failure=BTN_SELECT,
    rerecord=BTN_WEST,
    stop=BTN_NORTH,
)
_TRIGGERS = (ABS_Z, ABS_RZ)
_STICKS = (ABS_X, ABS_Y, ABS_RX, ABS_RY)

Event = tuple[int, int, int]  # type, code, value
Ranges = Map[int, tuple[int, int]]  # of each absolute axis, lowest and highest


@dataclass(frozen=True)
class PadState:
    """Where everything is, by the kernel's codes."""

    axes: Map[int, float] = field(default_factory=dict)  # sticks, cross: [-1, 1]; triggers: [0, 1]
    held: frozenset[int] = frozenset()
    # Since the last poll, also what has been let go again.
    pressed: frozenset[int] = frozenset()
    dropped: bool = False  # the kernel's queue was full: nothing counts before its next report


def apply(state: PadState, event: Event, ranges: Ranges) -> PadState:
    """Return the state after an event; what is not known changes nothing."""
    kind, code, value = event
    if kind == EV_SYN and code == SYN_DROPPED:
        # A release may be among what was lost, so everything counts as released.
        return PadState(dropped=True)
    if kind == EV_SYN and code == SYN_REPORT:
        return replace(state, dropped=False)
    if state.dropped:
        return state
    if kind == EV_KEY and code <= _KEY_MAX:
        if value == 0:
            return replace(state, held=state.held - {code})
        if value == 1:  # 2 is a repetition
            return replace(state, held=state.held | {code}, pressed=state.pressed | {code})
    if kind == EV_ABS and code in (*_STICKS, *_TRIGGERS, ABS_HAT0X):
        low, high = ranges.get(code, (0, 0))
        if high > low:
            share = (min(max(value, low), high) - low) / (high - low)
            position = share if code in _TRIGGERS else 2 * share - 1
            return replace(state, axes={**state.axes, code: position})
    return state


def controls(state: PadState) -> Controls:
    """Return the six axes and the buttons."""
    at = {code: state.axes.get(code, 0.0) for code in (*_STICKS, *_TRIGGERS, ABS_HAT0X)}
    sticks = tuple(at[code] for code in _STICKS)
    return Controls(
        axes=(*sticks, at[ABS_RZ] - at[ABS_Z], at[ABS_HAT0X]),
        held=state.held,
    )


class Pad(Protocol):
    """An open controller."""

    ranges: Ranges

    def read(self) -> Sequence[Event]:
        """Return the events that have come since; OSError where it is gone."""

    def close(self) -> None:
        """Let go of it."""


class Gamepad:
    """A controller and the state that its events have told."""

    def __init__(
        self,
        device: Pad,
        clock: Clock,
        mapping: Mapping = MAPPING,
        buttons: Buttons = BUTTONS,
        stuck_after_s: float = STUCK_AFTER_S,
    ):
        self.device = device
        self._sampler = Sampler(clock, mapping, buttons, stuck_after_s)
        self._state = PadState()
        self._lost = False

    def poll(self) -> TeleopSample:
        state = replace(self._state, pressed=frozenset())
        try:
            for event in () if self._lost else self.device.read():
                state = apply(state, event, self.device.ranges)
        except OSError:
            self._lost = True
        self._state = state
        if self._lost:
            return self._sampler.lost()
        now = controls(state)
        return self._sampler.sample(now.axes, now.held, state.pressed)

    def close(self) -> None:
        self._lost = True
        self.device.close()


class Evdev:
    """A controller through evdev: the first one unless its path is given.

    OSError or ImportError says what is missing.
    """

    def __init__(self, path: str | None = None):
        try:
            import evdev
        except ImportError as error:
            raise ImportError(
                "a gamepad needs evdev: pip install 'robo-offline[teleop]'"
            ) from error
        paths = sorted(evdev.list_devices()) if path is None else [path]
        for candidate in paths:
            device = evdev.InputDevice(candidate)
            able: Any = device.capabilities(absinfo=True)
            if BTN_SOUTH in able.get(EV_KEY, ()):
                self._device = device
                self.ranges = {code: (at.min, at.max) for code, at in able.get(EV_ABS, ())}
                return
            device.close()
        raise OSError(
            f"no game controller was found among {len(paths)} input devices: is it plugged in, and "
            "may you read /dev/input/event* (group 'input')?"
        )

    def read(self) -> list[Event]:
        events: list[Event] = []
        for _ in range(_READS):
            try:
                events += [(event.type, event.code, event.value) for event in self._device.read()]
            except BlockingIOError:  # that was all
                break
        return events

    def close(self) -> None:
        self._device.close()
