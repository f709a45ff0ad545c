"""A process per camera, so that a camera that blocks can never block the control path."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

from real_robot.cameras.camera import CameraSpec, Frame, Reason, Source, StaleFrame
from real_robot.cameras.ring import RingReader, RingWriter, ring_path
from real_robot.cameras.watch import Health, Watch, recent
from real_robot.clock import Clock, MonotonicClock


def serve(source: Source, path: Path) -> None:
    """Grab from a source into its ring until the device is gone; the reason stays in the ring."""
    ring = RingWriter(source.spec, path)
    try:
        watch = Watch(source.spec)
        source.open()
        while True:
            frame = source.grab()
            if frame is None:
                continue
            if watch.admit(frame):
                ring.put(frame)
            ring.health(watch.health)
    except Exception as error:
        ring.fail(f"{type(error).__name__}: {error}")
        raise
    finally:
        with contextlib.suppress(Exception):  # of a device that is gone
            source.close()
        ring.close()


class RingCamera:
    """A camera that another process grabs: reads its ring, and finds it again after a restart."""

    def __init__(self, spec: CameraSpec, clock: Clock, folder: Path | None = None):
        self.spec, self.clock = spec, clock
        self.path = ring_path(spec.name, folder)
        self._ring: RingReader | None = None

    def open(self) -> None:
        """Map the ring. OSError where there is none."""
        self._ring = RingReader(self.spec, self.path)

    def latest(self, max_age_ns: int) -> Frame:
        name = self.spec.name
        ring = self._ring
        if ring is None:
            raise StaleFrame(name, None, max_age_ns, Reason.CLOSED)
        try:
            frame = ring.newest()
        except BlockingIOError:
            raise StaleFrame(name, None, max_age_ns, Reason.TORN) from None
        health = ring.health()
        try:
            if frame is None:
                raise StaleFrame(name, None, max_age_ns, Reason.NONE_YET)
            return recent(frame, health, name, self.clock.now_ns(), max_age_ns)
        except StaleFrame as stale:
            stale.detail = ring.error()
            if ring.replaced():
                with contextlib.suppress(OSError):  # the next call then reads the new one
                    self._ring = RingReader(self.spec, self.path)
            raise

    def health(self) -> Health:
        """Return what is known of the stream."""
        return self._ring.health() if self._ring else Health()

    @property
    def error(self) -> str:
        """Return why nothing comes, where the grabbing process could still say it."""
        return self._ring.error() if self._ring else ""

    @property
    def pid(self) -> int:
        """Return the process that grabs, 0 where none is known."""
        return self._ring.pid if self._ring else 0

    def close(self) -> None:
        self._ring = None


class ProcessCamera:
    """A camera with the process that grabs it."""

    def __init__(
        self,
        source: Source,
        clock: Clock | None = None,
        folder: Path | None = None,
        timeout_s: float = 30.0,  # a first picture includes the interpreter's start
    ):
        self.source, self.spec, self.timeout_s = source, source.spec, timeout_s
        self.reader = RingCamera(source.spec, clock or MonotonicClock(), folder)
        self.process: multiprocessing.process.BaseProcess | None = None

    def open(self) -> None:
        """Start the process and wait for its first picture; OSError says why there is none.

        Once more where the process has died: readers go on where they are. As with every process
        that is started anew, a script does this under `if __name__ == "__main__":`.
        """
        self._end()
        # A fresh interpreter: a fork would copy the locks of threads that it does not copy.
        context = multiprocessing.get_context("spawn")
        name = self.spec.name
        self.process = context.Process(
            target=_main, args=(self.source, self.reader.path), name=f"camerad-{name}", daemon=True
        )
        self.process.start()
        deadline = time.monotonic() + self.timeout_s
        try:
            while not self._running():
                if not self.process.is_alive():
                    error = self.reader.error or "its process has said why above"
                    raise OSError(f"camera {name!r} did not open: {error}")
                if time.monotonic() > deadline:
                    raise OSError(
                        f"camera {name!r} gave no picture in {self.timeout_s} s: "
                        "is it in use, covered or unplugged?"
                    )
                time.sleep(0.005)
        except BaseException:
            self._end()
            raise

    def _running(self) -> bool:
        try:
            self.reader.open()
        except OSError:
            return False
        ours = self.process is not None and self.reader.pid == self.process.pid
        return ours and self.reader.health().new > 0

    def latest(self, max_age_ns: int) -> Frame:
        return self.reader.latest(max_age_ns)

    def health(self) -> Health:
        """Return what is known of the stream."""
        return self.reader.health()

    def close(self) -> None:
        """End the process and remove the ring."""
        self._end()
        self.reader.close()
        self.reader.path.unlink(missing_ok=True)

    def _end(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        process.join(2.0)
        process.kill()  # one that is stopped does not hear of the first
        process.join()
        process.close()


def _main(source: Source, path: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the parent
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        serve(source, path)
    except Exception as error:
        sys.exit(f"camerad: {error}")


def _end_with_parent() -> None:
    """A camera whose user was killed must not stay busy, even while a grab blocks."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
