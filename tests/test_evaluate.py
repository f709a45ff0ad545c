"""Fixed episodes, the same in one process or several, and an honest summary."""

from __future__ import annotations

import json

import numpy as np
import pytest
import toy

from robo_offline.algos.sac import SAC
from robo_offline.errors import UserError
from robo_offline.evaluate import Evaluation, Evaluator, Outcome, play
from robo_offline.policies.policy import Policy


@pytest.fixture
def policy() -> Policy:
    return Policy(SAC.create(toy.spec(), toy.encoder(), hidden=(8,), chunk=3), explore=True)


def evaluation(successes: int, count: int = 10, **fields) -> Evaluation:
    outcomes = [Outcome(n, n < successes, float(n < successes), 5 + n) for n in range(count)]
    return Evaluation(tuple(outcomes), 7, **fields)


def test_the_same_policy_gets_the_same_result_every_time(policy):
    evaluator = Evaluator(toy.Reach, episodes=4, seed=1)
    assert evaluator(policy) == evaluator(policy)
    evaluator.close()


def test_worker_processes_find_what_one_process_finds(policy):
    results = []
    for workers in (1, 2):
        evaluator = Evaluator(toy.Reach, episodes=5, seed=1, workers=workers)
        results.append(evaluator(policy))
        evaluator.close()
    assert results[0] == results[1]
    assert [outcome.index for outcome in results[1].outcomes] == list(range(5))


def test_episodes_are_fixed_by_seed_and_index_whatever_ran_before(policy):
    env = toy.Reach()
    alone = play(env, policy, 3, 2)
    play(env, policy, 3, 0)
    assert play(env, policy, 3, 2) == alone
    assert play(env, policy, 4, 2) != alone or play(env, policy, 3, 3) != alone


def test_an_evaluation_does_not_explore(policy):
    policy.random.fill_(True)
    first = play(toy.Reach(), policy, 0, 0)
    policy.random.fill_(False)
    assert play(toy.Reach(), policy, 0, 0) == first


def test_success_anywhere_in_an_episode_counts(policy):
    class Passing(toy.Reach):
        def step(self, action):
            *outcome, _ = super().step(action)
            return *outcome, {"success": self.time == 2}

    assert play(Passing(), policy, 0, 0).success


def test_the_summary_by_hand():
    row = evaluation(3, score_range=(0.1, 0.5)).row()
    assert (row["episodes"], row["successes"], row["success_rate"]) == (10, 3, 0.3)
    assert row["return_mean"] == pytest.approx(0.3)
    assert row["return_std"] == pytest.approx(np.sqrt(0.21))
    assert row["length_mean"] == 9.5
    assert row["normalised_score"] == pytest.approx(50.0)
    assert row["success_low"] < 0.3 < row["success_high"]


def test_without_a_score_range_there_is_no_normalised_score():
    assert evaluation(3).row()["normalised_score"] is None


def test_a_higher_success_rate_ranks_before_a_higher_return():
    rich = Evaluation((Outcome(0, False, 99.0, 5),), 0)
    assert evaluation(1, 1).rank > rich.rank


def test_an_evaluation_is_written_with_every_episode(tmp_path):
    evaluation(3).write(tmp_path / "deep" / "file.json")
    content = json.loads((tmp_path / "deep" / "file.json").read_text())
    assert content["successes"] == 3
    assert [episode["index"] for episode in content["per_episode"]] == list(range(10))


def test_an_evaluation_without_episodes_is_refused():
    with pytest.raises(UserError, match="at least one episode"):
        Evaluator(toy.Reach, episodes=0, seed=0)


def test_more_workers_than_episodes_are_not_started():
    assert Evaluator(toy.Reach, episodes=2, seed=0, workers=8).workers == 2
