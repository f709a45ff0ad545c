"""robotd itself hangs, is stopped or killed while it moves an arm: robotwatch, and the vendors."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from real_robot.clock import ns
from real_robot.descriptor import load
from real_robot.drivers.franka import Driver
from real_robot.machine import State
from real_robot.testing.driven import patient, stands
from real_robot.testing.fake_ur import FakeUR
from real_robot.testing.franka_sim import FrankaSim
from real_robot.testing.processes import Cell
from real_robot.testing.still import Cell as Rehearsal
from real_robot.watch import LIMIT_S
from robo_offline.bench.faults import Fault, Measured
from robo_offline.bench.faults.spread import figures_ms, spread

HUNG_S = 1.0
SILENT_S = 2 * LIMIT_S + 0.02
ENDED_S = 0.25
SIM_STATE_S = 0.25  # a simulation that shares its processors makes pauses
BUSY_S = 0.15  # of a machine that has other things to do, as in the quick forms
KILLED, EXITING = 1 << signal.SIGKILL - 1, 0x4  # in /proc: a pending signal, a flag of a thread


def hung_driver(folder: Path, whole: bool) -> Measured:
    """Let a driver's read hang for a second, and an arm's own time stand still."""
    stops, still = [], [_standing_time(seed) for seed in range(500 if whole else 20)]
    with Cell(folder) as cell:
        cell.start("robotd", "watch")
        for _ in range(20 if whole else 2):
            cell.watched()
            stops.append(_silent(cell, lambda: (folder / "hang").write_text(f"{HUNG_S}")))
            cell.wait(lambda: "robotd is back" in cell.log("watch"))
    return Measured(
        f"robotwatch stopped the arm {spread(stops)} after the read that hung; time that stood "
        f"still: a fault at most {max(still):.1f} ms after its limit",
        max(stops) <= 1e3 * SILENT_S + (0 if whole else 50) and max(still) <= 4,
        {**figures_ms("stop", stops), "stood_still_late_ms": max(still)},
    )


def _silent(cell: Cell, how: Callable[[], object]) -> float:
    """Make robotd silent; return the ms until robotwatch stops the arm."""
    before, began = len(cell.lines("emergency")), time.monotonic_ns()
    how()
    cell.wait(lambda: len(cell.lines("emergency")) > before)
    return (int(cell.lines("emergency")[before]) - began) / 1e6


def _standing_time(seed: int) -> float:
    """Return the ms after the limit at which a state that is never new becomes a fault."""
    cell, random = Rehearsal(), np.random.default_rng(seed)
    cell.ready()
    cell.drive(cell.home + 0.1, random.uniform(0.05, 0.3))
    frozen = cell.arm.read()
    vars(cell.arm)["read"] = lambda: frozen
    began = cell.daemon.fresh_ns
    cell.clock.advance(int(random.integers(cell.robot.tick_ns)))
    while not cell.daemon.machine.state.latched:
        cell.send(cell.home + 0.1)
    late = cell.clock.now_ns() - began - ns(cell.robot.timing.state_timeout_s)
    return late / 1e6 if cell.daemon.machine.state is State.FAULT else float("inf")


def stopped_robotd(folder: Path, whole: bool) -> Measured:
    """SIGSTOP and SIGKILL robotd while it moves arms; look at the arms."""
    numbers = (signal.SIGSTOP, signal.SIGKILL)
    found: dict[str, list[float]] = {"arithmetic": [], "UR": [], "Franka": []}
    closed, still = [], True
    for run in range(5 if whole else 1):
        for number in numbers:
            where = folder / f"{run}-{number}"
            found["arithmetic"].append(_arithmetic(where / "arithmetic", number))
            if number is signal.SIGSTOP or whole:  # the harder one: robotwatch kills in the end
                found["UR"].append(_ur(where / "ur", number))
                ended, closed_ms, stood = _franka(where / "franka", number)
                found["Franka"].append(ended)
                closed.append(closed_ms)
                still = still and stood
    most = max(max(values) for values in found.values())
    told = "; ".join(f"{name} {spread(values)}" for name, values in found.items())
    return Measured(
        f"motion ended: {told} (connection closed {spread(closed)}); "
        f"{'all' if still else 'NOT all'} Franka arms seen to stand",
        most <= 1e3 * (ENDED_S + (0 if whole else BUSY_S)) and still,
        {k: v for name, ms in found.items() for k, v in figures_ms(name.lower(), ms).items()}
        | figures_ms("closed", closed),
    )


def _arithmetic(folder: Path, number: int) -> float:
    with Cell(folder) as cell:
        cell.start("robotd", "watch")
        cell.watched()
        return _silent(cell, lambda: cell.processes["robotd"].send_signal(number))


def _ur(folder: Path, number: int) -> float:
    """Return the ms until the controller follows no targets any more."""
    robot = load("ur5e")
    with FakeUR(list(robot.home_rad)) as fake, Cell(folder, patient(robot), fake.address) as cell:
        cell.start("robotd", "watch")
        cell.watched()
        cell.move()
        cell.wait(lambda: max(map(abs, fake.tell()["actual_qd"])) > 0.02, 20)
        began = time.monotonic()
        cell.processes["robotd"].send_signal(number)
        while fake.tell()["servoing"]:
            time.sleep(0.001)
        ended = time.monotonic()
        cell.wait(lambda: max(map(abs, fake.tell()["actual_qd"])) < 1e-3, 20)
        return 1e3 * (ended - began)


def _franka(folder: Path, number: int) -> tuple[float, float, bool]:
    """Return the ms until robotd can send nothing more and until its connection has ended, and
    whether the arm stands after that."""
    robot = patient(load("franka"), SIM_STATE_S)
    with FrankaSim() as sim:
        with Cell(folder, robot, sim.address) as cell:
            cell.start("robotd", "watch")
            cell.watched()
            cell.move()
            cell.wait(lambda: max(map(abs, cell.told()["dq"])) > 0.02, 20)
            began, robotd = time.monotonic(), cell.processes["robotd"]
            robotd.send_signal(number)
            while not _dying(robotd.pid):
                time.sleep(0.001)
            ended = time.monotonic()
            robotd.wait(10)
            closed = time.monotonic()
        driver = Driver(robot, sim.address)
        driver.connect(20.0)
        try:
            time.sleep(0.1)
            seen = []
            for _ in range(40):
                seen.append(driver.read())
                time.sleep(robot.tick_ns / 1e9)
        finally:
            driver.close()
    return 1e3 * (ended - began), 1e3 * (closed - began), stands(seen)


def _dying(pid: int) -> bool:
    """Say whether no thread of a process can run its own code again."""
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            stat, status = (task / "stat").read_text(), (task / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        flags = int(stat.rpartition(")")[2].split()[6])
        pending = int(status.partition("SigPnd:")[2].split()[0], 16)
        if not flags & EXITING and not pending & KILLED:
            return False
    return True


ROBOTD = (
    Fault(
        10,
        "a driver's read that hangs for a second; an arm whose own time stands still",
        "robotwatch calls the vendor's stop; a fault, latched",
        "twice the heartbeat's 100 ms and 20 ms (quick: 50 ms more); virtual: the state's limit "
        "and one tick",
        hung_driver,
    ),
    Fault(
        11,
        "SIGSTOP and SIGKILL of robotd with an arithmetic arm, with UR's library before a fake "
        "controller, with Franka's before franky-sim",
        "robotwatch stops the arm, or ends robotd, whose connection was the motion",
        "250 ms until nothing more is commanded: the stop at the controller, or a process that "
        "cannot send any more (quick: 400 ms)",
        stopped_robotd,
    ),
)
