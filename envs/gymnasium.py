"""Any Gymnasium environment with continuous actions, in this project's units."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import importlib.util
import io
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict

from robo_offline.errors import UserError, nearest

SUCCESS_KEYS = ("success", "is_success", "goal_achieved")  # what suites call it in their info
GOAL_KEYS = {"observation", "achieved_goal", "desired_goal"}  # Gymnasium-Robotics' goal tasks


def make_gymnasium(
    id: str,
    horizon: int | None = None,
    success_ends: bool = False,
    reset_options: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> gymnasium.Env:
    """Make the environment registered as `id`, with `kwargs` for its constructor.

    `horizon` replaces the registered time limit; with `success_ends`, reaching the goal terminates
    the episode; `reset_options` are what every reset is told.
    """
    env = registered(id, horizon, **kwargs)
    return Continuous(env, success_ends, reset_options)


def registered(id: str, horizon: int | None = None, **kwargs: Any) -> gymnasium.Env:
    """Make the environment registered as `id` as it is; `horizon` replaces its time limit."""
    with settled_warnings():
        spec = _find(id)
        creator: Any = spec.entry_point
        if isinstance(creator, str):
            creator = gymnasium.envs.registration.load_env_creator(creator)
        modes = getattr(creator, "metadata", {}).get("render_modes", [])
        if "rgb_array" in modes:
            kwargs.setdefault("render_mode", "rgb_array")
        return gymnasium.make(spec, max_episode_steps=horizon, disable_env_checker=True, **kwargs)


class Continuous(gymnasium.Wrapper):
    """Actions in [-1, 1], float32 observations, `success` in every info, one way to end.

    Of a goal task's observation, `observation` and `desired_goal` are concatenated.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        success_ends: bool = False,
        reset_options: Mapping[str, Any] | None = None,
    ):
        super().__init__(env)
        self.success_ends = success_ends
        self.reset_options = {key: np.array(given) for key, given in (reset_options or {}).items()}
        action = env.action_space
        bounded = isinstance(action, Box) and action.is_bounded() and len(action.shape or ()) == 1
        if not isinstance(action, Box) or not bounded:
            raise UserError(
                f"{_name(env)} cannot be controlled by a vector of bounded numbers",
                expected="a one-dimensional Box with finite bounds as action space",
                found=action,
            )
        self._low = action.low.astype(np.float64)
        self._half = (action.high.astype(np.float64) - self._low) / 2
        self._dtype = action.dtype
        self._rendered = False
        self.action_space = Box(-1.0, 1.0, action.shape, np.float32)
        space = env.observation_space
        self._goal = isinstance(space, Dict) and set(space.keys()) == GOAL_KEYS
        self.observation_space = self._space(space)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; the same seed begins the same one."""
        options = {**self.reset_options, **(options or {})} or None
        observation, info = self.env.reset(seed=seed, options=options)
        return self._read(observation), self._info(info)

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Execute an action, clipped to [-1, 1]; never both terminated and truncated."""
        action = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        action = (self._low + (action + 1.0) * self._half).astype(self._dtype)
        observation, reward, terminated, truncated, info = self.env.step(action)
        info = self._info(info)
        terminated = bool(terminated) or (self.success_ends and info["success"])
        truncated = bool(truncated) and not terminated
        return self._read(observation), float(reward), terminated, truncated, info

    def render(self) -> Any:
        """Return an RGB image (H, W, 3) of the scene."""
        if not self._rendered and hasattr(self.unwrapped, "model"):  # MuJoCo
            from envs.graphics import Renderer

            Renderer(8, 8).close()  # chooses how images are made, or says what is missing
        try:
            image = self.env.render()
        except gymnasium.error.DependencyNotInstalled as error:
            raise UserError(f"{_name(self.env)} cannot make images", remedy=error) from error
        if not self._rendered:
            # A context that outlives EGL's own exit handler fails noisily as the process ends.
            atexit.register(self.close)
            self._rendered = True
        return image

    def close(self) -> None:
        """Release the simulation and its graphics."""
        atexit.unregister(self.close)
        self.env.close()

    def _space(self, space: gymnasium.Space) -> gymnasium.Space:
        if isinstance(space, Dict) and self._goal:
            leaves = [self._space(space[key]) for key in ("observation", "desired_goal")]
            if all(isinstance(leaf, Box) and len(leaf.shape) == 1 for leaf in leaves):
                size = sum(leaf.shape[0] for leaf in leaves if leaf.shape)
                return Box(-np.inf, np.inf, (size,), np.float32)
        elif isinstance(space, Dict):
            return Dict({key: self._space(leaf) for key, leaf in space.items()})
        elif isinstance(space, Box) and space.dtype == np.uint8:
            return space
        elif isinstance(space, Box):
            return Box(-np.inf, np.inf, space.shape, np.float32)
        raise UserError(
            f"{_name(self.env)} observes something that is not made of numbers",
            expected="a Box, or a Dict of them",
            found=space,
        )

    def _read(self, observation: Any) -> Any:
        if self._goal:
            parts = (observation["observation"], observation["desired_goal"])
            return np.concatenate(parts).astype(np.float32)
        return _float32(observation)

    def _info(self, info: dict[str, Any]) -> dict[str, Any]:
        said = next((info[key] for key in SUCCESS_KEYS if key in info), False)
        return {**info, "success": bool(said)}


def _float32(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: _float32(leaf) for key, leaf in observation.items()}
    leaf = np.asarray(observation)
    return leaf if leaf.dtype == np.uint8 else leaf.astype(np.float32)


def _find(id: str) -> gymnasium.envs.registration.EnvSpec:
    if importlib.util.find_spec("mujoco"):
        importlib.import_module("envs.graphics")  # imports mujoco so that no renderer is needed
    if id not in gymnasium.registry and importlib.util.find_spec("gymnasium_robotics"):
        with contextlib.redirect_stderr(io.StringIO()):  # a notice about versions of other tasks
            gymnasium.register_envs(importlib.import_module("gymnasium_robotics"))
    try:
        return gymnasium.spec(id)
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        raise UserError(
            f"Gymnasium knows no environment {id!r}",
            remedy=nearest(id, gymnasium.registry) if _close(id) else "see gymnasium.registry",
            found=None if id not in gymnasium.registry else error,
        ) from error


def _close(id: str) -> bool:
    return nearest(id, gymnasium.registry).startswith("did you mean")


def _name(env: gymnasium.Env) -> str:
    return env.spec.id if env.spec else type(env.unwrapped).__name__


@contextlib.contextmanager
def settled_warnings():
    """Silence what cannot be acted on where an environment is made: the id is the user's choice."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is out of date.*")
        warnings.filterwarnings("ignore", message=".*precision lowered by casting.*")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield
