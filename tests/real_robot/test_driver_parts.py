import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from real_robot.driver import DriverCommand, DriverLost
from real_robot.drivers import recovery
from real_robot.drivers.aside import Aside
from real_robot.drivers.gate import BEGIN_RAD, Gate
from real_robot.drivers.recovery import LONGEST_S, SETTLES_S, Recovery


def command(q, dq=0.0):
    return DriverCommand(np.array([q, 0.0]), np.array([dq, 0.0]), 0.0)


# ---- the gate --------------------------------------------------------------------------------


@given(st.floats(-4, 4), st.floats(-4, 4), st.floats(-2, 2))
def test_only_a_tick_at_rest_where_the_arm_stands_opens_the_gate(told, stands, speed):
    gate = Gate()
    fine = abs(told - stands) <= BEGIN_RAD and speed == 0
    if fine:
        assert gate.admit(command(told, speed), np.array([stands, 0.0]))
    else:
        with pytest.raises(DriverLost):
            gate.admit(command(told, speed), np.array([stands, 0.0]))
    assert gate.open is fine


def test_an_open_gate_takes_any_tick_until_the_next_stop():
    gate, q = Gate(), np.zeros(2)
    assert gate.admit(command(0.0), q) and not gate.admit(command(3.0, 1.0), q)
    gate.close()
    with pytest.raises(DriverLost, match="after a stop"):
        gate.admit(command(3.0, 1.0), q)


@pytest.mark.parametrize("nothing", [np.nan, np.inf])
def test_what_is_no_number_does_not_open_the_gate(nothing):
    with pytest.raises(DriverLost):
        Gate().admit(command(nothing), np.zeros(2))
    with pytest.raises(DriverLost):
        Gate().admit(command(0.0, nothing), np.zeros(2))
    with pytest.raises(DriverLost):
        Gate().admit(command(0.0), np.full(2, nothing))


# ---- recovery --------------------------------------------------------------------------------


@pytest.fixture
def now(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(recovery.time, "monotonic", lambda: now[0])
    return now


def test_a_fault_is_news_before_it_is_acknowledged_and_after_it_came_back(now):
    found = Recovery()
    assert found.heard("stop") == "stop" and not found.running
    found.begin()
    assert found.heard("stop") == "" and found.running
    found.done()
    assert found.heard("") == "" and not found.running
    assert found.heard("another") == "another"


def test_states_that_were_on_their_way_are_no_news_for_a_while(now):
    found = Recovery()
    found.begin()
    found.done()
    now[0] += SETTLES_S
    assert found.heard("stop") == ""
    now[0] += 1e-3
    assert found.heard("stop") == "stop" and not found.running


def test_a_recovery_without_an_end_is_a_fault(now):
    found = Recovery()
    found.begin()
    now[0] += LONGEST_S
    assert found.heard("") == ""
    now[0] += 1e-3
    assert "recovered" in found.heard("")


def test_a_recovery_that_failed_makes_the_fault_news_again(now):
    found = Recovery()
    found.begin()
    found.failed()
    assert found.heard("stop") == "stop"
    found.done()  # too late
    assert found.heard("stop") == "stop"


# ---- a thread for what may wait --------------------------------------------------------------


def test_what_is_asked_for_is_done_in_its_order_and_never_waited_for():
    begun, let = threading.Event(), threading.Event()
    done = []
    aside = Aside("test", pause_s=0.01)
    aside.do(lambda: (begun.set(), let.wait(5), done.append("slow")))
    assert begun.wait(5)
    began = time.perf_counter()
    aside.do(lambda: done.append("next"))
    assert time.perf_counter() - began < 0.05 and not done
    let.set()
    assert aside.close(5) and done == ["slow", "next"]


def test_what_ends_the_thread_is_kept_to_be_said():
    aside = Aside("test", idle=lambda: 1 / 0, pause_s=0.001)
    until = time.monotonic() + 5
    while not aside.failed and time.monotonic() < until:
        time.sleep(0.001)
    assert "ZeroDivisionError" in aside.failed and aside.close(1)
