"""A controller of a UR e-Series arm on a loopback address, for the real client library.

It speaks what `ur_rtde` needs: RTDE protocol version 2 (port 30004), scripts (30001 to 30003) and
the dashboard (29999), and it does with the registers what the library's own uploaded script would:
`output_int_register_0` is 1 when ready and 2 when done, `input_int_register_0` is the command.
The joints have a speed, an acceleration and no mass. `python -m real_robot.testing.fake_ur` runs
one; every line of its standard input is a JSON map of what shall happen to it, and is answered by a
line with its state. From Python, `FakeUR` is one in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import selectors
import socket
import struct
import subprocess
import sys
import time
from typing import Any

from real_robot.testing.fake_ur_arm import Arm

RTDE, DASHBOARD, SCRIPTS = 30004, 29999, (30001, 30002, 30003)
VERSION = (5, 11, 0, 0)
MAX_HZ = 500.0
TYPES = {"DOUBLE": "d", "INT32": "i", "UINT32": "I", "VECTOR6D": "6d"}
OUTPUTS = {
    "timestamp": "DOUBLE",
    "actual_q": "VECTOR6D",
    "actual_qd": "VECTOR6D",
    "actual_TCP_force": "VECTOR6D",
    "robot_mode": "INT32",
    "safety_mode": "INT32",
    "runtime_state": "UINT32",
    "robot_status_bits": "UINT32",
    "safety_status_bits": "UINT32",
}


def kind(name: str) -> str:
    """Return the type of an RTDE field; NOT_FOUND as the controller says it."""
    for start, found in (("put_int_register_", "INT32"), ("put_double_register_", "DOUBLE")):
        if start in name and name.startswith(("in", "out")):
            return found
    return OUTPUTS.get(name, "NOT_FOUND")


class Client:
    """One connection."""

    def __init__(self, connection: socket.socket, port: int):
        self.socket, self.port = connection, port
        self.received = self.unsent = b""
        self.outputs: list[str] = []
        self.inputs: list[list[str]] = []
        self.period_s, self.due = 1 / MAX_HZ, 0.0
        self.started = False

    def send(self, data: bytes) -> None:
        self.unsent += data
        try:
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            pass  # nobody reads
        except OSError:
            self.started = False


class Controller:
    """Every port of one arm, and time."""

    def __init__(self, address: str, arm: Arm):
        self.address, self.arm = address, arm
        self.silent = False  # connected, and no data
        self.clients: list[Client] = []
        self._selector = selectors.DefaultSelector()
        for port in (*SCRIPTS, RTDE, DASHBOARD):
            server = socket.socket()
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((address, port))
            server.listen()
            self._selector.register(server, selectors.EVENT_READ, port)

    def run(self) -> None:
        """Go on until standard input ends."""
        self._selector.register(sys.stdin, selectors.EVENT_READ, None)
        print(json.dumps({"address": self.address}), flush=True)
        last = time.monotonic()
        while True:
            for key, _ in self._selector.select(1 / MAX_HZ):
                if key.data is None:
                    line = sys.stdin.readline()
                    if not line:
                        return
                    print(json.dumps(self.told(json.loads(line))), flush=True)
                elif isinstance(key.data, Client):
                    if key.data in self.clients:  # not closed by what came before it
                        self._receive(key.data)
                else:
                    self._accept(key.fileobj, key.data)
            now = time.monotonic()
            self.arm.step(now - last)
            last = now
            if not self.silent:
                self._publish(now)

    def told(self, what: dict[str, Any]) -> dict[str, Any]:
        """Let something happen to the arm; return its state."""
        self.silent = what.pop("silent", self.silent)
        again = what.pop("again", None)  # a new arm, there, as after switching it on
        drop = what.pop("drop", False)  # the RTDE connections end, the ports stay open
        for client in list(self.clients):
            if again is not None or (drop and client.port == RTDE):
                self._close(client)
        if again is not None:
            self.arm, self.silent = Arm(again), False
        for name, value in what.items():
            getattr(self.arm, name)  # AttributeError for one that is none
            setattr(self.arm, name, value)
        return {**self.arm.state(), "clients": len(self.clients)}

    # ---- connections ----------------------------------------------------------------------------

    def _accept(self, server: Any, port: int) -> None:
        connection, _ = server.accept()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Client(connection, port)
        self.clients.append(client)
        self._selector.register(connection, selectors.EVENT_READ, client)
        if port == DASHBOARD:
            client.send(b"Connected: Universal Robots Dashboard Server\n")

    def _close(self, client: Client) -> None:
        self._selector.unregister(client.socket)
        client.socket.close()
        self.clients.remove(client)

    def _receive(self, client: Client) -> None:
        try:
            data = client.socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            return self._close(client)
        client.received += data
        if client.port == RTDE:
            self._rtde(client)
        elif client.port == DASHBOARD:
            *lines, client.received = client.received.split(b"\n")
            for line in lines:
                answer = self.arm.dashboard(line.decode().strip())
                client.send(answer.encode() + b"\n")
        elif client.received.rstrip().endswith(b"\nend"):
            self.arm.run(client.received.decode())
            client.received = b""
        return None

    def _publish(self, now: float) -> None:
        for client in self.clients:
            if not client.started or now < client.due or client.unsent:
                continue
            client.due = max(client.due + client.period_s, now - client.period_s)
            values = [self._value(name) for name in client.outputs]
            body = b"".join(
                struct.pack(">" + TYPES[kind(n)], *v)
                for n, v in zip(client.outputs, values, strict=True)
            )
            client.send(struct.pack(">HBB", 4 + len(body), ord("U"), 1) + body)

    def _value(self, name: str) -> tuple[float, ...]:
        if name.startswith("output_"):
            return (self.arm.script_state if name == "output_int_register_0" else 0,)
        found = self.arm.state()[name]
        return tuple(found) if isinstance(found, list) else (found,)

    # ---- RTDE -----------------------------------------------------------------------------------

    def _rtde(self, client: Client) -> None:
        while len(client.received) >= 3:
            size, what = struct.unpack(">HB", client.received[:3])
            if len(client.received) < size:
                return
            body, client.received = client.received[3:size], client.received[size:]
            answer = self._answer(client, chr(what), body)
            if answer is not None and not self.silent:
                client.send(struct.pack(">HB", 3 + len(answer), what) + answer)

    def _answer(self, client: Client, what: str, body: bytes) -> bytes | None:
        if what == "v":
            return struct.pack(">4I", *VERSION)
        if what == "O":
            client.period_s = 1 / min(struct.unpack(">d", body[:8])[0], MAX_HZ)
            client.outputs = [name for name in body[8:].decode().split(",") if name]
            return b"\1" + ",".join(map(kind, client.outputs)).encode()
        if what == "I":
            client.inputs.append([name for name in body.decode().split(",") if name])
            types = ",".join(map(kind, client.inputs[-1])).encode()
            return bytes([len(client.inputs)]) + types
        if what == "U":
            names = client.inputs[body[0] - 1]
            values = struct.unpack(">" + "".join(TYPES[kind(n)] for n in names), body[1:])
            given = dict(zip(names, values, strict=True))
            doubles = [given.get(f"input_double_register_{i}", 0.0) for i in range(12)]
            if not self.arm.deaf:
                self.arm.command(given["input_int_register_0"], doubles)
            return None
        client.started = what == "S" or client.started
        client.due = time.monotonic()
        return b"\1"  # version accepted, started, paused


class FakeUR:
    """A fake controller in a process of its own, on a loopback address that nobody else has."""

    def __init__(self, q: list[float]):
        command = [sys.executable, "-m", "real_robot.testing.fake_ur", "--q", json.dumps(q)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.address: str = self._answer()["address"]

    def tell(self, **what: Any) -> dict[str, Any]:
        """Let something happen to the arm, return its state: attributes of `Arm`, silent, drop,
        again."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> FakeUR:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the fake controller ended with {self._process.wait()}")
        return json.loads(line)


def somewhere(arm: Arm) -> Controller:
    """Return a controller on a free loopback address, as the ports cannot be chosen."""
    for _ in range(100):
        address = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}"
        try:
            return Controller(address, arm)
        except OSError:
            continue
    raise OSError("no loopback address is free")


def main() -> None:
    parser = argparse.ArgumentParser(description="A fake UR controller on a loopback address.")
    parser.add_argument("--address", help="one that is free, if not given")
    parser.add_argument("--q", default="[0,-1.5708,1.5708,-1.5708,-1.5708,0]", help="JSON, rad")
    arguments = parser.parse_args()
    arm = Arm(json.loads(arguments.q))
    (Controller(arguments.address, arm) if arguments.address else somewhere(arm)).run()


if __name__ == "__main__":
    main()
