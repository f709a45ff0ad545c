"""Run: one training run in one folder; its counters, its cadence, and its exact continuation."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
from torch import Tensor

from robo_offline.analysis.handover import handover
from robo_offline.checkpoint import Checkpoints, random_state, set_random_state
from robo_offline.datasets import Dataset
from robo_offline.datasets.features import Features
from robo_offline.engine.divergence import explain, problem
from robo_offline.engine.learner import Learner
from robo_offline.errors import UserError
from robo_offline.evaluate import Evaluation, Evaluator
from robo_offline.loggers.logger import Logger
from robo_offline.phases.collector import Choice, Here
from robo_offline.policies.policy import Policy
from robo_offline.policies.select import Guided, Own
from robo_offline.replay.augment import NO_AUGMENT, Augment
from robo_offline.replay.mixture import Mixture

PUBLISHED, ACTING, PRIORITIES = "published.", "acting.", "priorities."
Environment = Callable[[], gymnasium.Env]
Phase = Callable[["Run"], None]


class Interrupted(Exception):
    """Ctrl-C or SIGTERM: the run has been saved and stops."""


@dataclass(frozen=True)
class Cadence:
    """How often things happen, in steps of the phase: updates offline, env steps online."""

    log: int
    evaluate: int
    save: int


@dataclass
class Counters:
    """Where a run stands."""

    phase: str = ""
    step: int = 0  # within the phase
    update: int = 0
    env_step: int = 0
    episode: int = 0  # episodes collected; the next one has this index
    seconds: float = 0.0  # over all sittings
    done: list[str] = field(default_factory=list)  # finished phases
    handed_over: str = ""  # the online phase that `acting` was prepared for
    best: list[float] = field(default_factory=list)  # rank of the best evaluation so far
    sums: dict[str, list[Any]] = field(default_factory=dict)  # metric -> [sum, count] since a log
    evaluations: list[dict[str, Any]] = field(default_factory=list)  # summaries, in order
    extra: dict[str, Any] = field(default_factory=dict)  # what a phase must remember


class Run:
    """A learner, its data and environment, and the folder that keeps everything of it."""

    def __init__(
        self,
        directory: Path,
        learner: Learner,
        replay: Mixture,
        logger: Logger,
        *,
        dataset: Dataset | None = None,
        environment: Environment | None = None,
        evaluator: Evaluator | None = None,
        acting: Own | None = None,
        collector: Choice | None = None,
        augment: Augment | None = None,
        features: Features | None = None,
        seed: int = 0,
    ):
        self.directory, self.learner, self.replay, self.logger = directory, learner, replay, logger
        self.dataset, self.environment, self.evaluator = dataset, environment, evaluator
        self.collector = Here() if collector is None else collector
        self.seed = seed
        self.bound = math.inf  # what the rewards can add up to
        self._acting = Own() if acting is None else acting  # from the handover on
        self.acting = Own()
        self.augment, self.features = augment or NO_AUGMENT, features or Features({})
        self.checkpoints = Checkpoints(directory / "checkpoints")
        self.counters = Counters()
        self.last_evaluation: Evaluation | None = None
        self._summary: dict[str, Any] | None = None  # of the last evaluation, in any sitting
        self.where: dict[str, float] = {}  # seconds by activity
        self._began = time.perf_counter()
        self._evaluated_at: tuple[str, int] | None = None
        self._interrupted = False
        self.total = 0  # steps of the current phase
        # Weights that a collector ahead of the learner acts with; a resumed run needs them to
        # collect the episode under way once more.
        self.published: dict[str, Tensor] = {}

    # -- the loop ----------------------------------------------------------------------------

    def execute(self, phases: Mapping[str, Phase]) -> None:
        """Run the phases in order, skipping what an earlier sitting finished."""
        with self._signals():
            if not self.checkpoints.exist():
                self.save()  # the beginning: a kill before the next save starts from here
            for name, phase in phases.items():
                if name in self.counters.done and not self._reopen(name, phase):
                    continue
                if self.counters.phase != name:
                    self.counters.phase, self.counters.step = name, 0
                phase(self)
                self._finish(name)
        self.logger.finish()

    def _reopen(self, name: str, phase: Phase) -> bool:
        """Go on with the phase that finished last where it was given more steps since."""
        c = self.counters
        if name != c.phase or getattr(phase, "steps", 0) <= c.step:
            return False
        c.done.remove(name)
        return True

    def begin(self, total: int) -> None:
        """Announce that the current phase has `total` steps."""
        self.total = total
        self.logger.begin(self.counters.phase, total, self.counters.step)

    def advance(self, steps: int, metrics: Mapping[str, Tensor | float], cadence: Cadence) -> None:
        """Count steps of the phase, and log, evaluate and save where the cadence says so."""
        before, c = self.counters.step, self.counters
        c.step += steps
        self.add(metrics)
        if _crossed(before, c.step, cadence.log):
            self.log()
        if _crossed(before, c.step, cadence.evaluate) and c.step < self.total:
            self.evaluate()
        if self._interrupted or _crossed(before, c.step, cadence.save):
            self.save()
        if self._interrupted:
            raise Interrupted(self.directory)

    def add(self, metrics: Mapping[str, Tensor | float]) -> None:
        """Add to the averages of the next log; tensors stay tensors until then."""
        sums = self.counters.sums
        for key, value in metrics.items():
            entry = sums.get(key)
            if entry is None:
                sums[key] = [value, 1]
            else:
                entry[0] = entry[0] + value
                entry[1] += 1

    def log(self) -> None:
        """Write one row with the averages since the last one."""
        with self.timed("log"):
            phase = self.counters.phase
            row = {
                f"{phase}/{key}": float(total) / count
                for key, (total, count) in self.counters.sums.items()
            }
            self.counters.sums = {}
            self.logger.log(self._stamp() | row | self._rates())
            self._watch(row)

    def _watch(self, row: Mapping[str, float]) -> None:
        """Stop a run that diverges, before it is saved over what was good."""
        found = problem(row, self.bound)
        if found is not None and self.counters.update:
            c = self.counters
            where = f"{c.phase}, step {c.step}; the last good checkpoint is in {self.directory}"
            raise explain(self.learner.algo, self.replay.sample(256), found, where)

    def evaluate(self, final: bool = False) -> None:
        """Score the current policy and keep it as `best` if it is."""
        if self.evaluator is None or self._evaluated_at == (
            self.counters.phase,
            self.counters.step,
        ):
            return
        c = self.counters
        with self.timed("evaluate"):
            video = f"videos/{c.phase}-{c.step:09d}.mp4" if final else None
            result = self.evaluator(
                self.policy(),
                video=self.directory / video if video else None,
                done=lambda n: self.logger.doing(f"evaluating, {n} episodes done"),
            )
            self.logger.doing("")
        self._evaluated_at = (c.phase, c.step)
        self.last_evaluation, self._summary = result, result.row()
        if c.handed_over == c.phase:
            self.acting.after_evaluation(self._summary, self.learner.algo)
        row = result.row() | {"final_of_phase": final}
        row["video"] = video if result.video else None
        self.logger.evaluation(self._stamp() | row)
        c.evaluations.append({"phase": c.phase, "step": c.step, **self._summary})
        if told := self._handover():
            self.logger.log(self._stamp() | told)
        if [*result.rank] >= c.best:
            c.best = [*result.rank]
            self.save(best=True)

    def _handover(self) -> dict[str, float]:
        """How far the policy fell behind the handover, once it was evaluated on both sides."""
        found = handover(self.counters.evaluations)
        if found is None or found.dip is None:
            return {}
        numbers = {
            "dip": found.dip.value,
            "dip_low": found.dip.low,
            "dip_high": found.dip.high,
            "regret": found.regret,
            "recovery_steps": found.recovery_steps,
        }
        return {f"handover/{key}": value for key, value in numbers.items() if value is not None}

    def policy(self, explore: bool = False) -> Policy:
        """A copy of the current policy, to act or to be kept."""
        return Policy(self.learner.algo, seed=self.seed, explore=explore, acting=self.acting)

    def hand_over(self) -> None:
        """Begin to act as configured, from the policy as it is now."""
        c = self.counters
        if isinstance(self._acting, Guided) and not c.done:
            raise UserError(
                f"acting with a guide ({type(self._acting).__name__}) needs a policy that was "
                "trained before the online phase",
                remedy="phase=offline_to_online, or acting=own",
            )
        self.published = {}
        self.acting = self._acting
        self.acting.begin(self.learner.algo, self._summary)
        c.handed_over = c.phase

    def roll_back(self) -> None:
        """Take the learner back to the weights of the guide."""
        assert isinstance(self.acting, Guided)
        self.learner.roll_back(self.acting.guide)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Count the seconds of an activity for the table of where the time goes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.where[name] = self.where.get(name, 0.0) + time.perf_counter() - began

    # -- saving and continuing ---------------------------------------------------------------

    def save(self, best: bool = False) -> Path:
        """Write a checkpoint from which the run continues exactly."""
        if not self.learner.finite():
            self._watch({"a weight": math.nan})
        with self.timed("save"):
            c = self.counters
            c.seconds, self._began = self.seconds(), time.perf_counter()
            sums = {key: [float(total), count] for key, (total, count) in c.sums.items()}
            state = {
                "counters": vars(c) | {"sums": sums},
                "random": random_state(),
                "logger": self.logger.state(),
                "where": self.where,
                "evaluated_at": self._evaluated_at,
                "last_evaluation": self._summary,
            }
            self._write_timing()
            tag = c.update + c.env_step
            tensors = self.learner.state_dict()
            tensors |= {f"{PUBLISHED}{key}": value for key, value in self.published.items()}
            held = self.acting.state_dict()
            tensors |= {f"{ACTING}{key}": value.clone() for key, value in held.items()}
            tensors |= {f"{PRIORITIES}{k}": v for k, v in self.replay.state_dict().items()}
            return self.checkpoints.save(tag, tensors, state, self.replay.online, best=best)

    def resume(self, name: str = "last") -> None:
        """Continue from a checkpoint: learner, replay, counters, random stream and logs."""
        tensors, state = self.checkpoints.load(name)
        self.published, held = taken(tensors, PUBLISHED), taken(tensors, ACTING)
        priorities = taken(tensors, PRIORITIES)
        self.learner.load_state_dict(tensors)
        self.checkpoints.restore_replay(self.replay.online, state["replay"])
        self.replay.load_state_dict(priorities)
        self.counters = Counters(**state["counters"])
        if self.counters.handed_over:
            self.acting = self._acting
            self.acting.restore(self.learner.algo)
            self.acting.load_state_dict(held)
        self.where = state["where"]
        self._evaluated_at = tuple(state["evaluated_at"]) if state["evaluated_at"] else None
        self._summary = state["last_evaluation"]
        self.logger.restore(state["logger"])
        set_random_state(state["random"])

    def close(self) -> None:
        """End evaluation processes and let go of files; safe after an error, and twice."""
        if self.evaluator is not None:
            self.evaluator.close()
        self.logger.finish()

    def seconds(self) -> float:
        """Seconds of training over all sittings."""
        return self.counters.seconds + time.perf_counter() - self._began

    def _finish(self, name: str) -> None:
        if self.counters.sums:
            self.log()
        self.evaluate(final=True)
        self.counters.done.append(name)
        self.save()
        self._write_summary()

    def _stamp(self) -> dict[str, Any]:
        c = self.counters
        return {
            "phase": c.phase,
            "step": c.step,
            "update": c.update,
            "env_step": c.env_step,
            "time": round(self.seconds(), 3),
        }

    def _rates(self) -> dict[str, float]:
        learn, collect = self.where.get("learn", 0.0), self.where.get("collect", 0.0)
        c = self.counters
        rates = {"rate/updates_per_second": c.update / learn if learn else 0.0}
        if c.env_step:
            rates["rate/env_steps_per_second"] = c.env_step / collect if collect else 0.0
        return rates

    def _write_timing(self) -> None:
        total = max(self.seconds(), 1e-9)
        named = sorted(self.where.items(), key=lambda pair: -pair[1])
        rows = [*named, ("other", total - sum(self.where.values()))]
        rates = {key.removeprefix("rate/"): value for key, value in self._rates().items()}
        table = [{"name": n, "seconds": s, "share": s / total} for n, s in rows]
        _write_json(self.directory / "timing.json", {"where": table, "total": total} | rates)

    def _write_summary(self) -> None:
        done = self.counters.done
        summary = {"finished": done, "seconds": self.seconds(), "last": self._summary}
        _write_json(self.directory / "summary.json", summary | self._handover())

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn the first Ctrl-C or SIGTERM into a save at the next safe point; the second stops."""

        def stop(number: int, _: object) -> None:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
            print(
                "\nstopping: saves at the next safe point, at the latest after an episode or an "
                "evaluation (again: stop at once, the last checkpoint stays)",
                file=sys.stderr,
                flush=True,
            )

        previous = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                previous[number] = signal.signal(number, stop)
        except ValueError:  # not the main thread: whoever runs us handles signals
            pass
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def taken(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Take the tensors under a prefix out of a checkpoint's and return them without it."""
    names = [key for key in tensors if key.startswith(prefix)]
    return {key.removeprefix(prefix): tensors.pop(key) for key in names}


def _crossed(before: int, after: int, every: int) -> bool:
    return every > 0 and after // every > before // every


def _write_json(path: Path, content: Any) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2))
    partial.replace(path)
