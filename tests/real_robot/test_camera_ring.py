"""Pictures across processes: torn, killed, stopped, restarted; and never a reader that waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from real_robot.cameras.camera import CameraSpec, Frame, Reason, StaleFrame
from real_robot.cameras.camerad import ProcessCamera, RingCamera, serve
from real_robot.cameras.faulty import Faulty, Plan
from real_robot.cameras.ring import SLOTS, TRIES, RingReader, RingWriter, ring_path
from real_robot.cameras.synthetic import Synthetic, draw, read_number
from real_robot.cameras.watch import Health, Verdict
from real_robot.clock import MonotonicClock, VirtualClock, ns

SPEC = CameraSpec("wrist", width=64, height=48, rate_hz=500.0)
LIMIT = ns(0.2)  # loose: the machine has other work


@pytest.fixture
def path(tmp_path):
    return ring_path(SPEC.name, tmp_path)


@pytest.fixture
def writer(path):
    writer = RingWriter(SPEC, path)
    yield writer
    writer.close()


def frame(number: int) -> Frame:
    return Frame(draw(SPEC, number), number, 10 * number, None if number % 2 else 20 * number)


def same(a: Frame, b: Frame) -> bool:
    return np.array_equal(a.image, b.image) and replace(a, image=None) == replace(b, image=None)


def test_every_reader_gets_the_newest_picture_as_it_was_put(writer, path):
    readers = [RingReader(SPEC, path) for _ in range(3)]
    assert [reader.newest() for reader in readers] == [None] * 3
    for number in range(3 * SLOTS):
        writer.put(frame(number))
        for reader in readers:
            found = reader.newest()
            assert found is not None and same(found, frame(number))


def test_a_picture_that_was_given_does_not_change_any_more(writer, path):
    reader = RingReader(SPEC, path)
    writer.put(frame(0))
    found = reader.newest()
    for number in range(1, 2 * SLOTS):
        writer.put(frame(number))
    assert found is not None and same(found, frame(0))


class Overtaken(RingReader):
    """A reader that is so slow that the writer comes around while it copies."""

    times = 0
    writer: RingWriter
    tries = 0

    def _copy(self, image):
        self.tries += 1
        half = image.copy()
        if self.times > 0:
            self.times -= 1
            for number in range(SLOTS):
                self.writer.put(frame(100 * self.times + number))
            half[half.shape[0] // 2 :] = image[half.shape[0] // 2 :]
        return half


def test_a_torn_picture_is_read_again(writer, path):
    reader = Overtaken(SPEC, path)
    reader.writer, reader.times = writer, 1
    writer.put(frame(50))
    found = reader.newest()
    assert reader.tries == 2
    assert found is not None and same(found, frame(SLOTS - 1))


def test_a_reader_that_is_always_overtaken_gives_up_after_its_tries(writer, path):
    reader = Overtaken(SPEC, path)
    reader.writer, reader.times = writer, 1000
    writer.put(frame(50))
    with pytest.raises(BlockingIOError, match="torn"):
        reader.newest()
    assert reader.tries == TRIES
    camera = RingCamera(SPEC, VirtualClock(), path.parent)
    camera.open()
    camera._ring = reader
    with pytest.raises(StaleFrame) as caught:
        camera.latest(LIMIT)
    assert caught.value.reason == Reason.TORN


@pytest.mark.parametrize("reached", ["sequence", "crc", "image"])
def test_a_writer_that_dies_in_a_picture_leaves_the_ones_before(path, monkeypatch, reached):
    writer = RingWriter(SPEC, path)
    reader = RingReader(SPEC, path)
    writer.put(frame(0))
    dying = writer._map.slots[2 % SLOTS]
    dying["sequence"] = 3
    if reached != "sequence":
        dying["frame_id"] = 1
    if reached == "image":
        dying["image"][:24] = frame(1).image[:24]
    found = reader.newest()
    assert found is not None and same(found, frame(0))
    writer.close()
    after = RingWriter(SPEC, path)
    for number in range(5, 5 + SLOTS):
        after.put(frame(number))
        found = reader.newest()
        assert found is not None and same(found, frame(number))
    after.close()


@given(st.integers(0, 64 * 48 * 3 - 1), st.integers(1, 255))
def test_a_damaged_byte_is_never_given(tmp_path_factory, place, change):
    path = ring_path(SPEC.name, tmp_path_factory.mktemp("ring"))
    writer = RingWriter(SPEC, path)
    writer.put(frame(0))
    writer._map.slots[1]["image"].reshape(-1)[place] ^= change
    with pytest.raises(BlockingIOError):
        RingReader(SPEC, path).newest()
    writer.close()


def test_a_reader_cannot_write(writer, path):
    reader = RingReader(SPEC, path)
    with pytest.raises(ValueError, match="read-only"):
        reader._map.header["published"] = 7
    with pytest.raises(ValueError, match="read-only"):
        reader._map.slots[0]["image"][:] = 0


def test_there_is_one_writer(writer, path):
    with pytest.raises(OSError, match="'wrist' is grabbed by another process already"):
        RingWriter(SPEC, path)
    writer.put(frame(1))  # and the first one is still it
    found = RingReader(SPEC, path).newest()
    assert found is not None and found.frame_id == 1


def test_a_ring_is_readable_by_its_user_alone(writer, path):
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_ring_of_another_size_is_replaced_and_its_readers_find_the_new_one(path):
    small = replace(SPEC, width=32)
    writer = RingWriter(small, path)
    with pytest.raises(FileNotFoundError, match="another size"):
        RingReader(SPEC, path)
    writer.close()
    writer = RingWriter(SPEC, path)
    camera = RingCamera(SPEC, VirtualClock(100), path.parent)
    camera.open()
    path.unlink()
    writer.close()
    again = RingWriter(SPEC, path)
    again.put(frame(9))
    with pytest.raises(StaleFrame):
        camera.latest(LIMIT)
    assert camera.latest(LIMIT).frame_id == 9
    again.close()


def test_a_link_in_the_rings_place_is_not_followed(path, tmp_path):
    (tmp_path / "precious").write_text("data")
    path.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        RingWriter(SPEC, path)
    assert (tmp_path / "precious").read_text() == "data"


@given(st.integers(0, 2**60), st.integers(0, 2**60))
def test_a_ring_camera_gives_and_refuses_at_the_same_nanosecond_as_any_other(
    tmp_path_factory, stamp, limit
):
    folder = tmp_path_factory.mktemp("ring")
    writer = RingWriter(SPEC, ring_path(SPEC.name, folder))
    writer.put(replace(frame(0), stamp_ns=stamp))
    clock = VirtualClock(stamp + limit)
    camera = RingCamera(SPEC, clock, folder)
    camera.open()
    assert camera.latest(limit).stamp_ns == stamp
    clock.advance(1)
    with pytest.raises(StaleFrame):
        camera.latest(limit)
    camera.clock = VirtualClock(max(0, stamp - 1))
    if stamp:
        with pytest.raises(StaleFrame) as caught:
            camera.latest(limit)
        assert caught.value.reason == Reason.CLOCK
    writer.close()


def test_what_is_known_of_the_stream_reaches_the_reader(writer, path):
    health = Health(new=9, repeats=3, blacks=1, verdict=Verdict.BLACK, arrived_ns=70, new_ns=50)
    health.intervals[4] = 8
    writer.health(health)
    found = RingReader(SPEC, path).health()
    assert np.array_equal(found.intervals, health.intervals)
    assert replace(found, intervals=None) == replace(health, intervals=None)


def test_what_ended_the_grabbing_stays_in_the_ring(path):
    clock = VirtualClock()
    source = Faulty(Synthetic(SPEC, clock), Plan(death_ns=ns(1)), clock)
    with pytest.raises(OSError, match="unplugged"):
        serve(source, path)
    camera = RingCamera(SPEC, VirtualClock(ns(2)), path.parent)
    camera.open()
    with pytest.raises(StaleFrame, match="'wrist' was unplugged") as caught:
        camera.latest(LIMIT)
    assert caught.value.reason == Reason.SILENT
    assert camera.health().rate_hz == pytest.approx(500.0, rel=0.01)


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (Plan(freeze=[(ns(0.1), ns(1))], death_ns=ns(0.5)), Reason.FROZEN),
        (Plan(black=[(ns(0.1), ns(1))], death_ns=ns(0.5)), Reason.BLACK),
    ],
)
def test_a_ring_never_holds_what_is_frozen_or_black(path, plan, reason):
    clock = VirtualClock()
    with pytest.raises(OSError, match="unplugged"):
        serve(Faulty(Synthetic(SPEC, clock), plan, clock), path)
    camera = RingCamera(SPEC, VirtualClock(clock.now_ns()), path.parent)
    camera.open()
    assert read_number(camera.latest(ns(9)).image) == 49  # the last one before the fault
    with pytest.raises(StaleFrame) as caught:
        camera.latest(LIMIT)
    assert caught.value.reason == reason


# With a process that grabs, on the machine's clock.


def source(plan: Plan | None = None):
    clock = MonotonicClock()
    real = Synthetic(SPEC, clock)
    return Faulty(real, plan, clock) if plan else real


def wait_for(what, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def refused(camera) -> StaleFrame | None:
    try:
        camera.latest(LIMIT)
    except StaleFrame as stale:
        return stale
    return None


@pytest.fixture(scope="module")
def camera(tmp_path_factory):
    camera = ProcessCamera(source(), folder=tmp_path_factory.mktemp("process"))
    camera.open()
    yield camera
    camera.close()
    assert not camera.reader.path.exists()


def test_under_a_fast_writer_no_reader_ever_sees_a_picture_that_is_not_whole(camera):
    others = [RingCamera(SPEC, MonotonicClock(), camera.reader.path.parent) for _ in range(2)]
    for other in others:
        other.open()
    numbers = []
    end = time.monotonic() + 0.5
    while time.monotonic() < end or len(set(numbers)) < 10:
        for reader in (camera, *others):
            try:
                found = reader.latest(ns(10))
            except StaleFrame as stale:
                assert stale.reason == Reason.TORN
                continue
            assert np.array_equal(found.image, draw(SPEC, found.frame_id))
        numbers.append(found.frame_id)
    assert numbers == sorted(numbers)


def test_a_reader_of_another_program_leaves_the_ring_where_it_is(camera):
    code = (
        "import sys, json; from pathlib import Path\n"
        "from real_robot.cameras.camera import CameraSpec\n"
        "from real_robot.cameras.camerad import RingCamera\n"
        "from real_robot.clock import MonotonicClock\n"
        "spec = CameraSpec('wrist', width=64, height=48, rate_hz=500.0)\n"
        "camera = RingCamera(spec, MonotonicClock(), Path(sys.argv[1])); camera.open()\n"
        "print(camera.latest(10**10).image.shape)"
    )
    folder = str(camera.reader.path.parent)
    done = subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("(48, 64, 3)", "")
    wait_for(lambda: refused(camera) is None)


def test_a_stopped_process_makes_stale_pictures_and_no_reader_wait(camera):
    pid = camera.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: refused(camera) is not None)
        slowest = 0.0
        for _ in range(50):
            start = time.monotonic()
            stale = refused(camera)
            slowest = max(slowest, time.monotonic() - start)
            assert stale is not None and stale.reason in (Reason.SILENT, Reason.TORN)
        assert slowest < 0.5
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: refused(camera) is None)


def test_after_a_kill_pictures_are_stale_until_the_process_is_started_again(camera):
    reader = RingCamera(SPEC, MonotonicClock(), camera.reader.path.parent)
    reader.open()
    wait_for(lambda: refused(reader) is None)
    os.kill(camera.process.pid, signal.SIGKILL)
    killed = time.monotonic()
    wait_for(lambda: refused(camera) is not None)
    assert time.monotonic() - killed < 5.0
    start = time.monotonic()
    stale = refused(reader)
    assert stale is not None and stale.reason == Reason.SILENT and stale.age_ns > LIMIT
    assert time.monotonic() - start < 0.5
    camera.open()
    wait_for(lambda: refused(camera) is None)
    wait_for(lambda: refused(reader) is None)  # which nobody told


def test_a_process_that_is_stopped_can_still_be_closed(tmp_path):
    camera = ProcessCamera(source(), folder=tmp_path)
    camera.open()
    os.kill(camera.process.pid, signal.SIGSTOP)
    camera.close()
    assert camera.process is None


def test_a_camera_that_does_not_open_says_why(tmp_path):
    camera = ProcessCamera(source(Plan(death_ns=0)), folder=tmp_path)
    with pytest.raises(OSError, match="'wrist' was unplugged"):
        camera.open()
    assert camera.process is None


def test_a_camera_that_gives_nothing_is_given_up(tmp_path):
    dropping = source(Plan(drop=[(0, ns(3600))]))
    camera = ProcessCamera(dropping, folder=tmp_path, timeout_s=1.0)
    with pytest.raises(OSError, match=r"gave no picture in 1.0 s"):
        camera.open()


def test_a_killed_user_leaves_no_process_that_keeps_the_camera(tmp_path):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from real_robot.cameras.camera import CameraSpec\n"
        "from real_robot.cameras.camerad import ProcessCamera\n"
        "from real_robot.cameras.synthetic import Synthetic\n"
        "from real_robot.clock import MonotonicClock\n"
        "if __name__ == '__main__':\n"
        "    spec = CameraSpec('wrist', width=64, height=48, rate_hz=500.0)\n"
        "    camera = ProcessCamera(Synthetic(spec, MonotonicClock()), folder=Path(sys.argv[1]))\n"
        "    camera.open(); print(camera.process.pid, flush=True); time.sleep(600)\n"
    )
    script = tmp_path / "user.py"
    script.write_text(code)
    user = subprocess.Popen([sys.executable, script, tmp_path], stdout=subprocess.PIPE, text=True)
    assert user.stdout is not None
    pid = int(user.stdout.readline())
    user.kill()
    user.wait()
    user.stdout.close()

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        with open(f"/proc/{pid}/stat") as stat:  # an orphan that nobody waits for
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"

    def free() -> bool:  # its threads end one after another, and the last one lets go of the lock
        try:
            RingWriter(SPEC, ring_path(SPEC.name, tmp_path)).close()
        except OSError:
            return False
        return True

    wait_for(gone)
    wait_for(free)
