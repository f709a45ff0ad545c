"""A judge is believed when it has said so often enough, and a person knows better."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from real_robot.debounce import Debounced
from robo_offline.errors import UserError


def judged(said, k=3, n=5, person=None):
    looks = iter(said)
    found = Debounced(lambda *_: (0.0, next(looks), False), lambda *_: None, k, n, person)
    return [found.outcome({}, None) for _ in said], found


@pytest.mark.parametrize("said", list(product([False, True], repeat=6)))
def test_success_is_believed_where_three_of_the_last_five_looks_saw_it(said):
    outcomes, _ = judged(said)
    for step, (reward, success, failure) in enumerate(outcomes):
        assert success == (sum(said[max(0, step - 4) : step + 1]) >= 3)
        assert reward == float(success) and not failure


def test_one_of_one_is_the_judge_itself():
    said = [False, True, False, True]
    assert [o[1] for o in judged(said, 1, 1)[0]] == said


def test_what_was_seen_in_an_episode_counts_for_nothing_in_the_next():
    looks = iter([True, True, True, False, True])
    found = Debounced(lambda *_: (0.0, next(looks), False), lambda *_: None, 3, 5)
    assert not found.outcome({}, None)[1] and not found.outcome({}, None)[1]
    found(None, np.random.default_rng(0))
    assert [found.outcome({}, None)[1] for _ in range(3)] == [False] * 3


def test_a_person_overrules_the_judge_and_that_is_counted():
    person = SimpleNamespace(said=SimpleNamespace(failure=True))
    outcomes, found = judged([True] * 3, person=person)
    assert outcomes == [(0.0, False, True)] * 3 and found.vetoes == 1
    person.said = None
    outcomes, found = judged([True] * 3, person=person)
    assert outcomes[-1] == (1.0, True, False) and found.vetoes == 0


def test_a_judge_that_sees_failure_ends_the_episode():
    found = Debounced(lambda *_: (0.0, False, True), lambda *_: None, 2, 3)
    assert found.outcome({}, None) == (0.0, False, True)


@pytest.mark.parametrize(("k", "n"), [(0, 3), (4, 3), (-1, 1)])
def test_a_rule_that_cannot_be_kept_is_refused(k, n):
    with pytest.raises(UserError, match="1 <= k <= n"):
        Debounced(lambda *_: (0.0, False, False), lambda *_: None, k, n)
