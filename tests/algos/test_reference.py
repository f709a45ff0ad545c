"""Every loss against NumPy in double precision, written from the papers' equations, not our code.

The reference knows networks only as lists of (weight, bias) and LayerNorm's (scale, shift), and
random numbers only as the noise they are. Rows hold terminals, truncations, ties and extremes.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pytest
import torch
import toy
from tensordict import TensorDict

from robo_offline.algos.awac import AWAC
from robo_offline.algos.bc import BC
from robo_offline.algos.iql import IQL
from robo_offline.algos.rlpd import RLPD
from robo_offline.algos.sac import SAC
from robo_offline.encoders.state import State

B, D, A = 24, 4, 2
MEAN, STD = np.array([0.5, -1.0, 0.0, 2.0]), np.array([2.0, 0.1, 0.5, 1.0])
STATISTICS = {"observation": (torch.tensor(MEAN), torch.tensor(STD))}
CASES = ("random", "all_terminated", "extreme_rewards", "actions_on_the_bound", "one_state")


@cache
def make(cls, chunk=1, **knobs):
    torch.manual_seed(0)
    encoder = partial(State, toy.spec(), STATISTICS)
    algo = cls.create(toy.spec(), encoder, hidden=(7, 5), chunk=chunk, **knobs).double()
    for parameter in algo.parameters():  # away from zero biases and from a target equal to its net
        parameter.data += 0.1 * torch.randn_like(parameter)
    if hasattr(algo, "target_critic"):
        for parameter in algo.target_critic.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    for module in algo.modules():
        if isinstance(module, State):  # statistics are float32: give them their double value
            module.inverse_std.copy_(torch.tensor(1 / (STD + 1e-3)))
    return algo


def make_batch(case: str, chunk: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(CASES.index(case))
    shape = (B, A) if chunk == 1 else (B, chunk, A)
    batch = {
        "s": random.normal(size=(B, D)),
        "a": random.uniform(-1, 1, shape),
        "r": random.normal(size=B),
        "s2": random.normal(size=(B, D)),
        "d": (np.arange(B) % 4 == 0).astype(float),
        "gamma": random.choice([0.99, 0.99**2, 0.5], B),
        "mask": np.arange(chunk) < 1 + (np.arange(B) % chunk)[:, None],
    }
    if case == "all_terminated":
        batch["d"][:] = 1.0
    if case == "extreme_rewards":
        batch["r"] *= 1e6
    if case == "actions_on_the_bound":
        batch["a"] = np.sign(batch["a"])
    if case == "one_state":  # every row the same: nothing but ties
        batch = {key: np.repeat(value[1:2], B, 0) for key, value in batch.items()}
    return batch


def as_tensordict(batch, chunk: int = 1) -> TensorDict:
    t = {key: torch.tensor(value) for key, value in batch.items()}
    dead = t["d"] > 0
    following = {
        "observation": t["s2"],
        "reward": t["r"],
        "terminated": dead,
        "truncated": ~dead & (torch.arange(B) % 4 == 1),
        "done": dead | (torch.arange(B) % 4 == 1),
    }
    content = {"observation": t["s"], "action": t["a"], "discount": t["gamma"], "next": following}
    return TensorDict(content | ({"mask": t["mask"]} if chunk > 1 else {}), [B])


# -- the networks, from their numbers --------------------------------------------------------


def layers(module) -> list[np.ndarray]:
    return [value.detach().numpy() for value in module.net.state_dict().values()]


def forward(numbers: list[np.ndarray], x: np.ndarray, norm: bool = False) -> np.ndarray:
    """Dense (-> LayerNorm) -> ReLU ... -> Dense, for one network of plain matrices."""
    numbers = list(numbers)
    per_layer = 4 if norm else 2
    while len(numbers) > 2:
        weight, bias, *rest = numbers[:per_layer]
        numbers = numbers[per_layer:]
        x = x @ weight + bias.reshape(-1)
        if norm:
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
            x = x * rest[0].reshape(-1) + rest[1].reshape(-1)
        x = np.maximum(x, 0)
    return x @ numbers[0] + numbers[1].reshape(-1)


def normalised(s):
    return (s - MEAN) / (STD + 1e-3)


def q_values(critic, s, a, norm=False):
    """(E, B)."""
    numbers = layers(critic)
    x = np.concatenate([normalised(s), a.reshape(B, -1)], 1)
    members = numbers[0].shape[0]
    return np.stack([forward([n[e] for n in numbers], x, norm)[:, 0] for e in range(members)])


def v_values(value, s):
    return forward(layers(value), normalised(s))[:, 0]


def bounded_mean(actor, s, shape):
    return np.tanh(forward(layers(actor), normalised(s))).reshape(shape)


def normal_log_density(x, mean, std):
    return -((x - mean) ** 2) / (2 * std**2) - np.log(std) - 0.5 * np.log(2 * np.pi)


def noise(seed: int, *shapes):
    torch.manual_seed(seed)
    drawn = [torch.randn(shape, dtype=torch.float64).numpy() for shape in shapes]
    return drawn


def value_of(algo, name, batch, chunk=1, seed=11) -> float:
    torch.manual_seed(seed)
    return getattr(algo, f"loss_{name}")(as_tensordict(batch, chunk))[0].item()


def agrees(found: float, expected: float) -> None:
    assert np.isfinite(expected)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.fixture(params=CASES)
def case(request):
    return request.param


@pytest.fixture(params=[1, 3], ids=["chunk1", "chunk3"])
def chunk(request):
    return request.param


# -- behaviour cloning -----------------------------------------------------------------------


def test_bc(case, chunk):
    algo, b = make(BC, chunk), make_batch(case, chunk)
    error = (bounded_mean(algo.actor, b["s"], b["a"].shape) - b["a"]) ** 2
    if chunk == 1:
        expected = error.mean(1).mean()
    else:
        expected = np.mean([row[real].mean() for row, real in zip(error, b["mask"], strict=True)])
    agrees(value_of(algo, "actor", b, chunk), expected)


# -- weighted regression ---------------------------------------------------------------------


def iql_std(actor):
    return np.exp(np.clip(actor.log_std.detach().numpy(), -5, 2))


def awac_std(actor):
    """rlkit: a sigmoid rescaled to [-6, 0] in log space."""
    return np.exp(-6 + 6 / (1 + np.exp(-actor.log_std.detach().numpy())))


def log_policy(actor, b, chunk, std):
    """log pi(a|s) of an unsquashed Gaussian with tanh mean; filler counts nothing."""
    density = normal_log_density(b["a"], bounded_mean(actor, b["s"], b["a"].shape), std)
    if chunk > 1:
        density = density * b["mask"][..., None]
    return density.reshape(B, -1).sum(1)


def iql_advantage(algo, b):
    return q_values(algo.target_critic, b["s"], b["a"]).min(0) - v_values(algo.value, b["s"])


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.99])
def test_iql_value(case, chunk, expectile):
    algo, b = make(IQL, chunk, expectile=expectile), make_batch(case, chunk)
    u = iql_advantage(algo, b)
    expected = np.mean(np.abs(expectile - (u < 0)) * u**2)
    agrees(value_of(algo, "value", b, chunk), expected)


def test_iql_critic(case, chunk):
    algo, b = make(IQL, chunk), make_batch(case, chunk)
    y = b["r"] + b["gamma"] * (1 - b["d"]) * v_values(algo.value, b["s2"])
    q1, q2 = q_values(algo.critic, b["s"], b["a"])
    agrees(value_of(algo, "critic", b, chunk), np.mean((q1 - y) ** 2 + (q2 - y) ** 2))


@pytest.mark.parametrize("beta", [0.5, 3.0, 1e4])
def test_iql_actor(case, chunk, beta):
    algo, b = make(IQL, chunk, beta=beta), make_batch(case, chunk)
    with np.errstate(over="ignore"):
        weight = np.minimum(np.exp(beta * iql_advantage(algo, b)), 100)
    expected = -np.mean(weight * log_policy(algo.actor, b, chunk, iql_std(algo.actor)))
    agrees(value_of(algo, "actor", b, chunk), expected)


def awac_sample(algo, s, eps):
    mean = bounded_mean(algo.actor, s, eps.shape)
    return np.clip(mean + awac_std(algo.actor) * eps, -1, 1)


def test_awac_critic(case, chunk):
    algo, b = make(AWAC, chunk), make_batch(case, chunk)
    (eps,) = noise(11, b["a"].shape)
    following = q_values(algo.target_critic, b["s2"], awac_sample(algo, b["s2"], eps)).min(0)
    y = b["r"] + b["gamma"] * (1 - b["d"]) * following
    q = q_values(algo.critic, b["s"], b["a"])
    agrees(value_of(algo, "critic", b, chunk), ((q - y) ** 2).mean(1).sum())


@pytest.mark.parametrize("beta", [0.5, 3.0, 1e4])
def test_awac_actor(case, chunk, beta):
    algo, b = make(AWAC, chunk, beta=beta), make_batch(case, chunk)
    (eps,) = noise(11, b["a"].shape)
    value = q_values(algo.critic, b["s"], awac_sample(algo, b["s"], eps)).min(0)
    adv = q_values(algo.critic, b["s"], b["a"]).min(0) - value
    with np.errstate(over="ignore"):
        weight = np.minimum(np.exp(beta * adv), 100)
    expected = -np.mean(weight * log_policy(algo.actor, b, chunk, awac_std(algo.actor)))
    agrees(value_of(algo, "actor", b, chunk), expected)


# -- soft actor-critic -----------------------------------------------------------------------


def squashed(actor, s, eps):
    """tanh(u) and log pi; 1 - tanh(u)^2 = 1 / cosh(u)^2."""
    out = forward(layers(actor), normalised(s))
    mean, log_std = out[:, : out.shape[1] // 2], out[:, out.shape[1] // 2 :]
    std = np.exp(np.clip(log_std, -20, 2))
    u = mean + std * eps.reshape(B, -1)
    log_pi = normal_log_density(u, mean, std) + 2 * (np.logaddexp(u, -u) - np.log(2))
    return np.tanh(u), log_pi.sum(1)


def soft_target(algo, b, chunk, num_min, backup, norm):
    torch.manual_seed(11)
    eps = torch.randn(b["a"].shape, dtype=torch.float64).numpy()
    action, log_pi = squashed(algo.actor, b["s2"], eps)
    q = q_values(algo.target_critic, b["s2"], action, norm)
    if num_min < len(q):  # one subset without replacement for the whole batch
        q = q[torch.randperm(len(q)).numpy()[:num_min]]
    value = q.min(0)
    if backup:
        value = value - np.exp(algo.alpha.log.item()) * log_pi
    return b["r"] + b["gamma"] * (1 - b["d"]) * value


@pytest.mark.parametrize("backup", [True, False])
def test_sac_critic(case, chunk, backup):
    algo, b = make(SAC, chunk, backup_entropy=backup), make_batch(case, chunk)
    y = soft_target(algo, b, chunk, 2, backup, False)
    q = q_values(algo.critic, b["s"], b["a"])
    agrees(value_of(algo, "critic", b, chunk), ((q - y) ** 2).mean(1).sum())


def test_sac_actor_climbs_the_minimum(case, chunk):
    algo, b = make(SAC, chunk), make_batch(case, chunk)
    action, log_pi = squashed(algo.actor, b["s"], *noise(11, b["a"].shape))
    q = q_values(algo.critic, b["s"], action).min(0)
    agrees(value_of(algo, "actor", b, chunk), np.mean(np.exp(algo.alpha.log.item()) * log_pi - q))


@pytest.mark.parametrize(("cls", "per_dim"), [(SAC, -1.0), (RLPD, -0.5)])
def test_temperature(case, chunk, cls, per_dim):
    algo, b = make(cls, chunk), make_batch(case, chunk)
    _, log_pi = squashed(algo.actor, b["s"], *noise(11, b["a"].shape))
    entropy, wanted = -log_pi, per_dim * A * chunk
    alpha = np.exp(algo.alpha.log.item())
    agrees(value_of(algo, "alpha", b, chunk), np.mean(alpha * (entropy - wanted)))


def test_rlpd_critic_up_to_the_number_of_members(case, chunk):
    """The paper's code means over members; ours sums, which Adam does not see."""
    algo, b = make(RLPD, chunk), make_batch(case, chunk)
    y = soft_target(algo, b, chunk, 2, False, True)
    q = q_values(algo.critic, b["s"], b["a"], True)
    assert len(q) == 10
    agrees(value_of(algo, "critic", b, chunk), 10 * ((q - y) ** 2).mean())


def test_rlpd_actor_climbs_the_mean(case, chunk):
    algo, b = make(RLPD, chunk), make_batch(case, chunk)
    action, log_pi = squashed(algo.actor, b["s"], *noise(11, b["a"].shape))
    q = q_values(algo.critic, b["s"], action, True).mean(0)
    agrees(value_of(algo, "actor", b, chunk), np.mean(np.exp(algo.alpha.log.item()) * log_pi - q))


# -- what the numbers of a method are --------------------------------------------------------


def test_shipped_values_are_those_of_the_papers():
    spec, encoder = toy.spec(), toy.encoder()
    iql, awac, rlpd, sac = (c.create(spec, encoder).cfg for c in (IQL, AWAC, RLPD, SAC))
    assert (iql.expectile, iql.beta, iql.max_weight) == (0.7, 3.0, 100.0)
    assert (list(iql.hidden), list(iql.offline_decay)) == ([256, 256], ["actor"])
    assert (awac.beta, awac.max_weight) == (3.0, 100.0)
    assert (sac.num_critics, sac.num_min, sac.entropy_per_dim, sac.layer_norm) == (2, 2, -1, False)
    assert (rlpd.num_critics, rlpd.num_min, rlpd.entropy_per_dim) == (10, 2, -0.5)
    assert rlpd.layer_norm and rlpd.actor_period == 20 and rlpd.initial_alpha == 1.0
    for cfg in (iql, awac, rlpd, sac):
        assert (cfg.discount, cfg.tau, cfg.lr["default"]) == (0.99, 0.005, 3e-4)
