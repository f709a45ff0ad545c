"""Franka's hand: it opens or grasps, and takes as long as it takes, in a thread of its own."""

from __future__ import annotations

import time
from typing import Any

from real_robot.driver import DriverLost
from real_robot.drivers.aside import Aside

LOOK_S = 0.02
SPEED_M_S = 0.1
FORCE_N = 20.0
ANY_WIDTH_M = 0.1  # a grasp is one whatever the size of the thing
LEAVES_S = 4.0
_KEPT: list[Any] = []
MIDDLE, HYSTERESIS = 0.5, 0.1  # of the way: the hand knows no streamed widths


class Hand:
    """Follows the newest wish: above the middle it opens, below it grasps."""

    def __init__(self, address: str, timeout_s: float):
        self.opening = 0.0  # measured, 1 is as wide as it goes
        self.problem = ""
        self._address = address
        self._hand: Any = None
        self._first: float | None = None  # wish, which is where it is: nothing moves by that
        self._open: bool | None = None  # wanted
        self._did: bool | None = None
        self._doing: Any = None  # a future
        self._aside = Aside("franka hand", self._turn, LOOK_S)
        self._aside.do(self._connect)
        until = time.monotonic() + timeout_s
        while self._hand is None:
            if self._aside.failed or time.monotonic() > until:
                self._aside.close(0.1)
                raise DriverLost(self._aside.failed or f"no hand answers within {timeout_s:g} s")
            time.sleep(0.002)

    def wanted(self, opening: float) -> None:
        """Note what is wanted, in [0, 1]; never waits."""
        if self._first is None:
            self._first = opening
        changed = self._open is not None or abs(opening - self._first) > HYSTERESIS
        if changed and abs(opening - MIDDLE) > HYSTERESIS:
            self._open = opening > MIDDLE

    def close(self) -> None:
        """Let go of it; it stays as it is."""
        self._aside.do(self._leave)
        if not self._aside.close(LEAVES_S + 1.0) or self._doing is not None:
            # The library's thread still uses it: destroying it would crash the process.
            _KEPT.append((self._hand, self._doing))

    # ---- in its thread --------------------------------------------------------------------------

    def _connect(self) -> None:
        import franky

        hand = franky.Gripper(self._address)
        self._look(hand)
        self._hand = hand

    def _leave(self) -> None:
        if self._doing is None or self._doing.wait(LEAVES_S):
            self._hand = self._doing = None

    def _look(self, hand: Any) -> None:
        state = hand.state
        self.opening = min(max(state.width / max(state.max_width, 1e-3), 0.0), 1.0)

    def _turn(self) -> None:
        hand = self._hand
        if hand is None or self.problem:
            return
        try:
            self._look(hand)
            self._act(hand)
        except Exception as error:  # also what the network library below raises
            self.problem = f"the hand: {error}"

    def _act(self, hand: Any) -> None:
        if self._doing is not None and not self._doing.wait(0.0):
            return  # what it began it ends, less than a second later
        self._doing = None
        if self._open == self._did:
            return
        self._did = self._open
        if self._open:
            self._doing = hand.open_async(SPEED_M_S)
        else:
            self._doing = hand.grasp_async(0.0, SPEED_M_S, FORCE_N, ANY_WIDTH_M, ANY_WIDTH_M)
