"""From data to a policy on a robot, by the commands that a person types."""

from __future__ import annotations

import json

import pytest

from robo_offline.cli import main

ROBOT = ("env=robot/rehearsal", "env.horizon=6")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deploy")
    patch = pytest.MonkeyPatch()
    patch.setenv("MINARI_DATASETS_PATH", str(folder / "minari"))
    patch.setenv("ROBO_OFFLINE_CACHE", str(folder / "cache"))
    run = folder / "run"
    # The reach is all around: every episode that is played succeeds at once.
    easy = (*ROBOT, "env.task.near_m=2.0")
    data = ("policy=random", "episodes=40", "seed=0", "name=reach/easy")
    assert main(["collect", *easy, *data]) == 0
    short = ["phase=offline", "phase.offline.steps=20", "phase.offline.evaluate_every=0"]
    small = ["algo.hidden=[8]", "evaluation.episodes=1", "evaluation.video_episodes=0"]
    knobs = ["algo=bc", "dataset=reach/easy-v0", f"run_dir={run}", *short, *small]
    assert main(["train", *ROBOT, *knobs]) == 0
    assert main(["export", str(run), "--to", str(folder / "bundle")]) == 0
    yield folder / "bundle"
    patch.undo()


def deploy(bundle, tmp_path, *arguments, code=0):
    assert main(["deploy", str(bundle), "--out", str(tmp_path), *arguments]) == code
    reports = sorted(tmp_path.glob("*.json"))
    return json.loads(reports[-1].read_text()) if reports else None


def test_a_shadow_is_compared_and_reported(bundle, tmp_path):
    report = deploy(bundle, tmp_path, *ROBOT, "--episodes", "2")
    assert report["stage"] == "shadow" and report["episodes"] == 2
    assert report["latency_ms"]["p50"] > 0 and report["tick_late_ms"]


def test_a_full_deployment_wants_a_gate_and_then_acts(bundle, tmp_path, capsys):
    full = (*ROBOT, "env.task.near_m=2.0", "--stage", "full", "--episodes", "2")
    assert deploy(bundle, tmp_path, *full, code=2) is None
    assert "calibrate" in capsys.readouterr().err
    report = deploy(bundle, tmp_path, *full, "--calibrate", "reach/easy-v0", "--alpha", "0.1")
    assert report["success"][0] == 1.0 and not report["stops"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("env.rate_hz=25", "rate_hz"),
        ("env.keys=[dq,tool,gripper,goal]", "name"),
        ("env.actions.step_m=0.05", "scale"),
        ("env.actions.turns=true", "action"),
        ("env=gymnasium", "no robot"),
    ],
)
def test_a_robot_that_is_set_up_in_another_way_is_refused(bundle, tmp_path, capsys, override, said):
    others = ROBOT if not override.startswith("env=") else ()
    assert deploy(bundle, tmp_path, *others, override, code=2) is None
    assert said in capsys.readouterr().err


def test_a_bundle_that_is_none_is_refused(tmp_path, capsys):
    assert deploy(tmp_path / "nothing", tmp_path / "out", *ROBOT, code=2) is None
    assert "error:" in capsys.readouterr().err


def test_what_was_deployed_leaves_a_page_and_the_next_data_set(bundle, tmp_path, capsys):
    full = (*ROBOT, "env.task.near_m=2.0", "--stage", "full", "--episodes", "2")
    report = deploy(bundle, tmp_path, *full, "--calibrate", "reach/easy-v0", "--alpha", "0.1")
    told = capsys.readouterr().out
    assert f"data import {tmp_path / '0000'}" in told
    page = (tmp_path / "0000.html").read_text()
    assert "100 %" in page and "Steps by lateness" in page
    command = ["data", "import", str(tmp_path / "0000"), "--to", "reach/deployed-v0", "--json"]
    assert main([*command, "--overwrite"]) == 0
    stored = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert stored["episodes"] == 2 == stored["successes"]
    assert stored["steps"] == sum(o["steps"] for o in report["outcomes"])
    assert stored["environment"]["task"]["near_m"] == 2.0
