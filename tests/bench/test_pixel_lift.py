"""The pixel benchmark: it imports what the environment shows, and says rises only of what does."""

from __future__ import annotations

import json

import pytest

from robo_offline import cli
from robo_offline.bench import jobs, pixel_lift
from robo_offline.bench.tasks import REAL_DATA
from robo_offline.config import compose
from robo_offline.data import _parser


@pytest.fixture(autouse=True)
def apart(monkeypatch, tmp_path):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data"))
    monkeypatch.delenv(REAL_DATA, raising=False)
    monkeypatch.setattr(pixel_lift, "where_the_time_goes", dict)


@pytest.fixture
def scored(trainings, monkeypatch):
    """Evaluations of what came out: 19 of 20."""
    train = jobs.call

    def call(arguments, log):
        train(arguments, log)
        if arguments[0] == "evaluate":
            row = {"episodes": 20, "success_rate": 0.95, "success_low": 0.76, "success_high": 0.99}
            folder = log.with_name(log.name.removesuffix(".evaluate.log")) / "evaluations"
            folder.mkdir(parents=True)
            (folder / "last-1.json").write_text(json.dumps(row))

    monkeypatch.setattr(jobs, "call", call)
    return trainings


@pytest.fixture
def demonstrations(tmp_path):
    folder = tmp_path / "real" / "robosuite_lift_human"
    folder.mkdir(parents=True)
    for file in pixel_lift.FILES:
        (folder / file).touch()
    return folder.parent


def test_runs_are_trained_scored_and_told(capsys, scored, demonstrations):
    words = ["--run", "--seeds", "0,1", "--jobs", "1", "--data", str(demonstrations)]
    assert cli.main(["bench", "pixel-lift", *words]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]
    assert found["td3_sil"]["seeds"] == found["bc"]["seeds"] == 2
    assert found["td3_sil"]["rises"] == [True, True]  # from at most 0.4 to at least 0.76
    assert [call[0] for call in scored].count("evaluate") == 4
    assert cli.main(["bench", "pixel-lift", *words]) == 0  # goes on: nothing is done twice
    assert [call[0] for call in scored].count("evaluate") == 4


def test_the_data_set_is_imported_as_the_environment_and_the_experiment_want_it(
    scored, demonstrations
):
    words = ["--run", "--seeds", "0", "--methods", "bc", "--data", str(demonstrations)]
    assert cli.main(["bench", "pixel-lift", *words]) == 0
    [imported] = [call for call in scored if call[0] == "data"]
    options = _parser().parse_args(imported[1:])
    cfg = compose(["experiment=lift_pixels/td3_sil"])
    assert options.cameras.split(",") == list(cfg.env.cameras)
    assert options.keys.split(",") == list(cfg.env.observation_keys)
    assert options.image_size == cfg.env.image_size
    assert options.to == cfg.dataset


def test_without_the_demonstrations_it_says_where_they_would_be(capsys, scored):
    assert cli.main(["bench", "pixel-lift", "--run"]) == 2
    assert "robosuite_lift_human" in capsys.readouterr().err


def test_the_policy_is_not_told_where_the_cube_is():
    assert "object-state" not in compose(["experiment=lift_pixels/td3_sil"]).env.observation_keys
