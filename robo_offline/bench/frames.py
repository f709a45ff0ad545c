"""Frames: memory of a replay of images and what drawing stacks of them costs.

A replay is filled for real with so many rows, its bytes are counted tensor by tensor, and what a
million transitions take follows from that: every tensor has one entry per row.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from robo_offline.replay.buffer import Replay, Window

CAMERAS = ("agentview", "wrist")
STEPS = 100  # of an episode; each has one row more, for its last observation
MILLION = 1_000_000
REPEATS = 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--transitions", type=int, default=4000, help="that are really stored")
    parser.add_argument("--size", type=int, default=84, help="pixels of an image, square")
    parser.add_argument("--frames", type=int, default=3, help="images in a stack")
    parser.add_argument("--batch", type=int, default=256)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Fill a replay in memory and one in files, and draw from both."""
    found: dict[str, Any] = {
        "transitions": options.transitions,
        "cameras": f"{len(CAMERAS)} of {options.size} x {options.size}",
        "frames": options.frames,
        "batch": options.batch,
    }
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, scratch in (("memory", None), ("mapped", Path(folder))):
            before = _private()
            replay = filled(options.transitions, options.size, options.frames, scratch)
            grown = _private() - before
            found[name] = {
                **memory(replay, options.transitions),
                "private_mib": round(grown / 2**20, 1),
                **sampling(replay, options.batch),
            }
            del replay
    return found


def filled(transitions: int, size: int, frames: int, scratch: Path | None = None) -> Replay:
    """Return a replay of so many random transitions, in episodes of 100 steps."""
    episodes = transitions // STEPS
    replay = Replay(episodes * (STEPS + 1), Window(0.99, frames=frames), scratch=scratch)
    for _ in range(episodes):
        replay.extend(_episode(size))
    return replay


def memory(replay: Replay, transitions: int) -> dict[str, Any]:
    """Count what a replay holds against the images alone, and derive it for a million."""
    tensors = list(replay.rows.values(True, True))
    images = sum(leaf[0].numel() for leaf in tensors if leaf.dtype == torch.uint8 and leaf.ndim > 2)
    tensors += [leaf for leaf in vars(replay).values() if isinstance(leaf, Tensor)]
    held, raw = sum(leaf.nbytes for leaf in tensors), images * transitions
    return {
        "held_mib": round(held / 2**20, 1),
        "times_raw_frames": round(held / raw, 4),
        "gib_per_million": round(held / transitions * MILLION / 2**30, 2),
    }


def sampling(replay: Replay, batch: int) -> dict[str, Any]:
    """Time drawing a batch against copying as many images from random rows, in turns."""
    seen, frames = replay.rows["observation"], replay.window.frames
    count = 2 * batch * frames  # observation and successor

    def plain() -> None:
        row = torch.randint(len(replay.rows), (count,))
        for camera in CAMERAS:
            seen[camera].index_select(0, row)

    ours, theirs = _fastest(lambda: replay.sample(batch), plain)
    return {
        "sample_ms": round(1e3 * ours, 2),
        "plain_gather_ms": round(1e3 * theirs, 2),
        "times_plain_gather": round(ours / theirs, 3),
    }


def _episode(size: int) -> TensorDict:
    rows = STEPS + 1
    images = {
        camera: torch.randint(0, 256, (rows, 3, size, size), dtype=torch.uint8)
        for camera in CAMERAS
    }
    last = torch.arange(rows) == STEPS - 1
    never = torch.zeros(rows, dtype=torch.bool)
    return TensorDict(
        {
            "observation": {"state": torch.randn(rows, 19), **images},
            "action": torch.rand(rows, 7) * 2 - 1,
            "reward": torch.zeros(rows),
            "terminated": never,
            "truncated": last,
            "success": never,
        },
        [rows],
    )


def _fastest(*works: Callable[[], object]) -> list[float]:
    """Seconds of own CPU time of the fastest call of each, called in turns."""
    best = [float("inf")] * len(works)
    for _ in range(REPEATS):
        for number, work in enumerate(works):
            began = time.process_time()
            work()
            best[number] = min(best[number], time.process_time() - began)
    return best


def _private() -> int:
    """Bytes that this process owns; pages of a mapped file belong to the system's file cache."""
    rows = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(row.split()[1]) for row in rows if row.startswith("Anonymous:"))
