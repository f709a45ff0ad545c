"""Raw robosuite demonstrations become what the training environment would have observed."""

import json
import warnings

import h5py
import numpy as np
import pytest

from robo_offline.datasets.importing import open_source
from robo_offline.errors import UserError

pytest.importorskip("robosuite")


@pytest.fixture(scope="module")
def recorded():
    """A Lift whose cube is carried up by hand: (xml, states that succeed from row 5 on)."""
    from envs.robosuite import Robosuite

    environment = Robosuite("Lift")
    environment.reset(seed=3)
    sim = environment.simulation.sim
    height = sim.model.get_joint_qpos_addr("cube_joint0")[0] + 2
    states = []
    for row in range(8):
        state = sim.get_state().flatten()
        state[1 + height] += 0.05 * max(0, row - 4)
        states.append(state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # robosuite forgets to close the file
        xml = sim.model.get_xml()
    environment.close()
    return xml, np.array(states)


def write(path, xml, demos, version="1.4.1", env="Lift"):
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env"], data.attrs["repository_version"] = env, version
        data.attrs["env_info"] = json.dumps({"env_name": env, "robots": "Panda"})
        for name, (states, actions) in demos.items():
            demo = data.create_group(name)
            demo.attrs["model_file"] = xml
            demo["states"], demo["actions"] = states, actions


def read(path, **options):
    iterator, source = open_source(path, **options)
    return list(iterator), source


def test_an_episode_ends_at_the_first_success(tmp_path, recorded):
    xml, states = recorded
    actions = np.linspace(-2, 2, 56).reshape(8, 7)
    write(tmp_path / "demo.hdf5", xml, {"demo_1": (states, actions)})
    (one,), source = read(tmp_path)
    assert one.success[-1] and one.terminated[-1] and not one.success[:-1].any()
    assert one.reward.sum() == 1 and len(one) == 5
    assert np.array_equal(one.action, np.clip(actions[: len(one)], -1, 1).astype(np.float32))
    assert source.counts["steps after success, cut"] == 2
    assert source.counts["actions clipped to [-1, 1]"] > 0
    (whole,), _ = read(tmp_path, keep_tail=True)
    assert len(whole) == 7 and whole.truncated[-1] and not whole.terminated.any()


def test_the_observation_is_that_of_the_training_environment(tmp_path, recorded):
    from envs.robosuite import Robosuite

    xml, states = recorded
    write(tmp_path / "demo.hdf5", xml, {"demo_1": (states, np.zeros((8, 7)))})
    (one,), _ = read(tmp_path)
    environment = Robosuite("Lift")
    first, _ = environment.reset(seed=3)
    environment.close()
    assert np.allclose(one.observation[0], first, atol=1e-6)


def test_cameras_and_keys_are_those_of_an_environment_that_is_made_with_them(tmp_path, recorded):
    from envs.robosuite import Robosuite

    xml, states = recorded
    write(tmp_path / "demo.hdf5", xml, {"demo_1": (states[:3], np.zeros((3, 7)))})
    seen = {"cameras": ["agentview", "robot0_eye_in_hand"], "image_size": 24}
    keys = ["robot0_gripper_qpos", "robot0_eef_pos"]
    try:
        (one,), source = read(tmp_path, keys=keys, **seen)
    except UserError as error:
        pytest.skip(f"no OpenGL here: {error.found}")
    environment = Robosuite("Lift", observation_keys=keys, **seen)
    first, _ = environment.reset(seed=3)
    assert environment.observation_space.contains({k: v[0] for k, v in one.observation.items()})
    environment.close()
    assert np.allclose(one.observation["state"][0], first["state"], atol=1e-6)
    for camera in seen["cameras"]:
        image = one.observation[camera][0].astype(int)
        assert np.abs(image - first[camera]).mean() < 2, camera
        assert (image[0] > image[1:].max(0) + 40).any()  # the cube is red
    assert source.environment["observation_keys"] == keys


def test_failures_are_truncated_and_demonstrations_come_in_the_order_of_their_numbers(
    tmp_path, recorded
):
    xml, states = recorded
    demos = {f"demo_{n}": (states[:n], np.zeros((n, 7))) for n in (2, 1, 3)}
    demos["demo_10"] = (states[:4], np.zeros((4, 7)))
    write(tmp_path / "demo.hdf5", xml, demos)
    logged, source = read(tmp_path / "demo.hdf5")
    assert [len(one) for one in logged] == [1, 2, 3]
    assert logged[0].truncated[-1] and not logged[0].terminated[-1]
    assert source.counts["demonstrations without a step, left out"] == 1


def test_the_cube_has_the_size_it_was_logged_with(recorded):
    from envs.robosuite import Robosuite
    from robo_offline.datasets.robosuite_scene import Scene

    environment = Robosuite("Lift")
    environment.reset(seed=3)
    model = environment.simulation.sim.model
    cube = model.geom_name2id("cube_g0")
    size = model.geom_size[cube].copy()
    environment.reset(seed=4)
    model = environment.simulation.sim.model
    assert not np.allclose(model.geom_size[cube], size)
    Scene(recorded[0]).place(model)
    assert np.allclose(model.geom_size[cube], size)
    environment.close()


def test_old_names_of_joints_are_mapped(tmp_path, recorded):
    xml, states = recorded
    old = xml.replace("gripper0_right_finger", "gripper0_finger").replace(
        "cube_joint0", "cube_jnt0"
    )
    write(tmp_path / "demo.hdf5", old, {"demo_1": (states, np.zeros((8, 7)))}, version="1.0.0")
    assert read(tmp_path)[0][0].success[-1]


def test_a_model_beside_the_file_is_found_or_missed(tmp_path, recorded):
    xml, states = recorded
    write(tmp_path / "demo.hdf5", "model_1.xml", {"demo_1": (states, np.zeros((8, 7)))})
    with pytest.raises(UserError, match=r"(?s)model.*missing.*copy the folder"):
        read(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model_1.xml").write_text(xml)
    assert len(read(tmp_path)[0]) == 1


def test_what_does_not_fit_is_refused_with_the_reason(tmp_path, recorded):
    xml, states = recorded
    for states_, actions, env, match in (
        (states[:, :-3], np.zeros((8, 7)), "Lift", "do not fit"),
        (states, np.zeros((8, 5)), "Lift", "another controller"),
        (states * np.nan, np.zeros((8, 7)), "Lift", "not finite"),
        (states, np.zeros((8, 7)), "Lifts", "no task 'Lifts'"),
    ):
        write(tmp_path / "demo.hdf5", xml, {"demo_1": (states_, actions)}, env=env)
        with pytest.raises(UserError, match=match):
            read(tmp_path)
    write(tmp_path / "demo.hdf5", "<mujoco><world", {"demo_1": (states, np.zeros((8, 7)))})
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path)
