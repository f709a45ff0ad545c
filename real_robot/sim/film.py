"""Draw what an arm did from the joint angles that were measured: of any robot that has a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from envs.graphics import COLLISION_GROUP, VISUAL_GROUP, Renderer
from real_robot.descriptor import RobotDescriptor
from real_robot.sim.models import CAMERA, capsules
from real_robot.sim.scene import WALL

WIDTH, HEIGHT = 320, 240


class Film:
    """Images of one robot in its scene. Raises UserError where nothing can be drawn here."""

    def __init__(self, robot: RobotDescriptor, scene: Mapping[str, Any] = {}):
        self.renderer = Renderer(WIDTH, HEIGHT)
        self.scene = capsules(robot, **scene)
        model = self.scene.model
        model.geom_group[:] = VISUAL_GROUP
        model.geom_group[model.geom_bodyid == model.body(WALL).id] = COLLISION_GROUP
        model.vis.headlight.ambient[:], model.vis.headlight.diffuse[:] = 0.35, 0.65

    def frames(self, joints: np.ndarray) -> Iterator[np.ndarray]:
        """Yield an image (H, W, 3) uint8 for each row of angles (T, dof)."""
        for q in joints:
            self.scene.place(q)
            yield self.renderer.image(self.scene.model, self.scene.data, CAMERA, WIDTH, HEIGHT)

    def close(self) -> None:
        """Give the graphics memory back."""
        self.renderer.close()
