import signal
import time
from dataclasses import replace

import pytest

from real_robot import watch
from real_robot.clock import ns
from real_robot.descriptor import load
from real_robot.driver import DriverLost
from real_robot.testing.processes import Cell
from real_robot.watch import LIMIT_S, LOOKED_S, REPEATED_S, Guard, Heartbeats
from robo_offline.errors import UserError


class Looked:
    """A guard on time that is counted in looks."""

    def __init__(self):
        self.guard, self.now, self.beats = Guard(), ns(1), 5
        self.look(beat=False)
        self.look()

    def look(self, beat=True, gone=False, passed_s=LOOKED_S):
        self.now += ns(passed_s)
        self.beats += beat
        return self.guard.look(self.now, self.beats, gone)


def test_silence_stops_the_arm_at_the_first_look_after_its_limit():
    seen = Looked()
    looks = 0
    while not seen.look(beat=False):
        looks += 1
    assert looks == LIMIT_S / LOOKED_S


def test_the_stop_is_repeated_until_robotd_beats_again():
    seen = Looked()
    stops = sum(seen.look(beat=False) for _ in range(round(1.0 / LOOKED_S)))
    assert stops == pytest.approx((1.0 - LIMIT_S) / REPEATED_S, abs=1)
    assert not seen.look(beat=True)
    assert sum(seen.look(beat=False) for _ in range(round(LIMIT_S / LOOKED_S))) == 0


def test_a_robotd_that_said_goodbye_or_never_came_is_not_missed():
    seen = Looked()
    assert not any(seen.look(beat=False, gone=True) for _ in range(1000))
    guard = Guard()
    assert not any(guard.look(i * ns(LOOKED_S), 17, False) for i in range(1, 1000))


def test_a_machine_that_stood_still_as_a_whole_is_no_silence_of_robotd():
    seen = Looked()
    assert not seen.look(beat=False, passed_s=60)
    assert not seen.look(beat=True)


def test_one_robotd_at_a_time_has_the_heartbeats(tmp_path):
    first, second = Heartbeats(tmp_path / "h"), Heartbeats(tmp_path / "h")
    assert first.claim() and not second.claim()
    first.beat()
    assert second.beats == 1 and second.pid == first.pid
    first.close()
    assert second.claim()
    second.close()


def test_a_driver_without_a_stop_of_its_own_is_refused(tmp_path):
    with pytest.raises(UserError, match="arithmetic"):
        watch.stopper(replace(load("sim"), driver="arithmetic"), "", tmp_path / "h", print)


# ---- processes -------------------------------------------------------------------------------


@pytest.fixture
def cell(tmp_path):
    found = Cell(tmp_path)
    yield found
    found.close()


def test_a_robotd_that_is_stopped_or_killed_or_hangs_has_its_arm_stopped(cell, monkeypatch):
    cell.start("robotd", "watch")
    cell.watched()

    def silence(how):
        before = len(cell.lines("emergency"))
        begin = time.monotonic_ns()
        how()
        cell.wait(lambda: len(cell.lines("emergency")) >= before + 2)  # and again
        first = int(cell.lines("emergency")[before])
        assert first - begin < ns(0.25)

    assert cell.lines("emergency") == []
    robotd = cell.processes["robotd"]
    silence(lambda: robotd.send_signal(signal.SIGSTOP))
    robotd.send_signal(signal.SIGCONT)
    cell.wait(lambda: "robotd is back" in cell.log("watch"))
    stops = len(cell.lines("emergency"))
    time.sleep(0.2)
    assert len(cell.lines("emergency")) == stops
    silence(robotd.kill)
    cell.restart()
    cell.watched()
    silence((cell.folder / "hang").touch)

    # An arm that has no other stop is let go of.
    def no_way(address):
        raise DriverLost("no second connection")

    monkeypatch.setattr("real_robot.drivers.sim.emergency_stop", no_way)
    said = []
    stop = watch.stopper(load("sim"), "", cell.folder / "heartbeats", said.append)
    stop()
    assert cell.processes["robotd"].wait(10) == -signal.SIGKILL
    stop()  # and no process that has its number now
    assert "killed" in said[0] and "dead already" in said[1]


def test_without_robotwatch_the_arm_stops_and_a_person_has_to_reset_it(cell):
    cell.start("watch", "robotd")
    cell.arm()
    cell.attend(0.4)
    assert cell.state() == "armed"
    cell.processes["watch"].kill()
    cell.wait(lambda: cell.state() == "stopped")
    assert "robotwatch" in cell.operator.state(5)["stop_reason"]
