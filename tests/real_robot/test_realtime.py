"""What a loop on time asks of the system, and what it gets."""

from __future__ import annotations

import os
import threading

import zmq

from real_robot import wire
from real_robot.realtime import context_first, may_go_first


def scheduled(thread=0):
    return os.sched_getscheduler(thread), os.sched_getparam(thread).sched_priority


def test_asking_whether_it_may_go_first_changes_nothing():
    before = scheduled()
    assert may_go_first(wire.PRIORITY) in (True, False)
    assert scheduled() == before


def test_who_may_not_is_told_no(monkeypatch):
    def refused(*_):
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refused)
    assert not may_go_first(wire.PRIORITY)


def test_the_thread_that_takes_commands_off_the_wire_goes_before_ordinary_work():
    context = context_first(wire.PRIORITY)
    with context, context.socket(zmq.ROUTER) as socket:
        socket.bind_to_random_port("tcp://127.0.0.1")
        ours = {scheduled(int(thread)) for thread in os.listdir("/proc/self/task")}
        first = (os.SCHED_FIFO, wire.PRIORITY) in ours
        assert first == may_go_first(wire.PRIORITY)
        assert scheduled(threading.get_native_id())[0] == os.SCHED_OTHER
