"""robo-offline deploy: a bundle acts on a robot, in stages, and leaves a report and the episodes.

robo-offline deploy BUNDLE robot=sim --stage shadow
robo-offline deploy BUNDLE robot=sim --stage limited --calibrate DATASET --episodes 10
robo-offline deploy BUNDLE env=robot/rehearsal --stage full --calibrate DATASET

Beside each report lie its page and a folder that `robo-offline data import` reads.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from robo_offline.config import compose
from robo_offline.errors import UserError

CELL = "env=robot/cell"
EVERY = 2  # steps per video frame


def main(arguments: Sequence[str]) -> int:
    """Play the episodes; 0 where they were played, 1 where the policy was replaced."""
    from real_robot.deploy import STAGES, Deployment, Outcome

    parser = argparse.ArgumentParser(
        "robo-offline deploy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=Path, help="folder that robo-offline export wrote")
    parser.add_argument("override", nargs="*", help="robot=NAME, env=robot/..., env.KNOB=VALUE")
    parser.add_argument("--stage", choices=sorted(STAGES), default="shadow")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--trusted-key", type=Path, help="public key of who must have signed")
    parser.add_argument("--calibrate", metavar="DATASET", help="successful episodes to be like")
    parser.add_argument("--alpha", type=float, default=0.05, help="false alarms, per episode")
    parser.add_argument("--certified", type=Path, help="bundle to fall back on")
    parser.add_argument("--floor", type=float, help="success rate under which that happens")
    parser.add_argument("--out", type=Path, default=Path("deployments"))
    parser.add_argument("--json", action="store_true", help="print the report as one line")
    options = parser.parse_intermixed_args(list(arguments))
    if options.episodes < 1:
        raise UserError("at least one episode is played", found=options.episodes)

    from real_robot.env import RealRobotEnv
    from real_robot.episodes import Kept
    from real_robot.ood import Gate
    from robo_offline import build
    from robo_offline.report import deployment as page

    policy = _bundle(options.bundle, options.trusted_key)
    certified = _bundle(options.certified, options.trusted_key) if options.certified else None
    gate = None
    if options.calibrate:
        gate = Gate.calibrate(_successes(options.calibrate), options.alpha)
    cfg = compose(_overrides(options.override), config="collect")
    with closing(build.environment(cfg.env)()) as env:
        robot: Any = env.unwrapped
        if not isinstance(robot, RealRobotEnv):
            raise UserError(
                "this environment is no robot", found=cfg.env._target_, remedy="env=robot/cell"
            )
        path = _path(options.out)
        episodes = path.with_suffix("") / "episodes"
        deployment = Deployment(
            Kept(env, episodes, OmegaConf.to_container(cfg.env, resolve=True)),  # type: ignore[arg-type]
            policy,
            STAGES[options.stage],
            gate=gate,
            certified=certified,
            floor=options.floor,
        )
        count = 0

        def told(outcome: Outcome) -> None:
            nonlocal count
            count += 1
            how = "success" if outcome.success else outcome.stop or "no success"
            rate = f"{outcome.rate_hz:.2f} Hz"
            held = f", held {outcome.held} steps" if outcome.held else ""
            print(f"{count}/{options.episodes}  {how}, {outcome.steps} steps at {rate}{held}")
            deployment.save(path)

        deployment.run(options.episodes, told)
        video = page.film(episodes, episodes.with_suffix(".mp4"), _drawn(robot))
    report = deployment.report()
    _tell(report, path, print)
    print(f"page: {page.write(path, episodes, video)}")
    if any(episodes.glob("*.spool")):
        print(f"next: robo-offline data import {path.with_suffix('')} --to NAME")
    if options.json:
        print(json.dumps(report))
    return 1 if report["fell_back"] else 0


def _drawn(robot: Any) -> Callable[[Any], Iterable[np.ndarray]]:
    """Return what makes images (H, W, 3) of an episode: the first camera's, or drawn."""

    def draw(one: Any) -> Iterable[np.ndarray]:
        if robot.cameras:
            return one.observation[next(iter(robot.cameras))][::EVERY].transpose(0, 2, 3, 1)
        from real_robot.sim.film import Film

        film = Film(robot.robot, getattr(robot.bring, "scene", {}))
        try:
            return list(film.frames(one.joints[::EVERY]))
        finally:
            film.close()

    return draw


def _overrides(given: Sequence[str]) -> list[str]:
    found = [f"env.{o}" if o.startswith("robot=") else o for o in given]
    return found if any(o.startswith("env=") for o in found) else [CELL, *found]


def _bundle(path: Path, key: Path | None) -> Any:
    from real_robot.runtime import Refused, load_bundle

    try:
        return load_bundle(path, key)
    except Refused as refused:
        raise UserError(
            refused.what,
            where=refused.where or path,
            expected=refused.expected,
            found=refused.found,
        ) from refused


def _successes(name: str) -> list[np.ndarray]:
    """Return the observations (T, D) of a data set's successful episodes."""
    from robo_offline.datasets import load

    steps = load(name).steps
    observation = steps["observation"]
    if not hasattr(observation, "numpy"):
        observation = observation["state"]
    ends = steps["final"].nonzero().squeeze(-1).tolist()
    begins = [0, *(end + 1 for end in ends[:-1])]
    spans = [slice(a, b + 1) for a, b in zip(begins, ends, strict=True)]
    won = [span for span in spans if bool(steps["success"][span].any())]
    return [observation[span].numpy() for span in won]


def _path(folder: Path) -> Path:
    """Return a file of its own for this deployment's report."""
    folder.mkdir(parents=True, exist_ok=True)
    number = sum(1 for _ in folder.glob("*.json"))
    while (path := folder / f"{number:04d}.json").exists():
        number += 1
    return path


def _tell(report: dict[str, Any], path: Path, say: Callable[[str], None]) -> None:
    rate, low, high = report["success"]
    if report["stage"] != "shadow" and rate is not None:
        say(f"success: {rate:.0%} [{low:.0%}, {high:.0%}] of {report['episodes']} episodes")
    for name in ("latency_ms", "shadow_difference"):
        if report[name]:
            say(f"{name}: " + ", ".join(f"{k} {v}" for k, v in report[name].items()))
    say(f"interventions: {report['interventions']} steps, held: {report['held']}")
    if report["fell_back"]:
        say(f"fell back on the certified policy {report['fell_back']}")
    say(f"report: {path}")
