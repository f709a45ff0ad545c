"""This project: an algorithm, its replay and the learner, as the offline phase runs them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from tensordict import TensorDict
from torch import Tensor

from robo_offline.algorithm import Algorithm
from robo_offline.bench.loops import ACTION, BATCH, EPISODE, HIDDEN, OBSERVATION, ROWS
from robo_offline.config import compose
from robo_offline.encoders.state import State
from robo_offline.engine.learner import Learner
from robo_offline.listing import class_of
from robo_offline.replay.buffer import Replay, Window
from robo_offline.spec import Spec


def start(name: str) -> Callable[[], Any]:
    """Return one update of the algorithm with networks of two layers of 256 and shipped values."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    algo_name, _, critics = name.partition("-")
    knobs: dict[str, Any] = {"num_critics": int(critics)} if critics else {}
    known = class_of(algo_name).Config.__dataclass_fields__.keys()
    knobs |= dict.fromkeys({"hidden", "critic_hidden", "actor_hidden"} & known, HIDDEN)
    replay = replay_for(algo_name)
    return partial(update, learner_for(algo_name, replay, **knobs), replay)


def replay_for(name: str) -> Replay:
    """Return what an algorithm draws its batches from."""
    values = compose([f"algo={name}"]).algo
    window = Window(values.discount, values.chunk, extras=class_of(name).needs)
    return Replay.of_steps(steps(), window)


def learner_for(name: str, replay: Replay, cls: type[Learner] = Learner, **knobs: Any) -> Learner:
    """Return what trains an algorithm, with shipped values where `knobs` say nothing else."""
    spec = Spec.from_spaces(
        Box(-np.inf, np.inf, (OBSERVATION,), np.float32), Box(-1, 1, (ACTION,), np.float32)
    )
    algo = class_of(name).create(
        spec, partial(State, spec), action_scale=torch.ones(ACTION), **knobs
    )
    if type(algo).study is not Algorithm.study:
        algo.study(replay.gather(replay.starts[:20_000]))
    return cls(algo)


def update(learner: Learner, replay: Replay, phase: str = "offline") -> dict[str, Tensor]:
    """Make one update, sampling included, behind every warm-up of the phase."""
    learner.algo.schedule(10**6, phase)
    return learner.update(replay.sample(BATCH))


def steps() -> TensorDict:
    """Random episodes, laid as a data set's rows."""
    random = torch.Generator().manual_seed(0)
    rows = ROWS + ROWS // EPISODE
    final = torch.arange(1, rows + 1) % (EPISODE + 1) == 0
    last = torch.roll(final, -1)
    return TensorDict(
        {
            "observation": torch.randn(rows, OBSERVATION, generator=random),
            "action": 2 * torch.rand(rows, ACTION, generator=random) - 1,
            "reward": torch.randn(rows, generator=random),
            "terminated": last & (torch.arange(rows) % 2 == 0),
            "truncated": last & (torch.arange(rows) % 2 == 1),
            "success": torch.zeros(rows, dtype=torch.bool),
            "final": final,
        },
        [rows],
    )
