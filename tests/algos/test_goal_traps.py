"""What goes wrong without a word where goals are concerned: each trap by its name."""

from __future__ import annotations

import pytest
import torch
import toy
from goal_reference import as_tensordict, encoder, goal_spec, make, make_batch

from robo_offline.algos.actionable_models import ActionableModels
from robo_offline.algos.crl import CRL
from robo_offline.algos.gcbc import GCBC
from robo_offline.algos.gciql import GCIQL
from robo_offline.algos.gcivl import GCIVL
from robo_offline.algos.hiql import HIQL
from robo_offline.algos.qrl import QRL
from robo_offline.engine.learner import Learner
from robo_offline.errors import UserError
from robo_offline.nets.goal import toward

KNOBS = {QRL: {"latent": 12, "components": 3}, CRL: {"latent": 6}}
ALL = (GCBC, GCIVL, GCIQL, CRL, QRL, HIQL, ActionableModels)
LOSSES = [(cls, name) for cls in ALL for name in cls.order]
EXACT = [  # losses whose gradient is that of their own value: nothing of their module is a number
    (GCBC, "actor"),
    (GCIVL, "value"),
    (GCIVL, "actor"),
    (GCIQL, "value"),
    (GCIQL, "critic"),
    (CRL, "critic"),
    (QRL, "value"),
    (QRL, "multiplier"),
    (HIQL, "actor"),
    (HIQL, "high_actor"),
]


def built(cls, **knobs):
    return make(cls, **KNOBS.get(cls, {}), **knobs)


def loss(algo, name, batch):
    torch.manual_seed(3)
    return getattr(algo, f"loss_{name}")(batch)[0]


def batch_of(case="random"):
    return as_tensordict(make_batch(case))


def ids(value):
    return value if isinstance(value, str) else value.__name__


# -- gradients -------------------------------------------------------------------------------


@pytest.mark.parametrize(("cls", "name"), EXACT, ids=ids)
def test_the_gradient_is_that_of_finite_differences(cls, name):
    algo, batch = built(cls), batch_of()
    parameters = list(getattr(algo, name).parameters())
    gradients = torch.autograd.grad(loss(algo, name, batch), parameters)
    random = torch.Generator().manual_seed(5)
    step = 1e-6
    for parameter, gradient in zip(parameters, gradients, strict=True):
        flat = parameter.data.view(-1)
        entry = int(torch.randint(len(flat), (), generator=random))
        before, values = flat[entry].item(), []
        for sign in (1, -1):
            flat[entry] = before + sign * step
            values.append(loss(algo, name, batch).item())
        flat[entry] = before
        found = (values[0] - values[1]) / (2 * step)
        assert gradient.view(-1)[entry].item() == pytest.approx(found, rel=1e-4, abs=1e-6)


def test_the_target_of_hiql_does_not_pull_at_the_representation():
    """Where nothing bootstraps the gradient is exact; it must be where the target moves too."""
    algo, batch = built(HIQL), batch_of()
    phi = algo.value.representation
    later = phi(batch["next", "observation"]).detach()
    parameters = list(algo.value.parameters())
    found = torch.autograd.grad(loss(algo, "value", batch), parameters)

    def of_the_successor(observation):
        at_successor = observation is batch_next
        return later if at_successor else phi(observation)

    batch_next = batch["next", "observation"]
    slow, now = algo.target_value, batch["observation"]
    alive = (~batch["next", "terminated"]).double() * batch["discount"]
    following = slow.at(batch_next, of_the_successor(batch_next)).detach()
    y = batch["next", "reward"] + alive * following
    low = batch["next", "reward"] + alive * following.amin(0)
    adv = (low - slow.at(now, phi(now)).mean(0)).detach()
    weight = torch.where(adv < 0, 0.3, 0.7)
    expected = (weight * (y - algo.value(now)).square()).mean(1).sum()
    for ours, theirs in zip(found, torch.autograd.grad(expected, parameters), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def representation_gradient(algo, batch):
    parameters = list(algo.value.representation.parameters())
    return torch.autograd.grad(loss(algo, "value", batch), parameters)


def test_the_low_policy_trains_the_representation_only_where_it_is_told_to():
    alone, both = built(HIQL), built(HIQL, low_trains_representation=True)
    batch = batch_of()
    z = both.value.representation(toward(batch["observation"], batch["low_goal"]))
    extra = torch.autograd.grad(
        both.low_loss(batch, z)[0], list(both.value.representation.parameters())
    )
    pairs = zip(
        representation_gradient(alone, batch),
        representation_gradient(both, batch),
        extra,
        strict=True,
    )
    for without, together, added in pairs:
        assert torch.allclose(together, without + added, rtol=1e-9, atol=1e-12)
        assert added.abs().max() > 0


def test_the_low_policy_moves_the_representation_and_not_what_values_it():
    alone, both = built(HIQL), built(HIQL, low_trains_representation=True)
    heads = [
        torch.autograd.grad(loss(algo, "value", batch_of()), list(algo.value.net.parameters()))
        for algo in (alone, both)
    ]
    assert all(torch.equal(*pair) for pair in zip(*heads, strict=True))


def test_an_actor_gets_no_gradient_from_q_beyond_the_bounds():
    """Q is asked about the action that is executed, the likelihood about the mean."""
    algo, batch = built(GCIQL, bc=0.0), batch_of()
    with torch.no_grad():
        algo.actor.net[-1].bias.fill_(50.0)
    gradients = torch.autograd.grad(loss(algo, "actor", batch), list(algo.actor.parameters()))
    assert all(gradient.abs().max() == 0 for gradient in gradients)


# -- which goal is read where ----------------------------------------------------------------


def test_every_loss_reads_its_own_goals_and_no_others():
    reads = {
        (GCBC, "actor"): {"actor_goal"},
        (GCIVL, "value"): {"goal"},
        (GCIVL, "actor"): {"actor_goal"},
        (GCIQL, "value"): {"goal"},
        (GCIQL, "critic"): {"goal"},
        (GCIQL, "actor"): {"actor_goal"},
        (CRL, "critic"): {"goal"},
        (CRL, "actor"): {"actor_goal"},
        (QRL, "value"): {"goal"},
        (QRL, "multiplier"): set(),
        (QRL, "actor"): {"actor_goal"},
        (HIQL, "value"): {"goal"},
        (HIQL, "actor"): {"low_goal"},
        (HIQL, "high_actor"): {"high_goal", "high_target"},
        (ActionableModels, "critic"): {"goal"},
        (ActionableModels, "actor"): {"actor_goal"},
    }
    assert set(reads) == set(LOSSES)
    for (cls, name), expected in reads.items():
        algo, batch = built(cls), batch_of()
        before, found = loss(algo, name, batch), set()
        for key in ("goal", "actor_goal", "low_goal", "high_goal", "high_target"):
            changed = batch.clone()
            if key == "goal":
                changed["observation", "goal", "state"] += 1.0
                changed["next", "observation", "goal", "state"] += 1.0
            else:
                changed[key, "state"] += 1.0
            if loss(algo, name, changed) != before:
                found.add(key)
        assert found == expected, (cls, name)


@pytest.mark.parametrize("cls", [GCBC, CRL, QRL, ActionableModels], ids=ids)
def test_methods_without_rewards_do_not_read_them(cls):
    algo, batch = built(cls), batch_of()
    changed = batch.clone()
    changed["next", "reward"] += 100.0
    for name in cls.order:
        assert loss(algo, name, changed) == loss(algo, name, batch)


def test_a_batch_keeps_its_goals_when_a_loss_looks_at_others():
    batch = batch_of()
    before = batch.clone()
    for cls in ALL:
        algo = built(cls)
        for name in cls.order:
            loss(algo, name, batch)
    assert (batch == before).all()


def test_the_successor_of_a_reached_goal_still_weighs_the_actor():
    """`terminated` is about the value's goal; the step was made, and the actor has its own goal."""
    algo, batch = built(GCIVL), batch_of("all_terminated")
    changed = batch.clone()
    changed["next", "observation", "state"] += 1.0
    assert loss(algo, "value", changed) == loss(algo, "value", batch)
    assert loss(algo, "actor", changed) != loss(algo, "actor", batch)


# -- pairs -----------------------------------------------------------------------------------


def test_the_diagonal_of_crl_is_what_the_critic_says_of_each_row():
    algo, batch = built(CRL), batch_of()
    pairs = algo.critic.pairs(batch["observation"], batch["action"])
    alone = algo.critic(batch["observation"], batch["action"])
    assert torch.allclose(pairs.diagonal(dim1=1, dim2=2), alone)
    moved = batch["observation"].clone()
    moved["goal", "state"] = moved["goal", "state"].roll(-1, 0)
    shifted = algo.critic(moved, batch["action"])  # row i at the goal of row i + 1
    assert torch.allclose(pairs[:, 0, 1], shifted[:, 0])


# -- pessimism about unseen actions ----------------------------------------------------------


@pytest.mark.parametrize("begin", [3.0, -3.0])
def test_unseen_actions_are_drawn_to_nothing_from_above_and_from_below(begin):
    algo = built(ActionableModels, conservatism=100.0, lr={"default": 0.03})
    with torch.no_grad():
        algo.critic.net[-1].bias.fill_(begin)
    batch, learner = batch_of(), Learner(algo)
    for _ in range(150):
        learner.step("critic", batch)
    action = 2 * torch.rand(len(batch), 2, dtype=torch.float64) - 1
    assert algo.critic(batch["observation"], action).abs().mean() < 0.5


def test_a_reached_goal_is_worth_one_whatever_the_reward_and_a_cut_one_goes_on():
    algo, batch = built(ActionableModels), batch_of()
    chance, dead = algo.chance(batch), batch["next", "terminated"]
    assert (chance[dead] == 1).all()
    following = batch["next", "observation"]
    q = algo.target_critic(following, algo.actor.mode(following)).amin(0)
    assert torch.allclose(chance[~dead], (batch["discount"] * q)[~dead])
    assert batch["next", "truncated"].any()


# -- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", ALL, ids=ids)
def test_without_goals_a_method_towards_goals_is_refused_when_it_is_built(cls):
    with pytest.raises(UserError, match=f"{cls.__name__} learns to reach goals.*none") as error:
        cls.create(toy.spec(), toy.encoder())
    assert "env=goal/" in str(error.value) and "goals=" in str(error.value)


def test_qrl_refuses_goals_that_are_a_part_of_an_observation():
    spec = goal_spec({"state": (0, 1)})
    with pytest.raises(UserError, match="only a part of one") as error:
        QRL.create(spec, encoder(spec))
    assert "state (4,)" in str(error.value) and "state (2,)" in str(error.value)
    assert "algo=hiql" in str(error.value)


def test_qrl_refuses_a_latent_that_does_not_fall_into_its_components():
    spec = goal_spec()
    with pytest.raises(UserError, match="equal parts"):
        QRL.create(spec, encoder(spec), latent=10, components=3)
