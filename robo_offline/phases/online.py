"""Online: collect an episode, insert it, update `utd` times per step, publish the policy."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robo_offline.errors import UserError
from robo_offline.phases.collector import Collecting
from robo_offline.phases.run import Cadence, Run
from robo_offline.schema import Batch


@dataclass
class Online:
    """Interaction and updates; one step is one environment step.

    The policy changes between episodes only, which is also the moment when a robot can take new
    weights safely. `utd` updates are made per environment step, after the episode.
    """

    steps: int
    batch_size: int
    utd: float  # updates per environment step
    warmup: int  # steps with the policy as it came, before the first update (WSRL)
    random_steps: int  # steps of uniform actions at the start, for a policy from nothing
    critic_only: int  # steps behind the warm-up in which the critics learn and the actor waits
    reset_optimisers: bool  # forget Adam's moments of the phase before
    rewarm: int  # updates over which the learning rates rise from nothing; 0 begins in full
    second_process: bool  # collect the next episode while the learner updates
    log_every: int
    evaluate_every: int
    save_every: int

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1", found=getattr(self, name))

    def __call__(self, run: Run) -> None:
        if run.environment is None:
            raise UserError("the online phase has no environment", remedy="give env=...")
        run.begin(self.steps)
        cadence = Cadence(self.log_every, self.evaluate_every, self.save_every)
        self._hand_over(run)
        collecting = run.collector(run, random_steps=self.random_steps, ahead=self.second_process)
        with collecting as collector:
            while run.counters.step < self.steps:
                self._episode(run, collector, cadence)

    def _hand_over(self, run: Run) -> None:
        """Settle, once, what the online phase takes over from what was before."""
        if run.counters.handed_over != run.counters.phase:
            run.hand_over()
            if self.reset_optimisers or run.acting.anew:
                run.learner.reset_optimisers()
        run.learner.decay((), 0.0)

    def _episode(self, run: Run, collector: Collecting, cadence: Cadence) -> None:
        c = run.counters
        with run.timed("collect"):
            episode, summary = collector.next()
        steps = len(episode) - 1
        run.replay.online.extend(run.features.episode(episode))
        c.env_step += steps
        c.episode += 1
        run.learner.algo.after_episode(summary)
        if run.acting.after_episode(summary):
            run.roll_back()
        run.add(summary | {f"acting/{k}": v for k, v in run.acting.metrics().items()})
        if c.step + steps > self.warmup:
            owed = c.extra.get("updates_owed", 0.0) + self.utd * steps
            updates = int(owed + 1e-6)  # ten times 0.1 is one update, whatever the rounding
            c.extra["updates_owed"] = owed - updates
            self._learn(run, updates, collector)
        run.advance(steps, {}, cadence)

    def _learn(self, run: Run, updates: int, collector: Collecting) -> None:
        learner, c = run.learner, run.counters
        frozen = ("actor",) if c.step < self.warmup + self.critic_only else ()
        for _ in range(updates):
            with run.timed("sample"):
                batch = run.replay.sample(self.batch_size, c.step)
                varied = run.augment(batch, learner.device)
            with run.timed("learn"):
                if self.rewarm:
                    c.extra["rewarmed"] = c.extra.get("rewarmed", 0) + 1
                    learner.decay((), 0.0, min(1.0, c.extra["rewarmed"] / self.rewarm))
                learner.algo.schedule(c.step, "online")
                metrics = self._update(run, batch, varied, frozen)
            run.add(metrics)
            c.update += 1
            collector.after_update()

    def _update(
        self, run: Run, batch: Batch, varied: Batch, frozen: tuple[str, ...]
    ) -> dict[str, Tensor]:
        """Train on a varied batch; an actor whose actions are drawn anew asks moved critics."""
        learner, acting = run.learner, run.acting
        last = ("actor",) if acting.redraws(learner.algo) and "actor" not in frozen else ()
        metrics = learner.update(varied, frozen + last)
        run.replay.prioritise(batch, learner.priority)
        if last:
            others = tuple(name for name in learner.algo.order if name not in last)
            metrics |= learner.train(acting.redraw(learner.algo, varied), others)
        return metrics
