"""Strict JSON: a dataclass is read with exactly its keys and types, or refused by name."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import asdict, fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from real_robot.runtime.refused import BundleRefused

T = TypeVar("T")
MAX_BYTES = 16 * 2**20  # of a manifest; normalisers of large observations fit many times over
MAX_TEXT = 1000  # characters of a string that we read; a configuration passes as it is


def loads(raw: bytes, kind: type[T], where: str) -> T:
    """Parse bytes as `kind`. Raises BundleRefused and nothing else, whatever the bytes are."""
    if len(raw) > MAX_BYTES:
        raise BundleRefused(
            "a file is too long", where=where, expected=f"{MAX_BYTES} bytes", found=len(raw)
        )
    try:
        text = raw.decode("utf-8")
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # Value: bad UTF-8, bad JSON, endless digits
        raise BundleRefused("a file is not strict JSON", where=where, found=error) from None
    return build(kind, found, where)


def dumps(value: Any) -> bytes:
    """Return the JSON of a dataclass, in one canonical form."""
    return (json.dumps(asdict(value), indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def build(kind: Any, value: Any, where: str) -> Any:
    """Make `kind` of what JSON gave; BundleRefused naming the place where it does not fit."""
    if is_dataclass(kind):
        return _record(kind, value, where)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):  # X | None
        return None if value is None else build(inner[0], value, where)
    if origin is tuple:
        _expect(isinstance(value, list), "a list", value, where)
        return tuple(build(inner[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        _expect(isinstance(value, dict), "a table", value, where)
        return {key: build(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is Any:
        return value
    return _plain(kind, value, where)


def _record(kind: Any, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), "a table", value, where)
    types = _types(kind)
    names = list(types)
    missing = [name for name in names if name not in value]
    unknown = sorted(set(value) - set(names))
    if missing or unknown:
        raise BundleRefused(
            "a table has other keys than it should",
            where=where,
            expected=f"also {', '.join(missing)}" if missing else "no others",
            found=f"unknown: {', '.join(unknown)}" if unknown else "none of them",
        )
    return kind(**{name: build(types[name], value[name], f"{where}.{name}") for name in names})


@functools.cache
def _types(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _plain(kind: type, value: Any, where: str) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        fits = whole or isinstance(value, float)
        _expect(fits and abs(value) <= 1e308 and math.isfinite(value), "a number", value, where)
        return float(value)
    if kind is int:
        _expect(whole and abs(value) < 2**63, "a whole number", value, where)
        return value
    _expect(isinstance(value, kind), {str: "text", bool: "true or false"}[kind], value, where)
    _expect(kind is not str or len(value) <= MAX_TEXT, f"{MAX_TEXT} characters", value, where)
    return value


def _expect(fits: bool, expected: str, found: Any, where: str) -> None:
    if not fits:
        raise BundleRefused(
            "a value has another type", where=where, expected=expected, found=repr(found)[:100]
        )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")
