"""Densities against SciPy, on the bound and inside of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import toy
from scipy import stats

from robo_offline.policies.deterministic import Deterministic
from robo_offline.policies.gaussian import (
    Gaussian,
    RescaledGaussian,
    SquashedGaussian,
    UnitGaussian,
    log_det_tanh,
)

OBSERVATION = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
HEADS = [Gaussian, RescaledGaussian, SquashedGaussian]


def head(cls, shape=(2,), **options):
    return cls(toy.encoder()(), shape, (8,), **options)


def test_the_log_prob_of_a_gaussian_is_the_sum_of_normals_at_the_raw_action():
    actor, action = head(Gaussian), torch.rand(6, 2) * 2 - 1
    with torch.no_grad():
        actor.log_std.copy_(torch.tensor([-0.7, 0.4]))
        mean = actor.mode(OBSERVATION).numpy()
        found = actor.log_prob(OBSERVATION, action).numpy()
    expected = stats.norm.logpdf(action.numpy(), mean, np.exp([-0.7, 0.4])).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_log_prob_of_a_squashed_sample_is_its_own_density():
    actor = head(SquashedGaussian).double()
    with torch.no_grad():
        action, log_prob = actor.sample_with_log_prob(OBSERVATION.double())
        mean, std = actor.parameters_of(OBSERVATION.double())
    u = np.arctanh(action.numpy())
    density = stats.norm.logpdf(u, mean.numpy(), std.numpy()) - np.log1p(-(action.numpy() ** 2))
    np.testing.assert_allclose(log_prob.numpy(), density.sum(-1), rtol=1e-9)
    np.testing.assert_allclose(
        actor.log_prob(OBSERVATION.double(), action).detach().numpy(), density.sum(-1), rtol=1e-9
    )


@pytest.mark.parametrize("cls", HEADS)
@pytest.mark.parametrize("value", [-1.0, 1.0, 0.0])
def test_the_log_prob_of_data_on_the_bound_and_its_gradient_are_finite(cls, value):
    actor = head(cls)
    log_prob = actor.log_prob(OBSERVATION, torch.full((6, 2), value))
    gradients = torch.autograd.grad(log_prob.sum(), list(actor.parameters()))
    assert log_prob.isfinite().all() and all(g.isfinite().all() for g in gradients)


def test_the_log_determinant_stays_finite_far_out():
    u = torch.tensor([-200.0, -20.0, 0.0, 20.0, 200.0])
    assert log_det_tanh(u).isfinite().all()
    inside = torch.linspace(-3, 3, 20, dtype=torch.float64)
    assert torch.allclose(log_det_tanh(inside), torch.log1p(-(inside.tanh() ** 2)))


@pytest.mark.parametrize("cls", HEADS)
def test_a_mask_leaves_the_filler_of_a_chunk_out_of_the_log_prob(cls):
    actor, action = head(cls, (3, 2)), torch.rand(6, 3, 2) * 2 - 1
    mask = torch.tensor([[True, True, False]]).expand(6, 3)
    before = actor.log_prob(OBSERVATION, action, mask)
    changed = action.clone()
    changed[:, 2] = 0.0
    assert torch.equal(actor.log_prob(OBSERVATION, changed, mask), before)
    assert not torch.equal(actor.log_prob(OBSERVATION, changed), before)


def test_a_gaussian_is_not_squashed_and_its_std_does_not_depend_on_the_state():
    actor = head(Gaussian)
    drawn = torch.stack([actor.sample(OBSERVATION[:2]) for _ in range(4000)])
    assert drawn.abs().max() > 2
    assert (drawn.std(0) - 1).abs().max() < 0.06


def test_a_gaussian_s_std_keeps_its_bounds():
    actor = head(Gaussian, log_std=(-5.0, 2.0))
    with torch.no_grad():
        actor.log_std.copy_(torch.tensor([-50.0, 50.0]))
    assert torch.allclose(actor.std(), torch.tensor([-5.0, 2.0]).exp())


def test_noise_of_a_deterministic_policy_has_the_std_it_is_given():
    actor = head(Deterministic, noise=0.1)
    drawn = torch.stack([actor.sample(OBSERVATION) for _ in range(2000)]) - actor.mode(OBSERVATION)
    assert drawn.std().item() == pytest.approx(0.1, abs=0.005)


def test_a_rescaled_std_keeps_its_bounds_and_finds_its_way_back_from_them():
    actor = head(RescaledGaussian, log_std=(-6.0, 0.0))
    assert torch.allclose(actor.std().log(), torch.tensor(-3.0))
    with torch.no_grad():
        actor.log_std.copy_(torch.tensor([-9.0, 9.0]))
    assert torch.allclose(actor.std().log(), torch.tensor([-6.0, 0.0]), atol=1e-2)
    (gradient,) = torch.autograd.grad(actor.std().log().sum(), [actor.log_std])
    assert (gradient > 0).all()


def test_a_unit_gaussian_has_a_density_of_std_one_and_a_mean_without_bounds():
    actor, action = head(UnitGaussian), torch.rand(6, 2) * 2 - 1
    with torch.no_grad():
        actor.net[-1].bias.fill_(3.0)
        mean = actor.mode(OBSERVATION)
        found = actor.log_prob(OBSERVATION, action)
    assert mean.max() > 1
    expected = stats.norm.logpdf(action.numpy(), mean.numpy(), 1.0).sum(-1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_a_unit_gaussian_explores_by_its_noise_around_what_it_would_execute():
    torch.manual_seed(0)
    actor = head(UnitGaussian, noise=0.1)
    many = OBSERVATION[:1].expand(4000, -1)
    with torch.no_grad():
        actor.net[-1].bias.fill_(5.0)  # far outside
        sample = actor.sample(many)
    assert sample.mean().item() == pytest.approx(1.0, abs=0.01)
    assert sample.std().item() == pytest.approx(0.1, abs=0.01)


def test_a_unit_gaussian_leaves_the_filler_of_a_chunk_out():
    actor, mask = head(UnitGaussian, (3, 2)), torch.tensor([[True, True, False]] * 6)
    action = torch.rand(6, 3, 2)
    before = actor.log_prob(OBSERVATION, action, mask)
    action[:, 2] = 0.9
    assert torch.equal(actor.log_prob(OBSERVATION, action, mask), before)
