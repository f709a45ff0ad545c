"""Contract: what a policy sees and does, exactly enough that a robot can refuse what it is not.

Numbers carry their unit, frame and scale: a policy that met radians must not be shown degrees, and
one that was trained at 20 actions a second must not be run at 10.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace

from real_robot.runtime.refused import BundleRefused

UNKNOWN = "unknown"
Vector = tuple[float, ...]
DTYPES = ("float32", "uint8")
IMAGES = "uint8"


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive numbers of a vector: value x scale is in `units`, seen from `frame`."""

    name: str
    size: int
    units: str
    frame: str
    scale: float


@dataclass(frozen=True, slots=True)
class Normaliser:
    """What the data's numbers were; `covered` of them ever changed."""

    mean: Vector
    std: Vector
    covered: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """One entry of the observation. Bounds where known: one number for all, or one for each."""

    key: str
    shape: tuple[int, ...]
    dtype: str
    low: Vector | None
    high: Vector | None
    parts: tuple[Part, ...]
    normaliser: Normaliser | None
    frames: int = 1  # images that the policy looks at, of this step and those before it

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __post_init__(self) -> None:
        where = f"observation {self.key!r}"
        _need(bool(self.key) and self.dtype in DTYPES, where, f"a name, one of {DTYPES}", self)
        _need(
            len(self.shape) <= 4 and all(1 <= n <= 2**14 for n in self.shape)
            and self.size <= 2**24, where, "a shape that fits into a computer", self.shape,
        )  # fmt: skip
        for bound in (self.low, self.high):
            known = bound is None or len(bound) in (1, self.size)
            _need(known, where, f"1 or {self.size} bounds", bound)
        _parts(self.parts, self.size, where)
        several = self.dtype == IMAGES and len(self.shape) == 3
        _need(1 <= self.frames <= (64 if several else 1), where, "frames of images", self)
        if self.normaliser is not None:
            n = self.normaliser
            sizes = (len(n.mean), len(n.std))
            _need(sizes == (self.size, self.size), where, f"{self.size} means and stds", sizes)
            _need(min(n.std) >= 0 and 0 <= n.covered <= self.size, where, "std >= 0", n.covered)

    def stacked(self) -> Leaf:
        """Return it as the graph sees it: its frames behind one another, the newest last."""
        if self.frames == 1:
            return self
        n, (channels, *rest) = self.frames, self.shape
        return replace(
            self,
            shape=(n * channels, *rest),
            low=_repeated(self.low, n),
            high=_repeated(self.high, n),
            parts=n * self.parts,
            frames=1,
        )


@dataclass(frozen=True, slots=True)
class Camera:
    """An image among the observations, under the key of its name."""

    name: str
    height: int
    width: int
    layout: str  # order of the axes, such as CHW
    channels: str  # such as RGB


@dataclass(frozen=True, slots=True)
class Action:
    """What the policy decides: `chunk` actions of `dim` numbers, within the bounds."""

    dim: int
    chunk: int
    mode: str  # what the numbers move, such as "osc_pose delta"
    low: Vector
    high: Vector
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        _need(1 <= self.dim <= 1024 and 1 <= self.chunk <= 1024, "action", "1 to 1024", self.dim)
        bounded = len(self.low) == len(self.high) == self.dim
        _need(bounded, "action", f"{self.dim} bounds", (len(self.low), len(self.high)))
        ordered = all(a <= b for a, b in zip(self.low, self.high, strict=True))
        _need(ordered, "action", "low <= high", (self.low, self.high))
        _parts(self.parts, self.dim, "action")


@dataclass(frozen=True, slots=True)
class Contract:
    """Everything that policy and robot must agree on before anything moves."""

    observation: tuple[Leaf, ...]
    cameras: tuple[Camera, ...]
    action: Action
    rate_hz: float
    descriptor_hash: str | None

    def __post_init__(self) -> None:
        keys = [leaf.key for leaf in self.observation]
        _need(bool(keys) and len(set(keys)) == len(keys), "observation", "each key once", keys)
        images = {leaf.key: leaf.shape for leaf in self.observation if leaf.dtype == IMAGES}
        for camera in self.cameras:
            size = {"C": len(camera.channels), "H": camera.height, "W": camera.width}
            shape = tuple(size.get(axis, 0) for axis in camera.layout)
            _need(images.pop(camera.name, None) == shape, "cameras", "an image", camera)
        _need(not images, "cameras", "one for every image", sorted(images))
        _need(0 < self.rate_hz <= 1e5, "rate_hz", "actions per second", self.rate_hz)
        known = self.descriptor_hash is None or is_hash(self.descriptor_hash)
        _need(known, "descriptor_hash", "64 hexadecimal digits", self.descriptor_hash)

    def stacked(self) -> Contract:
        """Return what the graph sees where the robot shows one image at a time."""
        frames = {leaf.key: leaf.frames for leaf in self.observation}
        return replace(
            self,
            observation=tuple(leaf.stacked() for leaf in self.observation),
            cameras=tuple(
                replace(camera, channels=camera.channels * frames[camera.name])
                for camera in self.cameras
            ),
        )

    def differences(self, robot: Contract) -> list[str]:
        """Say where a robot does not fit this policy; it may be armed only if that is empty.

        A key that no data has normalised counts as one: the policy has never been shown its scale.
        Bounds and statistics are the policy's own and are not compared.
        """
        found = []
        ours = {leaf.key: leaf for leaf in self.observation}
        theirs = {leaf.key: leaf for leaf in robot.observation}
        for key in sorted(ours.keys() | theirs.keys()):
            if key not in ours or key not in theirs:
                found.append(_said(key, key in ours, key in theirs))
                continue
            a, b = ours[key], theirs[key]
            for name in ("shape", "dtype", "parts"):
                found += _compare(f"{key}.{name}", getattr(a, name), getattr(b, name))
            if a.dtype != IMAGES and (a.normaliser is None or a.normaliser.covered == 0):
                found.append(f"{key}: no data has normalised it")
        ours_seen = {camera.name: camera for camera in self.cameras}
        theirs_seen = {camera.name: camera for camera in robot.cameras}
        for name in sorted(ours_seen.keys() | theirs_seen.keys()):
            found += _compare(f"camera {name}", ours_seen.get(name), theirs_seen.get(name))
        for name in ("dim", "mode", "parts"):
            a, b = getattr(self.action, name), getattr(robot.action, name)
            found += _compare(f"action.{name}", a, b)
        found += _compare("rate_hz", self.rate_hz, robot.rate_hz)
        if self.descriptor_hash is not None:
            found += _compare("descriptor_hash", self.descriptor_hash, robot.descriptor_hash)
        return found


def is_hash(text: str) -> bool:
    """Whether a text looks like a SHA-256."""
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None


def _compare(what: str, ours: object, theirs: object) -> list[str]:
    """Say what differs, as deep down as both are built alike."""
    if ours == theirs:
        return []
    if isinstance(ours, tuple) and isinstance(theirs, tuple) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [line for i, (a, b) in pairs for line in _compare(f"{what}[{i}]", a, b)]
    if type(ours) is type(theirs) and isinstance(ours, (Part, Camera)):
        names = [field.name for field in fields(ours)]
        return [
            line
            for name in names
            for line in _compare(f"{what}.{name}", getattr(ours, name), getattr(theirs, name))
        ]
    return [_said(what, ours, theirs)]


def _said(what: str, ours: object, theirs: object) -> str:
    return f"{what}: the policy has {ours}, the robot {theirs}"


def _repeated(bound: Vector | None, times: int) -> Vector | None:
    return bound if bound is None or len(bound) == 1 else times * bound


def _parts(parts: tuple[Part, ...], size: int, where: str) -> None:
    sizes = [part.size for part in parts]
    _need(all(n > 0 for n in sizes) and sum(sizes) == size, where, f"parts of {size}", sizes)


def _need(fits: bool, where: str, expected: object, found: object) -> None:
    if not fits:
        raise BundleRefused(
            "a contract makes no sense", where=where, expected=expected, found=found
        )
