"""The cost of encoders: real updates, part by part, kept beside what was found before."""

from __future__ import annotations

import json

import pytest

from robo_offline import cli
from robo_offline.bench import jobs, pixels


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(pixels, "SIZE", 40)
    monkeypatch.setattr(pixels, "EPISODE", 4)
    monkeypatch.setattr(pixels, "EPISODES", 2)


def test_an_update_is_timed_part_by_part(small):
    found = pixels.cost_of("drq", (4, 0.0))
    assert found["updates_per_second"] == pytest.approx(1000 / found["ms_per_update"], rel=0.01)
    for part in ("ms_sample", "ms_augment", "ms_look", "ms_look_back"):
        assert 0 < found[part] < found["ms_per_update"] * 50
    conv = lambda c: 32 * (9 * c + 1)  # noqa: E731
    map_ = 32 * 13 * 13  # 40 pixels: 19, 17, 15, 13
    trunk = map_ * 50 + 50 + 2 * 50
    assert found["parameters_per_encoder"] == 2 * (conv(3) + 3 * conv(32) + trunk)
    assert found["ms_frozen_per_image"] == 0


def test_a_frozen_network_runs_before_learning_begins(small, monkeypatch):
    tiny = ["encoder.camera.backbone.blocks=[1]", "encoder.camera.backbone.width=4",
            "encoder.camera.view.resize=40", "encoder.camera.view.crop=0"]  # fmt: skip
    from robo_offline import config

    compose = config.compose
    monkeypatch.setattr(config, "compose", lambda overrides: compose([*overrides, *tiny]))
    found = pixels.cost_of("r3m", (4, 0.0))
    assert found["ms_frozen_per_image"] > 0
    assert found["parameters_per_encoder"] == 2 * (4 * 256 + 256 + 2 * 256)  # the heads alone


def test_what_is_measured_is_kept_with_what_was_found_before(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(jobs, "BENCH", tmp_path)
    monkeypatch.setattr(pixels, "apart", lambda function, name, argument: {"at": argument[0]})
    for names in ("drq", "impala"):
        command = ["bench", "pixels", "--run", "--json", "--encoders", names, "--batches", "8",
                   "--out", str(tmp_path / "runs")]  # fmt: skip
        assert cli.main(command) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["encoders"] == {"drq": {"batch_8": {"at": 8}}, "impala": {"batch_8": {"at": 8}}}
    assert cli.main(["bench", "pixels", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["encoders"] == found["encoders"]
