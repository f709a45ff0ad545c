"""A SpaceMouse from its bytes: recorded reports, every kind of garbage, and what hidapi gives."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from real_robot.clock import VirtualClock, ns
from real_robot.teleop.sampler import Controls
from real_robot.teleop.spacemouse import (
    FIFTEEN_BUTTONS,
    MAPPING,
    HidApi,
    Report,
    SpaceMouse,
    apply,
    decode,
)


class Reports:
    """A device that gives reports, then nothing, then is unplugged if it is told to."""

    def __init__(self, *reports: str):
        self.queue = [bytes.fromhex(r) for r in reports]
        self.gone = self.closed = False

    def add(self, *reports: str):
        self.queue += [bytes.fromhex(r) for r in reports]

    def read(self) -> bytes:
        if self.queue:
            return self.queue.pop(0)
        if self.gone:
            raise OSError("read error")
        return b""

    def close(self):
        self.closed = True


def mouse(*reports, **options):
    device, clock = Reports(*reports), VirtualClock(ns(1))
    return SpaceMouse(device, clock, **options), device, clock


HOLD = "03 01 00"  # the left button, which is the dead-man
FREE = "03 00 00"


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        # SpaceNavigator and other wired ones: translation, rotation and buttons on their own.
        ("01 00 00 00 00 00 00", Report(translation=(0.0, 0.0, 0.0))),
        ("02 00 00 e2 ff 00 00", Report(rotation=(0.0, -30 / 350, 0.0))),
        ("01 5e 01 a2 fe af 00", Report(translation=(1.0, -1.0, 0.5))),
        ("03 01 00", Report(buttons=frozenset({0}))),
        ("03 02", Report(buttons=frozenset({1}))),
        ("03 03 00", Report(buttons=frozenset({0, 1}))),
        ("03 00 00", Report(buttons=frozenset())),
        # Wireless and Enterprise ones: all six in one report.
        (
            "01 5e 01 00 00 a2 fe 00 00 af 00 51 ff",
            Report(translation=(1.0, 0.0, -1.0), rotation=(0.0, 0.5, -0.5)),
        ),
        # Pro: fifteen buttons among 32 bits. Ctrl is bit 25, Esc bit 22.
        ("03 00 00 40 02", Report(buttons=frozenset({22, 25}))),
        # No more than full deflection, whatever is sent.
        ("01 00 80 ff 7f 5f 01", Report(translation=(-1.0, 1.0, 1.0))),
        # The battery, something cut short, something unknown, nothing.
        ("17 64 01", Report()),
        ("01 5e 01 a2 fe af", Report()),
        ("02 5e 01", Report()),
        ("03", Report()),
        ("", Report()),
    ],
)
def test_reports_are_decoded(report, expected):
    assert decode(bytes.fromhex(report)) == expected


@given(st.binary(max_size=70))
def test_any_bytes_decode_to_bounded_numbers(raw):
    report = decode(raw)
    for axes in (report.translation, report.rotation):
        assert axes is None or (len(axes) == 3 and all(-1 <= a <= 1 for a in axes))
    assert report.buttons is None or report.buttons <= set(range(32))
    after = apply(Controls(), report)
    assert len(after.axes) == 6


@given(st.lists(st.binary(min_size=1, max_size=16), max_size=40), st.integers(0, 10**9))
def test_any_stream_of_reports_gives_finite_bounded_motion(stream, wait):
    device, clock = Reports(), VirtualClock()
    device.queue = [HOLD_BYTES, *stream]
    teleop = SpaceMouse(device, clock)
    for _ in range(3):
        sample = teleop.poll()
        assert np.isfinite(sample.velocity).all()
        assert np.linalg.norm(sample.velocity[:3]) <= MAPPING.linear_m_s * (1 + 1e-12)
        assert np.linalg.norm(sample.velocity[3:]) <= MAPPING.angular_rad_s * (1 + 1e-12)
        clock.advance(wait)


HOLD_BYTES = bytes.fromhex(HOLD)


def test_the_mapping_turns_the_devices_frame_and_does_not_mirror_it():
    for half in (slice(0, 3), slice(3, 6)):
        turn = np.zeros((3, 3))
        for row in range(3):
            turn[row, MAPPING.source[half][row] % 3] = MAPPING.sign[half][row]
        assert np.linalg.det(turn) == pytest.approx(1.0)
    assert [s % 3 for s in MAPPING.source[:3]] == [s % 3 for s in MAPPING.source[3:]]
    assert MAPPING.sign[:3] == MAPPING.sign[3:]


@pytest.mark.parametrize(
    ("report", "axis", "sign"),
    [
        ("01 00 00 a2 fe 00 00", 0, 1),  # pushed away: forward
        ("01 a2 fe 00 00 00 00", 1, 1),  # pushed to the left
        ("01 00 00 00 00 a2 fe", 2, 1),  # lifted
        ("02 00 00 00 00 a2 fe", 5, 1),  # turned to the left, seen from above
    ],
)
def test_the_cap_moves_the_tool_as_it_moves(report, axis, sign):
    teleop, _, _ = mouse(HOLD, report)
    velocity = teleop.poll().velocity
    full = MAPPING.linear_m_s if axis < 3 else MAPPING.angular_rad_s
    assert velocity[axis] == pytest.approx(sign * full)
    assert np.count_nonzero(velocity) == 1


def test_nothing_moves_without_the_dead_man_and_stops_with_it_in_one_poll():
    teleop, device, _ = mouse("01 5e 01 00 00 00 00")
    sample = teleop.poll()
    assert not sample.enable and not sample.velocity.any()
    device.add(HOLD)
    assert teleop.poll().velocity[1] == pytest.approx(-MAPPING.linear_m_s)
    # However much has queued up before the release.
    device.add(*["01 5e 01 00 00 00 00"] * 500, FREE)
    sample = teleop.poll()
    assert not sample.enable and not sample.velocity.any()


def test_a_flood_of_reports_does_not_hold_a_poll():
    teleop, device, _ = mouse()
    device.read = lambda: bytes.fromhex("01 00 00 00 00 00 00")
    assert not teleop.poll().lost


def test_an_unplugged_device_is_lost_and_at_rest_and_stays_so():
    teleop, device, _ = mouse(HOLD, "01 5e 01 00 00 00 00")
    assert teleop.poll().velocity.any()
    device.gone = True
    for _ in range(3):
        sample = teleop.poll()
        assert (sample.lost, sample.enable, sample.velocity.any()) == (True, False, False)
        device.gone = False  # who plugs it in again opens it again
    device.add(HOLD, "01 5e 01 00 00 00 00")
    assert teleop.poll().lost


def test_a_mouse_that_was_closed_reads_no_more():
    teleop, device, _ = mouse(HOLD)
    teleop.close()
    assert device.closed
    assert teleop.poll().lost
    assert device.queue


def test_a_silent_device_comes_to_rest():
    teleop, _, clock = mouse(HOLD, "01 5e 01 00 00 00 00")
    assert teleop.poll().velocity.any()
    clock.advance(ns(0.25))
    assert teleop.poll().velocity.any()
    clock.advance(1)
    sample = teleop.poll()
    assert sample.enable and not sample.velocity.any()


@pytest.mark.parametrize("report", ["01 5e 01 00 00 00 00", "02 5e 01 00 00 00 00"])
def test_a_device_that_goes_on_reporting_goes_on_moving(report):
    teleop, device, clock = mouse(HOLD)
    for _ in range(20):
        clock.advance(ns(0.1))
        device.add(report)
        assert teleop.poll().velocity.any()


def test_the_second_button_closes_then_opens_while_it_is_held():
    teleop, device, _ = mouse()
    seen = []
    for report in (HOLD, "03 03 00", "03 03 00", HOLD, "03 03 00", HOLD, "03 02 00"):
        device.add(report)
        seen.append(teleop.poll().gripper)
    assert seen == [0, -1, -1, 0, 1, 0, 0]  # the last without the dead-man


def test_a_press_between_two_polls_is_not_missed_and_counts_once():
    teleop, device, _ = mouse(buttons=FIFTEEN_BUTTONS)
    device.add("03 01 00 00 00", FREE)  # Menu: success
    assert teleop.poll().success
    assert not teleop.poll().success
    device.add("03 02 00 00 00")  # Fit: failure
    assert [teleop.poll().failure for _ in range(3)] == [True, False, False]
    device.add("03 00 40 00 00")  # 3: record the episode again
    samples = [teleop.poll() for _ in range(2)]
    assert [(s.success, s.failure, s.rerecord) for s in samples] == [
        (False, False, True),
        (False, False, False),
    ]


def test_the_stop_button_stops_until_hands_are_off():
    teleop, device, _ = mouse("03 00 00 00 02", "01 5e 01 00 00 00 00", buttons=FIFTEEN_BUTTONS)
    assert teleop.poll().enable
    device.add("03 00 00 40 02", "03 00 00 00 02")  # Esc, pressed and released, Ctrl still held
    for _ in range(3):
        sample = teleop.poll()
        assert "stop button" in sample.stop
        assert not sample.enable and not sample.velocity.any()
    device.add(FREE)
    assert teleop.poll().stop == ""
    device.add("03 00 00 00 02")
    assert teleop.poll().enable


class FakeHid:
    """As much of hidapi as opening a device takes."""

    def __init__(self, *infos):
        self.infos, self.opened, self.blocking = infos, None, True

    def enumerate(self):
        return [
            {"path": path, "vendor_id": vendor, "product_id": product, "usage_page": page,
             "usage": usage, "product_string": "SpaceMouse"}
            for path, vendor, product, page, usage in self.infos
        ]  # fmt: skip

    def device(self):
        return SimpleNamespace(
            open_path=self.open_path,
            set_nonblocking=lambda on: setattr(self, "blocking", not on),
            read=lambda size: [3, 1, 0],
            close=lambda: None,
        )

    def open_path(self, path):
        if path == b"/dev/locked":
            raise OSError("open failed")
        self.opened = path


def test_the_interface_with_the_axes_is_opened_and_does_not_block(monkeypatch):
    hid = FakeHid(
        (b"/dev/mouse", 0x046D, 0xC077, 1, 2),  # an ordinary one of the other vendor
        (b"/dev/receiver", 0x256F, 0xC652, 1, 6),
        (b"/dev/axes", 0x256F, 0xC652, 1, 8),
    )
    monkeypatch.setitem(sys.modules, "hid", hid)
    device = HidApi()
    assert (hid.opened, hid.blocking) == (b"/dev/axes", False)
    assert decode(device.read()) == Report(buttons=frozenset({0}))


@pytest.mark.parametrize(
    ("infos", "words"),
    [
        ([(b"/dev/mouse", 0x046D, 0xC077, 1, 2)], "no 3Dconnexion device was found"),
        ([(b"/dev/locked", 0x046D, 0xC626, 1, 8)], "SpaceMouse at /dev/locked cannot be opened"),
    ],
)
def test_a_device_that_is_not_there_or_not_readable_is_told_apart(monkeypatch, infos, words):
    monkeypatch.setitem(sys.modules, "hid", FakeHid(*infos))
    with pytest.raises(OSError, match=words):
        HidApi()


def test_without_hidapi_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "hid", None)
    with pytest.raises(ImportError, match=r"pip install 'robo-offline\[teleop\]'"):
        HidApi()


def test_teleoperation_needs_neither_torch_nor_a_vendors_package_to_be_imported():
    code = (
        "import sys, real_robot.teleop.spacemouse, real_robot.teleop.gamepad\n"
        "import real_robot.teleop.keyboard, real_robot.teleop.labelled\n"
        "import real_robot.teleop.scripted, real_robot.teleop.intervention\n"
        "bad = {'torch', 'hid', 'evdev', 'robo_offline'} & set(sys.modules)\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
