"""Export: hand a run's policy to a robot, as a bundle that carries its own proof.

The weights, the computation, the contract, a probe and a certificate go into one folder, which
`real_robot.runtime` reads without torch and without this package.
"""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from real_robot.runtime import bundle as bundles
from real_robot.runtime.manifest import PolicyManifest
from robo_offline import build
from robo_offline.checkpoint import Checkpoints
from robo_offline.errors import UserError
from robo_offline.export import describe, folder, observations
from robo_offline.export.certificate import CALLS
from robo_offline.export.make import Identity, make, refusals_explained
from robo_offline.saved import load_policy
from robo_offline.train import environment_name, load_config

NEEDED = ("onnx", "onnxscript", "onnxruntime", "cryptography")  # the extra `deploy`
OURS = ("run_dir", "resume")  # of the configuration: paths on this machine


def export(
    directory: Path | str,
    to: Path | str,
    *,
    checkpoint: str = "best",
    sign: Path | str | None = None,
    rate_hz: float | None = None,
    descriptor_hash: str | None = None,
    successor_of: Path | str | None = None,
    compiled: Path | str | None = None,
    calls: int = CALLS,
) -> PolicyManifest:
    """Write the bundle of a run's checkpoint into the folder `to` and return its manifest.

    `sign` is a private Ed25519 key in a PEM file; `descriptor_hash` the robot it is meant for. A
    successor keeps the graph, rate and robot of an earlier bundle, so that a running robot can go
    over to it. `compiled` is a folder for the same policy as native code (`export.aoti`). `calls`
    are timed for the latency table. Raises UserError, and then leaves nothing behind.
    """
    directory, to = Path(directory), Path(to)
    _check_installed()
    cfg = load_config(directory)
    for place in (to, compiled):
        if place is not None:
            folder.check_free(Path(place))
    with refusals_explained():
        before = None if successor_of is None else bundles.read(successor_of)
    if before is not None:
        rate_hz = rate_hz or before.manifest.contract.rate_hz
        descriptor_hash = descriptor_hash or before.manifest.contract.descriptor_hash
    policy = load_policy(directory, checkpoint)
    with closing(build.environment(cfg.env)()) as env, refusals_explained():
        contract = describe.contract(policy, env, rate_hz, descriptor_hash)
        seconds = describe.horizon_s(env, contract.rate_hz)
        seen, source = observations.recorded(cfg, policy, env)
    identity = _identity(directory, checkpoint, cfg, seconds)
    manifest = make(
        policy, contract, identity, seen, source, to, sign=sign, before=before, calls=calls
    )  # fmt: skip
    if compiled is not None:
        from robo_offline.export import aoti

        try:
            aoti.write(policy, bundles.read(to), seen, source, Path(compiled), sign, calls)
        except BaseException:
            shutil.rmtree(to)
            raise
    return manifest


def _identity(
    directory: Path, checkpoint: str, cfg: DictConfig, horizon_s: float | None
) -> Identity:
    _, state = Checkpoints(directory / "checkpoints").load(checkpoint)
    counters = state["counters"]
    algorithm = str(cfg.algo._target_).split(".")[-3]
    values = json.dumps(OmegaConf.to_container(cfg, resolve=True))
    config = json.loads(values, parse_constant=str)  # an infinity is not strict JSON
    return Identity(
        name=f"{environment_name(cfg.env)} by {algorithm}",
        algorithm=algorithm,
        run=_run(directory),
        checkpoint=checkpoint,
        phase=str(counters["phase"]),
        step=int(counters["step"]),
        horizon_s=horizon_s,
        config={key: value for key, value in config.items() if key not in OURS},
    )


def _run(directory: Path) -> str:
    path = directory / "run.json"
    return str(json.loads(path.read_text())["name"]) if path.exists() else directory.resolve().name


def _check_installed() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(
            "packages that exporting needs are not installed",
            found=f"no {', '.join(missing)}",
            remedy="pip install 'robo-offline[deploy]'",
        )
