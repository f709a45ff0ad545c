"""Tell new pictures from repeats and from black ones, and measure how often they come."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from real_robot.cameras.camera import CameraSpec, Frame, Reason, StaleFrame

# Mean brightness of 255. The noise of a covered sensor stays below, a dim room does not.
BLACK = 4.0
_STRIDE = 8  # every 64th pixel is enough to tell whether it is dark

# Edges of the histogram, in ns: 16 to each factor of ten, from 100 us to 10 s.
EDGES = np.round(10 ** np.arange(5, 10 + 1e-9, 1 / 16)).astype(np.int64)
BINS = len(EDGES) + 1


class Verdict(IntEnum):
    """What the last arrival was."""

    NOTHING = 0
    NEW = 1
    REPEAT = 2
    BLACK = 3


@dataclass
class Health:
    """What is known of a stream; stamps are by our clock and 0 where there was nothing."""

    new: int = 0
    repeats: int = 0
    blacks: int = 0
    verdict: Verdict = Verdict.NOTHING
    arrived_ns: int = 0  # the last arrival, whatever it was
    new_ns: int = 0  # the last new picture
    span_ns: int = 0  # sum of the intervals between new pictures
    intervals: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))

    @property
    def rate_hz(self) -> float:
        """Return the measured rate of new pictures, 0 before the second one."""
        return (self.new - 1) * 1e9 / self.span_ns if self.span_ns > 0 else 0.0

    def since(self, before: Health) -> Health:
        """Return what came after an earlier look at the same stream, to see its rate of late."""
        return Health(
            # One more than came, as the first interval begins with the last picture before.
            new=self.new - before.new + (before.new > 0),
            repeats=self.repeats - before.repeats,
            blacks=self.blacks - before.blacks,
            verdict=self.verdict,
            arrived_ns=self.arrived_ns,
            new_ns=self.new_ns,
            span_ns=self.span_ns - before.span_ns,
            intervals=self.intervals - before.intervals,
        )

    def interval_s(self, share: float) -> float:
        """Return what a share of the intervals does not exceed, to the histogram's 15 %."""
        total = int(self.intervals.sum())
        if total == 0:
            return math.nan
        bin_ = int(np.searchsorted(np.cumsum(self.intervals), share * total))
        return float(EDGES[bin_]) / 1e9 if bin_ < len(EDGES) else math.inf

    def frozen(self, now_ns: int, max_age_ns: int) -> bool:
        """Say whether for longer than `max_age_ns` nothing but the same picture has come."""
        return self.verdict == Verdict.REPEAT and now_ns - self.new_ns > max_age_ns

    def black(self) -> bool:
        """Say whether the last arrival was black."""
        return self.verdict == Verdict.BLACK

    def reason(self, now_ns: int, max_age_ns: int) -> Reason:
        """Say why the newest picture is older than that."""
        if now_ns - self.arrived_ns <= max_age_ns:
            if self.verdict == Verdict.BLACK:
                return Reason.BLACK
            if self.verdict == Verdict.REPEAT:
                return Reason.FROZEN
        return Reason.SILENT if self.new else Reason.NONE_YET


class Watch:
    """Look at every arrival of one camera, in its order. Keeps the last one: it must not change."""

    def __init__(self, spec: CameraSpec):
        self.spec = spec
        self.health = Health()
        self._last: Frame | None = None
        self._crc = 0

    def admit(self, frame: Frame) -> bool:
        """Say whether this is a new, visible picture. ValueError where it is not the spec's."""
        image = frame.image
        if image.shape != self.spec.shape or image.dtype != np.uint8:
            raise ValueError(
                f"camera {self.spec.name!r} delivers {image.shape} {image.dtype}; "
                f"its spec says {self.spec.shape} uint8: correct the spec or the device's mode"
            )
        crc = zlib.crc32(np.ascontiguousarray(image).data)
        repeats = self._repeats(frame, crc)
        self._last, self._crc = frame, crc
        health = self.health
        health.arrived_ns = frame.stamp_ns
        if image[::_STRIDE, ::_STRIDE].mean() < BLACK:  # first, as black pictures are all alike
            health.verdict = Verdict.BLACK
            health.blacks += 1
            return False
        if repeats:
            health.verdict = Verdict.REPEAT
            health.repeats += 1
            return False
        health.verdict = Verdict.NEW
        if health.new:
            interval = max(0, frame.stamp_ns - health.new_ns)
            health.span_ns += interval
            health.intervals[int(np.searchsorted(EDGES, interval))] += 1
        health.new += 1
        health.new_ns = frame.stamp_ns
        return True

    def _repeats(self, frame: Frame, crc: int) -> bool:
        """Any one sign is enough: drivers count on while their buffer stands still."""
        last = self._last
        if last is None:
            return False
        if frame.frame_id == last.frame_id:
            return True
        if frame.device_time_ns is not None and frame.device_time_ns == last.device_time_ns:
            return True
        return self.spec.noisy and crc == self._crc and np.array_equal(frame.image, last.image)


def recent(frame: Frame, health: Health, name: str, now_ns: int, max_age_ns: int) -> Frame:
    """Return the frame if it is at most so old, else raise StaleFrame."""
    age = now_ns - frame.stamp_ns
    if age < 0:
        raise StaleFrame(name, age, max_age_ns, Reason.CLOCK)
    if age > max_age_ns:
        raise StaleFrame(name, age, max_age_ns, health.reason(now_ns, max_age_ns))
    return frame
