"""What people did online: stored as theirs, and drawn with the demonstrations."""

from __future__ import annotations

import pytest
import torch
from replay_rows import dataset_steps, episode

from robo_offline.replay.buffer import Replay, Window
from robo_offline.replay.mixture import Mixture
from robo_offline.schema import DATASET, HUMAN, OWN


def taught_episode(number: int, steps: int, human: slice, end: str = "truncated"):
    rows = episode(number, steps, end)
    source = torch.full((steps + 1,), OWN, dtype=torch.uint8)
    source[human] = HUMAN
    rows["source"] = source
    return rows


def mixture(human: slice = slice(2, 6), offline: int = 12, **options) -> Mixture:
    logged = Replay.of_steps(dataset_steps([episode(0, offline)]), Window(0.9)) if offline else None
    own = Replay(100, Window(0.9))
    own.extend(taught_episode(1, 10, human))
    return Mixture(logged, own, **options)


def count(batch, source: int) -> int:
    return int((batch["source"] == source).sum())


def test_a_row_says_who_acted_in_it():
    own = Replay(100, Window(0.9))
    own.extend(taught_episode(1, 10, slice(2, 6)))
    own.extend(episode(2, 3))
    batch = own.gather(own.starts)
    assert batch["source"].tolist() == [OWN] * 2 + [HUMAN] * 4 + [OWN] * 7
    assert own.taught.tolist() == [2, 3, 4, 5]


def test_what_a_person_did_is_worth_imitating_even_where_the_episode_failed():
    own = Replay(100, Window(0.9))
    own.extend(taught_episode(1, 10, slice(2, 6)))
    batch = own.gather(own.starts)
    assert torch.equal(batch["demonstration"], batch["source"] == HUMAN)


def test_what_led_to_a_persons_help_is_no_example_though_the_episode_succeeded():
    rows = taught_episode(1, 10, slice(4, 6), "terminated")
    rows["success"][9] = True
    own = Replay(100, Window(0.9))
    own.extend(rows)
    worth = own.gather(own.starts)["demonstration"].tolist()
    assert worth == [False] * 4 + [True] * 6  # the person's steps, and those that then succeeded


def test_interventions_are_drawn_with_the_demonstrations_by_their_number():
    mixed = mixture(fraction=0.5)  # 12 rows of data, 4 of a person
    logged = human = 0
    for _ in range(200):
        batch = mixed.sample(64)
        first, rest = batch[:32], batch[32:]
        assert count(first, OWN) == 0 and count(rest, DATASET) == 0
        logged, human = logged + count(first, DATASET), human + count(first, HUMAN)
    assert human / (human + logged) == pytest.approx(4 / 16, abs=0.02)


def test_interventions_stay_experience_as_well():
    batch = mixture(fraction=0.0).sample(500)
    assert count(batch, HUMAN) / 500 == pytest.approx(0.4, abs=0.1)


def test_without_a_data_set_interventions_are_the_demonstrations():
    batch = mixture(offline=0, fraction=0.5).sample(64)
    assert count(batch[:32], HUMAN) == 32


def test_without_interventions_nothing_is_drawn_differently():
    def draw(mixed):
        torch.manual_seed(0)
        return mixed.sample(64)["observation"]

    with_source, without = mixture(slice(0, 0)), mixture(slice(0, 0))
    without.online = Replay(100, Window(0.9))
    without.online.extend(episode(1, 10, "truncated"))
    assert torch.equal(draw(with_source), draw(without))


def test_a_union_already_holds_them_once():
    mixed = mixture(fraction=-1.0)
    share = sum(count(mixed.sample(64), HUMAN) for _ in range(200)) / (200 * 64)
    assert share == pytest.approx(4 / 22, abs=0.02)


def test_interventions_leave_with_their_episode():
    mixed = mixture(fraction=0.5)
    for number in range(2, 12):
        mixed.online.extend(episode(number, 9))
    assert len(mixed.online.taught) == 0 and count(mixed.sample(64), HUMAN) == 0
