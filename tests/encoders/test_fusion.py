"""Cameras and vectors as one feature: what is joined, what is shared, and who sees what."""

from __future__ import annotations

import copy
from functools import cache, partial

import pictures
import pytest
import torch
import toy
from gymnasium.spaces import Box, Dict
from hydra.utils import instantiate
from tensordict import TensorDict

from robo_offline.algos.bc import BC
from robo_offline.algos.iql import IQL
from robo_offline.algos.rorl import RORL
from robo_offline.algos.sac import SAC
from robo_offline.algos.td3 import TD3
from robo_offline.algos.td7 import TD7
from robo_offline.config import compose
from robo_offline.encoders.movable import Movable
from robo_offline.encoders.noisy import Noisy
from robo_offline.encoders.state import State
from robo_offline.engine.learner import Learner, load_algorithm
from robo_offline.errors import UserError
from robo_offline.policies.policy import Policy
from robo_offline.spec import Spec

TINY = ("encoder.camera.backbone.width=4", "encoder.camera.head.dim=5")


@cache
def values(name: str, overrides: tuple[str, ...]):
    return compose([f"encoder={name}", *(TINY if name == "drq" else ()), *overrides]).encoder


def maker(*overrides: str, spec: Spec | None = None, name: str = "drq"):
    make = instantiate(values(name, overrides), _partial_=True)
    return partial(make, spec=spec or pictures.spec(), statistics=None)


def with_goal(goal) -> Spec:
    return pictures.spec().with_goal(goal)


def seen(spec: Spec, rows: int = 3) -> TensorDict:
    """Random observations that fit a spec, goals included."""
    leaves = {}
    for key, leaf in spec.observation.items(include_nested=True, leaves_only=True):
        shape = (rows, *leaf.shape)
        image = leaf.dtype == torch.uint8
        value = torch.randint(0, 256, shape, dtype=torch.uint8) if image else torch.randn(shape)
        leaves[key] = value
    return TensorDict(leaves, [rows])["observation"]


# -- what is joined ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "narrow"),
    [
        ("drq", []),
        ("sac_ae", ["backbone.width=4"]),
        ("impala", ["head.hidden=[8]"]),
        ("impala_large", ["backbone.widths=[4,8]", "head.hidden=[8]"]),
        ("resnet10", ["backbone.width=8", "view.resize=64"]),
        ("resnet18", ["backbone.width=16", "view.crop=36"]),
    ],
)
def test_every_encoder_that_learns_from_nothing_builds_and_sees_all_leaves(name, narrow):
    narrow = [f"encoder.camera.{each}" for each in narrow]
    spec = Spec.of(pictures.Pictures(toy.Reach(), size=40))
    encoder, observation = maker(*narrow, name=name, spec=spec)().eval(), seen(spec, 2)
    feature = encoder(observation)
    assert feature.shape == (2, encoder.dim)
    for key in pictures.spec().observation["observation"]:
        changed = observation.clone()
        changed[key] = observation[key].flip(0)
        assert not torch.allclose(encoder(changed), feature), key


def test_the_feature_is_every_cameras_and_then_the_vectors():
    encoder, observation = maker()(), pictures.observation()
    parts = [encoder.cameras[f"camera_{name}"](observation[name]) for name in pictures.CAMERAS]
    expected = torch.cat([*parts, observation["state"]], -1)
    assert torch.allclose(encoder(observation), expected, atol=1e-6)
    assert encoder.dim == 5 + 5 + 4


def test_statistics_normalise_the_vectors():
    statistics = {"observation.state": (torch.full((4,), 2.0), torch.full((4,), 3.0))}
    encoder, observation = maker()(statistics=statistics), pictures.observation()
    expected = State(only_state(), {"observation": statistics["observation.state"]})
    assert torch.allclose(encoder(observation)[:, -4:], expected(observation["state"]))


def only_state() -> Spec:
    return Spec.from_spaces(Box(-1, 1, (4,)), Box(-1, 1, (2,)))


def test_vectors_can_have_a_layer_of_their_own():
    encoder = maker("encoder.vector_dim=7")()
    assert encoder.dim == 5 + 5 + 7
    assert encoder(pictures.observation())[:, -7:].abs().max() <= 1


def test_an_observation_that_is_one_image_needs_no_name():
    spec = Spec.from_spaces(Box(0, 255, (3, 20, 20), "uint8"), Box(-1, 1, (2,)))
    encoder = maker(spec=spec)()
    assert encoder(torch.randint(0, 256, (3, 3, 20, 20), dtype=torch.uint8)).shape == (3, 5)


def test_stacked_frames_are_more_channels():
    encoder = maker(spec=pictures.spec().stacked(3))()
    assert encoder.cameras["camera_front"].backbone[0].in_channels == 9


def test_a_camera_and_its_goal_are_one_image_and_a_goals_vector_another_vector():
    spec = with_goal({"front": None, "state": (0, 1)})
    encoder, observation = maker(spec=spec)(), seen(spec)
    assert encoder.cameras["camera_front"].backbone[0].in_channels == 6
    assert encoder.cameras["camera_wrist"].backbone[0].in_channels == 3
    assert encoder.dim == 5 + 5 + 4 + 2
    both = torch.cat([observation["front"], observation["goal", "front"]], 1)
    found = encoder.cameras["camera_front"](both)
    assert torch.equal(encoder(observation)[:, :5], found)


def test_a_part_of_the_spec_reads_its_leaves_of_whole_observations():
    spec = with_goal({"front": None, "state": None})
    observation = seen(spec)
    state, goal = (maker(spec=part)() for part in (spec.without_goal(), spec.only_goal()))
    assert (state.dim, goal.dim) == (14, 9)
    moved = observation.clone()
    moved["goal", "front"] = observation["goal", "front"].flip(0)
    assert torch.equal(state(observation), state(moved))
    assert not torch.equal(goal(observation), goal(moved))


# -- what is shared ----------------------------------------------------------------------------


def test_cameras_share_their_weights_where_they_are_told_to():
    encoder, observation = maker("encoder.share_cameras=true")(), pictures.observation()
    observation["wrist"] = observation["front"]
    feature = encoder(observation)
    assert torch.allclose(feature[:, :5], feature[:, 5:10], atol=1e-6)
    assert len(list(encoder.parameters())) == len(list(maker()().parameters())) / 2


def test_cameras_of_different_shapes_cannot_share():
    other = Spec.from_spaces(
        Dict({"a": Box(0, 255, (3, 20, 20), "uint8"), "b": Box(0, 255, (3, 24, 20), "uint8")}),
        Box(-1, 1, (2,)),
    )
    with pytest.raises(UserError, match=r"(?s)share_cameras=false.*\(3, 24, 20\)"):
        maker("encoder.share_cameras=true", spec=other)()


def batch(rows: int = 4) -> TensorDict:
    zeros = torch.zeros(rows, dtype=torch.bool)
    following = {"observation": pictures.observation(rows), "reward": torch.randn(rows),
                 "terminated": zeros, "truncated": zeros, "done": zeros}  # fmt: skip
    return TensorDict(
        {"observation": pictures.observation(rows), "action": torch.rand(rows, 2),
         "discount": torch.full((rows,), 0.9), "next": following}, [rows],
    )  # fmt: skip


@pytest.mark.parametrize("cls", [SAC, TD3, IQL])
def test_the_critics_convolutions_move_with_the_critic_alone_and_others_read_them(cls):
    algo = cls.create(pictures.spec(), maker(), hidden=(8,))
    learner, observation = Learner(algo), pictures.observation()
    weight = algo.critic.encoder.cameras["camera_front"].backbone[0].weight
    assert not any("backbone" in name for name, _ in algo.actor.named_parameters())
    before, acted = weight.clone(), algo.actor.mode(observation)
    learner.update_count = 2  # of TD3, one that is due for the actor
    learner.step("actor", batch())
    assert torch.equal(before, weight)
    assert not torch.equal(acted, algo.actor.mode(observation))  # its own head learned
    learner.step("critic", batch())
    assert not torch.equal(before, weight)
    with torch.no_grad():
        acted = algo.actor.mode(observation)
        weight.zero_()
        assert not torch.equal(acted, algo.actor.mode(observation))


def test_slow_critics_keep_slow_convolutions_and_slow_actors_read_the_critics():
    algo = TD3.create(pictures.spec(), maker(), hidden=(8,), tau=0.5)
    slow = algo.target_critic.encoder.cameras["camera_front"].backbone[0].weight
    fast = algo.critic.encoder.cameras["camera_front"].backbone[0].weight
    assert slow is not fast
    lent = algo.target_actor.encoder.cameras["camera_front"].lent[0]
    assert lent is algo.critic.encoder.cameras["camera_front"].backbone
    learner = Learner(algo)
    for _ in range(4):
        learner.update(batch())
    assert not torch.equal(slow, fast)


def test_a_copied_algorithm_reads_the_convolutions_of_its_own_critic():
    algo = SAC.create(pictures.spec(), maker(), hidden=(8,))
    again = copy.deepcopy(algo)
    lent = again.actor.encoder.cameras["camera_front"].lent[0]
    assert lent is again.critic.encoder.cameras["camera_front"].backbone
    assert lent is not algo.critic.encoder.cameras["camera_front"].backbone


def test_without_a_critic_or_unless_it_is_asked_for_every_network_has_its_own():
    cloned = BC.create(pictures.spec(), maker(), hidden=(8,))
    assert any("backbone" in name for name, _ in cloned.actor.named_parameters())
    apart = SAC.create(pictures.spec(), maker("encoder.critic_trains=false"), hidden=(8,))
    assert any("backbone" in name for name, _ in apart.actor.named_parameters())


@pytest.mark.parametrize("cls", [RORL, TD7])
def test_algorithms_that_wrap_or_embed_their_encoders_learn_from_pixels(cls):
    algo = cls.create(pictures.spec(), maker(), hidden=(8,), action_scale=torch.ones(2))
    metrics = Learner(algo).update(batch())
    assert metrics and all(value.isfinite() for value in metrics.values())


# -- who sees what -----------------------------------------------------------------------------


def test_critics_may_see_the_state_and_the_policy_then_needs_none():
    make = maker("encoder.critic_sees=[state]")
    algo = IQL.create(pictures.spec(), make, hidden=(8,))
    for critic in (algo.critic, algo.value, algo.target_critic):
        assert critic.encoder.dim == 4 and not critic.encoder.images
    assert algo.actor.encoder.dim == 10
    images = {k: v for k, v in pictures.observation().items() if k != "state"}
    policy = Policy(algo)
    action = policy.act({key: value[0].numpy() for key, value in images.items()}, explore=False)
    assert action.shape == (2,)
    assert all(v.isfinite() for v in Learner(algo).update(batch()).values())


def test_a_leaf_may_be_for_both():
    make = maker("encoder.critic_sees=[state]", "encoder.policy_sees=[front,state]")
    encoder = make()
    assert (encoder.dim, encoder.privileged().dim) == (5 + 4, 4)
    assert list(encoder.images) == ["front"]


def test_critics_may_see_cameras_that_the_policy_does_not():
    encoder = maker("encoder.critic_sees=[front,state]")()
    assert list(encoder.images) == ["wrist"] and list(encoder.privileged().images) == ["front"]


@pytest.mark.parametrize("wrap", [Movable, partial(Noisy, std=0.1)])
def test_a_wrapped_encoder_is_privileged_as_what_it_wraps_is(wrap):
    assert wrap(maker("encoder.critic_sees=[state]")()).privileged().dim == 4
    plain = wrap(maker()())
    assert plain.privileged() is plain


def test_td7s_critic_sees_more_than_its_embedding():
    algo = TD7.create(pictures.spec(), maker("encoder.critic_sees=[state]"), hidden=(8,),
                      action_scale=torch.ones(2))  # fmt: skip
    assert algo.critic.encoder.dim == 4 and algo.encoder.encoder.dim == 10


def test_a_name_covers_the_goals_leaf_of_that_name():
    spec = with_goal({"front": None, "state": (0, 1)})
    encoder = maker("encoder.critic_sees=[state]", spec=spec)()
    assert (encoder.dim, encoder.privileged().dim) == (10, 6)


def test_a_goal_that_a_network_would_not_be_told_is_refused():
    spec = with_goal({"state": (0, 1)})
    with pytest.raises(UserError, match=r"not told the goal"):
        maker("encoder.critic_sees=[state]", spec=spec)()
    told = maker("encoder.critic_sees=[state]", "encoder.policy_sees=[front,goal]", spec=spec)()
    assert told.dim == 5 + 2


def test_a_misspelt_leaf_is_refused_with_those_that_are_there():
    with pytest.raises(UserError, match=r"(?s)no leaf 'stat'.*front, state, wrist"):
        maker("encoder.critic_sees=[stat]")()


# -- checkpoints -------------------------------------------------------------------------------


def state_of(make) -> dict:
    return Learner(SAC.create(pictures.spec(), make, hidden=(8,))).state_dict()


def test_a_checkpoint_of_another_encoder_is_refused_with_both_shapes():
    algo = SAC.create(pictures.spec(), maker(), hidden=(8,))
    with pytest.raises(UserError, match=r"(?s)does not fit SAC.*camera"):
        load_algorithm(algo, state_of(maker("encoder.camera.backbone.width=6")))
    with pytest.raises(UserError, match=r"(?s)does not fit SAC.*absent"):
        load_algorithm(algo, state_of(maker("encoder.camera.backbone.layers=3")))


def test_a_checkpoint_for_other_cameras_of_the_same_size_is_refused():
    other = Spec.of(pictures.make_other_camera())
    theirs = Learner(SAC.create(other, maker(spec=other), hidden=(8,))).state_dict()
    algo = SAC.create(pictures.spec(), maker(), hidden=(8,))
    with pytest.raises(UserError, match=r"(?s)does not fit SAC.*camera_(side|wrist)"):
        load_algorithm(algo, theirs)
