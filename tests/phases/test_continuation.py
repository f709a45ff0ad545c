"""A run that was stopped and resumed is the run that was never stopped, bit for bit."""

from __future__ import annotations

import json
from functools import cache, partial
from pathlib import Path

import pytest
import torch
import toy

from robo_offline.algos.iql import IQL
from robo_offline.algos.rlpd import RLPD
from robo_offline.algos.td7 import TD7
from robo_offline.checkpoint import Checkpoints
from robo_offline.phases.run import Run
from robo_offline.policies.guard import Guard
from robo_offline.policies.select import Expansion, JumpStart
from robo_offline.replay.samplers import Prioritized

CLOCKS = ("time", "rate/")  # what depends on how fast the machine is


class Stopped(BaseException):
    """The process ends here."""


KINDS = {
    "iql": {"cls": IQL, "fraction": -1.0, "offline_decay": ("actor",), "dropout": 0.1},
    "chunked_rlpd": {"cls": RLPD, "num_critics": 3, "actor_period": 3, "chunk": 3},
    "guarded": {"cls": IQL, "acting": partial(Guard, share=0.5, level=0.5, window=4, budget=2)},
    "jump_started": {"cls": IQL, "acting": partial(JumpStart, 12, 3, 2, 0.5, -1.0)},
    "expanded": {"cls": IQL, "acting": partial(Expansion, 10.0)},
    "prioritised_td7": {
        "cls": TD7,
        "embedding": 8,
        "sync_period": 4,
        "fraction": -1.0,
        "sampler": Prioritized(alpha=0.4, minimum=1e-3),
    },
}


def start(directory: Path, kind: str, second_process: bool) -> tuple[Run, dict]:
    values = dict(KINDS[kind])
    if "acting" in values:
        values["acting"] = values["acting"]()
    run = toy.run(directory, data=toy.dataset(6), capacity=90, episodes=2, **values)
    online = toy.online(
        steps=160,
        utd=0.3,
        warmup=25,
        random_steps=40,
        second_process=second_process,
        batch_size=8,
        save_every=30,
    )
    return run, {"offline": toy.offline(steps=30, batch_size=8), "online": online}


def stopped(directory: Path, kind: str, second_process: bool, after: int, monkeypatch) -> None:
    """Begin or continue a run and stop it right after its n-th save."""
    save, count = Checkpoints.save, 0

    def spy(*args, **kwargs):
        nonlocal count
        result = save(*args, **kwargs)
        count += 1
        if count == after:
            raise Stopped
        return result

    run, phases = start(directory, kind, second_process)
    if run.checkpoints.exist():
        run.resume()
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Checkpoints, "save", spy)
        run.execute(phases)
    run.close()


def finished(directory: Path, kind: str, second_process: bool) -> Run:
    run, phases = start(directory, kind, second_process)
    if run.checkpoints.exist():
        run.resume()
    run.execute(phases)
    run.close()
    return run


def rows(path: Path) -> list[dict]:
    parsed = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(CLOCKS)} for row in parsed]


def assert_same(one: Run, other: Run) -> None:
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        assert rows(one.directory / name) == rows(other.directory / name), name
    tensors, others = one.learner.state_dict(), other.learner.state_dict()
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[key], others[key]) for key in tensors)
    ours, theirs = one.replay.online, other.replay.online
    assert list(ours.episodes) == list(theirs.episodes) and ours.total == theirs.total
    assert (ours.gather(ours.starts) == theirs.gather(theirs.starts)).all()
    priorities, others = one.replay.state_dict(), other.replay.state_dict()
    assert priorities.keys() == others.keys()
    assert all(torch.equal(priorities[key], others[key]) for key in priorities)
    a, b = vars(one.counters), vars(other.counters)
    assert {k: v for k, v in a.items() if k != "seconds"} == {
        k: v for k, v in b.items() if k != "seconds"
    }
    summaries = [json.loads((r.directory / "summary.json").read_text()) for r in (one, other)]
    assert summaries[0]["last"] == summaries[1]["last"]
    best = [r.checkpoints.load("best")[0] for r in (one, other)]
    assert all(torch.equal(best[0][key], best[1][key]) for key in best[0])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Give the run of a kind that was never stopped, and how many checkpoints it wrote."""
    return cache(partial(unbroken, tmp_path_factory))


def unbroken(tmp_path_factory, kind: str) -> tuple[Run, int]:
    count, save = 0, Checkpoints.save

    def spy(*args, **kwargs):
        nonlocal count
        count += 1
        return save(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", spy)
        run = finished(tmp_path_factory.mktemp("whole") / "run", kind, False)
    return run, count


@pytest.mark.parametrize("kind", KINDS)
def test_the_ring_overflows_and_the_warmup_ends_so_that_everything_is_in_play(whole, kind):
    run, saves = whole(kind)
    assert run.replay.online.total > len(run.replay.online.episodes) > 0
    assert run.counters.update > 30 and saves > 8


def test_priorities_of_both_replays_are_in_play(whole):
    found = whole("prioritised_td7")[0].replay.state_dict()
    assert found.keys() == {"offline", "online"}
    assert all(len(priority.unique()) > len(priority) // 4 for priority in found.values())


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_after_any_save_and_resumed_it_is_the_same_run(whole, tmp_path, monkeypatch, kind):
    run, saves = whole(kind)
    for after in range(2, saves, 6):
        directory = tmp_path / f"{after}"
        stopped(directory, kind, False, after, monkeypatch)
        assert_same(run, finished(directory, kind, False))


def test_stopped_again_and_again_it_is_the_same_run(whole, tmp_path, monkeypatch):
    for after in (3, 1, 2, 1):
        stopped(tmp_path / "run", "iql", False, after, monkeypatch)
    assert_same(whole("iql")[0], finished(tmp_path / "run", "iql", False))


def test_stopped_between_two_saves_it_is_the_same_run(whole, tmp_path):
    run, phases = start(tmp_path / "run", "iql", False)
    update, count = run.learner.update, 0

    def spy(batch, frozen=()):
        nonlocal count
        count += 1
        if count == 47:
            raise Stopped
        return update(batch, frozen)

    run.learner.update = spy
    with pytest.raises(Stopped):
        run.execute(phases)
    run.close()
    assert_same(whole("iql")[0], finished(tmp_path / "run", "iql", False))


def test_with_a_second_process_a_resumed_run_is_the_same_run_too(tmp_path, monkeypatch):
    never_stopped = finished(tmp_path / "whole", "iql", True)
    stopped(tmp_path / "run", "iql", True, 9, monkeypatch)
    assert_same(never_stopped, finished(tmp_path / "run", "iql", True))


def test_two_runs_of_one_seed_are_the_same_run(whole, tmp_path):
    torch.rand(5)
    assert_same(whole("iql")[0], finished(tmp_path / "again", "iql", False))


def test_another_seed_is_another_run(tmp_path):
    runs = [toy.run(tmp_path / f"{seed}", seed=seed, data=toy.dataset(2)) for seed in (0, 1)]
    for run in runs:
        run.execute({"offline": toy.offline(steps=10)})
    first, second = (run.learner.state_dict() for run in runs)
    assert not torch.equal(first["algo.actor.net.0.weight"], second["algo.actor.net.0.weight"])
