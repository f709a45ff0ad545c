"""What a camera is, what it gives, and how it says that it has nothing recent to give."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Literal, Protocol, get_args

import numpy as np

Channels = Literal["rgb"]
# Of the camera's own frame. Both have x to the right of the picture: "opencv" has y down and z into
# the scene, "opengl" (and MuJoCo) has y up and z towards the one who looks.
Axes = Literal["opencv", "opengl"]

MAX_SIDE = 8192  # pixels
MAX_RATE_HZ = 1000.0


@dataclass(frozen=True, slots=True)
class CameraSpec:
    """What is expected of a camera, checked against what it delivers. ValueError says what is odd.

    A sensor never gives the same bytes twice: where it does, it is frozen. A renderer before a
    still scene does, so for one `noisy` is False.
    """

    name: str
    width: int  # pixels
    height: int
    rate_hz: float  # asked for; what comes is measured
    channels: Channels = "rgb"
    axes: Axes = "opencv"
    noisy: bool = True

    def __post_init__(self):
        who = f"camera {self.name!r}"
        # The name becomes a file's name.
        if not isinstance(self.name, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", self.name):
            raise ValueError(f"{who}: name it with up to 32 of a-z, 0-9 and _, a letter first")
        for side in ("width", "height"):
            value = getattr(self, side)
            if type(value) is not int or not 1 <= value <= MAX_SIDE:
                raise ValueError(
                    f"{who}: {side} is {value!r}; a whole number from 1 to {MAX_SIDE} is expected"
                )
        rate = self.rate_hz
        if type(rate) not in (int, float) or not (math.isfinite(rate) and 0 < rate <= MAX_RATE_HZ):
            raise ValueError(
                f"{who}: rate_hz is {rate!r}; more than 0, up to {MAX_RATE_HZ} is expected"
            )
        for name, known in (("channels", get_args(Channels)), ("axes", get_args(Axes))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{who}: {name} is {getattr(self, name)!r}; known: {', '.join(known)}"
                )
        if type(self.noisy) is not bool:
            raise ValueError(f"{who}: noisy is {self.noisy!r}; true or false is expected")

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.height, self.width, 3)

    @property
    def period_ns(self) -> int:
        return round(1e9 / self.rate_hz)

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> CameraSpec:
        """Build one from a file's map; ValueError for a key too many or too few."""
        known = {field.name for field in fields(cls)}
        needed = {"name", "width", "height", "rate_hz"}
        if odd := sorted(set(values) - known, key=str):
            raise ValueError(
                f"camera: unknown {', '.join(map(repr, odd))}; known: {', '.join(sorted(known))}"
            )
        if missing := sorted(needed - set(values)):
            raise ValueError(f"camera: {', '.join(missing)} must be given")
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture and its times."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    frame_id: int
    stamp_ns: int  # our clock, when it reached us
    device_time_ns: int | None = None  # by the device's own clock, where it tells


class Reason(Enum):
    """Why there is no recent picture."""

    NONE_YET = "there has been no picture yet"
    SILENT = "nothing arrives: the camera or its process is dead, stopped, blocked or too slow"
    FROZEN = "the same picture arrives again and again"
    BLACK = "what arrives is black"
    TORN = "the picture was overwritten or damaged while it was read"
    CLOCK = "the picture is stamped later than now: its process has another clock"
    CLOSED = "the camera is not open"


class StaleFrame(Exception):
    """There is no picture that is recent enough."""

    def __init__(
        self, name: str, age_ns: int | None, limit_ns: int, reason: Reason, detail: str = ""
    ):
        self.name, self.age_ns, self.limit_ns = name, age_ns, limit_ns
        self.reason, self.detail = reason, detail
        super().__init__(name, age_ns, limit_ns, reason, detail)

    def __str__(self) -> str:
        age = "none" if self.age_ns is None else f"{self.age_ns / 1e6:.1f} ms old"
        text = (
            f"camera {self.name!r}: newest picture {age}, limit {self.limit_ns / 1e6:.1f} ms: "
            f"{self.reason.value}"
        )
        return f"{text} ({self.detail})" if self.detail else text


class Camera(Protocol):
    """What the control path sees."""

    spec: CameraSpec

    def open(self) -> None:
        """Begin; may wait. OSError or ImportError says what is missing."""

    def latest(self, max_age_ns: int) -> Frame:
        """Return the newest picture, at most so old, or raise StaleFrame. Never waits."""

    def close(self) -> None:
        """Let go of the camera."""


class Source(Protocol):
    """A device's adapter: where pictures come from, and where waiting is allowed."""

    spec: CameraSpec

    def open(self) -> None:
        """Open the device. OSError or ImportError says what is missing."""

    def grab(self) -> Frame | None:
        """Wait for the next picture; None where there was none. OSError: the device is gone."""

    def close(self) -> None:
        """Let go of the device."""


class TimedSource(Source, Protocol):
    """A source that knows when its next picture comes."""

    def due_ns(self) -> int:
        """Return when, by our clock."""
