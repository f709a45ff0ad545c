"""A policy bundle: exporting it, how exactly and how fast it acts, and going over to new weights.

Batch 1, one thread, checks included; back to back, and once every 10 ms as on a robot, where the
caches have been used by others in between. `cpu` is the time that the call itself computed: what
other programs of the machine took meanwhile is in the wall time alone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor, nn

from real_robot.runtime import Action, Camera, Contract, Leaf, Part, load_bundle
from real_robot.runtime.bundle import read
from robo_offline.algos.bc import BC
from robo_offline.encoders import Encoder
from robo_offline.encoders.state import State
from robo_offline.export import observations
from robo_offline.export.certificate import percentiles
from robo_offline.export.deployed import EagerPolicy
from robo_offline.export.leaves import Leaves, row
from robo_offline.export.make import Identity, make
from robo_offline.policies.policy import Policy
from robo_offline.spec import Spec

TARGETS_US = {"mlp": 200.0, "cnn": 1000.0}  # of the 99th percentile
DIM, STATE, SIDE = 7, 24, 128
ACTION = Box(-1.0, 1.0, (DIM,), np.float32)
PERIOD_NS = 10_000_000  # 100 Hz
UNKNOWN = "unknown"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=5000, help="back to back")
    parser.add_argument("--seconds", type=float, default=10.0, help="at 100 Hz")
    parser.add_argument("--swaps", type=int, default=20)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Export an MLP and a small CNN, and let both act."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return {"mlp": _measure("mlp", *_mlp(), options), "cnn": _measure("cnn", *_cnn(), options)}


def _measure(
    kind: str, policy: Policy, leaf: Leaf, camera: tuple[Camera, ...], options: argparse.Namespace
) -> dict[str, Any]:
    contract = _contract(leaf, camera)
    seen = observations.random(contract, 256)
    with tempfile.TemporaryDirectory() as name:
        first, second = Path(name) / "first", Path(name) / "second"
        began = time.perf_counter()
        manifest = make(policy, contract, _identity(kind), seen, "drawn", first, calls=10)
        exported = time.perf_counter()
        with torch.no_grad():
            for weight in policy.algo.parameters():
                weight.add_(0.01 * torch.randn_like(weight))
        before = read(first)
        make(policy, contract, _identity(kind), seen, "drawn", second, before=before, calls=10)
        succeeded = time.perf_counter()
        swaps = _swaps(first, second, options.swaps)
        acting = load_bundle(second)
        figures = {
            "onnxruntime": _latency(acting.act, seen, options),
            "eager": _latency(EagerPolicy(policy, contract).act, seen, options),
        }
        size = sum(path.stat().st_size for path in first.iterdir())
    paced, target = figures["onnxruntime"]["paced_100hz"], TARGETS_US[kind]
    return {
        "parity": {k: v.max_difference for k, v in manifest.certificate.parity.items()},
        "export_seconds": round(exported - began, 2),
        "successor_seconds": round(succeeded - exported, 2),
        "bundle_bytes": size,
        **swaps,
        **figures,
        "target_p99_us": target,
        "target_met": {clock: paced[clock]["p99_us"] <= target for clock in ("wall", "cpu")},
    }


def _swaps(first: Path, second: Path, count: int) -> dict[str, Any]:
    loads, swaps, before = [], [], 0
    for number in range(count):
        began = time.perf_counter()
        policy = load_bundle(first)
        loads.append(time.perf_counter() - began)
        report = policy.swap(second)
        assert report.committed, report.reason
        swaps.append(report.seconds)
        if number == count // 2:
            before = _resident()
    return {
        "load_ms": round(1e3 * statistics.median(loads), 2),
        "swap_ms": round(1e3 * statistics.median(swaps), 2),
        "swap_ms_max": round(1e3 * max(swaps), 2),
        "memory_growth_kib_per_swap": round((_resident() - before) / 1024 / max(1, count // 2), 1),
    }


def _resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def _latency(
    act: Callable[[Leaves], object], seen: Leaves, options: argparse.Namespace
) -> dict[str, Any]:
    asked = [row(seen, index) for index in range(256)]
    for observation in asked:
        act(observation)
    paced = int(options.seconds * 1e9 / PERIOD_NS)
    return {
        "back_to_back": _times(act, asked, options.calls, 0),
        "paced_100hz": _times(act, asked, paced, PERIOD_NS),
    }


def _times(
    act: Callable[[Leaves], object], asked: list[Leaves], calls: int, period_ns: int
) -> dict[str, Any]:
    wall, cpu = [], []
    due = time.monotonic_ns()
    for index in range(calls):
        due += period_ns
        if (left := due - time.monotonic_ns()) > 0:
            time.sleep(left / 1e9)
        observation = asked[index % len(asked)]
        began, worked = time.perf_counter_ns(), time.thread_time_ns()
        act(observation)
        cpu.append(time.thread_time_ns() - worked)
        wall.append(time.perf_counter_ns() - began)
    return {"wall": asdict(percentiles(wall)), "cpu": asdict(percentiles(cpu))}


class Pixels(Encoder):
    """Three convolutions over one image; the policy's own hidden layer follows."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 16, 8, 4), nn.ReLU(),
            nn.Conv2d(16, 32, 4, 2), nn.ReLU(),
            nn.Conv2d(32, 32, 3, 2), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip
        self.dim = self.net(torch.zeros(1, 3, SIDE, SIDE)).shape[-1]

    def forward(self, observation: Any) -> Tensor:
        return self.net(observation["wrist"].float() / 255)


def _mlp() -> tuple[Policy, Leaf, tuple[Camera, ...]]:
    spec = Spec.from_spaces(Box(-np.inf, np.inf, (STATE,), np.float32), ACTION)
    policy = Policy(BC.create(spec, lambda: State(spec), hidden=(256, 256)))
    parts = (Part(UNKNOWN, STATE, UNKNOWN, UNKNOWN, 1.0),)
    return policy, Leaf("observation", (STATE,), "float32", None, None, parts, None), ()


def _cnn() -> tuple[Policy, Leaf, tuple[Camera, ...]]:
    shape = (3, SIDE, SIDE)
    spec = Spec.from_spaces(Dict({"wrist": Box(0, 255, shape, np.uint8)}), ACTION)
    policy = Policy(BC.create(spec, Pixels, hidden=(256,)))
    parts = (Part("wrist", int(np.prod(shape)), "share of 255", "camera", 1.0),)
    leaf = Leaf("wrist", shape, "uint8", (0.0,), (255.0,), parts, None)
    return policy, leaf, (Camera("wrist", SIDE, SIDE, "CHW", "RGB"),)


def _contract(leaf: Leaf, cameras: tuple[Camera, ...]) -> Contract:
    parts = (Part(UNKNOWN, DIM, UNKNOWN, UNKNOWN, 1.0),)
    action = Action(DIM, 1, UNKNOWN, (-1.0,) * DIM, (1.0,) * DIM, parts)
    return Contract((leaf,), cameras, action, 100.0, None)


def _identity(kind: str) -> Identity:
    return Identity(kind, "bc", "bench", "none", "none", 0, None, {})
