"""Bundles for tests. Exporting takes seconds and copying does not, so each is made once."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import toy

from real_robot.runtime import bundle as bundles
from real_robot.runtime import signature
from real_robot.runtime.contract import Action, Contract, Leaf, Normaliser, Part
from real_robot.runtime.manifest import PolicyManifest
from robo_offline.algos.bc import BC
from robo_offline.encoders.state import State
from robo_offline.export import graph, observations
from robo_offline.export.deployed import Deployed
from robo_offline.export.make import Identity, make
from robo_offline.policies.policy import Policy
from robo_offline.spec import Spec

CHUNK = 3
KEYS = ("position", "velocity")
FOLDER = tempfile.TemporaryDirectory(prefix="bundles-")  # until the tests end
ROOT, NEXT, AFTER, OTHER = "root", "next", "after", "other"


def place(name: str, to: Path) -> Path:
    """Copy a bundle: `root`, its successors `next` and `after`, or `other`, made elsewhere."""
    return Path(shutil.copytree(_made()[name], to))


def observation(seed: int = 0) -> dict[str, np.ndarray]:
    """One that the policy has not seen."""
    random = np.random.default_rng(seed)
    return {key: random.normal(size=2).astype(np.float32) for key in KEYS}


def keys() -> tuple[Path, Path]:
    """Return the private and the public key that signed all of them."""
    _made()
    return tuple(Path(FOLDER.name) / "keys" / name for name in ("private.pem", "public.pem"))  # type: ignore[return-value]


def policy(seed: int) -> Policy:
    """An untrained policy on the toy's nested observation."""
    torch.manual_seed(seed)
    spec = Spec.of(toy.make_nested())
    algo = BC.create(spec, lambda: State(spec, _statistics()), hidden=(8,), chunk=CHUNK)
    with torch.no_grad():
        for weight in algo.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return Policy(algo)


def contract() -> Contract:
    """What the policy sees and does, in made-up units."""
    leaves = tuple(
        Leaf(
            key, (2,), "float32", None, None,
            (Part(f"{key} x", 1, unit, "table", 1.0), Part(f"{key} y", 1, unit, "table", 1.0)),
            Normaliser((0.5, -0.5), (1.0, 2.0), 2),
        )
        for key, unit in zip(KEYS, ("m", "m/s"), strict=True)
    )  # fmt: skip
    parts = (Part("step", 2, "m", "table", 0.2),)
    action = Action(2, CHUNK, "position delta", (-1.0, -1.0), (1.0, 1.0), parts)
    return Contract(leaves, (), action, 20.0, "a" * 64)


@functools.cache
def _made() -> dict[str, Path]:
    home = Path(FOLDER.name)
    private, _ = signature.make_keys(home / "keys")
    before = None
    with mock.patch.object(observations, "ROWS", 64):
        for seed, name in enumerate((ROOT, NEXT, AFTER)):
            _make(seed, home / name, private, before)
            before = bundles.read(home / name)
        # Traced anew it would be the same graph, seconds later.
        tensors = Deployed(policy(9)).tensors()
        weights = graph.pack({name: tensors[name] for name in before.weights})
        with mock.patch.object(graph, "trace", lambda *_: (before.graph, weights)):
            _make(9, home / OTHER, private, None)
    return {name: home / name for name in (ROOT, NEXT, AFTER, OTHER)}


def _make(seed: int, to: Path, private: Path, before: Any) -> PolicyManifest:
    random = np.random.default_rng(seed)
    seen = {key: random.normal(size=(64, 2)).astype(np.float32) for key in KEYS}
    identity = Identity("toy", "bc", "run-7", "best", "offline", 40 + seed, 1.0, {"seed": seed})
    return make(
        policy(seed), contract(), identity, seen, "drawn", to,
        sign=private, before=before, calls=20,
    )  # fmt: skip


def _statistics() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    return {
        f"observation.{key}": (torch.tensor([0.5, -0.5]), torch.tensor([1.0, 2.0])) for key in KEYS
    }
