"""Every algorithm learns from images and acts on them, with goals where it needs them."""

from __future__ import annotations

from functools import cache, partial

import pictures
import pytest
import torch
from hydra.utils import get_class, instantiate
from tensordict import TensorDict

from robo_offline.config import choices, compose
from robo_offline.engine.learner import Learner
from robo_offline.schema import ACTOR_GOAL, NEXT_ACTION, SUBGOALS
from robo_offline.spec import Spec

NAMES = [name for name in choices("algo") if name != "base"]
ROWS = 6
GOALS = {"front": None, "wrist": None, "state": None}  # whole observations, as QRL wants them


@cache
def encoder_values():
    narrow = ["encoder.camera.backbone.width=4", "encoder.camera.backbone.layers=2"]
    return compose(["encoder=drq", *narrow, "encoder.camera.head.dim=5"]).encoder


def seen(spec: Spec) -> TensorDict:
    leaves = {}
    for key, leaf in spec.observation.items(include_nested=True, leaves_only=True):
        shape, image = (ROWS, *leaf.shape), leaf.dtype == torch.uint8
        value = torch.randint(0, 256, shape, dtype=torch.uint8) if image else torch.randn(shape)
        leaves[key] = value
    return TensorDict(leaves, [ROWS])["observation"]


def batch(spec: Spec, needs: tuple[str, ...]) -> TensorDict:
    ends = torch.arange(ROWS) % 3 == 0
    shape, mask = (ROWS, *spec.action_shape), torch.ones(ROWS, spec.action_shape[0]).bool()
    following = {"observation": seen(spec), "reward": torch.rand(ROWS), "terminated": ends,
                 "truncated": ~ends, "done": ends | ~ends}  # fmt: skip
    made = {
        "observation": seen(spec), "action": 2 * torch.rand(shape) - 1, "next": following,
        "discount": torch.full((ROWS,), 0.9), "source": torch.zeros(ROWS, dtype=torch.uint8),
        "demonstration": ends, "return_to_go": torch.rand(ROWS), "index": torch.arange(ROWS),
    }  # fmt: skip
    if len(spec.action_shape) == 2:
        made["mask"] = mask
    if NEXT_ACTION in needs:
        following["action"] = 2 * torch.rand(shape) - 1
        if len(spec.action_shape) == 2:
            following["mask"] = mask
    if ACTOR_GOAL in needs:
        made["actor_goal"] = seen(spec)["goal"]
    if SUBGOALS in needs:
        made |= {key: seen(spec)["goal"] for key in ("low_goal", "high_goal")}
        made["high_target"] = seen(spec).exclude("goal")
    return TensorDict(made, [ROWS])


@pytest.mark.parametrize("name", NAMES)
def test_an_algorithm_learns_from_images_and_acts_on_them(name):
    cls = get_class(compose([f"algo={name}"]).algo._target_.removesuffix(".create"))
    spec = pictures.spec()
    if {ACTOR_GOAL, SUBGOALS} & set(cls.needs):
        spec = spec.with_goal(GOALS)
    narrow = {k: (8,) for k in cls.Config.__dataclass_fields__ if k.endswith("hidden")}
    make = partial(instantiate(encoder_values(), _partial_=True), spec=spec, statistics=None)
    algo = cls.create(spec, make, action_scale=torch.ones(2), **narrow)
    algo.study(batch(algo.spec, cls.needs))
    algo.schedule(10**9, "online")
    learner = Learner(algo)
    for _ in range(2):
        metrics = learner.update(batch(algo.spec, cls.needs))
        assert all(value.isfinite().all() for value in metrics.values())
    trained = [p for p in algo.parameters() if p.requires_grad and p.dim() == 4]
    assert trained  # convolutions, of whoever has them
    assert algo.act(seen(algo.spec), explore=True).abs().max() <= 1
