"""Whole runs on images: encoders learn, repeat themselves and act; what does not fit is refused."""

from __future__ import annotations

import h5py
import numpy as np
import pictures
import pytest
import torch

from robo_offline import build
from robo_offline.config import compose
from robo_offline.datasets import store
from robo_offline.datasets.cache import load
from robo_offline.datasets.episode import Episode
from robo_offline.encoders.resnet import ResNet, batch
from robo_offline.errors import UserError
from robo_offline.saved import load_policy
from robo_offline.train import write_identity

SMALL = ["encoder.camera.backbone.width=4", "encoder.camera.head.dim=5"]


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Overrides of a run on the toy with cameras, with its data set as `pictures`."""
    monkeypatch.setenv("ROBO_OFFLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("robo_offline.build.load", lambda name: pictures.dataset(3))
    return [
        "algo=td3_bc", "algo.hidden=[8]", "env=gymnasium", "env._target_=pictures.make",
        "dataset=pictures", "encoder=drq", *SMALL, "logger.console=false",
        "phase.offline.steps=6", "phase.offline.batch_size=8", "phase.online.batch_size=8",
        "phase.online.steps=30", "phase.online.warmup=10", "phase.online.utd=0.1",
        "evaluation={episodes: 1, workers: 1, video_episodes: 0}",
    ]  # fmt: skip


def trained(overrides: list[str], folder):
    cfg = compose(overrides)
    run = build.run(cfg, folder)
    write_identity(cfg, folder)
    run.execute(build.phases(cfg))
    run.close()
    return run


def test_a_run_with_random_shifts_repeats_itself_and_its_policy_acts(made, tmp_path):
    offline = [override for override in made if not override.startswith("phase.online")]
    offline += ["phase=offline", "augment=shift"]
    runs = [trained(offline, tmp_path / name) for name in ("one", "two")]
    one, two = (run.learner.state_dict() for run in runs)
    assert all(torch.equal(one[key], two[key]) for key in one)
    plain = trained([*offline, "augment=none"], tmp_path / "plain").learner.state_dict()
    assert any(not torch.equal(one[key], plain[key]) for key in one)
    policy = load_policy(tmp_path / "one")
    seen = {k: v[0].numpy() for k, v in pictures.observation(1).items()}
    expected = runs[0].policy().act(seen, explore=False)
    assert np.array_equal(policy.act(seen, explore=False), expected)


def test_online_every_update_sees_images_varied_anew(made, tmp_path):
    online = [o for o in made if not o.startswith(("phase.offline", "dataset"))]
    cfg = compose([*online, "algo=sac", "phase=online", "augment=shift"])
    run, seen = build.run(cfg, tmp_path / "run"), []
    augment, update = run.augment, run.learner.update

    def varied(batch, device):
        seen.append(augment(batch, device))
        assert not torch.equal(seen[-1]["observation", "front"], batch["observation", "front"])
        return seen[-1]

    def learn(batch, frozen):
        assert batch is seen[-1]
        return update(batch, frozen)

    run.augment, run.learner.update = varied, learn
    run.execute(build.phases(cfg))
    run.close()
    assert len(seen) == run.counters.update > 0


def test_a_frozen_encoder_learns_on_maps_and_acts_on_images(made, tmp_path):
    network = ResNet(3, blocks=[1], width=4, bottleneck=False, norm=batch())
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    frozen = ["encoder=r3m", f"encoder.camera.weights={tmp_path / 'weights.pt'}",
              "encoder.camera.backbone.blocks=[1]", "encoder.camera.view.resize=20",
              "encoder.camera.view.crop=0", "algo.frames=2"]  # fmt: skip
    overrides = [*(o for o in made if o != "encoder=drq"), *frozen]
    run = trained(overrides, tmp_path / "run")
    for replay in (run.replay.offline, run.replay.online):
        assert replay.rows["observation", "front"].dtype == torch.float16
    assert len(run.replay.online)
    seen = {k: v[0].numpy() for k, v in pictures.observation(1).items()}
    expected = run.policy().act(seen, explore=False)
    assert np.array_equal(load_policy(tmp_path / "run").act(seen, explore=False), expected)
    with pytest.raises(UserError, match="images cannot be varied"):
        build.run(compose([*overrides, "augment=shift"]), tmp_path / "other")


# -- what does not fit ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        ("make_larger", r"(?s)does not fit the environment.*\(3, 20, 20\).*\(3, 24, 24\)"),
        ("make_other_camera", r"(?s)does not fit.*side: absent here.*wrist.*absent there"),
    ],
)
def test_images_of_another_size_or_camera_are_refused_at_the_start(made, tmp_path, make, said):
    with pytest.raises(UserError, match=said):
        build.run(compose([*made, f"env._target_=pictures.{make}"]), tmp_path / "run")


def test_a_crop_of_another_size_than_the_encoders_is_refused_before_the_first_update(
    made, tmp_path
):
    offline = [override for override in made if not override.startswith("phase.online")]
    cfg = compose([*offline, "augment=crop", "phase=offline"])
    cfg.augment.steps[0].size = 16
    run = build.run(cfg, tmp_path / "run")
    with pytest.raises(UserError, match=r"(?s)another size.*\(20, 20\).*\(16, 16\)"):
        run.execute(build.phases(cfg))
    run.close()


def episode() -> Episode:
    observation = {name: np.zeros((4, 3, 8, 8), np.uint8) for name in ("front", "wrist")}
    last = np.array([False, False, True])
    zeros = np.zeros(3)
    return Episode(observation, np.zeros((3, 2), np.float32), zeros, last, zeros.astype(bool))


@pytest.mark.parametrize(
    ("wrist", "said"),
    [
        (None, "absent"),
        (np.zeros((4, 3, 9, 8), np.uint8), r"\(3, 9, 8\) uint8"),
        (np.zeros((4, 8, 8, 3), np.uint8), r"\(8, 8, 3\) uint8"),
        (np.zeros((4, 3, 8, 8), np.float32), r"\(3, 8, 8\) float32"),
    ],
)
def test_an_episode_whose_camera_differs_is_refused_by_its_number(
    wrist, said, tmp_path, monkeypatch
):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data"))
    monkeypatch.setenv("ROBO_OFFLINE_CACHE", str(tmp_path / "cache"))
    store.write("made/seen-v0", [episode(), episode()])
    with h5py.File(store.folder("made/seen-v0") / store.DATA_FILE, "r+") as file:
        observations = file["episode_1/observations"]
        del observations["wrist"]
        if wrist is not None:
            observations["wrist"] = wrist
    with pytest.raises(UserError, match=rf"(?s)episode 1.*wrist.*\(3, 8, 8\) uint8.*{said}"):
        load("made/seen-v0")
