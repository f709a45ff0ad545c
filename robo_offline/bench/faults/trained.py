"""A policy that reaches, trained in seconds on episodes of its own robot, and bundles of it."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from real_robot.descriptor import load
from real_robot.runtime import signature
from real_robot.runtime.bundle import read
from real_robot.testing.reaching import HIGH_M, LOW_M, STEP_M, Rig, reaching, towards
from robo_offline.algos.bc import BC
from robo_offline.encoders.state import State, Statistics
from robo_offline.engine.learner import Learner
from robo_offline.export import describe
from robo_offline.export.make import Identity, make
from robo_offline.policies.policy import Policy
from robo_offline.spec import Spec

KEYS = ("q", "tool", "goal")
GOAL, TOOL = slice(14, 17), slice(7, 10)  # where they are in the observation (17,)
EPISODES, NOISE = 80, 0.2  # of the demonstrations; std of the stumbling
UPDATES, BATCH = 1000, 256
HORIZON = 40


@dataclass(frozen=True)
class Played:
    """One episode."""

    observation: np.ndarray  # (T, 17) float32
    action: np.ndarray  # (T, 4), as decided
    success: bool


@dataclass(frozen=True)
class Trained:
    """A policy, what it was trained on, and its first bundle."""

    policy: Policy
    played: list[Played]
    bundle: Path


def rig(**options: Any) -> Rig:
    """Build the robot that the policy is for: 100 ticks a second, to play more in the same time."""
    known = load("sim")
    robot = replace(known, timing=replace(known.timing, servo_hz=100.0))
    return reaching(**{"robot": robot, "keys": KEYS, "horizon": HORIZON, **options})


def play(
    on: Rig, episodes: int, decide: Callable[[np.ndarray], np.ndarray], seed: int = 0
) -> list[Played]:
    """Play episodes by a function of the observation."""
    found = []
    for index in range(episodes):
        seen, done = [on.env.reset(seed=seed + index)[0]], []
        while True:
            done.append(decide(seen[-1]))
            observation, _, terminated, truncated, info = on.env.step(done[-1])
            if terminated or truncated:
                break
            seen.append(observation)
        found.append(Played(np.stack(seen), np.stack(done), bool(info["success"])))
    return found


class Narrow(State):
    """Normalised features, squeezed: so small a bias is what compilers like to fold."""

    def __init__(self, spec: Spec, statistics: Statistics):
        super().__init__(spec, statistics)
        self.squeeze = nn.Linear(self.dim, 8)
        self.dim = 8

    def forward(self, observation: Any) -> Tensor:
        return self.squeeze(super().forward(observation))


@functools.cache
def trained() -> Trained:
    """Play demonstrations, clone them, and export; once in this process."""
    torch.manual_seed(0)
    on, random = rig(roams=True), np.random.default_rng(0)

    def stumble(_: np.ndarray) -> np.ndarray:
        noise = NOISE * random.normal(size=4)
        return np.clip(towards(on) + noise, -1, 1)

    played = [episode for episode in play(on, EPISODES, stumble) if episode.success]
    rows = torch.from_numpy(np.concatenate([episode.observation for episode in played]))
    spec = Spec.of(on.env)
    statistics = {"observation": (rows.mean(0), rows.std(0))}
    algo = BC.create(spec, lambda: Narrow(spec, statistics), hidden=(64, 64))
    learn(algo, rows, UPDATES, right)
    folder = Path(_home().name) / "bundle"
    policy = Policy(algo)
    export(policy, folder)
    return Trained(policy, played, folder)


def decided(policy: Policy, rows: np.ndarray) -> np.ndarray:
    """Return what a policy does for observations (B, 17): (B, 4)."""
    actor: Any = policy.algo.actor
    with torch.inference_mode():
        return actor.mode(torch.from_numpy(rows)).numpy()


def learn(algo: Any, rows: Tensor, updates: int, label: Callable) -> None:
    """Clone `label` from places that were visited, each time with other goals."""
    learner = Learner(algo.requires_grad_(True))
    low, high = torch.tensor(LOW_M), torch.tensor(HIGH_M)
    for _ in range(updates):
        batch = rows[torch.randint(len(rows), (BATCH,))].clone()
        batch[:, GOAL] = low + torch.rand(BATCH, 3) * (high - low)
        learner.update(TensorDict({"observation": batch, "action": label(batch)}, [BATCH]))


def right(observation: Tensor) -> Tensor:
    """Return what brings the tool to the goal: (B, 17) -> (B, 4)."""
    way = (observation[:, GOAL] - observation[:, TOOL]) / STEP_M
    return torch.cat([way.clamp(-1, 1), torch.zeros(len(way), 1)], 1)


def successor(of: Policy, change: Callable[[Policy], None], before: Path, to: Path) -> Policy:
    """Export a changed policy as the next version of a bundle."""
    policy = copy.deepcopy(of)
    change(policy)
    export(policy, to, before)
    return policy


def export(policy: Policy, to: Path, before: Path | None = None) -> None:
    """Write a bundle of the policy, with the contract of its robot."""
    on = rig()
    contract = describe.contract(policy, on.env, None, on.env.robot.hash)
    seen = {"observation": np.stack([on.env.reset(seed=s)[0] for s in range(8)])}
    identity = Identity("reach by bc", "bc", "faults", "last", "offline", UPDATES, None, {})
    bundle = None if before is None else read(before)
    sign, _ = keys()
    make(policy, contract, identity, seen, "drawn", to, sign=sign, before=bundle, calls=20)


@functools.cache
def keys() -> tuple[Path, Path]:
    """Make the private and the public key of these bundles."""
    return signature.make_keys(Path(_home().name) / "keys")


@functools.cache
def _home() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="faults-")  # until this process ends
