"""What a flight record looks like, and how to read one that was cut off, damaged or both.

    header | one slot per tick | one slot per snapshot of the daemon | header again

A slot is number, length, CRC-32 and MessagePack; the numbers say the order, so a ring needs no
beginning. Floating-point numbers are little-endian float64, to the bit as they were.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from real_robot.daemon import Daemon, Tick
from real_robot.driver import DriverCommand, DriverState
from real_robot.machine import State
from real_robot.requests import Peer, Role
from real_robot.safety.motion import Setpoint
from real_robot.verdict import Reason
from robo_offline.errors import UserError

SLOT_BYTES = 8_192  # of a tick: its messages are at most 6 KB, or one that no command can be
FRAMES, FRAME_BYTES = 16, 262_144  # snapshots
CUT_BYTES = 256  # of each message, where all of them do not fit
HEADER_BYTES = 4_096
MAGIC, VERSION = b"rorecord", 1
HEADER = struct.Struct("<8sIIIIIQI")  # magic, version, slots and bytes of both rings, until, CRC
SLOT = struct.Struct("<QII")  # number, length, CRC of the number and what follows


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the two rings are in the file."""

    slots: int
    slot_bytes: int = SLOT_BYTES
    frames: int = FRAMES
    frame_bytes: int = FRAME_BYTES

    @property
    def frames_at(self) -> int:
        return HEADER_BYTES + self.slots * self.slot_bytes

    @property
    def end(self) -> int:
        return self.frames_at + self.frames * self.frame_bytes

    @property
    def size(self) -> int:
        return self.end + HEADER_BYTES

    def header(self, until: int) -> bytes:
        """Return the header of a record that ends with tick `until`, or 0 for its newest."""
        numbers = (self.slots, self.slot_bytes, self.frames, self.frame_bytes, until)
        whole = HEADER.pack(MAGIC, VERSION, *numbers, 0)
        return whole[:-4] + zlib.crc32(whole[:-4]).to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A tick as it was: enough to run it again."""

    number: int
    now_ns: int
    late_ns: int
    seq: int
    watcher_ns: int
    operator_ns: int
    stops: tuple[str, ...]  # asked for by robotd itself before the tick
    measured: DriverState | None  # what the driver returned, though the daemon may not have used it
    lost: tuple[str, ...]  # the driver's calls that failed, and why
    inbox: tuple[tuple[Peer, bytes], ...]
    cut: tuple[int, ...]  # which of these messages are only their first bytes
    reasons: tuple[Reason, ...]
    state: State  # after it, as is what follows
    stop_id: int
    stop_reason: str
    setpoint: Setpoint
    sent: DriverCommand | None
    motion: Reason


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The daemon as it was after a tick."""

    after: int
    daemon: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Lost:
    """A tick or snapshot that cannot be read."""

    what: str
    number: int
    why: str


@dataclass(frozen=True, slots=True)
class Record:
    """What a file still holds, in order, and what it does not."""

    ticks: tuple[Recorded, ...]
    snapshots: tuple[Snapshot, ...]
    lost: tuple[Lost, ...]


def read(path: Path) -> Record:
    """Read a record, or the ring of a robotd that runs or was killed. UserError for other files."""
    path = path / "record.bin" if path.is_dir() else path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError("the record cannot be read", where=path, found=error) from None
    layout, until = _header(data, path)
    slots, bad_ticks = _slots(data, HEADER_BYTES, layout.slots, layout.slot_bytes, until)
    frames, bad_frames = _slots(data, layout.frames_at, layout.frames, layout.frame_bytes, 0)
    ticks, lost = [], [Lost("tick", n, why) for n, why in bad_ticks]
    for number, raw in slots:
        try:
            ticks.append(_tick(number, msgpack.unpackb(raw)))
        except Exception as error:  # fits its CRC and still is no tick: another version's
            lost.append(Lost("tick", number, f"cannot be understood: {error!r}"))
    snapshots = []
    lost += [Lost("snapshot", n, why) for n, why in bad_frames]
    for number, raw in frames:
        try:
            found = msgpack.unpackb(raw, strict_map_key=False)
            if not until or found["after"] <= until:
                snapshots.append(Snapshot(found["after"], found["snapshot"]))
        except Exception as error:
            lost.append(Lost("snapshot", number, f"cannot be understood: {error!r}"))
    return Record(tuple(ticks), tuple(snapshots), tuple(sorted(lost, key=lambda x: x.number)))


def packed(daemon: Daemon, tick: Tick, said: Mapping[str, Any]) -> bytes | None:
    """Return a tick's bytes for a slot, long messages cut where they do not fit; None: too long."""
    for whole in (True, False):
        raw = msgpack.packb(_plain(daemon, tick, said, whole))
        if len(raw) <= SLOT_BYTES - SLOT.size:
            return raw
    return None


def crc(number: int, raw: bytes | memoryview) -> int:
    """Return the checksum of a slot."""
    return zlib.crc32(raw, zlib.crc32(number.to_bytes(8, "little")))


def _header(data: bytes, path: Path) -> tuple[Layout, int]:
    for at in (0, len(data) - HEADER_BYTES):
        raw = data[at : at + HEADER.size] if at >= 0 else b""
        if len(raw) < HEADER.size or zlib.crc32(raw[:-4]).to_bytes(4, "little") != raw[-4:]:
            continue
        magic, version, slots, slot_bytes, frames, frame_bytes, until, _ = HEADER.unpack(raw)
        layout = Layout(slots, slot_bytes, frames, frame_bytes)
        if magic == MAGIC and version == VERSION and layout.size == len(data):
            return layout, until
    raise UserError("this is no flight record, or another version's", where=path)


def _slots(
    data: bytes, begin: int, slots: int, size: int, until: int
) -> tuple[list[tuple[int, bytes]], list[tuple[int, str]]]:
    """Return (number, payload) in order, and the numbers that are missing with the reason."""
    found: dict[int, bytes] = {}
    bad: set[int] = set()
    for index in range(slots):
        at = begin + index * size
        number, length, checksum = SLOT.unpack_from(data, at)
        raw = data[at + SLOT.size : at + SLOT.size + length]
        if (
            number > 0
            and number % slots == index
            and length <= size - SLOT.size
            and checksum == crc(number, raw)
        ):
            found[number] = raw
        elif any(data[at : at + SLOT.size]):
            bad.add(index)
    if not found:
        return [], [(index, "torn or flipped") for index in sorted(bad)]
    newest = until if until else max(found)
    missing = [
        (n, "torn or flipped" if n % slots in bad else "never written")
        for n in range(max(1, min(found)), newest + 1)
        if n not in found
    ]
    # Beyond the oldest or newest that is whole: one that was being written, or the oldest itself.
    beyond = bad - {n % slots for n, _ in missing}
    missing += [(newest + 1 + (i - newest - 1) % slots, "torn or flipped") for i in beyond]
    return sorted((n, raw) for n, raw in found.items() if n <= newest), missing


def _plain(daemon: Daemon, tick: Tick, said: Mapping[str, Any], whole: bool) -> dict[str, Any]:
    state: DriverState | None = said["measured"]
    found: dict[str, Any] = {
        "now_ns": tick.now_ns,
        "late_ns": tick.late_ns,
        "seq": tick.seq,
        "watcher_ns": said["watcher_ns"],
        "operator_ns": daemon.operator_ns,
        "stops": said["stops"],
        "lost": said["lost"],
        "inbox": [
            (j.peer.key, j.peer.role.value, j.raw if whole else j.raw[:CUT_BYTES], len(j.raw))
            for j in tick.judgements
        ],
        "reasons": [int(j.reason) for j in tick.judgements],
        "state": tick.state.value,
        "stop_id": daemon.machine.stop_id,
        "stop_reason": daemon.machine.stop_reason[:400],
        "setpoint": [_bytes(x) for x in (tick.setpoint.q, tick.setpoint.v, tick.setpoint.a)],
        "sent": tick.sent and (_bytes(tick.sent.q), _bytes(tick.sent.dq), tick.sent.gripper),
        "motion": int(tick.motion),
        "measured": None,
    }
    if state is not None:
        found["measured"] = {
            "q": _bytes(state.q),
            "dq": _bytes(state.dq),
            "device_time_ns": state.device_time_ns,
            "gripper": float(state.gripper),
            "wrench": None if state.wrench is None else _bytes(state.wrench),
            "fault": state.fault[:200],
            "estop": state.estop,
            "extra": {n: (_bytes(x), np.shape(x)) for n, x in state.extra.items()} if whole else {},
        }
    return found


def _tick(number: int, data: Mapping[str, Any]) -> Recorded:
    m, sent = data["measured"], data["sent"]
    inbox = [(Peer(key, Role(role)), raw) for key, role, raw, _ in data["inbox"]]
    return Recorded(
        number=number,
        now_ns=data["now_ns"],
        late_ns=data["late_ns"],
        seq=data["seq"],
        watcher_ns=data["watcher_ns"],
        operator_ns=data["operator_ns"],
        stops=tuple(data["stops"]),
        measured=m
        and DriverState(
            q=_vector(m["q"]),
            dq=_vector(m["dq"]),
            device_time_ns=m["device_time_ns"],
            gripper=m["gripper"],
            wrench=None if m["wrench"] is None else _vector(m["wrench"]),
            fault=m["fault"],
            estop=m["estop"],
            extra={name: _vector(raw).reshape(shape) for name, (raw, shape) in m["extra"].items()},
        ),
        lost=tuple(data["lost"]),
        inbox=tuple(inbox),
        cut=tuple(i for i, (_, _, raw, length) in enumerate(data["inbox"]) if len(raw) != length),
        reasons=tuple(Reason(value) for value in data["reasons"]),
        state=State(data["state"]),
        stop_id=data["stop_id"],
        stop_reason=data["stop_reason"],
        setpoint=Setpoint(*(_vector(raw) for raw in data["setpoint"])),
        sent=sent and DriverCommand(_vector(sent[0]), _vector(sent[1]), sent[2]),
        motion=Reason(data["motion"]),
    )


def _bytes(vector: np.ndarray | Sequence[float]) -> bytes:
    return np.asarray(vector, "<f8").tobytes()


def _vector(raw: bytes) -> np.ndarray:
    return np.frombuffer(raw, "<f8").copy()
