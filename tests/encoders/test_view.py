"""What is done to an image before a network looks at it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robo_offline.encoders.view import View
from robo_offline.errors import UserError

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
PLAIN = {"resize": 0, "crop": 0, "mean": [0.0] * 3, "std": [1.0] * 3, "bicubic": False}


def images(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def test_pixels_are_scaled_per_colour_in_every_frame_of_a_stack():
    image = images(2, 6, 8, 8)
    view = View((6, 8, 8), **{**PLAIN, **IMAGENET})
    x = image.numpy().astype(np.float64).reshape(2, 2, 3, 8, 8) / 255
    mean, std = (np.array(IMAGENET[k]).reshape(3, 1, 1) for k in ("mean", "std"))
    assert np.allclose(view(image).numpy(), ((x - mean) / std).reshape(2, 6, 8, 8), atol=1e-5)


def test_drq_looks_at_pixels_from_minus_a_half_to_a_half():
    view = View((3, 8, 8), **{**PLAIN, "mean": [0.5] * 3})
    ends = torch.stack([torch.zeros(3, 8, 8), torch.full((3, 8, 8), 255)]).to(torch.uint8)
    assert torch.allclose(view(ends)[0], torch.tensor(-0.5))
    assert torch.allclose(view(ends)[1], torch.tensor(0.5))


def test_a_crop_is_the_centre_and_a_batch_that_was_cropped_passes():
    view = View((3, 84, 84), **{**PLAIN, "crop": 76})
    image = images(2, 3, 84, 84)
    assert torch.equal(view(image), view(image[..., 4:80, 4:80].contiguous()))
    assert view.shape == (3, 76, 76)


def test_the_shorter_side_is_resized_and_the_middle_of_the_longer_stays():
    view = View((3, 40, 60), **{**PLAIN, "resize": 20, "crop": 20})
    assert view(images(2, 3, 40, 60)).shape == (2, 3, 20, 20)
    flat = View((3, 40, 60), **{**PLAIN, "resize": 20})
    assert flat(images(2, 3, 40, 60)).shape == (2, 3, 20, 30) == (2, *flat.shape)


@given(st.integers(5, 40), st.integers(5, 40), st.integers(0, 30), st.booleans())
def test_any_size_is_resized_as_announced(height, width, resize, bicubic):
    view = View((3, height, width), **{**PLAIN, "resize": resize, "bicubic": bicubic})
    assert view(images(1, 3, height, width)).shape[1:] == view.shape
    assert min(view.shape[1:]) == (resize or min(height, width))


@pytest.mark.parametrize("shape", [(84, 84, 3), (4, 84, 84), (1, 84, 84), (60, 80, 4)])
def test_channels_that_are_not_first_or_not_colours_are_refused(shape):
    with pytest.raises(UserError, match="channels first") as raised:
        View(shape, **PLAIN)
    assert str(shape) in str(raised.value)


def test_an_image_of_another_size_is_refused_with_both_sizes():
    view = View((3, 84, 84), **PLAIN)
    with pytest.raises(UserError, match=r"(?s)\(84, 84\).*\(64, 64\)"):
        view(images(2, 3, 64, 64))


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(UserError, match="at most 20"):
        View((3, 20, 30), **{**PLAIN, "crop": 76})
