"""The encoder of vectors and its normaliser."""

from __future__ import annotations

import torch
import toy
from tensordict import TensorDict

from robo_offline.encoders.state import State
from robo_offline.spec import Spec


def test_observations_are_normalised_by_the_statistics():
    mean, std = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 2.0, 0.5, 0.0])
    encoder = State(toy.spec(), {"observation": (mean, std)})
    x = torch.randn(5, 4)
    assert torch.allclose(encoder(x), (x - mean) / (std + 1e-3), rtol=1e-5)


def test_without_statistics_observations_pass_as_they_are():
    x = torch.randn(5, 4)
    assert torch.allclose(State(toy.spec())(x), x)


def test_nested_leaves_each_have_their_own_statistics():
    spec = Spec.of(toy.make_nested())
    ones = torch.ones(2)
    statistics = {
        "observation.position": (0 * ones, ones - 1e-3),
        "observation.velocity": (5 * ones, 2 * ones - 1e-3),
    }
    encoder = State(spec, statistics)
    leaves = {"velocity": torch.full((3, 2), 7.0), "position": torch.full((3, 2), 4.0)}
    feature = encoder(TensorDict(leaves, [3]))
    assert torch.allclose(feature, torch.tensor([4.0, 4.0, 1.0, 1.0]).expand(3, 4))
    assert encoder.dim == 4


def test_the_normaliser_is_saved_and_not_trained():
    encoder = State(toy.spec())
    assert set(encoder.state_dict()) == {"mean", "inverse_std"}
    assert not list(encoder.parameters())
