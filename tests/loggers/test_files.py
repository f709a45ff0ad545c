"""What is logged can be read back, and a resumed run finds its files as they were at its save."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robo_offline.loggers.files import Files, read_csv

names = st.text(min_size=1, max_size=12)
values = st.one_of(st.floats(), st.integers(-(10**9), 10**9), st.booleans(), st.text(), st.none())
rows = st.lists(st.dictionaries(names, values, min_size=1, max_size=5), max_size=8)
in_tmp_path = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def same(left, right):
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return left == right and type(left) is type(right)


def written(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.*"))}


def log_all(folder, many):
    files = Files(folder)
    for row in many:
        files.log(row)
    files.finish()


@in_tmp_path
@given(rows)
def test_any_row_comes_back_from_json_lines_as_it_went_in(tmp_path_factory, many):
    folder = tmp_path_factory.mktemp("run")
    log_all(folder, many)
    back = [json.loads(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]
    assert [list(row) for row in back] == [list(row) for row in many]
    for row, other in zip(many, back, strict=True):
        assert all(same(row[name], other[name]) for name in row)


@in_tmp_path
@given(rows)
def test_the_table_has_every_row_and_a_column_for_every_name(tmp_path_factory, many):
    folder = tmp_path_factory.mktemp("run")
    log_all(folder, many)
    table = read_csv(folder / "metrics.csv")
    assert len(table) == len(many)
    columns = list(dict.fromkeys(name for row in many for name in row))
    for row, cells in zip(many, table, strict=True):
        spoken = [row.get(name) for name in columns]
        for value, cell in zip(spoken, cells.values(), strict=True):
            if isinstance(value, float):
                assert same(float(cell), value)
            elif value is not None and not isinstance(value, str):
                assert cell == str(value)


@in_tmp_path
@given(rows, rows, rows, st.binary(max_size=40).filter(lambda tail: b"\n" not in tail))
def test_a_resumed_run_ends_with_the_same_files_as_one_that_never_stopped(
    tmp_path_factory, before, lost, after, torn
):
    whole, stopped = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("stopped")
    log_all(whole, before + after)
    files = Files(stopped)
    for row in before:
        files.log(row)
    state = json.loads(json.dumps(files.state()))
    for row in lost:
        files.log(row)
        files.evaluation(row)
    files.finish()
    with (stopped / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    resumed = Files(stopped)
    resumed.restore(state)
    for row in after:
        resumed.log(row)
    resumed.finish()
    assert written(stopped) == written(whole)


def test_a_late_metric_gets_a_column_and_no_row_is_lost(tmp_path):
    log_all(tmp_path, [{"step": 1, "a": 0.5}, {"step": 2, "a": 0.25, "b": 1.0}, {"step": 3}])
    assert (tmp_path / "metrics.csv").read_text() == "step,a,b\n1,0.5,\n2,0.25,1.0\n3,,\n"


def test_every_row_is_on_disk_before_the_next_one_comes(tmp_path):
    files = Files(tmp_path)
    files.log({"step": 1})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'
    assert (tmp_path / "metrics.csv").read_text() == "step\n1\n"
    files.finish()


def test_a_torn_last_line_is_cut_when_the_file_is_opened_again(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "a": 0.')
    log_all(tmp_path, [{"step": 3}])
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 3}\n'
    assert (tmp_path / "metrics.csv").read_text() == "step\n1\n3\n"


def test_a_file_shorter_than_its_checkpoint_is_kept_and_said(tmp_path, caplog):
    files = Files(tmp_path)
    files.log({"step": 1})
    state = files.state()
    state["metrics"]["bytes"] = 999
    files.restore(state)
    assert "rows in between are lost" in caplog.text
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'
    files.finish()


def test_restoring_again_after_a_crash_in_between_changes_nothing(tmp_path):
    files = Files(tmp_path)
    files.evaluation({"step": 0, "video": None})
    state = files.state()
    files.evaluation({"step": 5})
    files.restore(state)
    files.restore(state)
    files.finish()
    assert (tmp_path / "evaluations.jsonl").read_text() == '{"step": 0, "video": null}\n'


@pytest.mark.parametrize("value", [torch.tensor(0.5), np.float32(0.5), np.array(0.5)])
def test_tensors_and_numpy_scalars_are_written_as_numbers(tmp_path, value):
    log_all(tmp_path, [{"offline/critic/loss": value}])
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"offline/critic/loss": 0.5}


def test_finishing_twice_is_harmless(tmp_path):
    files = Files(tmp_path)
    files.finish()
    files.finish()
