"""Walk observations, which are one array or a nested dict of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Path = tuple[str, ...]


def leaves(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield (path, array) in a fixed order; the path of a bare array is ()."""
    tree = _named(tree)
    if isinstance(tree, dict):
        for key in sorted(tree):
            yield from leaves(tree[key], (*path, str(key)))
    else:
        yield path, tree


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply `function` to every leaf; a tuple becomes a dict of its places."""
    tree = _named(tree)
    if isinstance(tree, dict):
        return {key: mapped(function, tree[key]) for key in sorted(tree)}
    return function(tree)


def _named(tree: Any) -> Any:
    return {str(place): leaf for place, leaf in enumerate(tree)} if type(tree) is tuple else tree


def stacked(trees: list[Any]) -> Any:
    """Turn a list of equal trees into one tree of arrays with a leading time axis."""
    if isinstance(trees[0], dict):
        return {key: stacked([tree[key] for tree in trees]) for key in sorted(trees[0])}
    return np.stack(trees)


def label(path: Path, root: str = "observation") -> str:
    """Name a leaf as a person reads it: `observation.state`."""
    return ".".join((root, *path))


def shapes(tree: Any) -> dict[str, str]:
    """Describe each leaf without its leading axis: {'observation.state': '(19,) float32'}."""
    return {
        label(path): f"{tuple(np.shape(leaf)[1:])} {np.asarray(leaf).dtype}"
        for path, leaf in leaves(tree)
    }
