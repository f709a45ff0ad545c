"""A policy on a robot: refused where it does not fit, slow at first, and with a way back."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from test_env import ROBOT, make, towards

from real_robot.actions import JointDelta, PoseDelta
from real_robot.contract import contract_of
from real_robot.deploy import FULL, LIMITED, SHADOW, Deployment, check
from real_robot.ood import Gate
from real_robot.runtime.contract import Camera, Contract, Leaf, Normaliser
from real_robot.runtime.policy import ActionChunk
from real_robot.runtime.refused import ObservationRefused
from robo_offline.errors import UserError


class Policy:
    """A bundle that acts by a function, with the contract of a robot."""

    def __init__(self, env, act, name="a", chunk=1):
        offered = contract_of(env)
        leaves = tuple(
            replace(leaf, normaliser=Normaliser((0.0,) * leaf.size, (1.0,) * leaf.size, leaf.size))
            for leaf in offered.observation
        )
        files = {"weights.safetensors": SimpleNamespace(sha256=name)}
        self.manifest = SimpleNamespace(contract=replace(offered, observation=leaves), files=files)
        self.function, self.name, self.chunk = act, name, chunk
        self.calls = 0

    def begin(self):
        self.seen = []  # observations of this episode

    def see(self, observation):
        self.seen.append(observation)

    def act(self, observation, *, deadline_ns=None):
        assert set(observation) == {"observation"}
        self.see(observation)
        self.calls += 1
        actions = np.atleast_2d(self.function(observation["observation"]))
        return ActionChunk(actions, 0, self.name)


class Never(Gate):
    def __init__(self):
        pass

    def begin(self):
        pass

    def fires(self, observation):
        return False


class Always(Never):
    def fires(self, observation):
        return True


def good(env, task, name="good"):
    return Policy(env, lambda _: towards(env, task), name)


def bad(env, name="bad"):
    return Policy(env, lambda _: np.zeros(8), name)


def test_a_good_policy_succeeds_and_the_report_says_so(tmp_path):
    env, *_, task = make(horizon=120)
    deployment = Deployment(env, good(env, task), FULL, gate=Never())
    deployment.run(3)
    deployment.save(tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["success"][0] == 1.0 and report["episodes"] == 3 and not report["stops"]
    assert report["rate_hz"] == pytest.approx([20.0] * 3, rel=0.15)
    assert set(report["latency_ms"]) == {"p50", "p99", "max"}


def changed(contract: Contract, how: str) -> Contract:
    """Return a contract that differs in one thing."""
    [leaf] = contract.observation
    first, second, *others = leaf.parts

    def observed(**fields):
        return replace(contract, observation=(replace(leaf, **fields),))

    def part(**fields):
        return observed(parts=(replace(first, **fields), second, *others))

    def action(**fields):
        return replace(contract, action=replace(contract.action, **fields))

    if how == "dropped number":
        shape = (leaf.size - first.size,)
        return observed(shape=shape, parts=(second, *others), normaliser=None)
    if how == "a camera too many":
        pixels = (replace(first, name="wrist", size=192),)
        image = Leaf("wrist", (3, 8, 8), "uint8", None, None, pixels, None)
        cameras = (Camera("wrist", 8, 8, "CHW", "RGB"),)
        return replace(contract, observation=(leaf, image), cameras=cameras)
    if how == "another scale":
        moved, *rest = contract.action.parts
        return action(parts=(replace(moved, scale=0.5), *rest))
    return {
        "renamed key": observed(key="state"),
        "degrees": part(units="deg"),
        "another frame": part(frame="world"),
        "another order": observed(parts=(second, first, *others)),
        "never normalised": observed(normaliser=None),
        "10 Hz": replace(contract, rate_hz=10.0),
        "another mode": action(mode="osc_pose delta"),
        "another robot": replace(contract, descriptor_hash="0" * 64),
    }[how]


MUTATIONS = (
    "renamed key",
    "dropped number",
    "degrees",
    "another frame",
    "another order",
    "never normalised",
    "a camera too many",
    "10 Hz",
    "another scale",
    "another mode",
    "another robot",
)


@pytest.mark.parametrize("how", MUTATIONS)
def test_a_contract_that_differs_is_refused_before_anything_moves(how):
    env, _, arm, task = make()
    policy = good(env, task)
    policy.manifest.contract = changed(policy.manifest.contract, how)
    with pytest.raises(UserError, match="not made for this robot"):
        Deployment(env, policy, FULL, gate=Never())
    assert not arm.sent or (np.ptp([c.q for _, c in arm.sent], axis=0) == 0).all()


def test_the_same_contract_fits():
    env, *_, task = make()
    check(good(env, task), env)
    pose, *_, task = make(PoseDelta(ROBOT, 0.05, 0.2))
    check(Policy(pose, lambda _: np.zeros(7)), pose)
    with pytest.raises(UserError, match="mode"):
        check(Policy(pose, lambda _: np.zeros(7)), env)


def test_a_shadow_moves_nothing_and_compares():
    env, _, arm, task = make(horizon=20)
    policy = good(env, task)
    deployment = Deployment(env, policy, SHADOW)
    where = arm.q.copy()
    deployment.run(2)
    assert (arm.q == where).all() and policy.calls == 40
    assert not deployment.report()["shadow_difference"]  # nobody commanded: nothing to compare with


def test_a_limited_policy_moves_at_a_quarter_of_the_speed():
    speeds = {}
    for stage in (LIMITED, FULL):
        env, _, arm, _ = make(JointDelta(ROBOT, 0.3), horizon=20)
        action = np.zeros(8)
        action[0] = 1.0
        Deployment(env, Policy(env, lambda _, a=action: a), stage, gate=Never()).run(1)
        q = np.array([c.q for _, c in arm.sent])
        tool = env.actions.robot and np.abs(np.diff(q[:, 0])).max() / (ROBOT.tick_ns / 1e9)
        speeds[stage.name] = tool
    assert speeds["limited"] <= 0.3 * speeds["full"]


def test_where_the_data_never_was_the_arm_holds():
    env, _, arm, task = make(horizon=20)
    policy = good(env, task)
    deployment = Deployment(env, policy, FULL, gate=Always())
    deployment.run(1)
    assert deployment.outcomes[0].held == 20 and policy.calls == 0
    assert np.ptp([c.q for _, c in arm.sent[-100:]], axis=0).max() < 1e-6


def test_a_policy_is_shown_every_step_of_its_episode_whoever_acts():
    for gate in (Never(), Always()):
        env, *_, task = make(horizon=20)
        policy = good(env, task)
        Deployment(env, policy, FULL, gate=gate).run(1)
        steps = len(policy.seen)
        assert steps == 20 if isinstance(gate, Always) else 0 < steps <= 20
    env, *_ = make(horizon=20)
    chunked = Policy(env, lambda _: np.zeros((4, 8)))
    Deployment(env, chunked, FULL, gate=Never()).run(2)
    assert len(chunked.seen) == 20 and chunked.calls < 40


def test_a_stage_that_moves_wants_to_know_what_is_unusual():
    env, *_, task = make()
    with pytest.raises(UserError, match="unusual"):
        Deployment(env, good(env, task), FULL)


def test_a_policy_that_refuses_an_observation_holds_the_arm():
    env, *_ = make(horizon=10)

    def refuse(_):
        raise ObservationRefused("not finite")

    deployment = Deployment(env, Policy(env, refuse), FULL, gate=Never())
    deployment.run(1)
    assert deployment.outcomes[0].held == 10


def test_a_slow_policys_late_actions_are_dropped_and_the_rest_is_in_its_time():
    env, clock, *_ = make(horizon=8)
    marked = np.zeros((6, 8))
    marked[:, 0] = np.arange(6) / 10

    def slow(_):
        for _ in range(2 * env.period_ns // ROBOT.tick_ns):  # two periods of thinking
            clock.request({"type": "hold"})
        return marked

    taken = []
    deployment = Deployment(env, Policy(env, slow), FULL, gate=Never())
    step = env.step
    env.step = lambda a: (taken.append(round(float(a[0]), 1)), step(a))[1]
    deployment.run(1)
    assert taken[:4] == [0.2, 0.3, 0.4, 0.5]


def test_a_policy_that_is_always_too_late_holds_rather_than_acting_late():
    env, clock, *_ = make(horizon=4)

    def slow(_):
        for _ in range(2 * env.period_ns // ROBOT.tick_ns):
            clock.request({"type": "hold"})
        return np.ones(8)

    deployment = Deployment(env, Policy(env, slow), FULL, gate=Never())
    deployment.run(1)
    assert deployment.outcomes[0].held == 4


def test_a_degraded_policy_is_replaced_by_the_certified_one_within_ten_episodes():
    env, *_, task = make(horizon=40)
    task.near_m = 0.04
    deployment = Deployment(env, bad(env), FULL, gate=Never(), certified=good(env, task), floor=0.8)
    deployment.run(13)
    acted = [o.policy for o in deployment.outcomes]
    assert acted == ["bad"] * 10 + ["good"] * 3
    assert all(o.success for o in deployment.outcomes[10:])
    assert "floor" in deployment.report()["fell_back"]


def test_a_policy_that_never_fails_is_never_replaced():
    env, *_, task = make(horizon=120)
    task.near_m = 0.05
    deployment = Deployment(env, good(env, task), FULL, gate=Never(), certified=bad(env), floor=0.6)
    deployment.run(11)
    assert not deployment.fell_back


def test_a_floor_without_a_certified_policy_is_refused():
    env, *_, task = make()
    with pytest.raises(UserError, match="belong together"):
        Deployment(env, good(env, task), SHADOW, floor=0.5)


def test_a_stop_ends_the_episode_and_stands_in_the_report():
    env, clock, *_ = make(horizon=50)

    def stopping(_):
        clock.daemon.stop("somebody came near")
        return np.zeros(8)

    deployment = Deployment(env, Policy(env, stopping), FULL, gate=Never())
    deployment.run(1)
    assert "somebody came near" in deployment.report()["stops"][0]
