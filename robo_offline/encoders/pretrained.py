"""Pretrained: a camera whose network was trained elsewhere, frozen or finetuned.

Weights come from a file on this machine: safetensors, or a PyTorch file that is read without
unpickling anything but tensors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from robo_offline.encoders.camera import Camera, MakeBackbone, MakeHead, MakeView
from robo_offline.encoders.convs import shape_after
from robo_offline.encoders.view import COLOURS
from robo_offline.errors import UserError

IDENTITY = 16  # bytes of a fingerprint
SHOWN = 4  # names in a message


class Pretrained(Camera):
    """Images (B, C, H, W) uint8 -> feature (B, dim), frame by frame.

    The network sees one RGB frame at a time; the maps of stacked frames and of a goal's image are
    concatenated before the head, which is trained in any case. Running statistics of batch norm
    stay as they are. Frozen weights are no parameters and in no checkpoint: the file is read again,
    and another one is refused. What they say of a frame never changes, so maps (B, F * D, h, w)
    that were computed before are taken in the place of images.
    """

    identity: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        *,
        view: MakeView,
        backbone: MakeBackbone,
        weights: str,
        frozen: bool,
        head: MakeHead,
    ):
        frames, size = shape[0] // COLOURS, tuple(shape[1:])
        super().__init__(
            (COLOURS, *size),
            view=view,
            backbone=backbone,
            head=lambda one: head((frames * one[0], *one[1:])),
        )
        assert self.backbone is not None
        self.frozen = frozen
        if weights:
            _fill(self.backbone, Path(weights).expanduser())
        elif frozen:
            raise UserError(
                "a frozen encoder has no weights",
                expected="encoder.camera.weights=FILE, downloaded before",
                remedy="or encoder.camera.frozen=false, which learns them from nothing",
            )
        self.map_shape = shape_after(self.backbone, self.view.shape)  # of one frame
        if frozen:
            _freeze(self.backbone)
            self.register_buffer("identity", self._identity(self.backbone))
        self.train()

    def forward(self, image: Tensor) -> Tensor:
        if image.is_floating_point():
            return self.head(image.float())
        frames = image.unflatten(1, (-1, COLOURS)).flatten(0, 1)  # (B * F, 3, H, W)
        found = self.maps(frames) if self.frozen else self.look(frames)
        return self.head(found.unflatten(0, (image.shape[0], -1)).flatten(1, 2))

    @torch.no_grad()
    def maps(self, frames: Tensor) -> Tensor:
        """Compute the map (N, D, h, w) of each single frame (N, 3, H, W)."""
        return self.look(frames)

    def train(self, mode: bool = True) -> Pretrained:
        super().train(mode)
        for part in self.backbone.modules() if self.backbone is not None else ():
            if self.frozen or isinstance(part, nn.BatchNorm2d):
                part.training = False
        return self

    def _identity(self, backbone: nn.Module) -> Tensor:
        """Digest of the weights and of what is done to an image before them."""
        digest = hashlib.sha256(repr((type(backbone).__name__, self.view.numbers)).encode())
        for name, value in sorted(backbone.named_buffers()):
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.contiguous().numpy().tobytes())
        return torch.tensor(list(digest.digest()[:IDENTITY]), dtype=torch.uint8)

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        theirs = state.get(prefix + "identity")
        if self.frozen and theirs is not None and _hex(theirs) != _hex(self.identity):
            raise UserError(
                "a checkpoint was made with other frozen weights, or images were seen otherwise",
                where=prefix.rstrip("."),
                expected=_hex(theirs),
                found=_hex(self.identity),
                remedy="give encoder.camera.weights the file that the run began with",
            )
        super()._load_from_state_dict(state, prefix, *rest)


def read(path: Path) -> Mapping[str, Tensor]:
    """Read the tensors of a weights file by their names. Raises UserError where it has none."""
    if not path.is_file():
        raise UserError(
            "there is no file with pretrained weights",
            where=path,
            expected="a .safetensors file, or one of PyTorch",
            remedy="download it, and give its path as encoder.camera.weights",
        )
    stat = path.stat()
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=2)  # every network of an algorithm reads the same one
def _read(path: Path, changed: int, size: int) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the readers fail in any way
        raise UserError(
            "a file with pretrained weights cannot be read",
            where=path,
            expected="safetensors, or a PyTorch file that holds tensors and nothing else",
            found=" ".join(f"{type(error).__name__}: {error}".split())[:200],
            remedy="convert it to safetensors where you trust it",
        ) from error
    return dict(_tensors(content))


def _tensors(content: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Find the tensors of a checkpoint, however deep they lie in it."""
    if isinstance(content, Tensor):
        yield prefix, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _tensors(value, f"{prefix}.{key}" if prefix else str(key))


def _fill(backbone: nn.Module, path: Path) -> None:
    """Load the weights of a file whose names may stand behind any common prefix."""
    found = read(path)
    adapted = getattr(backbone, "adapted", dict)
    wanted = {k: v.shape for k, v in backbone.state_dict().items() if "num_batches" not in k}
    inners = [
        adapted({k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)})
        for prefix in _prefixes(found, min(wanted))
    ]
    inner = max(inners, key=lambda each: len(wanted.keys() & each.keys()), default={})
    wrong = [k for k in sorted(wanted) if k not in inner or inner[k].shape != wanted[k]]
    if wrong:
        shown = wrong[:SHOWN]
        raise UserError(
            f"pretrained weights do not fit {type(backbone).__name__}",
            where=path,
            expected=", ".join(f"{key} {tuple(wanted[key])}" for key in shown),
            found=", ".join(_shape(inner.get(key)) for key in shown)
            + (f" (and {len(wrong) - SHOWN} more)" if len(wrong) > SHOWN else ""),
            remedy="choose the encoder whose architecture the file is of",
        )
    backbone.load_state_dict({key: inner[key].float() for key in wanted}, strict=False)


def _prefixes(found: Mapping[str, Tensor], name: str) -> list[str]:
    ends = [key.removesuffix(name) for key in found if key.endswith(name)]
    return [end for end in ends if not end or end.endswith(".")]


def _freeze(module: nn.Module) -> None:
    """Turn parameters into buffers that no checkpoint holds."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):  # else it asks every checkpoint for its count
            part.track_running_stats, part.num_batches_tracked = False, None
        tensors = {**part._parameters, **part._buffers}
        for name, value in tensors.items():
            part._parameters.pop(name, None)
            part._buffers.pop(name, None)
            fixed = None if value is None else value.detach()
            part.register_buffer(name, fixed, persistent=False)


def _shape(value: Tensor | None) -> str:
    return "absent" if value is None else str(tuple(value.shape))


def _hex(identity: Tensor) -> str:
    return bytes(identity.flatten().tolist()).hex()
