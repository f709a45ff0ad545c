"""The stack from Python: load a data set, create an algorithm, train, evaluate, save."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from robo_offline import build
from robo_offline.algorithm import Algorithm, EncoderFactory
from robo_offline.config import compose
from robo_offline.datasets import Dataset
from robo_offline.datasets.statistics import observation_statistics
from robo_offline.encoders.state import State
from robo_offline.errors import UserError, nearest
from robo_offline.phases.run import Run
from robo_offline.train import write_identity


def environment(name: str, **values: Any) -> Callable[[], gymnasium.Env]:
    """Return what makes the environment `name`, such as `robosuite/lift`, with values on top."""
    return build.environment(_node("env", name, values))


def encoder(data: Dataset) -> EncoderFactory:
    """Return what makes state encoders that normalise by the statistics of a data set."""
    return partial(State, spec=data.spec, statistics=observation_statistics(data))


def offline(**values: Any) -> Any:
    """Return the offline phase of `configs/phase/offline.yaml`, with values on top."""
    return instantiate(_node("phase", "offline", values, inner="offline"))


def online(**values: Any) -> Any:
    """Return the online phase of `configs/phase/online.yaml`, with values on top."""
    return instantiate(_node("phase", "online", values, inner="online"))


def learn(
    directory: Path | str,
    algo: Algorithm,
    data: Dataset | None,
    env: Callable[[], gymnasium.Env],
    phases: Sequence[Any],
    *,
    seed: int = 0,
    **values: Any,
) -> Run:
    """Run the phases in order in a fresh folder and return the run.

    `values` are any others of `configs/train.yaml` by section, for example
    `evaluation={"episodes": 20}` or `replay={"offline_fraction": 0.25}`. Networks are initialised
    where the algorithm is created: call `torch.manual_seed` before it.
    """
    directory = Path(directory)
    if (directory / "config.yaml").exists():
        raise UserError("the folder holds a run already", where=directory)
    # Worker processes import the calling script again, which a script without a main guard forbids.
    cfg = compose(["evaluation.workers=1"])
    OmegaConf.set_struct(cfg, True)
    merged = OmegaConf.merge(cfg, values)
    assert isinstance(merged, DictConfig)
    cfg = merged
    OmegaConf.set_struct(cfg, False)
    created_by = f"{type(algo).__module__}.{type(algo).__name__}.create"
    cfg.algo = {"_target_": created_by, **asdict(algo.cfg)}
    cfg.env = getattr(env, "args", [{}])[0]
    cfg.dataset, cfg.seed, cfg.run_dir = data.name if data else "", seed, str(directory)
    named = {type(phase).__name__.lower(): phase for phase in phases}
    cfg.phase = {
        name: {"_target_": f"{type(phase).__module__}.{type(phase).__name__}", **asdict(phase)}
        for name, phase in named.items()
    }
    torch.manual_seed(seed)
    run = build.assemble(cfg, directory, algo, data, env)
    write_identity(cfg, directory)
    try:
        run.execute(named)
    finally:
        run.close()
    return run


def _node(group: str, name: str, values: dict[str, Any], inner: str | None = None) -> DictConfig:
    cfg = compose([f"{group}={name}"])[group]
    node = cfg[inner] if inner else cfg
    for key, value in values.items():
        if key not in node:
            raise UserError(
                f"{group} '{name}' has no '{key}'", remedy=nearest(key, [str(k) for k in node])
            )
        node[key] = value
    return node
