"""Images: upright, RGB, and the same whether what is out of view was drawn or not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import graphics
from envs.graphics import Renderer, mujoco, out_of_view
from robo_offline.errors import UserError

# Seen from the front: red on the left, blue on the right, green above them.
KNOWN = """
<mujoco>
  <worldbody>
    <light pos="0 -3 3" dir="0 1 -1" castshadow="false"/>
    <camera name="front" pos="0 -2 0" xyaxes="1 0 0 0 0 1" fovy="60"/>
    <geom name="left" type="box" size=".2 .2 .2" pos="-.6 0 -.3" rgba="1 0 0 1" group="1"/>
    <geom name="right" type="box" size=".2 .2 .2" pos=".6 0 -.3" rgba="0 0 1 1" group="1"/>
    <geom name="above" type="box" size=".2 .2 .2" pos="0 0 .6" rgba="0 1 0 1" group="1"/>
  </worldbody>
</mujoco>
"""
DIRECTION = st.tuples(*(st.floats(-1, 1) for _ in range(3))).filter(
    lambda v: np.linalg.norm(v) > 0.1
)


@pytest.fixture(scope="module")
def renderer():
    try:
        made = Renderer(64, 64)
    except UserError as error:
        pytest.skip(f"no OpenGL here: {error.found}")
    yield made
    made.close()


def scene(xml: str):
    model = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def cluttered(seed: int, shadow: bool = False):
    """Boxes, balls and cylinders all around a camera that looks somewhere, and a floor."""
    random = np.random.default_rng(seed)
    shapes = "".join(
        f'<geom type="{kind}" size="{a:.2f} {b:.2f} {c:.2f}" pos="{x:.2f} {y:.2f} {z:.2f}" '
        f'euler="{x * 90:.0f} {y * 90:.0f} 0" rgba="{a:.2f} {b:.2f} {c:.2f} 1" group="1"/>'
        for kind in ("box", "ellipsoid", "cylinder")
        for a, b, c, x, y, z in zip(
            *random.uniform(0.05, 0.5, (3, 8)), *random.uniform(-2, 2, (3, 8)), strict=True
        )
    )
    turn = " ".join(f"{angle:.0f}" for angle in random.uniform(-180, 180, 3))
    return scene(
        f"""<mujoco><worldbody><light pos="0 0 4" castshadow="{str(shadow).lower()}"/>
        <camera name="c" pos="0 0 .5" euler="{turn}" fovy="{random.uniform(20, 100):.0f}"/>
        <geom type="plane" size="0 0 1" pos="0 0 -2" rgba=".5 .5 .5 1" group="1"/>
        {shapes}</worldbody></mujoco>"""
    )


def test_a_known_scene_is_upright_and_red_green_blue(renderer):
    image = renderer.image(*scene(KNOWN), "front", 32, 32).astype(int)
    places = {}
    for channel, name in enumerate(("red", "green", "blue")):
        others = np.delete(image, channel, axis=2).max(axis=2)
        rows, columns = np.nonzero(image[..., channel] > others + 30)
        assert len(rows) > 4, name
        places[name] = rows.mean(), columns.mean()
    assert places["red"][1] < 12 and places["blue"][1] > 20
    assert places["green"][0] < 12 < min(places["red"][0], places["blue"][0])


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("size", [(32, 32), (48, 24)])
def test_what_is_left_out_changes_no_pixel(renderer, monkeypatch, seed, size):
    model, data = cluttered(seed)
    left_out = out_of_view(model, data, 0, size[0] / size[1])
    ours = renderer.image(model, data, "c", *size)
    assert (model.geom_group == 1).all()
    monkeypatch.setattr(graphics, "out_of_view", lambda m, *_: np.zeros(m.ngeom, bool))
    assert np.array_equal(ours, renderer.image(model, data, "c", *size))
    assert left_out.any()


def test_what_throws_a_shadow_is_never_left_out():
    model, data = cluttered(4, shadow=True)
    assert not out_of_view(model, data, 0, 1.0).any()


@settings(max_examples=200)
@given(
    direction=DIRECTION, position=DIRECTION, where=DIRECTION,
    distance=st.floats(0.3, 6), fovy=st.floats(5, 120), aspect=st.floats(0.5, 2),
)  # fmt: skip
def test_nothing_that_reaches_into_the_picture_is_left_out(
    direction, position, where, distance, fovy, aspect
):
    """A point of a ball's surface that projects into the image keeps the whole ball."""
    model, data = scene(KNOWN)
    model.cam_fovy[0] = fovy
    data.geom_xpos[0] = data.cam_xpos[0] + distance * np.array(position) / np.linalg.norm(position)
    point = data.geom_xpos[0] + model.geom_rbound[0] * np.array(where) / np.linalg.norm(where)
    x, y, z = (point - data.cam_xpos[0]) @ data.cam_xmat[0].reshape(3, 3)
    half = np.tan(np.radians(fovy) / 2)
    if z < 0 and abs(y) <= -z * half and abs(x) <= -z * half * aspect:
        assert not out_of_view(model, data, 0, aspect)[0]
