"""Images of a batch that are varied: against NumPy, alike where they should be, no vectors."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from tensordict import TensorDict

from robo_offline.config import choices, compose
from robo_offline.errors import UserError
from robo_offline.replay.augment import (
    NO_AUGMENT,
    Augment,
    Crop,
    Jitter,
    ResizedCrop,
    Shift,
    SmoothShift,
    image_paths,
)

SHIFT = Augment((Shift(pad=4),), together=False, share=1.0)


def images(rows: int, channels: int = 3, height: int = 12, width: int = 12) -> torch.Tensor:
    return torch.randint(0, 256, (rows, channels, height, width), dtype=torch.uint8)


def batch(rows: int = 8) -> TensorDict:
    """A batch with two cameras, stacked frames, a goal, a subgoal and everything else."""

    def seen() -> dict[str, Any]:
        goal = {"front": images(rows)}
        return {"front": images(rows, 6), "wrist": images(rows, 6), "state": torch.randn(rows, 4),
                "goal": goal}  # fmt: skip

    return TensorDict(
        {"observation": seen(), "next": {"observation": seen(), "reward": torch.randn(rows)},
         "actor_goal": {"front": images(rows)}, "action": torch.rand(rows, 2),
         "source": torch.zeros(rows, dtype=torch.uint8)}, [rows],
    )  # fmt: skip


# -- each step against a reference ---------------------------------------------------------------


@settings(max_examples=25)
@given(st.integers(1, 5), st.integers(3, 12), st.integers(3, 12), st.integers(0, 2**31))
def test_a_shift_is_a_window_of_the_image_with_its_border_repeated(pad, height, width, seed):
    torch.manual_seed(seed)
    image, u = images(3, 2, height, width), torch.rand(3, 2)
    found = Shift(pad)(image, u)
    for row in range(3):
        padded = np.pad(image[row].numpy(), [(0, 0), (pad, pad), (pad, pad)], mode="edge")
        top, left = (int(float(x) * (2 * pad + 1)) for x in u[row])
        expected = padded[:, top : top + height, left : left + width]
        assert np.array_equal(found[row].numpy(), expected)


def test_a_shift_is_drqs_sampling_on_a_grid():
    image, u, pad, size = images(16, 3, 20, 20), torch.rand(16, 2), 4, 20
    padded = torch.nn.functional.pad(image.float(), (pad,) * 4, mode="replicate")
    whole = size + 2 * pad
    offset = (u * (2 * pad + 1)).long()  # (B, 2) of y and x
    centre = (2 * torch.arange(size) + 1) / whole - 1
    y = centre + 2 * offset[:, :1] / whole
    x = centre + 2 * offset[:, 1:] / whole
    grid = torch.stack([x[:, None].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], -1)
    sampled = torch.nn.functional.grid_sample(padded, grid, align_corners=False)
    assert torch.allclose(Shift(pad)(image, u).float(), sampled, atol=0.05)


def test_every_offset_of_a_shift_is_equally_likely():
    image = torch.arange(9, dtype=torch.uint8).repeat(1, 1, 9, 1)  # columns are numbered
    found = Shift(pad=4)(image.expand(9000, -1, -1, -1), torch.rand(9000, 2))
    counts = torch.bincount(found[:, 0, 4, 4].long(), minlength=9)
    assert (counts > 850).all() and (counts < 1150).all()


@settings(max_examples=25)
@given(st.integers(0, 2**31))
def test_a_smooth_shift_is_linear_between_pixels(seed):
    torch.manual_seed(seed)
    image, u = images(2, 1, 7, 9), torch.rand(2, 2)
    found = SmoothShift(pad=2)(image, u)
    for row in range(2):
        dy, dx = ((2 * u[row].numpy().astype(np.float64)) - 1) * 2
        x = image[row, 0].numpy().astype(np.float64)
        rows = np.stack([np.interp(np.arange(7) + dy, np.arange(7), c) for c in x.T], 1)
        both = np.stack([np.interp(np.arange(9) + dx, np.arange(9), r) for r in rows])
        assert np.abs(found[row, 0].numpy() - both).max() <= 0.52  # rounded to whole numbers


def test_a_smooth_shift_by_nothing_changes_nothing():
    image = images(3)
    assert torch.equal(SmoothShift(pad=4)(image, torch.full((3, 2), 0.5)), image)


@settings(max_examples=25)
@given(st.integers(1, 12), st.integers(0, 2**31))
def test_a_crop_is_a_part_of_the_image(size, seed):
    torch.manual_seed(seed)
    image, u = images(3, 2, 12, 14), torch.rand(3, 2)
    found = Crop(size)(image, u)
    for row in range(3):
        top, left = int(u[row, 0] * (13 - size)), int(u[row, 1] * (15 - size))
        assert torch.equal(found[row], image[row, :, top : top + size, left : left + size])


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(UserError, match="at most 12"):
        Crop(13)(images(2), torch.rand(2, 2))


def test_a_resized_crop_of_everything_changes_nothing():
    image = images(4, 3, 10, 14)
    whole = ResizedCrop(area=(1.0, 1.0), ratio=(1.0, 1.0))
    assert torch.equal(whole(image, torch.rand(4, 4)), image)


def test_a_resized_crop_of_a_quarter_shows_a_quarter():
    image = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    image[:, :, :8, :8] = 200
    step = ResizedCrop(area=(0.25, 0.25), ratio=(1.0, 1.0))
    corner = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    assert (step(image, corner)[..., :15, :15] == 200).all()
    far = torch.tensor([[0.5, 0.5, 1.0, 1.0]])
    assert (step(image, far)[..., 1:, 1:] == 0).all()


@settings(max_examples=25)
@given(st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 0.5),
       st.integers(0, 2**31))  # fmt: skip
def test_jitter_is_brightness_contrast_saturation_and_hue_in_turn(b, c, s, h, seed):
    torch.manual_seed(seed)
    image, u = images(2, 6, 3, 4), torch.rand(2, 4)
    found = Jitter(b, c, s, h)(image, u).numpy().astype(int)
    for row in range(2):
        for frame in (slice(0, 3), slice(3, 6)):
            expected = jittered(image[row, frame].numpy(), 2 * u[row].numpy() - 1, b, c, s, h)
            assert np.abs(found[row, frame] - expected).max() <= 1.01


def jittered(image: np.ndarray, by: np.ndarray, b: float, c: float, s: float, h: float):
    """The same pixel by pixel, with Python's own colours: (3, H, W) from 0 to 255."""
    luma = np.array([0.299, 0.587, 0.114])
    x = image.transpose(1, 2, 0).astype(np.float64) / 255
    x = np.clip(x * (1 + b * by[0]), 0, 1)
    mean = (x @ luma).mean()
    x = np.clip(mean + (x - mean) * (1 + c * by[1]), 0, 1)
    grey = (x @ luma)[..., None]
    x = np.clip(grey + (x - grey) * (1 + s * by[2]), 0, 1)
    turned = np.zeros_like(x)
    for place in np.ndindex(x.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*x[place])
        turned[place] = colorsys.hsv_to_rgb((hue + h * by[3]) % 1, saturation, value)
    return 255 * turned.transpose(2, 0, 1)


# -- a whole batch -------------------------------------------------------------------------------


def test_images_everywhere_in_a_batch_are_varied_and_nothing_else():
    given_ = batch()
    before = given_.clone()
    varied = SHIFT(given_)
    paths = set(image_paths(given_))
    assert paths == {
        ("observation", "front"), ("observation", "wrist"), ("observation", "goal", "front"),
        ("next", "observation", "front"), ("next", "observation", "wrist"),
        ("next", "observation", "goal", "front"), ("actor_goal", "front"),
    }  # fmt: skip
    for key in given_.keys(True, True):
        path = key if isinstance(key, tuple) else (key,)
        assert torch.equal(given_[path], before[path])  # the given batch stays
        assert torch.equal(varied[path], before[path]) == (path not in paths), path
        assert varied[path].dtype == before[path].dtype


def test_stacked_frames_share_a_shift_and_rows_do_not():
    same = images(8).repeat(1, 2, 1, 1)
    varied = SHIFT(TensorDict({"observation": {"front": same}}, [8]))["observation", "front"]
    assert torch.equal(varied[:, :3], varied[:, 3:])
    alike = images(1).expand(8, -1, -1, -1)
    varied = SHIFT(TensorDict({"observation": {"front": alike}}, [8]))["observation", "front"]
    assert len({row.numpy().tobytes() for row in varied}) > 4


@pytest.mark.parametrize("together", [True, False])
def test_successor_goals_and_cameras_are_varied_alike_only_where_the_method_wants_it(together):
    augment = Augment((Shift(pad=4),), together=together, share=1.0)
    image = images(8)
    leaves = {"front": image, "wrist": image, "goal": {"front": image}}
    varied = augment(TensorDict({"observation": leaves, "next": {"observation": leaves}}, [8]))
    found = [varied[path] for path in image_paths(varied)]
    assert len(found) == 6
    pairs = [torch.equal(a, b) for i, a in enumerate(found) for b in found[:i]]
    assert all(pairs) if together else not any(pairs)


def test_cameras_that_are_not_named_stay():
    only = Augment((Shift(pad=4, cameras=["front"]),), together=True, share=1.0)
    given_ = batch()
    varied = only(given_)
    for path in image_paths(given_):
        assert torch.equal(varied[path], given_[path]) == (path[-1] == "wrist")


def test_steps_follow_one_another():
    both = Augment((Crop(size=10), Shift(pad=2)), together=False, share=1.0)
    assert both(batch())["observation", "wrist"].shape == (8, 6, 10, 10)


def test_some_batches_stay_as_they_are():
    half, given_ = Augment((Shift(pad=4),), together=True, share=0.5), batch(2)
    stayed = [half(given_) is given_ for _ in range(200)]
    assert 60 < sum(stayed) < 140
    with pytest.raises(UserError, match="no probability"):
        Augment((), together=True, share=1.5)


def test_the_global_stream_decides_and_a_batch_takes_one_number_of_it():
    given_ = batch()
    torch.manual_seed(5)
    first, state = SHIFT(given_), torch.get_rng_state()
    torch.manual_seed(5)
    again = SHIFT(given_)
    assert all(torch.equal(first[path], again[path]) for path in image_paths(given_))
    torch.manual_seed(5)
    torch.randint(2**62, ())
    assert torch.equal(state, torch.get_rng_state())


def test_vectors_and_cached_maps_are_left_alone_and_cost_no_random_number():
    leaves = {"state": torch.randn(4, 9), "front": torch.randn(4, 16, 3, 3).half()}
    given_ = TensorDict({"observation": leaves}, [4])
    with_images = batch()
    before = torch.get_rng_state()
    assert SHIFT(given_) is given_ and NO_AUGMENT(with_images) is with_images
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", choices("augment"))
def test_every_choice_that_is_shipped_gives_images_of_the_right_kind(name):
    values = compose([f"augment={name}"]).augment
    if name == "crop":
        values.steps[0].size = 10
    augment, given_ = instantiate(values, _convert_="all"), batch()
    varied = augment(given_)
    for path in image_paths(given_):
        side = 10 if name == "crop" else 12
        assert varied[path].shape == (*given_[path].shape[:2], side, side)
        assert varied[path].dtype == torch.uint8
    assert (varied is given_) == (name == "none") or name == "ogbench"
