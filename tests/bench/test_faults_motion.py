"""Every fault around motion, injected in its quick form: its bound is kept."""

from __future__ import annotations

import pytest

from robo_offline.bench.faults.cameras import CAMERAS
from robo_offline.bench.faults.commander import COMMANDER
from robo_offline.bench.faults.commands import COMMANDS
from robo_offline.bench.faults.people import PEOPLE
from robo_offline.bench.faults.robotd import ROBOTD
from robo_offline.bench.faults.strangers import STRANGERS
from robo_offline.bench.faults.vendors import VENDORS
from robo_offline.bench.faults.wild import WILD

GROUPS = (COMMANDER, COMMANDS, WILD, CAMERAS, ROBOTD, VENDORS, PEOPLE, STRANGERS)
FAULTS = sorted((fault for group in GROUPS for fault in group), key=lambda fault: fault.number)
# The vendors' libraries, and what takes the place of their arms.
NEEDS = {
    11: ("rtde_control", "franky", "franky_sim"),
    12: ("franky", "franky_sim"),
    13: ("franky", "franky_sim"),
    14: ("rtde_control",),
}


def test_every_number_is_there_once():
    assert [fault.number for fault in FAULTS] == list(range(1, 20))


@pytest.mark.parametrize(
    "fault", FAULTS, ids=lambda fault: f"{fault.number:02}-{fault.inject.__name__}"
)
def test_the_bound_is_kept(fault, tmp_path):
    for package in NEEDS.get(fault.number, ()):
        pytest.importorskip(package, reason=f"fault {fault.number} needs {package}")
    found = fault.inject(tmp_path / "here", False)
    print(f"{fault.number}: {found.measured}")
    assert found.held, (fault.bound, found.measured)
    assert found.figures and all(isinstance(x, int | float) for x in found.figures.values())
