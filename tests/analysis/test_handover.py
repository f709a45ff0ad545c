"""The dip, the recovery and the regret of a handover, on sequences short enough to check by eye."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robo_offline.analysis.handover import handover
from robo_offline.analysis.intervals import newcombe


def rows(offline, online, every=1000, episodes=20):
    def row(phase, i, share):
        return {"phase": phase, "step": i * every, "episodes": episodes, "success_rate": share}

    before = [row("offline", i, share) for i, share in enumerate(offline)]
    return before + [row("online", i + 1, share) for i, share in enumerate(online)]


def test_the_dip_is_the_lowest_online_rate_minus_the_last_offline_one():
    found = handover(rows([0.2, 0.6], [0.5, 0.3, 0.6, 0.9]))
    assert found.dip == pytest.approx(newcombe(6, 20, 12, 20))
    assert found.offline.value == 0.6 and found.worst_step == 2000 and found.final.value == 0.9


def test_recovery_is_counted_in_env_steps_from_the_handover():
    assert handover(rows([0.6], [0.5, 0.3, 0.55, 0.6, 0.5])).recovery_steps == 4000
    assert handover(rows([0.6], [0.7, 0.6])).recovery_steps == 0
    assert handover(rows([0.6], [0.5, 0.4])).recovery_steps is None


def test_regret_is_the_mean_distance_from_certain_success():
    assert handover(rows([0.6], [0.5, 1.0])).regret == pytest.approx(0.25)


def test_time_below_is_weighed_by_the_steps_that_led_to_each_evaluation():
    evaluations = rows([0.5], [0.4, 0.8])
    evaluations[-1]["step"] = 4000  # 1000 steps below, then 3000 above
    assert handover(evaluations).below_share == 0.25


def test_online_without_offline_has_a_regret_and_no_dip():
    found = handover(rows([], [0.5]))
    assert found.regret == 0.5
    assert (found.offline, found.dip, found.recovery_steps, found.below_share) == (None,) * 4


def test_without_online_successes_there_is_no_handover():
    assert handover([]) is None
    assert handover(rows([0.5], [])) is None
    assert handover(rows([0.5], [None])) is None


anything = st.one_of(st.none(), st.floats(), st.integers(-3, 3), st.text(max_size=2))
wild = st.fixed_dictionaries(
    {"phase": st.sampled_from(["offline", "online", None])},
    optional=dict.fromkeys(("step", "episodes", "success_rate"), anything),
)


@given(st.lists(wild, max_size=8))
def test_missing_and_odd_fields_never_raise(evaluations):
    found = handover(evaluations)
    assert found is None or 0 <= found.regret <= 1
