"""A flight that is recorded until somebody kills it: `python -m real_robot.testing.writing FOLDER`.

With `stepped.so` before it (`testing.stepped`) the wall clock jumps meanwhile.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

import numpy as np

from real_robot.testing.flight import Flight

FROZEN = 3  # stops whose record is copied: where the wall clock is read


def digest(folder: Path, ticks: int, seed: int = 0) -> tuple[str, float]:
    """Fly, and return a hash of every decision, and how far the wall clock jumped, in s."""
    flight, found, jumped = Flight(folder, seed=seed), hashlib.sha256(), 0.0
    frozen = 0
    away = time.time() - time.monotonic()
    for _ in range(ticks):
        tick = flight.tick()
        for vector in (tick.setpoint.q, tick.setpoint.v, tick.setpoint.a):
            found.update(np.asarray(vector, "<f8").tobytes())
        reasons = [int(judged.reason) for judged in tick.judgements]
        found.update(repr((tick.state.value, int(tick.motion), reasons)).encode())
        jumped = max(jumped, abs(time.time() - time.monotonic() - away))
        if tick.state.latched and frozen < FROZEN:
            frozen += 1
            flight.recorder.freeze(flight.daemon.machine.stop_reason, flight.daemon)
    flight.close()
    return found.hexdigest(), jumped


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(*digest(Path(sys.argv[1]), int(sys.argv[2])))
    else:
        endless = Flight(Path(sys.argv[1]))
        for number in range(10**12):
            endless.tick()
            if number == 100:
                print("flying", flush=True)
