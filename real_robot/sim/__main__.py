"""Start a simulated arm: `python -m real_robot.sim --robot sim`. Ends with SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from real_robot.descriptor import RobotDescriptor, load
from real_robot.drivers.sim import default_address
from real_robot.realtime import go_first
from real_robot.sim import models
from real_robot.sim.arm import HOLD_AFTER_S, SimArm
from real_robot.sim.line import Trouble
from real_robot.sim.scene import Finger, Scene
from real_robot.sim.server import Server, orphaned
from robo_offline.errors import UserError

PRIORITY = 40  # behind robotd's


def parser() -> argparse.ArgumentParser:
    """Return what is understood."""
    found = argparse.ArgumentParser("python -m real_robot.sim", description=__doc__)
    found.add_argument("--robot", default="sim", help="name or file of the robot")
    found.add_argument("--address", default=default_address(), help="ipc://PATH; default %(default)s")  # noqa: E501  # fmt: skip
    scene = found.add_argument_group(
        "scene", "default: robosuite's Panda where it is installed and fits, else capsules"
    )
    which = scene.add_mutually_exclusive_group()
    which.add_argument("--capsules", action="store_true", help="from the robot's file alone")
    which.add_argument("--mjcf", type=Path, metavar="FILE", help="any model with these joints")
    which.add_argument("--robosuite", metavar="TASK", help="a robosuite task, for example Lift")
    which.add_argument("--hole", type=float, nargs=3, metavar=("X", "Y", "Z"),
                       help="capsules with a peg, and a plate whose hole is here, m")  # fmt: skip
    scene.add_argument("--cube", type=float, nargs=3, metavar=("X", "Y", "Z"), help="m")
    scene.add_argument("--seed", type=int, default=0, help="of the task's first episode")
    scene.add_argument("--tool", help="of --mjcf: site or body at the tool's point")
    scene.add_argument("--base", help="of --mjcf: body that the chain begins at")
    scene.add_argument(
        "--finger",
        type=_finger,
        action="append",
        default=[],
        metavar="ACTUATOR:CLOSED:OPEN",
        help="of --mjcf; may be repeated",
    )
    scene.add_argument(
        "--object",
        action="append",
        default=[],
        metavar="BODY",
        help="of --mjcf: its pose is told with the state; may be repeated",
    )
    line = found.add_argument_group("connection")
    line.add_argument("--latency-ms", type=float, default=0.0)
    line.add_argument("--jitter-ms", type=float, default=0.0)
    line.add_argument("--dropped", type=float, default=0.0, help="share of ticks")
    line.add_argument("--hold-after-s", type=float, default=HOLD_AFTER_S,
                      help="without a tick the arm brakes; default %(default)s")  # fmt: skip
    found.add_argument("--first", action="store_true",
                       help="scheduled like hardware, which shares no processor")  # fmt: skip
    found.add_argument("--parent", type=int, metavar="PID", help="end with this process")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run until something ends it; return the exit status."""
    options = parser().parse_args(argv)
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _: ended.append(n))
    try:
        robot = load(options.robot)
        arm = SimArm(robot, _scene(robot, options), hold_after_s=options.hold_after_s)
        arm.trouble(Trouble(options.latency_ms / 1e3, options.jitter_ms / 1e3, options.dropped))
        server = Server(arm, options.address)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    parent = options.parent
    print(f"{robot.name}: simulated arm at {options.address}", flush=True)
    if options.first:
        print(go_first(PRIORITY), flush=True)
    server.run(lambda: not ended and (parent is None or not orphaned(parent)))
    return 0


def _scene(robot: RobotDescriptor, options: argparse.Namespace) -> Scene:
    if options.robosuite:
        from real_robot.sim.robosuite_scene import RobosuiteScene

        return RobosuiteScene(robot, options.robosuite, options.seed)
    if options.mjcf:
        if not options.tool:
            raise UserError("a model has no tool by itself", remedy="--tool SITE_OR_BODY")
        return models.from_file(
            robot,
            options.mjcf,
            tool=options.tool,
            base=options.base,
            fingers=options.finger,
            objects=options.object,
            cube_m=options.cube,
        )
    if options.hole:
        return models.capsules(robot, options.cube, options.hole)
    build: Callable[..., Scene] = models.capsules if options.capsules else models.default
    return build(robot, options.cube)


def _finger(text: str) -> Finger:
    try:
        name, closed, opened = text.rsplit(":", 2)
        return Finger(name, float(closed), float(opened))
    except ValueError:
        raise argparse.ArgumentTypeError(f"ACTUATOR:CLOSED:OPEN was expected, not {text}") from None


if __name__ == "__main__":
    sys.exit(main())
