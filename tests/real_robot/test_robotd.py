import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter

import pytest

from real_robot import robotd
from real_robot.clock import VirtualClock, ns
from real_robot.descriptor import load
from real_robot.drivers.replay import difference, rerun
from real_robot.loop import Loop
from real_robot.machine import State
from real_robot.record import read
from real_robot.recorder import Noted
from real_robot.testing.processes import Cell
from real_robot.testing.still import Cell as Rehearsal
from real_robot.watch import LIMIT_S
from robo_offline.errors import UserError

# ---- the loop, on a clock that stands still ------------------------------------------------------


class Collector:
    """Says what the loop asks of the collector of garbage; the tests' own heap is large."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda: self.calls.append(name)


@pytest.fixture(autouse=True)
def collector(monkeypatch):
    found = Collector()
    monkeypatch.setattr("real_robot.loop.gc", found)
    return found


class Silent:
    """A wire, a recorder and heartbeats that remember."""

    def __init__(self):
        self.published, self.recorded, self.frozen = [], [], []
        self.inbox, self.counts, self.watch_ns = [], {}, 0
        self.allowed = self
        self.names = {}
        self.order = []

    def receive(self):
        self.order.append("receive")
        return self.inbox

    def reply(self, judgements):
        self.order.append("reply")

    def publish(self, message):
        self.published.append(message)
        self.order.append("publish")

    def write(self, daemon, tick, said):
        self.recorded.append((tick, said))
        self.order.append("record")

    def freeze(self, reason, daemon):
        self.frozen.append(reason)

    def beat(self):
        self.order.append("beat")


class Rig:
    """A loop whose every part is in reach; `slow` are times that ticks take, in periods."""

    def __init__(self, robot="sim", slow=(), **options):
        self.cell = Rehearsal(robot, **options)
        self.silent = Silent()
        self.clock = VirtualClock(self.cell.clock.now_ns())
        self.daemon = self.cell.daemon
        noted = self.daemon.driver = Noted(self.cell.arm)
        self.loop = Loop(self.daemon, self.cell.clock, noted, *[self.silent] * 3, clock=self.clock)
        self.period = self.cell.robot.tick_ns
        self.begun = []
        self.slow = iter(slow)
        read = self.cell.arm.read

        def slowly():
            self.begun.append((self.clock.now_ns() - ns(100.0)) / self.period)
            self.clock.advance(round(next(self.slow, 0) * self.period))
            return read()

        self.cell.arm.read = slowly

    def run(self, turns):
        """Turn so often before the end is asked for."""
        left = iter(range(turns - 1))
        self.loop.run(lambda: "" if next(left, None) is not None else "SIGTERM")


def test_missed_deadlines_are_skipped_and_counted_and_never_made_up_for():
    rig = Rig(slow=[0, 0, 3.5, 0, 0, 1.0, 0])
    rig.run(8)
    # The fourth tick comes late and at once, the next ones where the schedule always had them.
    assert rig.begun == [1, 2, 3, 6.5, 7, 8, 9, 10, 11]
    assert rig.loop.skipped == 2
    assert rig.loop.worst_ns == 2.5 * rig.period
    assert sum(rig.loop.late) == len(rig.begun)


def test_a_tick_decides_by_the_time_at_its_begin_however_long_it_takes():
    rig = Rig(slow=[0.5] * 10)
    rig.run(10)
    told = [tick.now_ns for tick, _ in rig.silent.recorded]
    assert told == [ns(100.0) + round(b * rig.period) for b in rig.begun]


def test_the_order_is_tick_replies_state_record_heartbeat():
    rig = Rig()
    rig.loop.turn(0)
    assert rig.silent.order == ["receive", "reply", "publish", "record", "beat"]


def test_above_250_hz_every_second_state_is_told():
    robot = load("sim")
    data = json.loads(robotd.descriptor.dump(robot))
    data["timing"]["servo_hz"] = 500.0
    rig = Rig(robotd.descriptor.parse(json.dumps(data)))
    for _ in range(10):
        rig.loop.turn(0)
    assert len(rig.silent.published) == 5 and len(rig.silent.recorded) == 10


def test_garbage_is_collected_only_while_nothing_is_commanded(collector):
    rig = Rig(slow=[2000] * 3 + [0.01] * 100)
    rig.run(3)
    assert collector.calls[:3] == ["collect", "freeze", "disable"]
    assert collector.calls[-2:] == ["unfreeze", "enable"]
    assert collector.calls.count("collect") > 1
    armed = Rig()
    armed.cell.arm_it()
    armed.clock.sleep_until_ns(armed.cell.clock.now_ns())
    collector.calls.clear()
    for _ in range(5):
        armed.clock.advance(armed.period)
        armed.loop.turn(0)
    assert armed.daemon.machine.state is State.ARMED and collector.calls == []


def test_the_record_is_frozen_once_per_stop():
    rig = Rig()
    rig.loop.turn(0)
    rig.daemon.stop("first")
    for _ in range(5):
        rig.loop.turn(0)
    rig.daemon.stop("harder", State.ESTOP)  # of the same number
    for _ in range(5):
        rig.loop.turn(0)
    assert rig.silent.frozen == ["first"]
    rig.daemon.machine.reset(1)
    rig.daemon.stop("second")
    rig.loop.turn(0)
    assert rig.silent.frozen == ["first", "second"]


def test_a_heartbeat_from_the_future_is_over_like_any_other():
    rig = Rig(watched=True)
    rig.silent.watch_ns = 2**62
    rig.loop.turn(0)
    assert rig.daemon.watcher_ns == rig.cell.clock.now_ns()


def test_the_end_is_asked_for_and_the_arm_stops_first():
    rig = Rig()
    rig.cell.ready()
    rig.cell.drive(rig.cell.home + 0.1, 0.3)
    rig.clock.sleep_until_ns(rig.cell.clock.now_ns())
    rig.run(2)
    assert rig.daemon.machine.state is State.STOPPED
    assert "SIGTERM" in rig.daemon.machine.stop_reason
    stops = [said["stops"] for _, said in rig.silent.recorded if said["stops"]]
    assert stops == [["robotd was asked to end: SIGTERM"]]  # it can be replayed
    assert rig.cell.arm.stops[-1][1] == "controlled"


# ---- how it begins -------------------------------------------------------------------------------


def test_tighter_limits_make_another_robot_and_looser_ones_none(tmp_path):
    robot, path = load("sim"), tmp_path / "limits.json"
    path.write_text('{"tcp_v_max_m_s": 0.1}')
    found = robotd.tightened(robot, path)
    assert found.limits.tcp_v_max_m_s == 0.1 and found.hash != robot.hash
    for bad in ('{"tcp_v_max_m_s": 0.5}', '{"tcp_v_max_m_s": 0}', '{"speed": 1}', "[]", "{"):
        path.write_text(bad)
        with pytest.raises(UserError):
            robotd.tightened(robot, path)


def test_a_robot_that_needs_an_address_says_so():
    with pytest.raises(UserError, match="--driver-address"):
        robotd.driver_of(load("franka"), None)


def test_robotd_imports_nothing_heavy():
    code = (
        "import sys, real_robot.robotd, real_robot.watch, real_robot.drivers.sim;"
        "print([m for m in ('torch', 'scipy', 'matplotlib', 'mujoco', 'gymnasium')"
        " if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout == "[]\n", found


# ---- processes -----------------------------------------------------------------------------------


@pytest.fixture
def cell(tmp_path):
    found = Cell(tmp_path)
    yield found
    found.close()


def incident(cell):
    def there():
        folder = cell.folder / "incidents"
        return [p for p in folder.iterdir() if not p.name.startswith(".")]

    cell.wait(there)
    return read(there()[0])


def test_a_commander_that_is_killed_trips_the_watchdog_and_the_record_says_how(cell):
    cell.start("watch", "robotd")
    cell.arm()
    cell.start("policy")
    cell.wait(lambda: cell.state() == "active")
    cell.attend(0.5)
    assert cell.state() == "active"
    cell.processes["policy"].kill()
    cell.wait(lambda: cell.state() == "stopped")
    # By robotd's own record: how long after the last command it was, and that all came to rest.
    found = incident(cell)
    assert found.lost == ()
    kept = found.ticks[-1].now_ns - found.ticks[0].now_ns
    assert kept < ns(14)
    commands = [t.now_ns for t in found.ticks if any(b"command" in raw for _, raw in t.inbox)]
    tripped = next(t.now_ns for t in found.ticks if t.state in (State.STOPPING, State.STOPPED))
    limit = ns(load("sim").timing.command_timeout_s)
    assert limit < tripped - commands[-1] < limit + ns(0.015) + ns(0.05)  # and this machine's slack
    assert Counter(t.state for t in found.ticks)[State.STOPPING] > 5  # braked, did not just end
    assert not found.ticks[-1].setpoint.v.any()
    # Run again from the last snapshot, every tick decides what it decided.
    begin = found.snapshots[-1]
    ticks = [t for t in found.ticks if t.number > begin.after]
    again = rerun(begin.daemon, ticks)
    assert [difference(a, b) for a, b in zip(ticks, again, strict=True)] == [""] * len(ticks)

    stop_id = cell.operator.state(5)["stop_id"]
    assert "acknowledged" in cell.ask("reset", stop_id=stop_id + 1)["why"]
    assert cell.state() == "stopped"
    assert cell.ask("reset", stop_id=stop_id)["ok"]
    cell.arm()
    cell.attend(0.2)
    assert cell.state() == "armed"  # and nothing moves by itself

    # Asked to end, it leaves the arm at rest and says goodbye.
    cell.processes["robotd"].send_signal(signal.SIGTERM)
    assert cell.processes["robotd"].wait(10) == 0
    assert cell.lines("stops") == ["controlled"] * 2
    time.sleep(2 * LIMIT_S)
    assert cell.lines("emergency") == []
    reasons = [read(p).ticks[-1].stop_reason for p in sorted((cell.folder / "incidents").iterdir())]
    assert "watchdog" in reasons[0] and "asked to end" in reasons[1]
    assert not (cell.folder / "heartbeats.ring").exists()


def test_a_vendors_library_that_breaks_ends_robotd_with_every_stop_there_is(cell):
    cell.start("watch", "robotd")
    (cell.folder / "break").touch()
    assert cell.processes["robotd"].wait(10) == 1
    assert "a vendor's library broke" in cell.log("robotd")
    assert cell.lines("stops") == ["protective"]
    cell.wait(lambda: cell.lines("emergency"))
    assert incident(cell).ticks  # as many as there were


def test_what_keeps_robotd_from_beginning_is_one_clear_message(cell):
    cell.start("robotd")
    with pytest.raises(UserError, match="runs already"):
        serve(cell)
    taken = socket.create_server(("127.0.0.1", 0))
    with pytest.raises(UserError, match="cannot listen"):
        serve(cell, heartbeat=cell.folder / "h2", bind=f"tcp://127.0.0.1:{taken.getsockname()[1]}")
    taken.close()
    (cell.folder / "keys" / "robotd.key").chmod(0o644)
    with pytest.raises(UserError, match="others can read"):
        serve(cell, heartbeat=cell.folder / "h3")


def serve(cell, **options):
    from real_robot.clock import MonotonicClock
    from real_robot.drivers.arithmetic import ArithmeticArm

    robot = load("sim")
    given = {
        "bind": "tcp://127.0.0.1:0",
        "keys": cell.folder / "keys",
        "record": cell.folder / "incidents",
        "heartbeat": cell.folder / "heartbeats",
    }
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        robotd.serve(ArithmeticArm(robot, MonotonicClock()), robotd.Options(**{**given, **options}))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_a_robotd_whose_parent_is_gone_ends():
    assert robotd._end([], os.getppid()) == ""
    assert "gone" in robotd._end([], -1)
