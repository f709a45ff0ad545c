"""A cell: the processes of one robot, brought up and ended together.

    sim ── robotd ── robotwatch, and a console in this terminal

They end in the order that keeps the arm safe: robotd after a controlled stop, then robotwatch,
which has watched it stop, then the simulated arm. A cell that is killed leaves none of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from real_robot import keys, memory
from real_robot.client import Client
from real_robot.descriptor import RobotDescriptor, load
from real_robot.drivers.sim import default_address
from real_robot.keys import Role
from real_robot.machine import State
from real_robot.robotd import ADDRESS, tightened
from real_robot.watch import Heartbeats, default_path
from robo_offline.errors import UserError

STARTING_S = 90.0  # a simulated scene can take long to load
ENDING_S = {"robotd": 15.0, "robotwatch": 5.0, "sim": 5.0, "console": 3.0}  # in this order
LOOKED_S = 0.05
LINES = 6  # of a log that are shown
NOTICE_BYTES = 4_096


@dataclass(frozen=True)
class Plan:
    """What is to run."""

    robot: str = "sim"
    address: str | None = None  # of the arm; none for one that is simulated here
    scene: tuple[str, ...] = ()  # arguments of real_robot.sim
    keys: Path = field(default_factory=keys.default_folder)
    bind: str = ADDRESS
    limits: Path | None = None
    folder: Path | None = None  # for logs and incidents; default: runs/robot-<time>-<name>
    console: Sequence[str] | None = ()  # its arguments; None for none


@dataclass(frozen=True)
class Notice:
    """How a running cell is found from another terminal."""

    robot: str
    pid: int
    address: str
    keys: str
    folder: str

    def client(self, role: Role = Role.OPERATOR) -> Client:
        """Connect to its robotd."""
        return Client(self.address, keys.client_key(Path(self.keys) / f"{role.value}.key"))


class Children:
    """The processes, each with a log of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, module: str, *arguments: str, terminal: bool = False) -> None:
        """Start a module; with `terminal` it has this one's."""
        command = [sys.executable, "-m", module, *arguments, "--parent", str(os.getpid())]
        if terminal:
            self.running[name] = subprocess.Popen(command)
            return
        with self.log(name).open("ab") as log:
            self.running[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the console; these end in their order
            )

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def ended(self) -> str | None:
        """Return the name of one that has ended."""
        return next((n for n, p in self.running.items() if p.poll() is not None), None)

    def check(self) -> None:
        """UserError with the end of its log, where one has ended."""
        if name := self.ended():
            log = self.log(name)
            lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
            raise UserError(
                f"{name} has ended", where=log, found="\n    ".join(["", *lines[-LINES:]])
            )

    def end(self) -> list[str]:
        """End them all; return which had to be killed."""
        killed = []
        for name, patience in ENDING_S.items():
            process = self.running.pop(name, None)
            if process is None:
                continue
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                killed.append(name)
        return killed


def up(plan: Plan) -> int:
    """Bring a cell up, keep it until the console ends or somebody stops it, and end it."""
    robot = tightened(load(plan.robot), plan.limits)
    if not (plan.keys / keys.ROBOTD).exists():
        for role in Role:
            keys.new(plan.keys, role)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = plan.folder or Path("runs") / f"robot-{stamp}-{robot.name}"
    ended: list[int] = []
    before = {
        number: signal.signal(number, lambda n, _: ended.append(n))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    children = Children(folder)
    try:
        with _notice(robot.name) as post:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                address = _start(plan, robot, children, ended)
                post(Notice(robot.name, os.getpid(), address, str(plan.keys), str(folder)))
                _tell(plan, robot, children, address)
                if plan.console is not None and not ended:
                    children.start("console", "real_robot.console", address,
                                   "--key", str(plan.keys / "operator.key"), *plan.console,
                                   terminal=True)  # fmt: skip
                while not ended and children.ended() is None:
                    time.sleep(LOOKED_S)
                if not ended and children.ended() != "console":
                    children.check()
            finally:
                killed = children.end()
                default_path(robot.name).unlink(missing_ok=True)
            print(f"the cell has ended; logs and incidents: {folder}", flush=True)
            if killed:
                print(f"did not end by itself: {', '.join(killed)}", file=sys.stderr)
            return 1 if killed else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def running(name: str | None = None) -> Notice:
    """Return the cell that runs. UserError where there is none, or a name is needed."""
    found = [n for n in map(_posted, _notices()) if n is not None]
    if name is not None:
        found = [n for n in found if n.robot == name]
    if not found:
        raise UserError(
            "no cell is running" + (f" for '{name}'" if name else ""),
            remedy="robo-offline robot up robot=sim",
        )
    if len(found) > 1:
        raise UserError(
            "several cells are running", remedy="robot=" + " or robot=".join(n.robot for n in found)
        )
    return found[0]


def stop(name: str | None = None) -> int:
    """Bring the arm of a running cell to rest, and end the cell; 0 where both are known."""
    notice = running(name)
    rested = False
    try:
        with notice.client() as operator:
            operator.request({"type": "stop"}, 3.0)
            until = time.monotonic() + 10
            while time.monotonic() < until and not rested:
                state = State(operator.state(1.0)["state"])
                rested = not state.commanding
        print(f"the arm is at rest ({state.value})" if rested else "the arm does not come to rest")
    except TimeoutError as error:
        print(f"robotd does not answer; its cell is ended all the same: {error}", file=sys.stderr)
    with contextlib.suppress(ProcessLookupError):
        os.kill(notice.pid, signal.SIGTERM)
    until = time.monotonic() + sum(ENDING_S.values())
    while _posted(memory.place(f"{notice.robot}.cell")) is not None:
        if time.monotonic() > until:
            raise UserError("the cell does not end", found=f"process {notice.pid}")
        time.sleep(LOOKED_S)
    print("the cell has ended")
    return 0 if rested else 1


def _start(plan: Plan, robot: RobotDescriptor, children: Children, ended: Sequence[int]) -> str:
    address = plan.address
    # robotd reads the same file: what was tightened is given to it as well.
    which = [plan.robot]
    if robot.driver == "sim" and address is None:
        address = default_address(f"{robot.name}-{os.getpid()}")
        children.start(
            "sim", "real_robot.sim", "--robot", plan.robot, "--address", address, *plan.scene
        )
    if address is not None:
        which += ["--driver-address", address]
    children.start("robotwatch", "real_robot.watch", *which)
    options = ["--keys", str(plan.keys), "--bind", plan.bind, "--connect-s", str(STARTING_S)]
    options += ["--record", str(children.folder / "incidents")]
    if plan.limits is not None:
        options += ["--limits", str(plan.limits)]
    children.start("robotd", "real_robot.robotd", *which, *options)
    host = plan.bind.rpartition(":")[0]
    return f"{host}:{_port(robot, children, ended)}"


def _port(robot: RobotDescriptor, children: Children, ended: Sequence[int]) -> int:
    """Wait until robotd listens and beats; return its port."""
    hearts = Heartbeats(default_path(robot.name))
    try:
        pid, until = children.running["robotd"].pid, time.monotonic() + STARTING_S
        while not ended and time.monotonic() < until:
            children.check()
            if hearts.pid == pid and hearts.port and hearts.beats:
                return hearts.port
            time.sleep(LOOKED_S)
    finally:
        hearts.close()
    if ended:
        raise UserError("stopped before the robot was up")
    raise UserError(
        f"robotd is not up after {STARTING_S:g} s",
        where=children.log("robotd"),
        found=children.log("robotd").read_text(errors="replace")[-400:],
    )


def _tell(plan: Plan, robot: RobotDescriptor, children: Children, address: str) -> None:
    print(f"{robot.name} ({robot.hash[:12]}) in {children.folder}")
    for name, process in children.running.items():
        where = f"  {address}" if name == "robotd" else ""
        print(f"  {name:<11} process {process.pid:<8} {children.log(name)}{where}")
    print(f"keys: {plan.keys}    stop it from anywhere: robo-offline robot stop", flush=True)


@contextlib.contextmanager
def _notice(name: str) -> Iterator:
    """Claim the name for this cell; yield what posts how it is found."""
    path = memory.place(f"{name}.cell")
    file, page = memory.opened(path, NOTICE_BYTES)
    if not memory.claim(file):
        page.close()
        os.close(file)
        found = _posted(path)
        raise UserError(
            f"a cell for '{name}' runs already",
            found=f"process {found.pid}" if found else None,
            remedy="robo-offline robot stop",
        )
    page[:] = bytes(NOTICE_BYTES)

    def post(notice: Notice) -> None:
        raw = json.dumps(asdict(notice)).encode()
        page[: len(raw)] = raw

    try:
        yield post
    finally:
        path.unlink(missing_ok=True)
        page.close()
        os.close(file)


def _notices() -> Iterator[Path]:
    any_ = memory.place("*.cell")
    return any_.parent.glob(any_.name)


def _posted(path: Path) -> Notice | None:
    """Return the notice of a cell that lives."""
    try:
        with path.open("rb") as file:
            if memory.claim(file.fileno()):  # nobody holds it any more
                return None
            return Notice(**json.loads(file.read().rstrip(b"\0")))
    except (OSError, ValueError, TypeError):
        return None
