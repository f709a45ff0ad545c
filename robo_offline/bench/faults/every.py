"""All faults, in the order of their numbers."""

from __future__ import annotations

from robo_offline.bench.faults import Fault
from robo_offline.bench.faults.cameras import CAMERAS
from robo_offline.bench.faults.commander import COMMANDER
from robo_offline.bench.faults.commands import COMMANDS
from robo_offline.bench.faults.judgement import JUDGEMENT
from robo_offline.bench.faults.learning import LEARNING
from robo_offline.bench.faults.machine import MACHINE
from robo_offline.bench.faults.people import PEOPLE
from robo_offline.bench.faults.records import RECORDS
from robo_offline.bench.faults.robotd import ROBOTD
from robo_offline.bench.faults.strangers import STRANGERS
from robo_offline.bench.faults.vendors import VENDORS
from robo_offline.bench.faults.weights import WEIGHTS
from robo_offline.bench.faults.wild import WILD

MOTION = (COMMANDER, COMMANDS, WILD, CAMERAS, ROBOTD, VENDORS, PEOPLE, STRANGERS)
GROUPS = (*MOTION, MACHINE, RECORDS, WEIGHTS, JUDGEMENT, LEARNING)


def faults() -> dict[int, Fault]:
    """Return every fault by its number."""
    every = [fault for group in GROUPS for fault in group]
    return {fault.number: fault for fault in sorted(every, key=lambda fault: fault.number)}
