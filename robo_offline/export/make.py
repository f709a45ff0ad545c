"""Make: a policy and what is known about it become the files of a bundle."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from real_robot.runtime import signature
from real_robot.runtime.bundle import ACTION, OBSERVATION, Bundle, described, tensors
from real_robot.runtime.contract import Contract
from real_robot.runtime.manifest import (
    FORMAT,
    GRAPH,
    MANIFEST,
    PROBE,
    SIGNATURE,
    WEIGHTS,
    File,
    PolicyManifest,
)
from real_robot.runtime.policy import load_bundle
from real_robot.runtime.refused import Refused
from real_robot.runtime.session import Session
from robo_offline.errors import UserError
from robo_offline.export import folder, graph, observations
from robo_offline.export.certificate import CALLS, certify
from robo_offline.export.deployed import Deployed, evaluated
from robo_offline.export.leaves import Leaves, rows_of
from robo_offline.policies.policy import Policy
from robo_offline.train import _cpu, _versions

PACKAGES = [
    "robo-offline",
    "torch",
    "tensordict",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "safetensors",
    "numpy",
]
PROBED, RECORDED = 64, 48  # observations in the probe; of those that were really made, at most


@dataclass(frozen=True)
class Identity:
    """Where a policy comes from."""

    name: str
    algorithm: str
    run: str
    checkpoint: str
    phase: str
    step: int
    horizon_s: float | None
    config: dict[str, Any]


def make(
    policy: Policy,
    contract: Contract,
    identity: Identity,
    seen: Leaves,
    source: str,
    to: Path,
    *,
    sign: Path | str | None = None,
    before: Bundle | None = None,
    calls: int = CALLS,
) -> PolicyManifest:
    """Export, certify and write a policy; return its manifest.

    `seen` are observations (N, ...) that were really made, `source` says where. With `before`, the
    bundle that it succeeds, its graph is kept: only weights and proofs are new. Raises UserError,
    and then leaves nothing behind.
    """
    folder.check_free(to)
    with refusals_explained():
        if before is None:
            computation, weights = graph.trace(Deployed(policy), seen)
        else:
            computation, weights = before.graph, _weights(policy, contract, before)
        named = tensors(weights, WEIGHTS)
        session = Session(computation, named, contract)
        certificate = certify(
            policy,
            session,
            lambda others: Session(computation, others, contract),
            contract,
            seen,
            source,
            _cpu(),
            calls,
        )
        files = {WEIGHTS: weights, GRAPH: computation, PROBE: _probe(policy, contract, seen)}
        manifest = PolicyManifest(
            format=FORMAT,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            version=0 if before is None else before.manifest.version + 1,
            succeeds=None if before is None else before.root,
            contract=contract,
            weights={name: described(value) for name, value in named.items()},
            files={name: File(_sha256(raw), len(raw)) for name, raw in files.items()},
            certificate=certificate,
            versions={"python": platform.python_version(), **_versions(PACKAGES)},
            **vars(identity),
        )
        raw = manifest.dump()
        files[MANIFEST] = raw
        if sign is not None:
            files[SIGNATURE] = signature.sign(raw, sign)
        folder.write(to, files, load_bundle)
    return manifest


def _weights(policy: Policy, contract: Contract, before: Bundle) -> bytes:
    """Return the weights for the graph of an earlier bundle."""
    different = contract.differences(before.manifest.contract)
    if contract != before.manifest.contract:
        raise UserError(
            "this policy cannot succeed that bundle",
            expected="the same contract, normaliser and bounds of actions included",
            found="; ".join(different) or "another normaliser, bound or chunk",
            remedy="export it as a bundle of its own",
        )
    there = Deployed(policy).tensors()
    for name, tensor in before.manifest.weights.items():
        shape = tuple(there[name].shape) if name in there else "absent"
        if shape != tensor.shape:
            raise UserError(
                "this policy cannot succeed that bundle",
                where=name,
                expected=tensor.shape,
                found=shape,
                remedy="export it as a bundle of its own",
            )
    return graph.pack({name: there[name] for name in before.manifest.weights})


def _probe(policy: Policy, contract: Contract, seen: Leaves) -> bytes:
    """Return some observations, most of them recorded, and what must come out."""
    count = rows_of(seen)
    chosen = np.linspace(0, count - 1, min(RECORDED, count)).astype(int)
    drawn = observations.random(contract.stacked(), PROBED - len(chosen), seed=1)
    asked = {key: np.concatenate([seen[key][chosen], drawn[key]]) for key in drawn}
    probe = {OBSERVATION + key: value for key, value in asked.items()}
    return safetensors.numpy.save({**probe, ACTION: evaluated(policy, asked)})


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


@contextmanager
def refusals_explained() -> Iterator[None]:
    """Say what the runtime refuses as an error of whoever asked for it."""
    try:
        yield
    except Refused as error:
        raise UserError(
            error.what, where=error.where, expected=error.expected, found=error.found
        ) from error
