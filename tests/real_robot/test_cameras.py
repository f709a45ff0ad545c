"""Cameras on a clock that stands still: what is given, what is refused, and at which nanosecond."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from real_robot.cameras.camera import CameraSpec, Frame, Reason, StaleFrame
from real_robot.cameras.direct import DirectCamera
from real_robot.cameras.faulty import Faulty, Plan
from real_robot.cameras.file import File
from real_robot.cameras.opencv import OpenCV
from real_robot.cameras.realsense import RealSense
from real_robot.cameras.synthetic import Synthetic, draw, read_number
from real_robot.cameras.watch import Health, Verdict, Watch
from real_robot.clock import VirtualClock, ns

SPEC = CameraSpec("wrist", width=64, height=48, rate_hz=20.0)
PERIOD = SPEC.period_ns
LIMIT = 100_000_000  # two periods


@pytest.fixture
def clock():
    return VirtualClock(5 * ns(1))


def opened(clock, plan=None, spec=SPEC) -> DirectCamera:
    source = Synthetic(spec, clock)
    camera = DirectCamera(Faulty(source, plan, clock) if plan else source, clock)
    camera.open()
    return camera


def refusal(camera, limit=LIMIT) -> StaleFrame:
    with pytest.raises(StaleFrame) as caught:
        camera.latest(limit)
    return caught.value


# What is expected of a camera.


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "../x"),
        ("name", "Wrist"),
        ("name", 3),
        ("width", 0),
        ("width", 64.0),
        ("width", True),
        ("height", 10_000),
        ("rate_hz", 0.0),
        ("rate_hz", float("nan")),
        ("rate_hz", float("inf")),
        ("rate_hz", "30"),
        ("channels", "bgr"),
        ("axes", "ros"),
        ("noisy", 1),
    ],
)
def test_a_spec_refuses_what_no_camera_is(field, value):
    with pytest.raises(ValueError, match=field if field != "name" else "camera"):
        replace(SPEC, **{field: value})


def test_a_spec_is_read_from_exactly_its_keys():
    assert CameraSpec.parse(asdict(SPEC)) == SPEC
    with pytest.raises(ValueError, match="'fps'"):
        CameraSpec.parse({**asdict(SPEC), "fps": 30})
    with pytest.raises(ValueError, match="height, rate_hz"):
        CameraSpec.parse({"name": "wrist", "width": 64})


# The age of what is given.


@given(st.integers(0, 10**9))
def test_a_picture_is_given_at_exactly_its_limit_and_refused_a_nanosecond_later(limit):
    clock = VirtualClock(7)
    camera = opened(clock, Plan(death_ns=1))
    clock.advance(limit)
    assert camera.latest(limit).stamp_ns == 7
    clock.advance(1)
    stale = refusal(camera, limit)
    assert (stale.name, stale.age_ns, stale.limit_ns) == ("wrist", limit + 1, limit)


def test_the_newest_picture_is_given_and_its_number_can_be_read_from_it(clock):
    camera = opened(clock)
    for number in (0, 1, 2, 7, 20):
        clock.sleep_until_ns(5 * ns(1) + number * PERIOD)
        frame = camera.latest(LIMIT)
        assert (frame.frame_id, read_number(frame.image)) == (number, number)
        assert frame.stamp_ns == clock.now_ns()
        assert np.array_equal(frame.image, draw(SPEC, number))


def test_asking_does_not_let_time_pass(clock):
    camera = opened(clock, Plan(drop=[(0, ns(1))]))
    for _ in range(10):
        assert refusal(camera).reason == Reason.NONE_YET
    assert clock.now_ns() == 5 * ns(1)


def test_a_camera_that_is_not_open_says_so(clock):
    camera = DirectCamera(Synthetic(SPEC, clock), clock)
    assert refusal(camera).reason == Reason.CLOSED
    camera.open()
    camera.latest(LIMIT)
    camera.close()
    assert refusal(camera).reason == Reason.CLOSED


def test_a_picture_from_the_future_is_refused(clock):
    ahead = VirtualClock(clock.now_ns() + 1)
    camera = opened(ahead)
    camera.latest(LIMIT)
    camera.clock = clock
    assert refusal(camera).reason == Reason.CLOCK


def test_the_refusal_says_which_camera_how_old_and_why(clock):
    camera = opened(clock, Plan(death_ns=PERIOD))
    clock.advance(ns(0.25))
    assert str(refusal(camera)) == (
        "camera 'wrist': newest picture 250.0 ms old, limit 100.0 ms: nothing arrives: the camera "
        "or its process is dead, stopped, blocked or too slow "
        "(OSError: camera 'wrist' was unplugged)"
    )


@given(st.integers(0, 2**32 - 1), st.integers(32, 200), st.integers(1, 100))
def test_every_frame_number_can_be_read_back(number, width, height):
    spec = CameraSpec("any", width, height, 30.0)
    assert read_number(draw(spec, number)) == number


# What goes wrong.


def ages(plan: Plan, until_s=1.0, step=PERIOD // 5, limit=LIMIT):
    """Ask a camera with a plan again and again; return (time, age or reason) of every answer."""
    clock = VirtualClock()
    camera = opened(clock, plan)
    answers = []
    while clock.now_ns() < ns(until_s):
        try:
            answers.append((clock.now_ns(), clock.now_ns() - camera.latest(limit).stamp_ns))
        except StaleFrame as stale:
            answers.append((clock.now_ns(), stale.reason))
        clock.advance(step)
    return answers


SPAN = (ns(0.3), ns(0.7))


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (Plan(freeze=[SPAN]), Reason.FROZEN),
        (Plan(black=[SPAN]), Reason.BLACK),
        (Plan(drop=[SPAN]), Reason.SILENT),
        (Plan(death_ns=SPAN[0]), Reason.SILENT),
    ],
)
def test_a_fault_is_refused_with_its_reason_within_the_limit_and_one_period(plan, reason):
    refused = [(t, r) for t, r in ages(plan) if isinstance(r, Reason)]
    assert {r for _, r in refused} == {reason}
    first = refused[0][0]
    # The last good picture came one period before the fault, and may be LIMIT old.
    assert SPAN[0] - PERIOD + LIMIT < first <= SPAN[0] + LIMIT
    assert plan.death_ns is not None or refused[-1][0] < SPAN[1] + PERIOD


def test_pictures_that_come_late_are_as_old_as_their_arrival(clock):
    plan = Plan(delay=[SPAN], delay_ns=ns(0.2))
    answers = ages(plan, limit=ns(10))
    assert max(age for _, age in answers) == pytest.approx(ns(0.24), abs=PERIOD // 5)
    assert min(age for _, age in answers) >= 0


def test_one_black_picture_is_bridged_by_the_one_before(clock):
    camera = opened(clock, Plan(black=[(PERIOD, 2 * PERIOD)]))
    camera.latest(LIMIT)
    clock.advance(PERIOD)
    assert camera.latest(LIMIT).frame_id == 0
    assert camera.health().black()
    clock.advance(PERIOD)
    assert camera.latest(LIMIT).frame_id == 2
    assert not camera.health().black()


def test_a_stream_is_frozen_once_repeats_have_come_for_longer_than_the_limit(clock):
    camera = opened(clock, Plan(freeze=[(1, ns(9))]))
    camera.latest(LIMIT)
    start = clock.now_ns()
    clock.advance(LIMIT)
    camera.latest(LIMIT)
    assert not camera.health().frozen(clock.now_ns(), LIMIT)
    clock.advance(1)
    assert refusal(camera).reason == Reason.FROZEN
    assert camera.health().frozen(start + LIMIT + 1, LIMIT)


def frame(number=0, frame_id=None, device=None, shade=None) -> Frame:
    image = draw(SPEC, number if shade is None else 0)
    if shade is not None:
        image[:] = shade
    return Frame(image, number if frame_id is None else frame_id, 1000 + number, device)


@pytest.mark.parametrize(
    ("second", "noisy", "verdict"),
    [
        (frame(1, device=2), True, Verdict.NEW),
        (frame(1, frame_id=0, device=2), True, Verdict.REPEAT),
        (frame(1, device=1), True, Verdict.REPEAT),
        (frame(0, frame_id=1, device=2), True, Verdict.REPEAT),
        (frame(0, frame_id=1, device=2), False, Verdict.NEW),
        (frame(1, device=None), True, Verdict.NEW),
        (frame(1, device=2, shade=3), True, Verdict.BLACK),
        (frame(1, device=2, shade=4), True, Verdict.NEW),
        (frame(1, frame_id=0, device=1, shade=0), True, Verdict.BLACK),
    ],
)
def test_any_one_sign_makes_a_repeat(second, noisy, verdict):
    watch = Watch(replace(SPEC, noisy=noisy))
    assert watch.admit(frame(0, device=1))
    assert watch.admit(second) == (verdict == Verdict.NEW)
    assert watch.health.verdict == verdict


def test_a_picture_of_another_size_or_depth_is_named(clock):
    for image in (np.ones((48, 63, 3), np.uint8), np.ones((48, 64, 3), np.float32)):
        with pytest.raises(ValueError, match=r"'wrist' delivers .* its spec says \(48, 64, 3\)"):
            Watch(SPEC).admit(Frame(image, 0, 0))


# How often they come.


def test_the_rate_is_what_came_and_not_what_was_asked_for(clock):
    camera = opened(clock, Plan(drop=[(k * ns(0.1), k * ns(0.1) + 1) for k in range(200)]))
    clock.advance(ns(4))
    camera.latest(LIMIT)
    assert camera.health().rate_hz == pytest.approx(10.0, rel=0.02)
    assert camera.spec.rate_hz == 20.0


def test_the_rate_of_late_does_not_hide_behind_the_rate_of_before(clock):
    every_second = [(ns(2) + k * ns(0.1), ns(2.05) + k * ns(0.1)) for k in range(40)]
    camera = opened(clock, Plan(drop=every_second))
    clock.advance(ns(2))
    camera.latest(ns(1))
    before = replace(camera.health(), intervals=camera.health().intervals.copy())
    clock.advance(ns(2))
    camera.latest(ns(1))
    assert before.rate_hz == pytest.approx(20.0, rel=0.01)
    assert camera.health().since(before).rate_hz == pytest.approx(10.0, rel=0.05)
    assert camera.health().since(Health()).rate_hz == camera.health().rate_hz


@given(st.lists(st.integers(1, 10**11), min_size=1, max_size=60))
def test_the_histogram_holds_every_interval(intervals):
    watch = Watch(replace(SPEC, noisy=False))
    stamp = 0
    for number, interval in enumerate([0, *intervals]):
        stamp += interval
        watch.admit(replace(frame(), frame_id=number, stamp_ns=stamp))
    health = watch.health
    assert health.intervals.sum() == len(intervals) == health.new - 1
    assert health.span_ns == sum(intervals)
    assert health.interval_s(1.0) >= max(intervals) / 1e9 or max(intervals) > 10**10
    middle = sorted(intervals)[(len(intervals) - 1) // 2] / 1e9
    if 1e-4 <= middle <= 10:  # what the histogram spans
        assert middle <= health.interval_s(0.5) <= middle * 1.16


@pytest.mark.parametrize(
    ("verdict", "since_arrival", "reason"),
    [
        (Verdict.BLACK, LIMIT, Reason.BLACK),
        (Verdict.BLACK, LIMIT + 1, Reason.SILENT),
        (Verdict.REPEAT, LIMIT, Reason.FROZEN),
        (Verdict.REPEAT, LIMIT + 1, Reason.SILENT),
        (Verdict.NEW, LIMIT + 1, Reason.SILENT),
    ],
)
def test_what_arrives_no_more_is_silent_whatever_it_was(verdict, since_arrival, reason):
    health = Health(new=1, verdict=verdict, arrived_ns=50, new_ns=10)
    assert health.reason(50 + since_arrival, LIMIT) == reason
    assert Health().reason(50, LIMIT) == Reason.NONE_YET


def test_nothing_is_measured_of_nothing():
    assert Health().rate_hz == 0.0
    assert np.isnan(Health().interval_s(0.5))


# Devices: what they are asked, and what becomes of their answers.


def test_a_folder_of_pictures_is_played_in_the_order_of_names_and_again(clock, tmp_path):
    av = pytest.importorskip("av")
    for number in (2, 0, 1):
        with av.open(str(tmp_path / f"{number}.png"), "w") as out:
            stream = out.add_stream("png", rate=1)
            stream.width, stream.height, stream.pix_fmt = SPEC.width, SPEC.height, "rgb24"
            picture = av.VideoFrame.from_ndarray(draw(SPEC, number), format="rgb24")
            out.mux(stream.encode(picture))
            out.mux(stream.encode(None))
    camera = DirectCamera(File(SPEC, tmp_path, clock), clock)
    camera.open()
    seen = []
    for _ in range(7):
        picture = camera.latest(LIMIT)
        seen.append((picture.frame_id, read_number(picture.image)))
        clock.advance(PERIOD)
    assert seen == [(k, k % 3) for k in range(7)]


def test_a_video_is_played_at_the_rate_of_the_spec(clock, tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=5)
        stream.width, stream.height, stream.pix_fmt = SPEC.width, SPEC.height, "bgr0"
        for number in range(4):
            picture = av.VideoFrame.from_ndarray(draw(SPEC, number), format="rgb24")
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    camera = DirectCamera(File(SPEC, path, clock), clock)
    camera.open()
    for number in range(10):
        assert np.array_equal(camera.latest(0).image, draw(SPEC, number % 4))
        clock.advance(PERIOD)


def test_a_file_of_another_size_or_an_empty_folder_is_named(clock, tmp_path):
    pytest.importorskip("av")
    source = File(SPEC, tmp_path, clock)
    source.open()
    with pytest.raises(OSError, match="no pictures in"):
        source.grab()


class FakeCapture:
    """What OpenCV gives of a camera that shows pure red."""

    def __init__(self, size=(64, 48), good=True):
        self.size, self.good, self.asked, self.reads = size, good, {}, 0

    def isOpened(self):
        return self.good

    def set(self, key, value):
        self.asked[key] = value

    def get(self, key):
        return {"width": self.size[0], "height": self.size[1], "msec": 40.5 * self.reads}[key]

    def read(self):
        self.reads += 1
        image = np.zeros((self.size[1], self.size[0], 3), np.uint8)
        image[..., 2] = 255  # B, G, R
        return (True, image) if self.reads < 3 else (False, None)

    def release(self):
        self.good = False


def fake_cv2(capture):
    return SimpleNamespace(
        VideoCapture=lambda device, api: capture,
        CAP_V4L2=200,
        CAP_PROP_FRAME_WIDTH="width",
        CAP_PROP_FRAME_HEIGHT="height",
        CAP_PROP_FPS="fps",
        CAP_PROP_BUFFERSIZE="buffer",
        CAP_PROP_POS_MSEC="msec",
        COLOR_BGR2RGB="flip",
        cvtColor=lambda image, code: image[..., ::-1].copy() if code == "flip" else None,
    )


def test_opencv_gives_rgb_with_the_kernels_time_and_ends_with_the_device(clock, monkeypatch):
    capture = FakeCapture()
    monkeypatch.setitem(sys.modules, "cv2", fake_cv2(capture))
    source = OpenCV(SPEC, "/dev/video7", clock)
    source.open()
    assert capture.asked == {"width": 64, "height": 48, "fps": 20.0, "buffer": 1}
    first, second = source.grab(), source.grab()
    assert first.image[0, 0].tolist() == [255, 0, 0]
    assert (first.frame_id, second.frame_id) == (0, 1)
    assert second.device_time_ns - first.device_time_ns == 40_500_000
    assert first.stamp_ns == clock.now_ns()
    with pytest.raises(OSError, match="/dev/video7 gives no pictures"):
        source.grab()


@pytest.mark.parametrize(
    ("capture", "words"),
    [
        (FakeCapture(good=False), "/dev/video7 cannot be opened"),
        (FakeCapture(size=(640, 480)), "gives 640x480, not 64x48"),
    ],
)
def test_opencv_says_why_a_device_cannot_be_used(clock, monkeypatch, capture, words):
    monkeypatch.setitem(sys.modules, "cv2", fake_cv2(capture))
    with pytest.raises(OSError, match=words):
        OpenCV(SPEC, "/dev/video7", clock).open()


class FakeRealSense:
    """As much of pyrealsense2 as a colour stream takes."""

    stream = SimpleNamespace(color="color")
    format = SimpleNamespace(rgb8="rgb8")

    def __init__(self):
        self.asked = []
        self.frames = 0
        self.buffer = np.zeros(SPEC.shape, np.uint8)  # the library writes into it again

    def config(self):
        return SimpleNamespace(
            enable_device=lambda serial: self.asked.append(serial),
            enable_stream=lambda *mode: self.asked.append(mode),
        )

    def pipeline(self):
        return SimpleNamespace(start=self.start, try_wait_for_frames=self.wait, stop=lambda: None)

    def start(self, config):
        if "1234" not in self.asked:
            raise RuntimeError("No device connected")

    def wait(self, timeout_ms):
        self.frames += 1
        if self.frames == 2:
            return False, None
        if self.frames == 4:
            raise RuntimeError("Device disconnected")
        self.buffer[:] = self.frames
        colour = SimpleNamespace(
            get_data=lambda: self.buffer,
            get_frame_number=lambda: 70 + self.frames,
            get_timestamp=lambda: 1000.25,
        )
        return True, SimpleNamespace(get_color_frame=lambda: colour)


def test_realsense_gives_its_own_numbers_and_copies_its_buffer(clock, monkeypatch):
    library = FakeRealSense()
    monkeypatch.setitem(sys.modules, "pyrealsense2", library)
    source = RealSense(SPEC, "1234", clock)
    source.open()
    assert library.asked == ["1234", ("color", 64, 48, "rgb8", 20)]
    first = source.grab()
    assert source.grab() is None
    source.grab()
    assert (first.frame_id, first.device_time_ns) == (71, 1_000_250_000)
    assert first.image.max() == first.image.min() == 1
    with pytest.raises(OSError, match="disconnected"):
        source.grab()
    source.close()


def test_realsense_says_which_serial_number_did_not_start(clock, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyrealsense2", FakeRealSense())
    with pytest.raises(OSError, match="RealSense 99 does not start at 64x48"):
        RealSense(SPEC, "99", clock).open()


@pytest.mark.parametrize(
    ("package", "extra", "source"),
    [
        ("cv2", "cameras", OpenCV(SPEC, "/dev/video0", VirtualClock())),
        ("pyrealsense2", "realsense", RealSense(SPEC, "1", VirtualClock())),
        ("av", "video", File(SPEC, "x", VirtualClock())),
    ],
)
def test_a_missing_package_is_one_line_that_names_the_extra(monkeypatch, package, extra, source):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"robo-offline\[{extra}\]") as caught:
        source.open()
    assert "\n" not in str(caught.value)


def test_cameras_need_neither_torch_nor_a_vendors_package_to_be_imported():
    code = (
        "import sys, real_robot.cameras.camerad, real_robot.cameras.direct\n"
        "import real_robot.cameras.opencv, real_robot.cameras.realsense, real_robot.cameras.file\n"
        "import real_robot.cameras.faulty\n"
        "bad = {'torch', 'cv2', 'pyrealsense2', 'av', 'robo_offline'} & set(sys.modules)\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
