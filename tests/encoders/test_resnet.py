"""Residual networks: their shapes, names and norms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robo_offline.encoders.convs import shape_after
from robo_offline.encoders.resnet import Basic, ResNet, batch, groups, groups_of


def network(blocks, width=64, bottleneck=False, norm=None, **more) -> ResNet:
    norm = norm or groups_of(16)
    return ResNet(3, blocks=blocks, width=width, bottleneck=bottleneck, norm=norm, **more)


def test_resnet18_makes_512_maps_32_times_as_coarse():
    assert shape_after(network([2, 2, 2, 2]), (3, 76, 76)) == (512, 3, 3)


def test_resnet10_makes_4_by_4_maps_of_128_pixels():
    assert shape_after(network([1, 1, 1, 1], norm=groups(4)), (3, 128, 128)) == (512, 4, 4)


def test_the_mean_of_the_map_is_one_place():
    whole = network([1, 1], width=16)
    torch.manual_seed(0)
    x = torch.randn(2, 3, 40, 40)
    averaged = network([1, 1], width=16, average=True)
    averaged.load_state_dict(whole.state_dict())
    assert torch.allclose(averaged(x), whole(x).mean((2, 3), keepdim=True), atol=1e-6)


@pytest.mark.parametrize(
    ("blocks", "bottleneck", "parameters"),
    # Of torchvision's networks without the last layer of 1000 classes.
    [([2, 2, 2, 2], False, 11_176_512), ([3, 4, 6, 3], False, 21_284_672),
     ([3, 4, 6, 3], True, 23_508_032)],
)  # fmt: skip
def test_sizes_are_those_of_the_published_networks(blocks, bottleneck, parameters):
    found = network(blocks, bottleneck=bottleneck, norm=batch())
    assert sum(p.numel() for p in found.parameters()) == parameters


def test_weights_have_the_names_that_files_have():
    names = network([2, 2, 2, 2], norm=batch()).state_dict()
    for name in ("conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer4.1.bn2.bias",
                 "layer2.0.downsample.0.weight", "layer2.0.downsample.1.running_var"):  # fmt: skip
        assert name in names
    assert "layer1.0.downsample.0.weight" not in names
    assert "layer1.0.downsample.0.weight" in network([1], bottleneck=True).state_dict()


def test_group_norm_has_groups_of_sixteen_channels_or_four_groups():
    by_sixteen = network([1, 1], width=64)
    assert (by_sixteen.bn1.num_groups, by_sixteen.layer2[0].bn1.num_groups) == (4, 8)
    four = network([1, 1], width=64, norm=groups(4))
    assert (four.bn1.num_groups, four.layer2[0].bn1.num_groups, four.bn1.eps) == (4, 4, 1e-5)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in four.modules())


def test_a_block_adds_its_shortcut():
    block = Basic(8, 8, 1, groups(4))
    nn.init.zeros_(block.bn2.weight)
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(block(x), x.relu())
