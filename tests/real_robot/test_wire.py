import pickle
import threading
import time

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as some

from real_robot import keys
from real_robot.client import OPERATOR, REQUESTS, STATE, beside, host_port
from real_robot.link import StaleState
from real_robot.messages import MAX_BYTES
from real_robot.testing.serving import client, make_keys, server, serving
from real_robot.testing.still import Cell
from real_robot.testing.tap import Tap
from real_robot.wire import FRAMES_PER_TICK, MESSAGES_PER_TICK, NoAnswer
from robo_offline.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_keys(tmp_path_factory.mktemp("keys") / "keys")


@pytest.fixture
def robot(folder):
    with serving(folder) as found:
        yield found


def raw_socket(context, kind, robot, port, key=None, robotd=None):
    """Return a socket that follows no rules of ours."""
    found = context.socket(kind)
    if robotd:
        found.curve_serverkey = robotd.encode()
        found.curve_publickey, found.curve_secretkey = key
    found.linger = 0
    found.connect(beside(robot.server.address, port))
    if kind == zmq.SUB:
        found.subscribe(b"")
    return found


def pair_of(folder, name):
    key = keys.client_key(folder / f"{name}.key")
    return (key.pair.public.encode(), key.pair.secret.encode()), key.robotd


# ---- who is served ---------------------------------------------------------------------------


def test_the_role_is_the_keys_whatever_the_message_says(folder, robot):
    with client(folder, robot.server.address, "viewer") as viewer:
        reply = viewer.request({"type": "stop", "role": "operator"}, 5)
    assert reply["role"] == "viewer"


def test_strangers_get_no_byte_of_state_and_no_answer(folder, robot):
    known, robotd = pair_of(folder, "policy")
    other = keys.new(folder.with_name("elsewhere"), keys.Role.POLICY)
    unknown = pair_of(other.parent, "policy")
    context = zmq.Context()
    strangers = {
        "no key": (None, None),
        "unknown key": (unknown[0], robotd),
        "somebody else's robot": (known, unknown[1]),
    }
    sockets = []
    for key, public in strangers.values():
        sockets.append(raw_socket(context, zmq.SUB, robot, STATE, key, public))
        for port in (REQUESTS, OPERATOR):
            asking = raw_socket(context, zmq.DEALER, robot, port, key, public)
            asking.send_multipart([b"12345678", b"\x81\xa4type\xa6status"])
            sockets.append(asking)
    with client(folder, robot.server.address) as friend:  # the robot was there all the time
        assert friend.request({"type": "status"}, 5)["ok"]
        friend.state(5)
        time.sleep(0.3)
        assert not any(s.poll(0) for s in sockets)
    context.destroy(0)
    assert len(robot.received) == 1


def test_only_an_operators_key_connects_at_the_operators_port(folder, robot):
    context = zmq.Context()
    asking = raw_socket(context, zmq.DEALER, robot, OPERATOR, *pair_of(folder, "policy"))
    asking.send_multipart([b"12345678", b"\x81\xa4type\xa5estop"])
    with client(folder, robot.server.address, "operator") as operator:
        assert operator.request({"type": "estop"}, 5)["role"] == "operator"
    assert not asking.poll(200) and len(robot.received) == 1
    context.destroy(0)


def test_a_revoked_key_loses_its_service_at_once_and_nobody_else_does(tmp_path):
    folder = make_keys(tmp_path / "keys")
    with (
        serving(folder) as robot,
        client(folder, robot.server.address) as policy,
        client(folder, robot.server.address, "viewer") as viewer,
    ):
        for one in (policy, viewer):
            assert one.request({"type": "status"}, 5)["ok"] and one.state(5)
        keys.revoke(folder, "policy")
        time.sleep(3 * keys.FOLLOWED_S)
        received = len(robot.received)
        policy.send({"type": "status"})
        with pytest.raises(StaleState):
            policy.state(0.3)
        with pytest.raises(NoAnswer):
            policy.request({"type": "status"}, 0.1)
        assert len(robot.received) == received
        assert viewer.state(5) and viewer.request({"type": "status"}, 5)["ok"]
    assert not (folder / "policy.key").exists()


def test_packets_that_were_captured_are_worth_nothing_a_second_time(folder, robot):
    with (
        Tap(*host_port(robot.server.address)) as tap,
        client(folder, tap.address) as policy,
    ):
        assert policy.request({"type": "stop"}, 5)["ok"]
    assert len(robot.received) == 1 and len(tap.taken) > 300
    for _ in range(3):
        tap.again()
    with client(folder, robot.server.address) as policy:
        assert policy.request({"type": "status"}, 5)["ok"]
    assert len(robot.received) == 2


# ---- what is bounded -------------------------------------------------------------------------


def test_a_flood_is_dropped_and_the_operator_is_heard_all_the_same(folder, robot):
    context = zmq.Context()
    floods = [
        raw_socket(context, zmq.DEALER, robot, REQUESTS, *pair_of(folder, "policy"))
        for _ in range(3)
    ]
    ended = threading.Event()

    def flood():
        while not ended.is_set():
            for one in floods:
                for _ in range(50):
                    try:
                        one.send_multipart([b"1", b"x" * 1000], zmq.NOBLOCK)
                    except zmq.Again:
                        ended.wait(0.001)

    thread = threading.Thread(target=flood)
    thread.start()
    with client(folder, robot.server.address, "operator") as operator:
        operator.request({"type": "operator"}, 5)
        time.sleep(0.3)
        for _ in range(5):
            assert operator.request({"type": "operator"}, 2)["ok"]
    ended.set()
    thread.join()
    context.destroy(0)
    assert robot.most <= 2 * MESSAGES_PER_TICK
    assert robot.server.counts["too many from policy"] > 100
    assert robot.slowest_s < 0.05


def test_a_message_of_many_frames_takes_no_tick_hostage(folder):
    robot = server(folder)
    try:
        context = zmq.Context()
        long = context.socket(zmq.DEALER)
        (long.curve_publickey, long.curve_secretkey), serverkey = pair_of(folder, "policy")
        long.curve_serverkey = serverkey.encode()
        long.linger = 0
        long.connect(robot.address)
        long.send_multipart([b"x"] * 5000)
        long.send_multipart([b"1", b"after it"])
        with client(folder, robot.address, "operator") as operator:
            turns = 0
            until = time.monotonic() + 10
            heard = []
            while b"after it" not in heard:
                assert time.monotonic() < until
                heard += [raw for _, raw in robot.receive()]
                turns += 1
                operator.send({"type": "operator"})
        assert turns > 5000 / FRAMES_PER_TICK
        assert len(heard) > 2  # the operator meanwhile
        assert robot.counts["not a message"] == 1
        context.destroy(0)
    finally:
        robot.close()


def test_an_oversized_message_costs_its_sender_the_connection_and_nobody_else(folder, robot):
    context = zmq.Context()
    big = raw_socket(context, zmq.DEALER, robot, REQUESTS, *pair_of(folder, "policy"))
    big.send_multipart([b"1", b"x" * (MAX_BYTES + 2000)])
    with client(folder, robot.server.address) as policy:
        assert policy.request({"type": "status"}, 5)["ok"]
    time.sleep(0.1)
    assert len(robot.received) == 1 and not big.poll(0)
    context.destroy(0)


class Explosive:
    """Would leave a mark where it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def test_no_bytes_of_anybody_raise_in_the_loop_or_are_unpickled(folder):
    cell = Cell()
    cell.tick()
    robot = server(folder, rate_hz=1e9)
    context = zmq.Context()
    foreign = context.socket(zmq.DEALER)
    (foreign.curve_publickey, foreign.curve_secretkey), serverkey = pair_of(folder, "operator")
    foreign.curve_serverkey = serverkey.encode()
    foreign.linger = 0
    foreign.connect(beside(robot.address, OPERATOR))
    foreign.send_multipart([b"1", b"first"])

    def turn(wanted):
        until = time.monotonic() + 5
        while time.monotonic() < until:
            inbox = robot.receive()
            if inbox or robot.counts.get("not a message", 0) >= wanted:
                break
        robot.reply(cell.tick(*inbox).judgements)
        return inbox

    assert turn(1)
    bombs = [pickle.dumps(Explosive(), protocol) for protocol in range(6)]
    frame = some.one_of(some.binary(max_size=40), some.sampled_from(bombs))

    @settings(max_examples=100)
    @given(some.lists(frame, min_size=1, max_size=4))
    def send(frames):
        before = robot.counts.get("not a message", 0)
        foreign.send_multipart(frames)
        turn(before + 1)

    send()
    robot.close()
    context.destroy(0)
    assert cell.daemon.machine.state.value == "idle"


# ---- what a client can rely on ---------------------------------------------------------------


def test_every_call_ends_by_its_deadline_where_nobody_is_there(folder):
    with client(folder, "tcp://127.0.0.1:1") as lonely:
        begin = time.monotonic()
        with pytest.raises(NoAnswer, match="not there"):
            lonely.request({"type": "status"}, 0.1)
        with pytest.raises(StaleState, match="no state"):
            lonely.state(0.1)
        assert not lonely.send({"type": "operator"})
        assert 0.2 <= time.monotonic() - begin < 2


def test_an_old_state_never_passes_for_a_new_one(folder):
    robot = server(folder)
    try:
        with client(folder, robot.address) as policy:
            until = time.monotonic() + 5
            found = None
            while found is None and time.monotonic() < until:
                robot.receive()  # lets it in
                robot.publish({"seq": 1})
                try:
                    found = policy.state(0.02)
                except StaleState:
                    continue
            assert found == {"seq": 1}
            robot.publish({"seq": 2})  # lies in the queue from now on
            time.sleep(0.2)
            with pytest.raises(StaleState):
                policy.state(0.1)
    finally:
        robot.close()


def test_a_client_comes_back_by_itself_when_the_robot_does(folder):
    with serving(folder) as first:
        address = first.server.address
        policy = client(folder, address)
        assert policy.request({"type": "status"}, 5)["ok"]
    with pytest.raises(NoAnswer):
        policy.request({"type": "status"}, 0.05)
    with serving(folder, bind=address):
        assert policy.request({"type": "status"}, 5)["ok"]
        assert policy.state(5)["type"] == "state"
    policy.close()


def test_what_is_sent_without_waiting_is_answered_later(folder, robot):
    with client(folder, robot.server.address) as policy:
        policy.request({"type": "status"}, 5)
        assert policy.send({"type": "hold"})
        found, until = [], time.monotonic() + 5
        while not found and time.monotonic() < until:
            found = policy.verdicts()
        assert found == [{"ok": True, "role": "policy"}]


def test_two_robots_at_one_address_is_one_clear_error(folder, robot):
    with pytest.raises(UserError, match="cannot listen"):
        server(folder, robot.server.address)
