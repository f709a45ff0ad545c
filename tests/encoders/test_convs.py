"""Small convolutional networks: their shapes, paddings and sizes are those of the papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robo_offline.encoders.convs import DrQ, Impala, Stack, halved, shape_after
from robo_offline.errors import UserError


def test_drq_makes_32_maps_of_35_from_84_pixels():
    network = DrQ(9, width=32, layers=4)
    assert shape_after(network, (9, 84, 84)) == (32, 35, 35)
    strides = [part.stride[0] for part in network if isinstance(part, torch.nn.Conv2d)]
    assert strides == [2, 1, 1, 1]


def test_drq_begins_orthogonal_with_gain_root_two():
    weight = DrQ(9, width=32, layers=4)[0].weight.detach().flatten(1)
    assert torch.allclose(weight @ weight.T, 2 * torch.eye(32), atol=1e-4)


def test_impala_small_gives_2048_numbers_of_64_pixels():
    network = Impala(3, widths=[16, 32, 32], blocks=1)
    depth, height, width = shape_after(network, (3, 64, 64))
    assert depth * height * width == 2048
    convs = [part for part in network.modules() if isinstance(part, torch.nn.Conv2d)]
    assert len(convs) == 3 * (1 + 2)
    assert (network(torch.randn(2, 3, 64, 64)) >= 0).all()


def test_a_residual_block_adds_to_what_comes_in():
    stack = Stack(3, 4, blocks=2)
    for block in stack.blocks:
        torch.nn.init.zeros_(block[3].weight)
        torch.nn.init.zeros_(block[3].bias)
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(stack(x), halved(stack.conv(x)))


@given(st.integers(2, 12), st.integers(2, 12))
def test_pooling_pads_as_same_does(height, width):
    x = torch.randn(1, 2, height, width)
    assert np.array_equal(halved(x).numpy(), same_pool(x.numpy()))


def same_pool(x: np.ndarray) -> np.ndarray:
    """Maxima over 3x3 at stride 2 with JAX's SAME padding, place by place."""
    out = [-(-side // 2) for side in x.shape[2:]]
    pads = []
    for side, count in zip(x.shape[2:], out, strict=True):
        total = max((count - 1) * 2 + 3 - side, 0)
        pads.append((total // 2, total - total // 2))
    padded = np.pad(x, [(0, 0), (0, 0), *pads], constant_values=-np.inf)
    found = np.zeros((*x.shape[:2], *out), np.float32)
    for i in range(out[0]):
        for j in range(out[1]):
            found[:, :, i, j] = padded[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((2, 3))
    return found


def test_images_too_small_for_a_network_are_refused_with_their_size():
    with pytest.raises(UserError, match=r"(?s)too small for DrQ.*\(3, 6, 6\)"):
        shape_after(DrQ(3, width=8, layers=4), (3, 6, 6))


def test_probing_a_network_leaves_no_trace_in_it():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    shape_after(network, (3, 8, 8))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert network.training and network[1].training
