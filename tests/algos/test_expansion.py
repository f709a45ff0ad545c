"""What an actor learns from under policy expansion, against NumPy in double precision."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from reference import (
    B,
    agrees,
    as_tensordict,
    bounded_mean,
    log_policy,
    make,
    make_batch,
    q_values,
    v_values,
)

from robo_offline.algos.awac import AWAC
from robo_offline.algos.iql import IQL
from robo_offline.policies.select import Expansion

SEED, KAPPA = 7, 10.0


def begun(cls, chunk: int):
    """An algorithm at the handover, and the frozen one that it was."""
    algo, acting = copy.deepcopy(make(cls, chunk)), Expansion(KAPPA)
    torch.manual_seed(1)
    acting.begin(algo, None)
    return algo, acting


def sampled(algo, std, b):
    """What the learner proposes, with the noise that the stream gives next."""
    eps = torch.randn(b["a"].shape, dtype=torch.float64).numpy()
    return np.clip(bounded_mean(algo.actor, b["s"], b["a"].shape) + std * eps, -1, 1)


def composite(algo, guide, std, b):
    """softmax_i(kappa min_j Q_j(s, a_i)) over the guide's mean and the learner's sample."""
    proposals = np.stack([bounded_mean(guide.actor, b["s"], b["a"].shape), sampled(algo, std, b)])
    q = np.stack([q_values(algo.critic, b["s"], a).min(0) for a in proposals], 1)  # (B, 2)
    weight = np.exp(KAPPA * (q - q.max(1, keepdims=True)))
    weight /= weight.sum(1, keepdims=True)
    choice = torch.multinomial(torch.tensor(weight), 1)[:, 0].numpy()
    return {**b, "a": proposals[choice, np.arange(B)], "mask": np.ones_like(b["mask"])}, choice


def iql_std(algo):
    return np.exp(np.clip(algo.actor.log_std.detach().numpy(), -5, 2))


def awac_std(algo):
    return np.exp(-6 + 6 / (1 + np.exp(-algo.actor.log_std.detach().numpy())))


def weighted(algo, adv, b, chunk, std) -> float:
    """-E[min(exp(beta A), max) log pi(a | s)]."""
    weight = np.minimum(np.exp(algo.cfg.beta * adv), algo.cfg.max_weight)
    return -(weight * log_policy(algo.actor, b, chunk, std)).mean()


def found(algo, acting, b, chunk) -> tuple[float, torch.Tensor]:
    torch.manual_seed(SEED)
    redrawn = acting.redraw(algo, as_tensordict(b, chunk))
    return algo.loss_actor(algo.prepare(redrawn))[0].item(), redrawn["action"]


def test_iql_imitates_the_composite_policy_by_its_advantage_over_v(case, chunk):
    (algo, acting), b = begun(IQL, chunk), make_batch(case, chunk)
    loss, action = found(algo, acting, b, chunk)
    torch.manual_seed(SEED)
    drawn, choice = composite(algo, acting.guide, iql_std(algo), b)
    assert 0 < choice.mean() < 1 or case == "one_state"  # both of them are chosen
    assert np.allclose(action.numpy(), drawn["a"], atol=1e-9)
    q = q_values(algo.target_critic, b["s"], drawn["a"]).min(0)
    adv = q - v_values(algo.value, b["s"])
    agrees(loss, weighted(algo, adv, drawn, chunk, iql_std(algo)))


def test_awac_imitates_it_by_its_advantage_over_an_action_of_the_learner(case, chunk):
    (algo, acting), b = begun(AWAC, chunk), make_batch(case, chunk)
    loss, action = found(algo, acting, b, chunk)
    torch.manual_seed(SEED)
    drawn, _ = composite(algo, acting.guide, awac_std(algo), b)
    assert np.allclose(action.numpy(), drawn["a"], atol=1e-9)
    own = q_values(algo.critic, b["s"], sampled(algo, awac_std(algo), b)).min(0)
    adv = q_values(algo.critic, b["s"], drawn["a"]).min(0) - own
    agrees(loss, weighted(algo, adv, drawn, chunk, awac_std(algo)))


@pytest.mark.parametrize("cls", [IQL, AWAC])
def test_no_gradient_reaches_the_actor_through_the_actions_that_were_drawn(cls, chunk):
    (algo, acting), b = begun(cls, chunk), make_batch("random", chunk)
    redrawn = acting.redraw(algo, as_tensordict(b, chunk))
    assert not redrawn["action"].requires_grad
    assert torch.equal(as_tensordict(b, chunk)["next", "reward"], redrawn["next", "reward"])
