"""Every way in which an arm can fail, through the daemon, to the tick."""

import numpy as np
import pytest

from real_robot.clock import ns
from real_robot.driver import DriverCommand, DriverState
from real_robot.drivers.fault import (
    Faulty,
    frozen,
    hang,
    no_answer,
    stopped_clock,
    stuck,
    touched,
    wrong,
)
from real_robot.machine import State
from real_robot.testing.still import OPERATOR, Cell

AWAY = np.array([0.2, 0.1, 0.0, 0.1, 0.0, 0.0, 0.1])
NAN, INF = np.full(7, np.nan), np.array([0, 0, 0, 0, 0, 0, np.inf])


def cell():
    found = Cell(driver=lambda arm: Faulty(arm, arm.clock))
    found.ready()
    found.drive(found.home + AWAY, 0.3)
    return found


def fail(found, fault):
    """Let the fault begin with the next tick."""
    found.daemon.driver.plan.append(fault)


def times(found, seconds=10.0):
    begin = found.clock.now_ns() + 1
    return begin, begin + ns(seconds)


@pytest.mark.parametrize(
    "values",
    [
        {"q": NAN},
        {"q": INF},
        {"dq": -INF},
        {"dq": np.zeros(6)},
        {"q": np.zeros((7, 1))},
        {"q": np.zeros(0)},
        {"wrench": np.full(6, np.nan)},
        {"gripper": float("nan")},
    ],
)
def test_a_state_that_is_none_is_a_fault_in_the_same_tick(values):
    found = cell()
    fail(found, wrong(*times(found), **values))
    sent = len(found.arm.sent)
    tick = found.tick()
    assert tick.state is State.FAULT and tick.sent is None
    assert len(found.arm.sent) == sent and found.arm.stops[-1][1] == "protective"


@pytest.mark.parametrize("call", ["read", "write"])
def test_an_arm_that_does_not_answer_is_a_fault_in_the_same_tick(call):
    found = cell()
    fail(found, no_answer(*times(found), call))
    assert found.tick().state is State.FAULT
    assert call in found.daemon.machine.stop_reason


def test_an_arm_that_answers_nothing_at_all_does_not_end_the_daemon():
    found = cell()
    fail(found, no_answer(*times(found, 0.5)))
    found.run(0.4)
    assert found.daemon.machine.state is State.FAULT
    assert found.daemon.counts["protective stop not answered"] == 4  # asked again and again
    assert not found.arm.stops
    found.arm.dq[:] = 0  # its own watchdog has stopped it
    found.run(0.2)  # it answers again
    assert [how for _, how in found.arm.stops] == ["protective"]  # and was stopped, once
    assert found.ask(OPERATOR, "reset", stop_id=1)["ok"]
    found.run(0.02)
    assert found.daemon.machine.state is State.IDLE


@pytest.mark.parametrize("fault", [frozen, stopped_clock])
def test_a_state_that_is_always_the_same_is_a_fault_after_its_time(fault):
    found = cell()
    fail(found, fault(*times(found)))
    begin = found.clock.now_ns()
    while not found.daemon.machine.state.latched:
        found.tick()
    late = found.clock.now_ns() - begin - ns(found.robot.timing.state_timeout_s)
    assert found.daemon.machine.state is State.FAULT
    # The first state of the fault is a new one still.
    assert 0 < late <= 2 * found.robot.tick_ns


def test_a_read_that_hangs_stops_the_arm_as_soon_as_it_returns():
    found = cell()
    begin, _ = times(found)
    fail(found, hang(begin, begin + ns(0.02), found.clock, 1.0))
    found.tick()
    assert found.tick().state is State.STOPPING
    assert "watchdog" in found.daemon.machine.stop_reason


def test_joints_that_are_stuck_are_noticed_by_where_they_are():
    found = cell()
    fail(found, stuck(*times(found), 0))
    found.drive(found.home + 4 * AWAY, 1.5)
    assert "told to be" in found.daemon.machine.stop_reason
    away = abs(found.arm.q[0] - found.daemon.setpoint.q[0])
    assert away < found.robot.limits.following_max_rad + 0.05


def test_the_button_latches_and_cannot_be_reset_while_it_is_pressed():
    found = cell()
    fail(found, wrong(*times(found, 0.5), estop=True))
    assert found.tick().state is State.ESTOP
    assert "pressed" in found.ask(OPERATOR, "reset", stop_id=1)["why"]
    found.run(0.6)
    assert found.daemon.machine.state is State.ESTOP
    assert found.ask(OPERATOR, "reset", stop_id=1)["ok"]


def test_a_vendors_fault_is_named():
    found = cell()
    fail(found, wrong(*times(found), fault="joint 3: overcurrent"))
    assert found.tick().state is State.FAULT
    assert "overcurrent" in found.daemon.machine.stop_reason


@pytest.mark.parametrize(
    ("wrench", "stops"), [([39, 0, 0, 0, 0, 0], False), ([0, 0, 41, 0, 0, 0], True),
                          ([0, 0, 0, 0, 9.9, 0], False), ([0, 0, 0, 0, 0, 10.1], True)]
)  # fmt: skip
def test_a_push_stops_the_arm_from_its_limit_on(wrench, stops):
    found = cell()
    begin, _ = times(found)
    fail(found, touched(begin, begin + found.robot.tick_ns, wrench))
    assert (found.tick().state is State.STOPPING) == stops


def test_without_a_plan_nothing_is_changed():
    found = cell()
    before = found.daemon.driver.read()
    assert isinstance(before, DriverState) and before.q.tobytes() == found.arm.q.tobytes()
    command = DriverCommand(found.arm.q, np.zeros(7), 0.2)
    found.daemon.driver.write(command)
    assert found.arm.sent[-1][1] is command


def test_a_fault_holds_from_its_beginning_up_to_its_end():
    found = cell()
    begin, _ = times(found)
    fail(found, wrong(begin, begin + 10, gripper=0.77))
    driver, seen = found.daemon.driver, []
    for moment in (begin - 1, begin, begin + 9, begin + 10):
        found.clock.sleep_until_ns(moment)
        seen.append(driver.read().gripper == 0.77)
    assert seen == [False, True, True, False]
