"""A scripted person helps where nothing gets better, and lets go."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import envs
from real_robot.actions import JointDelta
from real_robot.clock import VirtualClock, ns
from real_robot.descriptor import load
from real_robot.env import HUMAN
from real_robot.tasks.intervener import Attention, Intervener
from robo_offline.errors import UserError

INTERVENER = {
    "_target_": "real_robot.tasks.intervener.Intervener",
    "_partial_": True,
    "patience_s": 0.6,
}


def looks(lefts, **options):
    """Say at which of some moments, 0.1 s apart, the person acts, by what is left there."""
    task = SimpleNamespace(left=lambda s: s["left"], way=lambda s: np.array([s["left"], 0, 0]))
    known = {"patience_s": 0.5, "progress_m": 0.01, "share": 0.5, "pushes": 1.0} | options
    attention = Attention(task, **known)
    states = [{"stamp_ns": ns(i / 10), "left": left} for i, left in enumerate(lefts)]
    return [attention(s) is not None for s in states]


def test_who_makes_progress_is_left_alone():
    assert not any(looks(np.linspace(1, 0, 40)))


def test_who_is_stuck_is_helped_after_the_person_lost_patience():
    assert looks([1.0] * 9) == [False] * 6 + [True] * 3


def test_creeping_is_no_progress():
    assert any(looks(1 - 1e-4 * np.arange(20)))


def test_the_person_lets_go_where_enough_is_won_and_has_patience_anew():
    lefts = [1.0] * 7 + [0.8, 0.6, 0.5] + [0.5] * 8
    assert looks(lefts) == [False] * 6 + [True] * 3 + [False] * 6 + [True] * 3


def test_a_new_episode_begins_with_patience():
    task = SimpleNamespace(left=lambda s: 1.0, way=lambda s: np.ones(3))
    person = Attention(task, 0.5, 0.1, 0.5, 1.0)
    states = [{"stamp_ns": ns(i / 10)} for i in range(8)]
    assert [person(s) is not None for s in states][-1]
    person.begin()
    assert person(states[-1]) is None


def test_an_intervener_knows_only_actions_that_move_the_tool():
    with pytest.raises(UserError, match="three axes"):
        Intervener(SimpleNamespace(), JointDelta(load("sim"), 0.1), VirtualClock())


def test_an_arm_that_stands_still_is_brought_to_the_goal_and_labels_tell_who_did_it():
    env = envs.make("robot/rehearsal", horizon=100, person=INTERVENER)
    env.reset(seed=0)
    sources, requested, over = [], [], False
    while not over:
        _, _, terminated, truncated, info = env.step(np.zeros(4))
        over = terminated or truncated
        sources.append(info["source"])
        requested.append(info["requested"])
        moved = np.abs(info["executed"][:3]).max() > 0
        assert not moved or info["source"] == HUMAN
    env.close()
    assert info["success"] and HUMAN in sources and sources[0] != HUMAN
    assert (np.array(requested) == 0).all()
