"""The last look at what is sent, by other code than planned it."""

from __future__ import annotations

import numpy as np

from real_robot.descriptor import Limits
from real_robot.driver import DriverCommand

SLACK = 1e-9


def fit_to_send(command: DriverCommand, limits: Limits) -> bool:
    """Say whether a command is finite, and within the ends and speeds of every joint."""
    q, v = command.q, command.dq
    return bool(
        np.isfinite(q).all()
        and np.isfinite(v).all()
        and 0 <= command.gripper <= 1
        and (q >= np.array(limits.q_min_rad) - SLACK).all()
        and (q <= np.array(limits.q_max_rad) + SLACK).all()
        and (np.abs(v) <= np.array(limits.v_max_rad_s) * (1 + 1e-6)).all()
    )
