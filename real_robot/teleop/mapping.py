"""From deflections to velocities: which axis drives what, with which sign, and how fast at most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mapping:
    """How six axes of a device become a twist (x forward, y left, z up). All plain values.

    `source[i]` is the device's axis that drives component i of the twist, `sign[i]` its sign; 0
    switches a component off.
    """

    source: tuple[int, ...]
    sign: tuple[int, ...]
    dead_band: float = 0.08  # of full deflection; motion begins at zero beyond it
    linear_m_s: float = 0.10  # speed at full deflection, in any direction
    angular_rad_s: float = 0.50

    def __post_init__(self):
        if len(self.source) != 6 or not all(i in range(6) for i in self.source):
            raise ValueError(f"source is {self.source}: six axes from 0 to 5 are expected")
        if len(self.sign) != 6 or not all(s in (-1, 0, 1) for s in self.sign):
            raise ValueError(f"sign is {self.sign}: six of -1, 0 and 1 are expected")
        if not 0 <= self.dead_band < 1:
            raise ValueError(f"dead_band is {self.dead_band}: 0 up to below 1 is expected")
        for name in ("linear_m_s", "angular_rad_s"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} is {getattr(self, name)}: more than 0 is expected")

    def twist(self, axes: Sequence[float]) -> np.ndarray:
        """Return the twist (6,) for deflections in [-1, 1]; what is no number counts as none."""
        given = np.asarray(axes, np.float64)
        raw = np.where(np.isfinite(given), given, 0.0).clip(-1, 1)
        beyond = np.maximum(np.abs(raw) - self.dead_band, 0) / (1 - self.dead_band)
        axis = (np.sign(raw) * beyond)[list(self.source)] * self.sign
        # A diagonal is no faster than an axis.
        linear, angular = (part / max(1.0, math.hypot(*part)) for part in (axis[:3], axis[3:]))
        return np.concatenate([linear * self.linear_m_s, angular * self.angular_rad_s])


# A device whose axes are x forward, y left, z up and the turns about them already.
STRAIGHT = Mapping(source=(0, 1, 2, 3, 4, 5), sign=(1, 1, 1, 1, 1, 1))
