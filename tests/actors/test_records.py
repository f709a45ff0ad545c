"""A transition as bytes, and whole episodes of them again."""

from __future__ import annotations

import pytest
import torch
import toy
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from torchrl.envs.utils import step_mdp

from envs.torchrl import as_torchrl
from robo_offline.actors.records import Assembly, place, to_bytes


def steps(make=toy.Reach, count: int = 30, first_episode: int = 0):
    """So many steps of a policy that stands still, as an environment of TorchRL gives them."""
    env, found, number = as_torchrl(make, 0, first_episode), [], 0
    td = env.reset()
    for _ in range(count):
        td["action"] = torch.full(env.action_spec.shape, 0.1)
        td["guided"] = torch.tensor([False])
        td = env.step(td)
        found.append((td.clone(), number))
        number = 0 if td["next", "done"] else number + 1
        td = env.reset() if td["next", "done"] else step_mdp(td)
    return found


@pytest.mark.parametrize("make", [toy.Reach, toy.make_nested])
def test_an_episode_comes_back_as_it_was(make):
    played, assembly, ended = steps(make), Assembly(), []
    for number, (td, step) in enumerate(played):
        ended += assembly.add(number, to_bytes(td, step, {"staleness_s": 2.0}))
    [episode] = ended
    whole = torch.stack([td for td, _ in played[: toy.HORIZON]])
    for key, leaf in episode.td.items(include_nested=True, leaves_only=True):
        assert torch.equal(leaf, whole[key]), key
    assert (episode.last, episode.index) == (toy.HORIZON - 1, 0)
    assert episode.staleness == {"staleness_s": 2.0}


def test_an_episode_that_a_crash_cut_ends_truncated_and_keeps_its_transitions():
    assembly, played = Assembly(), steps(count=5)
    for number, (td, step) in enumerate(played[:3]):
        assert not assembly.add(number, to_bytes(td, step, {}))
    after, _ = steps(count=1, first_episode=1)[0]
    [cut] = assembly.add(3, to_bytes(after, 0, {}))
    assert cut.last == 2 and len(cut.td) == 3
    assert cut.td["next", "truncated"].squeeze(-1).tolist() == [False, False, True]
    assert not cut.td["next", "terminated"].any()
    assert len(assembly.open) == 1


def test_a_record_says_where_it_stands():
    played = steps(count=toy.HORIZON, first_episode=4)
    assert place(to_bytes(*played[2], {})) == (4, 2, False)
    assert place(to_bytes(*played[-1], {})) == (4, toy.HORIZON - 1, True)


@given(st.binary(max_size=200))
def test_foreign_bytes_are_an_error_and_no_transition(data):
    with pytest.raises((SafetensorError, KeyError)):
        Assembly().add(0, data)
