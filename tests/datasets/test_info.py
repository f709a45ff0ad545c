"""Info describes a data set in numbers that JSON can hold."""

import io
import json

import numpy as np
from dataset_files import episode, episodes
from rich.console import Console

from robo_offline.datasets import store
from robo_offline.datasets.info import info, render


def test_the_numbers_are_those_of_the_data():
    store.write("made/walk-v0", episodes())
    about = json.loads(json.dumps(info("made/walk-v0")))
    assert (about["episodes"], about["steps"], about["success_rate"]) == (2, 12, 0.5)
    assert about["ends"] == {"terminated": 1, "truncated": 1, "neither": 0}
    assert about["return"] == {"min": 0.0, "mean": 0.5, "median": 0.5, "max": 1.0}
    assert (about["length"]["min"], about["length"]["max"]) == (5.0, 7.0)
    assert sum(about["length"]["histogram"]["counts"]) == 2
    assert about["observation"] == {"observation": "(4,) float32"}


def test_actions_seen_stand_beside_those_declared():
    one = episode(5)
    one.action[0] = [2, 0, -3]
    store.write("made/walk-v0", [one])
    action = info("made/walk-v0")["action"]
    assert action["declared_high"] == [1, 1, 1] and action["steps_outside"] == 1
    assert (action["seen_high"][0], action["seen_low"][2]) == (2, -3)


def test_success_is_unknown_rather_than_zero():
    store.write("made/walk-v0", [episode(5, success=None)])
    assert info("made/walk-v0")["success_rate"] is None


def test_it_prints_on_a_page():
    observation = {"state": np.zeros((6, 2)), "front": np.zeros((6, 3, 8, 8), np.uint8)}
    store.write("made/seen-v0", [episode(5, observation=observation)], description="two views")
    page = io.StringIO()
    Console(file=page, width=100).print(render(info("made/seen-v0")))
    assert "observation.front" in page.getvalue() and "two views" in page.getvalue()
