"""Features: what a frozen network says of every image, computed once and kept in the cache.

A network whose weights never change says the same of an image in every update. So the rows of a
data set hold its maps in the place of images, and an episode gets them when it is stored: learning
does not run the network at all. The policy that acts still sees images.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Composite, Unbounded

from robo_offline.datasets import Dataset
from robo_offline.datasets.cache import cache_root, disk, forget_partial, lock, reserve, size_of
from robo_offline.errors import UserError
from robo_offline.progress import bar
from robo_offline.spec import Spec

BATCH = 64  # images at a time
SAMPLED = 64  # of a data set's images, for its fingerprint; everything else counts in full
COLOURS = 3
MAPS = torch.float16  # half as large, and exact to a thousandth

Leaf = tuple[str, ...]  # where an image is in an observation


class Eye(Protocol):
    """A frozen network."""

    identity: Tensor
    map_shape: tuple[int, int, int]

    def maps(self, frames: Tensor) -> Tensor:
        """Compute the map (N, D, h, w) of each frame (N, 3, H, W)."""


@dataclass(frozen=True)
class Features:
    """Frozen networks, by the leaves whose images they look at; none leaves all as it is."""

    eyes: Mapping[Leaf, Eye]

    def dataset(self, data: Dataset) -> Dataset:
        """Put maps in the place of images, from the cache where it has them."""
        if not self.eyes:
            return data
        path = cache_root() / f"features-{self._key(data.steps)}"
        if not (path / "features.json").is_file():
            with lock(path):
                if not (path / "features.json").is_file():
                    self._build(data, path)
        found = _open(path)
        steps = _replaced(data.steps, lambda place: found[_name(place)], self.eyes)
        return data._replace(steps=steps)

    def episode(self, rows: TensorDictBase) -> TensorDictBase:
        """Put maps in the place of images of rows that were just lived through."""
        if not self.eyes:
            return rows
        return _replaced(rows, lambda place: self._maps(place, rows), self.eyes)

    def spec(self, spec: Spec) -> Spec:
        """The spec of a batch whose rows hold maps."""
        if not self.eyes:
            return spec
        leaves = {
            key if isinstance(key, tuple) else (key,): leaf
            for key, leaf in spec.observation.items(include_nested=True, leaves_only=True)
        }
        for place, eye in self.eyes.items():
            leaf = leaves[("observation", *place)]
            depth, *size = eye.map_shape
            shape = (leaf.shape[0] // COLOURS * depth, *size)
            leaves[("observation", *place)] = Unbounded(shape, dtype=MAPS)
        found = Composite()
        for path, leaf in leaves.items():
            found[path] = leaf
        return replace(spec, observation=found)

    def _maps(self, place: Leaf, rows: TensorDictBase) -> Tensor:
        return self.eyes[place].maps(rows[("observation", *place)]).to(MAPS)

    def _build(self, data: Dataset, path: Path) -> None:
        steps = data.steps
        with disk(path):
            forget_partial(path)
            partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
            try:
                maps = self._allocate(steps, partial / "maps")
                with bar(f"{data.name}: frozen features") as report:
                    for start in range(0, len(steps), BATCH):
                        rows = steps[start : start + BATCH]
                        for place in self._present(steps):
                            part = maps[_name(place)]
                            part[start : start + BATCH] = self._maps(place, rows)
                        report(start + len(rows), len(steps))
                about = {"data": data.name, "bytes": size_of(partial)}
                (partial / "features.json").write_text(json.dumps(about))
                partial.chmod(0o755)
                os.replace(partial, path)
            finally:
                shutil.rmtree(partial, ignore_errors=True)

    def _allocate(self, steps: TensorDictBase, path: Path) -> TensorDict:
        rows = len(steps)
        empty = {
            _name(place): torch.zeros(1, dtype=MAPS).expand(rows, *self.eyes[place].map_shape)
            for place in self._present(steps)
        }
        maps = TensorDict(empty, [rows]).memmap_like(path)
        reserve(path)
        return maps

    def _present(self, steps: TensorDictBase) -> list[Leaf]:
        return [place for place in self.eyes if ("observation", *place) in _keys(steps)]

    def _key(self, steps: TensorDictBase) -> str:
        """Digest of the networks and of the rows they look at."""
        digest = hashlib.sha256()
        for place, eye in sorted(self.eyes.items(), key=lambda item: item[0]):
            digest.update(f"{_name(place)} {bytes(eye.identity.tolist()).hex()}".encode())
        sampled = torch.linspace(0, len(steps) - 1, min(SAMPLED, len(steps))).long()
        for key in sorted(_keys(steps)):
            leaf = steps[key]
            digest.update(f"{key} {tuple(leaf.shape)} {leaf.dtype}".encode())
            seen = leaf[sampled] if leaf.dim() > 2 else leaf[:]
            digest.update(seen.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def _open(path: Path) -> TensorDict:
    try:
        expected = json.loads((path / "features.json").read_text())["bytes"]
        if size_of(path) != expected:  # mapping a short file would fill it up with zeros
            raise ValueError(f"{size_of(path)} bytes instead of {expected}")
        return TensorDict.load_memmap(path / "maps")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(
            "the cache of frozen features is damaged",
            where=path,
            found=error,
            remedy=f"delete the folder {path}; it is built again at the next use",
        ) from error


def _replaced(
    rows: TensorDictBase, maps: Callable[[Leaf], Tensor], places: Mapping[Leaf, Any]
) -> TensorDictBase:
    keys, found = _keys(rows), rows.copy()
    for place in places:
        if ("observation", *place) in keys:
            found[("observation", *place)] = maps(place)
    return found


def _keys(rows: TensorDictBase) -> set[tuple[str, ...]]:
    keys = rows.keys(include_nested=True, leaves_only=True)
    return {key if isinstance(key, tuple) else (key,) for key in keys}


def _name(place: Leaf) -> str:
    return ".".join(place) or "observation"
