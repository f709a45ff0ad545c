"""What does not fit is told before anything moves: every mutation of the robot's side, by name."""

from __future__ import annotations

import re
from dataclasses import replace

import bundles
import pytest

from real_robot.runtime import BundleRefused, Camera, Contract, Leaf, Part
from real_robot.runtime.contract import Action

WRIST = Leaf(
    "wrist", (3, 4, 5), "uint8", (0.0,), (255.0,), (Part("wrist", 60, "1", "c", 1.0),), None
)
CAMERA = Camera("wrist", 4, 5, "CHW", "RGB")


def seeing() -> Contract:
    plain = bundles.contract()
    return replace(plain, observation=(*plain.observation, WRIST), cameras=(CAMERA,))


def with_leaf(contract: Contract, index: int, cameras=None, **changes) -> Contract:
    leaves = list(contract.observation)
    leaves[index] = replace(leaves[index], **changes)
    cameras = contract.cameras if cameras is None else cameras
    return replace(contract, observation=tuple(leaves), cameras=cameras)


def with_part(contract: Contract, **changes) -> Contract:
    first, *rest = contract.observation[0].parts
    return with_leaf(contract, 0, parts=(replace(first, **changes), *rest))


def with_action(contract: Contract, **changes) -> Contract:
    return replace(contract, action=replace(contract.action, **changes))


def with_action_part(contract: Contract, **changes) -> Contract:
    return with_action(contract, parts=(replace(contract.action.parts[0], **changes),))


MUTATIONS = {
    "a renamed camera": (
        lambda c: with_leaf(c, 2, key="hand", cameras=(replace(CAMERA, name="hand"),)),
        "camera hand",
    ),
    "a dropped key": (lambda c: replace(c, observation=c.observation[1:]), "position"),
    "a further key": (
        lambda c: replace(c, observation=(*c.observation, replace(c.observation[0], key="force"))),
        "force",
    ),
    "BGR": (lambda c: replace(c, cameras=(replace(CAMERA, channels="BGR"),)), "channels"),
    "a larger image": (
        lambda c: with_leaf(
            c,
            2,
            shape=(3, 4, 6),
            parts=(Part("wrist", 72, "1", "c", 1.0),),
            cameras=(replace(CAMERA, width=6),),
        ),
        "width",
    ),
    "channels last": (
        lambda c: with_leaf(c, 2, shape=(4, 5, 3), cameras=(replace(CAMERA, layout="HWC"),)),
        "layout",
    ),
    "degrees": (lambda c: with_part(c, units="deg"), "position.parts\\[0\\].units"),
    "millimetres": (lambda c: with_part(c, scale=1e-3), "position.parts\\[0\\].scale"),
    "another frame": (lambda c: with_part(c, frame="base"), "position.parts\\[0\\].frame"),
    "swapped numbers": (
        lambda c: with_leaf(c, 0, parts=c.observation[0].parts[::-1]),
        "position.parts\\[0\\].name",
    ),
    "another shape": (lambda c: with_leaf(c, 0, shape=(2, 1)), "position.shape"),
    "an action in degrees": (lambda c: with_action_part(c, units="deg"), "action.parts"),
    "an action of another scale": (lambda c: with_action_part(c, scale=0.4), "action.parts"),
    "an action in another frame": (lambda c: with_action_part(c, frame="tool"), "action.parts"),
    "absolute positions": (lambda c: with_action(c, mode="position"), "action.mode"),
    "one number less": (
        lambda c: replace(
            c,
            action=Action(1, 3, "position delta", (-1.0,), (1.0,), (Part("s", 1, "m", "t", 1.0),)),
        ),
        "action.dim",
    ),
    "10 Hz": (lambda c: replace(c, rate_hz=10.0), "rate_hz"),
    "another robot": (lambda c: replace(c, descriptor_hash="b" * 64), "descriptor_hash"),
    "no robot in particular": (lambda c: replace(c, descriptor_hash=None), "descriptor_hash"),
}


def test_a_robot_that_fits_has_no_difference():
    assert seeing().differences(seeing()) == []


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_robot_that_does_not_fit_is_told_where(name):
    mutate, where = MUTATIONS[name]
    found = seeing().differences(mutate(seeing()))
    assert any(re.search(where, line) for line in found), found


def test_a_key_that_no_data_normalised_is_a_difference():
    bare = with_leaf(seeing(), 0, normaliser=None)
    assert bare.differences(seeing()) == ["position: no data has normalised it"]
    statistics = seeing().observation[0].normaliser
    constant = with_leaf(seeing(), 0, normaliser=replace(statistics, covered=0))
    assert constant.differences(seeing()) == ["position: no data has normalised it"]


def test_bounds_and_statistics_are_the_policy_s_own():
    robot = with_leaf(seeing(), 0, normaliser=None, low=(-1.0,), high=(1.0,))
    assert seeing().differences(robot) == []


def test_a_policy_for_any_robot_fits_every_one_that_sees_and_does_the_same():
    anywhere = replace(seeing(), descriptor_hash=None)
    assert anywhere.differences(seeing()) == []


SENSELESS = {
    "the same key twice": lambda c: replace(c, observation=(c.observation[0],) * 2, cameras=()),
    "parts that do not add up": lambda c: with_leaf(c, 0, parts=(Part("x", 3, "m", "b", 1.0),)),
    "a camera without an image": lambda c: replace(c, observation=c.observation[:2]),
    "an image without a camera": lambda c: replace(c, cameras=()),
    "a camera of another size": lambda c: replace(c, cameras=(replace(CAMERA, height=9),)),
    "no rate": lambda c: replace(c, rate_hz=0.0),
    "bounds the wrong way round": lambda c: with_action(c, low=(1.0, 1.0), high=(-1.0, -1.0)),
    "a hash that is none": lambda c: replace(c, descriptor_hash="robot"),
    "a type that no sensor has": lambda c: with_leaf(c, 0, dtype="object"),
    "an endless shape": lambda c: with_leaf(c, 0, shape=(2**14, 2**14)),
    "a negative deviation": lambda c: with_leaf(
        c, 0, normaliser=replace(c.observation[0].normaliser, std=(-1.0, 1.0))
    ),
}


@pytest.mark.parametrize("name", SENSELESS)
def test_a_contract_without_sense_cannot_be_made(name):
    with pytest.raises(BundleRefused, match="makes no sense"):
        SENSELESS[name](seeing())


def test_a_robot_shows_single_images_to_a_policy_that_looks_at_several():
    robot = seeing()
    policy = with_leaf(robot, 2, frames=3)
    assert policy.differences(robot) == []
    seen = policy.stacked().observation[2]
    assert (seen.shape, seen.frames, seen.size) == ((9, 4, 5), 1, 180)
    assert policy.stacked().cameras[0].channels == "RGBRGBRGB"
    assert robot.stacked() == robot


@pytest.mark.parametrize(("index", "frames"), [(0, 2), (2, 0), (2, -1), (2, 65)])
def test_frames_are_a_number_of_images(index, frames):
    with pytest.raises(BundleRefused, match="makes no sense"):
        with_leaf(seeing(), index, frames=frames)
