"""Wild episodes on faulty arms, recorded as robotd records them, to be read and run again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np

from real_robot.clock import SECOND, VirtualClock, ns
from real_robot.daemon import Daemon, Tick
from real_robot.descriptor import RobotDescriptor, load
from real_robot.drivers.arithmetic import ArithmeticArm
from real_robot.drivers.fault import Fault, Faulty, frozen, no_answer, stuck, touched, wrong
from real_robot.drivers.replay import difference, rerun
from real_robot.record import Record, Snapshot, read
from real_robot.recorder import Noted, Recorder
from real_robot.snapshot import snapshot
from real_robot.testing.fuzz import Wild, confined
from real_robot.testing.monitor import Monitor, Watched

EVERY_S = 0.3  # that something goes wrong


def mishaps(
    random: np.random.Generator, first_ns: int, robot: RobotDescriptor, every_s: float = EVERY_S
) -> Iterator[Fault]:
    """Let something go wrong every so often, each time in another way, without end."""
    dof = robot.dof
    for k in count():
        begin = first_ns + ns((k + 1) * every_s + random.uniform(0, every_s / 3))
        end = begin + ns(random.uniform(0.004, 0.1))
        kinds = [
            no_answer(begin, end),
            stuck(begin, end + ns(0.3), 0, 2),
            wrong(begin, end, q=np.full(dof, np.nan)),
            no_answer(begin, end, "write"),
            wrong(begin, end, estop=True),
            touched(begin, end, [60, 0, 0, 0, 0, 0]),
            no_answer(begin, end + ns(0.2), "clear_fault", "controlled_stop"),
            wrong(begin, end, dq=np.zeros(dof - 1)),
            frozen(begin, end),
            wrong(begin, end, fault="joint 3: communication"),
        ]
        yield kinds[k % len(kinds)]


class Flight:
    """One robot, a wild commander, a faulty arm, a monitor and a flight record."""

    def __init__(self, folder: Path, name: str = "sim", seed: int = 0, every_s: float = EVERY_S):
        self.random = random = np.random.default_rng(seed)
        self.robot = confined(load(name), random)
        self.clock = VirtualClock(ns(1000.0))
        self.arm, self.monitor = ArithmeticArm(self.robot, self.clock, 0.7), Monitor(self.robot)
        self.faulty = Faulty(self.arm, self.clock)
        self._coming = mishaps(random, self.clock.now_ns(), self.robot, every_s)
        self._next = next(self._coming)
        watched = Watched(self.faulty, self.clock, self.monitor)
        self.noted, numbers = Noted(watched), count(int(random.integers(1, 2**60)))
        self.daemon = Daemon(self.noted, self.clock, draw=lambda: next(numbers))
        self.recorder = Recorder(folder / "ring", folder, self.robot.timing.servo_hz, snapshot)
        self.daemon.connect(1.0)
        self.wild = Wild(self.daemon, random, spite=0.05)
        self.watcher_ns = self.clock.now_ns()
        self.faults = self._idle = 0

    def tick(self) -> Tick:
        """Let a tick pass, a little late."""
        random = self.random
        late = int(random.exponential(ns(0.001)))
        self.clock.advance(self.robot.tick_ns + late)
        now = self.clock.now_ns()
        if self._next.begin_ns <= now + SECOND:
            self.faulty.plan = [f for f in self.faulty.plan if f.end_ns > now] + [self._next]
            self._next, self.faults = next(self._coming), self.faults + 1
        self.noted.begin()
        if random.random() < 0.98:
            self.watcher_ns = now - int(random.integers(ns(0.02)))
        self.daemon.beat(self.watcher_ns)
        stops = ["robotd was asked to end"] if random.random() < 0.001 else []
        for reason in stops:
            self.daemon.stop(reason)
        tick = self.daemon.tick(self.wild.inbox(), late)
        said = {"measured": self.noted.measured, "lost": self.noted.lost, "stops": stops}
        self.recorder.write(self.daemon, tick, said | {"watcher_ns": self.watcher_ns})
        self.arm.fault = "" if tick.state.latched else self.arm.fault
        # Where it cannot be armed, somebody takes it home by hand; and nothing piles up.
        self._idle = self._idle + 1 if tick.state.value == "idle" else 0
        if self._idle > 50:
            self.arm.q, self._idle = np.array(self.robot.home_rad), 0
        self.arm.sent.clear()
        self.arm.stops.clear()
        return tick

    def fly(self, ticks: int) -> Record:
        """Let so many ticks pass; return what the record holds of them."""
        for _ in range(ticks):
            self.tick()
        return read(self.recorder.path)

    def close(self) -> None:
        """End the record."""
        self.recorder.close()


def replayed(record: Record, frame: Snapshot) -> list[str]:
    """Run a record again from a snapshot on; return what came out otherwise, tick by tick."""
    ticks = [tick for tick in record.ticks if tick.number > frame.after]
    again = rerun(frame.daemon, ticks)
    return [difference(was, now) for was, now in zip(ticks, again, strict=True)]
