"""Camera images of a MuJoCo model, without a window; nothing here runs before the first image."""

from __future__ import annotations

import atexit
import ctypes.util
import importlib
import os
from typing import Any

import numpy as np

from robo_offline.errors import UserError


def import_without_graphics(name: str) -> Any:
    """Import a simulator even where MUJOCO_GL asks for a renderer that is not installed.

    mujoco loads that renderer when it is imported, and robosuite sets the variable for every child
    process; training needs neither.
    """
    asked = os.environ.pop("MUJOCO_GL", None)
    try:
        return importlib.import_module(name)
    finally:
        os.environ.pop("MUJOCO_GL", None)
        if asked is not None:
            os.environ["MUJOCO_GL"] = asked


mujoco = import_without_graphics("mujoco")

# Name in MUJOCO_GL -> (module of mujoco that opens it, shared library it needs).
BACKENDS = {
    "egl": ("mujoco.egl", "EGL"),
    "osmesa": ("mujoco.osmesa", "OSMesa"),
    "glfw": ("mujoco.glfw", None),
}
REMEDY = (
    "install a software renderer, on Debian or Ubuntu `apt-get install libegl1 libegl-mesa0 "
    "libgl1-mesa-dri` and set MUJOCO_GL=egl, or `apt-get install libosmesa6` and set "
    "MUJOCO_GL=osmesa"
)
MAX_GEOMETRIES = 10_000  # what fits into one scene
COLLISION_GROUP, VISUAL_GROUP = 0, 1  # robosuite's geometry groups
HIDDEN_GROUP = 5  # MuJoCo's last one, which nobody's scene uses and which is never drawn here
MARGIN = 1.01  # on the size of things: a part too many costs little, one too few is a wrong image


def backend() -> str:
    """Choose how images are made: what MUJOCO_GL says, else EGL, else OSMesa; remember it there."""
    asked = os.environ.get("MUJOCO_GL", "").lower()
    if asked:
        if asked not in BACKENDS:
            raise UserError(
                "MUJOCO_GL names no way of making images",
                expected="one of " + ", ".join(BACKENDS),
                found=asked,
                remedy=REMEDY,
            )
        return asked
    for name in ("egl", "osmesa"):
        if ctypes.util.find_library(BACKENDS[name][1] or ""):
            os.environ["MUJOCO_GL"] = name  # Gymnasium's own renderer reads it too
            return name
    raise UserError("there is no OpenGL on this machine to make images with", remedy=REMEDY)


class Renderer:
    """Make images of one model after another through a single OpenGL context."""

    def __init__(self, width: int, height: int):
        name = backend()
        self.width, self.height = width, height
        try:
            self._context = importlib.import_module(BACKENDS[name][0]).GLContext(width, height)
            self._context.make_current()
        # PyOpenGL reports a missing library as whatever its first call on it happens to raise.
        except (ImportError, AttributeError, RuntimeError, OSError, TypeError) as error:
            raise UserError(
                "OpenGL does not start, so there are no images",
                where=f"MUJOCO_GL={name}",
                found=f"{type(error).__name__}: {error}",
                remedy=REMEDY,
            ) from error
        # Must come before EGL's own exit handler, which frees what contexts stand on.
        atexit.register(self._context.free)
        self._options = mujoco.MjvOption()
        self._options.geomgroup[COLLISION_GROUP] = 0
        self._options.geomgroup[VISUAL_GROUP] = 1
        self._options.geomgroup[HIDDEN_GROUP] = 0
        self._camera = mujoco.MjvCamera()
        self._model: Any = None
        self._scene: Any = None
        self._buffers: Any = None

    def image(self, model: Any, data: Any, camera: str, width: int, height: int) -> np.ndarray:
        """Return what `camera` sees, upright, as uint8 (height, width, 3)."""
        self._context.make_current()
        if model is not self._model:
            self._bind(model)
        camera_id = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = camera_id
        # A software renderer works on every triangle, also on those behind the camera's back.
        groups = model.geom_group.copy()
        model.geom_group[out_of_view(model, data, camera_id, width / height)] = HIDDEN_GROUP
        try:
            mujoco.mjv_updateScene(
                model,
                data,
                self._options,
                None,
                self._camera,
                mujoco.mjtCatBit.mjCAT_ALL,
                self._scene,
            )
        finally:
            model.geom_group[:] = groups
        image = np.empty((height, width, 3), np.uint8)
        viewport = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(viewport, self._scene, self._buffers)
        mujoco.mjr_readPixels(image, None, viewport, self._buffers)
        return image[::-1].copy()  # OpenGL counts rows from the bottom

    def close(self) -> None:
        """Give the graphics memory back."""
        if self._model is not None:
            self._context.make_current()
            self._buffers.free()
            self._model = None
        atexit.unregister(self._context.free)
        self._context.free()

    def _bind(self, model: Any) -> None:
        if self._model is not None:
            self._buffers.free()
        model.vis.global_.offwidth = max(self.width, model.vis.global_.offwidth)
        model.vis.global_.offheight = max(self.height, model.vis.global_.offheight)
        self._scene = mujoco.MjvScene(model, maxgeom=MAX_GEOMETRIES)
        # A floor that mirrors one percent of the light makes everything be drawn twice.
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._buffers = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._buffers)
        self._model = model


def out_of_view(model: Any, data: Any, camera: int, aspect: float) -> np.ndarray:
    """Say which geometries (ngeom,) cannot be in a camera's image, by the spheres around them.

    `aspect` is the image's width over its height. Planes have no end and are always in view, and
    so is everything that may throw its shadow into the image.
    """
    if model.light_castshadow.any():
        return np.zeros(model.ngeom, bool)
    relative = (data.geom_xpos - data.cam_xpos[camera]) @ data.cam_xmat[camera].reshape(3, 3)
    across, up, behind = relative.T  # a camera looks along its -z
    vertical = np.tan(np.radians(model.cam_fovy[camera]) / 2)
    horizontal = vertical * aspect
    radius = MARGIN * model.geom_rbound
    beside = np.abs(across) + behind * horizontal > radius * np.hypot(1, horizontal)
    over = np.abs(up) + behind * vertical > radius * np.hypot(1, vertical)
    return (radius > 0) & ((behind > radius) | beside | over)
