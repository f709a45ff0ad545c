"""lerobot's releases pin other versions of what the rest needs, so that it is not installed here:
an object with the interface of its `Robot` stands for it, in a process of its own."""

import subprocess
import sys
import time

import msgpack
import numpy as np
import pytest
import zmq
from bridged import BEGIN, Bridged, robot
from hypothesis import given
from hypothesis import strategies as st
from lerobot_arm import JOINTS, Arm, Camera

from real_robot.bridges.lerobot import Bridge, Unusable
from real_robot.cameras.camera import CameraSpec
from real_robot.cameras.camerad import RingCamera
from real_robot.cameras.ring import ring_path
from real_robot.clock import MonotonicClock
from real_robot.driver import DriverCommand, DriverLost
from real_robot.drivers.lerobot import Driver, emergency_stop, slopes
from real_robot.testing.driven import OPERATOR, Driven, patient
from robo_offline.errors import UserError

ROBOT = patient(robot(), state_s=0.5)


@pytest.fixture(scope="module")
def bridged(tmp_path_factory):
    bridged = Bridged(tmp_path_factory.mktemp("bridge")).begin()
    yield bridged
    bridged.end()
    ring_path("test_front").unlink(missing_ok=True)


@pytest.fixture
def driver(bridged):
    driver = Driver(ROBOT, bridged.address)
    driver.connect(10.0)
    driver.clear_fault()
    yield driver
    driver.close()


def settle(driver, seconds=2.0, fine=lambda state: True):
    """Read until a state is fine."""
    until = time.monotonic() + seconds
    while not fine(state := driver.read()):
        assert time.monotonic() < until, state
        time.sleep(0.01)
    return state


# ---- units -----------------------------------------------------------------------------------


def test_degrees_become_radians_and_the_gripper_a_share(driver):
    state = settle(driver)
    assert np.allclose(state.q[:2], np.deg2rad([0, 10]), atol=1e-6)
    assert state.gripper == pytest.approx(0.4) and state.wrench is None


def test_radians_become_degrees_again():
    arm = Arm(bus_s=0.0)
    context = zmq.Context()
    socket = context.socket(zmq.PAIR)
    socket.bind("inproc://units")
    driver = Driver(ROBOT, "inproc://units")
    driver._context, driver._socket = context, context.socket(zmq.PAIR)
    driver._socket.connect("inproc://units")
    driver._past.append((1, np.zeros(5)))
    q = np.deg2rad([0.5, 0.0, -0.25, 0.0, 0.0])
    driver.write(DriverCommand(q, np.zeros(5), 0.75))
    sent = msgpack.unpackb(socket.recv())["values"]
    assert sent == pytest.approx(
        dict.fromkeys([f"{name}.pos" for name in JOINTS], 0.0)
        | {"shoulder_pan.pos": 0.5, "elbow_flex.pos": -0.25, "gripper.pos": 75.0}
    )
    assert set(sent) == set(arm.action_features)
    context.destroy(0)


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.lists(st.floats(0.01, 1), min_size=2, max_size=9))  # noqa: E501  # fmt: skip
def test_the_slope_of_a_straight_line_is_its_speed(speed, steps):
    times = np.cumsum([0.0, *steps])
    assert np.allclose(slopes(times, times[:, None] * speed + 1.0), speed, atol=1e-6)


def test_a_servo_that_trembles_by_one_count_is_measured_to_stand():
    times = np.arange(10) * 0.02
    rows = np.deg2rad(0.088) * np.random.default_rng(0).integers(0, 2, (10, 5))
    assert np.abs(slopes(times, rows)).max() < 0.02 < np.abs(np.diff(rows, axis=0) / 0.02).max()


# ---- the process -----------------------------------------------------------------------------


def test_the_bridge_needs_numpy_zmq_and_msgpack_only():
    """The interpreter of the fixture refuses everything else; here it is seen to."""
    code = BEGIN.split(";runpy")[0] + "; import importlib; importlib.import_module(sys.argv[1])"
    for name, fine in (("torch", False), ("robo_offline", False), ("real_robot.bridges.lerobot", True)):  # noqa: E501  # fmt: skip
        done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, check=False)
        assert (done.returncode == 0) is fine, done.stderr


def test_pictures_are_taken_aside_and_found_in_their_ring(bridged):
    spec = CameraSpec("test_front", Camera.width, Camera.height, float(Camera.fps))
    camera = RingCamera(spec, MonotonicClock())
    camera.open()
    first = camera.latest(1_000_000_000)
    time.sleep(0.3)
    second = camera.latest(1_000_000_000)
    assert first.image.shape == (Camera.height, Camera.width, 3)
    assert second.frame_id > first.frame_id
    camera.close()


def test_ending_the_bridge_lets_go_of_the_arm_with_its_cameras(tmp_path):
    bridged = Bridged(tmp_path).begin()
    out, err = bridged.end()
    assert "disconnected" in out and bridged.process.returncode == 0, err


def test_an_arm_that_is_not_calibrated_is_said(tmp_path):
    bridged = Bridged(tmp_path, "uncalibrated")
    _, err = bridged.process.communicate(timeout=20)
    assert bridged.process.returncode == 2 and "lerobot-calibrate" in err


def test_an_arm_in_shares_of_its_range_is_refused():
    arm = Arm()
    arm.config = type("Config", (), {"use_degrees": False})()
    with pytest.raises(Unusable, match="use_degrees"):
        Bridge(arm, "ipc:///tmp/none", 50.0).open()
    with pytest.raises(Unusable, match="ipc"):
        Bridge(Arm(), "tcp://0.0.0.0:5555", 50.0).open()
    assert not arm.is_connected


# ---- one driver, and what it may ask ---------------------------------------------------------


def test_another_driver_is_refused_while_one_is_there(bridged, driver):
    settle(driver)
    with pytest.raises(UserError, match="driven already"):
        Driver(ROBOT, bridged.address).connect(1.0)
    settle(driver)


def test_an_arm_with_other_joints_is_refused(bridged):
    from dataclasses import replace

    joints = tuple(replace(joint, name=f"other_{i}") for i, joint in enumerate(ROBOT.joints))
    with pytest.raises(UserError, match="another arm"):
        Driver(replace(ROBOT, joints=joints), bridged.address).connect(2.0)


@pytest.mark.parametrize(
    "values",
    [
        {"shoulder_pan.pos": float("nan")},
        {"shoulder_pan.pos": "10"},
        {"unknown.pos": 1.0},
        {"shoulder_pan.pos": True},
        [1.0],
        None,
    ],
)
def test_an_action_that_is_none_is_a_fault_and_never_reaches_the_arm(driver, values):
    before = settle(driver)
    driver._say(do="write", values=values)
    state = settle(driver, fine=lambda state: state.fault)
    assert "refused" in state.fault and np.allclose(state.q, before.q, atol=1e-3)
    driver.clear_fault()
    assert not settle(driver, fine=lambda state: not state.fault).fault


@given(st.binary(max_size=64))
def test_foreign_bytes_ask_for_nothing(raw):
    bridge = Bridge(Arm(bus_s=0.0), "ipc:///nowhere", 50.0)

    class Socket:
        left = [(b"somebody", raw)]

        def recv_multipart(self, flags):
            if not self.left:
                raise zmq.Again
            return self.left.pop()

        def send_multipart(self, parts, flags):
            pass

    bridge._socket = Socket()
    bridge._hear()
    assert bridge._wish is None and not bridge._serving


def test_silence_of_the_driver_holds_the_arm(bridged, driver):
    """As when robotd is stopped: the arm does not go on to a goal that is far."""
    begin = settle(driver).q
    driver.write(DriverCommand(begin, np.zeros(5), 0.4))
    driver._say(do="write", values={"wrist_roll.pos": float(np.rad2deg(begin[4])) + 150.0})
    time.sleep(0.5)  # 0.3 s until it is noticed, at 200 degrees per second
    held = driver.read().q
    time.sleep(0.3)
    state = settle(driver)
    assert np.allclose(state.q, held, atol=0.1) and state.q[4] < begin[4] + np.deg2rad(130)


def test_an_emergency_stop_from_outside_holds_the_arm_until_it_is_cleared(bridged, driver):
    begin = settle(driver).q
    driver.write(DriverCommand(begin, np.zeros(5), 0.4))
    emergency_stop(bridged.address)
    driver._say(do="write", values={"wrist_roll.pos": 0.0})  # too late
    state = settle(driver, fine=lambda state: state.fault)
    assert "outside" in state.fault and np.allclose(state.q, begin, atol=0.05)
    with pytest.raises(DriverLost, match="does not answer"):
        emergency_stop("ipc:///tmp/nobody-is-here", 0.1)


# ---- under the daemon, in real time ----------------------------------------------------------


@pytest.fixture
def driven(bridged):
    driver = Driver(ROBOT, bridged.address)
    driven = Driven(driver)
    driver.clear_fault()
    driven.run(0.3)
    yield driven
    driver.close()


def test_the_daemon_moves_the_arm_where_it_is_told(driven):
    driven.arm()
    target = driven.daemon.measured.q + np.eye(5)[4] * 0.2
    driven.follow(target, 4.0, lambda: np.abs(driven.daemon.measured.q - target).max() < 0.02)
    assert np.abs(driven.daemon.measured.q - target).max() < 0.02, driven.daemon.machine
    driven.said.append((OPERATOR, {"type": "stop"}))
    driven.run(2.0, lambda: driven.state() == "stopped")
    assert driven.state() == "stopped"


@pytest.mark.parametrize(
    ("trouble", "said"), [("broken", "no status packet"), ("silent", "no new state")]
)
def test_a_bus_that_fails_or_hangs_is_a_fault(tmp_path, trouble, said):
    bridged = Bridged(tmp_path).begin()
    driver = Driver(ROBOT, bridged.address)
    driven = Driven(driver)
    driven.run(0.2)
    assert driven.state() == "idle"
    bridged.tell(trouble)
    driven.run(2.0, lambda: driven.state() == "fault")
    assert said in driven.daemon.machine.stop_reason
    assert np.median(driven.reads_s) < ROBOT.tick_ns / 1e9
    driver.close()
    bridged.process.kill()
    bridged.process.communicate()
