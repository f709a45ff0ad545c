"""Fusion: cameras and vectors into one feature; critics may see other leaves than the policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from robo_offline.encoders import Encoder
from robo_offline.encoders.camera import Camera
from robo_offline.encoders.leaves import (
    Leaves,
    Path,
    at,
    camera_of,
    check_goal,
    check_names,
    is_goal,
    leaves_of,
    named,
    only,
)
from robo_offline.encoders.state import State, Statistics
from robo_offline.errors import UserError
from robo_offline.spec import Spec

READERS = ("actor", "value")  # modules of an algorithm that may read the critic's convolutions


class Fusion(Encoder):
    """Observation with images -> feature (B, dim): every camera's, then the vectors'.

    A camera and the goal's image of it are one image with more channels, so that a network compares
    them from its first layer on. `policy_sees` and `critic_sees` name leaves, and with each the
    goal's leaf of that name. Nothing named is everything; critics see what the policy sees unless
    they are told otherwise, and the policy does not see what is named for them alone.
    """

    def __init__(
        self,
        spec: Spec,
        statistics: Statistics | None = None,
        *,
        camera: Callable[[Sequence[int]], Camera],
        share_cameras: bool,
        critic_trains: bool,
        vector_dim: int,
        policy_sees: Sequence[str],
        critic_sees: Sequence[str],
    ):
        super().__init__()
        leaves = leaves_of(spec)
        check_names([*policy_sees, *critic_sees], leaves, spec)
        if policy_sees:
            seen = {path for path in leaves if named(path, policy_sees)}
        else:
            seen = {path for path in leaves if not named(path, critic_sees)}
        check_goal(seen, leaves)
        self.critic_trains = critic_trains
        self.instead: Callable[[], Encoder] | None = None
        if critic_sees:
            self.instead = partial(
                Fusion,
                spec,
                statistics,
                camera=camera,
                share_cameras=share_cameras,
                critic_trains=critic_trains,
                vector_dim=vector_dim,
                policy_sees=critic_sees,
                critic_sees=(),
            )
        spec = only(spec, seen)
        leaves = leaves_of(spec)
        if not leaves:
            raise UserError("an encoder is left with nothing to see")
        self.images = _by_camera(leaves)
        shapes = [_stacked(paths, leaves) for paths in self.images.values()]
        if share_cameras and len(set(shapes)) > 1:
            raise UserError(
                "cameras of different shapes cannot share their weights",
                expected="encoder.share_cameras=false, or images of one shape",
                found=dict(zip(self.images, shapes, strict=True)),
            )
        self.share_cameras = share_cameras
        # By name, so that a checkpoint for other cameras is told from one for these.
        names = ["+".join(self.images)] if share_cameras and shapes else list(self.images)
        self.cameras = nn.ModuleDict(
            {_key(name): camera(shape) for name, shape in zip(names, shapes, strict=False)}
        )
        self.vectors: nn.Sequential | None = None
        self.dim = sum(each.dim for each in self._each())
        if any(leaf.dtype.is_floating_point for leaf in leaves.values()):
            state = State(spec, statistics)
            self.vectors = nn.Sequential(state, *_narrow(state.dim, vector_dim))
            self.dim += vector_dim or state.dim

    def forward(self, observation: Any) -> Tensor:  # (B, dim)
        images = [_together(observation, paths) for paths in self.images.values()]
        if self.share_cameras and len(images) > 1:
            found = list(self._each()[0](torch.cat(images)).chunk(len(images)))
        else:
            found = [camera(image) for camera, image in zip(self._each(), images, strict=True)]
        if self.vectors is not None:
            found.append(self.vectors(observation))
        return torch.cat(found, -1)

    def privileged(self) -> Encoder:
        return self if self.instead is None else self.instead()

    def frozen(self) -> dict[Path, Camera]:
        """Return what computes the maps of each leaf whose camera never changes."""
        pairs = zip(self._each(), self.images.values(), strict=True)
        return {path: camera for camera, paths in pairs if camera.frozen for path in paths}

    def borrow(self, other: Fusion) -> None:
        """Read the convolutions of another encoder from now on, where it looks at the same."""
        if self.images != other.images:
            return
        for own, theirs in zip(self._each(), other._each(), strict=True):
            if own.backbone is not None and theirs.backbone is not None and not own.frozen:
                own.borrow(theirs)

    def _each(self) -> list[Any]:
        """Return what looks at each camera."""
        cameras = list(self.cameras.values())
        return cameras * len(self.images) if self.share_cameras else cameras


def _key(name: str) -> str:
    return "camera_" + name.replace(".", "_")


def lend(algo: nn.Module, targets: dict[str, str]) -> None:
    """Let actor and value read the convolutions that the critic trains, where encoders say so.

    DrQ-v2's way (arXiv 2107.09645). Slow copies of what reads read the same, and a slow critic has
    its own, moved like the rest of it. Without a critic all keep their own.
    """
    source = next((e for e in _encoders(getattr(algo, "critic", None)) if e.critic_trains), None)
    if source is None:
        return
    slow = [name for name, followed in targets.items() if followed in READERS]
    for name in (*READERS, *slow):
        for encoder in _encoders(getattr(algo, name, None)):
            encoder.borrow(source)


def _encoders(module: nn.Module | None) -> list[Fusion]:
    return [m for m in module.modules() if isinstance(m, Fusion)] if module is not None else []


def _by_camera(leaves: Leaves) -> dict[str, list[Path]]:
    """Put a camera and the goal's image of it together, the camera first."""
    found: dict[str, list[Path]] = {}
    for path in sorted(leaves, key=is_goal):
        if leaves[path].dtype == torch.uint8:
            found.setdefault(camera_of(path), []).append(path)
    return found


def _stacked(paths: list[Path], leaves: Leaves) -> tuple[int, int, int]:
    shapes = [tuple(leaves[path].shape) for path in paths]
    if len({shape[1:] for shape in shapes}) > 1:
        raise UserError(
            "a camera and its goal have images of different sizes",
            where=camera_of(paths[0]),
            expected=shapes[0],
            found=shapes[1],
        )
    return sum(shape[0] for shape in shapes), shapes[0][1], shapes[0][2]


def _together(observation: Any, paths: list[Path]) -> Tensor:
    images = [at(observation, path) for path in paths]
    return images[0] if len(images) == 1 else torch.cat(images, 1)


def _narrow(size: int, width: int) -> list[nn.Module]:
    """SERL's way with proprioception, so that images outweigh it; 0 leaves it as it is."""
    return [nn.Linear(size, width), nn.LayerNorm(width), nn.Tanh()] if width else []
