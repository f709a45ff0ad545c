"""A film of an arm, drawn from angles alone."""

from __future__ import annotations

import numpy as np
import pytest

from envs import graphics
from real_robot.descriptor import load
from robo_offline.errors import UserError

pytest.importorskip("mujoco")
ROBOT = load("sim")
HOME = np.array(ROBOT.home_rad)


def test_images_show_the_arm_where_it_was():
    from real_robot.sim.film import HEIGHT, WIDTH, Film

    try:
        film = Film(ROBOT, {"hole_m": [0.5, 0.0, 0.2]})
    except UserError as error:
        assert "OpenGL" in str(error)  # said, where this machine has none
        return
    moved = HOME + np.array([0.5, 0, 0, 0, 0, 0, 0])
    first, second, again = film.frames(np.stack([HOME, moved, HOME]))
    film.close()
    assert first.shape == (HEIGHT, WIDTH, 3) and first.dtype == np.uint8
    assert (first == again).all() and (first != second).any()
    blue = (first[..., 2] > first[..., 0].astype(int) + 40).mean()
    assert blue > 0.01  # the plate


def test_without_a_renderer_it_says_so_before_anything_is_built(monkeypatch):
    from real_robot.sim import film

    def none(*_):
        raise UserError("there is no OpenGL on this machine", remedy=graphics.REMEDY)

    monkeypatch.setattr(film, "Renderer", none)
    with pytest.raises(UserError, match="OpenGL"):
        film.Film(ROBOT)
