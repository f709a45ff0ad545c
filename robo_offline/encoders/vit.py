"""ViT: a vision transformer, small enough to read, for weights such as VC-1's and DINOv2's.

Dosovitskiy et al. 2021 (arXiv 2010.11929). Weights have the names that both publish them with, so
their files load as they are. Gated feed-forwards, as in DINOv2's giant, are not here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from robo_offline.errors import UserError

EPSILON = 1e-6


class ViT(nn.Module):
    """From images (B, 3, size, size) to a map (B, width, h, w).

    The map is the class token alone, 1 x 1, or the token of every patch where `patches` says so.
    """

    def __init__(
        self,
        channels: int,
        *,
        size: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        registers: int,
        layer_scale: bool,
        patches: bool,
    ):
        super().__init__()
        if size % patch:
            raise UserError(
                "a transformer's images are no whole number of patches wide",
                expected=f"a multiple of {patch}",
                found=size,
                remedy="encoder.camera.view.crop and encoder.camera.backbone.size",
            )
        self.size, self.patches, self.grid, self.registers = size, patches, size // patch, registers
        self.patch_embed = Patches(channels, width, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + self.grid**2, width))
        if registers:
            self.reg_token = nn.Parameter(torch.zeros(1, registers, width))
        self.blocks = nn.Sequential(*(Block(width, heads, layer_scale) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patch_embed(image)
        first = self.cls_token.expand(len(tokens), -1, -1)
        tokens = torch.cat([first, tokens], 1) + self.pos_embed
        if self.registers:  # behind the class token, and without a place
            extra = self.reg_token.expand(len(tokens), -1, -1)
            tokens = torch.cat([tokens[:, :1], extra, tokens[:, 1:]], 1)
        tokens = self.norm(self.blocks(tokens))
        if not self.patches:
            return tokens[:, 0, :, None, None]
        return tokens[:, 1 + self.registers :].mT.unflatten(-1, (self.grid, self.grid))

    def adapted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Fit published weights to this one's image size, and the ways they are written."""
        found = dict(weights)
        if "register_tokens" in found:
            found["reg_token"] = found.pop("register_tokens")
        place = found.get("pos_embed")
        if place is None:
            return found
        side = int(place.shape[1] ** 0.5)
        if side**2 == place.shape[1]:  # the class token's place was added to it already
            place = torch.cat([torch.zeros_like(place[:, :1]), place], 1)
        side = int((place.shape[1] - 1) ** 0.5)
        if side != self.grid and side**2 == place.shape[1] - 1:
            patches = place[:, 1:].mT.unflatten(-1, (side, side)).float()
            size = (self.grid, self.grid)
            patches = interpolate(patches, size, mode="bicubic", antialias=True)
            place = torch.cat([place[:, :1], patches.flatten(2).mT], 1)
        found["pos_embed"] = place
        return found


class Block(nn.Module):
    """Attention and a feed-forward, each behind its norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, layer_scale: bool):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = Feed(width)
        self.ls1: nn.Module = Scale(width) if layer_scale else nn.Identity()
        self.ls2: nn.Module = Scale(width) if layer_scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Patches(nn.Module):
    """One token per patch, row by row."""

    def __init__(self, channels: int, width: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, image: Tensor) -> Tensor:  # (B, C, H, W) -> (B, h * w, width)
        return self.proj(image).flatten(2).mT


class Feed(nn.Module):
    """Four times as wide with a GELU, and back."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Attention(nn.Module):
    """Every token looks at every token, in `heads` ways."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, D)
        each = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = scaled_dot_product_attention(*each.unbind())  # (B, heads, T, D / heads)
        return self.proj(found.transpose(1, 2).flatten(2))


class Scale(nn.Module):
    """A learned factor per channel."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma
