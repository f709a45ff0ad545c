"""Value regression other than the mean."""

from __future__ import annotations

import torch
from torch import Tensor


def expectile(error: Tensor, expectile: float, adv: Tensor | None = None) -> Tensor:
    """|expectile - 1(adv < 0)| * error^2, per entry; IQL, arXiv 2110.06169.

    The sign is the error's own, unless an advantage says which side every entry is on.
    """
    side = error if adv is None else adv
    return torch.where(side < 0, 1 - expectile, expectile) * error.square()
