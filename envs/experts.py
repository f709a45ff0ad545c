"""Scripted experts: controllers that solve a task from the simulator's state, as badly as asked."""

from __future__ import annotations

from collections import deque
from typing import Any

import gymnasium
import numpy as np
from scipy.spatial.transform import Rotation

from robo_offline.errors import UserError

# OSC pose deltas of robosuite's default Panda: an action of 1 asks for this much per step.
POSITION_SCALE_M = 0.05
ROTATION_SCALE_RAD = 0.5
GAIN = 4.0  # the controller covers about a quarter of what is asked within one step
VERTICAL = np.array([0.0, 0.0, 1.0])
OPEN, CLOSE = -1.0, 1.0
CLOSING_STEPS = 5  # steps until the fingers hold

# Lift
HOVER_M = 0.06  # height above the cube where the hand is brought over it
ALIGNED_M = 0.02  # horizontal distance at which the hand may go down
GRASP_M = 0.02  # distance between hand and cube at which the fingers close
LOST_M = 0.04  # distance at which the cube is out of the hand
LIFT_HEIGHT_M = 0.12

# Door
STANDOFF_M = 0.12  # distance in front of the handle where the hand turns to it
FACING_RAD = 0.15  # error of the hand's rotation with which it may approach
BAR_CENTRE_M = 0.075  # distance of the handle's middle from its axis
GRIP_RADIUS_M = 0.11  # distance from the handle's axis at which it is gripped
SLIPPED_M = 0.05  # distance at which the handle is out of the hand
TURNED_RAD = 0.9  # angle of the handle at which the latch is certainly free
AJAR_RAD = 0.05  # angle of the hinge from which the latch cannot catch again
TURN_AHEAD_RAD = 0.6  # how far ahead of the handle the hand is sent to turn it
PULL_AHEAD_M = 0.06  # how far ahead of the door the hand is sent to pull it

# PointMaze: gains of D4RL's waypoint controller.
POSITION_GAIN, VELOCITY_GAIN = 10.0, -1.0
SOLVED = 0.1  # distance at which it has arrived at a goal of its own
GOAL_NOISE = 0.1  # how far from its cell's middle such a goal lies at most, in either direction


class Expert:
    """A controller of one environment; `noise` is the std of the Gaussian added to its actions.

    Only numbers that it commands are made noisy: one that stays at zero is not part of its skill.
    """

    def __init__(
        self, env: gymnasium.Env, noise: float = 0.0, rng: np.random.Generator | None = None
    ):
        self.env: Any = env.unwrapped
        self.noise = noise
        self.rng = rng if rng is not None else np.random.default_rng(0)
        self.reset()

    def reset(self) -> None:
        """Forget the last episode."""

    def act(self, observation: Any) -> np.ndarray:
        """Return what the expert means to do."""
        raise NotImplementedError

    def __call__(self, observation: Any) -> np.ndarray:
        """Return an action in [-1, 1], noise included."""
        action = self.act(observation)
        if self.noise > 0:
            action = action + self.rng.normal(0.0, self.noise, action.shape) * (action != 0)
        return np.clip(action, -1.0, 1.0).astype(np.float32)


class _Arm(Expert):
    """Reads and moves the hand of a robosuite arm."""

    def hand(self) -> tuple[np.ndarray, np.ndarray]:
        """Return position (3,) and rotation (3, 3) of the point between the fingers."""
        robot = self.env.simulation.robots[0]
        site, data = robot.eef_site_id["right"], self.env.simulation.sim.data
        return data.site_xpos[site].copy(), data.site_xmat[site].reshape(3, 3).copy()

    def move(self, target: np.ndarray, rotation: np.ndarray, grip: float) -> np.ndarray:
        """Return the action that brings the hand towards `target` and turns it by `rotation`."""
        position, _ = self.hand()
        action = np.zeros(7)
        action[:3] = GAIN * (target - position) / POSITION_SCALE_M
        action[3:6] = GAIN * rotation / ROTATION_SCALE_RAD
        action[6] = grip
        return np.clip(action, -1.0, 1.0)

    def turn_to(self, fingers: np.ndarray, forwards: np.ndarray) -> np.ndarray:
        """Return the rotation vector after which the hand points `forwards`.

        The fingers then open along `fingers`, or against it, whichever is nearer.
        """
        present = self.hand()[1]
        turns = []
        for sign in (1.0, -1.0):
            wanted = np.stack([sign * fingers, np.cross(forwards, sign * fingers), forwards], 1)
            turns.append(Rotation.from_matrix(wanted @ present.T).as_rotvec())
        return min(turns, key=np.linalg.norm)


class LiftExpert(_Arm):
    """robosuite's Lift: over the cube, down, close, up; the hand keeps its rotation."""

    def reset(self) -> None:
        """Forget the last episode."""
        self._closing = 0

    def act(self, observation: Any) -> np.ndarray:
        """Return what the expert means to do."""
        data, body = self.env.simulation.sim.data, self.env.simulation.cube_body_id
        cube, hand = data.body_xpos[body], self.hand()[0]
        offset = cube - hand
        distance = np.linalg.norm(offset)
        aside = np.linalg.norm(offset[:2])
        turn = np.zeros(3)  # the fingers open wider than the cube's diagonal
        if distance > LOST_M:
            self._closing = 0
        if self._closing or distance < GRASP_M:
            self._closing += 1
            away = self._where_to(cube) if self._closing > CLOSING_STEPS else 0 * VERTICAL
            return self.move(hand + away, turn, CLOSE)
        height = 0.0 if aside < ALIGNED_M else HOVER_M
        return self.move(cube + height * VERTICAL, turn, OPEN)

    def _where_to(self, cube: np.ndarray) -> np.ndarray:
        """Return the way of the cube in the hand: up, or to a goal where the task has one."""
        goal = getattr(self.env, "goal_position", None)
        return LIFT_HEIGHT_M * VERTICAL if goal is None or np.isinf(goal).any() else goal - cube


class DoorExpert(_Arm):
    """robosuite's Door: face it, grip the handle, turn it down about its axis, pull."""

    def reset(self) -> None:
        """Forget the last episode."""
        self._closing = 0

    def act(self, observation: Any) -> np.ndarray:
        """Return what the expert means to do."""
        data, hand = self.env.simulation.sim.data, self.hand()[0]
        bar_centre, bar = self._geom("Door_handle")
        along, out = bar[:, 0], self._outwards(bar[:, 1])
        axis = bar_centre - BAR_CENTRE_M * along  # what the handle turns about
        level = np.cross(out, VERTICAL)
        level *= np.sign(level @ along)
        angle = np.arctan2(-along[2], level @ along)
        turn = self.turn_to(np.cross(out, along), -out)

        offset = axis + GRIP_RADIUS_M * along - hand
        distance = np.linalg.norm(offset)
        if distance > SLIPPED_M:
            self._closing = 0
        if not self._closing and distance > GRASP_M:
            # Fingers first in front of the bar and turned to it, then around it.
            aside = np.linalg.norm(offset - (offset @ out) * out)
            ready = aside < ALIGNED_M and np.linalg.norm(turn) < FACING_RAD
            return self.move(hand + offset + (0.0 if ready else STANDOFF_M) * out, turn, OPEN)
        self._closing += 1
        if self._closing <= CLOSING_STEPS:
            return self.move(hand + offset, turn, CLOSE)
        ajar = data.qpos[self.env.simulation.hinge_qpos_addr] > AJAR_RAD
        ahead = min(angle, TURNED_RAD) + TURN_AHEAD_RAD
        target = axis + GRIP_RADIUS_M * (np.cos(ahead) * level - np.sin(ahead) * VERTICAL)
        pull = PULL_AHEAD_M if angle > TURNED_RAD or ajar else 0.0
        return self.move(target + pull * out, turn, CLOSE)

    def _geom(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        sim = self.env.simulation.sim
        number = sim.model.geom_name2id(name)
        return sim.data.geom_xpos[number], sim.data.geom_xmat[number].reshape(3, 3)

    def _outwards(self, normal: np.ndarray) -> np.ndarray:
        towards_hand = self._geom("Door_handle")[0] - self._geom("Door_panel")[0]
        return normal * np.sign(towards_hand @ normal)


class PointMazeExpert(Expert):
    """PointMaze: from cell to cell along the shortest path, then to the goal, under PD control."""

    def reset(self) -> None:
        """Forget the last episode."""
        self._goal: tuple[int, int] | None = None
        self._next: dict[tuple[int, int], tuple[int, int]] = {}

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Return what the expert means to do; the observation is position, velocity, goal."""
        position, velocity, goal = np.split(np.asarray(observation, np.float64), 3)
        maze = self.env.maze
        target_cell = tuple(maze.cell_xy_to_rowcol(goal))
        if target_cell != self._goal:
            self._goal, self._next = target_cell, _shortest_paths(maze.maze_map, target_cell)
        cell = tuple(maze.cell_xy_to_rowcol(position))
        following = self._next.get(cell, cell)
        waypoint = goal if cell == target_cell else maze.cell_rowcol_to_xy(np.array(following))
        return np.clip(POSITION_GAIN * (waypoint - position) + VELOCITY_GAIN * velocity, -1.0, 1.0)


class PointMazeWanderer(PointMazeExpert):
    """The same controller from one random goal to the next; the task's goal means nothing to it.

    D4RL's recipe of maze2d (Fu, Kumar, Nachum, Tucker, Levine 2020, arXiv 2004.07219): no episode
    is about the task, so a policy that solves it must be stitched together.
    """

    def reset(self) -> None:
        """Forget the last episode."""
        super().reset()
        self._own_goal: np.ndarray | None = None

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Return what the controller means to do; the goal within the observation is ignored."""
        position, velocity, _ = np.split(np.asarray(observation, np.float64), 3)
        if self._own_goal is None or np.linalg.norm(position - self._own_goal) < SOLVED:
            self._own_goal = self._draw()
        return super().act(np.concatenate([position, velocity, self._own_goal]))

    def _draw(self) -> np.ndarray:
        maze = self.env.maze
        walls = np.array([[cell == 1 for cell in row] for row in maze.maze_map])
        free = np.argwhere(~walls)
        cell = free[self.rng.integers(len(free))]
        return maze.cell_rowcol_to_xy(cell) + self.rng.uniform(-GOAL_NOISE, GOAL_NOISE, 2)


class RobotExpert(Expert):
    """An arm behind its daemon: the way that the task of `env=robot/...` knows."""

    def act(self, observation: Any) -> np.ndarray:
        """Return what the expert means to do."""
        action = np.zeros(self.env.actions.size)
        way = self.env.bring.way(self.env.state)
        action[:3] = np.clip(way / self.env.actions.step_m, -1.0, 1.0)
        return action


def _shortest_paths(maze: list[list[Any]], goal: tuple[int, int]) -> dict[Any, Any]:
    """Return for every free cell the next one on a shortest way to `goal` (breadth first)."""
    towards: dict[tuple[int, int], tuple[int, int]] = {goal: goal}
    open_cells = deque([goal])
    while open_cells:
        row, column = open_cells.popleft()
        for cell in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            inside = 0 <= cell[0] < len(maze) and 0 <= cell[1] < len(maze[0])
            if inside and maze[cell[0]][cell[1]] != 1 and cell not in towards:
                towards[cell] = (row, column)
                open_cells.append(cell)
    return towards


def expert_for(
    env: gymnasium.Env, noise: float = 0.0, rng: np.random.Generator | None = None
) -> Expert:
    """Return the expert of `env`'s task."""
    experts: dict[str, type[Expert]] = {
        "Lift": LiftExpert,
        "Door": DoorExpert,
        "PointMazeEnv": PointMazeExpert,
        "RealRobotEnv": RobotExpert,
    }
    return _choice(env, experts, "scripted expert")(env, noise, rng)


def wanderer_for(
    env: gymnasium.Env, noise: float = 0.0, rng: np.random.Generator | None = None
) -> Expert:
    """Return what moves about in `env` with skill but without regard to its task."""
    return _choice(env, {"PointMazeEnv": PointMazeWanderer}, "wanderer")(env, noise, rng)


def _choice(env: gymnasium.Env, known: dict[str, type[Expert]], what: str) -> type[Expert]:
    inner = env.unwrapped
    task = type(getattr(inner, "simulation", None) or inner).__name__
    if task not in known:
        raise UserError(
            f"there is no {what} for {task}",
            expected="one of " + ", ".join(sorted(known)),
            remedy="collect with policy=random or policy=checkpoint",
        )
    return known[task]
