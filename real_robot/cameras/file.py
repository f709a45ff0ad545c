"""A camera that plays files in a loop: a video, or a folder of PNGs in the order of their names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from real_robot.cameras.camera import CameraSpec, Frame
from real_robot.cameras.synthetic import Paced
from real_robot.clock import Clock


class File:
    """Pictures of a file at the spec's rate, whatever the file's own."""

    def __init__(self, spec: CameraSpec, path: str | Path, clock: Clock):
        self.spec, self.path = spec, Path(path)
        self._paced = Paced(spec, clock)
        self._pictures: Iterator[np.ndarray] | None = None

    def open(self) -> None:
        self._pictures = self._loop(_av(self.spec.name))
        self._paced.begin()

    def due_ns(self) -> int:
        return self._paced.due_ns()

    def grab(self) -> Frame:
        if self._pictures is None:
            raise OSError(f"camera {self.spec.name!r} is not open")
        number, stamp = self._paced.next()
        return Frame(next(self._pictures), number, stamp)

    def close(self) -> None:
        self._pictures = None

    def _loop(self, av: Any) -> Iterator[np.ndarray]:
        while True:
            count = 0
            for image in self._once(av):
                if image.shape != self.spec.shape:
                    raise ValueError(
                        f"camera {self.spec.name!r}: {self.path} holds pictures of "
                        f"{image.shape[1]}x{image.shape[0]}, the spec says "
                        f"{self.spec.width}x{self.spec.height}: convert the file or correct it"
                    )
                yield image
                count += 1
            if count == 0:
                raise OSError(f"camera {self.spec.name!r}: there are no pictures in {self.path}")

    def _once(self, av: Any) -> Iterator[np.ndarray]:
        paths = sorted(self.path.glob("*.png")) if self.path.is_dir() else [self.path]
        for path in paths:
            with av.open(str(path)) as container:
                for frame in container.decode(video=0):
                    yield frame.to_ndarray(format="rgb24")


def _av(name: str) -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError(
            f"camera {name!r} plays a file, which needs PyAV: pip install 'robo-offline[video]'"
        ) from error
    return av
