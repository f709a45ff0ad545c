"""A camera without a camera: a moving pattern whose frame number can be read from its pixels."""

from __future__ import annotations

import numpy as np

from real_robot.cameras.camera import CameraSpec, Frame
from real_robot.clock import Clock

BITS = 32  # of the frame number, as blocks of black and white along the upper edge


class Paced:
    """When the pictures of a computed source come: the first at once, then at the spec's rate."""

    def __init__(self, spec: CameraSpec, clock: Clock):
        self.spec, self.clock = spec, clock
        self._start = 0
        self._number = 0

    def begin(self) -> None:
        """Let the first picture come now."""
        self._start, self._number = self.clock.now_ns(), 0

    def due_ns(self) -> int:
        """Return when the next one comes."""
        return self._start + round(self._number * 1e9 / self.spec.rate_hz)

    def next(self) -> tuple[int, int]:
        """Wait for it; return its number and its time."""
        due = self.due_ns()
        self.clock.sleep_until_ns(due)
        number = self._number
        self._number += 1
        return number, due


class Synthetic:
    """The same pictures in every run."""

    def __init__(self, spec: CameraSpec, clock: Clock):
        if spec.width < BITS:
            raise ValueError(
                f"camera {spec.name!r}: a synthetic one is at least {BITS} pixels wide, not "
                f"{spec.width}: the frame number takes them"
            )
        self.spec = spec
        self._paced = Paced(spec, clock)

    def open(self) -> None:
        self._paced.begin()

    def due_ns(self) -> int:
        return self._paced.due_ns()

    def grab(self) -> Frame:
        number, stamp = self._paced.next()
        return Frame(draw(self.spec, number), number, stamp, device_time_ns=stamp)

    def close(self) -> None:
        pass


def draw(spec: CameraSpec, number: int) -> np.ndarray:
    """Return the picture (H, W, 3) of a frame number."""
    x = np.arange(spec.width).astype(np.uint8)  # whose sums go round at 256
    y = np.arange(spec.height).astype(np.uint8)[:, None]
    shift = np.array([3, 5, 7]) * number % 256
    red, green, blue = shift.astype(np.uint8)[:, None]
    image = np.empty(spec.shape, np.uint8)
    image[..., 0] = x + red
    image[..., 1] = y + green
    image[..., 2] = x + y + blue
    bits = [255 * (number >> (BITS - 1 - i) & 1) for i in range(BITS)]
    strip = np.repeat(np.array(bits, np.uint8), spec.width // BITS)
    image[: _strip(spec.height), : len(strip)] = strip[None, :, None]
    return image


def read_number(image: np.ndarray) -> int:
    """Return the frame number that is drawn into a picture, from the middle of each block."""
    height, width, _ = image.shape
    block = width // BITS
    row = image[_strip(height) // 2, block // 2 : BITS * block : block].mean(-1) > 127
    return int("".join("1" if bit else "0" for bit in row), 2)


def _strip(height: int) -> int:
    return max(1, height // 16)
