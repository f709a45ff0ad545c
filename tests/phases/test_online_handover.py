"""The handover: what is taken over, what waits, and a guard around a learner that collapses."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partialmethod

import pytest
import torch
import toy

from robo_offline.algorithm import Loss
from robo_offline.algos.bc import BC, BCConfig
from robo_offline.algos.iql import IQL
from robo_offline.algos.sac import SAC
from robo_offline.errors import UserError
from robo_offline.policies.guard import Guard
from robo_offline.policies.select import Expansion, JumpStart

NOTHING = {"log_every": 0, "evaluate_every": 0, "save_every": 0}


@dataclass
class FallsConfig(BCConfig):
    pass


class Falls(BC):
    """Clones offline, and online unlearns what it knew as fast as it can."""

    Config = FallsConfig

    def schedule(self, step: int, phase: str) -> None:
        self.falling = phase == "online"

    def loss_actor(self, batch) -> Loss:
        if not getattr(self, "falling", False):
            return super().loss_actor(batch)
        action = self.actor.mode(batch["observation"])
        return (action + action.new_tensor([1.0, 1.0])).square().mean(), {}


@pytest.fixture
def shipped(monkeypatch):
    """`create` reads BC's YAML, as no file is made for an algorithm of a test."""
    from robo_offline import config

    values = config.algorithm_values(BC)
    monkeypatch.setattr("robo_offline.config.algorithm_values", lambda cls: values)


def collected(tmp_path, acting=None, utd=1.0) -> tuple[toy.Run, list[dict]]:
    """Clone good demonstrations, then run the learner into the ground."""
    data = toy.dataset(40, noise=0.1)
    run = toy.run(tmp_path, Falls, data=data, episodes=20, acting=acting, lr={"default": 3e-3})
    episodes = []
    add = run.add

    def spy(metrics):
        if "guided" in metrics:
            episodes.append(dict(metrics))
        add(metrics)

    run.add = spy
    online = toy.online(steps=1500, utd=utd, warmup=100, batch_size=32, **NOTHING)
    run.execute({"offline": toy.offline(steps=600, batch_size=64, **NOTHING), "online": online})
    return run, episodes


def successes(episodes) -> float:
    late = episodes[len(episodes) // 2 :]
    return sum(e["success"] for e in late) / len(late)


def test_a_guard_holds_the_collapse_that_would_come_without_it(tmp_path, shipped):
    _, naive = collected(tmp_path / "naive")
    guard = Guard(share=0.2, level=0.7, window=10, budget=4)
    run, guarded = collected(tmp_path / "guarded", guard)
    assert naive[0]["success"] == 1.0 and successes(naive) < 0.25
    assert successes(guarded) > 0.6
    assert run.acting.rollbacks >= 1
    assert sum(e["guided"] for e in guarded) > 0.5 * len(guarded)


def test_a_guard_leaves_a_learner_that_stays_good_alone(tmp_path, shipped):
    guard = Guard(share=0.5, level=0.7, window=10, budget=4)
    run, episodes = collected(tmp_path, guard, utd=0.0)
    assert run.acting.rollbacks == 0
    assert all(e["guided"] == 0 for e in episodes[len(episodes) // 2 :])


def test_updates_go_on_while_the_guide_acts(tmp_path, shipped):
    guard = Guard(share=0.0, level=1.0, window=10, budget=4)
    run, episodes = collected(tmp_path, guard)
    assert all(e["guided"] == 1 for e in episodes)
    assert run.counters.update > 600 + 1000


def test_a_roll_back_restores_the_certified_weights_and_forgets_the_moments(tmp_path):
    acting = JumpStart(horizon=5, stages=3, window=2, tolerance=0.1, minimum=0.0)
    run = toy.run(tmp_path, data=toy.dataset(4), episodes=0, acting=acting)
    run.counters.done.append("offline")
    run.hand_over()
    batch = run.replay.sample(16)
    for _ in range(3):
        run.learner.update(batch)
    run.roll_back()
    for key, value in acting.guide.state_dict().items():
        assert torch.equal(run.learner.algo.state_dict()[key], value), key
    assert all(not optimiser.state for optimiser in run.learner.optimisers.values())
    run.learner.update(batch)  # and the optimisers still work


def waiting(tmp_path, **changes) -> list[dict]:
    """Which modules moved, update by update, over an online phase behind an offline one."""
    run = toy.run(tmp_path, data=toy.dataset(4), episodes=0)
    update, moved = run.learner.update, []

    def spy(batch, frozen=()):
        algo = run.learner.algo
        before = {name: getattr(algo, name).net[0].weight.clone() for name in algo.order}
        metrics = update(batch, frozen)
        row = {n: not torch.equal(before[n], getattr(algo, n).net[0].weight) for n in before}
        rate = run.learner.optimisers["critic"].param_groups[0]["lr"]
        moved.append({"step": run.counters.step, "lr": rate, **row})
        return metrics

    run.learner.update = spy
    values = {"steps": 120, "utd": 1.0, "warmup": 20, "batch_size": 8, **NOTHING, **changes}
    run.execute({"online": toy.online(**values)})
    return moved


def test_the_actor_waits_until_the_critics_have_been_recalibrated(tmp_path):
    moved = waiting(tmp_path, critic_only=50)
    assert all(row["critic"] and row["value"] for row in moved)
    assert all(row["actor"] == (row["step"] >= 70) for row in moved)
    assert any(row["actor"] for row in moved) and not moved[0]["actor"]


def test_rates_rise_from_nothing_where_asked(tmp_path):
    moved = waiting(tmp_path, rewarm=40)
    rates = [row["lr"] / 3e-4 for row in moved]
    assert rates[:40] == pytest.approx([n / 40 for n in range(1, 41)])
    assert set(rates[40:]) == {1.0}


@pytest.mark.parametrize("reset", [False, True])
def test_the_moments_of_the_phase_before_are_kept_or_forgotten(tmp_path, reset):
    run = toy.run(tmp_path, data=toy.dataset(4), episodes=0)
    seen = []
    monitored = run.hand_over

    def spy():
        monitored()
        seen.append(len(run.learner.optimisers["actor"].state))

    run.hand_over = spy
    run.execute(
        {
            "offline": toy.offline(steps=5, **NOTHING),
            "online": toy.online(steps=30, utd=0.0, reset_optimisers=reset, **NOTHING),
        }
    )
    assert seen[0] > 0
    assert (len(run.learner.optimisers["actor"].state) == 0) == reset


def test_a_guide_needs_a_policy_that_was_trained_before(tmp_path):
    run = toy.run(tmp_path, IQL, data=toy.dataset(4), acting=Expansion(1.0))
    with pytest.raises(UserError, match="trained before"):
        run.execute({"online": toy.online()})


def losses_seen(monkeypatch, cls) -> list[tuple[str, torch.Tensor]]:
    """What each loss is given to learn from, in order: its name, and the batch's actions."""
    seen: list[tuple[str, torch.Tensor]] = []
    losses = {name: getattr(cls, f"loss_{name}") for name in cls.order}

    def spy(self, batch, name):
        seen.append((name, batch["action"]))
        return losses[name](self, batch)

    for name in losses:
        monkeypatch.setattr(cls, f"loss_{name}", partialmethod(spy, name=name))
    return seen


def expanded(tmp_path, cls, **changes) -> list[torch.Tensor]:
    """Run a handover to a policy expansion; return the actions of the online batches."""
    run = toy.run(tmp_path, cls, data=toy.dataset(4), episodes=0, acting=Expansion(1.0))
    batches, sample = [], run.replay.sample

    def spy(size, step=0):
        batch = sample(size, step)
        batches.append(batch["action"])
        return batch

    run.replay.sample = spy
    online = toy.online(**{"steps": 40, "utd": 0.5, "warmup": 0, "batch_size": 8, **NOTHING})
    online = replace(online, **changes)
    run.execute({"offline": toy.offline(steps=5, batch_size=8, **NOTHING), "online": online})
    assert run.learner.update_count == 5 + len(batches) and batches
    return batches


def test_behind_the_critics_the_actor_of_an_expansion_learns_from_drawn_actions(
    tmp_path, monkeypatch
):
    seen = losses_seen(monkeypatch, IQL)
    batches = expanded(tmp_path, IQL)
    online = seen[5 * 3 :]
    assert [name for name, _ in online] == ["value", "critic", "actor"] * len(batches)
    for number, (name, action) in enumerate(online):
        assert torch.equal(action, batches[number // 3]) == (name != "actor")


def test_an_actor_that_climbs_its_critics_learns_from_the_batch(tmp_path, monkeypatch):
    seen = losses_seen(monkeypatch, SAC)
    batches = expanded(tmp_path, SAC)
    online = seen[5 * 3 :]
    assert [name for name, _ in online] == ["critic", "actor", "alpha"] * len(batches)
    assert all(torch.equal(action, batches[n // 3]) for n, (_, action) in enumerate(online))


def test_an_actor_that_waits_for_its_critics_waits_under_an_expansion_too(tmp_path, monkeypatch):
    seen = losses_seen(monkeypatch, IQL)
    batches = expanded(tmp_path, IQL, critic_only=1000)
    assert [name for name, _ in seen[5 * 3 :]] == ["value", "critic"] * len(batches)


def test_a_new_actor_has_no_moments_of_the_old_one(tmp_path):
    run = toy.run(tmp_path, data=toy.dataset(4), episodes=0, acting=Expansion(1.0))
    run.execute(
        {
            "offline": toy.offline(steps=5, **NOTHING),
            "online": toy.online(steps=30, utd=0.0, **NOTHING),
        }
    )
    assert all(not optimiser.state for optimiser in run.learner.optimisers.values())


def test_how_far_the_policy_fell_is_always_told(tmp_path, shipped):
    run = toy.run(
        tmp_path, Falls, data=toy.dataset(40, noise=0.1), episodes=10, lr={"default": 3e-3}
    )
    online = toy.online(steps=600, warmup=0, batch_size=32, **{**NOTHING, "evaluate_every": 150})
    offline = toy.offline(steps=600, batch_size=64, **NOTHING)
    run.execute({"offline": offline, "online": online})
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["handover/dip"] < -0.5
    assert summary["handover/dip_low"] <= summary["handover/dip"] <= summary["handover/dip_high"]
    assert 0 < summary["handover/regret"] <= 1
    assert "handover/recovery_steps" not in summary  # it never came back
    rows = [json.loads(row) for row in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    told = [row["handover/dip"] for row in rows if "handover/dip" in row]
    assert len(told) >= 3 and told == sorted(told, reverse=True)
