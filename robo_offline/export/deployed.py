"""Deployed: a policy as one function, from raw observations to the actions that are executed."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from real_robot.runtime.checks import Checks, Observation, in_time
from real_robot.runtime.contract import Contract
from real_robot.runtime.policy import ActionChunk
from robo_offline.export.leaves import Leaves, nest, paths, row, rows_of, unstacked
from robo_offline.policies.policy import Policy
from robo_offline.policies.select import Expansion


class Deployed(nn.Module):
    """Leaves of raw observations (B, ...) -> actions (B, H, A) in the environment's units.

    Nothing explores here. What a policy chooses by the value of a counter, such as which of two
    actors is the best so far, is settled now, for good.
    """

    def __init__(self, policy: Policy):
        super().__init__()
        self.algo = copy.deepcopy(policy.algo).cpu().eval().requires_grad_(False)
        self.acting = copy.deepcopy(policy.acting).cpu().eval().requires_grad_(False)
        self.paths = paths(self.algo.spec)
        _settle(self)

    def forward(self, *leaves: Tensor) -> Tensor:
        whole = nest(dict(zip(self.paths, leaves, strict=True)), self.paths)
        observation: Any = TensorDict(whole, []) if isinstance(whole, dict) else whole
        chunk = self._decide(observation)
        steps = chunk.reshape(chunk.shape[0], -1, self.algo.spec.step_dim)
        return self.algo.action_range.to_environment(steps)

    def _decide(self, observation: Any) -> Tensor:
        if isinstance(self.acting, Expansion):  # for itself, row by row; `decide` is for one row
            return self.acting.choose(self.algo, observation, False)[0]
        return self.acting.decide(self.algo, observation, False, 0)[0]

    def tensors(self) -> dict[str, Tensor]:
        """Every weight and buffer by its name."""
        return dict(self.named_parameters(remove_duplicate=False)) | dict(
            self.named_buffers(remove_duplicate=False)
        )


def _settle(module: nn.Module) -> None:
    for part in module.modules():
        for name, value in list(part._buffers.items()):
            if value is not None and value.dim() == 0:
                del part._buffers[name]
                setattr(part, name, value.item())


class EagerPolicy:
    """Acts by PyTorch, with the same checks as the runtime's session: the reference for it."""

    def __init__(
        self,
        policy: Policy,
        contract: Contract,
        clock: Callable[[], int] = time.monotonic_ns,
    ):
        contract = contract.stacked()
        self.contract, self.checks, self.clock = contract, Checks(contract), clock
        self.deployed = Deployed(policy)

    @torch.inference_mode()
    def act(self, observation: Observation, *, deadline_ns: int | None = None) -> ActionChunk:
        """Choose a chunk of actions for one raw observation; see `OrtPolicy.act`."""
        in_time(self.clock, deadline_ns)
        feed = self.checks.feed(observation)
        leaves = [torch.from_numpy(feed[key]) for key in self.deployed.paths]
        actions = self.checks.actions(self.deployed(*leaves).numpy())
        in_time(self.clock, deadline_ns)
        return ActionChunk(actions, 0, "eager")


def evaluated(policy: Policy, observations: Leaves) -> np.ndarray:
    """Return the actions (N, H, A) float32 that an evaluation executes from each observation on.

    Asked of the policy itself, step by step and as if each were the first of an episode, or the
    first one with so many images before it.
    """
    spec, chunk = policy.algo.spec, policy.algo.cfg.chunk
    where = paths(spec)
    found = []
    for index in range(rows_of(observations)):
        *before, observation = (
            nest(leaves, where) for leaves in unstacked(row(observations, index), spec)
        )
        policy.reset()
        for earlier in before:
            policy.see(earlier)
        found.append([policy.act(observation, explore=False) for _ in range(chunk)])
    policy.reset()
    return np.array(found, np.float32)
