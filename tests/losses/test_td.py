"""Targets by hand, the random minimum, and how errors add up."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict

from robo_offline.losses.td import bootstrap, min_of_random, squared


def batch(reward, discount, terminated, truncated) -> TensorDict:
    following = {"reward": reward, "terminated": terminated, "truncated": truncated}
    following = {key: torch.tensor(value) for key, value in following.items()}
    return TensorDict({"discount": torch.tensor(discount), "next": following}, [len(reward)])


def test_a_terminal_does_not_bootstrap_and_a_truncation_does():
    rows = batch([1.0, 1.0, 1.0], [0.5] * 3, [True, False, False], [False, True, False])
    assert bootstrap(rows, torch.tensor([8.0, 8.0, 8.0])).tolist() == [1.0, 5.0, 5.0]


def test_every_row_has_its_own_discount():
    rows = batch([0.0, 0.0], [0.9, 0.81], [False] * 2, [False] * 2)
    assert bootstrap(rows, torch.ones(2)).tolist() == pytest.approx([0.9, 0.81])


def test_a_value_with_one_axis_too_many_is_refused():
    rows = batch([0.0, 0.0], [0.9] * 2, [False] * 2, [False] * 2)
    with pytest.raises(ValueError, match="next_value"):
        bootstrap(rows, torch.ones(2, 1))


def test_errors_are_summed_over_the_ensemble_and_averaged_over_the_batch():
    q, y = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([0.0, 1.0])
    assert squared(q, y).item() == (1 + 1) / 2 + (9 + 9) / 2


def test_a_target_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="target"):
        squared(torch.ones(2, 3), torch.ones(3, 1))


def test_no_gradient_flows_into_a_target():
    q, y = torch.ones(2, 3, requires_grad=True), torch.zeros(3, requires_grad=True)
    squared(q, y).backward()
    assert y.grad is None and q.grad is not None


def test_the_random_subset_is_without_replacement_and_shared_by_the_batch():
    q = torch.arange(5.0)[:, None].expand(5, 50)  # member e says e
    seen = []
    for _ in range(400):
        low = min_of_random(q, 2)
        assert (low == low[0]).all()
        seen.append(low[0].item())
    # The minimum of 2 of 5 without replacement is e with probability (4 - e) / 10, never 4.
    counts = [seen.count(e) / 400 for e in range(5)]
    assert counts == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0], abs=0.08)
    assert counts[4] == 0


def test_the_minimum_over_all_members_draws_nothing():
    before = torch.get_rng_state()
    assert min_of_random(torch.tensor([[3.0], [1.0]]), 2).item() == 1.0
    assert torch.equal(torch.get_rng_state(), before)
