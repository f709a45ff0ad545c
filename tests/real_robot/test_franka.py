import gc
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from real_robot.descriptor import load
from real_robot.driver import DriverCommand, DriverLost
from real_robot.drivers.franka import Driver, emergency_stop, judged
from real_robot.drivers.franka_hand import Hand
from real_robot.kinematics import Chain
from real_robot.testing.driven import Driven, patient, stands
from real_robot.testing.franka_sim import Reflexive
from robo_offline.errors import UserError

ROBOT = load("franka")
TICK_S = ROBOT.tick_ns / 1e9
STATE_S = 0.25  # a simulation that shares its processors makes pauses
BUSY_S = 0.15


@pytest.fixture(autouse=True)
def steady():
    """Collect no garbage meanwhile, as robotd: in a process this large that takes 0.1 s."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="module")
def sims():
    """Return a simulated arm, another one where the last was killed."""
    for package, extra in (("franky", "franka"), ("franky_sim", "dev")):
        pytest.importorskip(package, reason=f"needs {package}: pip install 'robo-offline[{extra}]'")
    from real_robot.testing.franka_sim import FrankaSim

    made = []

    def alive():
        if not made or made[-1].dead:
            made.append(FrankaSim())
        return made[-1]

    yield alive
    for sim in made:
        sim.__exit__()


@pytest.fixture
def sim(sims):
    return sims()


@pytest.fixture
def driver(sim):
    driver = Driver(patient(ROBOT, STATE_S), sim.address)
    driver.connect(10.0)
    yield driver
    driver.close()


@pytest.fixture
def driven(sim):
    driver = Driver(patient(ROBOT, STATE_S), sim.address)
    driven = Driven(driver)
    yield driven
    driver.close()


def hold(driver, seconds, gripper=None):
    """Send ticks at rest; return the states and the longest that a tick took."""
    state, seen, longest = driver.read(), [], 0.0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.perf_counter()
        seen.append(driver.read())
        wish = state.gripper if gripper is None or len(seen) == 1 else gripper
        driver.write(DriverCommand(state.q, np.zeros(7), wish))
        longest = max(longest, time.perf_counter() - began)
        time.sleep(TICK_S)
    return seen, longest


def lost(driver):
    try:
        driver.read()
    except DriverLost:
        return True
    return False


# ---- what the library says -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "errors", "said", "estop"),
    [
        ("Idle", "[]", "", False),
        ("Move", "[]", "", False),
        ("Guiding", "[]", "", False),
        ("Reflex", '["cartesian_reflex"]', "cartesian_reflex", False),
        ("Reflex", "[]", "reflex", False),
        ("Idle", '["joint_velocity_violation"]', "joint_velocity_violation", False),
        ("UserStopped", "[]", "", True),
    ],
)
def test_each_way_of_the_arm_to_stop_has_its_name(mode, errors, said, estop):
    fault, pressed = judged(mode, errors)
    assert said in fault and bool(said) == bool(fault) and pressed is estop


def test_without_the_vendors_library_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"robo-offline\[franka\]"):
        Driver(ROBOT, "127.0.0.1").connect(1.0)


def test_robotwatch_learns_that_only_robotds_end_stops_the_arm():
    with pytest.raises(DriverLost, match="end robotd"):
        emergency_stop("192.168.1.7")


# ---- the file --------------------------------------------------------------------------------


def test_the_file_has_the_vendors_kinematics():
    pin = pytest.importorskip("pinocchio", reason="needs pin, which franky-sim brings")
    franky_sim = pytest.importorskip("franky_sim", reason="needs franky-sim for the vendor's URDF")
    path = Path(franky_sim.__file__).parent / "assets" / "fr3_clean.urdf"
    model = pin.buildModelFromUrdf(str(path))
    data, flange = model.createData(), model.getFrameId("link8")
    # The hand's tool centre point, as the vendor configures it by default.
    hand = pin.SE3(pin.rpy.rpyToMatrix(0, 0, -np.pi / 4), np.array([0, 0, 0.1034]))
    chain, x = Chain(ROBOT), ROBOT.limits.arrays()
    for q in np.random.default_rng(0).uniform(x["low"], x["high"], (50, 7)):
        pin.forwardKinematics(model, data, q)
        pin.updateFramePlacements(model, data)
        pose = data.oMf[flange] * hand
        position, rotation = chain.tool(q)
        assert np.abs(position[0] - pose.translation).max() < 1e-3
        assert np.abs(rotation[0] - pose.rotation).max() < 1e-3


# The FR3's limits as Franka publishes them: the ends of each joint, and the highest speed that is
# allowed at each angle, min(highest, sqrt(b (c - q)) - a) towards the upper end and likewise down.
Q_MIN = [-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159]
Q_MAX = [2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159]
HIGHEST = np.array([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26])
A = np.array([0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35])
B = np.array([12.0, 5.17, 7.00, 8.00, 34.0, 11.0, 34.0])
UPPER = np.array([2.7501, 1.7918, 2.9065, -0.1458, 2.8101, 4.5205, 3.0196])
LOWER = np.array([-2.7501, -1.7918, -2.9065, -3.0481, -2.8101, 0.54092, -3.0196])


def allowed(room):
    return np.clip(np.sqrt(np.maximum(B * room, 0)) - A, 0, HIGHEST) - 1e-3


def test_the_file_stays_within_the_vendors_joint_limits():
    limits = ROBOT.limits
    assert (np.array(limits.q_min_rad) >= Q_MIN).all()
    assert (np.array(limits.q_max_rad) <= Q_MAX).all()
    assert max(limits.a_max_rad_s2) <= 10 and max(limits.j_max_rad_s3) <= 5000


def test_no_motion_that_can_stop_in_time_is_faster_than_the_vendor_allows_there():
    x = ROBOT.limits.arrays()
    for share in np.linspace(0.01, 1, 50):
        v = share * x["v"]
        ramp = np.where(v <= x["a"] ** 2 / x["j"], 2 * np.sqrt(v / x["j"]), v / x["a"] + x["a"] / x["j"])  # noqa: E501  # fmt: skip
        way = v * ramp / 2  # of the shortest stop, which ends at the margin
        assert (v <= allowed(UPPER - (x["high"] - way))).all()
        assert (v <= allowed((x["low"] + way) - LOWER)).all()


# ---- a simulated arm -------------------------------------------------------------------------


def test_the_daemon_moves_the_arm_where_it_is_told(driven):
    driven.arm()
    target = driven.daemon.measured.q + np.eye(7)[0] * 0.1
    driven.follow(target, 8.0, lambda: np.abs(driven.daemon.measured.q - target).max() < 0.02)
    assert np.abs(driven.daemon.measured.q - target).max() < 0.02, driven.daemon.machine
    assert np.median(driven.reads_s) < TICK_S


def test_the_hand_grasps_without_a_tick_that_waits(driver):
    seen, _ = hold(driver, 0.1)
    assert not driver._hand.problem and 0.4 < seen[-1].gripper < 0.6
    until, ticks = time.monotonic() + 10.0, []
    while driver.read().gripper > 0.3:
        assert time.monotonic() < until, (driver.read().gripper, driver._hand.problem)
        _, longest = hold(driver, 0.1, gripper=0.0)
        ticks.append(longest)
    assert np.median(ticks) < 0.02
    until = time.monotonic() + 10.0  # the next one who connects needs a hand that has ended
    while driver._hand._doing is not None and time.monotonic() < until:
        driver.read()
        time.sleep(TICK_S)


class Gripper:
    """Notes what it is asked for, and takes its time."""

    def __init__(self):
        self.asked, self.done = [], True

    def wait(self, timeout):
        return self.done

    def open_async(self, speed):
        self.asked.append("open")
        return self

    def grasp_async(self, *numbers):
        self.asked.append("grasp")
        return self


@pytest.mark.parametrize(
    ("wishes", "asked"),
    [
        ([0.5, 0.5, 0.55], []),  # where it is: nothing was wished for
        ([0.5, 0.4, 0.2, 0.0], ["grasp"]),
        ([0.0, 0.0, 0.7, 1.0], ["open"]),
        ([0.0, 1.0, 0.52, 0.48, 1.0], ["open"]),  # around the middle nothing changes
        ([0.0, 1.0, 0.0], ["open", "grasp"]),
        ([0.3, 0.0], ["grasp"]),  # holding something, told to grasp harder
    ],
)
def test_the_hand_opens_or_grasps_when_the_wish_crosses_the_middle(wishes, asked):
    hand, gripper = Hand.__new__(Hand), Gripper()
    hand._first = hand._open = hand._did = hand._doing = None
    for wish in wishes:
        hand.wanted(wish)
        hand._act(gripper)
    assert gripper.asked == asked


def test_a_hand_that_is_busy_does_what_is_wished_for_when_it_has_ended():
    hand, gripper = Hand.__new__(Hand), Gripper()
    hand._first = hand._open = hand._did = hand._doing = None
    for wish in (0.0, 1.0, 0.0):
        hand.wanted(wish)
        hand._act(gripper)
        gripper.done = False
    assert gripper.asked == ["open"]
    gripper.done = True
    hand._act(gripper)
    assert gripper.asked == ["open", "grasp"]


def test_a_reflex_is_a_fault_until_the_operator_acknowledges_it(driver):
    arm = driver._robot = Reflexive(driver._robot)
    until = time.monotonic() + 2.0
    while not driver.read().fault and time.monotonic() < until:
        time.sleep(TICK_S)
    assert "joint_reflex" in driver.read().fault
    time.sleep(0.3)
    assert not arm.recovered  # not by itself
    driver.clear_fault()
    assert not driver.read().fault  # no news until it is known how that ended
    time.sleep(0.3)
    assert len(arm.recovered) == 1 and not driver.read().fault


STREAM = """
import sys, time
import numpy as np
from real_robot.descriptor import load
from real_robot.driver import DriverCommand
from real_robot.drivers.franka import Driver
driver = Driver(load("franka"), sys.argv[1])
driver.connect(10.0)
begin, began, way = driver.read().q, time.monotonic(), np.eye(7)[0] * 0.1
while True:
    t = max(0.0, time.monotonic() - began - 0.3)
    driver.read()
    driver.write(DriverCommand(begin + way * t, way * (t > 0), 0.5))
    if t > 0.5:
        print("moving", flush=True)
    time.sleep(0.004)
"""


def test_the_arm_stops_when_the_process_that_moves_it_is_killed(sim):
    process = subprocess.Popen(
        [sys.executable, "-c", STREAM, sim.address], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "moving\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    finally:
        process.kill()
        process.stdout.close()
    driver = Driver(ROBOT, sim.address)
    driver.connect(10.0)
    try:
        time.sleep(0.1)
        seen = []
        for _ in range(40):
            seen.append(driver.read())
            time.sleep(TICK_S)
        assert stands(seen)
    finally:
        driver.close()


def test_a_dead_controller_is_a_fault_within_the_state_timeout_and_stays_one(driven, sim):
    driven.arm()
    driven.follow(driven.daemon.measured.q + np.eye(7)[0] * 0.1, 0.5)
    assert driven.state() in ("active", "hold"), driven.daemon.machine
    sim.kill()
    began = time.monotonic()
    driven.follow(driven.daemon.measured.q, 3.0, lambda: driven.state() == "fault")
    passed = time.monotonic() - began
    # The library itself notices after a second.
    assert passed < STATE_S + BUSY_S and "no new state" in driven.daemon.machine.stop_reason
    driven.run(4.0, lambda: lost(driven.daemon.driver))
    assert lost(driven.daemon.driver) and driven.state() == "fault"
    assert np.median(driven.reads_s) < TICK_S and max(driven.reads_s) < 0.5  # nothing waited
    assert not driven.reset()["ok"]


def test_a_hand_that_is_not_there_is_said_in_time():
    pytest.importorskip("franky", reason="needs franky: pip install 'robo-offline[franka]'")
    with pytest.raises(DriverLost):
        Hand("127.0.0.99", 2.0)
