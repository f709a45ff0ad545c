"""Methods towards goals against NumPy in double precision, from the papers' equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from goal_reference import (
    as_tensordict,
    beside,
    body,
    encoder,
    goal_spec,
    log_density,
    make,
    make_batch,
    mean_action,
    members,
    numbers,
    q_values,
    seen,
    v_values,
    value_of,
)
from reference import A, B, agrees, normalised

from robo_offline.algos.actionable_models import ActionableModels
from robo_offline.algos.crl import CRL
from robo_offline.algos.gcbc import GCBC
from robo_offline.algos.gciql import GCIQL
from robo_offline.algos.gcivl import GCIVL
from robo_offline.algos.hiql import HIQL
from robo_offline.algos.qrl import QRL

SMALL = {"latent": 12, "components": 3}


def qrl(chunk=1, **knobs):
    return make(QRL, chunk, **SMALL, **knobs)


def expectile(adv, error, level):
    return np.where(adv < 0, 1 - level, level) * error**2


def weights(adv, beta):
    with np.errstate(over="ignore"):
        return np.minimum(np.exp(beta * adv), 100.0)


def climb(q, log_prob, bc):
    return -q.mean() / (np.abs(q).mean() + 1e-6) - bc * log_prob.mean()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# -- cloning and values of states ------------------------------------------------------------


def test_gcbc(case, chunk):
    algo, b = make(GCBC, chunk), make_batch(case, chunk)
    mean = mean_action(algo.actor, b["s"], b["g_actor"], b["a"].shape)
    agrees(value_of(algo, "actor", b, chunk), -log_density(mean, b["a"], b["mask"]).mean())


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_gcivl_value_fits_each_member_to_its_own_target_weighed_by_one_advantage(
    case, chunk, level
):
    algo, b = make(GCIVL, chunk, expectile=level), make_batch(case, chunk)
    following = v_values(algo.target_value, b["s2"], b["g"])  # (2, B)
    keep = b["gamma"] * (1 - b["d"])
    adv = b["r"] + keep * following.min(0) - v_values(algo.target_value, b["s"], b["g"]).mean(0)
    v1, v2 = v_values(algo.value, b["s"], b["g"])
    y1, y2 = b["r"] + keep * following
    expected = expectile(adv, y1 - v1, level).mean() + expectile(adv, y2 - v2, level).mean()
    agrees(value_of(algo, "value", b, chunk), expected)


@pytest.mark.parametrize("beta", [0.5, 10.0])
def test_gcivl_actor(case, chunk, beta):
    algo, b = make(GCIVL, chunk, beta=beta), make_batch(case, chunk)
    goal = b["g_actor"]
    adv = v_values(algo.value, b["s2"], goal).mean(0) - v_values(algo.value, b["s"], goal).mean(0)
    mean = mean_action(algo.actor, b["s"], goal, b["a"].shape)
    expected = -(weights(adv, beta) * log_density(mean, b["a"], b["mask"])).mean()
    agrees(value_of(algo, "actor", b, chunk), expected)


# -- values of actions -----------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_gciql_value(case, chunk, level):
    algo, b = make(GCIQL, chunk, expectile=level), make_batch(case, chunk)
    q = q_values(algo.target_critic, b["s"], b["g"], b["a"]).min(0)
    u = q - v_values(algo.value, b["s"], b["g"])
    agrees(value_of(algo, "value", b, chunk), expectile(u, u, level).mean())


def test_gciql_critic(case, chunk):
    algo, b = make(GCIQL, chunk), make_batch(case, chunk)
    y = b["r"] + b["gamma"] * (1 - b["d"]) * v_values(algo.value, b["s2"], b["g"])
    q1, q2 = q_values(algo.critic, b["s"], b["g"], b["a"])
    agrees(value_of(algo, "critic", b, chunk), ((q1 - y) ** 2 + (q2 - y) ** 2).mean())


@pytest.mark.parametrize("bc", [0.003, 1.0])
def test_gciql_actor(case, chunk, bc):
    algo, b = make(GCIQL, chunk, bc=bc), make_batch(case, chunk)
    mean = mean_action(algo.actor, b["s"], b["g_actor"], b["a"].shape)
    q = q_values(algo.critic, b["s"], b["g_actor"], np.clip(mean, -1, 1)).min(0)
    expected = climb(q, log_density(mean, b["a"], b["mask"]), bc)
    agrees(value_of(algo, "actor", b, chunk), expected)


def am_numbers(algo, s, g, a):
    return q_values(algo, s, g, a)


def test_actionable_models_critic(case, chunk):
    algo, b = make(ActionableModels, chunk, num_candidates=4), make_batch(case, chunk)
    shape = b["a"].shape
    action = np.tanh(mean_action(algo.actor, b["s2"], b["g"], shape))
    best = q_values(algo.target_critic, b["s2"], b["g"], action).min(0)
    y = np.where(b["d"] > 0, 1.0, b["gamma"] * best)
    torch.manual_seed(11)
    drawn = 2 * torch.rand((4 * B, *shape[1:]), dtype=torch.float64).numpy() - 1
    drawn = drawn.reshape(B, 4, *shape[1:])
    q_unseen = np.stack(
        [q_values(algo.critic, b["s"], b["g"], drawn[:, k]) for k in range(4)], -1
    )  # (E, B, K)
    likely = np.exp(q_unseen) / np.exp(q_unseen).sum(-1, keepdims=True)
    q = q_values(algo.critic, b["s"], b["g"], b["a"])
    expected = ((q - y) ** 2).mean(1).sum() + (likely * q_unseen**2).sum(-1).mean(1).sum()
    agrees(value_of(algo, "critic", b, chunk), expected)


def test_actionable_models_actor(case, chunk):
    algo, b = make(ActionableModels, chunk), make_batch(case, chunk)
    action = np.tanh(mean_action(algo.actor, b["s"], b["g_actor"], b["a"].shape))
    q = q_values(algo.critic, b["s"], b["g_actor"], action).min(0)
    agrees(value_of(algo, "actor", b, chunk), -q.mean() / np.abs(q).mean())


# -- contrast --------------------------------------------------------------------------------


def logits(critic, s, a, g, dim):
    """(E, B, B): rows are states and actions, columns goals."""
    phi = members(critic.net, beside(normalised(s), a.reshape(B, -1)))
    psi = members(critic.goal_net, normalised(g))
    return np.einsum("eik,ejk->eij", phi, psi) / np.sqrt(dim)


def test_crl_critic_is_binary_nce_over_all_pairs_and_members(case, chunk):
    algo, b = make(CRL, chunk, latent=6), make_batch(case, chunk)
    f = logits(algo.critic, b["s"], b["a"], b["g"], 6)
    own = np.eye(B)
    entropy = -own * np.log(sigmoid(f)) - (1 - own) * np.log(sigmoid(-f))
    agrees(value_of(algo, "critic", b, chunk), entropy.mean())


def test_crl_actor_climbs_the_lower_logit(case, chunk):
    algo, b = make(CRL, chunk, latent=6), make_batch(case, chunk)
    mean = mean_action(algo.actor, b["s"], b["g_actor"], b["a"].shape)
    f = logits(algo.critic, b["s"], np.clip(mean, -1, 1), b["g_actor"], 6)
    f = np.diagonal(f, axis1=1, axis2=2).min(0)
    expected = climb(f, log_density(mean, b["a"], b["mask"]), 0.1)
    agrees(value_of(algo, "actor", b, chunk), expected)


# -- distance --------------------------------------------------------------------------------


def covered(x, y):
    """Length of the union of [x_i, max(x_i, y_i)], by walking along sorted intervals."""
    total, reach = 0.0, -np.inf
    for low, high in sorted(zip(x, np.maximum(x, y), strict=True)):
        total += max(0.0, high - max(low, reach))
        reach = max(reach, high)
    return total


def iqe(value, x, y):
    """(B,)."""
    parts = [row.reshape(len(row), SMALL["components"], -1) for row in (x, y)]
    lengths = np.array(
        [[covered(*pair) for pair in zip(*rows, strict=True)] for rows in zip(*parts, strict=True)]
    )
    share = sigmoid(value.distance.mixture.item())
    return share * lengths.mean(1) + (1 - share) * lengths.max(1)


def latent(value, s):
    return body(numbers(value.net), normalised(s), True)


def led_to(value, z, a):
    return z + body(numbers(value.dynamics), beside(z, a.reshape(B, -1)), True)


def violation(algo, b):
    d = iqe(algo.value, latent(algo.value, b["s"]), latent(algo.value, b["s2"]))
    return (np.maximum(d - 1, 0) ** 2).mean()


def test_qrl_value(case, chunk):
    algo, b = qrl(chunk), make_batch(case, chunk)
    z, z2, zg = (latent(algo.value, b[key]) for key in ("s", "s2", "g"))
    far = iqe(algo.value, z, zg)
    stretched = (100 * np.log1p(np.exp(5 - far / 100))).mean()
    guess = led_to(algo.value, z, b["a"])
    dynamics = 0.5 * (iqe(algo.value, z2, guess) + iqe(algo.value, guess, z2)).mean()
    factor = np.exp(algo.multiplier.log.item())
    expected = stretched + factor * violation(algo, b) + dynamics
    agrees(value_of(algo, "value", b, chunk), expected)


def test_qrl_multiplier(case, chunk):
    algo, b = qrl(chunk), make_batch(case, chunk)
    factor = np.exp(algo.multiplier.log.item())
    agrees(value_of(algo, "multiplier", b, chunk), factor * (0.05 - violation(algo, b)))


def test_qrl_actor_climbs_minus_the_distance_from_where_it_leads(case, chunk):
    algo, b = qrl(chunk), make_batch(case, chunk)
    mean = mean_action(algo.actor, b["s"], b["g_actor"], b["a"].shape)
    z = led_to(algo.value, latent(algo.value, b["s"]), np.clip(mean, -1, 1))
    q = -iqe(algo.value, z, latent(algo.value, b["g_actor"]))
    expected = climb(q, log_density(mean, b["a"], b["mask"]), 0.003)
    agrees(value_of(algo, "actor", b, chunk), expected)


# -- two levels ------------------------------------------------------------------------------


def phi(algo, s, g):
    z = body(numbers(algo.value.representation.net), seen(s, g), True)
    return z / np.linalg.norm(z, axis=-1, keepdims=True) * np.sqrt(z.shape[-1])


def hiql_v(algo, value, s, g):
    """(E, B); every value, the slow one as well, reads the present phi."""
    return members(value.net, beside(normalised(s), phi(algo, s, g)))


def low_mean(algo, s, z, shape):
    return body(numbers(algo.actor.net), beside(normalised(s), z), False).reshape(shape)


def test_hiql_value_whose_slow_copy_reads_the_present_representation(case, chunk):
    algo, b = make(HIQL, chunk), make_batch(case, chunk)
    slow = algo.target_value
    following = hiql_v(algo, slow, b["s2"], b["g"])
    keep = b["gamma"] * (1 - b["d"])
    adv = b["r"] + keep * following.min(0) - hiql_v(algo, slow, b["s"], b["g"]).mean(0)
    error = b["r"] + keep * following - hiql_v(algo, algo.value, b["s"], b["g"])
    agrees(value_of(algo, "value", b, chunk), expectile(adv, error, 0.7).mean(1).sum())


def gain(algo, before, after, goal):
    values = [hiql_v(algo, algo.value, x, goal).mean(0) for x in (after, before)]
    return values[0] - values[1]


@pytest.mark.parametrize("beta", [0.5, 3.0])
def test_hiql_low_actor(case, chunk, beta):
    algo, b = make(HIQL, chunk, low_beta=beta), make_batch(case, chunk)
    adv = gain(algo, b["s"], b["s2"], b["g_low"])
    mean = low_mean(algo, b["s"], phi(algo, b["s"], b["g_low"]), b["a"].shape)
    expected = -(weights(adv, beta) * log_density(mean, b["a"], b["mask"])).mean()
    agrees(value_of(algo, "actor", b, chunk), expected)


@pytest.mark.parametrize("beta", [0.5, 3.0])
def test_hiql_high_actor_proposes_what_the_subgoal_means_from_here(case, chunk, beta):
    algo, b = make(HIQL, chunk, high_beta=beta), make_batch(case, chunk)
    adv = gain(algo, b["s"], b["s_high"], b["g_high"])
    mean = mean_action(algo.high_actor, b["s"], b["g_high"], (B, 10))
    wanted = phi(algo, b["s"], b["s_high"])
    expected = -(weights(adv, beta) * log_density(mean, wanted)).mean()
    agrees(value_of(algo, "high_actor", b, chunk), expected)


def test_hiql_acts_on_a_subgoal_of_full_length():
    algo, b = make(HIQL), make_batch("random")
    wish = mean_action(algo.high_actor, b["s"], b["g"], (B, 10))
    wish = wish / np.linalg.norm(wish, axis=-1, keepdims=True) * np.sqrt(10)
    expected = np.clip(low_mean(algo, b["s"], wish, (B, A)), -1, 1)
    found = algo.act(as_tensordict(b)["observation"], False).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9)


# -- shipped values --------------------------------------------------------------------------


def test_shipped_values_are_those_of_the_paper():
    spec = goal_spec()
    every = {c: c.create(spec, encoder(spec)).cfg for c in (GCBC, GCIVL, GCIQL, CRL, QRL, HIQL)}
    for cfg in every.values():
        assert (cfg.discount, cfg.tau, cfg.lr["default"]) == (0.99, 0.005, 3e-4)
        assert list(cfg.hidden) == [512, 512, 512]
    gcivl, gciql, hiql = every[GCIVL], every[GCIQL], every[HIQL]
    assert (gcivl.expectile, gcivl.beta, gcivl.max_weight) == (0.9, 10.0, 100.0)
    assert (gciql.expectile, gciql.bc) == (0.9, 0.3)
    assert (hiql.expectile, hiql.low_beta, hiql.high_beta) == (0.7, 3.0, 3.0)
    assert (hiql.representation, hiql.low_trains_representation) == (10, False)
    assert (every[CRL].latent, every[CRL].bc) == (512, 0.1)
    qrl = every[QRL]
    assert (qrl.latent, qrl.components, qrl.slack, qrl.bc) == (512, 64, 0.05, 0.003)
