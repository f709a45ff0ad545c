"""Contrastive losses, and the two weights of an actor that climbs and imitates."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from robo_offline.losses.actor import ddpg_bc
from robo_offline.losses.contrastive import binary_nce
from robo_offline.losses.value import expectile

squares = st.integers(1, 5).flatmap(
    lambda n: arrays.arrays(np.float64, (2, n, n), elements=st.floats(-500, 500))
)


@given(squares)
def test_binary_nce_is_the_mean_entropy_of_all_pairs_with_the_diagonal_true(logits):
    own = np.eye(logits.shape[-1])
    entropy = own * np.logaddexp(0, -logits) + (1 - own) * np.logaddexp(0, logits)
    found = binary_nce(torch.tensor(logits)).item()
    assert found == pytest.approx(entropy.mean(), rel=1e-9, abs=1e-12)


def test_nothing_known_costs_log_two_and_everything_known_nothing():
    assert binary_nce(torch.zeros(2, 7, 7)).item() == pytest.approx(math.log(2))
    assert binary_nce(200 * torch.eye(7)[None] - 100).item() == pytest.approx(0, abs=1e-30)


def test_its_gradient_is_that_of_finite_differences():
    logits = torch.randn(2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(binary_nce, (logits,))


def test_logits_that_are_not_of_all_pairs_are_refused():
    with pytest.raises(ValueError, match="not of all pairs"):
        binary_nce(torch.zeros(2, 3, 4))


def test_climbing_is_measured_by_the_size_of_q_and_imitation_by_its_weight():
    q = torch.tensor([2.0, -6.0], requires_grad=True)
    log_prob = torch.tensor([-1.0, -3.0], requires_grad=True)
    loss = ddpg_bc(q, log_prob, bc=0.5)
    assert loss.item() == pytest.approx(2 / (4 + 1e-6) + 0.5 * 2)
    loss.backward()
    assert q.grad.tolist() == pytest.approx([-0.5 / (4 + 1e-6)] * 2)  # the size is a number
    assert log_prob.grad.tolist() == pytest.approx([-0.25] * 2)


def test_climbing_survives_a_q_of_zero():
    assert ddpg_bc(torch.zeros(3), torch.zeros(3), 1.0).item() == 0


def test_an_expectile_may_be_told_its_side_by_an_advantage():
    error, adv = torch.tensor([2.0, 2.0, 2.0]), torch.tensor([1.0, -1.0, 0.0])
    assert expectile(error, 0.75, adv).tolist() == [3.0, 1.0, 3.0]
