"""View: images as they come, (B, C, H, W) uint8, made into what a network looks at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robo_offline.errors import UserError

COLOURS = 3  # channels of a frame; a stack of frames repeats them
WIDEST_PIXEL = 4  # an image as wide as this has its channels last


class View(nn.Module):
    """Resize, take the centre, and scale: (x / 255 - mean) / std per colour.

    The shorter side becomes `resize` pixels, and the middle `crop` of them stay; 0 is neither.
    Images that are `crop` pixels wide already, such as random crops of a batch, pass as they are.
    """

    factor: Tensor
    shift: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        *,
        resize: int,
        crop: int,
        mean: Sequence[float],
        std: Sequence[float],
        bicubic: bool,
    ):
        super().__init__()
        channels, height, width = shape
        if channels % COLOURS or width <= WIDEST_PIXEL:
            raise UserError(
                "a camera does not give stacked RGB images",
                expected=f"(C, H, W) with {COLOURS} channels per frame, channels first",
                found=tuple(shape),
            )
        self.raw, self.resize, self.crop = (height, width), resize, crop
        self.sampling = "bicubic" if bicubic else "bilinear"
        resized = _resized(self.raw, resize)
        if crop > min(resized):
            raise UserError(
                "the crop of an encoder is larger than the image",
                expected=f"encoder.camera.view.crop of at most {min(resized)}",
                found=crop,
            )
        self.shape = (channels, crop or resized[0], crop or resized[1])
        self.numbers = (*self.shape[1:], resize, crop, *mean, *std, bicubic)  # for a fingerprint
        spread = torch.tensor(std).repeat(channels // COLOURS).view(-1, 1, 1)
        middle = torch.tensor(mean).repeat(channels // COLOURS).view(-1, 1, 1)
        self.register_buffer("factor", 1 / (255 * spread), persistent=False)
        self.register_buffer("shift", -middle / spread, persistent=False)

    def forward(self, image: Tensor) -> Tensor:  # (B, C, H, W) uint8 -> (B, C, H', W') float32
        size = tuple(image.shape[-2:])
        if size != self.raw and size != self.shape[1:]:
            raise UserError(
                "an image has another size than the encoder was built for",
                expected=" or ".join(str(s) for s in dict.fromkeys((self.raw, self.shape[1:]))),
                found=size,
                remedy="a random crop (augment) must be as large as encoder.camera.view.crop",
            )
        image = _channels_last(image).to(torch.float32)
        if size == self.raw:
            image = self._centre(self._resize(image))
        return torch.addcmul(self.shift, image, self.factor)

    def _resize(self, image: Tensor) -> Tensor:
        size = _resized(self.raw, self.resize)
        if size == self.raw:
            return image
        return nn.functional.interpolate(image, size, mode=self.sampling, antialias=True)

    def _centre(self, image: Tensor) -> Tensor:
        if not self.crop:
            return image
        top, left = (round((side - self.crop) / 2) for side in image.shape[-2:])
        return image[..., top : top + self.crop, left : left + self.crop]


def _channels_last(image: Tensor) -> Tensor:
    """Lay out colours side by side: many convolutions are up to three times as fast on a CPU."""
    if torch._C._are_functorch_transforms_active():  # they add axes, for which there is no such
        return image
    return image.contiguous(memory_format=torch.channels_last)


def _resized(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    if not shorter or min(size) == shorter:
        return size
    height, width = (int(shorter * side / min(size)) for side in size)
    return height, width
