"""An arm with the interface of lerobot's `Robot`: flat dicts, degrees, calls that take their time.

lerobot itself cannot be installed beside the rest (its releases pin other versions), so this stands
for it in a process of its own, as lerobot would be.
"""

import os
import sys
import threading
import time

import numpy as np

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll")
DEGREES_S = 200.0  # a servo's speed


class Camera:
    """30 pictures a second, each of another noise."""

    fps, height, width = 30, 24, 32

    def __init__(self):
        self.is_connected = False
        self._random = np.random.default_rng(0)

    def connect(self):
        self.is_connected = True

    def async_read(self, timeout_ms=200.0):
        time.sleep(1 / self.fps)
        return self._random.integers(50, 255, (self.height, self.width, 3), dtype=np.uint8)

    def disconnect(self):
        self.is_connected = False


class Arm:
    """Goes to its goal at a servo's speed; its bus carries one thing at a time."""

    def __init__(self, bus_s=0.004):
        self.cameras = {"test_front": Camera()}
        self.bus_s = bus_s
        self.goal = {f"{name}.pos": 10.0 * i for i, name in enumerate(JOINTS)} | {
            "gripper.pos": 40.0
        }
        self.position, self.moved = dict(self.goal), time.monotonic()
        self.is_connected = self.broken = self.silent = False
        self.is_calibrated = True
        self.actions = 0
        self._bus = threading.Lock()

    @property
    def action_features(self):
        return dict.fromkeys(self.goal, float)

    @property
    def observation_features(self):
        return {**self.action_features, "test_front": (Camera.height, Camera.width, 3)}

    def connect(self, calibrate=True):
        assert not calibrate, "would ask for Enter"
        for camera in self.cameras.values():
            camera.connect()
        self.is_connected = True

    def _transfer(self):
        assert self._bus.acquire(blocking=False), "two at once on the bus"
        try:
            time.sleep(3600 if self.silent else self.bus_s)
            if self.broken:
                raise ConnectionError("no status packet")
            now = time.monotonic()
            reach, self.moved = DEGREES_S * (now - self.moved), now
            for key, goal in self.goal.items():
                self.position[key] += float(np.clip(goal - self.position[key], -reach, reach))
        finally:
            self._bus.release()

    def get_observation(self):
        self._transfer()
        return {**self.position, **{k: c.async_read() for k, c in self.cameras.items()}}

    def send_action(self, action):
        self._transfer()
        assert set(action) <= set(self.goal)
        self.goal.update(action)
        self.actions += 1
        return action

    def disconnect(self):
        for camera in self.cameras.values():
            camera.disconnect()
        assert "test_front" in self.cameras
        self.is_connected = False
        print("disconnected", flush=True)


def make():
    """Return an arm that reads on standard input what shall happen to it, and says how it is."""
    arm = Arm()

    def listen():
        for line in sys.stdin:
            setattr(arm, line.strip(), True)
            print(arm.actions, flush=True)

    threading.Thread(target=listen, daemon=True).start()
    return arm


def uncalibrated():
    arm = Arm()
    arm.is_calibrated = False
    return arm


class Refuse:
    """Lets nothing be imported but what the bridge may need: put first into `sys.meta_path`."""

    ALLOWED = {"numpy", "zmq", "msgpack", "real_robot", "lerobot_arm"}

    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in self.ALLOWED and top not in sys.stdlib_module_names and path is None:
            try:
                where = next(p for p in sys.path if os.path.exists(os.path.join(p, top)))
            except StopIteration:
                return None
            raise ImportError(f"{name} of {where} is not for the bridge")
        return None
