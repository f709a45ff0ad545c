"""Reading a bundle: every byte is read once, measured, hashed, and only then looked into."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from real_robot.runtime import signature
from real_robot.runtime.manifest import (
    FILES,
    GRAPH,
    MANIFEST,
    PROBE,
    SIGNATURE,
    WEIGHTS,
    PolicyManifest,
    Tensor,
)
from real_robot.runtime.refused import BundleRefused
from real_robot.runtime.strict import MAX_BYTES

ACTION, OBSERVATION = "action", "observation:"  # names in the probe; one per observation key
Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Bundle:
    """A verified bundle in memory."""

    manifest: PolicyManifest
    digest: str  # SHA-256 of the manifest's bytes: the identity of the bundle
    graph: bytes
    weights: Tensors
    probe: Tensors

    @property
    def root(self) -> str:
        """The identity of the first bundle of this lineage."""
        return self.manifest.succeeds or self.digest


def read(path: Path | str, trusted_key: Path | str | None = None) -> Bundle:
    """Read and verify a bundle's folder; with a key, its signature too.

    Raises BundleRefused, and nothing else, whatever lies there.
    """
    folder = Path(path)
    _check_listing(folder, trusted_key is not None)
    raw = _bytes(folder, MANIFEST, MAX_BYTES)
    if trusted_key is not None:  # before a single character of it is believed
        signature.verify(raw, _bytes(folder, SIGNATURE, 64), trusted_key)
    manifest = PolicyManifest.parse(raw, str(folder / MANIFEST))
    content = {name: _verified(folder, name, manifest) for name in FILES}
    weights = tensors(content[WEIGHTS], WEIGHTS)
    check_tensors(weights, manifest.weights, WEIGHTS)
    probe = tensors(content[PROBE], PROBE)
    _check_probe(probe, manifest)
    digest = hashlib.sha256(raw).hexdigest()
    return Bundle(manifest, digest, content[GRAPH], weights, probe)


def tensors(raw: bytes, where: str) -> Tensors:
    """Parse a safetensors file; BundleRefused for anything that is none."""
    import safetensors.numpy

    try:
        return safetensors.numpy.load(raw)
    except Exception as error:  # what a parser raises on foreign bytes is an open list
        raise BundleRefused("a file is not safetensors", where=where, found=error) from None


def check_tensors(
    found: Mapping[str, np.ndarray], expected: Mapping[str, Tensor], where: str
) -> None:
    """Refuse other names, shapes or types than expected, and what is not finite."""
    for name in sorted(found.keys() | expected.keys()):
        there = described(found[name]) if name in found else "absent"
        wanted = expected.get(name, "absent")
        if there != wanted:
            raise BundleRefused(
                "a tensor does not fit", where=f"{where}: {name}", expected=wanted, found=there
            )
        if not np.isfinite(found[name]).all():
            raise BundleRefused("a tensor is not finite", where=f"{where}: {name}")


def described(value: np.ndarray) -> Tensor:
    """Say what a tensor is."""
    return Tensor(value.shape, str(value.dtype))


def _check_probe(probe: Tensors, manifest: PolicyManifest) -> None:
    contract = manifest.contract.stacked()
    rows = len(probe[ACTION]) if ACTION in probe and probe[ACTION].ndim else 0
    if not 1 <= rows <= 10_000:
        raise BundleRefused("the probe has no rows", where=PROBE, found=rows)
    expected = {ACTION: Tensor((rows, contract.action.chunk, contract.action.dim), "float32")}
    for leaf in contract.observation:
        expected[OBSERVATION + leaf.key] = Tensor((rows, *leaf.shape), leaf.dtype)
    check_tensors(probe, expected, PROBE)


def _check_listing(folder: Path, signed: bool) -> None:
    try:
        found = set(os.listdir(folder))
    except (OSError, ValueError) as error:
        raise BundleRefused("there is no bundle here", where=folder, found=error) from None
    needed = {MANIFEST, *FILES} | ({SIGNATURE} if signed else set())
    missing, extra = needed - found, found - needed - {SIGNATURE}
    if missing:
        raise BundleRefused(
            "a bundle is not complete", where=folder, expected=sorted(needed), found=sorted(found)
        )
    if extra:
        raise BundleRefused(
            "a bundle holds what does not belong to it", where=folder, found=sorted(extra)
        )


def _verified(folder: Path, name: str, manifest: PolicyManifest) -> bytes:
    file = manifest.files[name]
    raw = _bytes(folder, name, file.size)
    found = hashlib.sha256(raw).hexdigest()
    if len(raw) != file.size or found != file.sha256:
        raise BundleRefused(
            "a file is not the one that the manifest names",
            where=folder / name,
            expected=f"{file.size} bytes, sha256 {file.sha256}",
            found=f"{len(raw)} bytes, sha256 {found}",
        )
    return raw


def _bytes(folder: Path, name: str, limit: int) -> bytes:
    """Read a plain file of at most `limit` bytes; no link is followed."""
    path = folder / name
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
                raise BundleRefused(
                    "a file of a bundle has another kind or size",
                    where=path,
                    expected=f"a plain file of {limit} bytes",
                    found=f"{found.st_size} bytes",
                )
            return file.read(limit + 1)
    except OSError as error:
        raise BundleRefused("a file of a bundle cannot be read", where=path, found=error) from None
