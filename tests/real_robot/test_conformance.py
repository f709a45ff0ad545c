import functools
import gc
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from bridged import Bridged, robot

from real_robot.clock import MonotonicClock
from real_robot.descriptor import load
from real_robot.drivers.arithmetic import ArithmeticArm
from real_robot.testing import conformance
from real_robot.testing.conformance import CHECKS, Bench, NotConforming
from robo_offline.errors import UserError

names = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
NOWHERE = "127.0.0.99"
QUICK = 0.4  # arithmetic takes no time


@pytest.fixture(autouse=True)
def steady():
    """Collect no garbage meanwhile, as robotd: in a process this large that takes 0.1 s."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="module")
def ur():
    pytest.importorskip("rtde_control", reason="needs ur_rtde: pip install 'robo-offline[ur]'")
    from real_robot.drivers.ur import Driver
    from real_robot.testing.fake_ur import FakeUR

    robot = load("ur5e")
    with FakeUR(list(robot.home_rad)) as fake:
        fake.tell(unlock_after_s=0.2, patience=4.0)
        yield Bench(lambda: Driver(robot, fake.address), lambda: Driver(robot, NOWHERE))


@pytest.fixture(scope="module")
def franka():
    for package, extra in (("franky", "franka"), ("franky_sim", "dev")):
        pytest.importorskip(package, reason=f"needs {package}: pip install 'robo-offline[{extra}]'")
    from real_robot.drivers.franka import Driver
    from real_robot.testing.franka_sim import FrankaSim

    robot = load("franka")
    with FrankaSim() as sim:
        yield Bench(lambda: Driver(robot, sim.address), lambda: Driver(robot, NOWHERE), 2.0)


@pytest.fixture(scope="module")
def lerobot(tmp_path_factory):
    from real_robot.drivers.lerobot import Driver

    folder = tmp_path_factory.mktemp("bridge")
    bridged = Bridged(folder).begin()
    address = bridged.address
    yield Bench(lambda: Driver(robot(), address), lambda: Driver(robot(), f"ipc://{folder}/none"))
    bridged.end()


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    pytest.importorskip("mujoco", reason="needs mujoco: pip install 'robo-offline[sim]'")
    from real_robot.drivers.sim import Driver

    robot, folder = load("sim"), tmp_path_factory.mktemp("sim")
    address = f"ipc://{folder}/arm"
    command = [sys.executable, "-m", "real_robot.sim", "--capsules", "--address", address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert address in process.stdout.readline()
        yield Bench(
            lambda: Driver(robot, address), lambda: Driver(robot, f"ipc://{folder}/none"), 1.5
        )
        process.terminate()


@names
def test_the_simulated_arm_conforms(check, simulated):
    check(simulated)


@names
def test_a_ur_arm_conforms(check, ur):
    check(ur)


@names
def test_a_franka_arm_conforms(check, franka):
    check(franka)


@names
def test_an_arm_behind_the_lerobot_bridge_conforms(check, lerobot):
    check(lerobot)


# ---- the suite itself ------------------------------------------------------------------------


class Nowhere(ArithmeticArm):
    def connect(self, timeout_s):
        raise UserError("nobody answers", where="nowhere")


def bench(kind=ArithmeticArm, nowhere=Nowhere, **options):
    """An arm of arithmetic that stays where the last driver left it."""
    robot, clock = load("sim"), MonotonicClock()
    arm = kind(robot, clock, **options)
    return Bench(lambda: arm, lambda: nowhere(robot, clock), QUICK)


def test_an_arm_of_arithmetic_passes_every_check():
    given = bench()
    report = conformance.run(given.make, given.nowhere, QUICK)
    assert report.passed and set(report.found) == {check.__name__ for check in CHECKS}, str(report)


def test_a_report_names_what_was_found():
    report = conformance.Report({"reads": "", "stops": "NotConforming: it moved on"})
    assert not report.passed
    assert str(report) == "yes  reads\nno   stops  NotConforming: it moved on"


class Blocks(ArithmeticArm):
    def read(self):
        time.sleep(0.02)
        return super().read()


class StandsStill(ArithmeticArm):
    @functools.cached_property
    def _began(self):
        return self.clock.now_ns()

    def read(self):
        return replace(super().read(), device_time_ns=self._began)


class Undefined(ArithmeticArm):
    def read(self):
        return replace(super().read(), dq=np.full(self.descriptor.dof, np.nan))


class Degrees(ArithmeticArm):
    def read(self):
        return replace(super().read(), dq=np.rad2deg(self.dq))


class Deaf(ArithmeticArm):
    def write(self, command):
        super().write(replace(command, q=self.q))


class Coasts(ArithmeticArm):
    """Goes on after a stop."""

    def controlled_stop(self):
        self._since, self._speed = self.clock.now_ns(), self.dq.copy()
        super().controlled_stop()

    def read(self):
        if hasattr(self, "_since"):
            now = self.clock.now_ns()
            self.q = self.q + self._speed * (now - self._since) / 1e9
            self._since = now
        return super().read()


class Undoes(ArithmeticArm):
    """Takes any tick at any time."""

    def write(self, command):
        self._gate.open = True
        super().write(command)


class Forgets(ArithmeticArm):
    def read(self):
        self.connected = True
        return super().read()


class Again(ArithmeticArm):
    def connect(self, timeout_s):
        self.connected = True


class Leaks(ArithmeticArm):
    def connect(self, timeout_s):
        super().connect(timeout_s)
        self._end = threading.Event()
        threading.Thread(target=lambda: self._end.wait(20), daemon=True).start()


class Anywhere(ArithmeticArm):
    pass


BROKEN = [
    (Blocks, "reads_without_waiting"),
    (StandsStill, "device_time_moves_on"),
    (Undefined, "says_finite_numbers"),
    (Degrees, "follows_a_small_motion"),
    (Deaf, "follows_a_small_motion"),
    (Coasts, "stops_end_motion"),
    (Undoes, "a_stop_is_not_undone_by_a_late_tick"),
    (Forgets, "closes_twice"),
    (Again, "connects_once"),
    (Leaks, "leaves_nothing_behind"),
]


@pytest.mark.parametrize(("kind", "name"), BROKEN, ids=lambda x: getattr(x, "__name__", x))
def test_a_driver_that_is_wrong_in_one_thing_is_found_out(kind, name):
    check = next(check for check in CHECKS if check.__name__ == name)
    with pytest.raises(NotConforming):
        check(bench(kind))


def test_a_driver_that_finds_an_arm_where_there_is_none_is_found_out():
    with pytest.raises(NotConforming, match="nobody"):
        conformance.refuses_nothing(bench(nowhere=Anywhere))


def test_every_check_can_fail():
    assert {name for _, name in BROKEN} | {"refuses_nothing"} == {c.__name__ for c in CHECKS}
