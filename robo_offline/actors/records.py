"""Records: a transition as bytes, and transitions put together to episodes again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from safetensors.torch import load, save
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

STEP = ("executed", "source", "reward", "terminated", "truncated", "success")
BEFORE, AFTER, STALENESS = "before", "after", "staleness_"


def to_bytes(td: TensorDictBase, step: int, numbers: dict[str, float]) -> bytes:
    """Write step number `step` of an episode as safetensors.

    `td` is the step as an environment of TorchRL gives it; `numbers` are kept beside it. The first
    step brings the observation before it, the others follow on the one behind the step before.
    """
    after = td["next"]
    leaves = {key: after[key] for key in STEP} | _leaves(AFTER, after["observation"])
    leaves |= {key: td[key] for key in ("episode", "guided")} | {"step": torch.tensor(step)}
    leaves |= {key: torch.tensor(value, dtype=torch.float64) for key, value in numbers.items()}
    if step == 0:
        leaves |= _leaves(BEFORE, td["observation"])
    return save({key: value.contiguous() for key, value in leaves.items()})


def place(payload: bytes) -> tuple[int, int, bool]:
    """Say of which episode a record is, which step of it, and whether that was its last."""
    leaves = load(payload)
    ended = bool(leaves["terminated"] | leaves["truncated"])
    return int(leaves["episode"]), int(leaves["step"]), ended


def _leaves(name: str, observation: Tensor | TensorDictBase) -> dict[str, Tensor]:
    if isinstance(observation, Tensor):
        return {name: observation}
    return {f"{name}.{key}": value for key, value in observation.flatten_keys(".").items()}


def _observation(name: str, leaves: dict[str, Tensor]) -> Tensor | TensorDictBase:
    if name in leaves:
        return leaves[name]
    start = f"{name}."
    flat = {k.removeprefix(start): v for k, v in leaves.items() if k.startswith(start)}
    return TensorDict(flat, []).unflatten_keys(".")


@dataclass(frozen=True)
class Arrived:
    """An episode that is whole."""

    td: TensorDictBase  # (T,) as a collector of TorchRL gives it
    last: int  # number of its last record
    index: int  # of the episode, as the actor counts
    staleness: dict[str, float]  # of the weights that acted, averaged


class Assembly:
    """Puts records together; an episode that a crash cut short ends truncated."""

    def __init__(self) -> None:
        self.open: list[dict[str, Tensor]] = []
        self.last = -1  # number of the newest record

    def add(self, number: int, payload: bytes) -> list[Arrived]:
        """Take the next record; return the episodes that end with it, at most two."""
        leaves, ended = load(payload), []
        if leaves["step"] == 0 and self.open:
            self.open[-1]["truncated"] = ~self.open[-1]["terminated"]
            ended.append(self._close())
        self.open.append(leaves)
        self.last = number
        if leaves["terminated"] | leaves["truncated"]:
            ended.append(self._close())
        return ended

    def _close(self) -> Arrived:
        steps, self.open = self.open, []
        after = [_observation(AFTER, step) for step in steps]
        before = [_observation(BEFORE, steps[0]), *after[:-1]]
        stay = [key for key in steps[0] if not key.startswith((BEFORE, AFTER))]
        column = {key: torch.stack([step[key] for step in steps]) for key in stay}
        td = TensorDict(
            {
                "observation": torch.stack(before),
                "episode": column["episode"],
                "guided": column["guided"],
                "next": {"observation": torch.stack(after)} | {key: column[key] for key in STEP},
            },
            [len(steps)],
        )
        staleness = {k: float(v.mean()) for k, v in column.items() if k.startswith(STALENESS)}
        return Arrived(td, self.last, int(steps[0]["episode"]), staleness)
