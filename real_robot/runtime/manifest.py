"""Manifest: what a bundle is, as JSON with exactly these keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from real_robot.runtime import strict
from real_robot.runtime.contract import Contract, is_hash
from real_robot.runtime.refused import BundleRefused

FORMAT = 2
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
WEIGHTS, GRAPH, PROBE = "weights.safetensors", "policy.onnx", "probe.safetensors"
FILES = (WEIGHTS, GRAPH, PROBE)
TOLERANCE = 1e-5  # how far an action may be from eager PyTorch's, in the action's own units
PARITY = ("recorded", "random", "edge", "other_weights")  # what every certificate must tell
MAX_FILE = 2**31  # bytes
DTYPES = ("float32", "float64", "int64", "int32", "uint8", "bool")  # of weights


@dataclass(frozen=True, slots=True)
class File:
    """What a file of the bundle must be."""

    sha256: str
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a tensor of the weights must be."""

    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            _refuse("weights of another type", "weights", DTYPES, self.dtype)


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the bundle's actions were from those of the policy that was evaluated."""

    rows: int  # observations
    source: str
    max_difference: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Time of one action chunk, checks included; batch 1, one thread."""

    p50_us: float
    p99_us: float
    p999_us: float
    calls: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was measured where the bundle was made."""

    tolerance: float
    parity: dict[str, Parity]
    refused_non_finite: int  # observations with NaN or an infinity, each of which was refused
    latency: dict[str, Latency]
    machine: str


@dataclass(frozen=True, slots=True)
class PolicyManifest:
    """A bundle's identity, contract, files and certificate."""

    format: int
    name: str
    algorithm: str
    run: str
    checkpoint: str
    phase: str
    step: int  # of the phase
    created: str  # UTC
    version: int  # 0, and higher for every successor
    succeeds: str | None  # SHA-256 of the manifest of version 0, None in that one
    contract: Contract
    horizon_s: float | None  # of an episode
    weights: dict[str, Tensor]
    files: dict[str, File]
    certificate: Certificate
    versions: dict[str, str]  # of libraries
    config: dict[str, Any]  # of the run

    @classmethod
    def parse(cls, raw: bytes, where: str = MANIFEST) -> PolicyManifest:
        """Read a manifest. Raises BundleRefused naming what is wrong, and nothing else."""
        return strict.loads(raw, cls, where)

    def dump(self) -> bytes:
        """Return the bytes of the file."""
        return strict.dumps(self)

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            _refuse("the bundle has another format", "format", FORMAT, self.format)
        if set(self.files) != set(FILES):
            _refuse("a bundle has other files", "files", FILES, sorted(self.files))
        for name, file in self.files.items():
            if not is_hash(file.sha256) or not 0 < file.size <= MAX_FILE:
                _refuse("a file's hash or size makes no sense", name, "sha256, size", file)
        first = self.version == 0
        if self.version < 0 or (self.succeeds is None) != first:
            _refuse("version 0 succeeds nothing", "version", self.succeeds, self.version)
        if self.succeeds is not None and not is_hash(self.succeeds):
            _refuse("a hash makes no sense", "succeeds", "64 hexadecimal digits", self.succeeds)
        if not self.weights:
            _refuse("a policy without weights", "weights", "at least one", 0)
        self._check_certificate()

    def _check_certificate(self) -> None:
        told = self.certificate
        where, missing = "certificate", [name for name in PARITY if name not in told.parity]
        if missing:
            _refuse("a certificate lacks a measurement", where, PARITY, sorted(told.parity))
        if not 0 < told.tolerance <= TOLERANCE:
            _refuse("a certificate is too generous", where, f"<= {TOLERANCE}", told.tolerance)
        for name, parity in told.parity.items():
            if not 0 <= parity.max_difference <= told.tolerance or parity.rows < 1:
                _refuse("a certificate shows no parity", f"{where}.{name}", told.tolerance, parity)


def _refuse(what: str, where: str, expected: object, found: object) -> None:
    raise BundleRefused(what, where=where, expected=expected, found=found)
