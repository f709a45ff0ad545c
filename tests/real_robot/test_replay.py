"""What was recorded is decided again, to the bit, from any snapshot on."""

from collections import Counter, deque
from dataclasses import fields, is_dataclass, replace

import msgpack
import numpy as np
import pytest

from real_robot.daemon import Daemon
from real_robot.drivers.replay import difference, rerun
from real_robot.machine import State
from real_robot.snapshot import restore, snapshot
from real_robot.testing.flight import Flight
from real_robot.verdict import REFUSING

TICKS = 1000
# What is built from the robot's file, or given anew.
BUILT = {"robot", "driver", "clock", "hash", "chain", "motion"}


class Episode:
    """A wild one that is over."""

    def __init__(self, tmp_path, name="sim", seed=0, ticks=TICKS):
        flight = Flight(tmp_path, name, seed)
        self.record, self.daemon = flight.fly(ticks), flight.daemon
        flight.close()

    def later(self, frame):
        return [tick for tick in self.record.ticks if tick.number > frame.after]


@pytest.fixture(scope="module")
def episode(tmp_path_factory):
    return Episode(tmp_path_factory.mktemp("record"))


def test_the_episode_is_wild_enough_to_prove_something(episode):
    states = Counter(tick.state for tick in episode.record.ticks)
    assert set(states) >= {State.ACTIVE, State.HOLD, State.STOPPING, State.STOPPED, State.FAULT}
    assert sum(bool(tick.lost) for tick in episode.record.ticks) > 2
    reasons = [reason for tick in episode.record.ticks for reason in tick.reasons]
    assert len({reason for reason in reasons if reason & REFUSING}) > 3
    assert len(episode.record.snapshots) >= 4 and not episode.record.lost


def test_a_wild_episode_is_decided_again_to_the_bit_from_every_snapshot_on(episode):
    for frame in episode.record.snapshots:
        ticks = episode.later(frame)
        again = rerun(frame.daemon, ticks)
        assert [(t.number, difference(t, a)) for t, a in zip(ticks, again, strict=True) if difference(t, a)] == []  # noqa: E501  # fmt: skip


def test_another_robot_is_decided_again_as_well(tmp_path):
    episode = Episode(tmp_path, "ur5e", seed=3, ticks=500)
    frame = episode.record.snapshots[0]
    ticks = episode.later(frame)
    assert len(ticks) > 400
    for recorded, again in zip(ticks, rerun(frame.daemon, ticks), strict=True):
        assert difference(recorded, again) == ""


def test_a_record_that_was_changed_is_found_out(episode):
    frame = episode.record.snapshots[0]
    ticks = episode.later(frame)
    moving = next(i for i, tick in enumerate(ticks) if tick.sent is not None and tick.sent.dq.any())
    setpoint = ticks[moving].setpoint
    nudged = replace(setpoint, q=np.nextafter(setpoint.q, np.inf))
    changed = list(ticks)
    changed[moving] = replace(ticks[moving], setpoint=nudged)
    found = [difference(t, a) for t, a in zip(changed, rerun(frame.daemon, changed), strict=True)]
    assert found[moving] == "setpoint" and not any(found[:moving])


def test_a_state_that_was_another_is_decided_otherwise(episode):
    frame = episode.record.snapshots[0]
    ticks = episode.later(frame)[:50]
    ticks[10] = replace(ticks[10], measured=replace(ticks[10].measured, estop=True))
    assert rerun(frame.daemon, ticks)[10].state is State.ESTOP


def equal(a, b):
    """Say whether two values are the same to the bit, whatever they hold."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if is_dataclass(a):
        skipped = "draw"
        return type(a) is type(b) and all(
            equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if f.name != skipped
        )
    if isinstance(a, list | tuple | deque):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("seed", range(6))
def test_nothing_of_a_daemon_is_missing_in_its_snapshot(seed, tmp_path):
    """Also nothing that is added to the daemon later."""
    daemon = Episode(tmp_path, seed=seed, ticks=40 + 25 * seed).daemon
    data = msgpack.unpackb(msgpack.packb(snapshot(daemon)), strict_map_key=False)
    fresh = Daemon(daemon.driver, daemon.clock)
    restore(fresh, data)
    assert set(vars(fresh)) == set(vars(daemon))
    missing = [n for n in set(vars(daemon)) - BUILT if not equal(getattr(daemon, n), getattr(fresh, n))]  # noqa: E501  # fmt: skip
    assert missing == []
    assert snapshot(fresh) == snapshot(daemon)


def test_limits_that_were_tightened_are_kept_in_a_snapshot(tmp_path):
    daemon = Episode(tmp_path, ticks=5).daemon
    daemon.tighten(replace(daemon.limits, tcp_v_max_m_s=0.1))
    fresh = Daemon(daemon.driver, daemon.clock)
    restore(fresh, msgpack.unpackb(msgpack.packb(snapshot(daemon))))
    assert fresh.limits == daemon.limits and fresh.limits != daemon.robot.limits
