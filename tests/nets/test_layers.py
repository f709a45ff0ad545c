"""Ensembles as one matmul: their initial scale, and that members do not mix."""

from __future__ import annotations

import math

import pytest
import torch
import toy

from robo_offline.nets.critic import Critic, Value
from robo_offline.nets.layers import Dense, Norm, mlp, orthogonal, small, uniform, xavier
from robo_offline.nets.temperature import Temperature


@pytest.mark.parametrize("members", [None, 7])
def test_the_initial_bound_is_that_of_the_fan_in_not_the_fan_out(members):
    weight = Dense(400, 10, members, uniform).weight
    assert 0.95 / 20 < weight.abs().max().item() <= 1 / 20
    reference = torch.nn.Linear(400, 10).weight
    assert weight.std().item() == pytest.approx(reference.std().item(), rel=0.1)


@pytest.mark.parametrize("members", [None, 4])
def test_glorot_s_bound_is_that_of_one_member(members):
    weight = Dense(30, 70, members, xavier).weight
    bound = math.sqrt(6 / 100)
    assert 0.95 * bound < weight.abs().max().item() <= bound


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_orthogonal_weights_have_gain_root_two(shape):
    weight = Dense(*shape, 3, orthogonal).weight[1].detach()
    gram = weight @ weight.T if shape[0] < shape[1] else weight.T @ weight
    assert torch.allclose(gram, 2 * torch.eye(6), atol=1e-5)


def test_small_weights_start_an_output_near_zero():
    assert Dense(50, 3, None, small).weight.abs().max() <= 1e-3


def test_members_begin_apart():
    weight = Dense(5, 5, 3).weight
    assert not torch.equal(weight[0], weight[1])


@pytest.mark.parametrize("layer_norm", [False, True])
def test_an_ensemble_is_its_members_side_by_side(layer_norm):
    ensemble = mlp(4, (8, 8), 1, members=3, layer_norm=layer_norm)
    x = torch.randn(11, 4)
    together = ensemble(x)  # (E, B, 1)
    for member in range(3):
        alone = mlp(4, (8, 8), 1, layer_norm=layer_norm)
        alone.load_state_dict({k: v[member] for k, v in ensemble.state_dict().items()})
        assert torch.allclose(together[member], alone(x), atol=1e-6)


def test_norm_is_layer_norm_with_a_scale_of_its_own_per_member():
    norm, x = Norm(6, 2), torch.randn(2, 5, 6)
    with torch.no_grad():
        norm.scale[1] *= 3
    plain = torch.nn.functional.layer_norm(x, (6,))
    assert torch.allclose(norm(x), plain * torch.tensor([1.0, 3.0])[:, None, None], atol=1e-6)


def test_layer_norm_stands_before_the_relu():
    kinds = [type(layer).__name__ for layer in mlp(4, (8,), 1, layer_norm=True, dropout=0.1)]
    assert kinds == ["Dense", "Dropout", "Norm", "ReLU", "Dense"]


@pytest.mark.parametrize("shape", [(2,), (3, 2)])
def test_candidate_actions_give_what_each_gives_alone(shape):
    critic = Critic(toy.encoder()(), shape, (8,), num=2)
    observation, candidates = torch.randn(5, 4), torch.randn(5, 6, *shape)
    q = critic(observation, candidates)
    assert q.shape == (2, 5, 6)
    for k in range(6):
        assert torch.allclose(q[:, :, k], critic(observation, candidates[:, k]), atol=1e-6)


def test_a_value_has_no_axis_but_the_batch():
    assert Value(toy.encoder()(), (8,))(torch.randn(5, 4)).shape == (5,)


def test_temperature_begins_where_it_is_told_and_stays_positive():
    temperature = Temperature(0.1)
    assert temperature().item() == pytest.approx(0.1)
    temperature.log.data -= 100
    assert temperature() > 0
