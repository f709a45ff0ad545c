"""The share of data-set rows in a batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_rows import dataset_steps, episode

from robo_offline.errors import UserError
from robo_offline.replay.buffer import Replay, Window
from robo_offline.replay.mixture import Mixture
from robo_offline.schema import DATASET


def replays(offline: int = 4, online: int = 6) -> tuple[Replay, Replay]:
    """A data set and experience of single episodes with so many steps."""
    logged = Replay.of_steps(dataset_steps([episode(0, offline)]), Window(0.9))
    own = Replay(100, Window(0.9))
    if online:
        own.extend(episode(1, online))
    return logged, own


def logged_rows(batch) -> int:
    return int((batch["source"] == DATASET).sum())


@settings(deadline=None, max_examples=50)
@given(
    size=st.integers(1, 300),
    fraction=st.floats(0, 1),
    final=st.floats(0, 1),
    step=st.integers(0, 200),
)
def test_every_batch_holds_the_exact_share(size, fraction, final, step):
    mixture = Mixture(*replays(), fraction=fraction, final_fraction=final, anneal_steps=100)
    share = fraction + (final - fraction) * min(step / 100, 1)
    batch = mixture.sample(size, step)
    assert len(batch) == size
    assert abs(logged_rows(batch) - share * size) <= 0.5 + 1e-6


def test_half_of_256_is_128_in_every_batch():
    mixture = Mixture(*replays())
    assert {logged_rows(mixture.sample(256, step)) for step in range(20)} == {128}


def test_the_share_moves_linearly_and_stays():
    mixture = Mixture(*replays(), fraction=1.0, final_fraction=0.0, anneal_steps=100)
    assert [mixture.share(step) for step in (0, 25, 100, 1000)] == [1.0, 0.75, 0.0, 0.0]


def test_a_share_without_annealing_stays_where_it_began():
    mixture = Mixture(*replays(), fraction=0.3)
    assert mixture.share(0) == mixture.share(10**6) == 0.3


def test_no_logged_row_enters_a_batch_at_share_zero():
    mixture = Mixture(*replays(), fraction=0.0)
    assert logged_rows(mixture.sample(500)) == 0


def test_a_union_is_right_on_average():
    mixture = Mixture(*replays(1, 9), fraction=-1.0)
    counts = torch.tensor([float(logged_rows(mixture.sample(8))) for _ in range(3000)])
    assert counts.mean().item() == pytest.approx(0.8, abs=0.03)


def test_before_the_first_episode_batches_are_logged_rows_alone():
    mixture = Mixture(*replays(online=0), fraction=0.5)
    assert logged_rows(mixture.sample(32)) == 32


def test_without_a_data_set_batches_are_own_experience_alone():
    mixture = Mixture(None, replays()[1], fraction=0.5)
    assert logged_rows(mixture.sample(32)) == 0


def test_a_chunked_batch_of_both_has_one_mask():
    window = Window(0.9, chunk=3)
    logged = Replay.of_steps(dataset_steps([episode(0, 5)]), window)
    own = Replay(50, window)
    own.extend(episode(1, 5))
    assert Mixture(logged, own).sample(10)["mask"].shape == (10, 3)


def test_nothing_to_learn_from_is_said():
    with pytest.raises(UserError, match="nothing to learn from"):
        Mixture(None, replays(online=0)[1]).sample(4)
