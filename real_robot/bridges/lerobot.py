"""An arm of lerobot behind a socket, in the interpreter that lerobot is installed in.

lerobot pins versions of other packages that cannot live beside those of a learner, so its arms are
driven from here; numpy, pyzmq and msgpack are all that this needs. A file of yours makes the arm:

```python
def make():  # my_arm.py, in degrees
    return SO101Follower(SO101FollowerConfig(port="/dev/ttyACM0", use_degrees=True))
```

    python -m real_robot.bridges.lerobot my_arm:make --address ipc:///run/user/1000/my_arm

The arm is read and told to in one loop, as its bus carries one thing at a time; cameras have
threads of their own, and their pictures go where `RingCamera` finds them. Without a word of the
driver for SILENT_S the arm holds where it is. It is let go only when this process is ended, and
what that means is lerobot's: an arm without brakes falls when its torque is switched off.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

import msgpack
import numpy as np
import zmq

from real_robot.cameras.camera import CameraSpec, Frame
from real_robot.cameras.camerad import serve
from real_robot.cameras.ring import ring_path

SILENT_S = 0.3
MAX_BYTES = 16_384
PICTURE_MS = 500.0  # that a camera may take


class Robot(Protocol):
    """What of lerobot's class of that name is used here."""

    observation_features: Mapping[str, Any]  # name to float, or to a picture's (H, W, 3)
    action_features: Mapping[str, Any]

    def connect(self, calibrate: bool = True) -> None: ...
    def get_observation(self) -> dict[str, Any]: ...
    def send_action(self, action: dict[str, Any]) -> dict[str, Any]: ...
    def disconnect(self) -> None: ...


class Unusable(Exception):
    """The arm cannot be driven, and it can be said why."""


class Picture:
    """A camera of lerobot as a source of pictures."""

    def __init__(self, spec: CameraSpec, camera: Any):
        self.spec, self.camera = spec, camera
        self._count = 0

    def open(self) -> None:
        """Nothing: lerobot has opened it with the arm."""

    def grab(self) -> Frame | None:
        try:
            image = np.asarray(self.camera.async_read(timeout_ms=PICTURE_MS))
        except TimeoutError:
            return None
        self._count += 1
        return Frame(image=image, frame_id=self._count, stamp_ns=time.monotonic_ns())

    def close(self) -> None:
        """Nothing: lerobot closes it with the arm."""


class Bridge:
    """One arm and one driver."""

    def __init__(self, robot: Robot, address: str, hz: float):
        self.robot, self.address, self.period_s = robot, address, 1 / hz
        self.cameras: dict[str, Any] = {}
        self._driver = b""  # its name on the socket
        self._heard = 0.0
        self._wish: dict[str, float] | None = None  # the newest action that was not sent yet
        self._serving = self._hold = False
        self._fault = ""
        self._values: dict[str, float] = {}
        self._stamp_ns = 0

    def open(self) -> None:
        """Connect the arm and open the socket. Unusable where that makes no sense."""
        if not self.address.startswith("ipc://"):
            raise Unusable(f"{self.address}: an ipc:// address in a folder of yours is needed")
        config = getattr(self.robot, "config", None)
        if not getattr(config, "use_degrees", True):
            raise Unusable("the arm gives shares of its range: make it with use_degrees=True")
        self.robot.connect(calibrate=False)
        if not getattr(self.robot, "is_calibrated", True):
            self.robot.disconnect()
            raise Unusable("the arm is not calibrated: run lerobot-calibrate first")
        self._take_cameras()
        self._look()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger, self._socket.maxmsgsize = 0, MAX_BYTES
        mask = os.umask(0o077)  # nobody else's
        try:
            self._socket.bind(self.address)
        finally:
            os.umask(mask)

    def run(self, ended: list[int]) -> None:
        """Read and tell the arm, until something is in `ended`."""
        due = time.monotonic()
        while not ended:
            self.turn()
            due = max(due + self.period_s, time.monotonic() - self.period_s)
            while not ended and (left := due - time.monotonic()) > 0:
                if self._socket.poll(math.ceil(left * 1000)):
                    self._hear()

    def turn(self) -> None:
        """Pass one action on and one observation back."""
        self._hear()
        if self._serving and time.monotonic() - self._heard > SILENT_S:
            self._stop()
        try:
            if self._hold:
                keys = self.robot.action_features
                self.robot.send_action({k: v for k, v in self._values.items() if k in keys})
                self._hold = False
            elif self._wish is not None:
                self.robot.send_action(self._wish)
            self._wish = None
            self._look()
        except Exception as error:  # whatever a bus raises: the arm's clock stands still as well
            self._fault = self._fault or f"{type(error).__name__}: {error}"
            self._stop()
        self._tell()

    def close(self) -> None:
        """Let go of the arm, as lerobot does."""
        self._context.destroy(0)
        if self.cameras:
            self.robot.cameras = self.cameras  # type: ignore[attr-defined]
        self.robot.disconnect()

    def _take_cameras(self) -> None:
        """Let cameras be read by threads of their own, and not with every position."""
        self.cameras = dict(getattr(self.robot, "cameras", None) or {})
        if not self.cameras:
            return
        shapes = {name: self.robot.observation_features[name] for name in self.cameras}
        self.robot.cameras = {}  # type: ignore[attr-defined]
        for name, camera in self.cameras.items():
            height, width, _ = shapes[name]
            spec = CameraSpec(name, width, height, float(getattr(camera, "fps", None) or 30))
            arguments = (Picture(spec, camera), ring_path(name))
            threading.Thread(target=serve, args=arguments, name=name, daemon=True).start()

    def _look(self) -> None:
        found = self.robot.get_observation()
        self._values = {k: float(v) for k, v in found.items() if np.ndim(v) == 0}
        self._stamp_ns = time.monotonic_ns()  # when the arm's answer was here

    def _stop(self) -> None:
        """Hold where the arm is: its fastest stop that does not let it fall."""
        self._wish, self._serving, self._hold = None, False, True

    # ---- the driver -----------------------------------------------------------------------------

    def _hear(self) -> None:
        while True:
            try:
                name, raw = self._socket.recv_multipart(zmq.NOBLOCK)
                message = msgpack.unpackb(raw, max_str_len=256, max_map_len=64, max_array_len=64)
                what = message["do"]
            except zmq.Again:
                return
            except Exception:  # foreign bytes: nothing was asked for
                continue
            if what == "hello":
                self._hello(name)
            elif what == "stop":  # whoever sees danger may
                if name != self._driver:
                    self._fault = self._fault or "stopped from outside"
                self._stop()
                self._send(name, {"is": "stopped"})
            elif name == self._driver:
                self._heard = time.monotonic()
                self._asked(what, message)

    def _hello(self, name: bytes) -> None:
        busy = self._driver not in (b"", name) and time.monotonic() - self._heard < SILENT_S
        if not busy:
            self._driver, self._heard = name, time.monotonic()
            self._stop()
        keys = sorted(k for k in self.robot.action_features if k in self._values)
        self._send(name, {"is": "hello", "busy": busy, "keys": keys})

    def _asked(self, what: object, message: Mapping[str, Any]) -> None:
        if what == "write" and not self._fault:
            values = message.get("values")
            if isinstance(values, dict) and all(map(self._sendable, values.items())):
                self._wish, self._serving, self._hold = values, True, False
            else:
                self._fault = "an action that is none was refused"
        elif what == "clear":
            self._fault = ""
        elif what == "bye":
            self._stop()
            self._driver = b""

    def _sendable(self, item: tuple[object, object]) -> bool:
        key, value = item
        return key in self.robot.action_features and type(value) is float and math.isfinite(value)

    def _tell(self) -> None:
        if self._driver:
            state = {"values": self._values, "stamp_ns": self._stamp_ns, "fault": self._fault}
            self._send(self._driver, {"is": "state", **state})

    def _send(self, name: bytes, message: Mapping[str, Any]) -> None:
        # ROUTER drops what is for a peer that is gone or does not read: newer states will come.
        self._socket.send_multipart([name, msgpack.packb(message)], zmq.NOBLOCK)


def main() -> int:
    parser = argparse.ArgumentParser("python -m real_robot.bridges.lerobot", description=__doc__)
    parser.add_argument("make", help="MODULE:FUNCTION that returns a lerobot Robot")
    parser.add_argument("--address", required=True, help="ipc:///folder/name")
    parser.add_argument("--hz", type=float, default=50.0, help="%(default)s")
    given = parser.parse_args()
    module, _, function = given.make.partition(":")
    sys.path.insert(0, os.getcwd())
    robot: Robot = getattr(importlib.import_module(module), function)()
    bridge = Bridge(robot, given.address, given.hz)
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _: ended.append(n))
    try:
        bridge.open()
    except Unusable as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{given.make} at {given.address}", flush=True)
    try:
        bridge.run(ended)
    finally:
        bridge.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
