"""Gaussian heads over an action or a chunk: bounded mean without squashing, and tanh-squashed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robo_offline.encoders import Encoder
from robo_offline.nets.layers import Init, mlp, uniform

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def normal_log_prob(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log density of independent normals, per entry."""
    return -0.5 * ((x - mean) / std).square() - std.log() - HALF_LOG_TWO_PI


def sum_event(value: Tensor, mask: Tensor | None) -> Tensor:
    """Sum everything but the batch axis; a mask (B, H) leaves out the filler of a chunk."""
    if mask is not None:
        value = value * mask.unsqueeze(-1)
    return value.flatten(1).sum(-1)


class Gaussian(nn.Module):
    """N(tanh(f(s)), std) with a std that does not depend on the state, as in IQL and AWAC.

    The sample is not squashed, so there is no log-determinant and a data action on the bound has a
    finite log-probability; what is executed is clipped to [-1, 1].
    """

    def __init__(
        self,
        encoder: Encoder,
        action_shape: Sequence[int],
        hidden: Sequence[int],
        *,
        log_std: tuple[float, float] = (-5.0, 2.0),
        layer_norm: bool = False,
        dropout: float = 0.0,
        init: Init = uniform,
    ):
        super().__init__()
        self.encoder, self.bounds = encoder, log_std
        self.action_shape = torch.Size(action_shape)
        size = self.action_shape.numel()
        self.net = mlp(encoder.dim, hidden, size, layer_norm=layer_norm, dropout=dropout, init=init)
        self.log_std = nn.Parameter(torch.zeros(self.action_shape))

    def mode(self, observation: Any) -> Tensor:  # (B, *action_shape)
        return self.net(self.encoder(observation)).tanh().unflatten(-1, self.action_shape)

    def sample(self, observation: Any) -> Tensor:
        mean = self.mode(observation)
        return mean + self.std() * torch.randn_like(mean)

    def std(self) -> Tensor:
        return self.log_std.clamp(*self.bounds).exp()

    def log_prob(self, observation: Any, action: Tensor, mask: Tensor | None = None) -> Tensor:
        return sum_event(normal_log_prob(action, self.mode(observation), self.std()), mask)


class RescaledGaussian(Gaussian):
    """A Gaussian whose log-std is a sigmoid between its bounds, as in rlkit's AWAC.

    A bound near what is learned must not be a clamp: its gradient is zero beyond, and a std that
    stepped over it once would stay there for good.
    """

    def std(self) -> Tensor:
        low, high = self.bounds
        return (low + (high - low) * self.log_std.sigmoid()).exp()


class UnitGaussian(nn.Module):
    """N(f(s), 1), whose likelihood is the squared error to a mean that nothing bounds.

    The density has a std of one, as in OGBench (arXiv 2410.20092); `noise` is the std of what
    exploration adds, since one fills the whole range. What is executed is clipped to [-1, 1].
    """

    def __init__(
        self,
        encoder: Encoder,
        action_shape: Sequence[int],
        hidden: Sequence[int],
        *,
        noise: float = 0.1,
        init: Init = uniform,
        last: Init | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ):
        super().__init__()
        self.encoder, self.noise = encoder, noise
        self.action_shape = torch.Size(action_shape)
        size = self.action_shape.numel()
        self.net = mlp(encoder.dim, hidden, size, init=init, last=last, activation=activation)

    def mode(self, observation: Any) -> Tensor:  # (B, *action_shape)
        return self.net(self.encoder(observation)).unflatten(-1, self.action_shape)

    def sample(self, observation: Any) -> Tensor:
        action = self.mode(observation).clamp(-1, 1)
        return action + self.noise * torch.randn_like(action)

    def log_prob(self, observation: Any, action: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.log_prob_at(self.mode(observation), action, mask)

    @staticmethod
    def log_prob_at(mean: Tensor, action: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-probability (B,) of actions around a mean that is known already."""
        return sum_event(-0.5 * (action - mean).square() - HALF_LOG_TWO_PI, mask)


class SquashedGaussian(nn.Module):
    """tanh(N(mean(s), std(s))), as in SAC.

    `affine` (m, b) gives the log-std two learned scalars that begin there: m * f(s) + b, as in the
    codes of CQL and Cal-QL.
    """

    def __init__(
        self,
        encoder: Encoder,
        action_shape: Sequence[int],
        hidden: Sequence[int],
        *,
        log_std: tuple[float, float] = (-20.0, 2.0),
        affine: tuple[float, float] | None = None,
        layer_norm: bool = False,
        init: Init = uniform,
        last: Init | None = None,
        bias: float = 0.0,
    ):
        super().__init__()
        self.encoder, self.bounds = encoder, log_std
        self.action_shape = torch.Size(action_shape)
        n_out = 2 * self.action_shape.numel()
        self.net = mlp(
            encoder.dim, hidden, n_out, layer_norm=layer_norm, init=init, last=last, bias=bias
        )
        self.affine = None if affine is None else nn.Parameter(torch.tensor(affine))

    def parameters_of(self, observation: Any) -> tuple[Tensor, Tensor]:
        """Mean and std before the tanh, each (B, *action_shape)."""
        mean, log_std = self.net(self.encoder(observation)).chunk(2, -1)
        if self.affine is not None:
            log_std = self.affine[0] * log_std + self.affine[1]
        std = log_std.clamp(*self.bounds).exp()
        return mean.unflatten(-1, self.action_shape), std.unflatten(-1, self.action_shape)

    def mode(self, observation: Any) -> Tensor:
        return self.parameters_of(observation)[0].tanh()

    def sample(self, observation: Any) -> Tensor:
        return self.sample_with_log_prob(observation)[0]

    def sample_with_log_prob(self, observation: Any) -> tuple[Tensor, Tensor]:
        """Draw actions (B, *action_shape) and their log-probabilities (B,), differentiably."""
        mean, std = self.parameters_of(observation)
        u = mean + std * torch.randn_like(mean)
        log_prob = normal_log_prob(u, mean, std) - log_det_tanh(u)
        return u.tanh(), sum_event(log_prob, None)

    def sample_n(self, observation: Any, num: int) -> tuple[Tensor, Tensor]:
        """Draw `num` actions (B, K, *action_shape) and log-probabilities (B, K), differentiably.

        All of them come from one forward of the network.
        """
        mean, std = (each.unsqueeze(1) for each in self.parameters_of(observation))
        u = mean + std * torch.randn_like(mean.repeat_interleave(num, 1))
        log_prob = normal_log_prob(u, mean, std) - log_det_tanh(u)
        return u.tanh(), log_prob.flatten(2).sum(-1)

    def log_prob(self, observation: Any, action: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-probability of given actions; those on the bound count as 1e-6 inside of it."""
        mean, std = self.parameters_of(observation)
        u = action.clamp(-1 + 1e-6, 1 - 1e-6).atanh()
        return sum_event(normal_log_prob(u, mean, std) - log_det_tanh(u), mask)


class SoftplusGaussian(SquashedGaussian):
    """The same with std = softplus(f(s)) + `min_std`, as Acme's and so MSG's.

    The floor keeps the density finite while data on the bound is imitated.
    """

    def __init__(
        self,
        encoder: Encoder,
        action_shape: Sequence[int],
        hidden: Sequence[int],
        *,
        min_std: float = 1e-2,
        init: Init = uniform,
    ):
        super().__init__(encoder, action_shape, hidden, init=init)
        self.min_std = min_std

    def parameters_of(self, observation: Any) -> tuple[Tensor, Tensor]:
        mean, spread = self.net(self.encoder(observation)).chunk(2, -1)
        std = nn.functional.softplus(spread) + self.min_std
        return mean.unflatten(-1, self.action_shape), std.unflatten(-1, self.action_shape)


def log_det_tanh(u: Tensor) -> Tensor:
    """log(1 - tanh(u)^2), in the form that stays finite for large |u|."""
    return 2 * (math.log(2) - u - nn.functional.softplus(-2 * u))
