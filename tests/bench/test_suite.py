"""The suite: who runs where, what is made first, and what is said of it."""

from __future__ import annotations

import json
from argparse import Namespace

import pytest

from robo_offline import cli, listing
from robo_offline.bench import jobs, suite, tasks
from robo_offline.bench.tasks import MEDIUM, TASKS, Collected, Imported, Replayed
from robo_offline.config import compose
from robo_offline.errors import UserError


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Data sets that are there as soon as something made them."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data"))
    monkeypatch.delenv(tasks.REAL_DATA, raising=False)


def run(capsys, *arguments):
    status = cli.main(["bench", "suite", "--run", "--jobs", "1", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


SOME = ("bc", "td7", "cql", "rebrac", "sac", "td3_sil")  # besides those that run everywhere
COMPOSED = [
    (name, method)
    for name in (MEDIUM, "lift_scripted", "hopper_medium_replay", "door_human")
    for method in suite.EVERYWHERE + (SOME if name == MEDIUM else ())
]


@pytest.mark.parametrize(("name", "method"), COMPOSED)
def test_a_task_and_a_method_compose_with_the_phases_that_are_run(name, method):
    overrides, last = suite.arguments(TASKS[name], method)
    cfg = compose(overrides)
    assert cfg.dataset == TASKS[name].dataset and f".{method}." in cfg.algo._target_
    present = [phase for phase, node in cfg.phase.items() if "_target_" in node]
    assert last == present[-1]
    assert ("offline" in present) == (listing.phases(method) != "online")


def test_every_algorithm_has_a_place_on_the_medium_maze():
    for method in listing.without_goals():
        overrides, last = suite.arguments(TASKS[MEDIUM], method)
        assert f"phase={last}" in overrides or "phase=offline_to_online" in overrides


def test_the_five_go_online_rlpd_begins_there_and_cloning_stays_offline():
    medium = TASKS[MEDIUM]
    for method in suite.BRIDGING:
        assert "phase=offline_to_online" in suite.arguments(medium, method)[0]
    assert suite.arguments(medium, "rlpd")[1] == "online"
    assert suite.arguments(medium, "bc")[1] == "offline"


def test_one_environment_of_a_family_does_not_train_on_the_data_of_another():
    cfg = compose(suite.arguments(TASKS["point_maze_large"], "iql")[0])
    assert cfg.env.id == "PointMaze_Large-v3" and "large" in cfg.dataset
    assert cfg.algo.expectile == 0.9 and cfg.replay.reward_shift == -1.0


def test_a_whole_suite_is_run_summarised_and_found_again(capsys, made, trainings, nothing_found):
    status, out, _ = run(capsys, "--tasks", MEDIUM, "--methods", "bc,iql", "--seeds", "0,1")
    assert status == 0
    assert [call[0] for call in trainings] == ["collect", *["train"] * 4]
    found = json.loads(out.splitlines()[-1])["summary"][MEDIUM]
    assert found["bc"]["offline"]["last_by_seed"] == [25.0, 30.0] and "online" not in found["bc"]
    assert found["iql"]["online"]["last"][0] == 50.0 and found["iql"]["online"]["best"][0] == 75.0
    assert json.loads((nothing_found / "suite.json").read_text())["summary"][MEDIUM] == found
    assert cli.main(["bench", "suite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["summary"][MEDIUM] == found


def test_a_second_call_adds_to_what_was_found(capsys, made, trainings):
    run(capsys, "--tasks", MEDIUM, "--methods", "bc", "--seeds", "0")
    run(capsys, "--tasks", MEDIUM, "--methods", "iql", "--seeds", "0")
    assert set(jobs.found_last("suite")["summary"][MEDIUM]) == {"bc", "iql"}


def test_a_task_without_its_real_data_is_skipped_with_a_line(capsys, made, trainings):
    status, _, err = run(capsys, "--tasks", "door_human", "--methods", "bc", "--seeds", "0")
    assert status == 0 and trainings == []
    assert "skipped: door_human" in err and tasks.REAL_DATA in err


def test_real_data_that_is_at_hand_is_imported(made, trainings, tmp_path):
    (tmp_path / "adroit_door_human").mkdir()
    (tmp_path / tasks.DOOR).touch()
    options = Namespace(data=tmp_path, out=tmp_path, jobs=1)
    source = Imported(tasks.DOOR)
    assert source.missing(options) is None
    source.make("suite/door_human-v0", options)
    command = ["data", "import", str(tmp_path / tasks.DOOR), "--to", "suite/door_human-v0"]
    assert trainings == [command]


def test_made_data_has_a_fixed_seed(made, trainings, tmp_path):
    Collected(("env=x",)).make("suite/x-v0", Namespace(out=tmp_path, jobs=2))
    assert "seed=0" in trainings[0] and "name=suite/x-v0" in trainings[0]


def replayed(monkeypatch, returns):
    """A run whose evaluations have these returns, one per stride of 10 steps."""
    calls = []

    def call(arguments, log):
        calls.append(list(arguments))
        if arguments[0] == "train":
            directory = log.with_suffix("")
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "config.yaml").touch()
            reached = sum(call[0] == "train" for call in calls)
            rows = [
                {"return_mean": r, "step": 10 * (n + 1), "final_of_phase": True}
                for n, r in enumerate(returns[:reached])
            ]
            text = "\n".join(map(json.dumps, rows))
            (directory / "evaluations.jsonl").write_text(text)

    monkeypatch.setattr(jobs, "call", call)
    return calls


def test_a_replay_grows_until_its_policy_is_good_enough(monkeypatch, tmp_path):
    calls = replayed(monkeypatch, [1.0, 3.0, 7.0, 9.0])
    source = Replayed("hopper/behaviour", level=5.0, stride=10, limit=100)
    source.make("suite/x-v0", Namespace(out=tmp_path))
    assert [call[-1] for call in calls[:3]] == [f"phase.online.steps={n}" for n in (10, 20, 30)]
    assert calls[1][1].startswith("resume=")
    assert calls[3][:2] == ["data", "keep"] and len(calls) == 4


def test_a_replay_whose_policy_stays_bad_is_refused(monkeypatch, tmp_path):
    replayed(monkeypatch, [1.0] * 5)
    with pytest.raises(UserError, match="did not reach its level in 30 steps"):
        Replayed("hopper/behaviour", level=5.0, stride=10, limit=30).make(
            "suite/x-v0", Namespace(out=tmp_path)
        )
