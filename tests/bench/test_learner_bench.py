"""Cost of the learner: what is counted, what is kept, and what is told beside it."""

from __future__ import annotations

import json
import math
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from robo_offline import cli
from robo_offline.bench import jobs, learner
from robo_offline.bench.loops import ours
from robo_offline.config import compose
from robo_offline.engine.compiled import CompiledLearner
from robo_offline.errors import UserError
from robo_offline.listing import class_of


@pytest.fixture
def few_rows(monkeypatch):
    monkeypatch.setattr(ours, "ROWS", 3000)


def run(capsys, *arguments: str) -> dict:
    assert cli.main(["bench", "learner", "--run", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture
def no_processes(monkeypatch):
    """Give made-up rows in the place of measurements; list what was asked for."""
    asked = []

    def apart(function, name, argument):
        asked.append((function.__name__, name, argument))
        return {"ms_per_update": 1.0, "load": 0.5}

    monkeypatch.setattr(learner, "apart", apart)
    return asked


# -- cost ------------------------------------------------------------------------------------


def test_an_update_costs_time_and_memory_and_its_parameters_are_those_trained(few_rows):
    found = learner.cost_of("iql", 0.05)
    assert 0.1 < found["ms_per_update"] < 2000
    assert 2 < found["peak_mib"] < 200
    critic = 2 * (14 * 256 + 256 + 256 * 256 + 256 + 256 + 1)
    value = 11 * 256 + 256 + 256 * 256 + 256 + 256 + 1
    actor = 11 * 256 + 256 + 256 * 256 + 256 + 256 * 3 + 3 + 3
    assert found["parameters"] == critic + value + actor  # without the target critic
    assert found["load"] >= 0 and found["phase"] == "online"


def test_memory_that_is_held_at_the_peak_alone_counts(few_rows, monkeypatch):
    update, mib = ours.update, 2**20

    def wasteful(*args):
        torch.ones(60 * mib // 4)
        return update(*args)

    monkeypatch.setattr(ours, "update", wasteful)
    assert learner.cost_of("bc", 0.01)["peak_mib"] > 58


def test_an_actor_that_is_due_now_and_then_has_its_share_of_the_cost(few_rows, monkeypatch):
    made = []
    update = ours.update

    def spy(trained, replay, phase="offline"):
        metrics = update(trained, replay, phase)
        if isinstance(trained.algo, class_of("redq")):
            made.append("actor/loss" in metrics)
        return metrics

    monkeypatch.setattr(ours, "update", spy)
    narrow = ours.learner_for
    monkeypatch.setattr(
        ours,
        "learner_for",
        lambda name, replay, **knobs: narrow(name, replay, **{"hidden": (8,), **knobs}),
    )
    learner.cost_of("redq", 0.01)
    measured = made[1 + 20 :]
    assert len(measured) >= 5 * 20 and len(measured) % 20 == 0
    assert sum(measured) == len(measured) // 20


# -- compiling -------------------------------------------------------------------------------


@pytest.fixture
def traced(few_rows, monkeypatch, tmp_path):
    """Leave the making of machine code out, which takes most of the time."""
    monkeypatch.setattr(CompiledLearner, "backend", "aot_eager")
    monkeypatch.setenv(learner.CACHE, "")
    return str(tmp_path)


def test_compiled_updates_are_timed_and_nothing_is_compiled_behind_them(traced):
    found = learner.compilation_of("bc", traced)
    assert 0 < found["first_update_seconds"] <= found["all_kinds_seconds"]
    assert found["cpu_seconds"] > 0 and found["ms_per_update"] > 0
    assert found["compiled_again"] == 0 and found["stays_eager"] == []


def test_what_is_compiled_again_is_counted(traced, monkeypatch):
    sizes = chain([256] * 2, [100] * 7, [101] * 7, repeat(102))
    sample = ours.Replay.sample
    monkeypatch.setattr(ours.Replay, "sample", lambda self, _: sample(self, next(sizes)))
    assert learner.compilation_of("bc", traced)["compiled_again"] == 3


def test_a_cache_is_new_for_the_cold_process_and_kept_for_the_warm_one(capsys, no_processes):
    found = run(capsys, "--parts", "compile", "--compiled", "iql,bc")["compile"]["algos"]
    assert list(found) == ["iql", "bc"] and set(found["bc"]) == {"cold", "warm"}
    (_, _, first), (_, _, second), (_, _, third), (_, _, fourth) = no_processes
    assert first == second != third == fourth


# -- overhead and processes ------------------------------------------------------------------


def test_overhead_is_logs_and_checkpoints_and_evaluations_stand_apart():
    where = {"learn": 6.0, "save": 0.2, "log": 0.1, "evaluate": 3.0, "other": 0.7}
    rows = [{"name": n, "seconds": s, "share": s / 10} for n, s in where.items()]
    found = learner.shares({"where": rows, "total": 10.0})
    assert found["log_and_save_percent"] == 3.0 and found["evaluate_percent"] == 30.0
    assert found["percent"] == {n: pytest.approx(10 * s) for n, s in where.items()}
    assert math.fsum(found["percent"].values()) == pytest.approx(100)


def test_the_run_whose_overhead_is_told_has_the_cadence_that_is_shipped(tmp_path):
    made = compose(learner.collecting()[1:], "collect")
    cfg, shipped = compose(learner.training(7000, tmp_path)[1:]), compose()
    assert (cfg.env, cfg.dataset) == (made.env, made.name)
    for phase in ("offline", "online"):
        for name, value in cfg.phase[phase].items():
            assert value == (7000 if name == "steps" else shipped.phase[phase][name])
    assert cfg.logger == shipped.logger and cfg.evaluation.episodes == shipped.evaluation.episodes


def test_the_run_is_made_and_its_timing_read(capsys, monkeypatch):
    calls = []

    def finished(program, **options):
        calls.append(program[3])
        if program[3] == "train":
            cfg = compose(program[4:])
            rows = [{"name": "log", "seconds": 1.0, "share": 0.01}]
            Path(cfg.run_dir).mkdir()
            (Path(cfg.run_dir) / "timing.json").write_text(json.dumps({"where": rows, "total": 9}))
        assert options["check"] and "MINARI_DATASETS_PATH" in options["env"]

    monkeypatch.setattr(learner.subprocess, "run", finished)
    found = run(capsys, "--parts", "overhead")["overhead"]
    assert calls == ["collect", "train"] and found["log_and_save_percent"] == 1.0


def test_two_processes_are_held_against_one_by_both_clocks(capsys, monkeypatch):
    made = []

    class Process(SimpleNamespace):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.ended = True

    def start(loop, name, python):
        made.append(Process(loop=loop, name=name, asked=0, ended=False))
        return made[-1]

    def ask(process, seconds):
        process.asked += 1
        alone = process is made[0] and process.asked % 2
        return {"updates": 100, "seconds": 1.0 if alone else 1.6, "cpu": 1.0 if alone else 1.25}

    monkeypatch.setattr(learner, "start", start)
    monkeypatch.setattr(learner, "ask", ask)
    found = run(capsys, "--parts", "processes")["processes"]
    assert [(p.loop, p.name, p.asked, p.ended) for p in made] == [
        ("ours", "iql", 6, True),
        ("ours", "iql", 3, True),
    ]
    assert found["one_updates_per_second"] == 100.0 and found["two_updates_per_second"] == 125.0
    assert found["times_by_wall"] == 1.25 and found["times_by_own_cpu"] == 1.6
    assert found["cores"] >= 1 and "load" in found


@pytest.mark.parametrize(
    ("listed", "expected"), [("0\n", False), ("0-1\n", True), ("0,64\n", True), (None, False)]
)
def test_hyperthreads_are_told_by_what_the_system_lists(
    capsys, monkeypatch, tmp_path, listed, expected
):
    path = tmp_path / "thread_siblings_list"
    if listed is not None:
        path.write_text(listed)
    monkeypatch.setattr(learner, "SIBLINGS", path)
    assert learner.siblings() == {
        "siblings_of_core_0": listed and listed.strip(),
        "hyperthreads": expected,
    }


# -- what is kept ----------------------------------------------------------------------------


def test_every_algorithm_is_measured_and_found_again(capsys, no_processes, nothing_found):
    found = run(capsys, "--parts", "cost")
    names = list(found["cost"]["algos"])
    assert {"iql", "td3_sil", "rlpd"} <= set(names) and "base" not in names
    assert [(f, n) for f, n, _ in no_processes] == [("cost_of", name) for name in names]
    assert cli.main(["bench", "learner", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
    assert json.loads((nothing_found / "learner.json").read_text())["cost"] == found["cost"]


def test_one_part_or_algorithm_measured_anew_leaves_the_others(capsys, no_processes):
    run(capsys, "--parts", "cost", "--algos", "iql,bc")
    run(capsys, "--parts", "compile", "--compiled", "bc")
    found = run(capsys, "--parts", "cost", "--algos", "awac")
    assert list(found["cost"]["algos"]) == ["awac", "bc", "iql"] and "compile" in found
    trial = run(capsys, "--parts", "cost", "--algos", "cql", "--no-record")
    assert list(trial["cost"]["algos"]) == ["cql"]
    assert list(jobs.found_last("learner")["cost"]["algos"]) == ["awac", "bc", "iql"]


def test_without_a_measurement_the_command_that_measures_is_named(capsys):
    assert cli.main(["bench", "learner"]) == 2
    assert "robo-offline bench learner --run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["--parts", "costs"], "cost"),
        (["--parts", "cost", "--algos", "iqk"], "iql"),
        (["--parts", "compile", "--compiled", "td3bc"], "td3_bc"),
    ],
)
def test_a_name_that_is_not_known_is_told_by_the_nearest(capsys, no_processes, arguments, nearest):
    assert cli.main(["bench", "learner", "--run", *arguments]) == 2
    assert f"did you mean {nearest}" in capsys.readouterr().err


def test_a_measurement_in_a_process_of_its_own_comes_back_or_says_what_failed(capsys):
    found = learner.apart(dict_of, "iql", 3)
    assert found == {"name": "iql", "argument": 3} and "iql" in capsys.readouterr().err
    with pytest.raises(UserError, match="no such thing"):
        learner.apart(failing, "iql", 3)


def dict_of(name, argument):
    return {"name": name, "argument": argument}


def failing(name, argument):
    raise UserError("no such thing")
