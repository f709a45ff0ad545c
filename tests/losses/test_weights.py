"""Expectiles, advantage weights, imitation and temperature: numbers worked by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robo_offline.losses.advantage import exponential
from robo_offline.losses.entropy import temperature
from robo_offline.losses.imitation import mean_squared
from robo_offline.losses.value import expectile

numbers = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=9).map(torch.tensor)


@given(numbers)
def test_expectile_one_half_is_half_the_squared_error(error):
    assert torch.equal(expectile(error, 0.5), 0.5 * error.square())


def test_expectile_weighs_overestimates_and_underestimates_apart():
    error = torch.tensor([2.0, -2.0, 0.0])
    assert expectile(error, 0.75).tolist() == [3.0, 1.0, 0.0]


@given(numbers, st.floats(0, 1e3), st.floats(0.125, 1e3, width=32))
def test_weights_never_exceed_their_maximum_and_are_never_negative_or_nan(adv, beta, maximum):
    weight = exponential(adv, beta, maximum)
    assert (weight <= maximum).all() and (weight >= 0).all()


def test_weights_are_exponentials_without_a_gradient():
    adv = torch.tensor([0.0, 1.0], requires_grad=True)
    weight = exponential(adv, 2.0, 100.0)
    assert weight.tolist() == pytest.approx([1.0, 7.389056])
    assert not weight.requires_grad


def test_imitation_is_the_mean_over_the_entries_of_each_row():
    error = mean_squared(torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.zeros(2, 2))
    assert error.tolist() == [5.0, 0.0]


def test_imitation_averages_the_real_steps_of_a_chunk():
    action = torch.tensor([[[1.0], [3.0], [99.0]]])
    mask = torch.tensor([[True, True, False]])
    assert mean_squared(action, torch.zeros(1, 3, 1), mask).tolist() == [5.0]


def test_imitation_refuses_to_broadcast():
    with pytest.raises(ValueError, match="against data"):
        mean_squared(torch.zeros(3, 1), torch.zeros(3, 2))


@pytest.mark.parametrize(("log_prob", "direction"), [(5.0, 1), (-5.0, -1)])
def test_alpha_rises_while_the_entropy_is_under_its_target(log_prob, direction):
    log_alpha = torch.tensor(0.3, requires_grad=True)
    temperature(log_alpha.exp(), torch.full((4,), log_prob), -2.0).backward()
    assert (-log_alpha.grad * direction).item() > 0
