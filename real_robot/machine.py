"""The state of the daemon: what may move, and stops that stay until a person resets them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """Where the daemon is."""

    DISCONNECTED = "disconnected"
    IDLE = "idle"  # connected; nothing is commanded
    ARMED = "armed"  # held in place; the first good command moves it
    ACTIVE = "active"
    HOLD = "hold"  # nothing valid to do: at rest, or on the way there
    STOPPING = "stopping"
    STOPPED = "stopped"  # latched
    ESTOP = "estop"  # latched
    FAULT = "fault"  # latched: the arm or its connection

    @property
    def latched(self) -> bool:
        return self in (State.STOPPED, State.ESTOP, State.FAULT)

    @property
    def commanding(self) -> bool:
        """Whether ticks are sent to the arm."""
        return self in (State.ARMED, State.ACTIVE, State.HOLD, State.STOPPING)


@dataclass(slots=True)
class Machine:
    """State, and the stop that a person has to acknowledge by its number."""

    state: State = State.DISCONNECTED
    stop_id: int = 0
    stop_reason: str = ""
    stop_ns: int = 0  # when it began

    def stop(self, reason: str, now_ns: int, into: State = State.STOPPING) -> bool:
        """Begin a stop, or turn one into a harder kind; False where nothing changes."""
        harder = {State.STOPPING: 0, State.STOPPED: 0, State.FAULT: 1, State.ESTOP: 2}
        if self.state in harder:
            if harder[into] <= harder[self.state]:
                return False
        else:
            if self.state in (State.DISCONNECTED, State.IDLE) and into is State.STOPPING:
                into = State.STOPPED  # nothing moves: there is nothing to brake
            self.stop_id += 1
            self.stop_ns = now_ns
            self.stop_reason = ""
        self.stop_reason = f"{self.stop_reason}; {reason}" if self.stop_reason else reason
        self.state = into
        return True

    def reset(self, stop_id: int) -> str:
        """Leave a latched stop; return why not, or nothing. Never begins a motion."""
        if not self.state.latched:
            return f"nothing to reset while {self.state.value}"
        if stop_id != self.stop_id:
            return f"stop {self.stop_id} is to be acknowledged, not {stop_id}"
        self.state = State.IDLE
        return ""
