import gc
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from real_robot.descriptor import load
from real_robot.driver import DriverCommand, DriverLost
from real_robot.drivers.ur import Driver, emergency_stop, judged
from real_robot.drivers.ur_process import Sample
from real_robot.kinematics import Chain
from real_robot.testing.driven import OPERATOR, Driven, patient, stands
from real_robot.testing.fake_ur import FakeUR
from robo_offline.errors import UserError

ROBOT = load("ur5e")
PERIOD_S = 1 / ROBOT.timing.servo_hz  # of RTDE packages
BUSY_S = 0.1  # a machine may have other things to do
FINE = Sample(1.0, (0.0,) * 6, (0.0,) * 6, (0.0,) * 6, 7, 2, 1)


@pytest.fixture(autouse=True)
def steady():
    """Collect no garbage meanwhile, as robotd: in a process this large that takes 0.1 s."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="module")
def controller():
    pytest.importorskip("rtde_control", reason="needs ur_rtde: pip install 'robo-offline[ur]'")
    with FakeUR(list(ROBOT.home_rad)) as fake:
        yield fake


@pytest.fixture
def fake(controller):
    controller.tell(again=list(ROBOT.home_rad))
    controller.tell(unlock_after_s=0.2, patience=4.0)
    return controller


@pytest.fixture
def driver(fake):
    driver = Driver(patient(ROBOT), fake.address)
    driver.connect(10.0)
    yield driver
    driver.close()


def serve(driver, seconds, speed=0.2):
    """Move the last joint at a constant speed; return the states."""
    begin, seen, began = driver.read().q, [], time.monotonic()
    while (t := time.monotonic() - began) < seconds:
        seen.append(driver.read())
        moving = len(seen) > 1
        way = np.eye(6)[5] * speed
        driver.write(DriverCommand(begin + way * t * moving, way * moving, 0.0))
        time.sleep(PERIOD_S)
    return seen


def wait(until, seconds=3.0):
    """Wait until something is so; return how long it took."""
    began = time.monotonic()
    while not until():
        assert time.monotonic() - began < seconds, "it did not happen"
        time.sleep(0.002)
    return time.monotonic() - began


def rests(fake):
    return max(map(abs, fake.tell()["actual_qd"])) < 1e-3


def lost(driver):
    try:
        driver.read()
    except DriverLost:
        return True
    return False


# ---- what the packages say -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said", "estop"),
    [
        ({}, "", False),
        ({"safety": 1 << 1}, "", False),  # reduced mode
        ({"safety": 1 << 2}, "protective stop", False),
        ({"safety": 1 << 4 | 1 << 10}, "safeguard stop, stopped due to safety", False),
        ({"safety": 1 << 7, "runtime": 1}, "the program has stopped", True),
        ({"runtime": 4}, "the program has stopped", False),
        ({"robot_mode": 3, "runtime": 1}, "robot mode 3", False),
    ],
)
def test_each_way_of_the_arm_to_stop_has_its_name(changed, said, estop):
    fault, pressed = judged(FINE._replace(**changed))
    assert said in fault and bool(said) == bool(fault) and pressed is estop


@given(st.integers(0, 2**32 - 1), st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1))
def test_only_an_arm_that_runs_without_any_stop_is_fine(safety, mode, runtime):
    fault, estop = judged(FINE._replace(safety=safety, robot_mode=mode, runtime=runtime))
    stopped = safety & 0b111_0001_1100 or mode != 7 or runtime != 2
    assert bool(fault) == bool(stopped) and estop == bool(safety & 0b1110_0000)


@given(st.lists(st.floats(-1e9, 1e9), min_size=18, max_size=18), st.integers(0, 2**32 - 1))
def test_a_sample_survives_its_packet(x, bits):
    sample = Sample(1.5, tuple(x[:6]), tuple(x[6:12]), tuple(x[12:]), 7, 2, bits)
    assert Sample.unpack(sample.pack()) == sample


def test_the_file_has_the_vendors_kinematics():
    # Denavit-Hartenberg parameters of the UR5e, as Universal Robots publishes them: a, d, alpha.
    rows = [
        (0, 0.1625, np.pi / 2), (-0.425, 0, 0), (-0.3922, 0, 0),
        (0, 0.1333, np.pi / 2), (0, 0.0997, -np.pi / 2), (0, 0.0996, 0),
    ]  # fmt: skip
    chain, random = Chain(ROBOT), np.random.default_rng(0)
    for q in random.uniform(-np.pi, np.pi, (50, 6)):
        pose = np.eye(4)
        for angle, (a, d, alpha) in zip(q, rows, strict=True):
            c, s, ca, sa = np.cos(angle), np.sin(angle), np.cos(alpha), np.sin(alpha)
            pose = pose @ [
                [c, -s * ca, s * sa, a * c],
                [s, c * ca, -c * sa, a * s],
                [0, sa, ca, d],
                [0, 0, 0, 1],
            ]
        position, rotation = chain.tool(q)
        assert np.abs(position[0] - pose[:3, 3]).max() < 1e-3
        assert np.abs(rotation[0] - pose[:3, :3]).max() < 1e-3


def test_the_file_stays_below_the_vendors_limits():
    limits = ROBOT.limits  # 360 degrees and 180 degrees per second for each joint
    assert max(map(abs, limits.q_min_rad + limits.q_max_rad)) <= 2 * np.pi
    assert max(limits.v_max_rad_s) <= np.pi and limits.tcp_v_max_m_s <= 1.0


# ---- connecting ------------------------------------------------------------------------------


def test_without_the_vendors_library_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"robo-offline\[ur\]"):
        Driver(ROBOT, "127.0.0.1").connect(1.0)


@pytest.mark.parametrize(
    ("so", "said"),
    [
        ({"remote": False}, "remote control"),
        ({"protective": True}, "clear the stop"),
        ({"robot_mode": 3}, "release its brakes"),
        ({"foreign": True}, "end the program"),
    ],
)
def test_an_arm_that_is_not_ready_is_refused_and_left_alone(fake, so, said):
    fake.tell(**so)
    with pytest.raises(UserError, match=said):
        Driver(ROBOT, fake.address).connect(5.0)
    after = fake.tell()
    assert after["programs"] == 0 and after["runtime_state"] == (2 if "foreign" in so else 1)


def test_a_controller_that_says_nothing_is_no_connection(fake):
    fake.tell(silent=True)  # the dashboard still speaks
    began = time.monotonic()
    with pytest.raises(UserError, match="no state of it"):
        Driver(ROBOT, fake.address).connect(1.0)
    assert time.monotonic() - began < 4.0


# ---- everybody may die -----------------------------------------------------------------------

STREAM = """
import sys, time
import numpy as np
from real_robot.descriptor import load
from real_robot.driver import DriverCommand
from real_robot.drivers.ur import Driver
driver = Driver(load("ur5e"), sys.argv[1])
driver.connect(10.0)
begin, began, way = driver.read().q, time.monotonic(), np.eye(6)[5] * 0.2
driver.write(DriverCommand(begin, 0 * way, 0.0))
while True:
    driver.read()
    driver.write(DriverCommand(begin + way * (time.monotonic() - began), way, 0.0))
    time.sleep(0.008)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_the_arm_stops_when_the_process_that_moves_it_does(fake, how):
    process = subprocess.Popen([sys.executable, "-c", STREAM, fake.address])
    try:
        wait(lambda: max(map(abs, fake.tell()["actual_qd"])) > 0.1, 20.0)
        fake.tell(patience=1.0)
        process.send_signal(how)
        # At the latest by the controller's watchdog, 0.1 s, and then from 0.2 rad/s to rest.
        assert wait(lambda: rests(fake)) < 0.1 + 0.1 + 2 * BUSY_S
        wait(lambda: fake.tell()["runtime_state"] == 1, 1.0)
    finally:
        process.kill()
        process.wait()
    wait(lambda: fake.tell()["clients"] == 0)  # the library's process ends as well


def test_a_library_that_crashes_is_a_lost_arm_and_not_a_dead_daemon(fake, driver):
    serve(driver, 0.2)
    os.kill(driver._process.pid, signal.SIGSEGV)
    wait(lambda: lost(driver), 1.0)
    wait(lambda: rests(fake), 1.0)
    with pytest.raises(DriverLost):
        driver.write(DriverCommand(driver._sample.q, np.zeros(6), 0.0))


def test_a_lost_connection_is_not_made_again_by_the_library(fake, driver):
    serve(driver, 0.2)
    fake.tell(drop=True)
    wait(lambda: lost(driver), 1.0)
    wait(lambda: rests(fake), 1.0)
    time.sleep(0.5)
    assert lost(driver) and not fake.tell()["servoing"]


def test_a_protective_stop_reaches_the_arm_past_a_library_that_hangs(fake, driver):
    serve(driver, 0.2)
    os.kill(driver._process.pid, signal.SIGSTOP)
    began = time.perf_counter()
    driver.protective_stop()
    assert time.perf_counter() - began < 0.02  # no tick waits for it
    wait(lambda: fake.tell()["runtime_state"] == 1, 1.0)
    os.kill(driver._process.pid, signal.SIGCONT)


def test_the_emergency_stop_needs_nobody_else(fake, driver):
    serve(driver, 0.2)
    emergency_stop(fake.address)
    assert fake.tell()["runtime_state"] == 1
    wait(lambda: "program has stopped" in driver.read().fault, 1.0)


def test_an_emergency_stop_that_is_not_obeyed_is_said(fake, driver):
    serve(driver, 0.1)
    fake.tell(obeys=False)
    with pytest.raises(DriverLost, match="neither"):
        emergency_stop(fake.address)
    with pytest.raises(DriverLost, match="cannot be reached"):
        emergency_stop("127.0.0.99")


# ---- under the daemon, in real time ----------------------------------------------------------


@pytest.fixture
def driven(fake):
    driver = Driver(patient(ROBOT), fake.address)
    driven = Driven(driver)
    driven.arm()
    driven.follow(driven.daemon.measured.q + np.eye(6)[5] * 0.5, 0.25)
    assert driven.state() in ("active", "hold"), driven.daemon.machine
    yield driven
    driver.close()


def test_the_daemon_moves_the_arm_where_it_is_told(driven):
    target = np.array(ROBOT.home_rad) + np.eye(6)[5] * 0.3
    driven.follow(target, 3.0, lambda: np.abs(driven.daemon.measured.q - target).max() < 0.01)
    assert np.abs(driven.daemon.measured.q - target).max() < 0.01
    driven.said.append((OPERATOR, {"type": "stop"}))
    driven.run(1.0, lambda: driven.state() == "stopped")
    assert driven.state() == "stopped"
    driven.run(0.2)
    begin = len(driven.ticks)
    driven.run(0.2)
    assert stands([tick.measured for tick in driven.ticks[begin:]])
    assert driven.reset()["ok"]
    driven.arm()  # the program runs on: no fault was to be cleared
    assert driven.state() == "armed"


@pytest.mark.parametrize(
    ("so", "state", "said"),
    [
        ({"protective": True}, "fault", "protective stop"),
        ({"estop": True}, "estop", "emergency stop is pressed"),
        ({"program": False}, "fault", "program has stopped"),
    ],
)
def test_a_stop_of_the_arm_is_known_within_two_packages_and_stays(driven, fake, so, state, said):
    began = time.monotonic()
    fake.tell(**so)
    driven.follow(ROBOT.home_rad, 1.0, lambda: driven.state() == state)
    assert driven.state() == state and time.monotonic() - began < 2 * PERIOD_S + BUSY_S
    assert said in driven.daemon.machine.stop_reason
    # Somebody clears it at the arm: nothing begins again by that.
    fake.tell(**dict.fromkeys(so, "program" in so))
    driven.run(0.2)
    begin = len(driven.ticks)
    driven.follow(np.array(ROBOT.home_rad) + 0.2, 0.2)
    assert driven.state() == state and stands([tick.measured for tick in driven.ticks[begin:]])
    assert not fake.tell()["servoing"]


@pytest.mark.parametrize(
    ("so", "said"),
    [({"remote": False}, "local control"), ({"deaf": True}, "program has stopped")],
)
def test_lost_remote_control_is_a_fault_whatever_it_does_to_the_program(driven, fake, so, said):
    fake.tell(**so)
    driven.follow(driven.daemon.measured.q, 3.0, lambda: driven.state() == "fault")
    assert said in driven.daemon.machine.stop_reason


def test_a_protective_stop_is_unlocked_only_when_the_operator_asks(driven, fake):
    fake.tell(protective=True)
    driven.run(1.0, lambda: driven.state() == "fault")
    driven.run(0.5)
    assert fake.tell()["unlocks"] == 0
    assert driven.reset()["ok"]
    driven.run(1.0, lambda: fake.tell()["runtime_state"] == 2)
    driven.run(0.2)
    assert fake.tell()["unlocks"] == 1 and driven.state() == "idle", driven.daemon.machine
    driven.arm()
    target = driven.daemon.measured.q + np.eye(6)[5] * 0.1
    driven.follow(target, 2.0, lambda: np.abs(driven.daemon.measured.q - target).max() < 0.01)
    assert np.abs(driven.daemon.measured.q - target).max() < 0.01


def test_an_unlock_that_is_refused_is_the_fault_again(driven, fake):
    fake.tell(unlock_after_s=60.0, protective=True)
    driven.run(1.0, lambda: driven.state() == "fault")
    driven.run(0.1)
    assert driven.reset()["ok"]
    driven.run(1.0, lambda: driven.state() == "fault")
    assert "until 5s" in driven.daemon.machine.stop_reason and fake.tell()["unlocks"] == 0


def test_silence_of_the_controller_is_a_fault_after_the_state_timeout(driven, fake):
    began = time.monotonic()
    fake.tell(silent=True)
    driven.follow(driven.daemon.measured.q, 2.0, lambda: driven.state() == "fault")
    passed = time.monotonic() - began
    limit = driven.robot.timing.state_timeout_s
    assert limit - 2 * PERIOD_S < passed < limit + BUSY_S
    assert "no new state" in driven.daemon.machine.stop_reason
    assert max(driven.reads_s[-5:]) < 0.05  # it was not waited for


def test_contact_that_the_arm_measures_stops_it(driven, fake):
    fake.tell(wrench=[0.0, 0.0, ROBOT.limits.force_max_n + 5, 0.0, 0.0, 0.0])
    driven.follow(driven.daemon.measured.q, 1.0, lambda: driven.state() == "stopped")
    assert "contact" in driven.daemon.machine.stop_reason


def test_the_tests_times_are_the_only_thing_that_is_changed_of_the_robot():
    changed = patient(ROBOT)
    limits = replace(changed.limits, following_max_rad=ROBOT.limits.following_max_rad)
    assert replace(changed, timing=ROBOT.timing, limits=limits) == ROBOT
