"""Finetune on one robot over the wire and evaluate on the same one: what `bench intervention` runs.

    python -m robo_offline.bench.loops.finetune RUN_DIR OVERRIDE...

One connection for both: an arm has one commander. While an evaluation plays, the person beside the
policy keeps their hands off. Every episode of the training leaves a row in episodes.jsonl.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np

from real_robot.env import HUMAN
from robo_offline import build
from robo_offline.config import compose
from robo_offline.evaluate import Evaluation, Evaluator
from robo_offline.phases.run import Run
from robo_offline.policies.policy import Policy
from robo_offline.train import load_config, write_identity

EPISODES = "episodes.jsonl"
SWITCH_S = 5e-4  # the interpreter goes to the thread that keeps the arm alive, however busy we are
LATE_MS = 10.0  # a tick that comes later than this came late


class Shared(gymnasium.Wrapper):
    """One robot for the training and its evaluations; tells of every episode of the training."""

    def __init__(self, env: gymnasium.Env, told: Callable[[dict[str, Any]], None]):
        super().__init__(env)
        self.told = told
        self.robot = cast(Any, env.unwrapped)
        self.person = self.robot.person
        self.evaluating = False
        self._seed: int | None = None
        self._own: list[bool] = []  # whose each step was
        self._late: list[float] = []
        self._reset_s = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if not self.evaluating:
            self._seed, self._own, self._late = seed, [], []
        began = time.monotonic()
        found = self.env.reset(seed=seed, options=options)
        self._reset_s = time.monotonic() - began
        return found

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self.evaluating and (terminated or truncated):
            self.told({"evaluation": True, "success": bool(info["success"]), "stop": info["stop"]})
        if not self.evaluating:
            self._own.append(info["source"] != HUMAN)
            self._late.append(info["late_ns"] / 1e6)
            if terminated or truncated:
                self._tell(info)
        return observation, reward, terminated, truncated, info

    def alone(self, evaluating: bool) -> None:
        """Begin to evaluate without the person; or go back to where the training waits."""
        self.evaluating = evaluating
        self.robot.person = None if evaluating else self.person
        if not evaluating and self._seed is not None:
            # The collector has reset already and acts on what it saw then: bring that about again.
            self.env.reset(seed=self._seed)

    def close(self) -> None:
        """Stay: whoever opened the robot closes it."""

    def _tell(self, info: dict[str, Any]) -> None:
        late = np.array(self._late)
        self.told(
            {
                "steps": len(self._own),
                "success": bool(info["success"]),
                "intervention": 1 - float(np.mean(self._own)),
                "stop": info["stop"],
                "rate_hz": round(self.robot.measured_rate(), 3),
                "late": int((late > LATE_MS).sum()),
                "latest_ms": round(float(late.max()), 2),
                "seconds": round(len(self._own) / self.robot.measured_rate(), 3),
                "reset_s": round(self._reset_s, 3),
            }
        )


class OnTheSameRobot(Evaluator):
    """Evaluates on the robot that is trained on, in between."""

    def __call__(
        self,
        policy: Policy,
        video: Path | None = None,
        done: Callable[[int], None] = lambda episodes: None,
    ) -> Evaluation:
        robot: Any = self.environment()
        robot.alone(True)
        try:
            return super().__call__(policy, video, done)
        finally:
            robot.alone(False)


class Episodes:
    """The rows of all episodes, those that a stopped run had not saved left out."""

    def __init__(self, path: Path, run: Run):
        self.path, self.run = path, run
        rows = [json.loads(row) for row in path.read_text().splitlines()] if path.exists() else []
        self.rows = [row for row in rows if row["env_step"] <= run.counters.env_step]
        self._write()

    def __call__(self, row: dict[str, Any]) -> None:
        self.rows.append({"env_step": self.run.counters.env_step + row.get("steps", 0), **row})
        self._write()

    def _write(self) -> None:
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        partial.replace(self.path)


def finetune(directory: Path, overrides: Sequence[str]) -> None:
    """Run or continue one training on one robot; it has an end in `summary.json`."""
    sys.setswitchinterval(SWITCH_S)
    cfg = compose([*overrides, f"run_dir={directory}"])
    known = (directory / "config.yaml").exists()
    if known:  # but for where the robot is today
        where = cfg.env
        cfg = load_config(directory)
        cfg.env = where
    run = build.run(cfg, directory)
    if not known:
        write_identity(cfg, directory)
    if run.checkpoints.exist():
        run.resume()
    robot = Shared(build.environment(cfg.env)(), Episodes(directory / EPISODES, run))
    run.environment = lambda: robot
    run.evaluator = OnTheSameRobot(
        run.environment, episodes=cfg.evaluation.episodes, seed=cfg.evaluation.seed
    )
    try:
        run.execute(build.phases(cfg))
    finally:
        run.close()
        robot.env.close()


if __name__ == "__main__":
    finetune(Path(sys.argv[1]), sys.argv[2:])
