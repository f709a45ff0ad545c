"""3Dconnexion's six-axis mice, from their HID reports.

Report 1 carries three signed 16 bit axes (little endian) on wired models, with report 2 the other
three, or all six on newer and wireless ones; report 3 carries the buttons as bits. Axes in the
device's frame are x to the right, y towards the person and z down, turns about them right-handed,
each within +-350.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Protocol

from real_robot.clock import Clock, ns
from real_robot.teleop.mapping import Mapping
from real_robot.teleop.sample import TeleopSample
from real_robot.teleop.sampler import STUCK_AFTER_S, Buttons, Controls, Sampler

FULL = 350  # counts
# The person sits behind the robot and looks along its x.
MAPPING = Mapping(source=(1, 0, 2, 4, 3, 5), sign=(-1, -1, -1, -1, -1, -1))
TWO_BUTTONS = Buttons(enable=0, toggle=1)
# Of the Pro models, by the bits of report 3: Ctrl; the keys 1 and 2; Menu, Fit, 3; Esc.
FIFTEEN_BUTTONS = Buttons(enable=25, close=12, open=13, success=0, failure=1, rerecord=14, stop=22)

VENDOR = 0x256F
# Sold under Logitech's number: SpacePilot, SpaceNavigator (and for notebooks), SpaceExplorer,
# SpacePilot Pro, SpaceMouse Pro.
LOGITECH = 0x046D
LOGITECH_PRODUCTS = (0xC625, 0xC626, 0xC627, 0xC628, 0xC629, 0xC62B)
_PAGE, _MULTI_AXIS = 1, 8  # of HID usages

_REPORTS = 1024  # read in one poll at most: a flood must not hold it
# A deflected cap reports every 8 to 16 ms. One that is silent has lost its radio link.
QUIET_AFTER_S = 0.25


@dataclass(frozen=True)
class Report:
    """What one report says; None is what it says nothing about."""

    translation: tuple[float, float, float] | None = None  # in [-1, 1]
    rotation: tuple[float, float, float] | None = None
    buttons: frozenset[int] | None = None


def decode(report: bytes) -> Report:
    """Read any bytes; what is no report of motion or buttons says nothing."""
    if len(report) >= 13 and report[0] == 1:
        axes = _axes(report, 6)
        return Report(translation=axes[:3], rotation=axes[3:])
    if len(report) >= 7 and report[0] == 1:
        return Report(translation=_axes(report, 3))
    if len(report) >= 7 and report[0] == 2:
        return Report(rotation=_axes(report, 3))
    if len(report) >= 2 and report[0] == 3:
        bits = int.from_bytes(report[1:5], "little")
        return Report(buttons=frozenset(i for i in range(32) if bits >> i & 1))
    return Report()


def _axes(report: bytes, count: int) -> Any:
    counts = struct.unpack_from(f"<{count}h", report, 1)
    return tuple(max(-FULL, min(FULL, c)) / FULL for c in counts)


def apply(controls: Controls, report: Report) -> Controls:
    """Return the device's state after a report."""
    return Controls(
        axes=(report.translation or controls.axes[:3]) + (report.rotation or controls.axes[3:]),
        held=controls.held if report.buttons is None else report.buttons,
    )


class Hid(Protocol):
    """An open HID device."""

    def read(self) -> bytes:
        """Return the next report, no bytes where there is none; OSError where it is gone."""

    def close(self) -> None:
        """Let go of it."""


class SpaceMouse:
    """A device and the state that its reports have told."""

    def __init__(
        self,
        device: Hid,
        clock: Clock,
        mapping: Mapping = MAPPING,
        buttons: Buttons = TWO_BUTTONS,
        stuck_after_s: float = STUCK_AFTER_S,
    ):
        self.device, self.clock = device, clock
        self._sampler = Sampler(clock, mapping, buttons, stuck_after_s)
        self._controls = Controls()
        self._moved_ns = clock.now_ns()
        self._lost = False

    def poll(self) -> TeleopSample:
        pressed: frozenset[int] = frozenset()
        try:
            for _ in range(0 if self._lost else _REPORTS):
                raw = self.device.read()
                if not raw:
                    break
                report = decode(raw)
                pressed |= (report.buttons or frozenset()) - self._controls.held
                self._controls = apply(self._controls, report)
                if report.translation or report.rotation:
                    self._moved_ns = self.clock.now_ns()
        except OSError:
            self._lost = True
        if self._lost:
            return self._sampler.lost()
        if self.clock.now_ns() - self._moved_ns > ns(QUIET_AFTER_S):
            self._controls = Controls(held=self._controls.held)
        return self._sampler.sample(self._controls.axes, self._controls.held, pressed)

    def close(self) -> None:
        self._lost = True
        self.device.close()


class HidApi:
    """The first 3Dconnexion device, through hidapi. OSError or ImportError says what is missing."""

    def __init__(self) -> None:
        self._device = _open()

    def read(self) -> bytes:
        return bytes(self._device.read(64))

    def close(self) -> None:
        self._device.close()


def _open() -> Any:
    try:
        import hid
    except ImportError as error:
        raise ImportError(
            "a SpaceMouse needs hidapi: pip install 'robo-offline[teleop]'"
        ) from error
    found = [
        info
        for info in hid.enumerate()
        if info["vendor_id"] == VENDOR
        or (info["vendor_id"] == LOGITECH and info["product_id"] in LOGITECH_PRODUCTS)
    ]
    # A wireless receiver shows several interfaces, of which one has the axes.
    found.sort(key=lambda info: (info["usage_page"], info["usage"]) != (_PAGE, _MULTI_AXIS))
    if not found:
        raise OSError(
            "no 3Dconnexion device was found: is it plugged in, and may you read /dev/hidraw* "
            f'(a udev rule for vendor {VENDOR:04x} with TAG+="uaccess")?'
        )
    device = hid.device()
    try:
        device.open_path(found[0]["path"])
    except OSError as error:
        raise OSError(
            f"{found[0]['product_string']} at {found[0]['path'].decode()} cannot be opened: may "
            f'you read it (a udev rule for vendor {VENDOR:04x} with TAG+="uaccess")?'
        ) from error
    device.set_nonblocking(True)
    return device
