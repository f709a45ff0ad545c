"""The fault table: what is kept, what is printed, and what the page says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robo_offline import bench, cli
from robo_offline.bench import jobs, robot, robot_throughput
from robo_offline.bench.faults import Fault, Measured, every
from robo_offline.bench.table import replaced

PACKAGE = Path(bench.__file__).parent
PAGE = Path(robot.PAGE)


def good(folder, whole):
    assert folder.is_dir()
    return Measured("100 | of 100" if whole else "2 of 2", True, {"count": 100 if whole else 2})


def bad(folder, whole):
    return Measured("3 got through", False, {"count": 3})


def broken(folder, whole):
    raise OSError("no such device")


@pytest.fixture(autouse=True)
def apart(monkeypatch, tmp_path):
    """Let three faults be all there are, and the page be a copy."""
    known = {
        n: Fault(n, f"inject {n}", "a stop", "0 of them", inject)
        for n, inject in ((1, good), (2, bad), (10, broken))
    }
    monkeypatch.setattr(every, "faults", lambda: known)
    monkeypatch.setattr(robot, "PAGE", tmp_path / "faults.md")
    robot.PAGE.write_text(f"before\n{robot.BEGIN}\nold\n{robot.END}\nafter\n")


def run(*arguments: str) -> int:
    return cli.main(["bench", "robot", "--run", "--parts", "faults", *arguments])


def test_quick_and_whole_forms_stand_beside_each_other_and_the_whole_one_is_told():
    assert run("--faults", "1") == 0
    assert "2 of 2 (quick form)" in robot.PAGE.read_text()
    assert run("--faults", "1", "--whole") == 0
    kept = jobs.found_last("robot")["faults"]["1"]
    assert kept["quick"]["figures"] == {"count": 2} and kept["whole"]["figures"] == {"count": 100}
    text = robot.PAGE.read_text()
    assert "| 1 | inject 1 | a stop | 0 of them | 100 \\| of 100 | yes |" in text
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text


def test_a_broken_bound_and_an_injection_that_raises_are_recorded_and_refused(capsys):
    assert run() == 2
    said = capsys.readouterr().err
    assert "bounds were not kept: 2, 10" in said and "OSError: no such device" in said
    rows = jobs.found_last("robot")["faults"]
    assert list(rows) == ["1", "2", "10"]
    assert [row["quick"]["held"] for row in rows.values()] == [True, False, False]
    assert rows["10"]["quick"]["measured"] == "not injected: OSError"


def test_what_was_found_last_is_printed_as_a_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert run("--faults", "1") == 0
    capsys.readouterr()
    assert cli.main(["bench", "robot"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "2 of 2  (quick)" in "\n".join(lines)
    assert json.loads(lines[-1])["faults"]["1"]["quick"]["held"]


def test_a_trial_leaves_what_was_found_and_the_page_alone():
    assert run("--faults", "1", "--no-record") == 0
    assert jobs.found_last("robot") == {} and "old" in robot.PAGE.read_text()


def test_an_unknown_fault_is_told_by_the_nearest_one(capsys):
    assert run("--faults", "1,11") == 2
    assert "there is no fault '11'" in capsys.readouterr().err


def test_the_page_says_what_was_found_last(monkeypatch):
    monkeypatch.setattr(jobs, "BENCH", PACKAGE)
    text = PAGE.read_text()
    table = robot.page(jobs.found_last("robot"))
    assert replaced(text, table, PAGE, robot.BEGIN, robot.END) == text, "run `bench robot --run`"


def test_steps_are_counted_through_a_cell_and_in_one_process(tmp_path):
    pytest.importorskip("mujoco")
    found = robot_throughput.throughput(tmp_path, 1.0)
    assert 10 < found["in_process_steps_s"] <= 22
    assert 0 < found["robotd_steps_s"] <= 22  # a machine that is busy may stop the arm
    lost = 100 * (1 - found["robotd_steps_s"] / found["in_process_steps_s"])
    assert found["loss_percent"] == pytest.approx(lost, abs=0.1)
