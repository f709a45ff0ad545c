"""The bridge between a world and the networks, and the contract of a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import toy
from gymnasium.spaces import Box, Dict, Discrete

from robo_offline import schema
from robo_offline.errors import UserError
from robo_offline.replay.buffer import Replay, Window
from robo_offline.spec import Spec

BOX = Box(-np.inf, np.inf, (4,), np.float32)
ACTION = Box(-1, 1, (2,), np.float32)


def test_a_spec_is_read_off_an_environment_or_whatever_carries_one():
    spec = Spec.of(toy.Reach())
    assert spec.action_shape == (2,) and spec.step_dim == spec.action_dim == 2
    assert Spec.of(toy.dataset(1)) is not None
    with pytest.raises(TypeError):
        Spec.of(3)


def test_a_chunk_widens_the_action_alone():
    chunked = toy.spec().chunked(3)
    assert chunked.action_shape == (3, 2) and chunked.action_dim == 6 and chunked.step_dim == 2
    assert chunked.chunked(1).action_shape == (2,)
    assert chunked.observation == toy.spec().observation


@pytest.mark.parametrize("space", [Discrete(3), Box(-1, 1, (2, 2), np.float32)])
def test_actions_that_are_no_vector_are_refused(space):
    with pytest.raises(UserError, match="action space"):
        Spec.from_spaces(BOX, space)


def test_observations_that_are_no_boxes_are_refused():
    with pytest.raises(UserError, match="observation space"):
        Spec.from_spaces(Dict({"a": BOX, "b": Discrete(2)}), ACTION)


def test_two_specs_say_where_they_differ():
    other = Spec.from_spaces(Box(-np.inf, np.inf, (7,), np.float32), ACTION)
    assert toy.spec().difference(toy.spec()) == []
    (sentence,) = toy.spec().difference(other)
    assert "observation" in sentence and "(4,)" in sentence and "(7,)" in sentence
    nested = Spec.of(toy.make_nested())
    assert any("absent" in sentence for sentence in toy.spec().difference(nested))


@pytest.fixture
def batch():
    return Replay.of_steps(toy.dataset(2).steps, Window(0.9)).sample(5)


def test_a_batch_of_the_replay_keeps_the_contract(batch):
    schema.check(batch, toy.spec())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("next", "reward"), torch.zeros(5, 1)),
        (("next", "reward"), torch.zeros(5, dtype=torch.float64)),
        (("next", "terminated"), torch.zeros(5)),
        ("action", torch.zeros(5, 3)),
        ("action", torch.full((5, 2), 1.5)),
        ("discount", None),
        ("observation", torch.zeros(5, 9)),
    ],
)
def test_a_batch_that_breaks_the_contract_is_refused(batch, key, value):
    if value is None:
        del batch[key]
    else:
        batch[key] = value
    with pytest.raises(UserError, match="batch"):
        schema.check(batch, toy.spec())
