"""Faults of what is written down: flight records, limits, and what is decided again from them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from real_robot import robotd
from real_robot.descriptor import RobotDescriptor, dump, load, parse
from real_robot.record import HEADER_BYTES, SLOT, SLOT_BYTES, read
from real_robot.recorder import Noted, Recorder
from real_robot.testing import mutations
from real_robot.testing.flight import Flight, replayed
from real_robot.testing.processes import Cell as Processes
from real_robot.testing.still import OPERATOR, Cell
from robo_offline.bench.faults import Fault, Measured
from robo_offline.errors import UserError

ROBOTS = ("sim", "ur5e", "franka")
KEPT_S = 10.0  # that a record must go back


def torn_records(folder: Path, whole: bool) -> Measured:
    """Kill writers of flight records, turn bits of what they leave, and fill a ring."""
    kills, flips = (100, 2000) if whole else (3, 40)
    worst_lost = worst_gap = 0
    ring = folder / "ring"
    for number in range(kills):
        (folder / f"{number}").mkdir()
        ring = _killed(folder / f"{number}", number)
        found = read(ring)
        numbers = [tick.number for tick in found.ticks]
        worst_lost = max(worst_lost, len(found.lost))
        worst_gap = max(worst_gap, numbers[-1] - numbers[0] + 1 - len(numbers))
        if number < kills - 1:
            ring.unlink()
    most, untold = _flipped(ring, folder / "flipped", flips)
    seconds = _filled(folder)
    return Measured(
        f"{kills} writers killed: at most {worst_lost} tick unreadable, {worst_gap} missing between"
        f" others; {flips} bits turned: at most {most} tick lost, {untold} untold; a full ring "
        f"goes back {seconds:.1f} s",
        worst_lost <= 1 and worst_gap == 0 and most <= 1 and untold == 0 and seconds >= KEPT_S,
        {
            "kills": kills,
            "unreadable_ticks": worst_lost,
            "bits": flips,
            "ticks_lost_per_bit": most,
            "untold": untold,
            "kept_s": seconds,
        },
    )


def looser_limits(folder: Path, whole: bool) -> Measured:
    """Offer limits that are looser, in degrees or none, and robots with another hash."""
    asked = refused = 0
    taken: list[str] = []
    for robot in map(load, ROBOTS):
        cell = Cell(robot)
        cell.tick()
        for number, (name, limits) in enumerate(mutations.limits(robot)):
            path = folder / "limits.json"
            path.write_text(json.dumps(limits))
            kept = _refuses(robot, path)
            if whole or (robot.name == "sim" and number % 40 == 0):
                kept = kept and _process_refuses(robot.name, path)
            kept = kept and _not_armed(cell, robot, limits)
            asked, refused = asked + 1, refused + kept
            taken += [] if kept else [f"{robot.name}: {name}"]
    return Measured(
        f"{refused} of {asked} refused{': taken ' + '; '.join(taken[:5]) if taken else ''}",
        asked == refused and asked > 300,
        {"mutations": asked, "refused": refused},
    )


def replayed_records(folder: Path, whole: bool) -> Measured:
    """Run the records of wild flights on faulty arms again, from every snapshot on."""
    compared = different = 0
    for seed in range(50 if whole else 2):
        (folder / f"{seed}").mkdir()
        flight = Flight(folder / f"{seed}", ("sim", "ur5e")[seed % 2], seed)
        record = flight.fly(3000 if whole else 700)
        flight.close()
        for frame in record.snapshots:
            found = replayed(record, frame)
            compared, different = compared + len(found), different + sum(map(bool, found))
    real = _real_incident(folder / "cell")
    compared, different = compared + len(real), different + sum(map(bool, real))
    return Measured(
        f"{compared} ticks decided again, {len(real)} of them of a real robotd: {different} "
        "otherwise",
        different == 0 and compared > 1000 and len(real) > 10,
        {"ticks": compared, "different": different},
    )


def _killed(folder: Path, seed: int) -> Path:
    """Kill a writer at a random moment; return the ring that it leaves."""
    command = [sys.executable, "-m", "real_robot.testing.writing", str(folder)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"flying\n"
    time.sleep(np.random.default_rng(seed).uniform(0, 0.2))
    writer.kill()
    writer.wait()
    writer.stdout.close()
    return folder / "ring"


def _flipped(ring: Path, to: Path, count: int) -> tuple[int, int]:
    """Turn single bits; return how many ticks one costs at most, and how often that is untold."""
    raw, random = bytearray(ring.read_bytes()), np.random.default_rng(0)
    before = {tick.number for tick in read(ring).ticks}
    slots = (len(raw) - HEADER_BYTES) // SLOT_BYTES
    most = untold = 0
    for _ in range(count):
        slot = HEADER_BYTES + SLOT_BYTES * int(random.choice(sorted(before)) % slots)
        _, length, _ = SLOT.unpack_from(raw, slot)
        at, bit = slot + int(random.integers(SLOT.size + length)), int(random.integers(8))
        raw[at] ^= 1 << bit
        to.write_bytes(raw)
        raw[at] ^= 1 << bit
        found = read(to)
        gone = before - {tick.number for tick in found.ticks}
        most, untold = max(most, len(gone)), untold + bool(gone and not found.lost)
    to.unlink()
    return most, untold


def _filled(folder: Path) -> float:
    """Fill a ring beyond its end; return how many seconds before a stop it still holds."""
    cell = Cell()
    noted = Noted(cell.daemon.driver)
    cell.daemon.driver = noted
    recorder = Recorder(folder / "full", folder, cell.robot.timing.servo_hz)
    try:
        for number in range(recorder.layout.slots + 500):
            noted.begin()
            if number == recorder.layout.slots + 499:
                cell.daemon.stop("the ring is full")
            said = {"lost": noted.lost, "watcher_ns": 0, "stops": []}
            tick = cell.tick()
            recorder.write(cell.daemon, tick, said | {"measured": noted.measured})
        found = read(recorder.path)
    finally:
        recorder.close()
    assert not found.lost and found.ticks[-1].stop_id == 1
    return (found.ticks[-1].now_ns - found.ticks[0].now_ns) / 1e9


def _refuses(robot: RobotDescriptor, path: Path) -> bool:
    try:
        robotd.tightened(robot, path)
    except UserError:
        return True
    return False


def _process_refuses(name: str, path: Path) -> bool:
    """Start a robotd with these limits; say whether it ended before it opened anything."""
    command = [sys.executable, "-m", "real_robot.robotd", name, "--limits", str(path)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 2


def _not_armed(cell: Cell, robot: RobotDescriptor, limits: dict) -> bool:
    """Say whether a robot is not armed by who believes in these limits."""
    whole = json.loads(dump(robot))
    whole["limits"] |= limits
    try:
        believed = parse(json.dumps(whole)).hash
    except UserError:
        return True
    reply = cell.ask(OPERATOR, "arm", descriptor=believed)
    return not reply["ok"] and cell.daemon.machine.state.value == "idle"


def _real_incident(folder: Path) -> list[str]:
    """Kill the commander of a robotd over the wire, and run its record again."""
    with Processes(folder) as cell:
        cell.start("watch", "robotd")
        cell.move()
        cell.processes["policy"].kill()
        cell.wait(lambda: cell.state() == "stopped", 30)
        record = cell.incident()
    return replayed(record, record.snapshots[-1])


RECORDS = (
    Fault(
        30,
        "kill -9 of who writes the flight record, single bits turned, a ring that is full",
        "all ticks but the one being written can be read, and a damaged one is told",
        f"at most 1 tick lost, at least {KEPT_S:g} s before a stop are kept",
        torn_records,
    ),
    Fault(
        32,
        "limits that are looser, in degrees or millimetres, or none; an arm request that believes "
        "in another robot; three robots",
        "robotd does not begin, the robot is not armed",
        "all are refused",
        looser_limits,
    ),
    Fault(
        33,
        "flight records of wild commanders and faulty arms, and of a real robotd, run again",
        "every tick decides what it decided",
        "the same to the bit",
        replayed_records,
    ),
)
