"""Layers with a leading member axis: an ensemble is one batched matmul, not a list of modules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

Init = Callable[[Tensor], object]  # fills one (in, out) matrix in place
Affine = Callable[[Tensor, Tensor, Tensor], Tensor]  # x, W, b -> x @ W + b


def uniform(weight: Tensor) -> None:
    """Initialise one (in, out) matrix as `nn.Linear` does."""
    bound = 1 / math.sqrt(weight.shape[-2])
    nn.init.uniform_(weight, -bound, bound)


def orthogonal(weight: Tensor) -> None:
    """Initialise orthogonally with gain sqrt(2)."""
    nn.init.orthogonal_(weight.T, gain=math.sqrt(2))


def orthogonal_with(gain: float) -> Init:
    """Make an orthogonal initialisation of another gain, such as 1e-2 for a last layer."""
    return lambda weight: nn.init.orthogonal_(weight.T, gain=gain)


def within(bound: float) -> Init:
    """Make an initialisation that is uniform within +-bound, whatever the fan-in."""
    return lambda weight: nn.init.uniform_(weight, -bound, bound)


def truncated(weight: Tensor) -> None:
    """Initialise normally with std 1 / (2 sqrt(fan-in)), cut at two of it."""
    std = 0.5 / math.sqrt(weight.shape[-2])
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def small(weight: Tensor) -> None:
    """Initialise so that the output starts near zero."""
    nn.init.uniform_(weight, -1e-3, 1e-3)


def xavier(weight: Tensor) -> None:
    """Initialise uniformly after Glorot."""
    nn.init.xavier_uniform_(weight)


def fan_avg(scale: float) -> Init:
    """Make an initialisation that is uniform with variance scale / mean of fan-in and fan-out."""
    return lambda weight: nn.init.xavier_uniform_(weight, gain=math.sqrt(scale))


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`x @ W + b` with PyTorch's own products."""
    if weight.dim() == 2:
        return torch.addmm(bias, x, weight) if x.dim() == 2 else x @ weight + bias
    if x.dim() == 2:
        x = x.expand(weight.shape[0], *x.shape)
    return torch.baddbmm(bias, x, weight)


class Dense(nn.Module):
    """`x @ W + b` with W of shape (*members, in, out); at most one member axis, which leads."""

    multiply: ClassVar[Affine] = staticmethod(affine)  # of this process; see engine.gemm

    def __init__(
        self,
        n_in: int,
        n_out: int,
        members: int | None = None,
        init: Init = uniform,
        bias: float = 0.0,
    ):
        super().__init__()
        lead = () if members is None else (members,)
        weight = torch.empty(*lead, n_in, n_out)
        for matrix in weight.view(-1, n_in, n_out):  # fan-in of one member, never of the stack
            init(matrix)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.full((*lead, 1, n_out), bias))

    def forward(self, x: Tensor) -> Tensor:  # (B, in) or (E, B, in) -> (B, out) or (E, B, out)
        return Dense.multiply(x, self.weight, self.bias)


class Norm(nn.Module):
    """LayerNorm with its own scale and shift per member."""

    def __init__(self, dim: int, members: int | None = None):
        super().__init__()
        lead = () if members is None else (members,)
        self.scale = nn.Parameter(torch.ones(*lead, 1, dim))
        self.shift = nn.Parameter(torch.zeros(*lead, 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, nn.functional.layer_norm(x, x.shape[-1:]), self.scale)


def mlp(
    n_in: int,
    hidden: Sequence[int],
    n_out: int,
    *,
    members: int | None = None,
    layer_norm: bool = False,
    norm_after: bool = False,
    dropout: float = 0.0,
    init: Init = uniform,
    last: Init | None = None,
    bias: float = 0.0,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Stack Dense -> (Dropout) -> (LayerNorm) -> ReLU per hidden layer, and a Dense to `n_out`.

    LayerNorm stands before the ReLU, as in RLPD and DroQ, or behind it where `norm_after` says so,
    as in ReBRAC. Hidden biases start at `bias`, those of the output at zero.
    """
    layers: list[nn.Module] = []
    for width in hidden:
        layers.append(Dense(n_in, width, members, init, bias))
        if dropout:
            layers.append(nn.Dropout(dropout))
        if layer_norm and not norm_after:
            layers.append(Norm(width, members))
        layers.append(activation())
        if layer_norm and norm_after:
            layers.append(Norm(width, members))
        n_in = width
    return nn.Sequential(*layers, Dense(n_in, n_out, members, last or init))
