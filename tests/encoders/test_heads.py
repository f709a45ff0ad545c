"""From maps to features: where filters look, learned kernels, and the ends of known encoders."""

from __future__ import annotations

import numpy as np
import torch

from robo_offline.encoders.heads import Embeddings, Keypoints, Trunk, Wide


def test_a_keypoint_is_where_its_filter_is_bright():
    head = Keypoints((1, 5, 9), num=1, dim=4)
    torch.nn.init.constant_(head.filters.weight, 1.0)
    torch.nn.init.zeros_(head.filters.bias)
    x = torch.zeros(1, 1, 5, 9)
    x[0, 0, 0, 8] = 50.0  # the top right corner
    assert torch.allclose(head.keypoints(x), torch.tensor([[[1.0, -1.0]]]))
    assert torch.allclose(head.keypoints(torch.zeros(1, 1, 5, 9)), torch.zeros(1, 1, 2), atol=1e-6)


def test_keypoints_are_expected_places_under_a_softmax():
    head, x = Keypoints((6, 3, 4), num=5, dim=7), torch.randn(2, 6, 3, 4)
    weight, bias = (p.detach().numpy().astype(np.float64) for p in head.filters.parameters())
    maps = np.einsum("bchw,kc->bkhw", x.numpy(), weight[:, :, 0, 0]) + bias[:, None, None]
    share = np.exp(maps) / np.exp(maps).sum((2, 3), keepdims=True)
    where_x = (share * np.linspace(-1, 1, 4)).sum((2, 3))
    where_y = (share * np.linspace(-1, 1, 3)[:, None]).sum((2, 3))
    found = head.keypoints(x).detach().numpy()
    assert np.allclose(found, np.stack([where_x, where_y], -1), atol=1e-5)
    assert head(x).shape == (2, 7)


def test_embeddings_weigh_the_places_of_each_channel_by_kernels():
    head, x = Embeddings((6, 3, 4), num=5, dropout=0.1, dim=8).eval(), torch.randn(2, 6, 3, 4)
    kernel = head.kernel.detach().reshape(6, 5, 3, 4)
    weighed = torch.zeros(2, 6, 5)
    for channel in range(6):
        for k in range(5):
            weighed[:, channel, k] = (x[:, channel] * kernel[channel, k]).sum((1, 2))
    assert torch.allclose(head(x), head.out(weighed.flatten(1)), atol=1e-5)
    assert head.out[0].p == 0.1


def test_dropout_of_the_embeddings_is_for_training_alone():
    head, x = Embeddings((6, 3, 4), num=5, dropout=0.5, dim=8), torch.randn(2, 6, 3, 4)
    assert not torch.equal(head(x), head(x))
    head.eval()
    assert torch.equal(head(x), head(x))


def test_the_trunk_is_linear_norm_and_tanh():
    head, x = Trunk((2, 3, 3), dim=50), torch.randn(4, 2, 3, 3)
    linear = head[1]
    y = torch.nn.functional.layer_norm(x.flatten(1) @ linear.weight.T + linear.bias, (50,))
    assert torch.allclose(head(x), y.tanh(), atol=1e-6)


def test_impalas_end_is_a_wide_layer_with_gelu_and_a_norm_where_asked_for():
    plain = Wide((2, 3, 3), hidden=[512], layer_norm=False)
    kinds = [type(part).__name__ for part in plain]
    assert kinds == ["Flatten", "Linear", "GELU"] and plain.dim == 512
    normed = [type(part).__name__ for part in Wide((2, 3, 3), hidden=[8], layer_norm=True)]
    assert normed == ["Flatten", "Linear", "GELU", "LayerNorm"]
