"""The vision transformer against PyTorch's own layers, and weights as they are published."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robo_offline.encoders.vit import ViT
from robo_offline.errors import UserError

SMALL = {"size": 16, "patch": 4, "width": 12, "depth": 2, "heads": 3, "registers": 0,
         "layer_scale": False, "patches": False}  # fmt: skip


def vit(**changes) -> ViT:
    torch.manual_seed(1)
    return ViT(3, **{**SMALL, **changes}).eval()


def by_pytorch(network: ViT, image: torch.Tensor) -> torch.Tensor:
    """The same with `nn.TransformerEncoderLayer`s: all tokens (B, 1 + h * w, width)."""
    tokens = network.patch_embed.proj(image).flatten(2).transpose(1, 2)
    tokens = torch.cat([network.cls_token.expand(len(image), -1, -1), tokens], 1)
    tokens = tokens + network.pos_embed
    for block in network.blocks:
        layer = nn.TransformerEncoderLayer(
            12, 3, 48, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True,
            norm_first=True,
        )  # fmt: skip
        state = {
            "self_attn.in_proj_weight": block.attn.qkv.weight,
            "self_attn.in_proj_bias": block.attn.qkv.bias,
            "self_attn.out_proj.weight": block.attn.proj.weight,
            "self_attn.out_proj.bias": block.attn.proj.bias,
            "linear1.weight": block.mlp.fc1.weight,
            "linear1.bias": block.mlp.fc1.bias,
            "linear2.weight": block.mlp.fc2.weight,
            "linear2.bias": block.mlp.fc2.bias,
        } | {f"norm{i}.{k}": getattr(getattr(block, f"norm{i}"), k)
             for i in (1, 2) for k in ("weight", "bias")}  # fmt: skip
        layer.load_state_dict(state)
        tokens = layer.train()(tokens)  # evaluating would take PyTorch's fused path
    return network.norm(tokens)


def test_it_computes_what_pytorchs_layers_compute():
    network, image = vit(), torch.randn(2, 3, 16, 16)
    tokens = by_pytorch(network, image)
    assert torch.allclose(network(image)[:, :, 0, 0], tokens[:, 0], atol=1e-5)
    patches = vit(patches=True)
    patches.load_state_dict(network.state_dict())
    found = patches(image)  # (B, 12, 4, 4), row by row
    assert torch.allclose(found.flatten(2).mT, tokens[:, 1:], atol=1e-5)


def test_registers_have_no_place_and_are_no_patches():
    network = vit(registers=4, patches=True)
    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 12, 4, 4)
    assert network.pos_embed.shape == (1, 17, 12)


def test_a_fresh_layer_scale_nearly_leaves_out_its_block():
    network, image = vit(layer_scale=True), torch.randn(2, 3, 16, 16)
    first = network.norm(network.cls_token + network.pos_embed[:, :1])[:, 0]
    assert torch.allclose(network(image)[:, :, 0, 0], first.expand(2, -1), atol=1e-2)


def test_places_of_a_larger_image_are_made_coarser():
    large = vit(size=32)
    found = vit().adapted(large.state_dict())
    assert found["pos_embed"].shape == (1, 17, 12)
    assert torch.equal(found["pos_embed"][:, 0], large.pos_embed[:, 0])
    flat = dict(large.state_dict(), pos_embed=torch.ones(1, 65, 12))
    assert torch.allclose(vit().adapted(flat)["pos_embed"], torch.ones(1, 17, 12), atol=1e-5)


def test_places_without_one_for_the_class_token_and_other_names_are_understood():
    state = vit(registers=2).state_dict()
    without = dict(state, pos_embed=state["pos_embed"][:, 1:])
    without["register_tokens"] = without.pop("reg_token")
    found = vit(registers=2).adapted(without)
    assert torch.equal(found["reg_token"], state["reg_token"])
    assert torch.equal(found["pos_embed"][:, 1:], state["pos_embed"][:, 1:])
    assert torch.equal(found["pos_embed"][:, 0], torch.zeros(1, 12))


def test_an_image_that_is_no_whole_number_of_patches_is_refused():
    with pytest.raises(UserError, match=r"(?s)multiple of 14.*224|multiple of 14"):
        vit(size=60, patch=14)
