"""Weights as bytes: numbered, named by their hash, and taken only when they are what they say."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor


class Refused(Exception):
    """Weights that nobody may act with, and why."""


@dataclass(frozen=True)
class About:
    """What weights know of where they come from."""

    version: int
    run: str  # hash of the configuration of the run that made them
    episodes: int  # index of the first episode that they have not learned from
    records: int  # number of the first record that they have not learned from
    made_s: float  # seconds since the epoch


def pack(about: About, state: dict[str, Tensor]) -> tuple[str, bytes]:
    """Return the name of a file of weights, and what it holds."""
    tensors = {key: value.contiguous() for key, value in state.items()}
    data = save(tensors, {"about": json.dumps(asdict(about))})
    return f"{about.version:09d}-{hashlib.sha256(data).hexdigest()}.safetensors", data


def version_of(name: str) -> int:
    """Return the number in the name of weights; -1 for no name."""
    return int(name.partition("-")[0]) if name else -1


def unpack(name: str, data: bytes) -> tuple[About, dict[str, Tensor]]:
    """Read weights. Raises Refused where they are not those that were made."""
    if hashlib.sha256(data).hexdigest() != name.partition("-")[2].removesuffix(".safetensors"):
        raise Refused("the hash differs")
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return About(**json.loads(header["__metadata__"]["about"])), load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"it cannot be read: {error}") from error


def check(state: dict[str, Tensor], pattern: dict[str, Tensor]) -> None:
    """Raise Refused where weights do not fit the policy that has `pattern`, or are not finite."""
    if state.keys() != pattern.keys():
        raise Refused(f"other names: {sorted(state.keys() ^ pattern.keys())[:3]}")
    for key, value in state.items():
        wanted = pattern[key]
        if (value.shape, value.dtype) != (wanted.shape, wanted.dtype):
            raise Refused(f"{key} is {value.dtype} {tuple(value.shape)}")
        # What an acting choice remembers may be nan or infinite by right; what acts may not.
        if key.startswith("algo.") and not torch.isfinite(value).all():
            raise Refused(f"{key} is not finite")
