"""USB cameras and whatever else V4L2 shows, through OpenCV."""

from __future__ import annotations

from typing import Any

from real_robot.cameras.camera import CameraSpec, Frame
from real_robot.clock import Clock


class OpenCV:
    """A V4L2 device such as /dev/video0, or better /dev/v4l/by-id/..., which stays the same."""

    def __init__(self, spec: CameraSpec, device: str, clock: Clock):
        self.spec, self.device, self.clock = spec, device, clock
        self._cv2: Any = None
        self._capture: Any = None
        self._count = 0

    def open(self) -> None:
        try:
            import cv2
        except ImportError as error:
            raise ImportError(
                f"camera {self.spec.name!r} needs OpenCV: pip install 'robo-offline[cameras]'"
            ) from error
        spec = self.spec
        capture = cv2.VideoCapture(self.device, cv2.CAP_V4L2)
        if not capture.isOpened():
            raise OSError(
                f"camera {spec.name!r}: {self.device} cannot be opened: is it plugged in, in use "
                "by another process, or not yours to read (group 'video')?"
            )
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, spec.width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, spec.height)
        capture.set(cv2.CAP_PROP_FPS, spec.rate_hz)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # a queue of pictures is a queue of old ones
        size = tuple(
            int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        if size != (spec.width, spec.height):
            capture.release()
            raise OSError(
                f"camera {spec.name!r}: {self.device} gives {size[0]}x{size[1]}, not "
                f"{spec.width}x{spec.height}: `v4l2-ctl --list-formats-ext` lists its modes"
            )
        self._cv2, self._capture, self._count = cv2, capture, 0

    def grab(self) -> Frame:
        if self._capture is None:
            raise OSError(f"camera {self.spec.name!r} is not open")
        good, image = self._capture.read()
        stamp = self.clock.now_ns()
        if not good:
            raise OSError(f"camera {self.spec.name!r}: {self.device} gives no pictures any longer")
        taken_ms = self._capture.get(self._cv2.CAP_PROP_POS_MSEC)  # of the kernel's buffer
        frame = Frame(
            image=self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB),
            frame_id=self._count,
            stamp_ns=stamp,
            device_time_ns=round(taken_ms * 1e6) if taken_ms > 0 else None,
        )
        self._count += 1
        return frame

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
        self._capture = None
