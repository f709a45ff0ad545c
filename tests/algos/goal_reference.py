"""What the references of methods towards goals share: a world with goals, batches, networks.

NumPy in double precision, from the equations; it knows networks as lists of numbers, and it draws
its own goals, since which goal a batch holds is not an algorithm's affair.
"""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import torch
from reference import A, B, D, normalised
from reference import make_batch as plain_batch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, UnboundedContinuous

from robo_offline.encoders.state import State
from robo_offline.spec import Spec

MEAN, STD = np.array([0.5, -1.0, 0.0, 2.0]), np.array([2.0, 0.1, 0.5, 1.0])
LEAF = torch.tensor(MEAN), torch.tensor(STD)
GOALS = ("g", "g_actor", "g_low", "g_high")


def goal_spec(made_of=None) -> Spec:
    """Four numbers of state, two of action; a goal is a whole state unless said otherwise."""
    state = Composite(observation=Composite(state=UnboundedContinuous((D,), dtype=torch.float32)))
    action = Bounded(-1.0, 1.0, shape=(A,), dtype=torch.float32)
    return Spec(state, action).with_goal(made_of or {"state": None})


def encoder(spec: Spec) -> partial:
    statistics = {"observation.state": LEAF, "observation.goal.state": LEAF}
    return partial(State, spec=spec, statistics=statistics)


def make(cls, chunk=1, **knobs):
    """The algorithm in double precision, every weight moved away from where it begins."""
    torch.manual_seed(0)
    spec = goal_spec()
    knobs = {"hidden": (7, 5), **knobs}
    algo = cls.create(spec, encoder(spec), chunk=chunk, **knobs).double()
    for parameter in algo.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    for module in algo.modules():
        if isinstance(module, State):
            both = np.tile(1 / (STD + 1e-3), module.dim // D)
            module.inverse_std.copy_(torch.tensor(both))
    return copy.deepcopy(algo)


def make_batch(case: str, chunk: int = 1) -> dict[str, np.ndarray]:
    batch = plain_batch(case, chunk)
    random = np.random.default_rng(7)
    for key in (*GOALS, "s_high"):
        batch[key] = random.normal(size=(B, D))
    if case == "one_state":
        batch = {key: np.repeat(value[1:2], B, 0) for key, value in batch.items()}
    return batch


def as_tensordict(batch: dict[str, np.ndarray], chunk: int = 1) -> TensorDict:
    t = {key: torch.tensor(value) for key, value in batch.items()}

    def seen(key: str) -> TensorDict:
        return TensorDict({"state": t[key], "goal": {"state": t["g"]}}, [B])

    dead = t["d"] > 0
    content = {
        "observation": seen("s"),
        "action": t["a"],
        "discount": t["gamma"],
        "actor_goal": {"state": t["g_actor"]},
        "low_goal": {"state": t["g_low"]},
        "high_goal": {"state": t["g_high"]},
        "high_target": {"state": t["s_high"]},
        "next": {
            "observation": seen("s2"),
            "reward": t["r"],
            "terminated": dead,
            "truncated": ~dead & (torch.arange(B) % 4 == 1),
            "done": dead | (torch.arange(B) % 4 == 1),
        },
    }
    return TensorDict(content | ({"mask": t["mask"]} if chunk > 1 else {}), [B])


def value_of(algo, name: str, batch, chunk: int = 1, seed: int = 11) -> float:
    torch.manual_seed(seed)
    return getattr(algo, f"loss_{name}")(as_tensordict(batch, chunk))[0].item()


# -- the networks, from their numbers --------------------------------------------------------


def gelu(x):
    """The form that JAX has by default."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def numbers(module, member: int | None = None) -> list[np.ndarray]:
    values = [value.detach().numpy() for value in module.state_dict().values()]
    return values if member is None else [value[member] for value in values]


def body(values: list[np.ndarray], x: np.ndarray, norm: bool) -> np.ndarray:
    """Dense -> GELU (-> LayerNorm) ... -> Dense."""
    values = list(values)
    while len(values) > 2:
        weight, bias, *rest = values[: 4 if norm else 2]
        values = values[4 if norm else 2 :]
        x = gelu(x @ weight + bias.reshape(-1))
        if norm:
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
            x = x * rest[0].reshape(-1) + rest[1].reshape(-1)
    return x @ values[0] + values[1].reshape(-1)


def beside(*parts) -> np.ndarray:
    return np.concatenate(parts, -1)


def seen(s, g) -> np.ndarray:
    return beside(normalised(s), normalised(g))


def members(module, x) -> np.ndarray:
    """(E, B) or (E, B, D) of an ensemble that estimates values."""
    count = len(numbers(module)[0])
    out = np.stack([body(numbers(module, e), x, True) for e in range(count)])
    return out[..., 0] if out.shape[-1] == 1 else out


def q_values(critic, s, g, a) -> np.ndarray:
    return members(critic.net, beside(seen(s, g), a.reshape(B, -1)))


def v_values(value, s, g) -> np.ndarray:
    """(E, B) of an ensemble, (B,) of a single value."""
    if numbers(value.net)[0].ndim == 2:
        return body(numbers(value.net), seen(s, g), True)[:, 0]
    return members(value.net, seen(s, g))


def mean_action(actor, s, g, shape) -> np.ndarray:
    return body(numbers(actor.net), seen(s, g), False).reshape(shape)


def log_density(mean, a, mask=None) -> np.ndarray:
    """log N(a; mean, 1), (B,); filler counts nothing."""
    density = -0.5 * (a - mean) ** 2 - 0.5 * np.log(2 * np.pi)
    if mask is not None and density.ndim == 3:
        density = density * mask[..., None]
    return density.reshape(len(a), -1).sum(1)
