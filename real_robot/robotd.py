"""robotd: the process between everybody and the arm. `python -m real_robot.robotd ROBOT`.

Ends with SIGTERM or Ctrl-C, after a controlled stop.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import json
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from real_robot import descriptor, keys, realtime
from real_robot.client import host_port
from real_robot.clock import MonotonicClock, VirtualClock
from real_robot.daemon import Daemon
from real_robot.descriptor import RobotDescriptor
from real_robot.driver import DriverLost, RobotDriver
from real_robot.loop import Loop, at_rest
from real_robot.recorder import Noted, Recorder
from real_robot.snapshot import snapshot
from real_robot.watch import Heartbeats, default_path, orphaned
from real_robot.wire import Server
from robo_offline.errors import UserError

ADDRESS = "tcp://127.0.0.1:7810"  # this machine alone, unless told otherwise
PRIORITY = 50
SWITCH_S = 1e-4  # that a thread of ours may keep the interpreter while the loop waits for it


@dataclass(frozen=True)
class Options:
    """Where everything of a robotd is."""

    bind: str = ADDRESS
    keys: Path = field(default_factory=keys.default_folder)
    record: Path = Path("incidents")
    heartbeat: Path | None = None
    connect_s: float = 10.0
    parent: int | None = None  # without which robotd ends


def serve(driver: RobotDriver, options: Options, say: Callable[[str], None] = print) -> int:
    """Run a robot until a signal; return 0 where the arm was left at rest.

    UserError where it cannot begin: no keys, no port, no arm, or another robotd.
    """
    robot = driver.descriptor
    ended: list[str] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _: ended.append(signal.Signals(n).name))
    clock, now = MonotonicClock(), VirtualClock()
    now.sleep_until_ns(clock.now_ns())
    with contextlib.ExitStack() as stack:
        path = options.heartbeat or default_path(robot.name)
        hearts = Heartbeats(path)
        stack.callback(hearts.close)
        if not hearts.claim():
            raise UserError(
                f"a robotd for '{robot.name}' runs already", found=f"process {hearts.pid}"
            )
        recorder = Recorder(
            path.with_suffix(".ring"), options.record, robot.timing.servo_hz, snapshot
        )
        stack.callback(recorder.close)
        server = Server(
            options.bind,
            keys.robotd_pair(options.keys),
            keys.Allowed(options.keys),
            rate_hz=robot.timing.servo_hz,
        )
        stack.callback(server.close)
        noted = Noted(driver)
        daemon = Daemon(noted, now)
        daemon.connect(options.connect_s)
        stack.callback(driver.close)
        now.sleep_until_ns(clock.now_ns())
        daemon.fresh_ns = now.now_ns()  # connecting may have taken long
        hearts.listen(host_port(server.address)[1])
        loop = Loop(daemon, now, noted, server, recorder, hearts, clock)
        sys.setswitchinterval(SWITCH_S)
        say(realtime.lock_memory())
        say(realtime.go_first(PRIORITY))
        say(f"{robot.name} ({robot.hash[:12]}) at {server.address}")
        try:
            loop.run(lambda: _end(ended, options.parent))
        except BaseException:
            # Whatever it was, nobody knows any more what was to be sent: robotwatch acts as well.
            with contextlib.suppress(DriverLost):
                driver.protective_stop()
            recorder.freeze("robotd failed", daemon)
            say(traceback.format_exc())
            return 1
        rests = at_rest(daemon)
        if rests:
            hearts.bye()
        say(f"{daemon.machine.state.value} {daemon.machine.stop_reason}".strip())
        say(f"ticks skipped: {loop.skipped}, latest by {loop.worst_ns / 1e6:.1f} ms")
        return 0 if rests else 1


def _end(ended: Sequence[str], parent: int | None) -> str:
    return ended[0] if ended else "who started it is gone" if orphaned(parent) else ""


def tightened(robot: RobotDescriptor, path: Path | None) -> RobotDescriptor:
    """Return the robot with the limits of a JSON file in place of its own. UserError where one is
    looser, unknown, or none that a robot can have."""
    if path is None:
        return robot
    try:
        limits = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError("the limits cannot be read", where=path, found=error) from None
    if not isinstance(limits, dict):
        raise UserError("limits are a table", where=path, found=type(limits).__name__)
    whole = json.loads(descriptor.dump(robot))
    whole["limits"] |= limits
    found = descriptor.parse(json.dumps(whole), str(path))
    robot.limits.tightened(found.limits)
    return found


def driver_of(robot: RobotDescriptor, address: str | None) -> RobotDriver:
    """Build a robot's driver. UserError where there is none, or it needs an address."""
    try:
        module = importlib.import_module(f"real_robot.drivers.{robot.driver}")
        build = module.Driver
    except (ImportError, AttributeError) as error:
        raise UserError(f"the driver '{robot.driver}' cannot be used", found=error) from None
    arguments = (robot,) if address is None else (robot, address)
    try:
        inspect.signature(build).bind(*arguments)
    except TypeError:
        raise UserError(f"'{robot.name}' is reached by --driver-address") from None
    found: RobotDriver = build(*arguments)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run robotd; 0 where it left the arm at rest, 2 where it could not begin."""
    parser = argparse.ArgumentParser("python -m real_robot.robotd", description=__doc__)
    parser.add_argument("robot", help="name or file of a robot")
    parser.add_argument("--driver-address", help="of the arm")
    parser.add_argument("--keys", type=Path, default=keys.default_folder(), help="%(default)s")
    parser.add_argument("--bind", default=ADDRESS, help="%(default)s and the two ports after it")
    parser.add_argument("--record", type=Path, default=Path("incidents"), help="%(default)s")
    parser.add_argument("--limits", type=Path, help="JSON with limits that are tighter")
    parser.add_argument("--heartbeat", type=Path, help="shared with robotwatch")
    parser.add_argument("--connect-s", type=float, default=10.0, help="that the arm may take")
    parser.add_argument("--parent", type=int, metavar="PID", help="end with this process")
    given = parser.parse_args(argv)
    try:
        robot = tightened(descriptor.load(given.robot), given.limits)
        driver = driver_of(robot, given.driver_address)
        options = Options(
            bind=given.bind,
            keys=given.keys,
            record=given.record,
            heartbeat=given.heartbeat,
            connect_s=given.connect_s,
            parent=given.parent,
        )
        return serve(driver, options, _say)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} robotd: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
