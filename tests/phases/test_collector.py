"""Whole episodes in order, from this process or one ahead in another."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import toy

from robo_offline.algos.sac import SAC
from robo_offline.phases.collector import Collector
from robo_offline.policies.policy import Policy

BOTH = pytest.mark.parametrize("ahead", [False, True], ids=["in_process", "second_process"])


def collect(run, count: int, ahead: bool, random_steps: int = 0):
    """So many episodes, with nothing learned in between."""
    found = []
    with Collector(run, random_steps=random_steps, ahead=ahead) as collector:
        for _ in range(count):
            rows, summary = collector.next()
            run.counters.env_step += len(rows) - 1
            run.counters.episode += 1
            found.append((rows, summary))
    return found


def replayed(run, index: int) -> torch.Tensor:
    """Observations of episode `index` when played by hand."""
    from envs.torchrl import EpisodeSeeds

    policy = Policy(run.learner.algo, seed=run.seed, explore=True)
    policy.reset(index)
    env = EpisodeSeeds(toy.Reach(), run.seed, first_episode=index)
    observation, _ = env.reset()
    seen, over = [observation], False
    while not over:
        observation, _, terminated, truncated, _ = env.step(policy.act(observation))
        seen.append(observation)
        over = terminated or truncated
    return torch.tensor(seen.__class__(map(list, seen)))


@BOTH
def test_episodes_come_in_order_and_are_what_the_policy_does_by_hand(tmp_path, ahead):
    run = toy.run(tmp_path, SAC, chunk=3)
    for index, (rows, summary) in enumerate(collect(run, 4, ahead)):
        assert torch.allclose(rows["observation"], replayed(run, index), atol=1e-6)
        assert summary["length"] == len(rows) - 1
        assert summary["success"] == float(rows["terminated"].any())
        assert summary["return"] == rows["reward"].sum()


@BOTH
def test_the_last_row_is_the_final_observation_and_no_transition(tmp_path, ahead):
    rows, _ = collect(toy.run(tmp_path, SAC), 1, ahead)[0]
    ended = rows["terminated"] | rows["truncated"]
    assert ended.tolist() == [False] * (len(rows) - 2) + [True, False]
    assert rows["action"][-1].abs().sum() == 0
    moved = rows["observation"][1:, :2] - rows["observation"][:-1, :2]
    assert torch.allclose(moved, toy.STEP * rows["action"][:-1], atol=1e-6)


@BOTH
def test_collecting_leaves_the_stream_of_the_learner_alone(tmp_path, ahead):
    run = toy.run(tmp_path, SAC)
    before = torch.get_rng_state()
    collect(run, 2, ahead)
    assert torch.equal(torch.get_rng_state(), before)


def test_random_steps_act_uniformly_and_then_the_policy_takes_over(tmp_path):
    run = toy.run(tmp_path, SAC, seed=3)
    with torch.no_grad():  # a policy that always pushes to one side
        run.learner.algo.actor.net[-1].weight.zero_()
        run.learner.algo.actor.net[-1].bias.copy_(torch.tensor([[5.0, 5.0, -9.0, -9.0]]))
    episodes = collect(run, 30, False, random_steps=300)
    step, uniform, own = 0, [], []
    for rows, _ in episodes:
        (uniform if step < 300 else own).append(rows["action"][:-1])
        step += len(rows) - 1
    uniform, own = torch.cat(uniform), torch.cat(own)
    assert uniform.mean(0).abs().max() < 0.15
    assert uniform.std(0).sub(1 / 3**0.5).abs().max() < 0.06
    assert (own > 0.99).all()


@pytest.mark.parametrize(("ahead", "delay"), [(False, 0), (True, 1)])
def test_new_weights_act_in_the_next_episode_or_one_later_when_ahead(tmp_path, ahead, delay):
    run = toy.run(tmp_path, SAC)
    with Collector(run, random_steps=0, ahead=ahead) as collector:
        collector.next()
        run.counters.episode += 1
        with torch.no_grad():
            run.learner.algo.actor.net[-1].weight.zero_()
            run.learner.algo.actor.net[-1].bias.copy_(torch.tensor([[5.0, 5.0, -9.0, -9.0]]))
        pushed = []
        for _ in range(3):
            rows, _ = collector.next()
            run.counters.episode += 1
            pushed.append(bool((rows["action"][:-1] > 0.99).all()))
    assert pushed == [False] * delay + [True] * (3 - delay)


@BOTH
def test_a_world_that_breaks_ends_the_collection_with_an_error(tmp_path, ahead):
    run = toy.run(tmp_path, SAC, make=partial(toy.Reach, fail_at=3))
    with pytest.raises(Exception, match=r"(?s)the toy broke|died|terminated"):
        collect(run, 1, ahead)


@BOTH
def test_dict_observations_arrive_leaf_by_leaf(tmp_path, ahead):
    from robo_offline.encoders.state import State
    from robo_offline.engine.learner import Learner
    from robo_offline.spec import Spec

    run = toy.run(tmp_path, SAC, make=toy.make_nested)
    spec = Spec.of(toy.make_nested())
    run.learner = Learner(SAC.create(spec, partial(State, spec), hidden=(8,)))
    rows, _ = collect(run, 1, ahead)[0]
    assert rows["observation", "position"].shape == (len(rows), 2)
