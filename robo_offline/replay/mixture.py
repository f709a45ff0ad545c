"""Mixture: every batch holds an exact share of data-set rows, the rest is own experience."""

from __future__ import annotations

import torch

from robo_offline.errors import UserError
from robo_offline.replay.buffer import Replay
from robo_offline.schema import Batch


class Mixture:
    """Draw from a data set and from growing experience in one batch.

    `fraction` of each batch is offline, rounded to whole rows, so every slice of a high update
    ratio holds the same share (RLPD, arXiv 2302.02948); it moves linearly to `final_fraction` over
    `anneal_steps` environment steps. A negative fraction means one union of both, drawn uniformly
    (IQL's and AWAC's finetuning).
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

    def share(self, env_step: int) -> float:
        """Offline share of a batch at this environment step."""
        if not len(self.online):
            return 1.0
        if self.offline is None:
            return 0.0
        if self.fraction < 0:
            return len(self.offline) / (len(self.offline) + len(self.online))
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
        assert self.offline is not None
        if num == size:
            return self.offline.sample(size)
        return torch.cat([self.offline.sample(num), self.online.sample(size - num)])

    def _offline_rows(self, size: int, share: float) -> int:
        rows = share * size
        if self.fraction >= 0:
            return round(rows)
        return int(rows) + int(torch.rand(()) < rows - int(rows))  # right on average in a union
