"""A run that is killed at any moment continues as if nothing had happened."""

from __future__ import annotations

import pytest

from robo_offline.bench.resume import compare


@pytest.mark.slow
@pytest.mark.parametrize(("second_process", "kills"), [(False, 12), (True, 8)])
def test_a_run_killed_at_random_moments_equals_an_unbroken_one(tmp_path, second_process, kills):
    result = compare(tmp_path, kills=kills, seed=kills, second_process=second_process)
    assert result["different"] == []
    assert result["kills"] == kills
    assert any("in a save" in kind for kind in result["kills_by_phase"])
    assert any(kind.startswith("online") for kind in result["kills_by_phase"])
