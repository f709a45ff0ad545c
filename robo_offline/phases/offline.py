"""Offline: update from the data set for a number of steps."""

from __future__ import annotations

from dataclasses import dataclass

from robo_offline.errors import UserError
from robo_offline.phases.run import Cadence, Run


@dataclass
class Offline:
    """Gradient updates on data-set windows alone; one step is one update."""

    steps: int
    batch_size: int
    log_every: int
    evaluate_every: int
    save_every: int

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1", found=getattr(self, name))

    def __call__(self, run: Run) -> None:
        run.begin(self.steps)
        cadence = Cadence(self.log_every, self.evaluate_every, self.save_every)
        learner, c, replay = run.learner, run.counters, run.replay.offline
        if replay is None:
            raise UserError("the offline phase has no data set", remedy="give dataset=...")
        while c.step < self.steps:
            with run.timed("sample"):
                batch = replay.sample(self.batch_size)
                varied = run.augment(batch, learner.device)
            with run.timed("learn"):
                learner.decay(learner.algo.cfg.offline_decay, c.step / self.steps)
                learner.algo.schedule(c.step, "offline")
                metrics = learner.update(varied)
                replay.prioritise(batch, learner.priority)
            c.update += 1
            run.advance(1, metrics, cadence)
