"""A MuJoCo model as an arm with things around it: which joints, which tool, which fingers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.graphics import mujoco
from real_robot.descriptor import RobotDescriptor
from real_robot.kinematics import Chain, rotation_vector
from robo_offline.errors import UserError, nearest

WALL = "real_robot_wall"  # a body that is nowhere until it is put somewhere
NEAR_M, NEAR_RAD = 1e-3, 5e-3  # between the file's tool and the model's


@dataclass(frozen=True, slots=True)
class Finger:
    """A position actuator of the gripper, and what it is told at either end."""

    actuator: str
    closed: float
    open: float


class Scene:
    """The model and the data, and where in them the robot is. World in metres, base of the chain.

    Motors of the model that act on the arm's joints are switched off: the arm's controller gives
    torques itself, within what those motors could.
    """

    def __init__(
        self,
        robot: RobotDescriptor,
        model: Any,
        *,
        tool: str,
        base: str | None = None,
        fingers: Sequence[Finger] = (),
        objects: Sequence[str] = (),
        data: Any = None,
    ):
        self.robot, self.names = robot, (tool, base, tuple(fingers), tuple(objects))
        self.bind(model, mujoco.MjData(model) if data is None else data)
        if data is None:
            self.place(np.array(robot.home_rad))
        self._check_tool()

    def bind(self, model: Any, data: Any) -> None:
        """Take another model of the same robot, as a simulator makes for a new episode."""
        tool, base, fingers, objects = self.names
        self.model, self.data = model, data
        joints = [self._id(mujoco.mjtObj.mjOBJ_JOINT, j.name) for j in self.robot.joints]
        self.qpos, self.dofs = _index(model.jnt_qposadr[joints]), _index(model.jnt_dofadr[joints])
        self._tool = _Frame(self, tool)
        first, last = model.jnt_bodyid[joints[0]], model.jnt_bodyid[joints[-1]]
        self._base = (
            model.body_parentid[first] if base is None else self._id(mujoco.mjtObj.mjOBJ_BODY, base)
        )
        carried = [b for b in range(model.nbody) if self._carried(b, last)]
        self._hand = _index(np.array(carried))
        self._root = model.body_rootid[last]
        self._objects = {name: self._id(mujoco.mjtObj.mjOBJ_BODY, name) for name in objects}
        self._fingers = [
            (self._id(mujoco.mjtObj.mjOBJ_ACTUATOR, f.actuator), f.closed, f.open) for f in fingers
        ]
        self.torque_max = self._take_motors(joints)
        self._inertia = np.zeros((model.nv, model.nv))
        dofs = model.jnt_dofadr[joints]
        self._block = np.ix_(dofs, dofs) if isinstance(self.dofs, list) else (self.dofs, self.dofs)
        if model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4:  # has no halves
            model.opt.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST

    # ---- the arm --------------------------------------------------------------------------------

    def place(self, q: np.ndarray) -> None:
        """Put the joints somewhere, at rest."""
        self.data.qpos[self.qpos], self.data.qvel[self.dofs] = q, 0
        mujoco.mj_forward(self.model, self.data)

    def drive(self, acceleration: np.ndarray) -> None:
        """Give the torques that accelerate the joints so (dof,) where nothing is in the way."""
        data = self.data
        mujoco.mj_fullM(self.model, self._inertia, data.qM)
        torque = self._inertia[self._block] @ acceleration
        torque += data.qfrc_bias[self.dofs] - data.qfrc_passive[self.dofs]
        most = self.torque_max
        data.qfrc_applied[self.dofs] = np.minimum(np.maximum(torque, -most), most)

    def measured(self) -> tuple[np.ndarray, np.ndarray]:
        """Return angles and speeds of the joints."""
        return self.data.qpos[self.qpos].copy(), self.data.qvel[self.dofs].copy()

    def tool(self) -> tuple[np.ndarray, np.ndarray]:
        """Return position (3,) and rotation (3, 3) of the tool in the base."""
        position, rotation = self._tool.pose()
        return self._in_base(position), self._axes().T @ rotation

    def wrench(self) -> np.ndarray:
        """Return the force and torque (6,) that touching things put on the hand.

        At the tool's point, along the base's axes. Valid between the second half of a step of the
        physics and the first half of the next.
        """
        data = self.data
        mujoco.mj_rnePostConstraint(self.model, data)
        both = data.cfrc_ext[self._hand].sum(0)
        if not both.any():
            return both
        torque, force = both[:3], both[3:]
        arm = data.subtree_com[self._root] - self._tool.pose()[0]  # MuJoCo's point of reference
        turn = self._axes().T
        return np.concatenate([turn @ force, turn @ (torque + np.cross(arm, force))])

    # ---- the gripper ----------------------------------------------------------------------------

    def grip(self, opening: float) -> None:
        """Send the fingers towards an opening between 0 and 1."""
        for actuator, closed, opened in self._fingers:
            self.data.ctrl[actuator] = closed + opening * (opened - closed)

    def opening(self) -> float:
        """Return how far the fingers are open, 0 to 1."""
        if not self._fingers:
            return 0.0
        found = 0.0
        for actuator, closed, opened in self._fingers:
            gain, bias = self.model.actuator_gainprm[actuator], self.model.actuator_biasprm[actuator]  # noqa: E501  # fmt: skip
            told = (
                -bias[1] / gain[0] * self.data.actuator_length[actuator]
            )  # what would hold it here
            found += (told - closed) / (opened - closed) / len(self._fingers)
        return float(min(max(found, 0.0), 1.0))

    # ---- what else there is ---------------------------------------------------------------------

    def extra(self) -> dict[str, np.ndarray]:
        """Return the poses (7,) of the named bodies in the base, quaternions w first."""
        found = {}
        turn = np.zeros(4)
        for name, body in self._objects.items():
            rotation = self._axes().T @ self.data.xmat[body].reshape(3, 3)
            mujoco.mju_mat2Quat(turn, rotation.ravel())
            found[name] = np.concatenate([self._in_base(self.data.xpos[body]), turn])
        return found

    def wall(self, position: np.ndarray | None, normal: np.ndarray) -> None:
        """Put a wall whose face goes through a point (3,) of the base; None takes it away."""
        body = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_BODY, WALL)
        if body < 0:
            raise UserError("this scene has no wall to be moved")
        geom, mocap = self.model.body_geomadr[body], self.model.body_mocapid[body]
        there = int(position is not None)
        self.model.geom_contype[geom] = self.model.geom_conaffinity[geom] = there
        self.model.body_contype[body] = self.model.body_conaffinity[body] = there  # both are asked
        if position is None:
            return
        size = float(np.linalg.norm(normal))
        if not np.isfinite(size) or size < 1e-9 or not np.isfinite(position).all():
            raise UserError("a wall has a point and a direction that it faces", found=normal)
        out = self._axes() @ (normal / size)
        base = self.data.xpos[self._base] + self._axes() @ position
        # The box's third axis faces outwards.
        self.data.mocap_pos[mocap] = base - out * self.model.geom_size[geom, 2]
        mujoco.mju_quatZ2Vec(self.data.mocap_quat[mocap], out)

    def reset(self, seed: int) -> None:
        """Begin another episode; a scene without a task has none."""
        raise UserError("this scene has no episodes")

    def rearrange(self, seed: int) -> None:
        """Put the things of a task elsewhere, the arm staying where it is."""
        raise UserError("this scene has no task")

    # ---- inside ---------------------------------------------------------------------------------

    def _in_base(self, position: np.ndarray) -> np.ndarray:
        return self._axes().T @ (position - self.data.xpos[self._base])

    def _axes(self) -> np.ndarray:
        return self.data.xmat[self._base].reshape(3, 3)

    def _carried(self, body: int, by: int) -> bool:
        while body not in (0, by):
            body = self.model.body_parentid[body]
        return body == by

    def _take_motors(self, joints: Sequence[int]) -> np.ndarray:
        """Switch the arm's motors off; return what each could do (dof,) in Nm."""
        m = self.model
        most = np.where(m.jnt_actfrclimited[joints], m.jnt_actfrcrange[joints, 1], np.inf)
        for a in range(m.nu):
            on_joint = m.actuator_trntype[a] == mujoco.mjtTrn.mjTRN_JOINT
            if not on_joint or m.actuator_trnid[a, 0] not in joints:
                continue
            i, gear = joints.index(m.actuator_trnid[a, 0]), abs(m.actuator_gear[a, 0])
            if m.actuator_forcelimited[a]:
                most[i] = min(most[i], gear * m.actuator_forcerange[a, 1])
            elif m.actuator_ctrllimited[a] and not m.actuator_biasprm[a].any():  # a plain motor
                strongest = m.actuator_gainprm[a, 0] * m.actuator_ctrlrange[a, 1]
                most[i] = min(most[i], gear * strongest)
            m.actuator_gainprm[a] = m.actuator_biasprm[a] = 0
        return most

    def _check_tool(self) -> None:
        """Refuse a model whose tool is elsewhere than the robot's file says."""
        random, chain, before = np.random.default_rng(0), Chain(self.robot), self.data.qpos.copy()
        x = self.robot.limits.arrays()
        for q in (np.array(self.robot.home_rad), *random.uniform(x["low"], x["high"], (4, len(x["low"])))):  # noqa: E501  # fmt: skip
            self.place(q)
            (position, rotation), (there, turn) = self.tool(), chain.tool(q)
            away = float(np.linalg.norm(position - there[0]))
            turned = float(np.linalg.norm(rotation_vector(rotation @ turn[0].T)))
            if away > NEAR_M or turned > NEAR_RAD:
                raise UserError(
                    "the model's tool is elsewhere than the robot's file says",
                    where=self.names[0],
                    expected=f"{there[0].round(4).tolist()} m at {q.round(3).tolist()} rad",
                    found=f"{position.round(4).tolist()} m, turned by {turned:.4f} rad",
                    remedy="name another tool or base, or correct tool_xyz_m, tool_wxyz, joints",
                )
        self.data.qpos[:] = before
        mujoco.mj_forward(self.model, self.data)

    def _id(self, kind: Any, name: str) -> int:
        found = mujoco.mj_name2id(self.model, kind, name)
        if found < 0:
            raise UserError(
                f"the model has no {kind.name.removeprefix('mjOBJ_').lower()} '{name}'",
                remedy=nearest(name, _names(self.model, kind)),
            )
        return found


def _index(addresses: np.ndarray) -> Any:
    """Return what selects these: a slice where they follow each other, which is quicker."""
    first, last = int(addresses[0]), int(addresses[-1])
    if (addresses == np.arange(first, first + len(addresses))).all():
        return slice(first, last + 1)
    return addresses.tolist()


class _Frame:
    """A site or a body, whichever has the name."""

    def __init__(self, scene: Scene, name: str):
        self.data = scene.data
        self.site = mujoco.mj_name2id(scene.model, mujoco.mjtObj.mjOBJ_SITE, name)
        if self.site < 0:
            self.body = mujoco.mj_name2id(scene.model, mujoco.mjtObj.mjOBJ_BODY, name)
            if self.body < 0:
                kinds = (mujoco.mjtObj.mjOBJ_SITE, mujoco.mjtObj.mjOBJ_BODY)
                known = [n for kind in kinds for n in _names(scene.model, kind)]
                raise UserError(
                    f"the model has no site and no body '{name}'", remedy=nearest(name, known)
                )

    def pose(self) -> tuple[np.ndarray, np.ndarray]:
        d = self.data
        if self.site >= 0:
            return d.site_xpos[self.site].copy(), d.site_xmat[self.site].reshape(3, 3)
        return d.xpos[self.body].copy(), d.xmat[self.body].reshape(3, 3)


def _names(model: Any, kind: Any) -> list[str]:
    counts = {
        mujoco.mjtObj.mjOBJ_JOINT: model.njnt,
        mujoco.mjtObj.mjOBJ_SITE: model.nsite,
        mujoco.mjtObj.mjOBJ_BODY: model.nbody,
        mujoco.mjtObj.mjOBJ_ACTUATOR: model.nu,
    }
    return [mujoco.mj_id2name(model, kind, i) or "" for i in range(counts[kind])]
