"""Rows reach every logger, and only the files may end a run."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

import configs
from robo_offline.errors import UserError
from robo_offline.loggers import Logger, Many
from robo_offline.loggers import logger as module
from robo_offline.loggers.logger import Axis


class Kept(Logger):
    def __init__(self):
        self.rows = []

    def log(self, row):
        self.rows.append(row)

    def state(self):
        return {"rows": len(self.rows)}

    def restore(self, state):
        del self.rows[state["rows"] :]


class Broken(Logger):
    def log(self, row):
        raise ConnectionError("the service is away")


def test_a_tensor_is_turned_into_a_number_once_for_all():
    kept = Kept()
    Many(Kept(), {"kept": kept}).log({"a": torch.tensor(2.0)})
    assert kept.rows == [{"a": 2.0}] and type(kept.rows[0]["a"]) is float


def test_a_broken_service_is_switched_off_with_one_line(caplog):
    files, kept = Kept(), Kept()
    many = Many(files, {"broken": Broken(), "kept": kept})
    many.log({"step": 1})
    many.log({"step": 2})
    assert len(files.rows) == len(kept.rows) == 2
    assert caplog.text.count("the broken logger is off") == 1


def test_a_file_that_cannot_be_written_ends_the_run():
    with pytest.raises(ConnectionError):
        Many(Broken(), {}).log({"step": 1})


def test_each_logger_gets_its_own_state_back_and_a_new_one_starts_afresh():
    many = Many(Kept(), {"a": Kept()})
    many.log({"step": 1})
    state = many.state()
    later = Many(Kept(), {"a": Kept(), "added": Kept()})
    for step in (1, 2, 3):
        later.log({"step": step})
    later.restore(state)
    assert [len(one.rows) for one in (later.files, *later.others.values())] == [1, 1, 3]


@pytest.mark.parametrize("name", ["default", "tensorboard", "wandb"])
def test_every_logger_config_builds_files_and_console_and_what_it_adds(name, tmp_path):
    folder = str(Path(configs.__path__[0]).resolve())
    with initialize_config_dir(folder, version_base=None):
        config = compose(f"logger/{name}")
    many = instantiate(config.logger, directory=tmp_path)
    expected = {"console"} | ({name} - {"default"})
    assert set(many.others) == expected
    assert (tmp_path / "metrics.jsonl").exists()
    many.finish()


def test_a_missing_package_is_named_with_its_extra_when_the_logger_is_built(monkeypatch, tmp_path):
    from robo_offline.loggers.tensorboard import TensorBoard

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install robo-offline\[log\]"):
        TensorBoard(tmp_path, 30)


def test_phases_lie_end_to_end_on_one_axis():
    axis = Axis()
    steps = [("offline", 0), ("offline", 100), ("online", 0), ("online", 40), ("online", None)]
    positions = [axis.position({"phase": phase, "step": step}) for phase, step in steps]
    assert positions == [0, 100, 100, 140, 140]
    resumed = Axis()
    resumed.restore(axis.state())
    assert resumed.position({"phase": "online", "step": 50}) == 150
