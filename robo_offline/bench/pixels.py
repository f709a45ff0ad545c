"""Pixels: updates per second by encoder, where their time goes, parameters and memory; one thread.

TD3+BC on random images of two cameras of 84 x 84 and a vector, random shifts included. Every
encoder has a process of its own, and times are of its own CPU. Frozen networks get random weights:
that is their cost, and says nothing of their worth; updates with them run on cached maps.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from robo_offline.bench import jobs
from robo_offline.bench.learner import apart, load

NAME = "pixels"
SIZE, VECTOR, ACTION = 84, 9, 7
EPISODE, EPISODES = 25, 4
ENCODERS = {  # name -> what augments its batches
    "drq": "shift",
    "sac_ae": "shift",
    "impala": "shift",
    "resnet18": "crop",
    "resnet10": "shift",
    "r3m": "none",
    "dinov2": "none",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", action="store_true", help="measure anew (minutes)")
    parser.add_argument("--encoders", default="", help="(default: every one)")
    parser.add_argument("--batches", default="64,256")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each figure, at least")
    parser.add_argument("--out", type=Path, default=Path("runs/pixels"))
    parser.add_argument("--no-record", action="store_true", help="a trial: what was found stays")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the encoders that are asked for, or print what was found last."""
    if not options.run:
        return jobs.found_or_refused(NAME)
    names = jobs.chosen(options.encoders, list(ENCODERS), "encoder") or list(ENCODERS)
    found = {} if options.no_record else jobs.found_last(NAME).get("encoders", {})
    for name in names:
        for size in (int(each) for each in options.batches.split(",")):
            row = apart(cost_of, name, (size, options.seconds))
            found[name] = found.get(name, {}) | {f"batch_{size}": row}
    about = {"images": f"2 x {SIZE} x {SIZE}", "algorithm": "td3_bc", "threads": 1}
    return jobs.record(NAME, {**about, "encoders": found}, options)


def cost_of(name: str, argument: tuple[int, float]) -> dict[str, Any]:
    """Train with one encoder for some seconds of CPU: what an update costs, part by part.

    Of `ms_per_update`, `ms_sample` draws the batch and `ms_augment` varies its images; `ms_look` is
    one look at a batch by the actor's encoder, and `ms_look_back` that and its gradients.
    """
    import torch
    from hydra.utils import instantiate

    from robo_offline.algos.td3_bc import TD3BC
    from robo_offline.build import features
    from robo_offline.config import compose
    from robo_offline.engine.learner import Learner
    from robo_offline.replay.buffer import Replay, Window

    size, seconds = argument
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = dataset()
    with tempfile.TemporaryDirectory() as folder:
        chosen = compose([f"encoder={name}", f"augment={ENCODERS[name]}"])
        if chosen.encoder.camera.get("frozen"):
            chosen.encoder.camera.weights = str(random_weights(chosen.encoder, Path(folder)))
        make = partial(instantiate(chosen.encoder, _partial_=True), statistics=None)
        augment = instantiate(chosen.augment, _convert_="all")
        before = _resident()
        algo = TD3BC.create(data.spec, partial(make, spec=data.spec), action_scale=None)
    eyes = features(algo, augment)
    began = time.process_time()
    rows = eyes.episode(data.steps)
    frozen = (time.process_time() - began) / (2 * len(data.steps)) if eyes.eyes else 0.0
    replay, learner = Replay.of_steps(rows, Window(0.99)), Learner(algo)
    batch = replay.sample(size)
    varied = augment(batch)
    look = partial(algo.actor.encoder, varied["observation"])
    weights = [p for p in algo.critic.encoder.parameters() if p.requires_grad]
    watch = partial(algo.critic.encoder, varied["observation"])

    def update() -> None:
        learner.update(augment(replay.sample(size)))

    def back() -> None:
        if weights:
            torch.autograd.grad(watch().sum(), weights)

    for _ in range(2):  # of both kinds: the actor is due at every second one
        update()
    parts: dict[str, Callable[[], Any]] = {
        "ms_per_update": update,
        "ms_sample": partial(replay.sample, size),
        "ms_augment": partial(augment, batch),
        "ms_look": torch.no_grad()(look),
        "ms_look_back": back,
    }
    found = {key: round(_milliseconds(part, seconds), 2) for key, part in parts.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "updates_per_second": round(1000 / found["ms_per_update"], 2),
        **found,
        "ms_frozen_per_image": round(1000 * frozen, 2),
        "parameters_per_encoder": sum(p.numel() for p in algo.critic.encoder.parameters()),
        "peak_mib": round(peak - before, 1),
        "load": load(),
    }


def dataset() -> Any:
    """Random episodes of two cameras and a vector, laid as a data set's rows."""
    import numpy as np
    import torch
    from gymnasium.spaces import Box, Dict
    from tensordict import TensorDict

    from robo_offline.datasets import Dataset
    from robo_offline.spec import Spec

    image = Box(0, 255, (3, SIZE, SIZE), np.uint8)
    vector = Box(-np.inf, np.inf, (VECTOR,), np.float32)
    seen = Dict({"agentview": image, "state": vector, "wrist": image})
    spec = Spec.from_spaces(seen, Box(-1.0, 1.0, (ACTION,), np.float32))
    rows = EPISODES * (EPISODE + 1)
    final = torch.arange(1, rows + 1) % (EPISODE + 1) == 0
    none = torch.zeros(rows, dtype=torch.bool)
    observation: dict[str, Any] = {
        name: torch.randint(0, 256, (rows, 3, SIZE, SIZE), dtype=torch.uint8)
        for name in ("agentview", "wrist")
    }
    observation["state"] = torch.randn(rows, VECTOR)
    steps = {
        "observation": observation,
        "action": 2 * torch.rand(rows, ACTION) - 1,
        "reward": torch.randn(rows),
        "terminated": none,
        "truncated": final.roll(-1),
        "success": none,
        "final": final,
    }
    return Dataset("pixels", TensorDict(steps, [rows]), spec, None)


def random_weights(encoder: Any, folder: Path) -> Path:
    """Write a file of random weights that fits a frozen encoder."""
    from hydra.utils import instantiate
    from safetensors.torch import save_file

    network = instantiate(encoder.camera.backbone)(3)
    path = folder / "weights.safetensors"
    save_file(network.state_dict(), path)
    return path


def _milliseconds(work: Callable[[], Any], seconds: float) -> float:
    """Median milliseconds of own CPU, of pairs: an actor is due at every second update."""
    taken: list[float] = []
    until = time.process_time() + seconds
    while len(taken) < 3 or time.process_time() < until:
        began = time.process_time()
        work()
        work()
        taken.append(500 * (time.process_time() - began))
    return median(taken)


def _resident() -> float:
    """MiB of this process that are in memory."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("VmRSS:")) / 1024
