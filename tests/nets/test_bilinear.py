"""Bilinear critics: pairs, rows and candidates say the same."""

from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, UnboundedContinuous

from robo_offline.encoders.state import State
from robo_offline.nets.bilinear import Bilinear
from robo_offline.spec import Spec

B, DIM = 5, 6


@pytest.fixture
def critic():
    torch.manual_seed(0)
    state = Composite(observation=Composite(state=UnboundedContinuous((4,))))
    spec = Spec(state, Bounded(-1.0, 1.0, shape=(2,))).with_goal({"state": (0, 1)})
    parts = State(spec.without_goal()), State(spec.only_goal())
    return Bilinear(*parts, (2,), (8,), num=2, dim=DIM)


@pytest.fixture
def seen():
    goal = TensorDict({"state": torch.randn(B, 2)}, [B])
    return TensorDict({"state": torch.randn(B, 4), "goal": goal}, [B])


def test_a_pair_is_the_product_of_both_embeddings_by_the_root_of_their_size(critic, seen):
    action = torch.randn(B, 2)
    inputs = torch.cat([critic.encoder(seen), action], -1)
    phi, psi = critic.net(inputs), critic.goal(seen)
    expected = torch.einsum("eik,ejk->eij", phi, psi) / math.sqrt(DIM)
    assert torch.allclose(critic.pairs(seen, action), expected, atol=1e-5)


def test_a_row_is_a_pair_with_its_own_goal_and_the_first_member_is_the_first(critic, seen):
    action = torch.randn(B, 2)
    rows = critic(seen, action)
    assert torch.allclose(rows, critic.pairs(seen, action).diagonal(dim1=1, dim2=2), atol=1e-5)
    assert torch.allclose(critic.first(seen, action), rows[0], atol=1e-6)


def test_candidates_are_compared_at_one_goal(critic, seen):
    candidates = torch.randn(B, 3, 2)
    found = critic(seen, candidates)
    assert found.shape == (2, B, 3)
    for k in range(3):
        assert torch.allclose(found[..., k], critic(seen, candidates[:, k]), atol=1e-5)


def test_an_embedding_of_a_state_does_not_see_the_goal_nor_the_other_way_round(critic, seen):
    moved = seen.clone()
    moved["goal", "state"] += 1.0
    assert torch.equal(critic.encoder(moved), critic.encoder(seen))
    moved = seen.clone()
    moved["state"] += 1.0
    assert torch.equal(critic.goal(moved), critic.goal(seen))
