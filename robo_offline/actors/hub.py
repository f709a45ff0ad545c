"""The process that owns Ray: starts it, or joins one, and keeps the service alive in it.

The learner starts it, and starts it again when it has died. It outlives the learner, so that what
the actor does keeps arriving on the learner's disk, but not for longer than the actor does.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from robo_offline.actors.companion import alone
from robo_offline.actors.service import Service
from robo_offline.processes import PR_SET_PDEATHSIG

NAME = "robo-offline"
PING_S, PATIENCE_S = 0.5, 20.0
OBJECT_STORE_BYTES = 80 * 2**20  # hardly more than the least that Ray takes: messages are small


def environment(folder: Path, address: str) -> dict[str, str]:
    """Return what Ray must find in the environment of every process that uses it.

    A cluster at an address is the user's, with settings of its own.
    """
    quiet = {
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray ends its users so long after its head; ours are started again, and had better hurry.
        "RAY_gcs_rpc_server_reconnect_timeout_s": "3",
    }
    if address:
        return quiet
    return quiet | {
        # The name speaks of other systems; on every one it lets Ray listen on loopback alone.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(_token(folder)),
    }


def _token(folder: Path) -> Path:
    """Return the file of the secret that this run's Ray asks for; only its user may read it."""
    path = folder.resolve() / "token"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        partial.replace(path)
    return path


def die_with_parent() -> None:
    """Have this process killed when its parent is gone, and leave Ctrl-C to that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def join(address: str, **options: Any) -> Any:
    """Connect this process to Ray, quietly, and return the connection."""
    import ray

    quiet: dict[str, Any] = {"namespace": NAME, "log_to_driver": False, "logging_level": "error"}
    return ray.init(address, **quiet, **options)


def serve(folder: Path, run: str, address: str, orphan_s: float) -> None:
    """Keep the service of a run alive until Ray is gone; without an address, in a Ray of its own.

    `ray.json` in the folder says where it is.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    told = folder / "ray.json"
    if told.exists():  # of one that was killed
        shutil.rmtree(json.loads(told.read_text())["scratch"], ignore_errors=True)
    # Short: the paths of sockets have a limit, and a run's folder may lie deep.
    scratch = tempfile.mkdtemp(prefix="ray-")
    own: dict[str, Any] = {
        "include_dashboard": False,
        "num_cpus": 1,
        "num_gpus": 0,
        "object_store_memory": OBJECT_STORE_BYTES,
        "_temp_dir": scratch,
    }
    try:
        connection = join(address) if address else join("local", **own)
        signal.signal(signal.SIGTERM, _end)  # only now: Ray takes the signal for itself
        here = ray.get_runtime_context().get_node_id()  # its folders are on this machine
        options: dict[str, Any] = {
            "name": f"{NAME}-{run}",
            "num_cpus": 0,
            "max_restarts": -1,
            "get_if_exists": True,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=False),
        }
        remote: Any = ray.remote(Service)  # the types of Ray know nothing of actors
        service = remote.options(**options).remote(str(folder.resolve()))
        ray.get(service.acknowledged.remote(), timeout=PATIENCE_S)
        where = {"address": connection.address_info["address"], "pid": os.getpid()}
        told.with_suffix(".partial").write_text(json.dumps(where | {"scratch": scratch}))
        told.with_suffix(".partial").replace(told)
        _watch(ray, service, orphan_s)
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def _watch(ray: Any, service: Any, orphan_s: float) -> None:
    """Return once the service or the learner is gone for long; Ray restarts one that was killed."""
    alive = time.monotonic()
    while time.monotonic() - alive < PATIENCE_S:
        try:
            if ray.get(service.unattended_s.remote(), timeout=PATIENCE_S) > orphan_s:
                return
            alive = time.monotonic()
        except ray.exceptions.ActorDiedError:
            return
        except (ray.exceptions.ActorUnavailableError, ray.exceptions.GetTimeoutError):
            pass
        time.sleep(PING_S)


def _end(*_: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the learner ends us in its own time
    place, name = Path(sys.argv[1]), sys.argv[2]
    with alone(place, name) as ours:
        if ours:
            serve(place, name, sys.argv[3], float(sys.argv[4]))
