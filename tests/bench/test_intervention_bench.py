"""Finetuning with a person's help: what differs between the ways, and what is said of a run."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path

import pytest

from robo_offline import cli
from robo_offline.bench import intervention
from robo_offline.bench.loops import finetune
from robo_offline.config import compose
from robo_offline.errors import UserError

OPTIONS = argparse.Namespace(steps=10, online_steps=30, episodes=2)


def composed(task, way, seed=0):
    return compose(intervention.arguments(task, way, seed, OPTIONS))


def row(phase, step, successes, env_step=None):
    return {
        "phase": phase,
        "step": step,
        "env_step": step if env_step is None else env_step,
        "successes": successes,
        "episodes": 40,
    }


def episode(env_step, **changes):
    known = {
        "env_step": env_step,
        "steps": 20,
        "success": True,
        "intervention": 0.25,
        "stop": "",
        "rate_hz": 19.98,
        "late": 1,
        "latest_ms": 12.0,
        "seconds": 1.0,
        "reset_s": 2.0,
    }
    return known | changes


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data"))
    monkeypatch.setenv("ROBO_OFFLINE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("task", intervention.TASKS)
def test_with_and_without_a_person_differ_in_the_person_alone(task):
    helped, alone = composed(task, "ours"), composed(task, "no_interventions")
    assert helped.env.person._target_.endswith("Intervener") and alone.env.person is None
    helped.env.person = None
    assert helped == alone


@pytest.mark.parametrize("task", intervention.TASKS)
def test_from_scratch_is_the_same_learner_without_data_and_without_a_person(task):
    scratch, alone = composed(task, "scratch"), composed(task, "no_interventions")
    assert scratch.dataset == "" and scratch.env.person is None
    assert "offline" not in scratch.phase and scratch.phase.online.random_steps > 0
    for cfg in (scratch, alone):
        cfg.algo.data_range = False
    assert scratch.algo == alone.algo and scratch.env == alone.env


def test_demonstrations_come_from_the_rehearsal_of_the_task_that_is_played():
    for task in intervention.TASKS.values():
        rehearsed = compose(task.demonstrations("a/b"), config="collect").env
        played = compose([f"env={task.cell}", f"env.horizon={task.horizon}"]).env
        for knob in ("task", "actions", "keys", "rate_hz", "horizon"):
            assert rehearsed[knob] == played[knob], knob


def test_a_run_is_told_in_steps_and_minutes_of_the_robot():
    rows = [row("offline", 800, 20, 0), row("online", 40, 30), row("online", 80, 33)]
    episodes = [episode(20 * (i + 1)) for i in range(4)]
    told = intervention.told(rows, episodes)
    assert [point["step"] for point in told["curve"]] == [0, 40, 80]
    assert [point["minutes"] for point in told["curve"]] == [0.0, 0.1, 0.2]
    assert told["final"][0] == 82.5 and told["final"][1] < 82.5 < told["final"][2]
    assert told["steps_to_80"] == 80 and told["robot_minutes"] == 0.2
    assert told["late_share"] == 0.05 and told["rate_hz"][1] == 19.98


def test_a_run_that_never_arrives_says_so_and_has_no_mean_with_others():
    rows, episodes = [row("online", 40, 10)], [episode(40)]
    never = intervention.told(rows, episodes)
    there = intervention.told([row("online", 40, 40)], episodes)
    assert never["steps_to_80"] is None
    summary = intervention._summary([never, there])
    assert summary["steps_to_80"] is None and summary["steps_to_80_by_seed"] == [None, 40]
    assert summary["final"][0] == 62.5


def test_interventions_are_told_over_time():
    episodes = [episode(20 * (i + 1), intervention=1.0 if i < 10 else 0.0) for i in range(20)]
    told = intervention.told([row("online", 400, 40)], episodes)["helped"]
    assert [part["intervention"] for part in told] == [1.0, 0.0]
    assert [part["minutes"] for part in told] == [0.5, 1.0]


def test_what_the_policy_did_and_what_the_machine_did_stop_the_arm_under_different_names():
    episodes = [episode(20, stop="contact: 43 N, 0.2 Nm"), episode(40, stop="watchdog: no command")]
    evaluated = {
        "env_step": 40,
        "evaluation": True,
        "success": False,
        "stop": "contact: 41 N, 1 Nm",
    }
    told = intervention.told([row("online", 40, 39)], [*episodes, evaluated])
    assert told["stops"] == {"contact": 1, "watchdog": 1} and told["episodes"] == 2
    assert told["stops_in_evaluations"] == {"contact": 1}
    assert intervention._summary([told, told])["stops"] == {"contact": 2, "watchdog": 2}


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """The benchmark with no robot: cells and trainings are noted, and write what they would."""
    began: list[str] = []

    @contextlib.contextmanager
    def cell(folder, scene):
        began.append(f"cell {scene}")
        yield ["env.address=tcp://127.0.0.1:1"]

    def train(directory, overrides):
        began.append(directory.name)
        directory.mkdir(parents=True, exist_ok=True)
        if "fails" in began:
            began.remove("fails")
            raise UserError("the cell has ended")
        rows = [row("online", 30, 36)]
        (directory / "evaluations.jsonl").write_text("\n".join(map(json.dumps, rows)))
        (directory / finetune.EPISODES).write_text(json.dumps(episode(30)) + "\n")
        (directory / "summary.json").write_text(json.dumps({"finished": ["online"]}))

    monkeypatch.setattr(intervention, "cell", cell)
    monkeypatch.setattr(intervention, "_train", train)
    monkeypatch.setattr(intervention, "_demonstrated", lambda task, options: None)
    arguments = ["--run", "--no-record", "--tasks", "peg", "--seeds", "0", "--out", str(tmp_path)]

    def run(*more):
        return cli.main(["bench", "intervention", *arguments, *more])

    return began, run, tmp_path


def test_every_way_has_a_cell_of_its_own_and_is_recorded_and_drawn(bench, capsys):
    began, run, out = bench
    assert run() == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found["runs"]["peg"]) == set(intervention.WAYS)
    assert found["summary"]["peg"]["ours"]["final_by_seed"] == [90.0]
    assert began.count("cell peg/0.5,0,0.2") == 3
    assert (out / "intervention-peg.png").read_bytes().startswith(b"\x89PNG")
    assert run() == 0 and len(began) == 6  # nothing is run twice


def test_a_cell_that_ends_is_followed_by_another(bench, capsys):
    began, run, _ = bench
    began.append("fails")
    assert run("--ways", "ours") == 0
    assert began.count("ours-0") == 2 and "another cell" in capsys.readouterr().err


def test_a_folder_with_another_job_is_refused(bench, capsys):
    _, run, _ = bench
    assert run("--ways", "ours") == 0
    assert run("--ways", "ours", "--online-steps", "31") == 2
    assert "another job" in capsys.readouterr().err


@pytest.fixture
def rehearsed(monkeypatch):
    """A training of the benchmark on a rehearsed arm, which keeps everything but its sockets."""
    from real_robot.env import RealRobotEnv

    driven: list[bool] = []
    plain = RealRobotEnv.step

    def step(self, action):
        driven.append(self.person is not None)
        return plain(self, action)

    monkeypatch.setattr(RealRobotEnv, "step", step)
    short = [
        "env=robot/rehearsal",
        "env.horizon=8",
        "algo=td3_sil",
        "algo.hidden=[8]",
        "algo.data_range=false",
        "phase=online",
        "phase.online.warmup=8",
        "phase.online.batch_size=8",
        "phase.online.evaluate_every=16",
        "evaluation.episodes=2",
        "evaluation.workers=1",
        "evaluation.video_episodes=0",
        intervention.PERSON,
    ]
    return short, driven


def test_the_person_lets_go_while_the_policy_is_evaluated_on_the_same_robot(rehearsed, tmp_path):
    short, driven = rehearsed
    run = tmp_path / "run"
    finetune.finetune(run, [*short, "phase.online.steps=32"])
    rows = [json.loads(line) for line in (run / finetune.EPISODES).read_text().splitlines()]
    episodes = [row for row in rows if "evaluation" not in row]
    assert [one["env_step"] for one in episodes] == [8, 16, 24, 32]
    assert [row["env_step"] for row in rows if "evaluation" in row] == [16, 16, 32, 32]
    assert driven == [True] * 16 + [False] * 16 + [True] * 16 + [False] * 16
    assert all(one["rate_hz"] == pytest.approx(20, abs=1) for one in episodes)


def test_a_run_goes_on_in_another_cell_and_forgets_what_was_not_saved(rehearsed, tmp_path):
    short, _ = rehearsed
    run = tmp_path / "run"
    finetune.finetune(run, [*short, "phase.online.steps=16"])
    path = run / finetune.EPISODES
    path.write_text(path.read_text() + json.dumps(episode(99)) + "\n")  # of a run that was killed
    config = Path(run / "config.yaml")
    config.write_text(config.read_text().replace("steps: 16", "steps: 32"))
    finetune.finetune(run, [*short, "phase.online.steps=32"])
    told = [json.loads(line) for line in path.read_text().splitlines()]
    assert [one["env_step"] for one in told if "steps" in one] == [8, 16, 24, 32]


@pytest.mark.slow
def test_over_the_wire_a_stop_is_acknowledged_and_what_was_lived_is_kept(tmp_path):
    """A whole cell: processes, encrypted connections, and time that waits for nobody."""
    import numpy as np

    import envs
    from real_robot.episodes import lived

    kept = tmp_path / "kept"
    with intervention.cell(tmp_path / "cell", "peg/0.5,0,0.2") as where:
        options = dict(one.removeprefix("env.").split("=", 1) for one in where)
        env = envs.make("robot/peg_cell", horizon=40, keep=str(kept), **options)
        with contextlib.closing(env):
            stopped = False
            for seed in range(4):
                env.reset(seed=seed)
                over = False
                while not over:  # presses beside the hole until the limit of force is met
                    *_, terminated, truncated, info = env.step(np.array([0.0, 0.0, -1.0, 0.0]))
                    over = terminated or truncated
                stopped = stopped or bool(info["stop"])
                assert not info["success"]
            assert stopped  # and the episodes after it began all the same
    found = list(lived(kept))
    assert [one.about["seed"] for one in found] == [0, 1, 2, 3]
    assert all(one.about["rate_hz"] > 0 and len(one.joints) > 2 for one in found)
