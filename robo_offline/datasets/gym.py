"""What Gymnasium knows about an environment that a file of logs only names."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium

DEFAULT_LIMITS = {"Ant": 1000, "HalfCheetah": 1000, "Hopper": 1000, "Walker2d": 1000}
DEFAULT_LIMITS |= {"Humanoid": 1000, "Swimmer": 1000, "InvertedPendulum": 1000, "Reacher": 50}


def known_spec(environment: str) -> Any:
    """Gymnasium's record of an environment id, or None."""
    with _quietly():
        with contextlib.suppress(ImportError):
            import gymnasium_robotics

            gymnasium.register_envs(gymnasium_robotics)
        try:
            return gymnasium.spec(environment)
        except (gymnasium.error.Error, ImportError):
            return None


def time_limit(environment: str) -> int | None:
    """Steps after which the environment cuts an episode, or None."""
    spec = known_spec(environment) if environment else None
    if spec is not None and spec.max_episode_steps:
        return int(spec.max_episode_steps)
    return DEFAULT_LIMITS.get(environment.partition("-")[0])


def action_space(environment: str) -> gymnasium.Space | None:
    """Action space of an environment that can be made here, else None."""
    spec = known_spec(environment)
    if spec is None:
        return None
    with _quietly():
        try:
            made = gymnasium.make(spec)
        # Making it imports simulators, which fail in ways of their own when they are incomplete.
        except Exception:
            return None
        made.close()
        return made.action_space


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    # gymnasium-robotics prints advice at import about environments nobody asked for.
    silence = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(silence),
        contextlib.redirect_stdout(silence),
    ):
        warnings.simplefilter("ignore")
        yield
