import numpy as np
import pytest

from envs.graphics import mujoco
from real_robot.descriptor import load
from real_robot.kinematics import Chain
from real_robot.sim import models
from real_robot.sim.scene import Finger
from robo_offline.errors import UserError

SMALL = """
<mujoco>
  <option integrator="RK4"/>
  <worldbody>
    <body name="pedestal" pos="1 2 3" quat="0 0 0 1">
      {links}
    </body>
    <body name="ball" pos="1 2 4"><freejoint/><geom size="0.02"/></body>
  </worldbody>
  <actuator>
    <position name="shoulder" joint="shoulder_pan_joint" kp="500" forcerange="-150 150"/>
    <motor name="wrist" joint="wrist_3_joint" gear="2" ctrlrange="-10 10"/>
  </actuator>
</mujoco>
"""


def ur5e_file(tmp_path, tool="0 0 0"):
    """A UR5e as somebody else would have written it: turned base, own motors, a ball beside it."""
    robot = load("ur5e")
    links = f'<site name="flange" pos="{tool}"/>'
    for joint in reversed(robot.joints):
        row = {name: " ".join(map(str, getattr(joint, name))) for name in ("xyz_m", "wxyz", "axis")}
        links = (
            f'<body pos="{row["xyz_m"]}" quat="{row["wxyz"]}">'
            f'<joint name="{joint.name}" axis="{row["axis"]}" armature="0.1"/>'
            f'<geom size="0.03" mass="1" contype="0" conaffinity="0"/>{links}</body>'
        )
    path = tmp_path / "ur5e.xml"
    path.write_text(SMALL.format(links=links))
    return robot, path


def test_any_file_with_these_joints_will_do(tmp_path):
    robot, path = ur5e_file(tmp_path)
    scene = models.from_file(robot, path, tool="flange", base="pedestal", objects=["ball"])
    position, rotation = scene.tool()
    there, turn = Chain(robot).tool(np.array(robot.home_rad))
    assert np.allclose(position, there[0], atol=1e-6) and np.allclose(rotation, turn[0], atol=1e-6)
    # In the base, which is turned by half a turn about its third axis.
    assert np.allclose(scene.extra()["ball"], [0, 0, 1, 0, 0, 0, 1], atol=1e-9) or np.allclose(
        scene.extra()["ball"], [0, 0, 1, 0, 0, 0, -1], atol=1e-9
    )
    assert scene.torque_max.tolist() == [150, *[np.inf] * 4, 20]


def test_the_models_own_motors_do_not_pull(tmp_path):
    robot, path = ur5e_file(tmp_path)
    scene = models.from_file(robot, path, tool="flange", base="pedestal")
    scene.data.ctrl[:] = 1.0
    mujoco.mj_forward(scene.model, scene.data)
    assert (scene.data.qfrc_actuator == 0).all()


def test_a_tool_that_is_elsewhere_than_the_file_says_is_refused_with_the_place(tmp_path):
    robot, path = ur5e_file(tmp_path, tool="0 0 0.01")
    with pytest.raises(UserError, match="elsewhere") as error:
        models.from_file(robot, path, tool="flange", base="pedestal")
    assert "flange" in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"tool": "flansh"}, "did you mean flange"),
        ({"base": "pedestral"}, "did you mean pedestal"),
        ({"objects": ["bal"]}, "did you mean ball"),
        ({"fingers": [Finger("grip", 0, 1)]}, "has no actuator 'grip'"),
    ],
)
def test_a_name_that_the_model_does_not_have_is_refused_with_those_near_it(tmp_path, wrong, told):
    robot, path = ur5e_file(tmp_path)
    with pytest.raises(UserError, match=told):
        models.from_file(robot, path, **{"tool": "flange", "base": "pedestal"} | wrong)


def test_a_model_of_another_robot_is_refused(tmp_path):
    _, path = ur5e_file(tmp_path)
    with pytest.raises(UserError, match="no joint 'panda_joint1'"):
        models.from_file(load("sim"), path, tool="flange")


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "no.xml").write_text("<mujoco><worldbody>")
    for name in ("no.xml", "nothing.xml"):
        with pytest.raises(UserError, match="cannot be read"):
            models.from_file(load("ur5e"), tmp_path / name, tool="flange")


@pytest.mark.parametrize("name", ["sim", "ur5e", "franka", "robosuite_panda"])
def test_every_robot_can_be_built_from_its_file_alone(name):
    robot = load(name)
    scene = models.capsules(robot)  # looks itself whether the tool is where the file says
    assert np.allclose(scene.measured()[0], robot.home_rad)
    assert scene.model.opt.timestep == models.TIMESTEP_S
    mujoco.mj_forward(scene.model, scene.data)
    assert scene.data.ncon == 0


def test_a_gripper_says_how_far_it_is_open():
    scene = models.capsules(load("sim"))
    for opening in (1.0, 0.25, 0.0):
        scene.grip(opening)
        for _ in range(1500):
            mujoco.mj_step(scene.model, scene.data)
        assert scene.opening() == pytest.approx(opening, abs=0.02)


def test_a_scene_without_a_task_or_a_wall_says_so(tmp_path):
    robot, path = ur5e_file(tmp_path)
    scene = models.from_file(robot, path, tool="flange", base="pedestal")
    for ask in (lambda: scene.reset(0), lambda: scene.rearrange(0)):
        with pytest.raises(UserError, match="no"):
            ask()
    with pytest.raises(UserError, match="direction"):
        scene.wall(np.zeros(3), np.zeros(3))
