"""Processes are killed for real, with Ray between them: nothing is lost, nobody waits for ever."""

from __future__ import annotations

import pytest

pytest.importorskip("ray", reason="collector=ray is not installed: pip install 'robo-offline[ray]'")

from robo_offline.bench.faults.learning import LEARNING

pytestmark = [pytest.mark.ray, pytest.mark.real_time, pytest.mark.slow]


@pytest.mark.parametrize("fault", LEARNING, ids=lambda fault: f"{fault.number}")
def test_a_fault_of_learning_is_survived_within_its_bound(tmp_path, fault):
    measured = fault.inject(tmp_path, False)
    assert measured.held, measured.measured
