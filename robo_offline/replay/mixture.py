"""Mixture: every batch holds an exact share of data-set rows, the rest is own experience."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from robo_offline.algorithm import Algorithm
from robo_offline.errors import UserError
from robo_offline.replay.buffer import Replay
from robo_offline.schema import DATASET, Batch


class Mixture:
    """Draw from a data set and from growing experience in one batch.

    `fraction` of each batch is offline, rounded to whole rows, so every slice of a high update
    ratio holds the same share (RLPD, arXiv 2302.02948); it moves linearly to `final_fraction` over
    `anneal_steps` environment steps. A negative fraction means one union of both, drawn uniformly
    (IQL's and AWAC's finetuning) or by priority, as if they were one replay.

    Where a person took over, what they did counts as offline too: it is drawn with the data set's
    rows, as if appended to them (HIL-SERL, arXiv 2410.21845), and like all experience online.
    """

    def __init__(
        self,
        offline: Replay | None,
        online: Replay,
        *,
        fraction: float = 0.5,
        final_fraction: float | None = None,
        anneal_steps: int = 0,
    ):
        self.offline, self.online = offline, online
        self.fraction = fraction
        self.final_fraction = fraction if final_fraction is None else final_fraction
        self.anneal_steps = anneal_steps

    def bind(self, algo: Algorithm) -> None:
        """Prepare for the observations and actions of an algorithm, once."""

    def share(self, env_step: int) -> float:
        """Offline share of a batch at this environment step."""
        if not len(self.online):
            return 1.0
        if self.offline is None:
            return max(0.0, self.fraction) if len(self.online.taught) else 0.0
        if self.fraction < 0:
            return self.offline.mass / (self.offline.mass + self.online.mass)
        progress = min(env_step / self.anneal_steps, 1.0) if self.anneal_steps else 0.0
        return self.fraction + progress * (self.final_fraction - self.fraction)

    def sample(self, size: int, env_step: int = 0) -> Batch:
        """Draw `size` windows, the offline rows first."""
        if self.offline is None and not len(self.online):
            raise UserError(
                "there is nothing to learn from yet",
                remedy="give a dataset, or a warmup of at least one episode to the online phase",
            )
        num = self._offline_rows(size, self.share(env_step))
        if num == 0:
            return self.online.sample(size)
        demonstrated = self._demonstrated(num)
        if num == size:
            return demonstrated
        return torch.cat([demonstrated, self.online.sample(size - num)])

    def _demonstrated(self, size: int) -> Batch:
        """Draw from the data set and from what people did online, by their sizes."""
        taught = self.online.taught if self.fraction >= 0 else self.online.starts[:0]
        if not len(taught):
            assert self.offline is not None
            return self.offline.sample(size)
        logged = 0 if self.offline is None else len(self.offline)
        num = _whole(size * len(taught) / (len(taught) + logged))
        person = self.online.gather(taught[torch.randint(len(taught), (num,))])
        if self.offline is None or num == size:
            return person
        return (
            torch.cat([self.offline.sample(size - num), person])
            if num
            else self.offline.sample(size)
        )

    def prioritise(self, batch: Batch, error: Tensor | None) -> None:
        """Tell each replay how wrong the learner was about the rows that came from it."""
        logged = batch["source"] == DATASET
        for replay, ours in ((self.offline, logged), (self.online, ~logged)):
            if replay is not None:
                replay.prioritise(batch, error, ours)

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run needs besides the episodes: their priorities, in order of age."""
        return {name: replay.priority[replay.starts] for name, replay in self._prioritised()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the priorities, once the episodes are back."""
        for name, replay in self._prioritised():
            replay.priority[replay.starts] = state[name]

    def _prioritised(self) -> Iterator[tuple[str, Replay]]:
        for name, replay in (("offline", self.offline), ("online", self.online)):
            if replay is not None and replay.sampler.prioritized:
                yield name, replay

    def _offline_rows(self, size: int, share: float) -> int:
        rows = share * size
        if self.fraction >= 0:
            return round(rows)
        return _whole(rows)


def _whole(rows: float) -> int:
    """Round so that it is right on average."""
    return int(rows) + int(torch.rand(()) < rows - int(rows))
