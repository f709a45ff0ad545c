"""Colour: grey and hue of images with three colours, (..., 3, H, W) in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

RED, GREEN, BLUE = 0.299, 0.587, 0.114  # of ITU-R BT.601's luma
TINY = 1e-8


def to_grey(frames: Tensor) -> Tensor:
    """Return the luma (..., 1, H, W)."""
    red, green, blue = frames.unbind(-3)
    return (RED * red + GREEN * green + BLUE * blue).unsqueeze(-3)


def hue_turned(frames: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue by so many turns of the colour circle; value and saturation of HSV stay."""
    high, low = frames.amax(-3), frames.amin(-3)
    spread = high - low
    red, green, blue = frames.unbind(-3)
    safe = spread.clamp(min=TINY)
    sixth = torch.where(
        high == red,
        (green - blue) / safe,
        torch.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sixth = sixth + 6 * turns.squeeze(-3)
    # Each colour is `high` within two sixths of its own hue, `low` from four on, linear between.
    places = torch.tensor([0.0, 2.0, 4.0], device=frames.device)[:, None, None]
    apart = (sixth.unsqueeze(-3) - places + 3) % 6 - 3
    share = (2 - apart.abs()).clamp(0, 1)
    return low.unsqueeze(-3) + spread.unsqueeze(-3) * share
