from dataclasses import replace

import numpy as np
import pytest

from real_robot.clock import ns
from real_robot.driver import DriverLost, DriverState
from real_robot.machine import State
from real_robot.messages import Source, pack
from real_robot.testing.still import OPERATOR, POLICY, TELEOP, VIEWER, Cell
from real_robot.verdict import REFUSING, Reason

AWAY = np.array([0.2, 0.1, 0.0, 0.1, 0.0, 0.0, 0.1])


@pytest.fixture
def cell():
    cell = Cell()
    cell.ready()
    return cell


def test_an_armed_robot_follows_its_commander(cell):
    cell.drive(cell.home + AWAY, 2.0)
    assert np.allclose(cell.arm.q, cell.home + AWAY, atol=1e-6)
    assert cell.daemon.machine.state is State.ACTIVE


# ---- the watchdog ----------------------------------------------------------------------------


def test_silence_stops_the_arm_one_tick_after_the_watchdogs_time_and_latches(cell):
    cell.drive(cell.home + AWAY, 0.3)
    cell.send(cell.home + AWAY)
    last, limit = cell.clock.now_ns(), ns(cell.robot.timing.command_timeout_s)
    while cell.daemon.machine.state in (State.ACTIVE, State.HOLD):
        cell.tick()
    tripped = cell.clock.now_ns() - last
    assert limit < tripped <= limit + cell.robot.tick_ns
    cell.run(cell.robot.stop_bound_s)
    assert cell.daemon.machine.state is State.STOPPED
    assert "watchdog" in cell.daemon.machine.stop_reason
    assert cell.arm.stops[-1][1] == "controlled"


def test_a_commander_that_wakes_up_after_its_stop_is_refused_for_good(cell):
    cell.drive(cell.home + AWAY, 0.2)
    old = [cell.command(cell.home + AWAY).encode() for _ in range(20)]
    cell.run(1.0)
    where = cell.arm.q.copy()
    for raw in old:
        assert cell.tick((POLICY, raw)).judgements[0].reason & REFUSING
    assert cell.ask(OPERATOR, "reset", stop_id=1)["ok"]
    assert cell.ask(OPERATOR, "arm", descriptor=cell.daemon.hash)["ok"]
    for raw in old:
        assert cell.tick((POLICY, raw)).judgements[0].reason & (Reason.LEASE | Reason.STALE)
    assert (cell.arm.q == where).all()


def test_targets_that_run_out_hold_the_arm_before_the_watchdog_stops_it(cell):
    cell.drive(cell.home + AWAY, 0.3)
    cell.send(cell.home + AWAY, valid_ns=ns(0.02))
    states = [cell.tick().state for _ in range(15)]
    assert State.HOLD in states and State.STOPPED not in states


def test_holding_keeps_the_lease_and_the_watchdog_quiet(cell):
    cell.drive(cell.home + AWAY, 0.3)
    for _ in range(20):
        cell.ask(POLICY, "hold")
        cell.run(0.04)
    assert cell.daemon.machine.state is State.HOLD and cell.daemon.setpoint.resting


# ---- what is executed ------------------------------------------------------------------------


def test_an_overtaken_or_repeated_command_is_never_executed(cell):
    random = np.random.default_rng(0)
    newest = -1
    for _ in range(300):
        commands = [cell.command(cell.home + random.uniform(-0.02, 0.02, 7)) for _ in range(3)]
        order = random.permutation(3)
        tick = cell.tick(*[(POLICY, commands[i].encode()) for i in order if random.random() > 0.3])
        for judgement in tick.judgements:
            seq = judgement.reply["seq"]
            if judgement.reply["ok"]:
                assert seq > newest
                newest = seq
            elif judgement.reason & Reason.SEQUENCE:
                assert seq <= newest
        if cell.daemon.machine.state.latched:
            break
    assert newest > 0


def test_a_chunk_is_indexed_by_the_time_since_its_observation(cell):
    chunk = np.stack([cell.home + 0.01 * i for i in range(4)])
    cell.send(chunk, t_rel_ns=tuple(ns(0.025) * i for i in range(4)))
    applied = []
    for _ in range(24):
        cell.tick()
        applied.append(cell.daemon.applied["index"])
    changes = [applied.index(i) for i in range(1, 4)]
    assert np.diff(changes).tolist() == pytest.approx([6.25, 6.25], abs=1)
    assert sorted(applied) == applied


def test_a_late_chunk_begins_where_the_time_is_and_not_at_its_beginning(cell):
    seq = cell.daemon.seq
    for _ in range(27):  # 108 ms
        cell.ask(POLICY, "hold")
    chunk = np.stack([cell.home + 0.01 * i for i in range(4)])
    assert cell.reason(chunk, obs_seq=seq) == Reason.NONE
    assert cell.daemon.applied["index"] == 2


def test_a_chunk_for_later_leaves_the_one_before_it_in_charge_until_then(cell):
    cell.drive(cell.home + AWAY, 0.2)
    seq = cell.daemon.lease.last_seq
    cell.send(cell.home, t_rel_ns=(ns(0.04),))
    assert cell.daemon.applied["seq"] == seq
    cell.run(0.05)
    assert cell.daemon.applied["seq"] == seq + 1


def test_what_is_shortened_is_followed_and_said(cell):
    leap = np.zeros(7)
    leap[0] = 1.0
    tick = cell.send(cell.home + leap)
    assert tick.judgements[0].reply == {"ok": True, "seq": 1, "reason": int(Reason.STEP)}


def test_the_gripper_moves_no_faster_than_it_may(cell):
    cell.send(cell.home, gripper=np.array([1.0]))
    way = cell.robot.limits.gripper_v_max_s * cell.robot.tick_ns / 1e9
    assert cell.daemon.gripper == pytest.approx(way)


# ---- refusals --------------------------------------------------------------------------------


def test_no_command_reaches_the_arm_unless_a_person_armed_it():
    cell = Cell()
    cell.tick()
    assert cell.reason(cell.home + AWAY) == Reason.STATE
    assert not cell.arm.sent


def test_ten_refusals_within_a_second_stop_the_arm(cell):
    for i in range(10):
        assert cell.daemon.machine.state is not State.STOPPING, i
        cell.reason(np.full(7, np.nan))
    assert "refused" in cell.daemon.machine.stop_reason


def test_nine_refusals_and_a_pause_do_not(cell):
    for _ in range(3):
        for _ in range(9):
            cell.reason(np.full(7, np.nan))
        for _ in range(26):
            cell.ask(POLICY, "hold")
            cell.run(0.04)
    assert cell.daemon.machine.stop_id == 0


def test_a_stranger_cannot_stop_the_arm_by_talking_nonsense(cell):
    cell.send(cell.home)
    for _ in range(15):
        cell.tick((VIEWER, b"\xc1nonsense"), (TELEOP, b""))
    assert cell.daemon.machine.state is State.ACTIVE


@pytest.mark.parametrize("who", [VIEWER, TELEOP, OPERATOR])
def test_another_role_may_not_command_as_a_policy(cell, who):
    assert cell.reason(cell.home, who=who) == Reason.ROLE


def test_a_second_policy_gets_no_lease_and_a_person_takes_it(cell):
    from real_robot.requests import Peer, Role

    other = Peer("other", Role.POLICY)
    assert "holds the lease" in cell.ask(other, "lease", source=0)["why"]
    reply = cell.ask(TELEOP, "lease", source=int(Source.TELEOP))
    assert reply["ok"]
    assert cell.reason(cell.home) == Reason.LEASE  # the policy has lost it
    assert "holds the lease" in cell.ask(POLICY, "lease", source=0)["why"]
    cell.lease = reply["lease"]
    assert cell.reason(cell.home, who=TELEOP, source=Source.TELEOP) == Reason.NONE


def test_a_captured_command_of_another_key_is_refused(cell):
    from real_robot.requests import Peer, Role

    thief = Peer("thief", Role.POLICY)
    raw = cell.command(cell.home).encode()
    assert cell.tick((thief, raw)).judgements[0].reason == Reason.LEASE
    assert cell.tick((POLICY, raw)).judgements[0].reason == Reason.NONE
    assert cell.tick((POLICY, raw)).judgements[0].reason == Reason.SEQUENCE


def test_a_lease_ends_when_its_time_is_over(cell):
    cell.run(cell.robot.timing.lease_s + 0.05)
    assert cell.daemon.lease.of(POLICY.key, cell.clock.now_ns()) is None


# ---- stops and resets ------------------------------------------------------------------------


def test_an_emergency_stop_is_written_in_the_same_tick_and_latches(cell):
    cell.drive(cell.home + AWAY, 0.3)
    sent = len(cell.arm.sent)
    tick = cell.tick((OPERATOR, {"type": "estop"}))
    assert cell.arm.stops[-1] == (cell.clock.now_ns(), "protective")
    assert tick.state is State.ESTOP and tick.sent is None and len(cell.arm.sent) == sent
    cell.run(1.0)
    assert cell.daemon.machine.state is State.ESTOP


def test_whoever_may_command_may_stop_and_only_the_operator_resets(cell):
    cell.drive(cell.home + AWAY, 0.2)
    assert cell.ask(POLICY, "stop")["ok"]
    cell.run(1.0)
    for who in (POLICY, TELEOP, VIEWER):
        assert "may not" in cell.ask(who, "reset", stop_id=1)["why"]
        assert "may not" in cell.ask(who, "arm", descriptor=cell.daemon.hash)["why"]
    assert "acknowledged" in cell.ask(OPERATOR, "reset", stop_id=2)["why"]
    assert not cell.ask(OPERATOR, "reset")["ok"]
    assert not cell.ask(OPERATOR, "reset", stop_id=True)["ok"]
    assert cell.ask(OPERATOR, "reset", stop_id=1)["ok"]
    assert cell.daemon.machine.state is State.IDLE


def test_nothing_moves_after_a_reset_until_it_is_armed_and_leased_anew(cell):
    cell.drive(cell.home + AWAY, 0.2)
    cell.ask(POLICY, "stop")
    cell.run(1.0)
    cell.ask(OPERATOR, "reset", stop_id=1)
    where = cell.arm.q.copy()
    for _ in range(50):
        cell.send(cell.home)
    assert (cell.arm.q == where).all()


def test_a_stop_under_tighter_limits_is_a_stop_and_no_fault(cell):
    cell.drive(cell.home + AWAY, 0.5)
    limits = replace(cell.robot.limits, a_max_rad_s2=(1.0,) * 7, j_max_rad_s3=(5.0,) * 7)
    cell.daemon.tighten(limits)
    cell.daemon.stop("test")
    cell.run(2.0)
    assert cell.daemon.machine.state is State.STOPPED


def test_a_stop_whose_ticks_come_late_is_a_stop_and_no_fault(cell):
    cell.drive(cell.home + AWAY, 0.5)
    cell.daemon.stop("test")
    for _ in range(300):
        cell.clock.advance(2 * cell.robot.tick_ns)
        cell.tick()
    assert cell.daemon.machine.state is State.STOPPED


def test_who_takes_over_begins_at_rest_and_not_with_the_others_targets(cell):
    cell.drive(cell.home + AWAY, 0.3)
    assert cell.ask(TELEOP, "lease", source=int(Source.TELEOP))["ok"]
    assert cell.tick().state is State.HOLD


def test_an_arm_that_was_started_anew_can_be_armed_again(cell):
    cell.daemon.stop("test", State.FAULT)
    read, began = cell.arm.read, cell.clock.now_ns()

    def anew():
        state = read()
        return replace(state, device_time_ns=state.device_time_ns - began)

    cell.arm.read = anew
    cell.run(0.1)
    assert cell.ask(OPERATOR, "reset", stop_id=1)["ok"]
    assert cell.ask(OPERATOR, "arm", descriptor=cell.daemon.hash)["ok"]


def test_a_moving_arm_is_neither_reset_nor_armed(cell):
    cell.drive(cell.home + AWAY, 0.3)
    cell.daemon.stop("test", State.ESTOP)
    cell.arm.dq = np.full(7, 0.1)
    assert "moves" in cell.ask(OPERATOR, "reset", stop_id=1)["why"]
    cell.arm.dq = np.zeros(7)
    assert cell.ask(OPERATOR, "reset", stop_id=1)["ok"]
    cell.arm.dq = np.full(7, 0.1)
    assert "moves" in cell.ask(OPERATOR, "arm", descriptor=cell.daemon.hash)["why"]


def test_arming_needs_the_right_robot_and_a_place_within_its_limits():
    cell = Cell()
    cell.tick()
    assert "another robot" in cell.ask(OPERATOR, "arm", descriptor="x")["why"]
    cell.arm.q = np.array([2.0, 1.0, 0, -1.0, 0, 1.0, 0])
    cell.tick()
    assert "outside" in cell.ask(OPERATOR, "arm", descriptor=cell.daemon.hash)["why"]


def test_a_second_stop_gets_the_next_number(cell):
    for number in (1, 2, 3):
        cell.daemon.stop("again")
        cell.run(0.5)
        assert cell.daemon.machine.stop_id == number
        assert cell.ask(OPERATOR, "reset", stop_id=number)["ok"]
        assert cell.ask(OPERATOR, "arm", descriptor=cell.daemon.hash)["ok"]


# ---- the arm ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    [
        DriverState(np.full(7, np.nan), np.zeros(7), 10**18),
        DriverState(np.zeros(7), np.full(7, np.inf), 10**18),
        DriverState(np.zeros(6), np.zeros(7), 10**18),
        DriverState(np.zeros(7), np.zeros(7), 10**18, gripper=np.nan),
        DriverState(np.zeros(7), np.zeros(7), 10**18, wrench=np.full(6, np.nan)),
    ],
)
def test_a_state_that_is_not_whole_is_a_fault(cell, broken):
    cell.drive(cell.home + AWAY, 0.1)
    cell.arm.read = lambda: broken
    assert cell.tick().state is State.FAULT
    assert cell.arm.stops[-1][1] == "protective"


def test_an_arm_whose_time_stands_still_is_a_fault_in_time(cell):
    cell.drive(cell.home + AWAY, 0.2)
    frozen = cell.arm.read()
    cell.arm.read = lambda: frozen
    began = cell.clock.now_ns()
    while not cell.daemon.machine.state.latched:
        cell.send(cell.home + AWAY)
    waited = cell.clock.now_ns() - began
    assert waited <= ns(cell.robot.timing.state_timeout_s) + cell.robot.tick_ns
    assert cell.daemon.machine.state is State.FAULT


@pytest.mark.parametrize("way", ["read", "write"])
def test_a_lost_arm_is_a_fault_that_never_ends_by_itself(cell, way):
    cell.drive(cell.home + AWAY, 0.1)

    def lost(*_):
        raise DriverLost("gone")

    working = getattr(cell.arm, way)
    setattr(cell.arm, way, lost)
    assert cell.tick().state is State.FAULT
    setattr(cell.arm, way, working)
    cell.run(1.0)
    assert cell.daemon.machine.state is State.FAULT and "gone" in cell.daemon.machine.stop_reason


def test_the_vendors_fault_and_emergency_stop_are_seen_in_the_tick(cell):
    cell.arm.fault = "reflex"
    assert cell.tick().state is State.FAULT
    cell.arm.estop = True
    assert cell.tick().state is State.ESTOP
    assert "still pressed" in cell.ask(OPERATOR, "reset", stop_id=1)["why"]


def test_an_arm_that_does_not_follow_is_stopped():
    cell = Cell()
    cell.ready()
    cell.arm.follows = 0.0
    for _ in range(250):
        cell.send(cell.home + AWAY)
    assert "told to be" in cell.daemon.machine.stop_reason


def test_contact_stops_the_arm(cell):
    read = cell.arm.read

    def touching():
        state = read()
        return DriverState(
            state.q, state.dq, state.device_time_ns, wrench=np.array([50.0, 0, 0, 0, 0, 0])
        )

    cell.arm.read = touching
    cell.send(cell.home)
    assert "contact" in cell.daemon.machine.stop_reason


# ---- who is alive ----------------------------------------------------------------------------


def test_a_console_that_dies_stops_the_arm_in_its_time():
    cell = Cell(attended=True)
    cell.ready()
    began = cell.clock.now_ns()
    while cell.daemon.machine.state.commanding and not cell.daemon.machine.stop_reason:
        cell.ask(POLICY, "hold")
    waited = cell.clock.now_ns() - began
    limit = ns(cell.robot.timing.operator_timeout_s)
    assert limit - 3 * cell.robot.tick_ns <= waited <= limit + 2 * cell.robot.tick_ns
    assert "operator" in cell.daemon.machine.stop_reason


def test_a_watcher_that_dies_stops_the_arm_in_its_time():
    cell = Cell(watched=True)
    cell.ready()
    for _ in range(100):
        cell.daemon.beat(cell.clock.now_ns())
        cell.ask(POLICY, "hold")
    assert not cell.daemon.machine.stop_reason
    cell.run(cell.robot.timing.watcher_timeout_s + 0.01)
    assert "watch" in cell.daemon.machine.stop_reason


def test_five_late_ticks_in_a_row_hold_the_arm(cell):
    cell.drive(cell.home + AWAY, 0.3)
    late = cell.robot.tick_ns + 1
    for _ in range(4):
        cell.tick(late_ns=late)
    assert cell.daemon.machine.state is State.ACTIVE
    cell.tick(late_ns=late)
    assert cell.daemon.machine.state is State.HOLD


def test_what_is_sent_is_looked_at_again_by_other_code(cell):
    cell.drive(cell.home + AWAY, 0.1)
    sent = len(cell.arm.sent)
    cell.daemon.motion.towards = lambda now, *_: (type(now)(now.q + 9, now.v, now.a), False)
    cell.send(cell.home)
    assert cell.daemon.machine.state is State.FAULT and "defect" in cell.daemon.machine.stop_reason
    assert len(cell.arm.sent) == sent


@pytest.mark.parametrize(
    "message",
    [
        {"type": "unknown"},
        {"type": "arm"},
        {"type": "arm", "descriptor": 3},
        {"type": "lease", "source": 77},
        {"type": "lease", "source": 0, "more": 1},
        {"type": "reset", "stop_id": "1"},
        {"type": "status", "x": 1},
    ],
)
def test_a_request_that_makes_no_sense_is_answered_and_changes_nothing(cell, message):
    before = cell.daemon.machine.state
    reply = cell.tick((OPERATOR, pack(message))).judgements[0].reply
    assert reply["ok"] is False and reply["why"]
    assert cell.daemon.machine.state is before
