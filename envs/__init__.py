"""Environments: each a Gymnasium environment, its actions in [-1, 1], `success` in every info.

`make("robosuite/lift")` reads `configs/env/robosuite/lift.yaml`, the file that `env=robosuite/lift`
names on the command line, so the two can never disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

# Not `import gymnasium`: that name is this package's own module of the same name.
from gymnasium import Env

from robo_offline.errors import UserError, nearest

GYMNASIUM = "gymnasium/"  # in front of any id that Gymnasium knows


def make(name: str, **overrides: Any) -> Env:
    """Make an environment by its name, with some of its values replaced.

    Names are the files under `configs/env`, or `gymnasium/` and any registered id, for example
    `gymnasium/Hopper-v5`.
    """
    from omegaconf import OmegaConf

    if name.startswith(GYMNASIUM):
        name, overrides = "gymnasium", {"id": name.removeprefix(GYMNASIUM), **overrides}
    known = names()
    if name not in known:
        raise UserError(
            f"there is no environment {name!r}",
            remedy=nearest(name, known) + f" Or {GYMNASIUM}ID for what Gymnasium knows.",
        )
    values = OmegaConf.create((_folder() / f"{name}.yaml").read_text())
    return build(OmegaConf.merge(values, overrides))


def build(values: Any) -> Env:
    """Make the environment that composed values describe; our own errors stay as they are."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        return instantiate(values)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


def names() -> list[str]:
    """Return the names of all shipped environments."""
    return sorted(_yaml_files(_folder(), ""))


def _folder() -> Any:
    return files("configs") / "env"


def _yaml_files(folder: Any, prefix: str) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _yaml_files(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".yaml"):
            yield prefix + entry.name.removesuffix(".yaml")
