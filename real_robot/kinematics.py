"""Where the tool is: forward kinematics of a chain of revolute joints, its Jacobian, and back."""

from __future__ import annotations

import numpy as np

from real_robot.descriptor import RobotDescriptor


class Chain:
    """A robot's joints as matrices; every function takes many configurations at once."""

    def __init__(self, robot: RobotDescriptor):
        self.dof = robot.dof
        fixed = np.stack([transform(j.xyz_m, j.wxyz) for j in robot.joints])
        turn = np.zeros((robot.dof, 4, 4))
        turn[:, :3, :3] = [_cross(j.axis) for j in robot.joints]
        # Rodrigues: a joint's matrix is fixed (1 + sin K + (1 - cos) K^2).
        self._fixed, self._sine, self._cosine = fixed, fixed @ turn, fixed @ turn @ turn
        self._axes = np.array([j.axis for j in robot.joints])
        self._tool = transform(robot.tool_xyz_m, robot.tool_wxyz)

    def tool(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return position (K, 3) in metres and rotation (K, 3, 3) for angles (K, dof)."""
        joints = self._joints(np.atleast_2d(q))
        found = joints[:, 0]
        for i in range(1, self.dof):
            found = found @ joints[:, i]
        found = found @ self._tool
        return found[:, :3, 3], found[:, :3, :3]

    def jacobian(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the Jacobian (6, dof), linear first, with position (3,) and rotation (3, 3)."""
        joints = self._joints(q[None])[0]
        frames = np.empty_like(joints)  # of every joint, in the base
        frames[0] = joints[0]
        for i in range(1, self.dof):
            frames[i] = frames[i - 1] @ joints[i]
        tool = frames[-1] @ self._tool
        axis = np.einsum("nij,nj->ni", frames[:, :3, :3], self._axes)
        arm = tool[:3, 3] - frames[:, :3, 3]
        return np.concatenate([np.cross(axis, arm).T, axis.T]), tool[:3, 3], tool[:3, :3]

    def inverse(
        self,
        position: np.ndarray,
        rotation: np.ndarray,
        start: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        steps: int = 30,
        damping: float = 0.02,
    ) -> np.ndarray | None:
        """Return angles near `start` that reach a pose to 0.1 mm and 1 mrad; None where none are.

        Damped least squares: near a singularity it stays close rather than leaping.
        """
        q = start.copy()
        for _ in range(steps):
            jacobian, p, r = self.jacobian(q)
            error = np.concatenate([position - p, rotation_vector(rotation @ r.T)])
            if np.abs(error[:3]).max() < 1e-4 and np.abs(error[3:]).max() < 1e-3:
                return q
            size = float(np.linalg.norm(error))
            gain = damping**2 * min(1.0, size)  # less where it is close, so that it arrives
            move = jacobian.T @ np.linalg.solve(
                jacobian @ jacobian.T + gain * np.eye(6), error * min(1.0, 0.5 / size)
            )
            q = np.clip(q + move, low, high)
        return None

    def _joints(self, q: np.ndarray) -> np.ndarray:
        """Return each joint's matrix in the frame before it, (K, dof, 4, 4)."""
        sine, cosine = np.sin(q)[..., None, None], (1 - np.cos(q))[..., None, None]
        return self._fixed + sine * self._sine + cosine * self._cosine


def transform(xyz: tuple[float, ...], wxyz: tuple[float, ...]) -> np.ndarray:
    """Return a homogeneous matrix (4, 4)."""
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = matrix(np.array(wxyz)), xyz
    return found


def matrix(wxyz: np.ndarray) -> np.ndarray:
    """Return the rotation (3, 3) of a unit quaternion, w first."""
    w, x, y, z = wxyz
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """Return the unit quaternion (4,), w first and not negative, of a rotation (3, 3)."""
    r = rotation
    squares = 1 + np.array(
        [r[0, 0] + r[1, 1] + r[2, 2], r[0, 0] - r[1, 1] - r[2, 2],
         r[1, 1] - r[0, 0] - r[2, 2], r[2, 2] - r[0, 0] - r[1, 1]]
    )  # fmt: skip
    # From the largest component: the others are divided by it.
    k = int(squares.argmax())
    x, y, z = r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]
    xy, xz, yz = r[0, 1] + r[1, 0], r[0, 2] + r[2, 0], r[1, 2] + r[2, 1]
    rows = [(squares[0], x, y, z), (x, squares[1], xy, xz), (y, xy, squares[2], yz), (z, xz, yz, squares[3])]  # noqa: E501  # fmt: skip
    found = np.array(rows[k])
    found /= np.linalg.norm(found)
    return -found if found[0] < 0 else found


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Return axis times angle (3,), the angle in [0, pi], of a rotation (3, 3)."""
    w, *xyz = quaternion(rotation)
    size = np.linalg.norm(xyz)
    if size < 1e-12:
        return 2 * np.array(xyz)
    return np.array(xyz) * (2 * np.arctan2(size, w) / size)


def turned(rotation_vector_: np.ndarray) -> np.ndarray:
    """Return the rotation (3, 3) of axis times angle (3,)."""
    angle = np.linalg.norm(rotation_vector_)
    if angle < 1e-12:
        return np.eye(3) + _cross(tuple(rotation_vector_))
    k = _cross(tuple(rotation_vector_ / angle))
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


def _cross(v: tuple[float, ...]) -> np.ndarray:
    x, y, z = v
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
