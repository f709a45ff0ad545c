"""Goals: what is run beside which published figure, and what is said of order and stitching."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from robo_offline import cli
from robo_offline.bench import goals, jobs, mazes
from robo_offline.bench.mazes import PUBLISHED, TASKS, connects
from robo_offline.config import compose

MEDIUM, PIECES = "pointmaze_medium_navigate", "pointmaze_medium_stitch"


def options(*given: str):
    parser = ArgumentParser()
    goals.add_arguments(parser)
    return parser.parse_args(list(given))


@pytest.fixture
def scored(monkeypatch, trainings):
    """Score every training that is made up: a method solves as many tasks as its name is long."""
    made = jobs.call

    def call(arguments, log):
        made(arguments, log)
        if arguments[0] != "evaluate":
            return
        directory, episodes = Path(arguments[1]), int(arguments[3])
        solved = len(directory.name.split("-")[0])
        rows = [{"index": n, "success": n % 5 < solved - 3} for n in range(episodes)]
        folder = directory / "evaluations"
        folder.mkdir()
        (folder / "last-20260101-000000.json").write_text(json.dumps({"per_episode": rows}))

    monkeypatch.setattr(jobs, "call", call)
    monkeypatch.setattr(
        goals,
        "pieces",
        lambda task, episodes: {"trajectories": 9, "connecting": {"1": 0, "2": 4}, "apart": ["1"]},
    )
    return trainings


def run(capsys, *arguments: str) -> dict:
    assert cli.main(["bench", "goals", "--run", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("algo", goals.ALGOS + goals.OTHERS)
def test_every_task_and_method_compose_with_the_authors_values(task, algo):
    cfg = compose(goals.arguments(TASKS[task], algo, options("--steps", "40")))
    assert f".{algo}." in cfg.algo._target_ and cfg.dataset == TASKS[task].dataset(None)
    assert cfg.algo.discount == (0.995 if "giant" in task else 0.99)
    assert cfg.phase.offline.steps == 40 and cfg.phase.offline.evaluate_every == 40
    weights = {"gciql": 0.003, "qrl": 0.0003, "crl": 0.03}
    assert cfg.algo.get("bc") == weights.get(algo)
    value, actor = cfg.goals.value, cfg.goals.actor
    drawn = {"qrl": "random", "crl": "geometric"}
    if algo in drawn:
        assert value[drawn[algo]] == 1.0
    elsewhere = 0.5 if task.endswith("stitch") and algo != "gcbc" else 0.0
    assert (actor.uniform, actor.random) == (1 - elsewhere, elsewhere)


def test_every_task_has_a_published_score_of_every_method():
    assert set(PUBLISHED) == set(TASKS)
    assert all(len(row) == len(goals.ALGOS) for row in PUBLISHED.values())


def test_data_is_made_once_then_methods_are_trained_scored_and_found_again(
    capsys, scored, nothing_found
):
    arguments = ["--algos", "gcbc,gciql", "--seeds", "0,1", "--episodes", "10"]
    found = run(capsys, *arguments, "--data-episodes", "7")
    assert [call[0] for call in scored] == ["collect", *["train", "evaluate"] * 4]
    assert "policy=navigate" in scored[0] and "episodes=7" in scored[0]
    summary = found["summary"][MEDIUM]
    assert summary["algos"]["gcbc"]["by_task"]["1"] == [4, 4]
    assert summary["algos"]["gcbc"]["ours"][0] == 20.0
    assert summary["algos"]["gciql"]["published"] == 53
    assert summary["stitching"]["7"]["success"] == {"gcbc": [4, 4], "gciql": [4, 4]}
    assert run(capsys, *arguments, "--data-episodes", "7")["runs"] == found["runs"]
    assert len([call for call in scored if call[0] == "train"]) == 4  # each of them once
    assert cli.main(["bench", "goals", "--json"]) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["summary"] == found["summary"]


def test_what_differs_from_what_was_published_is_said():
    same = {"updates": 1_000_000, "batch_size": 1024, "hidden": "512,512,512"}
    assert set(goals.differs([{**same, "data_episodes": 1000}])) == {"data"}
    other = {"updates": 20, "batch_size": 1024, "hidden": "256,256", "data_episodes": 10}
    found = goals.differs([{**same, "data_episodes": 10}, other])
    assert found["updates"] == {"here": [20, 1_000_000], "published": 1_000_000}
    assert "batch_size" not in found and found["data"]["here"] == [10]


def test_an_order_is_judged_only_where_intervals_and_published_scores_are_apart():
    ours = {
        "gcbc": [5.0, 2.0, 9.0],
        "hiql": [60.0, 50.0, 70.0],
        "qrl": [3.0, 1.0, 4.0],
        "gcivl": [52.0, 40.0, 60.0],
        "mine": [99.0, 98.0, 100.0],
    }
    theirs = {"gcbc": 9, "hiql": 79, "qrl": 82, "gcivl": 63}
    found = goals.order(ours, theirs)
    assert "hiql > gcbc" in found["same"] and "gcivl > gcbc" in found["same"]
    assert "qrl > gcivl" in found["reversed"]
    assert sorted(found["open"]) == ["hiql > gcivl", "qrl > gcbc"]
    assert not any("hiql" in pair and "qrl" in pair for pairs in found.values() for pair in pairs)


def test_successes_are_counted_by_task():
    rows = [{"index": n, "success": n in (0, 5, 3)} for n in range(10)]
    assert goals.by_task(rows) == {
        "1": [2, 2],
        "2": [0, 2],
        "3": [0, 2],
        "4": [1, 2],
        "5": [0, 2],
    }


def test_a_walk_connects_a_start_with_a_goal_only_in_this_order():
    walk = np.array([[0.0, 0.0], [4.0, 0.0], [8.0, 0.0]])
    start, goal = np.array([0.5, 0.0]), np.array([8.5, 0.0])
    assert connects(walk, start, 1.0, goal, 1.0)
    assert not connects(walk[::-1], start, 1.0, goal, 1.0)
    assert not connects(walk, start, 0.4, goal, 1.0)
    assert not connects(walk, start, 1.0, goal, 0.4)
    assert not connects(walk[:2], start, 1.0, goal, 1.0)


def test_tasks_that_no_trajectory_connects_are_found_in_the_data(monkeypatch):
    pytest.importorskip("ogbench")
    steps = {
        ("observation", "state"): torch.tensor(
            [[0.0, 0.0], [20.0, 20.0], [20.0, 20.0], [0.0, 0.0]]
        ),
        "final": torch.tensor([False, True, False, True]),
    }
    monkeypatch.setattr("robo_offline.datasets.load", lambda name: SimpleNamespace(steps=steps))
    found = mazes.pieces(TASKS[PIECES], 2)  # task 1 leads from (0, 0) to (20, 20)
    assert found["trajectories"] == 2 and found["connecting"]["1"] == 1
    assert found["apart"] == ["2", "3", "4", "5"]
