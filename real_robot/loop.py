"""robotd's loop: one tick per period on absolute deadlines, and nothing in it that can wait.

A deadline that was missed is skipped and counted; ticks are never made up for in a burst. No
logging, no files, no collection of garbage while anything moves.
"""

from __future__ import annotations

import gc
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from typing import Any

from real_robot.clock import SECOND, Clock, VirtualClock, ns
from real_robot.daemon import Daemon, Tick
from real_robot.machine import State
from real_robot.recorder import Noted, Recorder
from real_robot.telling import published
from real_robot.verdict import Reason
from real_robot.watch import Heartbeats
from real_robot.wire import Server

# Upper ends of the histogram of lateness, in ns; later ones are in its last bin.
LATE_NS = tuple(1000 * us for us in (50, 100, 200, 500, 1000, 2000, 4000, 8000, 16000, 50000))
PUBLISHED_HZ = 250.0  # at most
COLLECTED_S = 5.0  # between two collections of garbage, when nothing is commanded
INTERVENTIONS = 5  # that are told
ENDING_S = 1.0  # longer than the stop's own bound


class Loop:
    """A daemon with its wire, record and heartbeat."""

    def __init__(
        self,
        daemon: Daemon,
        time: VirtualClock,
        noted: Noted,
        server: Server,
        recorder: Recorder,
        hearts: Heartbeats,
        clock: Clock,
    ):
        """`time` is the daemon's own clock: it is moved before each tick and stands still in it,
        so that a tick can be run again to the nanosecond."""
        self.daemon, self.time, self.noted = daemon, time, noted
        self.server, self.recorder, self.hearts, self.clock = server, recorder, hearts, clock
        self.period_ns = daemon.robot.tick_ns
        self.skipped = 0
        self.worst_ns = 0
        self.late = [0] * (len(LATE_NS) + 1)
        self.asked_to_stop = ""  # by a signal
        self.interventions: deque[list[Any]] = deque(maxlen=INTERVENTIONS)  # [ns, who, reason]
        self._every = -(-daemon.robot.timing.servo_hz // PUBLISHED_HZ)
        self._turns = 0
        self._frozen = daemon.machine.stop_id
        self._collected_ns = 0

    def run(self, ending: Callable[[], str]) -> None:
        """Turn until `ending` gives a reason; then stop the arm, and turn until it rests."""
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            self._run(ending)
        finally:
            gc.unfreeze()
            gc.enable()

    def _run(self, ending: Callable[[], str]) -> None:
        deadline = self.clock.now_ns() + self.period_ns
        leave: int | None = None
        while True:
            late = self.clock.sleep_until_ns(deadline)
            self.turn(late)
            missed = late // self.period_ns
            self.skipped += missed
            deadline += self.period_ns * (1 + missed)
            if leave is None:
                if why := ending():
                    self.asked_to_stop = f"robotd was asked to end: {why}"
                    leave = self.clock.now_ns() + ns(self.daemon.robot.stop_bound_s + ENDING_S)
            elif not self.daemon.machine.state.commanding or self.clock.now_ns() > leave:
                return

    def turn(self, late_ns: int) -> Tick:
        """Do one tick with all that belongs to it."""
        daemon = self.daemon
        inbox = self.server.receive()
        self.noted.begin()
        self.time.sleep_until_ns(self.clock.now_ns())
        now = self.time.now_ns()
        watcher = min(self.hearts.watch_ns, now)  # a time to come would never be over
        daemon.beat(watcher)
        stops = []
        if self.asked_to_stop and daemon.machine.state.commanding:
            stops.append(self.asked_to_stop)
            daemon.stop(self.asked_to_stop)
            self.asked_to_stop = ""
        tick = daemon.tick(inbox, late_ns)
        self.server.reply(tick.judgements)
        self._note(tick)
        if self._turns % self._every == 0:
            self.server.publish(published(daemon, tick) | {"loop": self._told()})
        self._turns += 1
        self.recorder.write(
            daemon,
            tick,
            {
                "measured": self.noted.measured,
                "lost": self.noted.lost,
                "watcher_ns": watcher,
                "stops": stops,
            },
        )
        if tick.state.latched and daemon.machine.stop_id != self._frozen:
            self._frozen = daemon.machine.stop_id
            self.recorder.freeze(daemon.machine.stop_reason, daemon)
        self.hearts.beat()
        if not tick.state.commanding and now - self._collected_ns > COLLECTED_S * SECOND:
            self._collected_ns = now
            gc.collect()
        return tick

    def _note(self, tick: Tick) -> None:
        self.late[bisect_right(LATE_NS, tick.late_ns)] += 1
        self.worst_ns = max(self.worst_ns, tick.late_ns)
        for judged in tick.judgements:
            if judged.reason is not Reason.NONE:
                name = self.server.allowed.names.get(judged.peer.key, "")
                self.interventions.append([tick.now_ns, name, int(judged.reason)])

    def _told(self) -> dict[str, Any]:
        lease = self.daemon.lease
        return {
            "hz": self.daemon.robot.timing.servo_hz,
            "skipped": self.skipped,
            "worst_ns": self.worst_ns,
            "late": self.late,
            "late_ns": LATE_NS,  # the ends of its bins
            "holder": self.server.allowed.names.get(lease.holder, ""),
            "interventions": list(self.interventions),
            "refused": self.server.counts,
            "records": self.recorder.counts,
            "operator_age_ns": self.daemon.clock.now_ns() - self.daemon.operator_ns,
            "watcher_age_ns": self.daemon.clock.now_ns() - self.daemon.watcher_ns,
            "state_age_ns": self.daemon.clock.now_ns() - self.daemon.fresh_ns,
        }


def at_rest(daemon: Daemon) -> bool:
    """Say whether the arm can be left: not ours, stopped in control, or seen to stand."""
    left = daemon.machine.state in (State.DISCONNECTED, State.IDLE, State.STOPPED)
    return left or daemon.standing()
