"""Exactly once, whoever dies when."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from real_robot.spool import HEAD, Inbox, Spool, read
from robo_offline.errors import UserError


class Learner:
    """Keeps what it got; forgets the newest when it crashes before it was safe."""

    def __init__(self):
        self.kept: list[bytes] = []
        self.inbox = Inbox()

    def acknowledged(self) -> int:
        return self.inbox.safe

    def receive(self, number: int, payload: bytes) -> int:
        if self.inbox.is_new(number):
            self.kept.append(payload)
            self.inbox.keep(number)
        return self.inbox.safe


def test_records_arrive_in_order_and_once(tmp_path):
    spool, learner = Spool(tmp_path), Learner()
    for i in range(20):
        assert spool.append(b"%d" % i) == i
        if i % 7 == 0:
            spool.deliver(learner)
    spool.deliver(learner)
    spool.deliver(learner)
    assert learner.kept == [b"%d" % i for i in range(20)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["append", "deliver", "actor dies", "learner dies"]), max_size=60),
    st.integers(0, 9),
)
def test_whoever_dies_nothing_is_lost_and_nothing_comes_twice(tmp_path_factory, events, seed):
    folder, generator = tmp_path_factory.mktemp("spool"), random.Random(seed)
    spool, learner, written = Spool(folder, segment_bytes=200), Learner(), []
    for event in events:
        if event == "append":
            written.append(generator.randbytes(generator.randint(0, 90)))
            spool.append(written[-1])
        elif event == "deliver":
            spool.deliver(learner)
        elif event == "actor dies":  # with half a record on its disk
            newest = max(folder.glob("*.spool"), default=None)
            if newest is not None:
                with newest.open("ab") as file:
                    file.write(generator.randbytes(generator.randint(0, 30)))
            spool = Spool(folder, segment_bytes=200)
        else:  # back to a checkpoint; the spool keeps what is behind it, where it is not deleted
            learner.inbox = Inbox(learner.inbox.safe)
    spool.deliver(learner)
    assert learner.kept == written


def test_a_learner_that_goes_back_gets_again_what_is_still_there(tmp_path):
    spool, learner = Spool(tmp_path), Learner()
    for i in range(5):
        spool.append(b"%d" % i)
    spool.deliver(learner)
    learner.kept, learner.inbox = learner.kept[:2], Inbox(1)
    spool.deliver(learner)
    assert learner.kept == [b"%d" % i for i in range(5)]


def test_a_gap_is_refused():
    with pytest.raises(UserError, match="missing"):
        Inbox(3).is_new(5)


def test_a_receiver_of_another_run_is_refused(tmp_path):
    spool, learner = Spool(tmp_path), Learner()
    learner.inbox = Inbox(8)
    with pytest.raises(UserError, match="never had"):
        spool.deliver(learner)


def test_segments_that_are_safe_are_deleted_and_no_others(tmp_path):
    spool, learner = Spool(tmp_path, segment_bytes=100), Learner()
    for _ in range(20):
        spool.append(bytes(60))
    before = len(list(tmp_path.glob("*.spool")))
    spool.forget(4)
    left = sorted(int(p.stem) for p in tmp_path.glob("*.spool"))
    assert len(left) < before and [n for n, _ in spool.pending(4)] == list(range(5, 20))
    learner.inbox = Inbox(4)
    spool.deliver(learner)
    assert len(list(tmp_path.glob("*.spool"))) == 1


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_flipped_byte_ends_the_reading_and_is_never_taken_for_data(
    tmp_path_factory, place, value
):
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder)
    written = [bytes([i]) * 20 for i in range(5)]
    for payload in written:
        spool.append(payload)
    path = next(folder.glob("*.spool"))
    raw = bytearray(path.read_bytes())
    raw[place % len(raw)] = value
    path.write_bytes(bytes(raw))
    found = [payload for _, payload, _ in read(path)]
    assert found == written[: len(found)]
    assert len(found) >= (place % len(raw)) // (HEAD.size + 20)


def test_a_full_disk_is_one_clear_error_and_leaves_no_half_record(tmp_path, monkeypatch):
    spool = Spool(tmp_path)
    spool.append(b"before")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="spool"):
        spool.append(b"lost")
    monkeypatch.undo()
    spool = Spool(tmp_path)
    spool.append(b"after")
    found = [payload for _, payload in spool.pending(-1)]
    assert found[0] == b"before" and found[-1] == b"after"


WRITER = """
import sys
from pathlib import Path
from real_robot.spool import Spool
spool = Spool(Path(sys.argv[1]), segment_bytes=4000)
while True:
    number = spool.next
    spool.append(number.to_bytes(8, "little") * (1 + number % 50))
    print(number, flush=True)
"""


def test_a_writer_killed_at_any_moment_loses_nothing_that_it_said_was_written(tmp_path):
    generator, said = random.Random(0), -1
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            writer.stdout.readline()
            time.sleep(generator.uniform(0.0, 0.1))
            writer.send_signal(signal.SIGKILL)
            said = max(
                [said, *(int(line) for line in writer.stdout.read().split("\n")[:-1] if line)]
            )
        found = list(Spool(tmp_path).pending(-1))
        assert [n for n, _ in found] == list(range(len(found))) and len(found) > said
        assert all(p == n.to_bytes(8, "little") * (1 + n % 50) for n, p in found)
