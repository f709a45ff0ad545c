"""Augment: vary the images of a batch, all at once, on the device where they are learned from.

Every step is a function of images and of uniform numbers, so that whoever shares the numbers is
varied alike: the frames of a stack always, and successors and goals where the method wants it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from robo_offline.errors import UserError
from robo_offline.replay.colour import hue_turned, to_grey
from robo_offline.schema import Batch
from robo_offline.spec import is_image

COLOURS = 3
Path = tuple[str, ...]


class Step(Protocol):
    """One way to vary images."""

    numbers: ClassVar[int]  # uniform in [0, 1) that it needs per row

    @property
    def cameras(self) -> Sequence[str]:
        """Names of those it is for; none is all."""

    def __call__(self, image: Tensor, u: Tensor) -> Tensor:
        """Vary images (B, C, H, W) uint8 by numbers (B, numbers)."""


@dataclass(frozen=True)
class Augment:
    """Steps, in order, for all images of a batch.

    Numbers are drawn by one generator per batch whose seed comes from the global stream: a resumed
    run draws the same ones, on any device. With `together` a row's images all get the same.
    """

    steps: Sequence[Step]
    together: bool  # observation, successor and goals of a row alike (OGBench), or each its own
    share: float  # of the batches; the others stay as they are

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UserError("augment.share is no probability", found=self.share)

    def __call__(self, batch: Batch, device: torch.device | str = "cpu") -> Batch:
        """Return the batch with its images varied, on a device; the given one stays as it is."""
        paths = image_paths(batch) if self.steps else []
        if not paths:
            return batch
        if self.share < 1 and float(torch.rand(())) >= self.share:
            return batch
        random = torch.Generator(device).manual_seed(int(torch.randint(2**62, ())))
        batch = batch.to(device).copy()
        for step in self.steps:
            u: Tensor | None = None
            for path in paths:
                if step.cameras and path[-1] not in step.cameras:
                    continue
                if u is None or not self.together:
                    u = torch.rand(len(batch), step.numbers, generator=random, device=device)
                batch[path] = step(batch[path], u)
        return batch


NO_AUGMENT = Augment((), together=False, share=1.0)


def image_paths(batch: Batch) -> list[Path]:
    """List the leaves of a batch that are images, in a fixed order."""
    found: list[Path] = []
    for key, leaf in batch.items(include_nested=True, leaves_only=True):
        if leaf.dtype == torch.uint8 and is_image(leaf.dtype, leaf.shape[1:]):
            found.append(key if isinstance(key, tuple) else (key,))
    return sorted(found)


@dataclass(frozen=True)
class Shift:
    """Move images by whole pixels, up to `pad` each way; what comes in repeats the border.

    Random shifts of DrQ-v2 (Yarats et al. 2021, arXiv 2107.09645: 4 pixels), which are the random
    crops with edge padding of OGBench (3) and SERL (4).
    """

    pad: int
    cameras: Sequence[str] = ()
    numbers: ClassVar[int] = 2

    def __call__(self, image: Tensor, u: Tensor) -> Tensor:
        offset = (u * (2 * self.pad + 1)).long() - self.pad  # (B, 2)
        return _window(image, offset[:, 0], offset[:, 1], image.shape[-2:])


@dataclass(frozen=True)
class SmoothShift:
    """The same by any part of a pixel, bilinearly between them."""

    pad: int
    cameras: Sequence[str] = ()
    numbers: ClassVar[int] = 2

    def __call__(self, image: Tensor, u: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        offset = (2 * u - 1) * self.pad  # pixels (B, 2)
        y = _centres(height, image) + offset[:, :1]  # (B, H)
        x = _centres(width, image) + offset[:, 1:]
        return _sample(image, y, x)


@dataclass(frozen=True)
class Crop:
    """Cut out `size` x `size` pixels anywhere; evaluation takes the centre: `view.crop`.

    76 of 84 in robomimic (arXiv 2108.03298) and Diffusion Policy.
    """

    size: int
    cameras: Sequence[str] = ()
    numbers: ClassVar[int] = 2

    def __call__(self, image: Tensor, u: Tensor) -> Tensor:
        room = torch.tensor(image.shape[-2:], device=u.device) - self.size + 1
        if min(image.shape[-2:]) < self.size:
            raise UserError(
                "a random crop is larger than the image",
                expected=f"augment crops of at most {min(image.shape[-2:])} pixels",
                found=self.size,
            )
        offset = (u * room).long()
        return _window(image, offset[:, 0], offset[:, 1], (self.size, self.size))


@dataclass(frozen=True)
class ResizedCrop:
    """Cut out a part of some area and aspect ratio anywhere, and stretch it to the whole image."""

    area: tuple[float, float]  # least and greatest, of the image's
    ratio: tuple[float, float]  # width by height
    cameras: Sequence[str] = ()
    numbers: ClassVar[int] = 4

    def __call__(self, image: Tensor, u: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        area = _between(self.area, u[:, 0])
        low, high = (math.log(end) for end in self.ratio)
        aspect = _between((low, high), u[:, 1]).exp().sqrt()
        tall = (area.sqrt() / aspect).clamp(max=1) * height  # pixels (B,)
        wide = (area.sqrt() * aspect).clamp(max=1) * width
        top, left = u[:, 2] * (height - tall), u[:, 3] * (width - wide)
        y = top[:, None] + _centres(height, image, shift=0.5) * (tall / height)[:, None] - 0.5
        x = left[:, None] + _centres(width, image, shift=0.5) * (wide / width)[:, None] - 0.5
        return _sample(image, y, x)


@dataclass(frozen=True)
class Jitter:
    """Change brightness, contrast, saturation and hue, in this order, each by up to so much.

    Brightness, saturation and contrast are multiplied by 1 +- x; contrast is about the mean grey of
    a frame, hue is in turns of the colour circle.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float
    cameras: Sequence[str] = ()
    numbers: ClassVar[int] = 4

    def __call__(self, image: Tensor, u: Tensor) -> Tensor:
        frames = image.unflatten(1, (-1, COLOURS)).float() / 255  # (B, F, 3, H, W)
        by = (2 * u - 1)[:, :, None, None, None, None]  # (B, 4, 1, 1, 1, 1)
        frames = (frames * (1 + self.brightness * by[:, 0])).clamp(0, 1)
        mean = to_grey(frames).mean((-3, -2, -1), keepdim=True)
        frames = (mean + (frames - mean) * (1 + self.contrast * by[:, 1])).clamp(0, 1)
        grey = to_grey(frames)
        frames = (grey + (frames - grey) * (1 + self.saturation * by[:, 2])).clamp(0, 1)
        if self.hue:
            frames = hue_turned(frames, self.hue * by[:, 3])
        return (255 * frames).round().to(torch.uint8).flatten(1, 2)


def _window(image: Tensor, top: Tensor, left: Tensor, size: Sequence[int]) -> Tensor:
    """Take the window of each image that begins at (top, left); beyond the border it repeats."""
    height, width = image.shape[-2:]
    device = image.device
    y = (top[:, None] + torch.arange(size[0], device=device)).clamp(0, height - 1)  # (B, h)
    x = (left[:, None] + torch.arange(size[1], device=device)).clamp(0, width - 1)
    index = y[:, :, None] * width + x[:, None, :]  # (B, h, w)
    index = index.flatten(1).unsqueeze(1).expand(-1, image.shape[1], -1)
    return image.flatten(2).gather(2, index).unflatten(2, tuple(size))


def _sample(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Sample each image at rows y (B, h) and columns x (B, w), given in pixels."""
    height, width = image.shape[-2:]
    down = (2 * y + 1) / height - 1
    across = (2 * x + 1) / width - 1
    grid = torch.stack(
        [
            across[:, None, :].expand(-1, y.shape[1], -1),
            down[:, :, None].expand(-1, -1, x.shape[1]),
        ],
        -1,
    )
    found = torch.nn.functional.grid_sample(
        image.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return found.round().clamp(0, 255).to(torch.uint8)


def _centres(num: int, like: Tensor, shift: float = 0.0) -> Tensor:
    return torch.arange(num, device=like.device, dtype=torch.float32) + shift


def _between(ends: Sequence[float], u: Tensor) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * u
