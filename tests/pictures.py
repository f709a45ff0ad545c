"""The toy with cameras: a bright point on a small dark picture, from the front and from a wrist."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
import toy
from gymnasium.spaces import Box, Dict
from tensordict import TensorDict

from robo_offline.datasets import Dataset
from robo_offline.spec import Spec

SIZE = 20
CAMERAS = ("front", "wrist")


class Pictures(gymnasium.ObservationWrapper):
    """The toy, seen by cameras besides its own four numbers."""

    def __init__(self, env: gymnasium.Env, cameras: tuple[str, ...] = CAMERAS, size: int = SIZE):
        super().__init__(env)
        image = Box(0, 255, (3, size, size), np.uint8)
        spaces: dict[str, Any] = dict.fromkeys(cameras, image)
        self.observation_space = Dict(spaces | {"state": env.observation_space})
        self.cameras, self.size = cameras, size

    def observation(self, observation):
        images = {name: picture(observation, name, self.size) for name in self.cameras}
        return images | {"state": observation}


def picture(observation: np.ndarray, camera: str, size: int = SIZE) -> np.ndarray:
    """Draw where the point is: (3, size, size); the wrist's picture is upside down."""
    x, y = ((observation[:2] + 1.5) / 3 * (size - 1)).round().astype(int).clip(0, size - 1)
    image = np.full((3, size, size), 10, np.uint8)
    image[0, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = 250
    image[1, size // 2, size // 2] = 200
    return image if camera == "front" else np.ascontiguousarray(image[:, ::-1])


def make(**ignored: Any) -> gymnasium.Env:
    return Pictures(toy.Reach())


def make_larger(**ignored: Any) -> gymnasium.Env:
    return Pictures(toy.Reach(), size=SIZE + 4)


def make_other_camera(**ignored: Any) -> gymnasium.Env:
    return Pictures(toy.Reach(), cameras=("front", "side"))


def spec() -> Spec:
    return Spec.of(make())


def dataset(episodes: int = 4) -> Dataset:
    """The toy's demonstrations with their pictures."""
    data = toy.dataset(episodes)
    state = data.steps["observation"]
    images = {
        name: torch.from_numpy(np.stack([picture(row, name) for row in state.numpy()]))
        for name in CAMERAS
    }
    data.steps["observation"] = TensorDict({**images, "state": state}, [len(state)])
    return Dataset("pictures", data.steps, spec(), (0.0, 1.0))


def observation(rows: int = 3, shapes: dict[str, tuple[int, ...]] | None = None) -> TensorDict:
    """Random observations of a spec's shapes."""
    shapes = shapes or {key: leaf.shape for key, leaf in spec().observation["observation"].items()}
    leaves: dict[str, Any] = {}
    for key, shape in shapes.items():
        image = len(shape) == 3
        leaves[key] = (
            torch.randint(0, 256, (rows, *shape), dtype=torch.uint8)
            if image
            else torch.randn(rows, *shape)
        )
    return TensorDict(leaves, [rows])
