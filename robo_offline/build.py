"""Build the parts of a run from its configuration, refusing what does not fit before any work."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

import envs
from robo_offline.algorithm import Algorithm
from robo_offline.datasets import Dataset, load
from robo_offline.datasets.best import best_episodes
from robo_offline.datasets.cache import cache_root
from robo_offline.datasets.features import Features
from robo_offline.datasets.goals import comparable
from robo_offline.datasets.no_ops import drop_no_ops
from robo_offline.datasets.statistics import observation_statistics
from robo_offline.encoders.fusion import Fusion
from robo_offline.engine.divergence import largest_return
from robo_offline.engine.learner import Learner
from robo_offline.errors import UserError
from robo_offline.evaluate import Evaluator
from robo_offline.phases.collector import Choice, Here
from robo_offline.phases.run import Run
from robo_offline.policies.action_range import scale_of
from robo_offline.policies.select import Own
from robo_offline.replay import hindsight
from robo_offline.replay.augment import NO_AUGMENT, Augment
from robo_offline.replay.buffer import Replay, Window
from robo_offline.replay.hindsight import Hindsight, Shares
from robo_offline.replay.mixture import Mixture
from robo_offline.replay.samplers import Sampler
from robo_offline.schema import check
from robo_offline.spec import Spec


def environment(cfg: DictConfig) -> Callable[[], gymnasium.Env]:
    """Return what makes the environment; it crosses process boundaries."""
    return partial(_make, OmegaConf.to_container(cfg, resolve=True))


def _make(values: Any) -> gymnasium.Env:
    return envs.build(values)


def environment_spec(cfg: DictConfig) -> Spec:
    """Read what a policy sees and does off the environment."""
    with closing(environment(cfg.env)()) as env:
        return Spec.of(env)


def dataset_and_spec(cfg: DictConfig) -> tuple[Dataset | None, Spec]:
    """Load the data set, hold it against the environment; UserError where they differ."""
    data = load(cfg.dataset) if cfg.dataset else None
    if data is not None:
        data = best_episodes(data, cfg.best_share)  # first: returns are those of whole episodes
        data = drop_no_ops(data) if cfg.drop_no_ops else data
    spec = environment_spec(cfg)
    if data is not None:
        told = goals(cfg)
        data = comparable(data, spec, commanded=told is None or told.commands)
        differences = data.spec.difference(spec)
        if differences:
            raise UserError(
                "the data set does not fit the environment",
                where=f"{cfg.dataset} (here) and {cfg.env._target_} (there)",
                found="; ".join(differences),
                remedy="choose the env the data was recorded in, or import the data again",
            )
    return data, spec


def algorithm(
    cfg: DictConfig, spec: Spec, data: Dataset | None, action_scale: Tensor | None = None
) -> Algorithm:
    """Build the networks, with the data set's statistics inside of them.

    Without the data set, weights that are loaded next bring the statistics along; `action_scale`
    must then be theirs, since it decides how many numbers the policy has.
    """
    statistics = None
    if data is not None:
        statistics, action_scale = observation_statistics(data), scale_of(data.steps["action"])
    if cfg.algo.data_range and action_scale is None:
        raise UserError(
            "algo.data_range needs a data set", remedy="give dataset=..., or algo.data_range=false"
        )
    # Hydra would turn dataclasses among the arguments into configurations: call the parts here.
    encoder = instantiate(cfg.encoder, _partial_=True)
    create = instantiate(cfg.algo, _partial_=True, _convert_="all")
    return create(
        spec=spec,
        encoder=partial(encoder, spec=spec, statistics=statistics),
        action_scale=action_scale,
    )


def mixture(cfg: DictConfig, algo: Algorithm, data: Dataset | None, scratch: Path) -> Mixture:
    """Build the replay of the data set and the one that grows."""
    r = cfg.replay
    window = Window(
        algo.cfg.discount,
        algo.cfg.chunk,
        r.n_step,
        r.reward_scale,
        r.reward_shift,
        algo.action_range,
        algo.needs,
        goals(cfg),
        algo.spec.goal,
        algo.spec.frames,
    )
    hindsight.check(window)
    how = sampler(r.sampler)
    offline = Replay.of_steps(data.steps, window, sampler=how) if data is not None else None
    online = Replay(
        int(r.capacity), window, scratch=scratch if r.memory_mapped else None, sampler=how
    )
    mixed: Mixture = instantiate(r.mixture, offline, online, _convert_="all")
    mixed.bind(algo)
    return mixed


def goals(cfg: DictConfig) -> Hindsight | None:
    """Build what tells batches their goals; None where they keep their own."""
    chosen = cfg.get("goals")  # a run from before there were goals has none
    if not chosen:
        return None
    values = DictConfig(OmegaConf.to_container(chosen, resolve=True))
    parts = {
        "reached": get_class(values.reached._target_),
        **dict.fromkeys(("value", "actor"), Shares),
    }
    built = {
        name: cls(**typed(cls, values.pop(name), f"goals.{name}")) for name, cls in parts.items()
    }
    return Hindsight(**built, **typed(Hindsight, values, "goals"))


def sampler(cfg: DictConfig) -> Sampler:
    """Build the choice of which windows are drawn."""
    cls = get_class(cfg._target_)
    return cls(**typed(cls, cfg, "replay.sampler"))


def acting(cfg: DictConfig) -> Own:
    """Build the choice of who acts in the online phase."""
    return instantiate(cfg.acting)


def collector(cfg: DictConfig) -> Choice:
    """Build the choice of where experience is collected; here in a run from before there was one.

    Raises UserError where it is not possible.
    """
    if not cfg.get("collector"):
        return Here()
    cls = get_class(cfg.collector._target_)
    chosen = cls(**typed(cls, cfg.collector, "collector"))
    ahead = [name for name, node in cfg.phase.items() if node.get("second_process")]
    if ahead and not isinstance(chosen, Here):
        raise UserError(
            f"phase.{ahead[0]}.second_process is for collector=here",
            remedy="leave it away: the actor has a process of its own already",
        )
    return chosen


def augment(cfg: DictConfig) -> Augment:
    """Build how the images of a batch are varied; a run from before there was it does not."""
    return instantiate(cfg.augment, _convert_="all") if cfg.get("augment") else NO_AUGMENT


def features(algo: Algorithm, varied: Augment) -> Features:
    """Find the frozen networks of an algorithm, whose features take the place of images.

    Raises UserError where images would be varied that no network looks at.
    """
    eyes: dict[tuple[str, ...], Any] = {}
    for part in algo.modules():
        if isinstance(part, Fusion):
            eyes |= part.frozen()
    if eyes and varied.steps:
        raise UserError(
            "a frozen encoder's features are computed once, so its images cannot be varied",
            expected="augment=none, or encoder.camera.frozen=false",
            found=f"augment with {len(varied.steps)} steps",
        )
    return Features(eyes)


def learner(cfg: DictConfig, algo: Algorithm) -> Learner:
    """Build what trains the algorithm; eagerly in a run from before there was a choice."""
    if not cfg.get("learner"):
        return Learner(algo)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_root() / "compiled"))
    return instantiate(cfg.learner, _partial_=True)(algo)


def phases(cfg: DictConfig) -> Mapping[str, Any]:
    """Build the phases in the order of the configuration.

    An experiment may hold values for a phase that the run leaves out: that one has no `_target_`.
    """
    chosen = {str(name): node for name, node in cfg.phase.items() if "_target_" in node}
    built = {}
    for name, node in chosen.items():
        cls = get_class(node._target_)
        built[name] = cls(**typed(cls, node, f"phase.{name}"))
    return built


def typed(cls: type, node: DictConfig, where: str) -> dict[str, Any]:
    """Return values of a dataclass's types. Raises UserError naming the one that differs."""
    values = {str(key): value for key, value in node.items() if key != "_target_"}
    whole = {field.name for field in fields(cls) if field.type == "int"}
    for key, value in values.items():  # 1e5 is how people write a number of steps
        if key in whole and isinstance(value, float) and value.is_integer():
            values[key] = int(value)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(cls), values)
    except OmegaConfBaseException as error:
        raise UserError(
            f"{where}.{error.key} does not fit",
            expected=error.object_type and _type_of(cls, error.key),
            found=node.get(error.key),
        ) from error
    assert isinstance(merged, DictConfig)
    return {key: merged[key] for key in values}


def _type_of(cls: type, key: Any) -> str:
    found = {field.name: str(field.type) for field in fields(cls)}
    return found.get(str(key), "another name")


@dataclass
class ReplayValues:
    """Types of `configs/replay`."""

    mixture: dict[str, Any]
    sampler: dict[str, Any]
    capacity: int
    memory_mapped: bool
    n_step: int
    reward_scale: float
    reward_shift: float
    offline_fraction: float
    final_fraction: float
    anneal_steps: int


@dataclass
class EvaluationValues:
    """Types of `configs/evaluation`."""

    episodes: int
    seed: int
    workers: int
    video_episodes: int


def check_values(cfg: DictConfig) -> None:
    """Refuse values of a wrong type or without sense, before anything is built."""
    typed(ReplayValues, cfg.replay, "replay")
    sampler(cfg.replay.sampler)
    goals(cfg)
    typed(EvaluationValues, cfg.evaluation, "evaluation")
    phases(cfg)
    collector(cfg)


def run(cfg: DictConfig, directory: Path) -> Run:
    """Build a whole run in its folder."""
    check_values(cfg)
    torch.set_num_threads(cfg.threads)
    torch.manual_seed(cfg.seed)
    data, spec = dataset_and_spec(cfg)
    return assemble(cfg, directory, algorithm(cfg, spec, data), data, environment(cfg.env))


def assemble(
    cfg: DictConfig,
    directory: Path,
    algo: Algorithm,
    data: Dataset | None,
    make: Callable[[], gymnasium.Env],
) -> Run:
    """Put a run together around an algorithm that is built already."""
    evaluator = Evaluator(
        make,
        episodes=cfg.evaluation.episodes,
        seed=cfg.evaluation.seed,
        workers=cfg.evaluation.workers,
        video_episodes=cfg.evaluation.video_episodes,
        score_range=data.score_range if data is not None else None,
    )
    varied = augment(cfg)
    seen = features(algo, varied)
    data = seen.dataset(data) if data is not None else None
    replay = mixture(cfg, algo, data, directory / "replay")
    if replay.offline is not None:  # one batch against the contract, before any work
        check(replay.offline.gather(replay.offline.starts[:64]), seen.spec(algo.spec))
        longest = max(steps for _, steps in replay.offline.episodes)
        if algo.cfg.chunk > longest:
            raise UserError(
                "a chunk of actions is longer than every episode of the data",
                expected=f"algo.chunk of at most {longest}",
                found=algo.cfg.chunk,
            )
    if type(algo).study is not Algorithm.study:
        if replay.offline is None:
            raise UserError(f"{type(algo).__name__} learns from a data set", remedy="dataset=...")
        algo.study(replay.offline.gather(replay.offline.starts))
    result = Run(
        directory,
        learner(cfg, algo),
        replay,
        instantiate(cfg.logger, directory=directory),
        dataset=data,
        environment=make,
        evaluator=evaluator,
        acting=acting(cfg),
        collector=collector(cfg),
        augment=varied,
        features=seen,
        seed=cfg.seed,
    )
    if replay.offline is not None:
        told = replay.offline.window.hindsight
        raw = replay.offline.rows["reward"] if told is None else told.rewards
        reward = cfg.replay.reward_scale * raw + cfg.replay.reward_shift
        result.bound = largest_return(reward, algo.cfg.discount)
    return result
