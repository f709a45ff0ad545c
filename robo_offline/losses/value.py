"""Value regression other than the mean."""

from __future__ import annotations

import torch
from torch import Tensor


def expectile(error: Tensor, expectile: float) -> Tensor:
    """|expectile - 1(error < 0)| * error^2, per entry; IQL, arXiv 2110.06169."""
    return torch.where(error < 0, 1 - expectile, expectile) * error.square()
