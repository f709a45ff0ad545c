"""robosuite environments: fixed by their seed, honest about success, exact in their physics."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

import envs
from envs.graphics import Renderer
from envs.robosuite import Robosuite, _Generator, _import_robosuite
from robo_offline.errors import UserError

pytest.importorskip("robosuite")

DIGEST = """
import sys
sys.path.insert(0, {folder!r})
from test_robosuite import digest
for task in {tasks!r}:
    print(digest(task, seed=3))
"""


@pytest.fixture(scope="module")
def lift():
    env = Robosuite("Lift", horizon=5)
    yield env
    env.close()


def digest(task, seed, env=None):
    """Hash every observation of an episode of random actions."""
    env = env or Robosuite(task)
    observation, _ = env.reset(seed=seed)
    rng = np.random.default_rng(0)
    seen = [observation]
    for _ in range(10):
        seen.append(env.step(rng.uniform(-1, 1, env.action_space.shape))[0])
    return hashlib.sha256(np.stack(seen).tobytes()).hexdigest()


def test_an_episode_depends_on_its_seed_and_not_on_what_came_before_or_on_the_process():
    # PickPlaceSingle draws its object from a set of names, whose order depends on the hash seed.
    tasks = ["Lift", "PickPlaceSingle"]
    script = DIGEST.format(folder=os.path.dirname(__file__), tasks=tasks)
    fresh = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "5"},
    ).stdout.split()
    for task, expected in zip(tasks, fresh, strict=True):
        env = Robosuite(task)
        digest(task, 8, env)
        env.step(env.action_space.sample())
        assert digest(task, 3, env) == expected
        assert digest(task, 4, env) != expected


def test_the_size_of_the_cube_is_drawn_per_episode_and_fixed_by_the_seed(lift):
    sizes = []
    for seed in (0, 1, 0):
        lift.reset(seed=seed)
        sizes.append(tuple(lift.simulation.cube.size))
    assert sizes[0] == sizes[2] != sizes[1]


@pytest.mark.parametrize("task", ["Lift", "Door"])
def test_physics_is_bit_for_bit_that_of_robosuite(task):
    ours = Robosuite(task)
    stock = _import_robosuite().make(
        task,
        robots="Panda",
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        ignore_done=True,
        seed=_Generator(np.random.PCG64(0)),
    )
    episode = np.random.default_rng(np.random.default_rng(7).integers(2**63))
    ours.reset(seed=7)
    stock.rng.bit_generator.state = episode.bit_generator.state
    stock.reset()
    actions = np.random.default_rng(1).uniform(-1, 1, (40, 7))
    actions[20:, :3] = [0.0, -0.3, -1.0]  # into the table
    for action in actions:
        ours.step(action)
        stock.step(action)
        state = ours.simulation.sim.get_state().flatten()
        np.testing.assert_array_equal(state, stock.sim.get_state().flatten())


def test_an_observation_shows_the_state_at_the_end_of_its_step(lift):
    lift.reset(seed=0)
    observation = lift.step(np.array([1, 0, 0, 0, 0, 0, 1.0]))[0]
    lift.simulation.sim.forward()
    np.testing.assert_array_equal(observation, lift.observe())


def test_the_horizon_truncates_and_success_terminates(lift, monkeypatch):
    lift.reset(seed=0)
    outcomes = [lift.step(np.zeros(7))[1:] for _ in range(5)]
    assert [(t, c) for _, t, c, _ in outcomes] == [(False, False)] * 4 + [(False, True)]
    assert not any(info["success"] for *_, info in outcomes)

    lift.reset(seed=0)
    for _ in range(4):
        lift.step(np.zeros(7))
    monkeypatch.setattr(lift.simulation, "_check_success", lambda: True)
    _, reward, terminated, truncated, info = lift.step(np.zeros(7))
    assert (reward, terminated, truncated, info) == (1.0, True, False, {"success": True})


def test_actions_outside_of_the_bounds_are_clipped(lift):
    states = []
    for size in (1.0, 40.0):
        lift.reset(seed=0)
        states.append(lift.step(np.full(7, size))[0])
    np.testing.assert_array_equal(*states)


@pytest.mark.parametrize("task", ["Stack", "NutAssemblySquare", "PickPlaceCan", "Wipe"])
def test_tasks_observe_what_their_space_says(task):
    env = Robosuite(task)
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert env.observation_space.contains(env.step(env.action_space.sample())[0])
    assert info == {"success": False}


def test_images_are_upright_and_channel_first():
    env = Robosuite("Lift", cameras=("agentview",), image_size=32)
    try:
        observation, _ = env.reset(seed=0)
    except UserError as error:
        pytest.skip(f"no OpenGL here: {error.found}")
    assert env.observation_space.contains(observation)
    assert observation["agentview"].shape == (3, 32, 32)
    # The white table fills the lower part of this camera's picture.
    assert observation["agentview"][:, 24:].mean() > observation["agentview"][:, :4].mean() + 50
    assert env.render().shape == (256, 256, 3)
    env.close()


def test_without_opengl_the_error_says_what_to_install(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    with pytest.raises(UserError, match=r"libegl1(.|\n)*MUJOCO_GL"):
        Renderer(8, 8)


@pytest.mark.parametrize(
    ("values", "nearest"),
    [
        ({"task": "Lifd"}, "Lift"),
        ({"robot": "Pandda"}, "Panda"),
        ({"cameras": ["agntview"]}, "agentview"),
        ({"observation_keys": ["object_state"]}, "object-state"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(values, nearest):
    with pytest.raises(UserError, match=nearest):
        envs.make("robosuite/lift", **values)
