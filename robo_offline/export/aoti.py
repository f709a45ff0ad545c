"""AOTInductor: a policy as native code, beside the bundle whose weights and probe it takes.

To be made it needs a C++ compiler, to act torch; with a key it is verified before it is opened.
"""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from real_robot.runtime import signature, strict
from real_robot.runtime.bundle import OBSERVATION, Bundle
from real_robot.runtime.manifest import MANIFEST, SIGNATURE, Certificate
from real_robot.runtime.policy import OrtPolicy
from real_robot.runtime.refused import BundleRefused
from real_robot.runtime.session import Session
from robo_offline.errors import UserError
from robo_offline.export import folder
from robo_offline.export.certificate import CALLS, certify
from robo_offline.export.deployed import Deployed
from robo_offline.export.graph import ROWS
from robo_offline.export.leaves import Leaves
from robo_offline.policies.policy import Policy
from robo_offline.train import _cpu

PACKAGE = "policy.pt2"
# Otherwise the compiler folds small weights into the code, where no swap reaches them.
LATE = {"aot_inductor.use_runtime_constant_folding": True}


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a compiled policy is, and what it showed."""

    root: str  # the identity of the first bundle of its lineage
    sha256: str  # of the package
    certificate: Certificate


class CompiledSession(Session):
    """A bundle's session that computes by native code. BundleRefused where it cannot be loaded."""

    def __init__(self, code: bytes, bundle: Bundle, weights: Mapping[str, np.ndarray]):
        super().__init__(bundle.graph, weights, bundle.manifest.contract)
        try:
            with tempfile.NamedTemporaryFile(suffix=".pt2") as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # notes about torch's own parts
                file.write(code)
                file.flush()
                self.model: Any = torch._inductor.aoti_load_package(file.name)
            known = set(self.model.get_constant_fqns())
            given = {n: torch.from_numpy(w) for n, w in self.weights.items() if n in known}
            self.model.load_constants(given, check_full_update=False)
        except Exception as error:  # its errors share no class of their own
            raise BundleRefused("AOTInductor does not take this package", found=error) from None

    def compute(self, feed: Mapping[str, np.ndarray]) -> np.ndarray:
        leaves = [torch.from_numpy(feed[leaf.key]) for leaf in self.contract.observation]
        return self.model(*leaves).numpy()


def possible() -> bool:
    """Say whether PyTorch lies where its compiler finds it: it does not quote the path."""
    return " " not in torch.__file__


def compiled(policy: Policy, bundle: Bundle, inductor: Mapping[str, Any] = LATE) -> bytes:
    """Return the package of a bundle's policy. UserError where it cannot be compiled."""
    if not possible():
        raise UserError(
            "PyTorch's compiler cannot link here",
            where=Path(torch.__file__).parent,
            expected="a Python environment in a folder whose path has no space",
            remedy="make the environment elsewhere, or do without --compiled",
        )
    deployed, contract = Deployed(policy), bundle.manifest.contract
    many = Session(bundle.graph, bundle.weights, contract).batches
    seen = [bundle.probe[OBSERVATION + key] for key in deployed.paths]
    leaves = tuple(torch.from_numpy(np.repeat(x[:1], ROWS if many else 1, 0)) for x in seen)
    free = (tuple({0: torch.export.Dim("batch")} for _ in leaves),) if many else None
    try:
        with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = Path(scratch) / PACKAGE
            program = torch.export.export(deployed, leaves, dynamic_shapes=free)
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(path), inductor_configs=dict(inductor)
            )
            return path.read_bytes()
    except Exception as error:  # a missing compiler, or an operation that it does not know
        raise UserError(
            f"the policy of {type(deployed.algo).__name__} cannot be compiled",
            expected="a C++ compiler, and no branch on a tensor's value",
            found=f"{type(error).__name__}: {str(error).strip().splitlines()[0]}",
        ) from error


def write(
    policy: Policy, bundle: Bundle, seen: Leaves, source: str, to: Path,
    sign: Path | str | None = None, calls: int = CALLS,
) -> Compiled:  # fmt: skip
    """Compile and certify a bundle's policy, and write it into the folder `to`."""
    code = compiled(policy, bundle)
    certificate = certify(
        policy, CompiledSession(code, bundle, bundle.weights),
        lambda others: CompiledSession(code, bundle, others),
        bundle.manifest.contract, seen, source, _cpu(), calls, engine="aotinductor",
    )  # fmt: skip
    about = Compiled(bundle.root, hashlib.sha256(code).hexdigest(), certificate)
    files = {PACKAGE: code, MANIFEST: strict.dumps(about)}
    if sign is not None:
        files[SIGNATURE] = signature.sign(files[MANIFEST], sign)
    folder.write(to, files, lambda path: load(path, bundle))
    return about


def load(path: Path | str, bundle: Bundle, trusted_key: Path | str | None = None) -> OrtPolicy:
    """Let a bundle act by its compiled code. BundleRefused where that is not its own."""
    path = Path(path)
    try:
        raw, code = (path / MANIFEST).read_bytes(), (path / PACKAGE).read_bytes()
        if trusted_key is not None:
            signature.verify(raw, (path / SIGNATURE).read_bytes(), trusted_key)
    except OSError as error:
        raise BundleRefused("there is no compiled policy here", where=path, found=error) from None
    about: Compiled = strict.loads(raw, Compiled, str(path / MANIFEST))
    if (about.root, about.sha256) != (bundle.root, hashlib.sha256(code).hexdigest()):
        raise BundleRefused("this compiled policy is another bundle's, or damaged", where=path)
    return OrtPolicy(bundle, trusted_key, open=lambda of: CompiledSession(code, of, of.weights))
