"""Algorithm: networks and named losses; all that an algorithm file needs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar, TypeVar

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from robo_offline.encoders import Encoder
from robo_offline.encoders.fusion import lend
from robo_offline.errors import UserError, nearest
from robo_offline.policies.action_range import ActionRange
from robo_offline.schema import ACTOR_GOAL, EXTRAS, SUBGOALS, Batch
from robo_offline.spec import Spec

Loss = tuple[Tensor, dict[str, Tensor]]
PRIORITY = "priority"  # the one metric with a batch axis: for the replay, not for the log
EncoderFactory = Callable[..., Encoder]  # `encoder(spec=...)` for what sees a part alone
M = TypeVar("M", bound=nn.Module)


@dataclass
class Config:
    """Knobs that every algorithm has. Types and meanings stand here, values in `configs/algo`."""

    discount: float  # per environment step, whatever the chunk
    tau: float  # fraction of the way a target moves per step
    lr: dict[str, float]  # Adam step per module; `default` serves those not named
    offline_decay: tuple[str, ...]  # modules whose lr falls to 0 over the offline phase (cosine)
    chunk: int  # actions decided at once and executed open loop; 1 is step by step
    frames: int  # images of each camera that are seen at once, the last ones; 1 is the present one
    data_range: bool  # the policy's [-1, 1] is as far as the data goes, per dimension


class Algorithm(nn.Module):
    """Networks and losses. Knows nothing of optimisers, devices, seeds, loops or logging.

    `loss_<name>(batch)` is differentiated with respect to `self.<name>` and nothing else, so an
    actor loss may run through a critic with nothing frozen or detached. Losses are pure functions
    of parameters, batch and the global random stream, and return (scalar, metrics of 0-d tensors).
    One may also return `priority` (B,), how wrong it was about each row, for a prioritised replay.
    """

    Config: ClassVar[type] = Config
    order: ClassVar[tuple[str, ...]] = ()  # loss_<name> trains self.<name>, in this order
    targets: ClassVar[Mapping[str, str]] = {}  # slow copy -> the module (or copy) it follows
    needs: ClassVar[tuple[str, ...]] = ()  # of schema.EXTRAS, what a batch must hold besides
    simultaneous: ClassVar[bool] = False  # all gradients are taken before the first step

    def __init__(
        self, spec: Spec, encoder: EncoderFactory, cfg: Any, action_scale: Tensor | None = None
    ):
        super().__init__()
        self.cfg = cfg
        _check_values(cfg)
        if spec.goal is None and {ACTOR_GOAL, SUBGOALS} & set(self.needs):
            raise UserError(
                f"{type(self).__name__} learns to reach goals, and there are none here",
                expected="an environment with goals, such as env=goal/point_maze_umaze",
                remedy="such an env together with goals=..., or an algorithm without goals; "
                "in Python data.spec.with_goal(Spec.of(env).goal)",
            )
        if cfg.data_range and action_scale is None:
            raise UserError(
                "data_range needs the scale of the data's actions",
                remedy="create(..., action_scale=scale_of(data.steps['action']))",
            )
        scale = action_scale if cfg.data_range else torch.ones(spec.step_dim)
        assert scale is not None
        self.action_range = ActionRange(scale)
        stacked = spec.stacked(cfg.frames)
        self.spec = stacked.with_step_dim(self.action_range.step_dim).chunked(cfg.chunk)
        if stacked is not spec:  # the encoder was told of single images
            encoder = partial(encoder, spec=stacked)
        self.build(self.spec, encoder)
        lend(self, dict(self.targets))
        self._check()

    @classmethod
    def create(
        cls,
        spec: Spec,
        encoder: EncoderFactory,
        action_scale: Tensor | None = None,
        **knobs: Any,
    ) -> Any:
        """Build from the shipped YAML with `knobs` on top.

        `action_scale` (A,) is the data's largest action per dimension, for `data_range`.
        Raises UserError, naming the nearest knob, for one that the algorithm does not have.
        """
        from robo_offline.config import algorithm_values

        known = {field.name for field in fields(cls.Config)}
        for knob in knobs:
            if knob not in known:
                raise UserError(f"{cls.__name__} has no knob '{knob}'", remedy=nearest(knob, known))
        try:
            typed = OmegaConf.merge(
                OmegaConf.structured(cls.Config), algorithm_values(cls), dict(knobs)
            )
            cfg = OmegaConf.to_object(typed)
        except OmegaConfBaseException as error:
            raise UserError(
                f"a knob of {cls.__name__} does not fit: {error.full_key}",
                found=str(error).splitlines()[0],
            ) from error
        return cls(spec, encoder, cfg, action_scale)

    def build(self, spec: Spec, encoder: EncoderFactory) -> None:
        """Create the modules; `encoder()` gives a new one, to be shared or not."""
        raise TypeError(f"{type(self).__name__} has no build()")

    def period(self, name: str) -> int:
        """Train `name` on every period-th update; 0 is never."""
        return 1

    def target_period(self, slow: str) -> int:
        """Move the target `slow` on every period-th update, of those that train its module."""
        return 1

    def target_tau(self, slow: str) -> float:
        """Fraction of the way that the target `slow` moves; 1 copies."""
        return self.cfg.tau

    def schedule(self, step: int, phase: str) -> None:
        """Set phase- or time-dependent weights; called before each update with plain numbers.

        `step` counts within the phase, updates offline and environment steps online. A weight that
        changes from step to step is a 0-d buffer, filled in place: a captured update reads it.
        """

    def study(self, data: Batch) -> None:
        """Look at all rows of the data set at once, before the first update (and at a resume).

        Anything derived here is made anew from the data, never saved.
        """

    @torch.no_grad()
    def prepare(self, batch: Batch) -> Batch:
        """Add what several losses of one update share and none differentiates, such as a target Q.

        A loss must find it by itself where it is missing. Worth a hook from a tenth of the time on.
        """
        return batch

    def after_update(self, metrics: Mapping[str, Tensor]) -> None:
        """Adjust buffers by what the losses just reported, such as a dual variable."""

    def after_episode(self, summary: Mapping[str, float]) -> None:
        """Adjust buffers by an online episode: its `return`, `length` and `success`."""

    def act(self, observation: Any, explore: bool) -> Tensor:
        """Choose actions (B, *action_shape) in the policy's [-1, 1]."""
        actor: Any = self.actor
        return (actor.sample(observation) if explore else actor.mode(observation)).clamp(-1, 1)

    def _check(self) -> None:
        losses = {name.removeprefix("loss_") for name in dir(self) if name.startswith("loss_")}
        if losses != set(self.order):
            raise TypeError(f"{type(self).__name__}: order {self.order} against losses {losses}")
        modules = dict(self.named_children())
        for name in [*self.order, *self.targets.keys(), *self.targets.values()]:
            if name not in modules:
                raise TypeError(f"{type(self).__name__} names '{name}' but build() made no such")
        for extra in self.needs:
            if extra not in EXTRAS:
                raise TypeError(f"{type(self).__name__} needs '{extra}', which no batch can hold")
        for name in self.cfg.offline_decay:
            if name not in self.order:
                raise UserError(
                    f"offline_decay names '{name}', which {type(self).__name__} does not train",
                    remedy=nearest(name, self.order),
                )


def _check_values(cfg: Any) -> None:
    """Refuse what would run without an error and learn nothing, before networks are built."""
    ranges = {
        "discount": (0 <= cfg.discount <= 1, "within [0, 1]"),
        "tau": (0 <= cfg.tau <= 1, "within [0, 1]"),
        "chunk": (cfg.chunk >= 1, "at least 1"),
        "frames": (cfg.frames >= 1, "at least 1"),
        "num_min": (
            1 <= getattr(cfg, "num_min", 1) <= getattr(cfg, "num_critics", math.inf),
            "from 1 to num_critics",
        ),
        "hidden": (all(width >= 1 for width in getattr(cfg, "hidden", ())), "positive widths"),
    }
    for knob, (fits, expected) in ranges.items():
        if not fits:
            raise UserError(
                f"algo.{knob} does not make sense", expected=expected, found=getattr(cfg, knob)
            )


def target(module: M) -> M:
    """Return the slow copy of a module: the same weights, never trained."""
    return copy.deepcopy(module).requires_grad_(False)
