"""What a data set holds, as one JSON-able record and as a page for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from robo_offline.datasets.scores import score_range
from robo_offline.datasets.store import Store
from robo_offline.datasets.tree import label, leaves

BINS = 16
BARS = " ▁▂▃▄▅▆▇█"


def info(name: str) -> dict[str, Any]:
    """Read a data set through once and describe it."""
    store = Store(name)
    lengths, returns, succeeded = [], [], []
    ends = {"terminated": 0, "truncated": 0, "neither": 0}
    rewards = [np.inf, -np.inf]
    observation: dict[str, str] = {}
    extras: set[str] = set()
    action: dict[str, Any] = {"seen_low": None, "seen_high": None, "outside": 0}
    low, high = _bounds(store.action_space)
    for episode in store.episodes():
        lengths.append(len(episode.reward))
        returns.append(float(episode.reward.sum(dtype=np.float64)))
        if episode.success is not None:
            succeeded.append(bool(episode.success.any()))
        over, cut = bool(episode.terminated[-1:].any()), bool(episode.truncated[-1:].any())
        ends["terminated" if over else "truncated" if cut else "neither"] += 1
        observation |= {
            label(path): f"{tuple(leaf.shape[1:])} {leaf.dtype}"
            for path, leaf in leaves(episode.observation)
        }
        extras |= set(episode.extra)
        if len(episode.reward):
            rewards = [min(rewards[0], episode.reward.min()), max(rewards[1], episode.reward.max())]
            action |= _extremes(action, episode.action, low, high)
    return {
        "name": store.name,
        "path": str(store.path.parent),
        "bytes": sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file()),
        "description": store.metadata.get("description"),
        "algorithm": store.metadata.get("algorithm_name"),
        "environment": store.metadata.get("environment") or store.metadata.get("env_spec"),
        "import": store.metadata.get("import"),
        "minari_version": store.metadata.get("minari_version"),
        "episodes": len(lengths),
        "steps": sum(lengths),
        "observation": observation,
        "action": {
            "declared_low": _listed(low),
            "declared_high": _listed(high),
            "seen_low": _listed(action["seen_low"]),
            "seen_high": _listed(action["seen_high"]),
            "steps_outside": action["outside"],
        },
        "extras": sorted(extras),
        "reward": {"min": _number(rewards[0]), "max": _number(rewards[1])},
        "return": _summary(returns),
        "length": _summary(lengths) | _histogram(lengths),
        "ends": ends,
        "success_rate": float(np.mean(succeeded)) if succeeded else None,
        "score_range": score_range(store.metadata),
    }


def _bounds(space: gymnasium.Space) -> tuple[np.ndarray | None, np.ndarray | None]:
    if isinstance(space, gymnasium.spaces.Box):
        return space.low.astype(np.float64), space.high.astype(np.float64)
    return None, None


def _extremes(before: dict[str, Any], action: np.ndarray, low: Any, high: Any) -> dict[str, Any]:
    if action.ndim != 2 or action.dtype.kind not in "biuf":
        return {}
    least, most = action.min(0), action.max(0)
    if before["seen_low"] is not None and before["seen_low"].shape == least.shape:
        least = np.minimum(before["seen_low"], least)
        most = np.maximum(before["seen_high"], most)
    outside = 0
    if low is not None and low.shape == least.shape:
        outside = int(((action < low) | (action > high)).any(1).sum())
    return {"seen_low": least, "seen_high": most, "outside": before["outside"] + outside}


def _listed(values: np.ndarray | None) -> list[float | None] | None:
    return None if values is None else [_number(value) for value in values.reshape(-1)]


def _number(value: Any) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None  # JSON knows no infinity


def _summary(values: Sequence[float]) -> dict[str, float | None]:
    if not len(values):
        return {"min": None, "mean": None, "median": None, "max": None}
    return {
        "min": _number(np.min(values)),
        "mean": _number(np.mean(values)),
        "median": _number(np.median(values)),
        "max": _number(np.max(values)),
    }


def _histogram(lengths: Sequence[int]) -> dict[str, Any]:
    if not lengths:
        return {}
    counts, edges = np.histogram(lengths, bins=BINS)
    histogram = {"counts": counts.tolist(), "edges": [round(float(edge), 1) for edge in edges]}
    return {"histogram": histogram}


def render(about: dict[str, Any]) -> RenderableType:
    """Lay a record of `info` out for a terminal."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", justify="right")
    table.add_column(overflow="fold")
    for key, value in _lines(about):
        table.add_row(key, value)
    return Group(Text(about["name"], style="bold"), Text(about["path"], style="dim"), table)


def _lines(about: dict[str, Any]) -> list[tuple[str, str]]:
    action, length = about["action"], about["length"]
    environment = about["environment"]
    if isinstance(environment, dict):
        environment = ", ".join(f"{key} {value}" for key, value in environment.items() if value)
    rate = about["success_rate"]
    ends = ", ".join(f"{count} {how}" for how, count in about["ends"].items() if count)
    rows = [
        ("environment", environment),
        ("algorithm", about["algorithm"]),
        ("about", about["description"]),
        ("episodes", f"{about['episodes']:,} ({ends})"),
        ("steps", f"{about['steps']:,}"),
        ("success", None if rate is None else f"{rate:.1%} of episodes"),
        ("length", f"{_spread(length)}  {_bars(length.get('histogram'))}"),
        ("return", _spread(about["return"])),
        ("reward", f"{about['reward']['min']} to {about['reward']['max']}"),
        *((key, shape) for key, shape in about["observation"].items()),
        ("action", f"{_range(action, 'seen')} seen, {_range(action, 'declared')} declared"),
        ("outside", f"{action['steps_outside']:,} steps" if action["steps_outside"] else None),
        ("extras", ", ".join(about["extras"])),
        ("score", about["score_range"] and "{} random, {} expert".format(*about["score_range"])),
        ("size", f"{about['bytes'] / 1e6:,.1f} MB"),
    ]
    for source in about["import"] or []:
        changes = [f"{count} {what}" for what, count in source["counts"].items()]
        rows.append(("imported", "; ".join([source["file"], source["format"], *changes])))
        rows += [("note", note) for note in source["notes"]]
    return [(key, str(value)) for key, value in rows if value]


def _spread(summary: dict[str, Any]) -> str:
    if summary["min"] is None:
        return "none"
    return "{min:g} to {max:g}, mean {mean:.4g}, median {median:g}".format(**summary)


def _bars(histogram: dict[str, Any] | None) -> str:
    if histogram is None:
        return ""
    top = max(histogram["counts"])
    return "".join(BARS[-(-count * (len(BARS) - 1) // top)] for count in histogram["counts"])


def _range(action: dict[str, Any], which: str) -> str:
    low, high = action[f"{which}_low"], action[f"{which}_high"]
    if not low or not high:
        return "nothing"
    finite = [value for value in low + high if value is not None]
    if len(finite) < len(low + high):
        return "no bounds"
    return f"{min(low):g} to {max(high):g} ({len(low)} numbers)"
