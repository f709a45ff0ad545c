"""What a policy looks at: the images of its own episode, one per step, and nothing half noted."""

from __future__ import annotations

from dataclasses import replace

import bundles
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from real_robot.runtime import Camera, Contract, Leaf, Part
from real_robot.runtime.history import History
from real_robot.runtime.refused import ObservationRefused

SHAPE = (3, 2, 2)


def seeing(frames: int) -> Contract:
    plain = bundles.contract()
    pixels = (Part("wrist", 12, "1", "c", 1.0),)
    leaf = Leaf("wrist", SHAPE, "uint8", (0.0,), (255.0,), pixels, None, frames)
    camera = Camera("wrist", 2, 2, "CHW", "RGB")
    return replace(plain, observation=(*plain.observation, leaf), cameras=(camera,))


def observation(step: int) -> dict[str, np.ndarray]:
    return {**bundles.observation(step), "wrist": np.full(SHAPE, step, np.uint8)}


@given(
    frames=st.integers(1, 4), lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4),
)  # fmt: skip
def test_a_stack_never_reaches_into_the_episode_before(frames, lengths):
    history, step = History(seeing(frames)), 0
    for length in lengths:
        history.begin()
        first = step
        for step in range(first, first + length):
            seen = history.add(observation(step))
            expected = [max(first, step - back) for back in reversed(range(frames))]
            assert seen["wrist"].shape == (3 * frames, 2, 2)
            assert seen["wrist"][::3, 0, 0].tolist() == expected
            assert np.array_equal(seen["position"], observation(step)["position"])
        step += 1


def test_an_image_that_is_written_over_stays_as_it_was_seen():
    history = History(seeing(2))
    shown = observation(1)
    history.add(shown)
    shown["wrist"][:] = 9
    assert history.add(shown)["wrist"][::3, 0, 0].tolist() == [1, 9]


@pytest.mark.parametrize("broken", ["nan", "missing", "shape"])
def test_of_a_refused_observation_nothing_is_noted(broken):
    history = History(seeing(2))
    history.add(observation(1))
    bad = observation(2)
    if broken == "nan":
        bad["position"][0] = np.nan
    elif broken == "missing":
        del bad["velocity"]
    else:
        bad["wrist"] = np.zeros((3, 2, 3), np.uint8)
    with pytest.raises(ObservationRefused):
        history.add(bad)
    assert history.add(observation(3))["wrist"][::3, 0, 0].tolist() == [1, 3]
