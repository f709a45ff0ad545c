"""Intel RealSense: its colour stream, with the camera's own frame numbers and times."""

from __future__ import annotations

from typing import Any

import numpy as np

from real_robot.cameras.camera import CameraSpec, Frame
from real_robot.clock import Clock

TIMEOUT_MS = 1000  # of one grab


class RealSense:
    """One camera by its serial number: the order in which several are found changes."""

    def __init__(self, spec: CameraSpec, serial: str, clock: Clock):
        self.spec, self.serial, self.clock = spec, serial, clock
        self._pipeline: Any = None

    def open(self) -> None:
        try:
            import pyrealsense2
        except ImportError as error:
            raise ImportError(
                f"camera {self.spec.name!r} needs pyrealsense2: "
                "pip install 'robo-offline[realsense]'"
            ) from error
        spec = self.spec
        config = pyrealsense2.config()
        config.enable_device(self.serial)
        config.enable_stream(
            pyrealsense2.stream.color,
            spec.width,
            spec.height,
            pyrealsense2.format.rgb8,
            round(spec.rate_hz),
        )
        pipeline = pyrealsense2.pipeline()
        try:
            pipeline.start(config)
        except RuntimeError as error:  # what the library raises for everything
            raise OSError(
                f"camera {spec.name!r}: RealSense {self.serial} does not start at "
                f"{spec.width}x{spec.height}, {spec.rate_hz} Hz ({error}): `rs-enumerate-devices` "
                "lists serial numbers and modes"
            ) from error
        self._pipeline = pipeline

    def grab(self) -> Frame | None:
        if self._pipeline is None:
            raise OSError(f"camera {self.spec.name!r} is not open")
        try:
            came, frames = self._pipeline.try_wait_for_frames(TIMEOUT_MS)
        except RuntimeError as error:
            raise OSError(f"camera {self.spec.name!r}: {error}") from error
        stamp = self.clock.now_ns()
        colour = frames.get_color_frame() if came else None
        if not colour:
            return None
        return Frame(
            image=np.array(colour.get_data(), np.uint8),  # a copy: the library reuses its buffers
            frame_id=int(colour.get_frame_number()),
            stamp_ns=stamp,
            device_time_ns=round(colour.get_timestamp() * 1e6),  # from ms
        )

    def close(self) -> None:
        if self._pipeline is not None:
            self._pipeline.stop()
        self._pipeline = None
