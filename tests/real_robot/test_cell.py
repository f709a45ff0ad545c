import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from real_robot import cell, cli, memory
from real_robot.descriptor import dump, load
from real_robot.record import read
from robo_offline.errors import UserError

pytest.importorskip("mujoco")
NAME = f"celltest{os.getpid()}"


class Up:
    """`robo-offline robot up`, as somebody in another terminal."""

    def __init__(self, folder, *arguments):
        robot = folder / "robot.json"
        robot.write_text(dump(replace(load("sim"), name=NAME)))
        self.out, self.folder = folder / "out", folder
        command = [sys.executable, "-m", "robo_offline.cli", "robot", "up", f"robot={robot}"]
        command += [f"keys={folder / 'keys'}", f"out={folder / 'run'}", "scene=capsules"]
        command += ["bind=tcp://127.0.0.1:0", "--plain", *arguments]
        with self.out.open("w") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=out)

    def said(self):
        return self.out.read_text()

    def wait(self, true, seconds=60):
        until = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < until, self.said()
            time.sleep(0.02)

    def ready(self):
        self.wait(lambda: re.search(r"^\S+ idle", self.said(), re.M))
        return self

    def type(self, pressed):
        self.process.stdin.write(pressed)
        self.process.stdin.flush()

    def children(self):
        return [int(pid) for pid in re.findall(r"process (\d+)", self.said())]

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.wait(lambda: not any(map(alive, self.children())))
        for left in memory.place("x").parent.glob(f"*{NAME}*"):  # of a cell that was killed
            left.unlink()


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def up(tmp_path):
    found = Up(tmp_path)
    yield found
    found.close()


def test_a_cell_runs_and_is_stopped_from_another_terminal_without_leftovers(up, capsys):
    up.ready()
    assert len(up.children()) == 3 and all(map(alive, up.children()))
    with pytest.raises(UserError, match="runs already"):
        cell.up(cell.Plan(robot=str(up.folder / "robot.json"), keys=up.folder / "keys"))
    up.type(b"a")
    up.wait(lambda: "armed" in up.said())
    assert cli.main(["status", f"robot={NAME}"]) == 0
    assert f"{NAME}: armed" in capsys.readouterr().out
    assert cli.main(["stop", f"robot={NAME}"]) == 0
    assert up.process.wait(10) == 0
    assert not any(map(alive, up.children()))
    told = capsys.readouterr().out
    assert "at rest (stopped)" in told and "has ended" in told
    (incident,) = (up.folder / "run" / "incidents").iterdir()
    assert "asked for by operator" in read(incident).ticks[-1].stop_reason
    assert "silent" not in (up.folder / "run" / "robotwatch.log").read_text()
    with pytest.raises(UserError, match="no cell"):
        cell.running(NAME)
    assert not list(memory.place("x").parent.glob(f"*{NAME}*"))


def test_a_cell_that_is_killed_leaves_no_orphan(up):
    up.ready()
    children = up.children()
    up.process.send_signal(signal.SIGKILL)
    up.wait(lambda: not any(map(alive, children)), 20)


def test_a_part_that_dies_ends_the_cell_with_one_message_and_its_log(up):
    up.ready()
    sim, watch, robotd = up.children()
    os.kill(sim, signal.SIGKILL)
    os.kill(watch, signal.SIGKILL)
    assert up.process.wait(20) == 2
    assert re.search(r"error: \w+ has ended\n  where: \S+\.log", up.said())
    assert not alive(robotd)


def test_what_cannot_begin_says_why_at_once(tmp_path):
    limits = tmp_path / "limits.json"
    limits.write_text('{"tcp_v_max_m_s": 1.5}')
    up = Up(tmp_path, f"limits={limits}")
    assert up.process.wait(30) == 2
    assert "can only be tightened" in up.said()
    up.close()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["upp"], "did you mean up"),
        (["up", "robt=sim"], "did you mean robot="),
        (["up", "scene=kitchen"], "capsules"),
        (["stop", "robot=nowhere"], "no cell is running"),
    ],
)
def test_a_slip_of_the_fingers_is_told_what_was_meant(arguments, expected):
    with pytest.raises(UserError, match=expected):
        cli.main(arguments)


def test_keys_are_made_and_revoked_from_the_command_line(tmp_path, capsys):
    folder = tmp_path / "keys"
    assert cli.main(["keys", "new", "--role", "viewer", "--name", "tv", "--to", str(folder)]) == 0
    assert "tv.key" in capsys.readouterr().out and (folder / "tv.key").exists()
    assert cli.main(["keys", "revoke", "tv", "--in", str(folder)]) == 0
    assert not (folder / "tv.key").exists()
