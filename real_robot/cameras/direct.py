"""A camera in the caller's own process, for sources that are computed: simulators and tests."""

from __future__ import annotations

from real_robot.cameras.camera import Frame, Reason, StaleFrame, TimedSource
from real_robot.cameras.watch import Health, Watch, recent
from real_robot.clock import Clock


class DirectCamera:
    """Takes what is due by now from a timed source; the rules are those of the camera process."""

    def __init__(self, source: TimedSource, clock: Clock):
        self.source, self.spec, self.clock = source, source.spec, clock
        self._watch = Watch(source.spec)
        self._newest: Frame | None = None
        self._error = ""
        self._open = False

    def open(self) -> None:
        self._watch = Watch(self.spec)
        self._newest, self._error = None, ""
        self.source.open()
        self._open = True

    def latest(self, max_age_ns: int) -> Frame:
        name = self.spec.name
        if not self._open:
            raise StaleFrame(name, None, max_age_ns, Reason.CLOSED)
        now = self.clock.now_ns()
        try:
            while not self._error and self.source.due_ns() <= now:
                frame = self.source.grab()
                if frame is not None and self._watch.admit(frame):
                    self._newest = frame
        except (OSError, ValueError) as error:
            self._error = f"{type(error).__name__}: {error}"
        try:
            if self._newest is None:
                raise StaleFrame(name, None, max_age_ns, Reason.NONE_YET)
            return recent(self._newest, self._watch.health, name, now, max_age_ns)
        except StaleFrame as stale:
            stale.detail = self._error
            raise

    def health(self) -> Health:
        """Return what is known of the stream."""
        return self._watch.health

    def close(self) -> None:
        self._open = False
        self.source.close()
