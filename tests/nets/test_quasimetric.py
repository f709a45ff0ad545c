"""Quasimetrics: what makes a distance one, and the length of unions of intervals."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from robo_offline.encoders import Encoder
from robo_offline.nets.quasimetric import IQE, Quasimetric

COMPONENTS, SIZE = 3, 4
latents = arrays.arrays(
    np.float64, (COMPONENTS * SIZE,), elements=st.floats(-100, 100).map(lambda x: round(x, 3))
).map(torch.tensor)


def iqe(mixture: float = 0.3) -> IQE:
    made = IQE(COMPONENTS).double()
    made.mixture.data.fill_(mixture)
    return made


def union(x, y) -> float:
    """Length of the points that any interval [x_i, max(x_i, y_i)] covers, cell by cell."""
    intervals = [(a, max(a, b)) for a, b in zip(x, y, strict=True)]
    points = sorted({p for interval in intervals for p in interval})
    return sum(
        high - low
        for low, high in pairwise(points)
        if any(a <= low and high <= b for a, b in intervals)
    )


@given(latents, latents)
def test_a_component_is_the_length_that_its_intervals_cover_together(x, y):
    lengths = [
        union(a.tolist(), b.tolist()) for a, b in zip(x.view(3, 4), y.view(3, 4), strict=True)
    ]
    share = 1 / (1 + np.exp(-0.3))
    expected = share * np.mean(lengths) + (1 - share) * np.max(lengths)
    assert iqe()(x, y).item() == pytest.approx(expected, abs=1e-9)


@given(latents, latents, latents, st.floats(-5, 5))
@settings(max_examples=200)
def test_a_detour_is_never_shorter(x, y, z, mixture):
    d = iqe(mixture)
    assert d(x, z).item() <= d(x, y).item() + d(y, z).item() + 1e-9


@given(latents, latents)
def test_a_distance_is_never_negative_and_nothing_is_away_from_itself(x, y):
    assert iqe()(x, y).item() >= 0
    assert iqe()(x, x).item() == 0


def test_there_and_back_are_two_distances():
    x, y = torch.zeros(12).double(), torch.ones(12).double()
    assert iqe()(x, y).item() == pytest.approx(1.0)
    assert iqe()(y, x).item() == 0


def test_mean_and_maximum_have_equal_shares_at_first():
    made = IQE(2)
    d = made(torch.zeros(4), torch.tensor([1.0, 1.0, 3.0, 0.0]))
    assert d.item() == pytest.approx(0.5 * 2 + 0.5 * 3)


def test_the_gradient_of_a_distance_is_that_of_finite_differences():
    random = torch.Generator().manual_seed(0)
    x, y = (torch.randn(5, 12, generator=random).double().requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(iqe(), (x, y))


def test_intervals_that_touch_leave_no_gap_and_overlaps_count_once():
    made = IQE(1)
    x, y = torch.tensor([0.0, 1.0, 1.5]), torch.tensor([1.0, 2.0, 1.75])
    assert made(x, y).item() == pytest.approx(2.0)


class Plain(Encoder):
    """Observations that are vectors already."""

    dim = 4

    def forward(self, observation):
        return observation


def test_latent_dynamics_begin_from_the_latent_itself():
    net = Quasimetric(Plain(), 2, (8,), 12, 3)
    z, action = net.embed(torch.randn(6, 4)), torch.randn(6, 2)
    with torch.no_grad():
        for parameter in net.dynamics.parameters():
            parameter.zero_()
    assert torch.equal(net.predict(z, action), z)
    assert net(torch.randn(6, 4), torch.randn(6, 4)).shape == (6,)
    assert net.predict(z, torch.randn(6, 1, 2)).shape == (6, 12)  # a chunk is one action
