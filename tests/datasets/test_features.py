"""Features of frozen networks: computed once per data set, kept whole, and told from others."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

import pictures
import pytest
import torch
import toy
from torch import Tensor

from robo_offline.datasets.cache import cache_root
from robo_offline.datasets.features import Features
from robo_offline.errors import UserError
from robo_offline.replay.buffer import Replay, Window
from robo_offline.schema import check


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBO_OFFLINE_CACHE", str(tmp_path / "cache"))


@dataclass
class Mean:
    """A network that says how bright each colour is, and counts what it looks at."""

    name: int = 0
    seen: int = 0
    map_shape: tuple[int, int, int] = (3, 1, 1)

    @property
    def identity(self) -> Tensor:
        return torch.tensor([self.name], dtype=torch.uint8)

    def maps(self, frames: Tensor) -> Tensor:
        self.seen += len(frames)
        return frames.float().mean((2, 3), keepdim=True) / 255


def both(eye: Mean) -> Features:
    return Features({("front",): eye, ("wrist",): eye})


def test_maps_take_the_place_of_images_and_the_rest_stays():
    data, eye = pictures.dataset(), Mean()
    found = both(eye).dataset(data).steps
    expected = data.steps["observation", "front"].float().mean((2, 3), keepdim=True) / 255
    assert torch.allclose(found["observation", "front"].float(), expected, atol=1e-3)
    assert found["observation", "front"].dtype == torch.float16
    assert torch.equal(found["observation", "state"], data.steps["observation", "state"])
    assert data.steps["observation", "front"].dtype == torch.uint8  # the given one is as it was
    assert eye.seen == 2 * len(data.steps)


def test_a_data_set_is_looked_at_once():
    eye = Mean()
    for _ in range(3):
        both(eye).dataset(pictures.dataset())
    assert eye.seen == 2 * len(pictures.dataset().steps)


def test_other_weights_rows_or_cameras_are_computed_anew():
    data = pictures.dataset()
    both(Mean()).dataset(data)
    for features, rows in (
        (both(Mean(name=1)), data),
        (Features({("front",): Mean()}), data),
        (both(Mean()), pictures.dataset(3)),
    ):
        before = len(list(cache_root().glob("features-*")))
        features.dataset(rows)
        assert len(list(cache_root().glob("features-*"))) == before + 1
    changed = pictures.dataset()
    changed.steps["observation", "front"] = changed.steps["observation", "front"] ^ 1
    eye = Mean()
    both(eye).dataset(changed)
    assert eye.seen


def test_what_was_interrupted_is_not_taken_for_whole():
    class Breaks(Mean):
        def maps(self, frames: Tensor) -> Tensor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        both(Breaks()).dataset(pictures.dataset())
    assert not list(cache_root().glob("*features-*[0-9a-f]"))
    eye = Mean()
    both(eye).dataset(pictures.dataset())
    assert eye.seen


def test_a_damaged_cache_is_refused_with_what_to_do():
    both(Mean()).dataset(pictures.dataset())
    [folder] = cache_root().glob("features-*")
    file = folder / "maps" / "front.memmap"
    file.write_bytes(file.read_bytes()[:10])
    with pytest.raises(UserError, match=r"(?s)damaged.*delete the folder"):
        both(Mean()).dataset(pictures.dataset())
    (folder / "features.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        both(Mean()).dataset(pictures.dataset())


def test_a_full_disk_is_reported_and_leaves_nothing(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match="No space left"):
        both(Mean()).dataset(pictures.dataset())
    assert [path.suffix for path in cache_root().iterdir()] == [".lock"]


def test_an_episode_gets_its_maps_when_it_is_stored():
    rows = pictures.dataset().steps[:5]
    found = both(Mean()).episode(rows)
    assert found["observation", "wrist"].shape == (5, 3, 1, 1)
    assert rows["observation", "wrist"].dtype == torch.uint8


def test_without_a_frozen_network_everything_is_as_it_was():
    data = toy.dataset(2)
    nothing = Features({})
    assert nothing.dataset(data) is data and nothing.episode(data.steps) is data.steps
    assert nothing.spec(data.spec) is data.spec
    assert not cache_root().exists()


@pytest.mark.parametrize("frames", [1, 3])
def test_batches_of_maps_are_stacked_like_images_and_keep_the_contract(frames):
    features, data = both(Mean()), pictures.dataset()
    replay = Replay.of_steps(features.dataset(data).steps, Window(0.9, frames=frames))
    batch = replay.gather(replay.starts[:7])
    assert batch["observation", "front"].shape == (7, 3 * frames, 1, 1)
    check(batch, features.spec(pictures.spec().stacked(frames)))


def test_what_the_cache_holds_is_said():
    both(Mean()).dataset(pictures.dataset())
    [folder] = cache_root().glob("features-*")
    assert json.loads((folder / "features.json").read_text())["data"] == "pictures"
