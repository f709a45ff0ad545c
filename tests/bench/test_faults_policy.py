"""Every fault of weights, judgement, records and the machine is injected, and its bound is kept."""

from __future__ import annotations

import pytest

from robo_offline.bench.faults.judgement import JUDGEMENT
from robo_offline.bench.faults.machine import MACHINE
from robo_offline.bench.faults.records import RECORDS
from robo_offline.bench.faults.weights import WEIGHTS
from robo_offline.export import aoti

FAULTS = sorted((*MACHINE, *WEIGHTS, *JUDGEMENT, *RECORDS), key=lambda fault: fault.number)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.number}-{f.inject.__name__}")
def test_a_fault_is_survived_within_its_bound(fault, tmp_path):
    if fault.number == 24 and not aoti.possible():
        pytest.skip("PyTorch's compiler cannot link from a folder with a space in its path")
    found = fault.inject(tmp_path, False)
    print(f"{fault.number}: {found.measured}")
    assert found.held, found.measured
    assert found.figures and all(isinstance(value, int | float) for value in found.figures.values())
