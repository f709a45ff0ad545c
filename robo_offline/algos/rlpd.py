"""RLPD: SAC with LayerNorm critics, a large ensemble, many updates and half-offline batches.

Ball, Smith, Kostrikov, Levine. Efficient Online RL with Offline Data, 2023 (arXiv 2302.02948).
The actor climbs the mean of the ensemble; the rest is values: `configs/algo/rlpd.yaml`
and the `offline_fraction` and `utd` of the online phase.
"""

from __future__ import annotations

from torch import Tensor

from robo_offline.algos.sac import SAC


class RLPD(SAC):
    """RL with prior data."""

    def improve(self, q: Tensor) -> Tensor:
        return q.mean(0)
