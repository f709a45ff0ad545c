"""The operator's console: shows the robot, and is the dead-man. `python -m real_robot.console`.

Its heartbeat says that somebody is there: when it ends, however it ends, the arm stops. Keys and
heartbeat have a thread of their own that draws nothing, so that the stop works when drawing hangs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from real_robot import keys, screen
from real_robot.client import Client, NoAnswer
from real_robot.link import StaleState
from real_robot.robotd import ADDRESS
from real_robot.watch import orphaned
from robo_offline.errors import UserError

BEAT_S = 0.2
DRAWN_S = 0.1
LOOKED_S = 0.03  # at the keys
LEAVING_S = 1.0  # that drawing may take to end


class Operator:
    """Heartbeat and keys."""

    def __init__(self, client: Client, keyboard: int):
        self.client, self.keyboard = client, keyboard
        self.view = screen.View()  # replaced as a whole: whoever draws sees one moment
        self.shown_stop_id = -1  # on the screen: only what was seen can be reset
        self.ended = threading.Event()
        self.left = ""  # why, where nobody asked for it
        self._wanted = ""  # a stop that robotd has not confirmed
        self._beaten_s = 0.0
        self._message = ""

    def run(self) -> None:
        """Work until the end; then stop the arm, as nobody attends it any more."""
        try:
            while not self.ended.is_set():
                self.work()
        finally:
            self.ended.set()
            with contextlib.suppress(StaleState):
                if self.view.commanding:
                    self.client.request({"type": "stop"}, 0.5)

    def work(self) -> None:
        """Do one round: heartbeat, keys, stop, state. Takes a tenth of a second at most."""
        if time.monotonic() - self._beaten_s >= BEAT_S:
            self._beaten_s = time.monotonic()
            self.client.send({"type": "operator"})
        if select.select([self.keyboard], [], [], LOOKED_S)[0]:
            self.press(os.read(self.keyboard, 64))
        if self._wanted and self._ask({"type": self._wanted}, 0.05):
            self._wanted = ""
        try:
            self.view = self.view.next(self.client.state(0.05), self._message)
        except StaleState:
            self.view = self.view.without(self._message)

    def press(self, pressed: bytes) -> None:
        """Do what was pressed; a stop before all else."""
        pressed = pressed.lower()
        if b"e" in pressed:
            self._wanted = "estop"
        elif b" " in pressed:
            self._wanted = self._wanted or "stop"
        elif not pressed:  # the terminal is gone, or there never was one
            self.left = "no keys can come any more: input has ended"
            self.ended.set()
        elif b"q" in pressed:
            self.ended.set()
        elif b"\x1b" in pressed:  # an arrow or a function key, whose letters mean nothing
            return
        elif b"r" in pressed:
            self._ask({"type": "reset", "stop_id": self.shown_stop_id}, 0.3)
        elif b"a" in pressed:
            self._ask({"type": "arm", "descriptor": self.view.state.get("descriptor", "")}, 0.3)

    def _ask(self, message: dict[str, Any], timeout_s: float) -> bool:
        try:
            reply = self.client.request(message, timeout_s)
        except NoAnswer:
            self._message = f"{message['type']}: no answer"
            return False
        self._message = f"{message['type']}: {'done' if reply['ok'] else reply['why']}"
        return True


class Keyboard:
    """Standard input, key by key where it is a terminal."""

    def __init__(self) -> None:
        self.file = sys.stdin.fileno()
        self._before = termios.tcgetattr(self.file) if os.isatty(self.file) else None
        if self._before is not None:
            tty.setcbreak(self.file)

    def restore(self) -> None:
        """Leave the terminal as it was."""
        if self._before is not None:
            termios.tcsetattr(self.file, termios.TCSANOW, self._before)


def run(client: Client, keyboard: Keyboard, plain: bool, parent: int | None = None) -> None:
    """Show until the operator leaves."""
    operator, drawn = Operator(client, keyboard.file), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: operator.ended.set())

    def attend() -> None:
        operator.run()
        if not drawn.wait(LEAVING_S):  # drawing hangs, and somebody wants to leave
            keyboard.restore()
            os._exit(1)

    thread = threading.Thread(target=attend, name="operator")
    thread.start()
    try:
        with screen.lines() if plain else screen.full() as draw:
            while not operator.ended.wait(DRAWN_S) and not orphaned(parent):
                view = operator.view
                draw(view)
                operator.shown_stop_id = view.state.get("stop_id", -1)
    finally:
        operator.ended.set()
        drawn.set()
        thread.join()
        keyboard.restore()
        if operator.left:
            print(f"the console ends: {operator.left}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the console until q."""
    parser = argparse.ArgumentParser("python -m real_robot.console", description=__doc__)
    parser.add_argument("address", nargs="?", default=ADDRESS, help="of robotd; %(default)s")
    parser.add_argument("--key", type=Path, default=keys.default_folder() / "operator.key")
    parser.add_argument("--plain", action="store_true", help="print lines, draw nothing")
    parser.add_argument("--parent", type=int, metavar="PID", help="end with this process")
    options = parser.parse_args(argv)
    try:
        key = keys.client_key(options.key)
        if key.role is not keys.Role.OPERATOR:
            raise UserError("the console needs an operator's key", where=options.key)
        with Client(options.address, key) as client:
            plain = options.plain or not sys.stdout.isatty()
            run(client, Keyboard(), plain, options.parent)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
