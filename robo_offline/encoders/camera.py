"""Camera: what looks at the images of one camera; a view, a network of convolutions, a head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robo_offline.encoders.convs import shape_after
from robo_offline.encoders.view import View

MakeView = Callable[[Sequence[int]], View]
MakeBackbone = Callable[[int], nn.Module]  # of so many channels
MakeHead = Callable[[Sequence[int]], Any]  # a module behind a map (C, h, w) that knows its `dim`


class Camera(nn.Module):
    """Images (B, C, H, W) uint8 -> feature (B, dim), trained from scratch with what it serves.

    Stacked frames and a goal's image are more channels of the same image.
    """

    backbone: nn.Module | None
    frozen = False

    def __init__(
        self, shape: Sequence[int], *, view: MakeView, backbone: MakeBackbone, head: MakeHead
    ):
        super().__init__()
        self.view = view(shape)
        self.backbone = backbone(self.view.shape[0])
        self.lent: tuple[nn.Module, ...] = ()  # in a tuple: read, not owned
        self.head = head(shape_after(self.backbone, self.view.shape))
        self.dim: int = self.head.dim

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.look(image))

    def look(self, image: Tensor) -> Tensor:
        """Return the map (B, C', h, w) before the head."""
        if self.backbone is not None:
            return self.backbone(self.view(image))
        with torch.no_grad():
            return self.lent[0](self.view(image))

    def borrow(self, other: Camera) -> None:
        """Read the convolutions of another from now on; only that one trains them."""
        assert other.backbone is not None
        self.backbone, self.lent = None, (other.backbone,)
