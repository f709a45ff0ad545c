"""The newest pictures of one camera in shared memory: one writer, any number of readers.

Each slot carries a sequence number that is odd while it is written (a seqlock) and a checksum, so a
reader never waits and never takes half a picture; a writer that dies in the middle of one leaves
the ones before. It is a mapped file in /dev/shm rather than a `SharedMemory`, whose bookkeeping
(before Python 3.13) removes the segment as soon as any reader ends, and which no reader can open
read-only.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from real_robot.cameras.camera import CameraSpec, Frame
from real_robot.cameras.watch import BINS, Health, Verdict

SLOTS = 4  # a reader is overtaken only when 3 more pictures come while it copies one
TRIES = 4
MAGIC = b"rocamera"
VERSION = 1
_NO_TIME = -1  # of a device that has no clock

# Plain aligned 64 bit numbers: the processor writes one of them as a whole.
_HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("version", "i8"),
        ("height", "i8"),
        ("width", "i8"),
        ("slots", "i8"),
        ("pid", "i8"),
        ("published", "i8"),
        ("repeats", "i8"),
        ("blacks", "i8"),
        ("new", "i8"),
        ("verdict", "i8"),
        ("arrived_ns", "i8"),
        ("new_ns", "i8"),
        ("span_ns", "i8"),
        ("intervals", "i8", (BINS,)),
        ("error", "S256"),
    ]
)
_COUNTS = ("new", "repeats", "blacks", "verdict", "arrived_ns", "new_ns", "span_ns", "intervals")


def _slot(shape: tuple[int, int, int]) -> np.dtype:
    height, width, channels = shape
    padding = -(height * width * channels) % 8  # keeps the next slot's numbers aligned
    return np.dtype(
        [
            ("sequence", "i8"),
            ("frame_id", "i8"),
            ("stamp_ns", "i8"),
            ("device_time_ns", "i8"),
            ("crc", "i8"),
            ("image", "u1", shape),
            ("padding", "u1", (padding,)),
        ]
    )


def _checksum(frame: Frame, image: np.ndarray) -> int:
    numbers = (frame.frame_id, frame.stamp_ns, frame.device_time_ns)
    return zlib.crc32(image.data, zlib.crc32(repr(numbers).encode()))


def ring_path(name: str, folder: Path | None = None) -> Path:
    """Return where a camera's ring of this user is: in memory where there is a folder for that."""
    if folder is None:
        memory = Path("/dev/shm")
        folder = memory if memory.is_dir() else Path(tempfile.gettempdir())
    return folder / f"robo_offline-{os.geteuid()}-{name}.ring"


class _Map:
    """The file's numbers as arrays."""

    def __init__(self, memory: mmap.mmap, spec: CameraSpec):
        slot = _slot(spec.shape)
        self.header: np.ndarray = np.ndarray((), _HEADER, memory)
        self.slots: np.ndarray = np.ndarray((SLOTS,), slot, memory, _HEADER.itemsize)

    @staticmethod
    def size(spec: CameraSpec) -> int:
        return _HEADER.itemsize + SLOTS * _slot(spec.shape).itemsize

    def fits(self, spec: CameraSpec) -> bool:
        found = [self.header[key][()] for key in ("magic", "version", "height", "width", "slots")]
        return found == [MAGIC, VERSION, spec.height, spec.width, SLOTS]


class RingWriter:
    """The one writer of a camera's ring; OSError where another process already is.

    A ring that an earlier writer left is taken over, so that its readers go on.
    """

    def __init__(self, spec: CameraSpec, path: Path):
        self.spec, self.path = spec, path
        self._file = _claim(spec, path)
        self._map = _Map(mmap.mmap(self._file, _Map.size(spec)), spec)
        header = self._map.header
        header["pid"] = os.getpid()
        header["error"] = b""
        self.health(Health())
        self._published = int(header["published"])

    def put(self, frame: Frame) -> None:
        """Publish a picture."""
        number = self._published + 1
        slot = self._map.slots[number % SLOTS]
        image = np.ascontiguousarray(frame.image)
        # From the picture's number alone: what a killed writer left behind does not matter.
        slot["sequence"] = 2 * number - 1
        slot["frame_id"] = frame.frame_id
        slot["stamp_ns"] = frame.stamp_ns
        slot["device_time_ns"] = _NO_TIME if frame.device_time_ns is None else frame.device_time_ns
        slot["crc"] = _checksum(frame, image)
        slot["image"] = image
        slot["sequence"] = 2 * number
        self._map.header["published"] = number
        self._published = number

    def health(self, health: Health) -> None:
        """Publish what is known of the stream."""
        for name in _COUNTS:
            self._map.header[name] = getattr(health, name)

    def fail(self, error: str) -> None:
        """Say why nothing will come."""
        self._map.header["error"] = error.encode()[:256]

    def close(self) -> None:
        """Let go of the ring, which stays for its readers and for the next writer."""
        fcntl.flock(self._file, fcntl.LOCK_UN)  # the mapping has a copy of the file's handle
        os.close(self._file)


class RingReader:
    """One of the readers, which cannot write. FileNotFoundError while there is no such ring."""

    def __init__(self, spec: CameraSpec, path: Path):
        self.spec, self.path = spec, path
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid():
                raise PermissionError(f"{path} belongs to user {status.st_uid}: remove it")
            if status.st_size != _Map.size(spec):
                raise FileNotFoundError(f"{path} holds pictures of another size")
            self._inode = status.st_ino
            memory = mmap.mmap(file.fileno(), status.st_size, access=mmap.ACCESS_READ)
        self._map = _Map(memory, spec)
        if not self._map.fits(spec):
            raise FileNotFoundError(f"{path} holds pictures of another size")

    def newest(self) -> Frame | None:
        """Return the newest picture, None before the first; BlockingIOError where it is torn."""
        for _ in range(TRIES):
            number = int(self._map.header["published"])
            if number == 0:
                return None
            frame = self._read(number)
            if frame is not None:
                return frame
        raise BlockingIOError(f"{self.path}: torn in {TRIES} tries")

    def _read(self, number: int) -> Frame | None:
        slot = self._map.slots[number % SLOTS]
        if int(slot["sequence"]) != 2 * number:
            return None
        device = int(slot["device_time_ns"])
        frame = Frame(
            image=self._copy(slot["image"]),
            frame_id=int(slot["frame_id"]),
            stamp_ns=int(slot["stamp_ns"]),
            device_time_ns=None if device == _NO_TIME else device,
        )
        crc = int(slot["crc"])
        # The checksum as well: only some processors show writes to others in their order.
        if int(slot["sequence"]) != 2 * number or _checksum(frame, frame.image) != crc:
            return None
        return frame

    def _copy(self, image: np.ndarray) -> np.ndarray:
        return image.copy()

    def health(self) -> Health:
        """Return what the writer knows of the stream; a number may be one arrival older."""
        header = self._map.header
        health = Health(intervals=header["intervals"].copy())
        for name in _COUNTS[:-1]:
            setattr(health, name, int(header[name]))
        health.verdict = Verdict(health.verdict)
        return health

    def error(self) -> str:
        """Return why nothing comes, where the writer could still say it."""
        return bytes(self._map.header["error"]).decode(errors="replace")

    @property
    def pid(self) -> int:
        """Return the writer's process."""
        return int(self._map.header["pid"])

    def replaced(self) -> bool:
        """Say whether another file has taken this one's place."""
        return _inode(self.path) not in (None, self._inode)


def _claim(spec: CameraSpec, path: Path) -> int:
    """Open the ring's file and lock it; make it anew where its pictures have another size."""
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                _create(spec, path, os.link)  # which does not replace what another just made
            continue
        try:
            status = os.fstat(file)
            if status.st_uid != os.geteuid():
                raise PermissionError(f"{path} belongs to user {status.st_uid}: remove it")
            _lock(file, spec, path)
            if _inode(path) == status.st_ino:  # nobody replaced it before it was locked
                if status.st_size == _Map.size(spec):
                    found = _Map(mmap.mmap(file, status.st_size, access=mmap.ACCESS_READ), spec)
                    if found.fits(spec):
                        return file
                _create(spec, path, os.replace)  # the next round opens it
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _inode(path: Path) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _lock(file: int, spec: CameraSpec, path: Path) -> None:
    try:  # the kernel lets go of it when the process ends, however it ends
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError(
            f"camera {spec.name!r} is grabbed by another process already: end that one, or read "
            f"its pictures from {path}"
        ) from None


def _create(spec: CameraSpec, path: Path, place: Callable[[str, Path], None]) -> None:
    file, temporary = tempfile.mkstemp(prefix=path.name, dir=path.parent)  # for this user only
    try:
        # Now, as memory that is found to be missing only when it is written ends the process.
        os.posix_fallocate(file, 0, _Map.size(spec))
        header = _Map(mmap.mmap(file, _Map.size(spec)), spec).header
        for name, value in (
            ("magic", MAGIC),
            ("version", VERSION),
            ("height", spec.height),
            ("width", spec.width),
            ("slots", SLOTS),
        ):
            header[name] = value
        place(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
        os.close(file)
