"""Contrastive losses: tell which goal belongs to a state and an action, among those of a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def binary_nce(logits: Tensor) -> Tensor:
    """Binary cross-entropy of all pairs (E, B, B), of which those on the diagonal belong together.

    The mean over members and all B^2 pairs; Eysenbach et al. 2022, arXiv 2206.07568.
    """
    if logits.shape[-1] != logits.shape[-2]:
        raise ValueError(f"logits {tuple(logits.shape)} are not of all pairs")
    own = torch.eye(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    return binary_cross_entropy_with_logits(logits, own.expand_as(logits))
