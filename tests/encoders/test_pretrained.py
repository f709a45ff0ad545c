"""Weights from a file: read safely, fitted, frozen or finetuned, and told from others."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from robo_offline.encoders import pretrained
from robo_offline.encoders.heads import Embeddings, Trunk
from robo_offline.encoders.pretrained import Pretrained
from robo_offline.encoders.resnet import ResNet, batch
from robo_offline.encoders.view import View
from robo_offline.encoders.vit import ViT
from robo_offline.errors import UserError

SHAPE = (3, 20, 20)
BACKBONE = partial(ResNet, blocks=[1, 1], width=8, bottleneck=False, norm=batch())
VIEW = partial(View, resize=0, crop=0, mean=[0.485] * 3, std=[0.229] * 3, bicubic=False)
HEAD = partial(Trunk, dim=6)


def camera(weights: Path | str, shape=SHAPE, **changes: Any) -> Pretrained:
    values: dict[str, Any] = {"view": VIEW, "backbone": BACKBONE, "frozen": True, "head": HEAD}
    return Pretrained(shape, weights=str(weights), **{**values, **changes})


def network(seed: int = 3) -> ResNet:
    torch.manual_seed(seed)
    made = BACKBONE(3)
    for name, value in made.named_buffers():
        if "running" in name:
            torch.nn.init.uniform_(value, 0.5, 1.5)
    return made.eval()


@pytest.fixture
def weights(tmp_path) -> Path:
    """A file as R3M's are: everything behind a prefix, in a dictionary, with other networks."""
    state = {f"module.convnet.{key}": value for key, value in network().state_dict().items()}
    state |= {"module.lang_enc.weight": torch.randn(3, 3)}
    torch.save({"r3m": state, "global_step": torch.tensor(7)}, tmp_path / "model.pt")
    return tmp_path / "model.pt"


def images(rows: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (rows, channels, 20, 20), dtype=torch.uint8)


# -- reading -----------------------------------------------------------------------------------


def test_weights_behind_any_prefix_are_found(weights):
    found, image = camera(weights), images()
    assert torch.allclose(found.maps(image), network()(found.view(image)), atol=1e-6)


def test_safetensors_are_read_as_well(tmp_path):
    save_file(network().state_dict(), tmp_path / "model.safetensors")
    found, image = camera(tmp_path / "model.safetensors"), images()
    assert torch.allclose(found.maps(image), network()(found.view(image)), atol=1e-6)


def test_a_transformers_file_is_fitted_to_smaller_images(tmp_path):
    make = partial(ViT, patch=4, width=12, depth=1, heads=3, registers=0, layer_scale=True,
                   patches=False)  # fmt: skip
    large = make(3, size=36)
    torch.save({"model": large.state_dict() | {"mask_token": torch.zeros(1)}}, tmp_path / "v.pth")
    found = camera(tmp_path / "v.pth", backbone=partial(make, size=20))
    assert found.maps(images()).shape == (2, 12, 1, 1)
    assert torch.equal(found.backbone.norm.weight, large.norm.weight)


class Bomb:
    def __reduce__(self):
        return (Path("exploded").touch, ())


def test_a_pickle_with_code_in_it_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": Bomb()}, "bomb.pt")
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb.pt", "bare.pkl"):
        with pytest.raises(UserError, match="tensors and nothing else"):
            camera(tmp_path / name)
    assert not Path("exploded").exists()


@settings(max_examples=40)
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".pt", ".safetensors"]))
def test_whatever_is_in_a_file_it_is_refused_or_read(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("w") / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read|do not fit"):
        camera(path)


def test_a_missing_file_is_refused_with_its_path(tmp_path):
    with pytest.raises(UserError, match=r"(?s)no file.*nowhere\.pt.*download"):
        camera(tmp_path / "nowhere.pt")


def test_weights_of_another_architecture_are_refused_with_names_and_shapes(weights):
    wide = partial(ResNet, blocks=[1, 1], width=16, bottleneck=False, norm=batch())
    with pytest.raises(UserError, match=r"(?s)do not fit ResNet.*\(16,.*\(8,.*more\)"):
        camera(weights, backbone=wide)
    deep = partial(ResNet, blocks=[2, 1], width=8, bottleneck=False, norm=batch())
    with pytest.raises(UserError, match=r"(?s)layer1\.1\..*absent"):
        camera(weights, backbone=deep)


def test_a_frozen_encoder_without_weights_is_refused():
    with pytest.raises(UserError, match=r"encoder\.camera\.weights=FILE"):
        camera("")
    assert len(list(camera("", frozen=False).parameters())) > len(
        list(HEAD((16, 3, 3)).parameters())
    )


def test_a_file_is_read_once_for_all_networks(weights, monkeypatch):
    pretrained._read.cache_clear()
    for _ in range(3):
        camera(weights)
    assert pretrained._read.cache_info().misses == 1


# -- frozen ------------------------------------------------------------------------------------


def test_frozen_weights_are_neither_trained_nor_saved_nor_changed_by_training(weights):
    found = camera(weights)
    assert {name.partition(".")[0] for name, _ in found.named_parameters()} == {"head"}
    assert {key.partition(".")[0] for key in found.state_dict()} == {"head", "identity"}
    image = images()
    before = found.maps(image)
    found.train()(images(8)).sum().backward()
    assert not any(part.training for part in found.backbone.modules())
    assert torch.equal(before, found.maps(image))


def test_maps_that_were_computed_before_are_taken_in_the_place_of_images(weights):
    found, stack = camera(weights, shape=(6, 20, 20)), images(2, 6)
    maps = torch.cat([found.maps(stack[:, :3]), found.maps(stack[:, 3:])], 1)
    assert torch.allclose(found(maps), found(stack), atol=1e-6)
    assert torch.allclose(found(maps.half()), found(stack), atol=1e-2)


def test_a_stack_is_seen_frame_by_frame(weights):
    found, stack = camera(weights, shape=(6, 20, 20)), images(2, 6)
    swapped = torch.cat([stack[:, 3:], stack[:, :3]], 1)
    ours, theirs = (found.look(x.unflatten(1, (2, 3)).flatten(0, 1)) for x in (stack, swapped))
    assert torch.equal(
        ours.view(2, 2, *ours.shape[1:]), theirs.view(2, 2, *theirs.shape[1:]).flip(1)
    )


def test_a_checkpoint_for_other_frozen_weights_is_refused(weights, tmp_path):
    state = camera(weights).state_dict()
    camera(weights).load_state_dict(state)
    torch.save(network(seed=4).state_dict(), tmp_path / "other.pt")
    with pytest.raises(UserError, match="other frozen weights"):
        camera(tmp_path / "other.pt").load_state_dict(state)
    with pytest.raises(UserError, match="seen otherwise"):
        camera(weights, view=partial(VIEW, crop=16)).load_state_dict(state)


def test_a_copy_of_a_frozen_encoder_is_whole(weights):
    found = camera(weights)
    again = copy.deepcopy(found)
    image = images()
    assert torch.equal(found(image), again(image))
    assert torch.equal(pickle.loads(pickle.dumps(found))(image), found(image))


# -- finetuned ---------------------------------------------------------------------------------


def test_finetuned_weights_are_trained_and_saved_but_not_their_running_statistics(weights):
    found = camera(weights, frozen=False)
    names = [name for name, _ in found.named_parameters()]
    assert "backbone.conv1.weight" in names and "backbone.conv1.weight" in found.state_dict()
    before = found.backbone.bn1.running_mean.clone()
    found.train()(images(8)).sum().backward()
    assert found.backbone.conv1.weight.grad is not None
    assert torch.equal(before, found.backbone.bn1.running_mean)
    assert found.training and not found.backbone.bn1.training


def test_finetuning_one_network_leaves_the_weights_of_another(weights):
    one, two = camera(weights, frozen=False), camera(weights, frozen=False)
    with torch.no_grad():
        one.backbone.conv1.weight.zero_()
    assert two.backbone.conv1.weight.abs().sum() > 0


def test_a_head_of_its_own_reads_the_whole_map(weights):
    found = camera(weights, head=partial(Embeddings, num=4, dropout=0.1, dim=5))
    assert found.head.kernel.shape == (16, 4, 9)  # channels, kernels, 3 x 3 places
    assert found(images()).shape == (2, 5)
