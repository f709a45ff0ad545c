"""Whole episodes in order, from this process or one ahead in another."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toy

from envs.torchrl import EpisodeSeeds
from robo_offline.algos.sac import SAC
from robo_offline.encoders.state import State
from robo_offline.engine.learner import Learner
from robo_offline.phases.collector import Collector
from robo_offline.policies.policy import Policy
from robo_offline.spec import Spec

BOTH = [False, True]
NAMES = ["in_process", "second_process"]


def collect(run, count: int, ahead: bool, random_steps: int = 0, then=None):
    """So many episodes, with nothing learned in between but `then` after the fifth."""
    found = []
    with Collector(run, random_steps=random_steps, ahead=ahead) as collector:
        for number in range(count):
            rows, summary = collector.next()
            if then is not None and number == 4:
                then(run)
            run.counters.env_step += len(rows) - 1
            run.counters.episode += 1
            found.append((rows, summary))
    return found


@pytest.fixture(scope="module", params=BOTH, ids=NAMES)
def collected(request, tmp_path_factory):
    """Eight episodes, all that is needed to repeat them, and what it did to this process.

    After the fifth was asked for, the learner's actor is made to push to one side.
    """
    torch.manual_seed(0)
    run = toy.run(tmp_path_factory.mktemp("run"), SAC, chunk=3)
    policy = Policy(run.learner.algo, seed=run.seed, explore=True)
    before = torch.get_rng_state(), torch.get_num_threads()
    episodes = collect(run, 8, request.param, then=push_to_one_side)
    after = torch.get_rng_state(), torch.get_num_threads()
    return SimpleNamespace(
        ahead=request.param, policy=policy, episodes=episodes, before=before, after=after
    )


def by_hand(policy: Policy, index: int) -> torch.Tensor:
    """Observations of episode `index` when it is played without a collector."""
    policy.reset(index)
    env = EpisodeSeeds(toy.Reach(), policy.seed, first_episode=index)
    observation, _ = env.reset()
    seen, over = [observation], False
    while not over:
        observation, _, terminated, truncated, _ = env.step(policy.act(observation))
        seen.append(observation)
        over = terminated or truncated
    return torch.tensor(np.stack(seen))


def test_episodes_come_in_order_and_are_what_the_policy_does_by_hand(collected):
    for index, (rows, _) in enumerate(collected.episodes[:5]):
        assert torch.equal(rows["observation"], by_hand(collected.policy, index))


def test_the_last_row_is_the_final_observation_and_no_transition(collected):
    for rows, _ in collected.episodes:
        ended = rows["terminated"] | rows["truncated"]
        assert ended.tolist() == [False] * (len(rows) - 2) + [True, False]
        assert rows["action"][-1].abs().sum() == 0
        moved = rows["observation"][1:, :2] - rows["observation"][:-1, :2]
        assert torch.allclose(moved, toy.STEP * rows["action"][:-1], atol=1e-6)


def test_a_summary_counts_return_length_and_success(collected):
    for rows, summary in collected.episodes:
        assert summary["length"] == len(rows) - 1
        assert summary["success"] == float(rows["terminated"].any())
        assert summary["return"] == rows["reward"].sum()


def test_collecting_leaves_the_stream_of_the_learner_alone(collected):
    assert torch.equal(collected.before[0], collected.after[0])


def test_collecting_leaves_the_number_of_threads_alone(collected):
    assert collected.before[1] == collected.after[1]


def test_random_steps_act_uniformly_and_then_the_policy_takes_over(tmp_path):
    run = toy.run(tmp_path, SAC, seed=3)
    push_to_one_side(run)
    step, uniform, own = 0, [], []
    for rows, _ in collect(run, 30, False, random_steps=300):
        (uniform if step < 300 else own).append(rows["action"][:-1])
        step += len(rows) - 1
    uniform, own = torch.cat(uniform), torch.cat(own)
    assert uniform.mean(0).abs().max() < 0.15
    assert uniform.std(0).sub(1 / 3**0.5).abs().max() < 0.06
    assert (own > 0.99).all()


def push_to_one_side(run) -> None:
    with torch.no_grad():
        run.learner.algo.actor.net[-1].weight.zero_()
        bias = run.learner.algo.actor.net[-1].bias  # means, then log-stds
        bias[..., : bias.shape[-1] // 2], bias[..., bias.shape[-1] // 2 :] = 5.0, -9.0


def test_new_weights_act_in_the_next_episode_or_one_later_when_ahead(collected):
    pushed = [bool((rows["action"][:-1] > 0.99).all()) for rows, _ in collected.episodes]
    delay = int(collected.ahead)
    assert pushed == [False] * (5 + delay) + [True] * (3 - delay)


@pytest.mark.parametrize("ahead", BOTH, ids=NAMES)
def test_a_world_that_breaks_ends_the_collection_with_an_error(tmp_path, ahead, capfd):
    run = toy.run(tmp_path, SAC, make=partial(toy.Reach, fail_at=3))
    with pytest.raises(RuntimeError) as raised:
        collect(run, 1, ahead)
    assert "the toy broke" in str(raised.value) + capfd.readouterr().err


def test_dict_observations_arrive_leaf_by_leaf(tmp_path):
    run = toy.run(tmp_path, SAC, make=toy.make_nested)
    spec = Spec.of(toy.make_nested())
    run.learner = Learner(SAC.create(spec, partial(State, spec), hidden=(8,)))
    rows, _ = collect(run, 1, False)[0]
    assert rows["observation", "position"].shape == (len(rows), 2)
