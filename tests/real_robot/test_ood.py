import numpy as np
import pytest

from real_robot.ood import Gate
from robo_offline.errors import UserError

MIX = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 0.2]])


def episodes(count, seed, shift=0.0):
    """Random walks around a mean, correlated in time and between numbers."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        x = np.zeros(3)
        rows = []
        for _ in range(30):
            x = 0.8 * x + 0.6 * random.normal(size=3)
            rows.append(MIX @ x + 1.0)
        found.append(np.array(rows) + shift)
    return found


def alarms(gate, played):
    count = 0
    for episode in played:
        gate.begin()
        fired = [gate.fires(row) for row in episode]
        count += any(fired)
    return count / len(played)


def test_new_successful_episodes_are_stopped_by_mistake_as_often_as_promised():
    rates = [
        alarms(Gate.calibrate(episodes(100, seed), alpha=0.1), episodes(100, 1000 + seed))
        for seed in range(12)
    ]
    assert np.mean(rates) == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("shift", [np.array([0, 0, 2.0]), np.array([8.0, 0, 0])])
def test_what_the_data_never_showed_is_noticed(shift):
    gate = Gate.calibrate(episodes(100, 0), alpha=0.05)
    assert alarms(gate, episodes(50, 5, shift)) >= 0.9


def test_numbers_in_another_order_are_noticed():
    gate = Gate.calibrate(episodes(100, 0), alpha=0.05)
    swapped = [episode[:, [2, 1, 0]] for episode in episodes(50, 5)]
    assert alarms(gate, swapped) >= 0.9


def test_one_odd_observation_is_no_alarm_and_a_window_of_them_is():
    gate = Gate.calibrate(episodes(100, 0), alpha=0.05, window=5)
    calm, odd = np.full(3, 1.0), np.full(3, 1.0) + MIX @ np.full(3, 2.2 * gate.threshold)
    assert not any(gate.fires(x) for x in (calm, calm, calm, calm, odd))
    assert any(gate.fires(odd) for _ in range(5))


def test_an_episode_begins_with_a_clean_window():
    gate = Gate.calibrate(episodes(100, 0), alpha=0.05)
    for _ in range(5):
        gate.fires(np.full(3, 50.0))
    gate.begin()
    assert not gate.fires(np.full(3, 50.0))


def test_numbers_that_never_changed_do_not_break_it():
    constant = [np.concatenate([e, np.ones((30, 1))], 1) for e in episodes(100, 0)]
    gate = Gate.calibrate(constant)
    assert np.isfinite(gate.threshold)
    assert gate.score(np.append(np.full(3, 1.0), 1.5)) > gate.score(np.append(np.full(3, 1.0), 1.0))


def test_too_few_episodes_for_the_promise_are_refused():
    with pytest.raises(UserError, match="at least 38"):
        Gate.calibrate(episodes(30, 0), alpha=0.05)
