"""robosuite's manipulation tasks as Gymnasium environments whose episodes are fixed by their seed.

Zhu et al. robosuite: A Modular Simulation Framework and Benchmark for Robot Learning. 2020.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict

from envs.graphics import Renderer, import_without_graphics, mujoco
from envs.osc import shorten
from robo_offline.errors import UserError, nearest

# robomimic's low-dimensional observation, in this order; a task without one of them goes without.
OBSERVATION_KEYS = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object-state")
# Object sensors are relative to the hand, and read zero in silence when these two are off.
HAND_KEYS = ("robot0_eef_pos", "robot0_eef_quat")
RENDER_CAMERA = "agentview"
# Said at every import about optional parts that this project does not use, or at every step.
IDLE_WARNINGS = (
    "No private macro file found",
    "It is recommended to use a private macro file",
    "To setup, run: python",
    "Could not import robosuite_models",
    "Could not load the mink-based whole-body IK",
    "Joint limit reached",  # in Wipe, where it ends the episode
)


class Robosuite(gymnasium.Env):
    """One robosuite task: OSC pose deltas in, low-dimensional state (and images) out.

    The observation is a float32 vector, the concatenation of `observation_keys`; with `cameras` it
    is a dict of that vector as `state` and one upright uint8 (3, H, W) image per camera. It shows
    the state at the end of the step; robosuite's own `step` returns the one 48 ms before.

    Success ends the episode as terminated with reward 1 (or robosuite's shaped reward), the
    horizon ends it as truncated. `info["success"]` is always there.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(
        self,
        task: str = "Lift",
        robot: str = "Panda",
        horizon: int = 200,
        cameras: Sequence[str] = (),
        image_size: int = 84,
        control_freq: int = 20,
        observation_keys: Sequence[str] | None = None,
        render_size: tuple[int, int] = (256, 256),
        reward_shaping: bool = False,
    ):
        self.task, self.horizon = task, horizon
        self.cameras, self.image_size = tuple(cameras), image_size
        self.render_mode, self.render_size = "rgb_array", tuple(render_size)
        self.reward_shaping = reward_shaping
        self.metadata = {**self.metadata, "render_fps": control_freq}
        self.simulation = _simulation(task, robot, control_freq, reward_shaping)
        self.observation_keys = self._choose_keys(observation_keys)
        self._check_cameras()
        self._renderer: Renderer | None = None
        self._steps = 0

        self.action_space = Box(-1.0, 1.0, (self.simulation.action_dim,), np.float32)
        state = Box(-np.inf, np.inf, self._state().shape, np.float32)
        image = Box(0, 255, (3, image_size, image_size), np.uint8)
        self.observation_space = (
            Dict({"state": state, **dict.fromkeys(self.cameras, image)}) if self.cameras else state
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode that is a function of `seed` alone, whatever was simulated before."""
        super().reset(seed=seed)
        episode = np.random.default_rng(self.np_random.integers(2**63))
        # Samplers and objects keep a reference to this one generator, so it is reseeded in place.
        self.simulation.rng.bit_generator.state = episode.bit_generator.state
        self.simulation.reset()
        self._enable_sensors()
        shorten(self.simulation)
        self._steps = 0
        return self.observe(), {"success": self.success()}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Execute one action, clipped to [-1, 1], for one control period."""
        action = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        _, shaped, ended, _ = self.simulation.step(action)
        self._steps += 1
        success = self.success()
        reward = float(shaped) if self.reward_shaping else float(success)
        terminated = success or bool(ended)  # Wipe also ends where the arm collides
        truncated = self._steps >= self.horizon and not terminated
        return self.observe(), reward, terminated, truncated, {"success": success}

    def observe(self) -> Any:
        """Return the observation of the simulation's present state."""
        state = self._state()
        if not self.cameras:
            return state
        size = self.image_size
        images = {name: self._image(name, size, size).transpose(2, 0, 1) for name in self.cameras}
        return {"state": state} | {k: np.ascontiguousarray(v) for k, v in images.items()}

    def success(self) -> bool:
        """Say whether the task is done in the simulation's present state."""
        return bool(self.simulation._check_success())

    def render(self) -> np.ndarray:
        """Return an RGB image (H, W, 3) of the scene, starting the graphics at the first call."""
        height, width = self.render_size
        return self._image(RENDER_CAMERA, width, height)

    def close(self) -> None:
        """Release the simulation and, if it was started, the graphics."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self.simulation.close()

    def _state(self) -> np.ndarray:
        values = self.simulation._get_observations(force_update=True)
        parts = [np.atleast_1d(values[key]) for key in self.observation_keys]
        return np.concatenate(parts).astype(np.float32)

    def _image(self, camera: str, width: int, height: int) -> np.ndarray:
        if self._renderer is None:
            extent = max(self.image_size, *self.render_size)
            self._renderer = Renderer(extent, extent)
        sim = self.simulation.sim
        return self._renderer.image(sim.model._model, sim.data._data, camera, width, height)

    def _choose_keys(self, asked: Sequence[str] | None) -> tuple[str, ...]:
        known = self.simulation._get_observations(force_update=True)
        if asked is None:
            keys = tuple(key for key in OBSERVATION_KEYS if key in known)
        else:
            keys = tuple(asked)
        for key in keys:
            if key not in known:
                raise UserError(
                    f"robosuite's {self.task} observes no {key!r}", remedy=nearest(key, known)
                )
        return keys

    def _check_cameras(self) -> None:
        known = self.simulation.sim.model.camera_names
        for name in self.cameras:
            if name not in known:
                raise UserError(
                    f"robosuite's {self.task} has no camera {name!r}", remedy=nearest(name, known)
                )

    def _enable_sensors(self) -> None:
        """Switch off the sensors that no observation reads."""
        needed = {*self.observation_keys, *HAND_KEYS}
        modalities = {key.removesuffix("-state") for key in self.observation_keys}
        for name, sensor in self.simulation._observables.items():
            if name not in needed and sensor.modality not in modalities:
                sensor.set_enabled(False)


class _Generator(np.random.Generator):
    """A generator whose choice among names does not depend on the order of a Python set."""

    def choice(self, a: Any, *args: Any, **kwargs: Any) -> Any:
        # PickPlace and NutAssembly draw their object from list(set of names).
        named = isinstance(a, list) and all(isinstance(name, str) for name in a)
        return super().choice(sorted(a) if named else a, *args, **kwargs)


def _simulation(task: str, robot: str, control_freq: int, reward_shaping: bool) -> Any:
    """Make robosuite's environment: no graphics, no time limit, a new scene at every reset."""
    robosuite = _import_robosuite()
    _check_name("task", task, [n for n in robosuite.ALL_ENVIRONMENTS if not n.startswith("TwoArm")])
    _check_name("robot", robot, robosuite.ALL_ROBOTS)
    simulation = robosuite.make(
        task,
        robots=robot,
        control_freq=control_freq,
        reward_shaping=reward_shaping,
        hard_reset=True,  # sizes and colours of objects are drawn where the scene is built
        ignore_done=True,  # the horizon is ours
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        renderer="mujoco",
        seed=_Generator(np.random.PCG64(0)),  # used as it is; reset reseeds it
    )
    _observe_at_the_end(simulation)
    return simulation


def _observe_at_the_end(simulation: Any) -> None:
    """Make success, reward and observation describe the state that a step ends in.

    robosuite samples its sensors after the first of the 25 physics steps of a control step, and
    judges success by positions that are one physics step old. Repeating the first half of a
    physics step (which changes no state, and comes again at the start of the next control step)
    brings all positions up to date. Physics is bit for bit the same; the tests say so.
    """
    update, judge = simulation._update_observables, simulation._post_action

    def update_observables(force: bool = False) -> None:
        if force:
            update(force=True)

    def post_action(action: np.ndarray) -> Any:
        sim = simulation.sim
        mujoco.mj_step1(sim.model._model, sim.data._data)
        return judge(action)

    simulation._update_observables = update_observables
    simulation._post_action = post_action


def _check_name(kind: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise UserError(f"robosuite has no {kind} {name!r}", remedy=nearest(name, known))


def _import_robosuite() -> Any:
    """Import robosuite without its advertisements."""
    logging.getLogger("robosuite_logs").addFilter(_worth_reading)
    try:
        return import_without_graphics("robosuite")
    except ModuleNotFoundError as error:
        raise UserError(
            "robosuite is not installed",
            found=error,
            remedy="pip install 'robo-offline[sim]'",
        ) from error


def _worth_reading(record: logging.LogRecord) -> bool:
    """Let through what robosuite logs of errors and of warnings that someone can act on."""
    idle = record.getMessage().startswith(IDLE_WARNINGS)
    return record.levelno >= logging.WARNING and not idle
