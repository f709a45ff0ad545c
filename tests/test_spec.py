"""The bridge between a world and the networks, and the contract of a batch."""

from __future__ import annotations

from dataclasses import replace

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


# ---- goals ---------------------------------------------------------------------------------------

IMAGE = Box(0, 255, (3, 8, 8), np.uint8)
LOGGED = Spec.from_spaces(Dict({"state": BOX, "front": IMAGE}), ACTION)
MADE_OF = {"state": (1, 3), "front": None}


def leaves(spec):
    return {".".join(k) for k in spec.observation.keys(include_nested=True, leaves_only=True)}


def test_goals_are_leaves_made_of_what_an_observation_holds():
    spec = LOGGED.with_goal(MADE_OF)
    goal = spec.observation["observation", "goal"]
    assert goal["state"].shape == (2,) and goal["front"].shape == (3, 8, 8)
    assert goal["front"].dtype == torch.uint8
    assert spec.with_goal({"state": None}) is spec and LOGGED.with_goal(None) is LOGGED
    observation = {"state": torch.arange(8.0).view(2, 4), "front": torch.zeros(2, 3, 8, 8).byte()}
    achieved = spec.achieved(observation)
    assert achieved["state"].tolist() == [[1, 3], [5, 7]]
    assert achieved["front"] is observation["front"]


def test_a_spec_can_be_cut_to_what_sees_the_state_or_the_goal_alone():
    spec = LOGGED.with_goal(MADE_OF)
    assert leaves(spec.without_goal()) == {"observation.state", "observation.front"}
    assert leaves(spec.only_goal()) == {"observation.goal.state", "observation.goal.front"}
    assert spec.chunked(3).goal == spec.only_goal().goal == MADE_OF


def test_an_environment_says_what_its_goals_are_made_of():
    class Goals(toy.Reach):
        goal_made_of = {"observation": (0, 1)}

    assert Spec.of(Goals()).goal == {"observation": (0, 1)}
    assert Spec.of(toy.Reach()).goal is None


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


SEEN = Dict({"state": BOX, "wrist": Box(0, 255, (3, 5, 6), np.uint8)})


def test_frames_stack_images_on_their_channels_and_nothing_else():
    plain = replace(Spec.from_spaces(SEEN, ACTION), goal={"wrist": None, "state": (0,)})
    spec = plain.with_goal(plain.goal).stacked(4)
    leaves = spec.observation["observation"]
    assert leaves["wrist"].shape == (12, 5, 6) and leaves["wrist"].dtype == torch.uint8
    assert leaves["state"].shape == (4,)
    assert leaves["goal", "wrist"].shape == (3, 5, 6)  # a goal is no movement
    assert spec.stacked(4) is spec and plain.stacked(1) is plain
    assert spec.without_goal().frames == spec.chunked(2).frames == 4


def test_the_goal_that_a_stack_achieves_is_its_newest_image():
    plain = replace(Spec.from_spaces(SEEN, ACTION), goal={"wrist": None, "state": (1, 0)})
    image = torch.arange(6, dtype=torch.uint8).view(1, 6, 1, 1).expand(2, 6, 5, 6)
    found = plain.stacked(2).achieved({"wrist": image, "state": torch.tensor([[1.0, 2, 3, 4]] * 2)})
    assert found["wrist"][0, :, 0, 0].tolist() == [3, 4, 5]
    assert found["state"].tolist() == [[2, 1]] * 2


def test_frames_where_there_are_no_images_are_refused():
    with pytest.raises(UserError, match="stacks images"):
        toy.spec().stacked(2)
