"""Episodes of a robot become a data set, and the data set is what the robot lived through."""

from __future__ import annotations

import json

import numpy as np
import pytest

import envs
from real_robot.episodes import Kept, lived
from robo_offline.cli import main
from robo_offline.datasets import load
from robo_offline.datasets.store import Store
from robo_offline.errors import UserError

pytest.importorskip("mujoco")
INTERVENER = {
    "_target_": "real_robot.tasks.intervener.Intervener",
    "_partial_": True,
    "patience_s": 0.2,
}


def act(folder, **options):
    env = Kept(envs.make("robot/rehearsal", horizon=10, **options), folder, {"horizon": 10})
    for seed in range(3):
        env.reset(seed=seed)
        over = False
        while not over:
            *_, terminated, truncated, _ = env.step(np.full(4, 0.5))
            over = terminated or truncated
    env.close()


@pytest.fixture
def stored(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("ROBO_OFFLINE_CACHE", str(tmp_path / "cache"))
    act(tmp_path / "deployment" / "episodes", person=INTERVENER)
    return tmp_path / "deployment"


def test_a_deployment_is_imported_and_loaded_as_it_was_lived(stored, capsys):
    assert main(["data", "import", str(stored), "--to", "robot/lived-v0", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["episodes"], report["steps"]) == (3, 30)
    assert report["environment"] == {"horizon": 10}
    assert report["sources"][0]["counts"]["steps of a person"] > 0
    steps, episodes = load("robot/lived-v0").steps, list(lived(stored / "episodes"))
    for number, one in enumerate(episodes):
        rows = steps[steps["episode"] == number]
        assert np.array_equal(rows["observation"].numpy(), one.observation)
        assert np.array_equal(rows["action"][:-1].numpy(), one.steps["executed"])
        assert rows["truncated"][:-1].tolist() == one.steps["truncated"].tolist()


def test_what_was_asked_for_who_acted_and_the_measured_rate_come_along(stored):
    main(["data", "import", str(stored / "episodes"), "--to", "robot/lived-v0"])
    one, episode = next(lived(stored / "episodes")), next(Store("robot/lived-v0").episodes())
    for key in ("requested", "source", "late_ns"):
        assert np.array_equal(episode.extra[key], one.steps[key]), key
    assert episode.extra["rate_hz"] == pytest.approx(20, abs=0.5)


def test_what_was_lived_trains_the_next_policy(stored, tmp_path):
    main(["data", "import", str(stored), "--to", "robot/lived-v0"])
    run = tmp_path / "run"
    short = ["phase=offline", "phase.offline.steps=5", "phase.offline.evaluate_every=0"]
    small = ["algo.hidden=[8]", "evaluation.episodes=1", "evaluation.video_episodes=0"]
    robot = ["env=robot/rehearsal", "env.horizon=5", "algo=bc", "dataset=robot/lived-v0"]
    assert main(["train", *robot, *short, *small, f"run_dir={run}"]) == 0


def test_episodes_of_two_robots_do_not_become_one_data_set(stored, tmp_path, capsys):
    from dataclasses import replace

    from real_robot.descriptor import dump, load

    other = tmp_path / "other.json"
    other.write_text(dump(replace(load("sim"), name="other")))
    act(stored / "episodes", robot=str(other))
    assert main(["data", "import", str(stored), "--to", "robot/two-v0"]) == 2
    assert "several robots" in capsys.readouterr().err


def test_a_folder_without_episodes_is_named(tmp_path):
    from robo_offline.datasets.importing import open_source

    with pytest.raises(UserError, match="folders of robot episodes"):
        open_source(tmp_path)


def test_what_is_collected_on_a_robot_is_what_it_executed(tmp_path, monkeypatch):
    from robo_offline.collect import Random, collect

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    kept = tmp_path / "kept"

    def make():
        return Kept(envs.make("robot/rehearsal", horizon=10, person=INTERVENER), kept)

    collect(make, Random(), 1, 0, "robot/shown")
    [one], stored = lived(kept), next(Store("robot/shown-v0").episodes())
    assert np.array_equal(stored.action, one.steps["executed"])
    assert not np.array_equal(stored.action, one.steps["requested"])
