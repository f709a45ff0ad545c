"""Networks towards goals: their shape, what they see, and what is given to them."""

from __future__ import annotations

import math

import torch
from tensordict import TensorDict
from torch import nn

from robo_offline.encoders import Encoder
from robo_offline.nets.critic import Value
from robo_offline.nets.goal import (
    ACTOR,
    VALUE,
    Beside,
    Representation,
    RepresentedValue,
    on_sphere,
    toward,
)
from robo_offline.nets.layers import Dense, Norm, fan_avg
from robo_offline.policies.gaussian import UnitGaussian


class Plain(Encoder):
    """Observations that are vectors already."""

    dim = 4

    def forward(self, observation):
        return observation


class Privileged(Plain):
    """What a critic may see more of."""

    dim = 9


class Hidden(Plain):
    """What a policy sees."""

    def privileged(self) -> Encoder:
        return Privileged()


def test_values_are_normalised_behind_the_activation_and_actors_not_at_all():
    value = [type(layer) for layer in Value(Plain(), (8, 8), num=2, **VALUE).net]
    assert value == [*[Dense, nn.GELU, Norm] * 2, Dense]
    actor = [type(layer) for layer in UnitGaussian(Plain(), (2,), (8, 8), **ACTOR).net]
    assert actor == [*[Dense, nn.GELU] * 2, Dense]


def test_weights_begin_with_the_variance_that_the_mean_fan_gives():
    weight = torch.empty(300, 500)
    for scale in (1.0, 1e-2):
        fan_avg(scale)(weight)
        bound = math.sqrt(3 * scale / 400)
        assert weight.abs().max() <= bound and weight.abs().max() > 0.99 * bound


def test_an_actor_begins_near_zero_and_its_biases_at_zero():
    actor = UnitGaussian(Plain(), (2,), (64, 64), **ACTOR)
    assert actor.mode(torch.randn(100, 4)).abs().max() < 0.5
    assert all(layer.bias.abs().max() == 0 for layer in actor.net if isinstance(layer, Dense))


def test_another_goal_is_put_in_without_touching_what_was_there():
    old, new = (TensorDict({"state": torch.full((3, 2), x)}, [3]) for x in (0.0, 1.0))
    seen = TensorDict({"state": torch.zeros(3, 4), "goal": old}, [3])
    for goal in (new, {"state": new["state"]}):
        moved = toward(seen, goal)
        assert (moved["goal", "state"] == 1).all() and (seen["goal", "state"] == 0).all()
        assert moved["state"] is seen["state"]


def test_vectors_on_the_sphere_have_the_length_of_unit_variance_and_none_is_a_nan():
    x = torch.cat([1e3 * torch.randn(4, 10), torch.zeros(1, 10)]).requires_grad_()
    found = on_sphere(x)
    assert torch.allclose(found[:4].norm(dim=-1), torch.full((4,), math.sqrt(10)))
    found.sum().backward()
    assert found.isfinite().all() and x.grad.isfinite().all()


def test_a_value_sees_a_goal_through_its_representation_alone():
    torch.manual_seed(0)
    phi = Representation(Plain(), (8,), 3)
    value, x = RepresentedValue(Plain(), phi, (8,), num=2), torch.randn(5, 4)
    z = phi(x)
    assert value(x).shape == (2, 5) and torch.equal(value(x), value.at(x, z))
    assert not torch.equal(value.at(x, z.roll(1, 0)), value(x))


def test_a_value_may_be_privileged_but_what_a_policy_reads_is_not():
    phi = Representation(Hidden(), (8,), 3)
    value = RepresentedValue(Hidden(), phi, (8,), num=2)
    assert value.encoder.dim == 9 and phi.encoder.dim == 4


def test_what_is_given_stands_behind_what_is_seen():
    both = Beside(Plain(), 2)
    x, z = torch.randn(3, 4), torch.randn(3, 2)
    assert both.dim == 6 and torch.equal(both((x, z)), torch.cat([x, z], -1))
