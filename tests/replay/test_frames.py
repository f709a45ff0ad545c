"""Stacks of images: of one episode only, and the same for the replay and for who acts."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from replay_rows import dataset_steps, episode
from tensordict import TensorDict
from torch import Tensor

from robo_offline.policies.history import History
from robo_offline.replay.buffer import Replay, Window

SHAPE = (3, 2, 2)
lengths = st.lists(st.integers(1, 6), min_size=1, max_size=6)
frames = st.integers(1, 4)


def seen(number: int, steps: int) -> TensorDict:
    """Rows whose images say episode, step and channel."""
    rows = episode(number, steps)
    image = torch.zeros(steps + 1, *SHAPE, dtype=torch.uint8)
    image += torch.tensor(20 * number, dtype=torch.uint8)
    image += 3 * torch.arange(steps + 1, dtype=torch.uint8).view(-1, 1, 1, 1)
    image += torch.arange(3, dtype=torch.uint8).view(1, 3, 1, 1)
    nested = {"state": rows["observation"], "wrist": image, "goal": {"wrist": image + 100}}
    rows["observation"] = TensorDict(nested, [steps + 1])
    return rows


def by_hand(part: TensorDict, at: int, count: int) -> Tensor:
    """The images of steps at - count + 1 .. at, where the first one stands for those before it."""
    return torch.cat([part["observation", "wrist"][max(0, at - k)] for k in reversed(range(count))])


def assert_stacks_are_right(replay: Replay, live: list[TensorDict]) -> None:
    count = replay.window.frames
    rows = torch.cat([torch.arange(a, a + steps + 1) for a, steps in replay.episodes])
    found = replay.observe(rows)
    pairs = [(part, at) for part in live for at in range(len(part))]
    assert found.batch_size == rows.shape and len(rows) == len(pairs)
    for row, (part, at) in zip(found.unbind(0), pairs, strict=True):
        assert torch.equal(row["wrist"], by_hand(part, at, count))
        assert torch.equal(row["state"], part["observation", "state"][at])
        assert torch.equal(row["goal", "wrist"], part["observation", "goal", "wrist"][at])


@given(lengths=lengths, count=frames)
def test_a_stack_of_a_data_set_holds_the_last_images_of_its_own_episode_alone(lengths, count):
    parts = [seen(number, steps) for number, steps in enumerate(lengths)]
    window = Window(0.9, frames=count)
    assert_stacks_are_right(Replay.of_steps(dataset_steps(parts), window), parts)


@given(lengths=lengths, count=frames, capacity=st.integers(7, 20))
def test_so_does_a_stack_of_a_ring_that_overflows(lengths, count, capacity):
    replay = Replay(capacity, Window(0.9, frames=count))
    parts = [seen(number, steps) for number, steps in enumerate(lengths)]
    for part in parts:
        replay.extend(part)
        live = parts[: replay.total][-len(replay.episodes) :]
        assert_stacks_are_right(replay, live)


def test_so_does_a_stack_of_a_ring_in_files(tmp_path):
    replay = Replay(20, Window(0.9, frames=3), scratch=tmp_path)
    parts = [seen(number, 4) for number in range(3)]
    for part in parts:
        replay.extend(part)
    assert_stacks_are_right(replay, parts)


@given(lengths=lengths, count=frames)
def test_who_acts_sees_what_the_replay_gives_for_the_same_rows(lengths, count):
    parts = [seen(number, steps) for number, steps in enumerate(lengths)]
    replay = Replay.of_steps(dataset_steps(parts), Window(0.9, frames=count))
    history, row = History(count), 0
    for part in parts:
        history.begin()
        for observation in part["observation"].unbind(0):
            acting, drawn = history.add(observation), replay.observe(torch.tensor([row]))[0]
            assert (acting == drawn).all()
            row += 1


def test_an_environment_that_writes_over_its_image_does_not_change_the_history():
    image = torch.zeros(SHAPE, dtype=torch.uint8)
    history = History(2)
    history.add(image)
    image += 7
    assert history.add(image)[:3].sum() == 0


def test_a_window_of_several_steps_ends_in_the_stack_of_where_it_leads():
    part = seen(0, 5)
    replay = Replay.of_steps(dataset_steps([part]), Window(0.9, n_step=3, frames=2))
    batch = replay.gather(torch.tensor([1, 4]))
    assert torch.equal(batch["next", "observation", "wrist"][0], by_hand(part, 4, 2))
    assert torch.equal(batch["next", "observation", "wrist"][1], by_hand(part, 5, 2))
