"""Commands as no sender may mean them: the good one with something wrong in one of its fields."""

from __future__ import annotations

import math
import os
import pickle
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from real_robot.messages import Command, unpack

NOT_FINITE = (math.nan, math.inf, -math.inf)
NUMBERS = (*NOT_FINITE, 1e308, -1e308, 5e-324, -5e-324, 1e7, -0.0, 2**63, -(2**63), 2**31)
OTHER: tuple[Any, ...] = (
    True,
    None,
    "",
    "nan",
    "x" * 200,
    b"\0\xff",
    [],
    {},
    [[]],
    [math.nan],
    [[math.nan]],
    0,
    -1,
)
TOO_LARGE = 1e6  # no joint, pose or scale is


def hostile(command: Command, random: np.random.Generator) -> tuple[bytes, bool]:
    """Return a message, and whether it must be refused for its numbers."""
    message = unpack(command.encode())
    name = str(random.choice([*message]))
    way = random.integers(4)
    if way == 0:
        message[name] = _draw(OTHER, random)
    elif way == 1 or not isinstance(message[name], list):
        message[name] = _draw(NUMBERS, random)
    elif way == 2:
        _element(message[name], _draw(NUMBERS, random), random)
    else:  # the other byte order, and the other shapes
        flat = np.array(message[name], float)
        wrong = [flat.byteswap().tolist(), flat.ravel().tolist(), [flat.tolist()], flat.T.tolist()]
        message[name] = wrong[random.integers(len(wrong))]
    return msgpack.packb(message), _bad(message)


def bombs(mark: Path) -> list[bytes]:
    """Return pickles that would leave a mark where they are unpickled."""

    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(mark),)

    return [pickle.dumps(Bomb(), protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]


def _draw(values: tuple[Any, ...], random: np.random.Generator) -> Any:
    return values[random.integers(len(values))]


def _element(rows: list, value: Any, random: np.random.Generator) -> None:
    at = int(random.integers(len(rows)))
    if isinstance(rows[at], list):
        _element(rows[at], value, random)
    else:
        rows[at] = value


def _bad(message: dict[str, Any]) -> bool:
    numbers = []
    for name in ("targets", "gripper", "speed_scale"):
        try:
            numbers += np.array(message[name], float).ravel().tolist()
        except (TypeError, ValueError, OverflowError):
            return True  # no numbers at all
    return not all(abs(x) < TOO_LARGE for x in numbers)
