"""The simulated arm as a process: real time, real sockets, and bounds that a busy machine keeps."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from real_robot.clock import ns
from real_robot.descriptor import load
from real_robot.driver import DriverCommand, DriverLost, DriverState
from real_robot.drivers.sim import Driver, emergency_stop, rehearse
from real_robot.sim import wire
from robo_offline.errors import UserError

ROBOT = load("sim")
TICK_S = ROBOT.tick_ns / 1e9
LONG_S = 20.0  # in which a process begins or ends, however busy the machine is

# A commander with a driver and nothing else, that moves a joint until it is stopped.
COMMANDER = """
import sys, time
import numpy as np
from real_robot.descriptor import load
from real_robot.driver import DriverCommand
from real_robot.drivers.sim import Driver
driver = Driver(load("sim"), sys.argv[1])
driver.connect(20)
q, v = driver.read().q, np.zeros(7)
driver.write(DriverCommand(q, v, 0.0))
v[0] = 0.2
for k in range(100000):
    q = q + v * 0.004
    driver.write(DriverCommand(q, v, 0.0))
    if k == 50:
        print("moving", flush=True)
    time.sleep(0.004)
"""


@contextmanager
def simulated(folder, *arguments, parent=True):
    """A simulated arm; yields its address and its process."""
    address = f"ipc://{folder}/{time.monotonic_ns()}"
    more = ["--parent", str(os.getpid())] if parent else []
    process = subprocess.Popen(
        [sys.executable, "-m", "real_robot.sim", "--capsules", "--address", address]
        + [*more, *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert "simulated arm at" in process.stdout.readline()
        yield address, process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def connected(address):
    driver = Driver(ROBOT, address)
    driver.connect(LONG_S)
    try:
        yield driver
    finally:
        driver.close()


def until(condition, seconds=LONG_S):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False


def ended(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture(scope="module")
def sim(tmp_path_factory):
    """One arm that does not stop by itself, so that only what a test does stops it."""
    with simulated(tmp_path_factory.mktemp("sim"), "--hold-after-s", "30") as (address, process):
        yield address, process


def test_ticks_move_the_arm_at_real_time(sim):
    with connected(sim[0]) as driver:
        begin = driver.read()
        q, v = begin.q, np.zeros(7)
        driver.write(DriverCommand(q, v, 0.0))
        started, due = time.monotonic(), time.monotonic()
        v[0] = 0.3
        for _ in range(100):
            q = q + v * TICK_S
            driver.write(DriverCommand(q, v, 0.0))
            due += TICK_S
            time.sleep(max(0.0, due - time.monotonic()))
        driver.write(DriverCommand(q, np.zeros(7), 0.0))
        assert until(lambda: abs(driver.read().q - q).max() < 0.01, 2.0)
        passed = (driver.read().device_time_ns - begin.device_time_ns) / 1e9
        assert passed == pytest.approx(time.monotonic() - started, rel=0.5)
        assert not driver.read().fault


def test_the_stop_socket_works_while_the_commander_is_stopped_in_its_tracks(sim):
    address, _ = sim
    commander = subprocess.Popen(
        [sys.executable, "-c", COMMANDER, address], stdout=subprocess.PIPE, text=True
    )
    try:
        assert commander.stdout.readline() == "moving\n"
        commander.send_signal(signal.SIGSTOP)
        with connected(address) as watching:
            emergency_stop(address, LONG_S)
            assert until(lambda: watching.read().fault == "stopped from outside", 2.0)
            assert until(lambda: abs(watching.read().dq).max() < 0.005, 2.0)
            state = watching.read()
            commander.send_signal(signal.SIGCONT)  # and its ticks come again
            assert until(lambda: watching.read().device_time_ns > state.device_time_ns + ns(0.3))
            assert abs(watching.read().q - state.q).max() < 1e-3 and watching.read().fault
    finally:
        commander.kill()
        commander.wait()
        commander.stdout.close()
    with connected(address) as driver:
        driver.clear_fault()
        assert not driver.read().fault


def test_a_pressed_button_is_told_and_cannot_be_cleared(sim):
    with connected(sim[0]) as driver:
        rehearse(sim[0], LONG_S, do="press", pressed=True)
        assert until(lambda: driver.read().estop, 2.0)
        driver.clear_fault()
        assert driver.read().estop
        rehearse(sim[0], LONG_S, do="press", pressed=False)
        driver.clear_fault()
        assert not driver.read().estop and not driver.read().fault


@pytest.mark.parametrize(
    "nonsense",
    [
        {"do": "dance"},
        {"do": "trouble", "latency_s": -1, "jitter_s": 0, "dropped": 0},
        {"do": "trouble", "latency_s": "x", "jitter_s": 0, "dropped": 0},
        {"do": "trouble"},
        {"do": "wall", "position": [0, 0], "normal": [1, 0, 0]},
        {"do": "press", "pressed": True, "hard": 1},
        {"do": "reset", "seed": 1},
        {"do": ["tick"]},
        {},
    ],
)
def test_what_cannot_be_done_is_answered_with_the_reason_and_changes_nothing(sim, nonsense):
    with pytest.raises(DriverLost, match="refuses"):
        rehearse(sim[0], LONG_S, **nonsense)


def test_garbage_on_any_socket_moves_nothing_and_ends_nothing(sim):
    address, process = sim
    random = np.random.default_rng(0)
    with connected(address) as driver, zmq.Context() as context:
        before = driver.read().q
        for suffix in (wire.REQUESTS, wire.STOPS):
            with context.socket(zmq.DEALER) as socket:
                socket.connect(address + suffix)
                for _ in range(200):
                    parts = [
                        random.bytes(random.integers(60)) for _ in range(random.integers(1, 5))
                    ]
                    socket.send_multipart(parts)
                session = {"do": "tick", "session": 5, "q": [0] * 7, "dq": [0] * 7, "gripper": 0}
                socket.send_multipart([b"", wire.pack(session)])
                socket.linger = 500
        seen = driver.read().device_time_ns
        assert until(lambda: driver.read().device_time_ns > seen + ns(0.05), 5.0)
        assert abs(driver.read().q - before).max() < 1e-3 and process.poll() is None
        assert not driver.read().fault


def test_a_second_connection_and_another_robot_are_refused(sim):
    with connected(sim[0]) as driver, pytest.raises(UserError, match="already"):
        driver.connect(1.0)
    with pytest.raises(UserError, match="another robot"):
        Driver(load("ur5e"), sim[0]).connect(LONG_S)
    with pytest.raises(UserError, match="does not answer"):
        Driver(ROBOT, sim[0] + "-nobody").connect(0.05)
    with pytest.raises(DriverLost, match="did not answer"):
        emergency_stop(sim[0] + "-nobody", 0.05)


def test_a_simulation_that_was_started_again_is_not_commanded_unseen(tmp_path):
    with connected_again(tmp_path) as driver:
        with pytest.raises(DriverLost, match="started again"):
            until(lambda: driver.read() is None)
        home = np.array(ROBOT.home_rad)
        with suppress(DriverLost):  # meant for the life before
            driver.write(DriverCommand(home, np.zeros(7), 0.0))
            driver.write(DriverCommand(home + 0.004, np.zeros(7), 0.0))
        driver.clear_fault()
        assert abs(driver.read().q - home).max() < 1e-3


@contextmanager
def connected_again(folder):
    """A driver whose simulation was killed, and another one started in its place."""
    address = f"ipc://{folder}/sim"
    with simulated(folder, "--address", address) as (_, process), connected(address) as driver:
        driver.read()
        process.kill()
        process.wait()
        with simulated(folder, "--address", address):
            yield driver


def test_the_arm_ends_with_the_process_that_started_it_and_leaves_no_files(tmp_path):
    """Killed, so that it could not say so."""
    address = f"ipc://{tmp_path}/sim"
    middle = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, subprocess, sys, time\n"
            "child = subprocess.Popen([sys.executable, '-m', 'real_robot.sim', '--capsules',"
            f" '--address', {address!r}, '--parent', str(os.getpid())], stdout=subprocess.PIPE)\n"
            "child.stdout.readline()\n"
            "print(child.pid, flush=True)\n"
            "time.sleep(600)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(middle.stdout.readline())
    assert list(tmp_path.iterdir())
    middle.kill()
    middle.wait()
    middle.stdout.close()
    assert until(lambda: ended(child))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path, number):
    with simulated(tmp_path, parent=False) as (_, process):
        process.send_signal(number)
        assert process.wait(LONG_S) == 0
    assert list(tmp_path.iterdir()) == []


# ---- the wire --------------------------------------------------------------------------------


def test_a_state_and_a_tick_come_out_as_they_went_in():
    random = np.random.default_rng(0)
    state = DriverState(
        q=random.normal(size=7),
        dq=random.normal(size=7),
        device_time_ns=2**60,
        gripper=0.1,
        wrench=random.normal(size=6),
        fault="joint 3",
        estop=True,
        extra={"cube": random.normal(size=7)},
    )
    again, session, cleared = wire.unpacked_state(wire.packed_state(state, 3, 4))
    assert (session, cleared) == (3, 4)
    assert again.q.tobytes() == state.q.tobytes() and again.fault == state.fault
    assert again.extra["cube"].tobytes() == state.extra["cube"].tobytes() and again.estop
    command = DriverCommand(random.normal(size=7), random.normal(size=7), 0.3)
    found = wire.unpacked_tick(wire.unpack(wire.packed_tick(command, 1)), 7)
    assert found.q.tobytes() == command.q.tobytes() and found.gripper == 0.3


@given(st.binary(max_size=300))
def test_bytes_from_anywhere_are_a_message_or_garbled(raw):
    for parse in (wire.unpack, wire.unpacked_state):
        with suppress(wire.Garbled):
            parse(raw)


KEYS = (
    "q",
    "dq",
    "gripper",
    "session",
    "cleared",
    "wrench",
    "fault",
    "estop",
    "extra",
    "device_ns",
)
NUMBERS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats()
VALUES = st.recursive(
    NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@settings(max_examples=50)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, VALUES)))
def test_a_map_from_anywhere_is_a_state_or_garbled(found):
    with suppress(wire.Garbled):
        wire.unpacked_state(wire.pack(found))
    with suppress(wire.Garbled):
        wire.unpacked_tick(found, 7)
