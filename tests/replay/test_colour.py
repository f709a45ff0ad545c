"""Grey and hue against Python's own colours."""

from __future__ import annotations

import colorsys

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from robo_offline.replay.colour import hue_turned, to_grey

COLOUR = st.tuples(*[st.integers(0, 255)] * 3)


@given(COLOUR, st.floats(-2, 2))
def test_a_turned_hue_keeps_value_and_saturation(colour, turns):
    rgb = np.array(colour) / 255
    hue, saturation, value = colorsys.rgb_to_hsv(*rgb)
    expected = colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value)
    frame = torch.tensor(rgb, dtype=torch.float64).view(1, 3, 1, 1)
    found = hue_turned(frame, torch.tensor(turns, dtype=torch.float64).view(1, 1, 1, 1))
    assert np.allclose(found.flatten().numpy(), expected, atol=1e-4)


def test_grey_is_the_luma_and_has_no_hue_to_turn():
    grey = to_grey(torch.tensor([1.0, 0.5, 0.25]).view(3, 1, 1))
    assert torch.allclose(grey, torch.tensor(0.299 + 0.5 * 0.587 + 0.25 * 0.114))
    frame = grey.expand(3, 1, 1)
    assert torch.equal(hue_turned(frame, torch.full((1, 1, 1), 0.3)), frame)
