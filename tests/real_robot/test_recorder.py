import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from real_robot.driver import DriverLost
from real_robot.machine import State
from real_robot.record import HEADER_BYTES, SLOT_BYTES, Layout, read
from real_robot.recorder import Noted, Recorder, slug
from real_robot.testing.still import POLICY, Cell
from robo_offline.errors import UserError

AWAY = np.array([0.2, 0.1, 0.0, 0.1, 0.0, 0.0, 0.1])
HZ = 5  # a ring of 65 ticks


class Flight:
    """A cell that is recorded."""

    def __init__(self, folder, hz=HZ, snapshot=None):
        self.cell = Cell()
        self.noted = self.cell.daemon.driver = Noted(self.cell.arm)
        self.ring, self.folder = folder / "ring", folder / "incidents"
        self.recorder = Recorder(self.ring, self.folder, hz, snapshot)

    def tick(self, *said):
        self.noted.begin()
        tick = self.cell.tick(*said)
        found = {
            "measured": self.noted.measured,
            "lost": self.noted.lost,
            "watcher_ns": self.cell.daemon.watcher_ns,
            "stops": [],
        }
        self.recorder.write(self.cell.daemon, tick, found)
        return tick

    def incident(self):
        until = time.monotonic() + 10
        while not (found := sorted(self.folder.iterdir())) or found[0].name.startswith("."):
            assert time.monotonic() < until
            time.sleep(0.01)
        return found[0]


@pytest.fixture
def flight(tmp_path):
    found = Flight(tmp_path)
    yield found
    found.recorder.close()


def test_a_tick_is_read_as_it_was_to_the_bit(flight):
    cell = flight.cell
    cell.ready()
    ticks = [flight.tick((POLICY, cell.command(cell.home + AWAY).encode())) for _ in range(5)]
    ticks.append(flight.tick((POLICY, b"nonsense")))
    found = read(flight.ring)
    assert [t.number for t in found.ticks] == [1, 2, 3, 4, 5, 6] and found.lost == ()
    for was, now in zip(ticks, found.ticks, strict=True):
        assert (now.now_ns, now.late_ns, now.seq) == (was.now_ns, was.late_ns, was.seq)
        assert now.state is was.state and now.motion == was.motion
        assert now.inbox == tuple((j.peer, j.raw) for j in was.judgements)
        assert now.reasons == tuple(j.reason for j in was.judgements)
        for a, b in [
            (now.setpoint.q, was.setpoint.q),
            (now.setpoint.a, was.setpoint.a),
            (now.measured.q, was.measured.q),
            (now.sent.q, was.sent.q),
            (now.sent.dq, was.sent.dq),
        ]:
            assert a.tobytes() == b.tobytes()


def test_what_the_daemon_refused_of_the_arm_is_recorded_too(flight):
    flight.tick()
    flight.cell.arm.q[0] = np.nan
    assert flight.tick().state is State.FAULT

    def read_nothing():
        raise DriverLost("the cable is out")

    read_nothing.__name__ = "read"
    flight.cell.arm.read = read_nothing
    flight.tick()
    _, nan, gone = read(flight.ring).ticks
    assert np.isnan(nan.measured.q[0])
    assert gone.measured is None and gone.lost == ("read: the cable is out",)


def test_a_full_ring_keeps_the_newest_ticks(flight):
    for _ in range(200):
        flight.tick()
    found = read(flight.ring)
    slots = flight.recorder.layout.slots
    assert [t.number for t in found.ticks] == list(range(201 - slots, 201))
    assert found.lost == ()


def test_a_ring_at_250_hz_holds_twelve_seconds(tmp_path):
    flight = Flight(tmp_path, hz=250)
    assert flight.recorder.layout.slots >= 12 * 250
    flight.recorder.close()


def test_messages_that_do_not_fit_are_cut_and_said_to_be(flight):
    long = b"\xc1" * 7000
    flight.tick((POLICY, long), (POLICY, b"short"), (POLICY, long))
    (found,) = read(flight.ring).ticks
    assert found.cut == (0, 2)
    assert found.inbox[1][1] == b"short" and found.inbox[0][1] == long[:256]


def test_any_command_that_a_robot_can_take_fits_whole(flight):
    cell = flight.cell
    cell.ready()
    targets = np.tile(cell.home, (64, 1)) + 1e-3
    raw = cell.command(targets, policy="p" * 256, t_rel_ns=tuple(range(9**10, 9**10 + 64))).encode()
    flight.tick((POLICY, raw))
    (found,) = read(flight.ring).ticks
    assert found.inbox[0][1] == raw and found.cut == ()


def test_snapshots_are_taken_once_a_second(tmp_path):
    flight = Flight(tmp_path, snapshot=lambda daemon: {"seq": daemon.seq})
    for _ in range(600):  # 2.4 s
        flight.tick()
    found = read(flight.ring).snapshots
    assert [s.after for s in found] == [s.daemon["seq"] for s in found] == [1, 251, 501]
    flight.recorder.close()


# ---- damage ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flown(tmp_path_factory):
    flight = Flight(tmp_path_factory.mktemp("flown"))
    for _ in range(100):
        flight.tick()
    ticks = flight.ring.read_bytes()[HEADER_BYTES : flight.recorder.layout.frames_at]
    flight.recorder.close()
    layout = Layout(flight.recorder.layout.slots, frames=1, frame_bytes=64)  # is written often
    header = layout.header(0).ljust(HEADER_BYTES, b"\0")
    return header + ticks + bytes(64) + header, layout


@settings(max_examples=80)
@given(some.data())
def test_a_flipped_bit_costs_one_tick_at_most_and_is_told(flown, tmp_path_factory, data):
    raw, layout = flown
    # Slots are mostly empty: look where something is written.
    at = data.draw(
        some.one_of(
            some.integers(0, len(raw) - 1),
            some.integers(0, 47),
            some.builds(
                lambda slot, byte: HEADER_BYTES + slot * SLOT_BYTES + byte,
                some.integers(0, layout.slots - 1),
                some.integers(0, 700),
            ),
        )
    )
    damaged = bytearray(raw)
    damaged[at] ^= 1 << data.draw(some.integers(0, 7))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(damaged)
    found = read(path)
    whole = set(range(101 - layout.slots, 101))
    left = {t.number for t in found.ticks}
    assert left <= whole and len(whole - left) <= 1
    told = {lost.number for lost in found.lost}
    # The oldest one might as well have been the next one, half written.
    assert all(n in told or n + layout.slots in told for n in whole - left)


@settings(max_examples=30)
@given(some.binary(max_size=300), some.integers(0, 2**16))
def test_any_bytes_are_read_or_refused(flown, tmp_path_factory, junk, at):
    raw, _ = flown
    path = tmp_path_factory.getbasetemp() / "junk"
    for found in (junk, raw[: at * 17], raw[:at] + junk + raw[at + len(junk) :]):
        path.write_bytes(found)
        try:
            assert len(read(path).ticks) <= 65
        except UserError as error:
            assert "no flight record" in str(error)


def test_a_whole_slot_of_another_version_is_told_and_skipped(flight):
    for _ in range(3):
        flight.tick()
    flight.recorder._put(2, b"\x81\xa3now\x01", HEADER_BYTES, flight.recorder.layout.slots, SLOT_BYTES)  # noqa: E501  # fmt: skip
    found = read(flight.ring)
    assert [t.number for t in found.ticks] == [1, 3]
    assert found.lost[0].number == 2 and "cannot be understood" in found.lost[0].why


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_recorder import Flight
flight = Flight(Path({folder!r}))
print("flying", flush=True)
while True:
    flight.tick()
"""


def test_a_killed_writer_leaves_all_but_the_tick_it_was_writing(tmp_path):
    code = WRITER.format(tests=os.path.dirname(__file__), folder=str(tmp_path))
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert writer.stdout.readline() == b"flying\n"
    time.sleep(0.3)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    found = read(tmp_path / "ring")
    numbers = [t.number for t in found.ticks]
    assert len(numbers) >= 64 and len(found.lost) <= 1
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    # The next robotd saves it before it writes its own.
    flight = Flight(tmp_path)
    flight.tick()
    saved = flight.incident()
    assert "left-behind" in saved.name
    assert [t.number for t in read(saved).ticks] == numbers
    assert [t.number for t in read(flight.ring).ticks] == [1]
    flight.recorder.close()
    assert not list(tmp_path.glob("ring*"))


# ---- incidents -------------------------------------------------------------------------------


def test_a_stop_is_copied_with_what_is_needed_to_understand_it(flight):
    for _ in range(10):
        flight.tick()
    flight.cell.daemon.stop("Watchdog: no command for 0.1 s!")
    flight.tick()
    flight.recorder.freeze(flight.cell.daemon.machine.stop_reason, flight.cell.daemon)
    for _ in range(5):  # comes after it, and is not of it
        flight.tick()
    saved = flight.incident()
    assert saved.name.endswith("-1-watchdog-no-command-for-0-1-s")
    assert [t.number for t in read(saved).ticks] == list(range(1, 12))
    assert read(saved).ticks[-1].stop_reason.startswith("Watchdog")
    about = json.loads((saved / "about.json").read_text())
    assert about["hash"] == flight.cell.daemon.hash and about["stop_id"] == 1
    assert about["limits"]["q_margin_rad"] == flight.cell.robot.limits.q_margin_rad
    assert about["versions"]["ruckig"]


def test_a_full_disk_costs_the_copy_and_leaves_nothing_half(flight, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("real_robot.recorder.os.fsync", full)
    flight.tick()
    flight.recorder.freeze("stop", flight.cell.daemon)
    until = time.monotonic() + 10
    while not flight.recorder.counts["records lost"]:
        flight.tick()
        assert time.monotonic() < until
    assert "No space" in flight.recorder.last_error
    assert list(flight.folder.iterdir()) == []


def test_a_slow_disk_delays_no_tick_and_more_stops_than_wait_are_counted(flight, monkeypatch):
    monkeypatch.setattr("real_robot.recorder.os.fsync", lambda file: time.sleep(0.3))
    flight.tick()
    begin = time.thread_time(), time.monotonic()
    for _ in range(8):
        flight.recorder.freeze("stop", flight.cell.daemon)
    assert time.monotonic() - begin[1] < 0.25  # less than one copy, and there were eight
    assert flight.recorder.counts["records lost"] >= 3
    assert len(read(flight.ring).ticks) == 1


@given(some.text())
def test_a_folders_name_is_plain_whatever_the_vendor_says(text):
    assert set(slug(text)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert 0 < len(slug(text)) <= 40
