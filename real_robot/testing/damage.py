"""What can be wrong with a bundle's files: damage, and forgeries by somebody who holds no key."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from real_robot.runtime.manifest import FILES, MANIFEST, SIGNATURE

EVERY = (*FILES, MANIFEST, SIGNATURE)
Tensors = dict[str, np.ndarray]


def edit(folder: Path, change: Callable[[dict], dict | None]) -> None:
    """Change the manifest's JSON as somebody would who does not hold the key."""
    path = folder / MANIFEST
    data = json.loads(path.read_text())
    path.write_text(json.dumps(change(data) or data))


def forge(folder: Path, name: str, raw: bytes) -> None:
    """Replace a file and put its hash into the manifest: all but the signature fits."""
    (folder / name).write_bytes(raw)

    def change(data: dict) -> None:
        data["files"][name] = {"sha256": hashlib.sha256(raw).hexdigest(), "size": len(raw)}

    edit(folder, change)


def forge_tensors(folder: Path, name: str, change: Callable[[Tensors], Tensors | None]) -> None:
    """Replace tensors of a file, with its hash."""
    tensors = safetensors.numpy.load((folder / name).read_bytes())
    changed = change(tensors) or tensors
    forge(folder, name, safetensors.numpy.save(changed))


def flip(path: Path, at: int, bit: int = 0) -> None:
    """Turn one bit."""
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1 << bit
    path.write_bytes(raw)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def lengthened(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def flipped(path: Path) -> None:
    flip(path, path.stat().st_size // 2)


def missing(path: Path) -> None:
    path.unlink()


def a_link(path: Path) -> None:
    elsewhere = path.parent.parent / f"real-{path.name}"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE = (truncated, emptied, lengthened, flipped, missing, a_link, a_folder, a_pipe)


def nan(tensors: Tensors) -> None:
    tensors[weight(tensors, 0)].flat[0] = np.nan


def infinite(tensors: Tensors) -> None:
    tensors[bias(tensors, 0)].flat[0] = -np.inf


def reshaped(tensors: Tensors) -> None:
    name = weight(tensors, 0)
    tensors[name] = tensors[name].T.copy()


def retyped(tensors: Tensors) -> None:
    name = bias(tensors, 0)
    tensors[name] = tensors[name].astype(np.float64)


def without_one(tensors: Tensors) -> None:
    del tensors[bias(tensors, 0)]


def with_one_more(tensors: Tensors) -> None:
    tensors["algo.actor.net.9.bias"] = np.zeros(3, np.float32)


def nudged(tensors: Tensors) -> None:
    tensors[bias(tensors, -1)].flat[0] += 1e-3


def wild(tensors: Tensors) -> None:
    tensors[weight(tensors, -1)] *= 10


def reaching_further(tensors: Tensors) -> None:
    tensors["algo.action_range.scale"] *= 2


FORGED: tuple[Callable[[Tensors], Any], ...] = (
    nan, infinite, reshaped, retyped, without_one, with_one_more, nudged, wild, reaching_further,
)  # fmt: skip


def weight(tensors: Tensors, layer: int) -> str:
    """Name the weight of the actor's first (0) or last (-1) layer."""
    return sorted(name for name in tensors if name.endswith(".weight"))[layer]


def bias(tensors: Tensors, layer: int) -> str:
    """Name the bias of the actor's first (0) or last (-1) layer."""
    return sorted(name for name in tensors if name.endswith(".bias"))[layer]
