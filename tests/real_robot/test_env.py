import numpy as np
import pytest

from real_robot.actions import JointDelta, PoseDelta
from real_robot.cameras.camera import CameraSpec
from real_robot.cameras.direct import DirectCamera
from real_robot.cameras.faulty import Faulty, Plan
from real_robot.cameras.synthetic import Synthetic
from real_robot.clock import ns
from real_robot.daemon import Daemon
from real_robot.descriptor import load
from real_robot.drivers.arithmetic import ArithmeticArm
from real_robot.env import HUMAN, OWN, RealRobotEnv
from real_robot.kinematics import Chain, matrix
from real_robot.machine import State
from real_robot.person import Buttons, Teleoperated
from real_robot.tasks import Reach
from real_robot.teleop.intervention import Executed, Intervention, TwistAction, Who
from real_robot.teleop.scripted import Scripted, Wish
from real_robot.testing.lockstep import Lockstep
from real_robot.verdict import Reason
from robo_offline.errors import UserError

ROBOT = load("sim")
REACH = {"low_m": (0.3, -0.1, 0.45), "high_m": (0.4, 0.1, 0.55)}
CAMERA = CameraSpec("front", width=64, height=48, rate_hz=30.0)
SPAN = (ns(0.2), ns(9))


def make(actions=None, clock=None, **options):
    clock = clock or Lockstep()
    arm = ArithmeticArm(ROBOT, clock)
    clock.serve(Daemon(arm, clock, watched=False, attended=False))
    task = Reach(**REACH)
    options = {"keys": ("q", "dq", "tool", "gripper"), "horizon": 30} | options
    env = RealRobotEnv(
        clock,
        ROBOT,
        actions or JointDelta(ROBOT, 0.05),
        task.outcome,
        task,
        clock=clock,
        keep_s=None,
        **options,
    )
    return env, clock, arm, task


def towards(env, task):
    """Return an action that brings the tool towards the goal: the transposed Jacobian's way."""
    q = np.array(env.state["q_set"])
    jacobian, position, _ = Chain(ROBOT).jacobian(q)
    way = jacobian[:3].T @ (task.goal - position)
    return np.append(np.clip(10 * way, -1, 1), 0)


def test_a_policy_that_goes_to_the_goal_succeeds_and_the_episode_terminates():
    env, *_, task = make(horizon=200)
    env.reset(seed=0)
    for _ in range(200):
        observation, reward, terminated, truncated, info = env.step(towards(env, task))
        assert observation in env.observation_space and not truncated
        if terminated:
            break
    assert reward == 1 and info["success"] and env.measured_rate() > 19


def test_the_time_limit_truncates_and_does_not_terminate():
    env, *_ = make(horizon=5)
    env.reset(seed=0)
    outcomes = [env.step(np.zeros(8)) for _ in range(5)]
    assert [o[2:4] for o in outcomes] == [(False, False)] * 4 + [(False, True)]


@pytest.mark.parametrize("late", [False, True])
def test_a_safety_stop_truncates_even_where_the_goal_is_reached(late):
    env, clock, *_, task = make()
    env.reset(seed=0)
    env.step(np.zeros(8))
    task.near_m = 10.0 if late else 0.0  # success in the very same step
    clock.daemon.stop("test")
    _, _, terminated, truncated, info = env.step(np.zeros(8))
    assert (terminated, truncated, info["success"]) == (False, True, False)
    assert "test" in info["stop"]


@pytest.mark.parametrize("plan", [{"freeze": [SPAN]}, {"black": [SPAN]}, {"death_ns": SPAN[0]}])
def test_a_camera_without_a_recent_picture_truncates_and_the_arm_holds(plan):
    clock = Lockstep()
    source = Faulty(Synthetic(CAMERA, clock), Plan(**plan), clock)
    camera = DirectCamera(source, clock)
    env, clock, *_ = make(clock=clock, cameras={"front": camera})
    camera.open()
    env.reset(seed=0)
    for _ in range(12):
        observation, _, terminated, truncated, info = env.step(np.full(8, 0.1))
        if truncated:
            break
    assert truncated and not terminated and "front" in info["stop"]
    assert observation in env.observation_space
    clock.tick()
    assert clock.daemon.machine.state is State.HOLD


def test_success_at_the_time_limit_terminates():
    env, *_, task = make(horizon=1)
    env.reset(seed=0)
    task.near_m = 10.0
    _, _, terminated, truncated, info = env.step(np.zeros(8))
    assert (terminated, truncated, info["success"]) == (True, False, True)


def test_what_was_executed_is_what_was_asked_for_to_the_bit_where_no_limit_was_met():
    env, *_ = make()
    env.reset(seed=0)
    random = np.random.default_rng(0)
    for _ in range(10):
        action = random.uniform(-1, 1, 8).astype(np.float32)
        info = env.step(action)[4]
        assert (info["executed"] == action).all() and info["source"] == OWN


@pytest.mark.parametrize("actions", [JointDelta(ROBOT, 0.6), PoseDelta(ROBOT, 0.55, 0.5, False)])
def test_what_a_limit_shortened_is_stored_shortened(actions):
    env, *_ = make(actions)
    env.reset(seed=0)
    action = np.zeros(actions.size)
    action[1] = 1.0
    info = env.step(action)[4]
    assert info["reason"] & (Reason.STEP | Reason.BOX)
    assert 0.1 < info["executed"][1] < 0.9 and info["requested"][1] == 1


def test_a_refused_action_is_stored_as_doing_nothing():
    env, clock, *_ = make()
    env.reset(seed=0)
    clock.daemon.hash = "of another robot"
    info = env.step(np.ones(8))[4]
    assert (info["executed"][:7] == 0).all() and (info["requested"] == 1).all()


def test_who_took_over_is_stored_with_what_they_did():
    class Person:
        def begin(self):
            self.calls = 0

        def act(self, action, state):
            self.calls += 1
            if self.calls % 2:
                return Executed(np.full(8, 0.25), action, Who.TELEOP)
            return Executed(action, action, Who.POLICY)

    env, *_ = make(person=Person())
    env.reset(seed=0)
    infos = [env.step(np.zeros(8))[4] for _ in range(4)]
    assert [i["source"] for i in infos] == [HUMAN, OWN, HUMAN, OWN]
    assert np.allclose(infos[0]["executed"], 0.25) and (infos[0]["requested"] == 0).all()
    assert (infos[1]["executed"] == 0).all()


def person(clock, wish):
    twist = TwistAction(linear_m_s=0.4, angular_rad_s=4.0, gripper=(1.0, -1.0))
    device = Scripted(wish, clock, reaction_s=0.1, noise=0.05)
    return Teleoperated(device, Intervention(twist), clock)


def test_a_person_who_sees_the_policy_fail_brings_it_to_the_goal():
    actions = PoseDelta(ROBOT, 0.02, 0.2)
    env, clock, *_, task = make(actions, horizon=200)

    def wish(state):
        way = task.goal - np.array(state["tool"][:3])
        return Wish(tuple(np.clip(10 * way, -1, 1)) + (0.0,) * 3)

    env.person = person(clock, wish)
    env.reset(seed=0)
    sources = []
    while True:
        *_, terminated, truncated, info = env.step(np.zeros(7))
        sources.append(info["source"])
        if terminated or truncated:
            break
    assert info["success"] and sources[0] == OWN and sources.count(HUMAN) > len(sources) / 2


@pytest.mark.parametrize(("pressed", "ends"), [("success", (1.0, True)), ("failure", (0.0, True))])
def test_a_persons_buttons_end_the_episode(pressed, ends):
    env, clock, *_ = make(PoseDelta(ROBOT, 0.02, 0.2), horizon=50)
    env.person = person(clock, lambda _: Wish((0.0,) * 6, **{pressed: True}))
    env.outcome = Buttons(env.person)
    env.reset(seed=0)
    for _ in range(20):
        _, reward, terminated, _, info = env.step(np.zeros(7))
        if terminated:
            break
    assert (reward, terminated) == ends and info["success"] == (pressed == "success")


def test_a_person_who_says_stop_stops_the_arm():
    env, clock, *_ = make(PoseDelta(ROBOT, 0.02, 0.2))
    env.person = person(clock, lambda _: None)
    env.reset(seed=0)
    env.person.act = lambda action, _: Executed(action, action, Who.HOLD, "stop key")
    _, _, terminated, truncated, info = env.step(np.zeros(7))
    assert truncated and not terminated and info["stop"]


def test_steps_follow_an_absolute_schedule_without_drift():
    env, clock, *_ = make(horizon=10_000)
    env.reset(seed=0)
    began = clock.now_ns()
    for i in range(200):
        clock.advance(i % 7 * 1_000_000)  # a policy that takes up to 6 ms
        env.step(np.zeros(8))
    assert clock.now_ns() - began == pytest.approx(200 * env.period_ns, abs=ROBOT.tick_ns)
    assert env.measured_rate() == pytest.approx(20, rel=1e-3)


def test_a_slow_step_is_told_and_not_made_up_for():
    env, clock, *_ = make(horizon=100)
    env.reset(seed=0)
    env.step(np.zeros(8))
    for _ in range(40):  # 160 ms of thinking, while the arm holds
        clock.request({"type": "hold"})
    late = env.step(np.zeros(8))[4]["late_ns"]
    assert late >= env.period_ns
    before = clock.now_ns()
    env.step(np.zeros(8))
    assert clock.now_ns() - before > env.period_ns / 2


def test_the_same_seed_gives_the_same_episode_again():
    def episode():
        env, *_ = make()
        random = np.random.default_rng(3)
        found = [env.reset(seed=5)[0]]
        found += [env.step(random.uniform(-1, 1, 8))[0] for _ in range(20)]
        return np.stack(found)

    assert (episode() == episode()).all()


def test_an_episode_after_a_stop_needs_a_person():
    env, clock, *_ = make()
    env.reset(seed=0)
    env.step(np.zeros(8))
    clock.daemon.stop("test", State.ESTOP)
    env.step(np.zeros(8))
    with pytest.raises(UserError, match="console"):
        env.reset(seed=1)
    clock.arm()
    env.reset(seed=1)


def test_an_action_that_is_not_finite_never_leaves_the_environment():
    env, _, arm, _ = make()
    env.reset(seed=0)
    sent = len(arm.sent)
    with pytest.raises(ValueError, match="finite"):
        env.step(np.full(8, np.nan))
    assert len(arm.sent) == sent


def test_a_policy_slower_than_the_watchdog_is_refused_before_anything_moves():
    with pytest.raises(UserError, match="rate_hz"):
        make(rate_hz=5.0)


def test_an_unknown_key_names_those_there_are():
    with pytest.raises(UserError, match="q_set"):
        make(keys=("joint_positions",))


@pytest.mark.parametrize(
    "actions",
    [JointDelta(ROBOT, 0.05), PoseDelta(ROBOT, 0.05, 0.2), PoseDelta(ROBOT, 0.05, 0.2, False)],
)
def test_an_action_comes_back_from_the_angles_that_it_means(actions):
    env, *_ = make()
    env.reset(seed=0)
    x, random = ROBOT.limits.arrays(), np.random.default_rng(1)
    for _ in range(20):
        action = random.uniform(-1, 1, actions.size)
        target, gripper = actions.target(action, env.state)
        if len(target) == 7 and actions.mode == 1:
            chain = Chain(ROBOT)
            q = chain.inverse(
                target[:3], matrix(target[3:]), np.array(env.state["q_set"]), x["low"], x["high"]
            )
        else:
            q = target
        assert np.allclose(actions.executed(q, gripper, env.state), action, atol=6e-3)
    assert np.allclose(actions.nothing(env.state)[:-1], 0)
