"""Who acts while experience is collected: the policy itself, or it together with another.

A bridge between offline and online learning is often nothing but another choice of behaviour, which
works with every algorithm that has the parts. What is learned stays the algorithm's own affair; a
choice may only say which actions the actor imitates.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from robo_offline.algorithm import Algorithm
from robo_offline.errors import UserError
from robo_offline.schema import Batch

Choice = tuple[Tensor, bool]  # actions (B, *action_shape), and whether the guide chose them


class Own(nn.Module):
    """The policy itself acts.

    What an acting choice knows are buffers, so that it travels to a collector in another process
    and through a checkpoint. It decides for one environment: B is 1.
    """

    guided: ClassVar[bool] = False  # whether it needs a policy that was trained before
    anew: ClassVar[bool] = False  # whether `begin` gives new weights, which old moments do not fit

    def begin(self, algo: Algorithm, score: Mapping[str, Any] | None) -> None:
        """Prepare at the beginning of the online phase; `score` is the evaluation before it."""

    def restore(self, algo: Algorithm) -> None:
        """Prepare to be given a saved state, with `algo` as a pattern for the guide."""

    def begin_episode(self) -> None:
        """Draw what is fixed for an episode, from the policy's own stream."""

    def decide(self, algo: Algorithm, observation: Any, explore: bool, time: int) -> Choice:
        """Choose for step `time` of the episode."""
        return algo.act(observation, explore), False

    def redraws(self, algo: Algorithm) -> bool:
        """Whether the actor learns from actions that `redraw` gives, behind everything else."""
        return False

    def redraw(self, algo: Algorithm, batch: Batch) -> Batch:
        """Put other actions in the place of a batch's, for the actor to learn from."""
        return batch

    def after_episode(self, summary: Mapping[str, float]) -> bool:
        """Take note of an episode; True asks to take the learner back to the guide's weights."""
        return False

    def after_evaluation(self, score: Mapping[str, Any], algo: Algorithm) -> None:
        """Take note of an evaluation of the learner without exploration."""

    def metrics(self) -> dict[str, float]:
        """What a person wants to see of it in the log."""
        return {}


class Optimistic(Own):
    """Execute the candidate around the policy's action that the ensemble's mean likes most.

    O3F (Mark, Ghadirzadeh, Chen, Finn 2022, openreview 2x8EKbGU51k). Training keeps its pessimism,
    only behaviour is optimistic: the mean over the members is that, next to a minimum. How the
    candidates are drawn is ours, since no code was published: Gaussian around the mode, and it.
    """

    def __init__(self, candidates: int, noise: float):
        super().__init__()
        self.candidates, self.noise = candidates, noise

    def begin(self, algo: Algorithm, score: Mapping[str, Any] | None) -> None:
        _critic_of(algo, "acting=o3f")

    def decide(self, algo: Algorithm, observation: Any, explore: bool, time: int) -> Choice:
        mode = algo.act(observation, False)
        if not explore:
            return mode, False
        around = mode.unsqueeze(1).repeat_interleave(self.candidates, 1)  # (B, K, *A)
        around[:, 1:] += self.noise * torch.randn_like(around[:, 1:])
        around = around.clamp(-1, 1)
        q = _critic_of(algo, "acting=o3f")(observation, around).mean(0)  # (E, B, K) -> (B, K)
        return around[torch.arange(len(q)), q.argmax(1)], False


class Guided(Own):
    """Base of those that keep the policy as it was: the guide, frozen."""

    guided = True
    guide: Algorithm

    def begin(self, algo: Algorithm, score: Mapping[str, Any] | None) -> None:
        self.restore(algo)

    def restore(self, algo: Algorithm) -> None:
        self.guide = copy.deepcopy(algo).eval().requires_grad_(False)


class Expansion(Guided):
    """Choose between the frozen offline policy and a new one, by what the critic thinks of both.

    PEX (Zhang, Xu, Yu 2023, arXiv 2302.00935): at the handover the learner keeps its critics and
    gets an actor with new weights. The two together are one policy, a softmax of kappa * min Q over
    the guide's mode and the actor's proposal, which acts, and which is also what an actor that
    imitates by advantage (`advantage`: IQL, AWAC) learns from: actions are drawn from it anew at
    the batch's observations and weighted by their own advantage, once the critics and their targets
    have moved. Critics learn from the batch as it is. An actor that climbs Q needs no actions to
    imitate and keeps its loss. Where the paper is silent the authors' code is followed, but
    proposals are clipped to what is executed, and without exploration the better one always acts
    (theirs: nine times in ten).
    """

    anew = True

    def __init__(self, kappa: float):
        super().__init__()
        self.kappa = kappa

    def begin(self, algo: Algorithm, score: Mapping[str, Any] | None) -> None:
        _critic_of(algo, "acting=pex")
        super().begin(algo, score)
        _renew_actor(algo)

    def decide(self, algo: Algorithm, observation: Any, explore: bool, time: int) -> Choice:
        action, by_guide = self.choose(algo, observation, explore)
        return action, bool(by_guide[0])

    def choose(self, algo: Algorithm, observation: Any, explore: bool) -> tuple[Tensor, Tensor]:
        """Draw from both as one policy: (B, *action_shape), and whether it was the guide, (B,)."""
        proposals = [self.guide.act(observation, False), algo.act(observation, explore)]
        stacked = torch.stack(proposals, 1)  # (B, 2, *A)
        q = _critic_of(algo, "acting=pex")(observation, stacked).amin(0)  # (E, B, 2) -> (B, 2)
        weight = (self.kappa * q).softmax(1)
        choice = torch.multinomial(weight, 1)[:, 0] if explore else weight.argmax(1)  # (B,)
        return stacked[torch.arange(len(choice)), choice], choice == 0

    def redraws(self, algo: Algorithm) -> bool:
        return hasattr(algo, "advantage")

    @torch.no_grad()
    def redraw(self, algo: Algorithm, batch: Batch) -> Batch:
        action, _ = self.choose(algo, batch["observation"], True)
        redrawn = batch.copy().set("action", action)
        mask = batch.get("mask", None)  # a chunk that is drawn has no filler
        return redrawn if mask is None else redrawn.set("mask", torch.ones_like(mask))


class JumpStart(Guided):
    """The guide walks the first steps of an episode, the learner goes on from there.

    JSRL (Uchendu et al. 2022, arXiv 2204.02372), curriculum form: the guide's part begins at
    `horizon` steps and gets shorter in `stages`, one at a time, whenever the mean return of the
    last `window` episodes is within `tolerance` of the best so far and above `minimum`. We judge
    by the episodes collected, not by separate evaluations.
    """

    returns: Tensor
    stage: Tensor
    best: Tensor

    def __init__(self, horizon: int, stages: int, window: int, tolerance: float, minimum: float):
        super().__init__()
        if stages < 2 or horizon < 1 or window < 1:
            raise UserError(
                "a jump start needs steps to guide, stages and a window",
                expected="horizon >= 1, stages >= 2, window >= 1",
                found=f"horizon {horizon}, stages {stages}, window {window}",
            )
        self.horizon, self.stages = horizon, stages
        self.tolerance, self.minimum = tolerance, minimum
        self.register_buffer("returns", torch.full((window,), math.nan, dtype=torch.float64))
        self.register_buffer("stage", torch.tensor(0))
        self.register_buffer("best", torch.tensor(-math.inf, dtype=torch.float64))

    @property
    def guided_steps(self) -> int:
        """Steps that the guide walks in the present stage; none in the last one."""
        return round(self.horizon * (1 - int(self.stage) / (self.stages - 1)))

    def decide(self, algo: Algorithm, observation: Any, explore: bool, time: int) -> Choice:
        if explore and time < self.guided_steps:
            return self.guide.act(observation, False), True
        return algo.act(observation, explore), False

    def after_episode(self, summary: Mapping[str, float]) -> bool:
        self.returns.copy_(self.returns.roll(-1))
        self.returns[-1] = summary["return"]
        mean = self.returns.mean()  # nan until the window is full
        if self.stage < self.stages - 1 and self._good(float(mean), float(self.best)):
            self.stage += 1
            self.best.copy_(torch.maximum(self.best, mean))
            self.returns.fill_(math.nan)
        return False

    def _good(self, mean: float, best: float) -> bool:
        if math.isnan(mean) or mean <= self.minimum:
            return False
        return math.isinf(best) or mean >= best - self.tolerance * abs(best)

    def metrics(self) -> dict[str, float]:
        return {"guided_steps": float(self.guided_steps)}


class RandomJumpStart(Guided):
    """The same without a curriculum: how far the guide walks is drawn for every episode."""

    def __init__(self, horizon: int):
        super().__init__()
        self.horizon, self.drawn = horizon, 0

    def begin_episode(self) -> None:
        self.drawn = int(torch.randint(self.horizon + 1, ()))

    def decide(self, algo: Algorithm, observation: Any, explore: bool, time: int) -> Choice:
        if explore and time < self.drawn:
            return self.guide.act(observation, False), True
        return algo.act(observation, explore), False


def _renew_actor(algo: Algorithm) -> None:
    """Give the actor, and slow copies of it, new weights behind the encoder that they have."""
    actor: Any = algo.actor
    encoder, scale = lambda: copy.deepcopy(actor.encoder), algo.action_range.scale
    new: Any = type(algo)(algo.spec, encoder, algo.cfg, scale)
    state = {k: v for k, v in new.actor.state_dict().items() if not k.startswith("encoder.")}
    for name in ("actor", *(slow for slow, fast in algo.targets.items() if fast == "actor")):
        getattr(algo, name).load_state_dict(state, strict=False)


def _critic_of(algo: Algorithm, who: str) -> nn.Module:
    critic = getattr(algo, "critic", None)
    if not isinstance(critic, nn.Module):
        raise UserError(
            f"{who} asks a critic which action is better, and {type(algo).__name__} has none",
            remedy="choose an algorithm with a critic, or acting=own",
        )
    return critic
