import pytest

from real_robot.machine import Machine, State


def at(state):
    return Machine(state=state)


@pytest.mark.parametrize("state", [State.ARMED, State.ACTIVE, State.HOLD])
def test_a_moving_robot_brakes_before_it_is_stopped(state):
    machine = at(state)
    assert machine.stop("why", 5) and machine.state is State.STOPPING
    assert (machine.stop_id, machine.stop_reason, machine.stop_ns) == (1, "why", 5)


def test_an_idle_robot_has_nothing_to_brake():
    machine = at(State.IDLE)
    machine.stop("why", 0)
    assert machine.state is State.STOPPED


def test_a_harder_stop_takes_over_and_keeps_the_number_and_both_reasons():
    machine = at(State.ACTIVE)
    machine.stop("first", 0)
    machine.stop("second", 1, State.FAULT)
    machine.stop("third", 2, State.ESTOP)
    assert machine.state is State.ESTOP and machine.stop_id == 1
    assert machine.stop_reason == "first; second; third"


@pytest.mark.parametrize("into", [State.STOPPING, State.FAULT])
def test_a_softer_stop_changes_nothing(into):
    machine = at(State.ESTOP)
    assert not machine.stop("later", 9, into) and machine.state is State.ESTOP


@pytest.mark.parametrize("state", [s for s in State if not s.latched])
def test_only_what_is_latched_is_reset(state):
    assert "nothing to reset" in at(state).reset(0)


def test_a_reset_acknowledges_the_stop_by_its_number():
    machine = at(State.ACTIVE)
    machine.stop("why", 0, State.FAULT)
    assert "acknowledged" in machine.reset(2) and machine.state is State.FAULT
    assert machine.reset(1) == "" and machine.state is State.IDLE
