"""Curves are means of what was measured, on one axis whose phases keep their own units."""

import numpy as np
import pytest

from robo_offline.report.curves import evaluation_curve, phase_axis, training_curve
from robo_offline.report.curves import training_metrics as metrics_of
from robo_offline.report.groups import Group, flatten, group
from robo_offline.report.plots import brief
from robo_offline.report.read import read


def seeds(tmp_path, write_run, *online):
    runs = [read(write_run(tmp_path / str(i), seed=i, online=o)) for i, o in enumerate(online)]
    return Group("IQL", 0, runs, {})


def axis_of(one):
    return phase_axis(row for run in one.runs for row in run.evaluations)


def test_online_follows_offline_whatever_their_lengths():
    axis = phase_axis([{"phase": "online", "step": 7}, {"phase": "offline", "step": 1000}])
    assert list(axis) == ["offline", "online"]
    assert axis["offline"].position(1000) == axis["online"].position(0) == 1
    assert axis["online"].position(7) == 2
    assert axis["offline"].bin(1000) + 1 == axis["online"].bin(0)


def test_one_run_has_its_own_wilson_band(tmp_path, write_run):
    one = seeds(tmp_path, write_run, (3, 9, 18))
    curve = evaluation_curve(one, axis_of(one), "success_rate")
    assert curve.value.tolist() == [0.1, 0.4, 0.5, 0.15, 0.45, 0.9]
    assert (curve.low[-1], curve.high[-1]) == pytest.approx((0.699, 0.972), abs=1e-3)


def test_seeds_are_averaged_where_they_were_evaluated(tmp_path, write_run):
    three = seeds(tmp_path, write_run, (2, 10, 20), (4, 10, 20), (6, 10, 20))
    curve = evaluation_curve(three, axis_of(three), "success_rate")
    assert curve.value[3:] == pytest.approx([0.2, 0.5, 1.0])
    assert curve.low[3] == pytest.approx(max(0, 0.2 - 4.3027 * 0.1 / np.sqrt(3)))
    assert curve.low[4] == curve.high[4] == 0.5 and len(curve.runs) == 3


def test_two_seeds_are_banded_by_their_range(tmp_path, write_run):
    two = seeds(tmp_path, write_run, (2, 10, 20), (6, 10, 20))
    curve = evaluation_curve(two, axis_of(two), "success_rate")
    assert (curve.low[3], curve.high[3]) == pytest.approx((0.1, 0.3))


def test_a_seed_that_stopped_early_is_not_drawn_on(tmp_path, write_run):
    two = seeds(tmp_path, write_run, (10,), (2, 10, 20))
    curve = evaluation_curve(two, axis_of(two), "success_rate")
    assert curve.value[-2:] == pytest.approx([0.5, 1.0])


def test_a_training_curve_is_the_mean_over_seeds_within_their_range(tmp_path, write_run):
    two = seeds(tmp_path, write_run, (3,), (3,))
    names = metrics_of([two])
    assert list(names) == ["critic/loss", "critic/q"]
    assert names["critic/q"] == ["offline/critic/q", "online/critic/q"]
    curve = training_curve(two, axis_of(two), names["critic/q"])
    assert (set(curve.low), set(curve.value), set(curve.high)) == ({1.0}, {1.5}, {2.0})


def test_runs_with_equal_settings_are_one_group_and_labels_are_short(tmp_path, write_run):
    kinds = [("IQL", 0, 3), ("IQL", 1, 3), ("IQL", 0, 10), ("BC", 0, 3)]
    runs = [read(write_run(tmp_path / str(i), algo, seed, beta))
            for i, (algo, seed, beta) in enumerate(kinds)]  # fmt: skip
    groups = group(runs)
    assert [len(one.runs) for one in groups] == [2, 1, 1]
    assert [one.label for one in groups] == ["IQL · beta 3", "IQL · beta 10", "BC"]


def test_a_nested_config_is_flattened_to_dotted_names():
    config = {"algo": {"beta": 3, "hidden": [8, 8]}, "x": {}, "y": None, "z": "a"}
    flat = {"algo.beta": "3", "algo.hidden": "[8, 8]", "x": "{}", "y": "null", "z": "a"}
    assert flatten(config) == flat


@pytest.mark.parametrize(
    ("step", "written"), [(0, "0"), (950, "950"), (20_000, "20k"), (1.5e6, "1.5M")]
)
def test_steps_on_an_axis_are_written_briefly(step, written):
    assert brief(step) == written
