import io
import os
import subprocess
import sys
import time

import pytest
from rich.console import Console

from real_robot import screen
from real_robot.console import Operator
from real_robot.loop import LATE_NS
from real_robot.telling import published
from real_robot.testing.processes import Cell
from real_robot.testing.still import Cell as Rehearsal
from real_robot.testing.terminal import Terminal

# ---- what is shown -------------------------------------------------------------------------------


def told(cell, **loop):
    tick = cell.tick()
    usual = {
        "hz": 250.0,
        "skipped": 3,
        "worst_ns": 1_500_000,
        "late": [5] + [0] * len(LATE_NS),
        "late_ns": LATE_NS,
        "holder": "policy",
        "interventions": [[tick.now_ns, "policy", 1 << 12 | 1 << 14]],
        "refused": {"refused a key": 2},
        "records": {"records": 1},
        "operator_age_ns": 10**7,
        "watcher_age_ns": 10**7,
        "state_age_ns": 10**6,
    }
    return published(cell.daemon, tick) | {"loop": usual | loop}


def text(view):
    page = Console(width=120, record=True, file=io.StringIO())
    page.print(screen.drawn(view))
    return page.export_text()


def test_the_screen_says_who_commands_what_was_decided_and_why_it_stopped():
    cell = Rehearsal()
    cell.ready()
    cell.send(cell.home + 2.0)
    view = screen.View().next(told(cell), "arm: done")
    shown = text(view)
    for expected in ("ACTIVE", "policy", "accepted 1", "step, box", "refused a key 2", "1.50 ms"):
        assert expected in shown
    cell.daemon.stop("watchdog: no command")
    shown = text(view.next(told(cell), ""))
    assert "STOPPING" in shown and "stop 1: watchdog: no command" in shown


def test_a_robotd_that_is_silent_is_shown_before_all_else():
    cell = Rehearsal()
    assert "waiting for robotd" in text(screen.View())
    view = screen.View().next(told(cell), "")
    assert "NO STATE" not in text(view)
    old = screen.replace(view, seen_s=time.monotonic() - 1)
    assert "NO STATE FROM ROBOTD" in text(old)
    assert "no state from robotd" in screen.line(old)


def test_the_rate_is_measured_by_the_robots_own_stamps():
    view = screen.View()
    cell = Rehearsal()
    for _ in range(300):
        view = view.next(told(cell), "")
    assert view.rate_hz == pytest.approx(250)


# ---- what keys do --------------------------------------------------------------------------------


class Line:
    """A client that answers at once, or not at all."""

    def __init__(self):
        self.asked, self.there = [], True

    def request(self, message, timeout_s):
        self.asked.append(message)
        if not self.there:
            from real_robot.client import NoAnswer

            raise NoAnswer("nobody")
        return {"ok": True}

    def send(self, message):
        self.asked.append(message)

    def state(self, max_age_s):
        from real_robot.link import StaleState

        raise StaleState("none")


@pytest.fixture
def operator():
    near, far = os.pipe()
    found = Operator(Line(), near)
    found.type = lambda pressed: os.write(far, pressed)
    yield found
    os.close(near)
    os.close(far)


def asked(operator):
    return [m["type"] for m in operator.client.asked if m["type"] != "operator"]


@pytest.mark.parametrize(
    ("pressed", "expected"),
    [
        (b" ", ["stop"]),
        (b"e", ["estop"]),
        (b"E", ["estop"]),
        (b"ar ", ["stop"]),  # before all else
        (b" e", ["estop"]),
        (b"\x1b[A", []),  # an arrow does not arm
        (b"\x1b[A ", ["stop"]),
        (b"a", ["arm"]),
        (b"x", []),
    ],
)
def test_a_key_does_one_thing_and_a_stop_goes_first(operator, pressed, expected):
    operator.type(pressed)
    operator.work()
    assert asked(operator) == expected


def test_a_stop_is_sent_until_it_is_answered(operator):
    operator.client.there = False
    operator.type(b" ")
    for _ in range(3):
        operator.work()
    operator.client.there = True
    operator.work()
    operator.work()
    assert asked(operator) == ["stop"] * 4


def test_only_the_stop_that_was_on_the_screen_is_reset(operator):
    operator.shown_stop_id = 4
    operator.type(b"r")
    operator.work()
    assert operator.client.asked[-1] == {"type": "reset", "stop_id": 4}


def test_a_terminal_that_is_gone_is_nobody_at_the_keys(operator):
    operator.press(b"")
    assert operator.ended.is_set() and "input has ended" in operator.left


# ---- processes -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    found = Cell(tmp_path_factory.mktemp("cell"))
    found.attended = False  # that is the console's
    found.start("watch", "robotd")
    yield found
    found.close()


@pytest.fixture
def cell(running):
    state = running.operator.state(10)
    if state["state"] == "stopped":
        assert running.ask("reset", stop_id=state["stop_id"])["ok"]
    return running


def test_the_console_arms_stops_and_resets_and_its_death_stops_the_arm(cell):
    terminal = Terminal(cell)

    def becomes(state):
        cell.wait(lambda: cell.state() == state and (terminal.read() or True), 20)

    try:
        cell.wait(lambda: b"IDLE" in terminal.read(), 30)
        terminal.type(b"a")
        becomes("armed")
        terminal.type(b" ")
        becomes("stopped")
        cell.wait(lambda: b": asked for by operator" in terminal.read())
        terminal.read()
        time.sleep(0.2)  # what is on the screen has been seen
        terminal.type(b"r")
        becomes("idle")
        terminal.type(b"a")
        becomes("armed")
        time.sleep(1.2)  # longer than without a heartbeat
        assert cell.state() == "armed"
        terminal.process.kill()
        becomes("stopped")
        assert "no operator" in cell.operator.state(5)["stop_reason"]
    finally:
        terminal.close()


def test_the_stop_key_works_while_drawing_hangs(cell):
    terminal = Terminal(cell)
    try:
        cell.wait(lambda: b"IDLE" in terminal.read(), 30)
        terminal.type(b"a")
        cell.wait(lambda: cell.state() == "armed")
        # Nobody takes what is drawn any more: the next screen fills the terminal's buffer.
        cell.wait(lambda: b"ARMED" in terminal.read())
        time.sleep(1.2)
        assert cell.state() == "armed"  # the heartbeat goes on
        terminal.type(b" ")
        cell.wait(lambda: cell.state() == "stopped")
        terminal.type(b"q")
        assert terminal.process.wait(10) == 1  # drawing never came back
    finally:
        terminal.close()


def test_plain_lines_tell_changes_and_q_leaves_with_the_arm_stopped(cell):
    command = [sys.executable, "-m", "real_robot.console", f"tcp://127.0.0.1:{cell.port()}"]
    command += ["--key", str(cell.folder / "keys" / "operator.key"), "--plain"]
    console = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        while b"idle" not in console.stdout.readline():
            assert console.poll() is None
        console.stdin.write(b"a")
        console.stdin.flush()
        while b"armed" not in console.stdout.readline():
            assert console.poll() is None
        console.communicate(b"q", 10)
        assert console.returncode == 0
        cell.wait(lambda: cell.state() == "stopped")
        assert "asked for by operator" in cell.operator.state(5)["stop_reason"]
    finally:
        console.kill()


def test_a_viewers_key_makes_no_operator(cell):
    path = cell.folder / "keys" / "policy.key"
    command = [sys.executable, "-m", "real_robot.console", "--key", str(path)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 2 and "operator's key" in found.stderr
