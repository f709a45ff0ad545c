"""robotwatch: a second process that stops the arm when robotd does not.

Both write their heartbeats into one small mapped file. robotd stops the arm when robotwatch's ends
(`Daemon.beat`); robotwatch calls the vendor's own stop when robotd's ends, be it killed, stopped or
hanging in a driver, and repeats it until robotd beats again.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from real_robot import memory, realtime
from real_robot.clock import Clock, MonotonicClock, ns
from real_robot.descriptor import RobotDescriptor, load
from robo_offline.errors import UserError

LOOKED_S = 0.005
LIMIT_S = 0.1  # without a heartbeat of robotd
REPEATED_S = 0.1
LEAVING_S = 3.0  # that robotwatch waits for robotd when both are asked to end
PRIORITY = 60  # above robotd's
SIZE = 4_096


class Heartbeats:
    """The file. Each number has one writer, and is written by the processor as a whole."""

    _PID, _BEATS, _BYE, _WATCH_NS, _PORT = range(5)

    def __init__(self, path: Path):
        """Open it, or make it. UserError where that is not possible."""
        self.file, self._map = memory.opened(path, SIZE)
        self._numbers = memoryview(self._map).cast("q")

    def claim(self) -> bool:
        """Say whether this process is now the only robotd here."""
        if not memory.claim(self.file):
            return False
        self._numbers[self._PID] = os.getpid()
        self._numbers[self._BYE] = self._numbers[self._PORT] = 0
        return True

    def listen(self, port: int) -> None:
        """robotd can be talked to at this port."""
        self._numbers[self._PORT] = port

    def beat(self) -> None:
        """robotd lives."""
        self._numbers[self._BEATS] += 1

    def bye(self) -> None:
        """robotd ends, with the arm at rest."""
        self._numbers[self._BYE] = 1

    def watch(self, now_ns: int) -> None:
        """robotwatch lives."""
        self._numbers[self._WATCH_NS] = now_ns

    @property
    def pid(self) -> int:
        return self._numbers[self._PID]

    @property
    def beats(self) -> int:
        return self._numbers[self._BEATS]

    @property
    def gone(self) -> bool:
        return self._numbers[self._BYE] != 0

    @property
    def port(self) -> int:
        return self._numbers[self._PORT]

    @property
    def watch_ns(self) -> int:
        return self._numbers[self._WATCH_NS]

    def close(self) -> None:
        """Let go of the file, which stays."""
        self._numbers.release()
        self._map.close()
        os.close(self.file)


@dataclass
class Guard:
    """Decides when the arm must be stopped, from counts alone."""

    limit_ns: int = ns(LIMIT_S)
    repeat_ns: int = ns(REPEATED_S)
    beats: int | None = None
    alive: bool = False  # a robotd has been seen to beat
    silent_ns: int = 0
    looked_ns: int = 0
    stopped_ns: int | None = None  # the last time, while robotd is silent

    def look(self, now_ns: int, beats: int, gone: bool) -> bool:
        """Say whether to stop the arm now."""
        # A machine that stood still as a whole proves nothing about robotd: however long it was
        # since the last look, it counts as a few.
        passed = min(now_ns - self.looked_ns, 4 * ns(LOOKED_S))
        self.looked_ns = now_ns
        if beats != self.beats or gone:
            self.alive = self.beats is not None and not gone
            self.beats, self.silent_ns, self.stopped_ns = beats, 0, None
            return False
        if not self.alive:
            return False
        self.silent_ns += passed
        if self.silent_ns <= self.limit_ns:
            return False
        if self.stopped_ns is not None and now_ns - self.stopped_ns < self.repeat_ns:
            return False
        self.stopped_ns = now_ns
        return True


def watch(
    path: Path,
    stop: Callable[[], None],
    ending: Callable[[], bool],
    clock: Clock | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Watch until `ending`; then until robotd has ended too, for a while."""
    clock = clock or MonotonicClock()
    hearts, guard = Heartbeats(path), Guard()
    silent, deadline = False, clock.now_ns()
    leave: int | None = None
    while True:
        clock.sleep_until_ns(deadline)
        now = clock.now_ns()
        hearts.watch(now)
        if guard.look(now, hearts.beats, hearts.gone):
            if not silent:
                say(f"robotd has been silent for {guard.silent_ns / 1e6:.0f} ms: stopping the arm")
            silent = True
            try:
                stop()
            except Exception as error:  # whatever it is, the next try comes soon
                say(f"the emergency stop failed: {type(error).__name__}: {error}")
        elif silent and guard.stopped_ns is None:
            say("robotd has ended" if hearts.gone else "robotd is back")
            silent = False
        if leave is None and ending():
            leave = now + ns(LEAVING_S)
        if leave is not None and (hearts.gone or not hearts.pid or now > leave):
            break
        deadline = max(deadline + ns(LOOKED_S), clock.now_ns())
    hearts.close()


def stopper(
    robot: RobotDescriptor, address: str | None, path: Path, say: Callable[[str], None]
) -> Callable[[], None]:
    """Return what stops this robot without robotd. UserError where its driver has nothing."""
    try:
        module = importlib.import_module(f"real_robot.drivers.{robot.driver}")
        emergency_stop = module.emergency_stop
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"robotwatch cannot stop a robot with the driver '{robot.driver}'", found=error
        ) from None

    def stop() -> None:
        try:
            emergency_stop(address)
        except Exception as error:  # the vendor has no such way, or it fails
            # Its connection to the arm ends with robotd, and then most arms stop by themselves.
            killed = "and it is killed" if _kill(path) else "and it is dead already"
            say(f"the arm has no stop but robotd's end, {killed}: {error}")

    return stop


def _kill(path: Path) -> bool:
    """End robotd; say whether it was there."""
    hearts = Heartbeats(path)
    try:
        there = hearts.pid > 0 and not memory.claim(hearts.file)  # else the number may be another's
        if there:
            os.kill(hearts.pid, signal.SIGKILL)
        return there
    finally:
        hearts.close()


def default_path(robot: str) -> Path:
    """Return where this user's heartbeats of a robot are."""
    return memory.place(f"{robot}.heartbeats")


def orphaned(parent: int | None) -> bool:
    """Say whether the process that started this one is gone."""
    return parent is not None and os.getppid() != parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run robotwatch."""
    parser = argparse.ArgumentParser("python -m real_robot.watch", description=__doc__)
    parser.add_argument("robot", help="name or file of a robot")
    parser.add_argument("--driver-address")
    parser.add_argument("--heartbeat", type=Path, help="shared with robotd")
    parser.add_argument("--parent", type=int, metavar="PID", help="end with this process")
    options = parser.parse_args(argv)
    try:
        robot = load(options.robot)
        path = options.heartbeat or default_path(robot.name)
        stop = stopper(robot, options.driver_address, path, _say)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    ended: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        ended.append(number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    _say(realtime.lock_memory())
    _say(realtime.go_first(PRIORITY))
    _say(f"watching {path}")
    parent = options.parent
    watch(path, stop, lambda: bool(ended) or orphaned(parent), say=_say)
    return 0


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} robotwatch: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
