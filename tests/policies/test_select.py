"""Who acts: candidates, the guide and the learner, and what each of them may see."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
import toy
from torch import nn

from robo_offline.algos.awac import AWAC
from robo_offline.algos.bc import BC
from robo_offline.algos.iql import IQL
from robo_offline.algos.sac import SAC
from robo_offline.algos.td3_bc import TD3BC
from robo_offline.algos.td3_sil import TD3SIL
from robo_offline.errors import UserError
from robo_offline.policies.policy import Policy
from robo_offline.policies.select import Expansion, JumpStart, Optimistic, Own, RandomJumpStart
from robo_offline.replay.buffer import Replay, Window

OBSERVATION = torch.zeros(1, 4)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def make(cls=SAC, chunk=1):
    return cls.create(toy.spec(), toy.encoder(), hidden=(8,), chunk=chunk).eval()


class Likes(nn.Module):
    """A critic of two members that disagree: their mean likes actions near a point."""

    def __init__(self, point: float):
        super().__init__()
        self.point = point

    def forward(self, observation, action):  # (B, K, *A) -> (2, B, K)
        q = -(action.flatten(2) - self.point).square().sum(-1)
        return torch.stack([q + 5.0, q - 5.0])


def summary(value: float, guided: float = 0.0) -> dict[str, float]:
    return {"return": value, "success": float(value > 0), "length": 10.0, "guided": guided}


@pytest.mark.parametrize("chunk", [1, 3])
def test_optimism_executes_the_candidate_that_the_mean_of_the_members_likes(chunk):
    algo = make(chunk=chunk)
    algo.critic = Likes(0.5)
    acting = Optimistic(candidates=500, noise=0.5)
    chosen, guided = acting.decide(algo, OBSERVATION, True, 0)
    mode = algo.act(OBSERVATION, False)
    assert chosen.shape == mode.shape and not guided
    assert (chosen - 0.5).square().sum() < (mode - 0.5).square().sum()
    assert chosen.abs().max() <= 1


def test_optimism_never_does_worse_by_the_critic_than_the_policy_itself():
    algo = make()
    mode = algo.act(OBSERVATION, False)
    algo.critic = Likes(float(mode[0, 0]))
    acting = Optimistic(candidates=1, noise=0.5)
    assert torch.equal(acting.decide(algo, OBSERVATION, True, 0)[0], mode)


def test_optimism_is_for_exploring_only():
    algo, acting = make(), Optimistic(candidates=10, noise=1.0)
    assert torch.equal(acting.decide(algo, OBSERVATION, False, 0)[0], algo.act(OBSERVATION, False))


@pytest.mark.parametrize("acting", [Optimistic(5, 0.1), Expansion(10.0)])
def test_a_choice_that_asks_a_critic_refuses_an_algorithm_without_one(acting):
    with pytest.raises(UserError, match="BC has none"):
        acting.begin(make(BC), None)


def expansion(kappa: float, point: float = 0.9):
    algo, acting = make(), Expansion(kappa)
    with torch.no_grad():
        acting.begin(algo, None)
        algo.actor.net[-1].bias += 3.0  # the learner has moved towards the upper bound
    algo.critic = Likes(point)
    return algo, acting


def test_expansion_prefers_whom_the_critic_prefers():
    algo, acting = expansion(kappa=100.0)
    assert not acting.decide(algo, OBSERVATION, False, 0)[1]
    algo.critic = Likes(float(acting.guide.act(OBSERVATION, False).mean()))
    action, guided = acting.decide(algo, OBSERVATION, False, 0)
    assert guided and torch.equal(action, acting.guide.act(OBSERVATION, False))


def test_expansion_without_inverse_temperature_tosses_a_coin():
    algo, acting = expansion(kappa=0.0)
    share = sum(acting.decide(algo, OBSERVATION, True, 0)[1] for _ in range(400)) / 400
    assert share == pytest.approx(0.5, abs=0.1)


def test_the_guide_of_an_expansion_stays_as_it_was():
    algo, acting = expansion(kappa=1.0)
    assert not torch.equal(acting.guide.actor.net[-1].bias, algo.actor.net[-1].bias)
    assert not any(p.requires_grad for p in acting.guide.parameters())


@pytest.mark.parametrize("kappa", [0.0, 2.0, 50.0])
def test_an_expansion_draws_by_a_softmax_of_the_lowest_values_row_by_row(kappa):
    algo, acting = expansion(kappa)
    algo.act = lambda observation, explore: torch.full((len(observation), 2), 0.3)
    acting.guide.act = lambda observation, explore: torch.linspace(0, 1, 4)[:, None].expand(4, 2)
    observation = torch.randn(4, 4)
    drawn = [acting.choose(algo, observation, True) for _ in range(2000)]
    share = torch.stack([by_guide for _, by_guide in drawn]).double().mean(0).numpy()
    guide, own = (-2 * (np.array(a) - 0.9) ** 2 - 5 for a in (np.linspace(0, 1, 4), [0.3] * 4))
    assert share == pytest.approx(1 / (1 + np.exp(kappa * (own - guide))), abs=0.04)
    for action, by_guide in drawn[:50]:
        expected = torch.where(by_guide[:, None], acting.guide.act(None, True), 0.3)
        assert torch.equal(action, expected)


@pytest.mark.parametrize("cls", [IQL, SAC, TD3BC, TD3SIL])
def test_an_expansion_begins_with_a_new_actor_beside_what_was_learned(cls):
    algo, acting = cls.create(toy.spec(), toy.encoder(), action_scale=torch.ones(2)), Expansion(1.0)
    for parameter in algo.parameters():  # as if trained
        parameter.add_(10.0)
    before = copy.deepcopy(algo.state_dict())
    acting.begin(algo, None)
    slow = [name for name, followed in algo.targets.items() if followed == "actor"]
    for key, value in algo.state_dict().items():
        assert torch.equal(acting.guide.state_dict()[key], before[key]), key
        renewed = key.split(".")[0] in ("actor", *slow) and "encoder" not in key
        assert torch.equal(value, before[key]) != renewed, key
    for name in slow:
        ours, theirs = getattr(algo, name).state_dict(), algo.actor.state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_chunk_that_is_drawn_has_no_filler():
    algo, acting = make(IQL, chunk=3), Expansion(1.0)
    acting.begin(algo, None)
    replay = Replay.of_steps(toy.dataset(3).steps, Window(0.9, chunk=3))
    batch = replay.gather(replay.starts)
    redrawn = acting.redraw(algo, batch)
    assert not batch["mask"].all() and redrawn["mask"].all()
    assert redrawn["action"].shape == batch["action"].shape
    assert redrawn["action"].abs().max() <= 1


@pytest.mark.parametrize(("cls", "expected"), [(IQL, True), (AWAC, True), (SAC, False)])
def test_an_expansion_redraws_what_is_imitated_and_nothing_else_does(cls, expected):
    assert Expansion(1.0).redraws(make(cls)) == expected
    assert not any(choice.redraws(make(cls)) for choice in (Own(), Optimistic(5, 0.1)))


def jump_start(**changes) -> JumpStart:
    values = {"horizon": 9, "stages": 4, "window": 2, "tolerance": 0.1, "minimum": 0.0}
    return JumpStart(**{**values, **changes})


def test_the_guide_walks_first_and_the_learner_goes_on():
    algo, acting = make(BC), jump_start()
    acting.begin(algo, None)
    guided = [acting.decide(algo, OBSERVATION, True, time)[1] for time in range(12)]
    assert guided == [True] * 9 + [False] * 3


def test_the_guided_part_shrinks_stage_by_stage_to_nothing():
    acting, seen = jump_start(), []
    for _ in range(10):
        acting.after_episode(summary(1.0))
        seen.append(acting.guided_steps)
    assert seen == [9, 6, 6, 3, 3, 0, 0, 0, 0, 0]


def test_a_window_that_is_not_full_or_too_bad_moves_nothing():
    acting = jump_start()
    for value in (1.0, 1.0, 0.5, 0.5, 0.5):  # one stage, then half of the best
        acting.after_episode(summary(value))
    assert acting.guided_steps == 6


def test_a_success_rate_of_zero_is_no_reason_to_advance():
    acting = jump_start()
    for _ in range(10):
        acting.after_episode(summary(0.0))
    assert acting.guided_steps == 9


def test_a_negative_best_is_judged_by_its_size():
    acting = jump_start(minimum=-math.inf)
    for value in (-100.0, -100.0, -109.0, -109.0):
        acting.after_episode(summary(value))
    assert acting.guided_steps == 3
    for value in (-111.0, -111.0):
        acting.after_episode(summary(value))
    assert acting.guided_steps == 3


def test_the_learner_alone_is_what_is_evaluated():
    algo, acting = make(BC), jump_start()
    acting.begin(algo, None)
    assert not acting.decide(algo, OBSERVATION, False, 0)[1]


def test_a_random_jump_start_draws_every_length_with_its_bounds():
    acting, drawn = RandomJumpStart(3), set()
    for _ in range(200):
        acting.begin_episode()
        drawn.add(acting.drawn)
    assert drawn == {0, 1, 2, 3}


@pytest.mark.parametrize("values", [{"horizon": 0}, {"stages": 1}, {"window": 0}])
def test_a_jump_start_without_sense_is_refused(values):
    with pytest.raises(UserError, match="jump start"):
        jump_start(**values)


def test_a_policy_tells_who_acted_and_when_over_whole_chunks():
    acting = jump_start(horizon=4)
    algo = make(IQL, chunk=3)
    acting.begin(algo, None)
    policy, who = Policy(algo, explore=True, acting=acting), []
    for _ in range(9):
        policy.act(OBSERVATION[0].numpy())
        who.append(policy.guided)
    assert who == [True] * 6 + [False] * 3  # a chunk that began is finished


def test_a_state_travels_through_a_checkpoint():
    algo, first, second = make(BC), jump_start(), jump_start()
    first.begin(algo, None)
    for _ in range(3):
        first.after_episode(summary(1.0))
    second.restore(make(BC))
    second.load_state_dict(first.state_dict())
    assert second.guided_steps == first.guided_steps == 6
    assert torch.equal(second.guide.act(OBSERVATION, False), algo.act(OBSERVATION, False))


def test_by_itself_a_policy_acts_as_its_algorithm_does():
    algo = make(BC)
    action, guided = Own().decide(algo, OBSERVATION, False, 0)
    assert torch.equal(action, algo.act(OBSERVATION, False)) and not guided
