"""A game controller from the kernel's events."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from real_robot.clock import VirtualClock
from real_robot.teleop import gamepad
from real_robot.teleop.gamepad import (
    ABS_HAT0X,
    ABS_RX,
    ABS_RY,
    ABS_RZ,
    ABS_X,
    ABS_Y,
    ABS_Z,
    BTN_EAST,
    BTN_NORTH,
    BTN_SOUTH,
    BTN_START,
    BTN_TL,
    EV_ABS,
    EV_KEY,
    EV_SYN,
    MAPPING,
    SYN_DROPPED,
    SYN_REPORT,
    Evdev,
    Gamepad,
    PadState,
    apply,
    controls,
)

STICK = (-32768, 32767)
RANGES = {
    **dict.fromkeys((ABS_X, ABS_Y, ABS_RX, ABS_RY), STICK),
    **dict.fromkeys((ABS_Z, ABS_RZ), (0, 1023)),
    ABS_HAT0X: (-1, 1),
}
SYN = (EV_SYN, SYN_REPORT, 0)
HOLD, FREE = (EV_KEY, BTN_TL, 1), (EV_KEY, BTN_TL, 0)


class Events:
    """A device that gives events once."""

    ranges = RANGES

    def __init__(self, *events):
        self.queue, self.gone = list(events), False

    def read(self):
        if self.gone:
            raise OSError(19, "No such device")
        given, self.queue = self.queue, []
        return given

    def close(self):
        self.gone = True


def pad(*events):
    device = Events(*events)
    return Gamepad(device, device.ranges and VirtualClock()), device


@pytest.mark.parametrize(
    ("code", "value", "axis", "share"),
    [
        (ABS_X, 32767, 0, 1.0),
        (ABS_X, -32768, 0, -1.0),
        (ABS_Y, -32768, 1, -1.0),
        (ABS_RX, 32767, 2, 1.0),
        (ABS_RY, 32767, 3, 1.0),
        (ABS_RZ, 1023, 4, 1.0),
        (ABS_RZ, 0, 4, 0.0),
        (ABS_Z, 1023, 4, -1.0),
        (ABS_HAT0X, -1, 5, -1.0),
        (ABS_X, 99999, 0, 1.0),  # beyond what the device says of itself
    ],
)
def test_an_axis_is_a_share_of_its_range(code, value, axis, share):
    axes = controls(apply(PadState(), (EV_ABS, code, value), RANGES)).axes
    assert axes[axis] == pytest.approx(share)
    assert sum(map(abs, axes)) == pytest.approx(abs(share))


@pytest.mark.parametrize(
    "event",
    [
        (2, ABS_X, 32767),  # a mouse's relative motion has the same codes
        (EV_ABS, 40, 32767),  # an axis that nothing is done with
        (EV_ABS, ABS_RX, 32767),  # one that the device does not have
        (EV_ABS, ABS_Y, 5),  # one whose range is none
        (EV_KEY, 0x300, 1),
    ],
)
def test_what_is_not_known_changes_nothing(event):
    ranges = {ABS_X: STICK, ABS_Y: (5, 5), 40: STICK}
    assert apply(PadState(), event, ranges) == PadState()
    assert apply(PadState(), (EV_KEY, 0x2FF, 1), ranges).held == {0x2FF}


def test_keys_go_down_repeat_and_go_up():
    state = PadState()
    held = []
    for value in (1, 2, 0, 2):
        state = apply(state, (EV_KEY, BTN_EAST, value), RANGES)
        held.append(BTN_EAST in state.held)
    assert held == [True, True, False, False]
    assert state.pressed == {BTN_EAST}


@pytest.mark.parametrize(
    ("code", "value", "component", "sign"),
    [
        (ABS_Y, -32768, 0, 1),  # left stick up: forward
        (ABS_X, -32768, 1, 1),  # left stick left
        (ABS_RZ, 1023, 2, 1),  # right trigger: up
        (ABS_Z, 1023, 2, -1),
        (ABS_HAT0X, 1, 3, 1),
        (ABS_RY, -32768, 4, 1),
        (ABS_RX, -32768, 5, 1),  # right stick left: turns left
    ],
)
def test_sticks_move_the_tool(code, value, component, sign):
    teleop, _ = pad(HOLD, (EV_ABS, code, value), SYN)
    velocity = teleop.poll().velocity
    full = MAPPING.linear_m_s if component < 3 else MAPPING.angular_rad_s
    assert velocity[component] == pytest.approx(sign * full)
    assert np.count_nonzero(velocity) == 1


def test_nothing_moves_without_the_dead_man_and_stops_with_it_in_one_poll():
    teleop, device = pad((EV_ABS, ABS_Y, -32768), SYN)
    assert not teleop.poll().velocity.any()
    device.queue = [HOLD, SYN]
    assert teleop.poll().velocity.any()
    device.queue = [FREE, SYN]
    sample = teleop.poll()
    assert not sample.enable and not sample.velocity.any()


def test_after_lost_events_everything_counts_as_released():
    teleop, device = pad(HOLD, (EV_ABS, ABS_Y, -32768), SYN)
    assert teleop.poll().velocity.any()
    # The release is among what was lost, and what follows up to the next report is half an event.
    device.queue = [(EV_SYN, SYN_DROPPED, 0), (EV_KEY, BTN_TL, 1), SYN]
    sample = teleop.poll()
    assert not sample.enable and not sample.velocity.any()
    device.queue = [HOLD, (EV_ABS, ABS_Y, -32768), SYN]
    assert teleop.poll().velocity.any()


def test_buttons_close_open_label_and_stop():
    teleop, device = pad(HOLD, (EV_KEY, BTN_SOUTH, 1), SYN)
    assert teleop.poll().gripper == -1
    device.queue = [(EV_KEY, BTN_SOUTH, 0), (EV_KEY, BTN_EAST, 1), SYN]
    assert teleop.poll().gripper == 1
    device.queue = [(EV_KEY, BTN_START, 1), (EV_KEY, BTN_START, 0), SYN]
    assert [teleop.poll().success for _ in range(2)] == [True, False]
    device.queue = [(EV_KEY, BTN_NORTH, 1), (EV_KEY, BTN_NORTH, 0), SYN]
    assert [bool(teleop.poll().stop) for _ in range(2)] == [True, True]  # the dead-man is held


def test_an_unplugged_controller_is_lost_and_at_rest():
    teleop, device = pad(HOLD, (EV_ABS, ABS_Y, -32768), SYN)
    assert teleop.poll().velocity.any()
    device.gone = True
    sample = teleop.poll()
    assert (sample.lost, sample.enable, sample.velocity.any()) == (True, False, False)


def test_a_controller_that_was_closed_reads_no_more():
    teleop, device = pad()
    teleop.close()
    assert device.gone
    device.gone = False
    assert teleop.poll().lost


S32 = st.integers(-(2**31), 2**31 - 1)
CODES = st.one_of(st.sampled_from([*RANGES, BTN_TL, BTN_NORTH, SYN_DROPPED]), st.integers(0, 65535))
EVENTS = st.tuples(st.sampled_from([EV_SYN, EV_KEY, EV_ABS, 4, 21]), CODES, S32)


@given(st.lists(EVENTS, max_size=60), st.dictionaries(CODES, st.tuples(S32, S32), max_size=8))
def test_any_events_and_ranges_give_finite_bounded_motion(events, ranges):
    device = Events(HOLD, *events)
    device.ranges = {**RANGES, **ranges}
    teleop = Gamepad(device, VirtualClock())
    sample = teleop.poll()
    assert np.linalg.norm(sample.velocity[:3]) <= MAPPING.linear_m_s * (1 + 1e-12)
    assert np.linalg.norm(sample.velocity[3:]) <= MAPPING.angular_rad_s * (1 + 1e-12)
    assert teleop._state.held <= set(range(0x300))


class FakeDevice:
    """As much of evdev's device as reading takes: its queue holds 64 events."""

    keys = (BTN_SOUTH,)

    def __init__(self, path):
        self.path, self.queue = path, [HOLD] * 200
        self.keys = () if path.endswith("0") else (BTN_SOUTH,)

    def capabilities(self, absinfo):
        return {EV_KEY: list(self.keys), EV_ABS: [(ABS_X, SimpleNamespace(min=-5, max=5))]}

    def read(self):
        if not self.queue:
            raise BlockingIOError
        given, self.queue = self.queue[:64], self.queue[64:]
        return iter([SimpleNamespace(type=t, code=c, value=v) for t, c, v in given])

    def close(self):
        pass


def fake_evdev(*paths):
    return SimpleNamespace(list_devices=lambda: list(paths), InputDevice=FakeDevice)


def test_the_first_controller_is_found_and_read_to_its_end(monkeypatch):
    monkeypatch.setitem(sys.modules, "evdev", fake_evdev("/dev/input/event1", "/dev/input/event0"))
    device = Evdev()
    assert device._device.path == "/dev/input/event1"
    assert device.ranges == {ABS_X: (-5, 5)}
    assert len(device.read()) == 200
    assert device.read() == []


def test_without_a_controller_or_evdev_it_is_said_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "evdev", fake_evdev("/dev/input/event0"))
    with pytest.raises(OSError, match="no game controller was found among 1 input devices"):
        Evdev()
    monkeypatch.setitem(sys.modules, "evdev", None)
    with pytest.raises(ImportError, match=r"pip install 'robo-offline\[teleop\]'"):
        Evdev()


def test_the_codes_are_the_kernels():
    codes = pytest.importorskip("evdev.ecodes")
    for name in dir(gamepad):
        if name.startswith(("EV_", "ABS_", "BTN_", "SYN_")):
            assert getattr(gamepad, name) == getattr(codes, name), name
