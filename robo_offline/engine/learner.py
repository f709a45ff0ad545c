"""Learner: turns `loss_<name>` methods into steps of `algo.<name>`, and moves the targets."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from robo_offline.algorithm import PRIORITY, Algorithm
from robo_offline.engine.gemm import install
from robo_offline.engine.optim import adam, cosine, learning_rates
from robo_offline.errors import UserError
from robo_offline.schema import Batch

Gradients = tuple[dict[str, Tensor], tuple[Tensor, ...], Tensor | None]
Move = tuple[str, str, float]  # a target, what it follows, the fraction of the way


class Learner:
    """Owns the optimisers and the order of updates; an algorithm knows nothing of either."""

    def __init__(self, algo: Algorithm, *, bf16: bool = False, gemm: float = math.inf):
        """Multiply in bfloat16 if asked to, and by what `engine.gemm` chooses for `gemm`."""
        install(gemm, bf16)
        self.algo, self.bf16 = algo, bf16
        self.update_count = 0
        rates = learning_rates(algo.order, algo.cfg.lr)
        self.parameters = {name: list(getattr(algo, name).parameters()) for name in algo.order}
        self.optimisers = {
            name: adam(parameters, rates[name]) for name, parameters in self.parameters.items()
        }
        self.rates = rates
        self.priority: Tensor | None = None  # (B,), how wrong the last update found each row

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.algo.parameters()).device

    def update(self, batch: Batch, frozen: tuple[str, ...] = ()) -> dict[str, Tensor]:
        """Train every module that is due on one batch; metrics stay 0-d tensors, never floats.

        Modules named in `frozen` stay as they are.
        """
        self.update_count += 1
        return self.train(batch, frozen)

    def train(self, batch: Batch, frozen: tuple[str, ...] = ()) -> dict[str, Tensor]:
        """Do the work of the update that was counted last."""
        self.priority = None
        due = self.due(frozen)
        batch = self.prepare(batch)
        metrics: dict[str, Tensor] = {}
        for names in [due] if self.algo.simultaneous else [(name,) for name in due]:
            metrics |= self.advance(names, batch)
        self.algo.after_update(metrics)
        return metrics

    def due(self, frozen: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Name the modules that the present update trains, in order."""
        order, period = self.algo.order, self.algo.period
        return tuple(name for name in order if self._due(period(name)) and name not in frozen)

    def _due(self, period: int) -> bool:
        return period > 0 and self.update_count % period == 0

    def prepare(self, batch: Batch) -> Batch:
        """Add to the batch what the losses share."""
        with self.precision():
            return self.algo.prepare(batch)

    def step(self, name: str, batch: Batch) -> dict[str, Tensor]:
        """Differentiate one loss by its own module, take one step, move its targets."""
        return self.advance((name,), batch)

    def advance(self, names: tuple[str, ...], batch: Batch) -> dict[str, Tensor]:
        """Differentiate the losses of some modules, all before the first step is taken."""
        taken = [self.differentiate(name, batch) for name in names]
        for name in names:
            self.apply(name)
        return {key: value for metrics in taken for key, value in metrics.items()}

    def differentiate(self, name: str, batch: Batch) -> dict[str, Tensor]:
        """Leave the gradients of one loss with its own module's parameters."""
        metrics, gradients, priority = self.gradients(name, batch)
        self.priority = self.priority if priority is None else priority
        for parameter, gradient in zip(self.parameters[name], gradients, strict=True):
            parameter.grad = gradient
        return metrics

    def gradients(self, name: str, batch: Batch) -> Gradients:
        """Return the metrics, gradients and priority that one loss gives, changing nothing."""
        with self.precision():
            loss, info = getattr(self.algo, f"loss_{name}")(batch)
        priority = info.pop(PRIORITY, None)
        gradients = torch.autograd.grad(loss, self.parameters[name])
        metrics = {f"{name}/loss": loss.detach()} | {
            f"{name}/{key}": value.detach() for key, value in info.items()
        }
        return metrics, gradients, None if priority is None else priority.detach()

    def precision(self) -> AbstractContextManager[Any]:
        """Give the context of everything that networks compute while they learn."""
        if not self.bf16:
            return nullcontext()
        return torch.autocast(next(self.algo.parameters()).device.type, torch.bfloat16)

    def apply(self, name: str) -> None:
        """Take the step of one module, and move the targets that follow it and are due."""
        self.optimisers[name].step()
        for move in self.moves(name):
            self.follow(*move)

    def moves(self, fast: str) -> tuple[Move, ...]:
        """List (target, followed, tau), in order, for what moves with a module.

        A target's own target comes first: it moves towards what the target was.
        """
        moves: tuple[Move, ...] = ()
        for slow, followed in self.algo.targets.items():
            if followed == fast and self._due(self.algo.target_period(slow)):
                moves += (*self.moves(slow), (slow, fast, self.algo.target_tau(slow)))
        return moves

    @torch.no_grad()
    def follow(self, slow: str, fast: str, tau: float) -> None:
        """Move a target by the fraction `tau` of the way."""
        torch._foreach_lerp_(
            list(getattr(self.algo, slow).parameters()),
            list(getattr(self.algo, fast).parameters()),
            tau,
        )

    def decay(self, names: tuple[str, ...], progress: float, share: float = 1.0) -> None:
        """Set the learning rates: those of `names` along a cosine, the others to `share`."""
        for name, optimiser in self.optimisers.items():
            factor = cosine(progress) if name in names else share
            self.set_rate(name, optimiser, self.rates[name] * factor)

    def set_rate(self, name: str, optimiser: torch.optim.Adam, rate: float) -> None:
        """Set the learning rate of one module."""
        optimiser.param_groups[0]["lr"] = rate

    def finite(self) -> bool:
        """Whether every weight is a number still; waits for the device."""
        return all(bool(p.isfinite().all()) for each in self.parameters.values() for p in each)

    def reset_optimisers(self) -> None:
        """Forget the moments, as if the weights had just been made."""
        for optimiser in self.optimisers.values():
            optimiser.state.clear()

    def roll_back(self, algo: Algorithm) -> None:
        """Take over the weights of a copy of the algorithm, and forget the moments."""
        self.algo.load_state_dict(algo.state_dict())
        self.reset_optimisers()

    def state_dict(self) -> dict[str, Tensor]:
        """Every tensor that a resumed run needs, flat, by a name that says what it is."""
        state = {f"algo.{key}": value for key, value in self.algo.state_dict().items()}
        for name, key, slot, value in self._moments():
            state[f"optimiser.{name}.{key}.{slot}"] = value
        return {key: value.detach().clone() for key, value in state.items()} | {
            "update_count": torch.tensor(self.update_count)
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore exactly. Raises UserError naming the first tensor that does not fit."""
        load_algorithm(self.algo, state)
        self.update_count = int(state["update_count"])
        for name, optimiser in self.optimisers.items():
            moments: dict[str, dict[str, Tensor]] = {}
            for key in state:
                if key.startswith(f"optimiser.{name}."):
                    path, slot = key.removeprefix(f"optimiser.{name}.").rsplit(".", 1)
                    moments.setdefault(path, {})[slot] = state[key].clone()
            names = [key for key, _ in getattr(self.algo, name).named_parameters()]
            group: dict[str, Any] = optimiser.state_dict()
            group["state"] = {
                index: moments[key] for index, key in enumerate(names) if key in moments
            }
            optimiser.load_state_dict(group)

    def _moments(self):
        for name, optimiser in self.optimisers.items():
            for key, parameter in getattr(self.algo, name).named_parameters():
                for slot, value in optimiser.state.get(parameter, {}).items():
                    yield name, key, slot, value


def load_algorithm(algo: Algorithm, state: dict[str, Tensor]) -> None:
    """Load the networks alone out of a learner's state."""
    ours = algo.state_dict()
    theirs = {k.removeprefix("algo."): v for k, v in state.items() if k.startswith("algo.")}
    # What one of them lacks says more than what has another shape.
    for key in sorted(ours.keys() | theirs.keys(), key=lambda k: (k in ours and k in theirs, k)):
        here, there = ours.get(key), theirs.get(key)
        if here is None or there is None or here.shape != there.shape:
            raise UserError(
                f"the checkpoint does not fit {type(algo).__name__}: {key}",
                expected="absent" if here is None else tuple(here.shape),
                found="absent" if there is None else tuple(there.shape),
                remedy="build the algorithm with the knobs in the run's config.yaml",
            )
    algo.load_state_dict(theirs)
