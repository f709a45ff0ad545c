"""Bytes, keys and packets of others, at the sockets of a robotd that moves its arm meanwhile."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from real_robot import keys
from real_robot.client import OPERATOR, REQUESTS, STATE, Client, beside, host_port
from real_robot.descriptor import load
from real_robot.link import StaleState
from real_robot.messages import MAX_BYTES, Source, pack
from real_robot.requests import Role
from real_robot.testing.driven import patient
from real_robot.testing.processes import Cell, command, connect
from real_robot.testing.tap import Tap
from robo_offline.bench.faults import Fault, Measured
from robo_offline.bench.faults.hostile import bombs

SENT_HZ = 150.0  # of each of three sockets: more than robotd takes of one key
QUIET_S, NOISY_S = 2.0, 2.0  # quick
QUIET_WHOLE_S = 5.5  # a record holds twelve seconds
SLOWER, TOLERATED_S = 1.1, 0.0002  # of the lateness; what a twentieth of a tick is no change


# ---- 5: bytes that are no message ----------------------------------------------------------------


def foreign_bytes(folder: Path, whole: bool) -> Measured:
    """Flood a moving robot's sockets with everything but messages; compare its loop before."""
    mark, seconds = folder / "executed", QUIET_WHOLE_S if whole else QUIET_S
    with Cell(folder, patient(load("sim"))) as cell:
        guest = keys.new(folder / "keys", Role.POLICY, "guest")
        cell.start("watch", "robotd")
        cell.move()
        cell.attend(seconds)
        begins = time.monotonic_ns()
        before = cell.told()
        with _Flood(cell, guest, junk(mark)) as flood:
            cell.attend(seconds)
        after = cell.told()
        alive = after["state"] in ("active", "hold")
        cell.ask("stop")
        cell.wait(lambda: cell.state() == "stopped")
        record, log = cell.incident(), cell.log("robotd")
    late = [(tick.now_ns >= begins, tick.late_ns / 1e6) for tick in record.ticks]
    calm, noisy = (
        float(np.percentile([ms for flooded, ms in late if flooded == which], 99))
        for which in (False, True)
    )
    refused = _refused(after) - _refused(before)
    bound = max(SLOWER * calm, calm + 1e3 * TOLERATED_S) if whole else calm + 4
    executed = int(mark.exists())
    return Measured(
        f"{flood.sent:,} messages sent, {refused:,} of them got as far as to be refused; "
        f"{executed} executed; the arm went on; ticks late by {noisy:.3f} ms at p99, "
        f"{calm:.3f} ms before",
        alive and not executed and "Traceback" not in log and refused > 0 and noisy <= bound,
        {"sent": flood.sent, "refused": refused, "executed": executed, "late_p99_ms": noisy,
         "late_p99_before_ms": calm},
    )  # fmt: skip


def junk(mark: Path) -> Callable[[np.random.Generator], list[bytes]]:
    """Return what draws the frames of a message that is none."""
    pickles = bombs(mark)
    good = pack({"type": "status"})

    def draw(random: np.random.Generator) -> list[bytes]:
        raw = random.bytes(int(random.integers(200)))
        kinds = [
            [b"1", raw],
            [b"1", good[: random.integers(len(good))]],
            [b"1", b"\x91" * 10_000],  # nested deeply
            [b"1", b"\xdd\xff\xff\xff\xff"],  # says that it is four billion elements
            [b"1", b"x" * (MAX_BYTES - 10)],
            [b"1", b"x" * (MAX_BYTES + 2_000)],
            [b"1", pickles[random.integers(len(pickles))]],
            [pickles[random.integers(len(pickles))]],
            [b"x"] * int(random.integers(1, 200)),
        ]
        return kinds[random.integers(len(kinds))]

    return draw


class _Flood:
    """Sends from a thread of its own until it is left."""

    def __init__(self, cell: Cell, key: Path, draw: Callable[[np.random.Generator], list[bytes]]):
        self.sent, self._draw = 0, draw
        self._over = threading.Event()
        self._context = zmq.Context()
        self._address = beside(f"tcp://127.0.0.1:{cell.port()}", REQUESTS)
        self._key = keys.client_key(key)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _Flood:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._context.destroy(0)

    def _run(self) -> None:
        random = np.random.default_rng(0)
        sockets = [dealer(self._context, self._address, self._key) for _ in range(3)]
        while not self._over.wait(1 / SENT_HZ):
            for socket in sockets:
                with contextlib.suppress(zmq.Again):
                    socket.send_multipart(self._draw(random), zmq.NOBLOCK)
                    self.sent += 1
        for socket in sockets:
            socket.close(0)


def dealer(context: zmq.Context, address: str, key: keys.ClientKey | None) -> zmq.Socket:
    """Return a socket that follows no rules of ours."""
    return _raw(context, zmq.DEALER, address, key)


def _raw(context: zmq.Context, kind: int, address: str, key: keys.ClientKey | None) -> zmq.Socket:
    found = context.socket(kind)
    if key is not None:
        found.curve_serverkey = key.robotd.encode()
        found.curve_publickey = key.pair.public.encode()
        found.curve_secretkey = key.pair.secret.encode()
    found.linger = 0
    found.connect(address)
    if kind == zmq.SUB:
        found.subscribe(b"")
    return found


def _refused(told: dict[str, Any]) -> int:
    counts = {**told["counts"], **told["loop"]["refused"]}
    return sum(n for name, n in counts.items() if name != "accepted")


# ---- 18: two commanders -----------------------------------------------------------------------


def two_commanders(folder: Path, whole: bool) -> Measured:
    """Ask for a lease that another has, command with its number, and send what was captured."""
    wanted, connections = (10_000, 100) if whole else (400, 3)
    with Cell(folder) as cell:
        keys.new(folder / "keys", Role.POLICY, "thief")
        cell.start("watch", "robotd")
        cell.arm()
        host, port = host_port(f"tcp://127.0.0.1:{cell.port()}")
        with (
            connect(folder, "policy") as policy,
            connect(folder, "thief") as thief,
            Tap(host, port) as tap,
        ):
            lease = policy.request({"type": "lease", "source": int(Source.POLICY)}, 10)["lease"]
            second = thief.request({"type": "lease", "source": int(Source.POLICY)}, 10)["ok"]
            home = np.array(cell.robot.home_rad)
            captured = []
            for seq in range(20):
                told = policy.state(5)
                captured.append(command(cell.robot, lease, seq, told["seq"], home))
                policy.request(captured[-1], 10)
                cell.attend(0.01)
            with _through(tap, folder) as tapped:  # the same key through a wire that is tapped
                for seq in range(20, 40):
                    told = policy.state(5)
                    tapped.request(command(cell.robot, lease, seq, told["seq"], home), 10)
            before = cell.told()["counts"]
            taken = 0
            for i in range(wanted):
                who, one = (thief, policy)[i % 2], captured[i % len(captured)]
                taken += who.request(one, 10)["ok"]
                if i % 5 == 0:
                    policy.request({"type": "hold"}, 10)  # the lease lives on all the time
                    cell.beat()
            for _ in range(connections):
                tap.again()
                policy.request({"type": "hold"}, 10)
                cell.beat()
            after = cell.told()["counts"]
    accepted = after["accepted"] - before["accepted"]
    return Measured(
        f"{max(accepted, taken)} of {wanted:,} captured commands accepted, sent again by two keys; "
        f"{connections} captured connections of {len(tap.taken):,} bytes sent again: nothing came "
        f"of them; the second lease was {'given' if second else 'refused'}",
        accepted == 0 and taken == 0 and not second and len(tap.taken) > 300,
        {"accepted": max(accepted, taken), "replayed": wanted, "connections": connections},
    )


def _through(tap: Tap, folder: Path) -> Client:
    return Client(tap.address, keys.client_key(folder / "keys" / "policy.key"))


# ---- 19: keys ------------------------------------------------------------------------------------


def strangers(folder: Path, whole: bool) -> Measured:
    """Ask and listen without a key, with an unknown, a wrong and a revoked one."""
    with Cell(folder) as cell:
        known = {name: keys.client_key(folder / "keys" / f"{name}.key") for name in ("policy",)}
        for name, role in (("viewer", Role.VIEWER), ("gone", Role.POLICY)):
            known[name] = keys.client_key(keys.new(folder / "keys", role, name))
        unknown = keys.client_key(keys.new(folder / "elsewhere", Role.POLICY))
        unknown = keys.ClientKey(unknown.pair, unknown.role, known["policy"].robotd)
        cell.start("watch", "robotd")
        cell.arm()
        context = zmq.Context()
        address = f"tcp://127.0.0.1:{cell.port()}"
        gone = connect(folder, "gone")
        served = gone.request({"type": "status"}, 10)["ok"] and bool(gone.state(10))
        keys.revoke(folder / "keys", "gone")
        cell.attend(3 * keys.FOLLOWED_S)  # robotd follows its list four times a second
        attempts = []
        for _ in range(20 if whole else 2):
            for key in (None, unknown, known["gone"]):
                attempts += _attempt(context, address, key, (REQUESTS, OPERATOR))
            attempts.append(_stop(context, beside(address, OPERATOR), known["policy"]))
        gone.send({"type": "estop"})
        cell.attend(2.0 if whole else 1.0)
        leaked = sum(len(s.recv()) for s in attempts if s.poll(0))
        try:
            gone.state(0.3)
            leaked += 1
        except StaleState:
            pass
        viewer = connect(folder, "viewer")
        allowed = [viewer.request({"type": what}, 10)["ok"] for what in ("stop", "estop", "hold")]
        told = cell.told()
        viewer.close()
        gone.close()
        context.destroy(0)
    logged = told["loop"]["refused"].get("refused a key", 0)
    return Measured(
        f"{leaked} bytes reached {len(attempts)} sockets without a key, with an unknown, a revoked "
        f"or another role's; {logged} refusals counted; the arm stayed {told['state']}",
        leaked == 0 and served and not any(allowed) and logged > 0 and told["state"] == "armed",
        {"leaked_bytes": leaked, "sockets": len(attempts), "logged": logged},
    )


def _attempt(
    context: zmq.Context, address: str, key: keys.ClientKey | None, ports: tuple[int, ...]
) -> list[zmq.Socket]:
    """Listen to the state, and ask for a stop."""
    asking = [_stop(context, beside(address, port), key) for port in ports]
    return [_raw(context, zmq.SUB, beside(address, STATE), key), *asking]


def _stop(context: zmq.Context, address: str, key: keys.ClientKey | None) -> zmq.Socket:
    found = dealer(context, address, key)
    found.send_multipart([os.urandom(8), pack({"type": "estop"})])
    return found


STRANGERS = (
    Fault(
        5,
        "random, cut off, oversized and deeply nested messages, pickles that would leave a mark, "
        "messages of 200 frames: 450 a second at the sockets of a robot that moves",
        "dropped and counted, the arm goes on",
        "nothing executed, no exception; lateness of ticks at p99 within 10 %, or 0.2 ms (quick: "
        "4 ms)",
        foreign_bytes,
    ),
    Fault(
        18,
        "a second commander asks for the lease, sends the first one's captured commands; a "
        "connection's captured bytes are sent again",
        "refused: the lease belongs to a key, numbers only grow, captured bytes fit no session",
        "0 accepted",
        two_commanders,
    ),
    Fault(
        19,
        "clients without a key, with an unknown one, one that was revoked, a policy's at the "
        "operator's port, a viewer's that asks for stops",
        "no service, counted",
        "0 bytes",
        strangers,
    ),
)
