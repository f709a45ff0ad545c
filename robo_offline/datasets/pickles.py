"""Read pickles of arrays and plain containers without ever running what a pickle says.

A pickle is a program. This reader checks its instructions first, then lets it build only lists,
dicts, numbers, text and numeric arrays; every other name is refused, so nothing of it is called.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from robo_offline.datasets import guard
from robo_offline.errors import UserError

REFUSED_OPCODES = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEWOBJ_EX"}
NUMPY_KINDS = "biufSU"
NUMPY_MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
NUMERIC_MODULES = ("numpy.core.numeric", "numpy._core.numeric")


def load(path: Path) -> Any:
    """Read a pickle of plain data written by Python 2 or 3."""
    if not path.is_file():
        raise UserError("no such file", where=path)
    data = path.read_bytes()
    with guard.reading(path):
        _check_instructions(data, path)
        return _finished(_Unpickler(io.BytesIO(data), encoding="latin1").load(), {})


def looks_like_one(head: bytes) -> bool:
    """Say whether a file that begins so may be a pickle."""
    return (head[:1] == b"\x80" and head[1:2] <= b"\x05") or head[:1] in (b"(", b"]", b"}", b"c")


def _check_instructions(data: bytes, path: Path) -> None:
    """Refuse instructions that reach outside, and those that allocate what is not in the file."""
    memory = 0
    for opcode, argument, _ in pickletools.genops(data):
        memory += opcode.name == "MEMOIZE" or "PUT" in opcode.name
        # The memo is an array as long as its largest index, which a damaged file may set at will.
        wild = "PUT" in opcode.name and int(argument or 0) > memory
        if opcode.name in REFUSED_OPCODES or wild:
            raise _refusal(path, f"the instruction {opcode.name} {argument or ''}".strip())


def _refusal(path: Path | str, found: str) -> UserError:
    return UserError(
        "the pickle holds more than plain data, so it was not loaded",
        where=path,
        expected="numeric arrays in lists and dicts",
        found=found,
        remedy="save it again as arrays, lists and dicts, and only import files that you trust",
    )


class _Dtype:
    """An array type as pickled: a code and, set afterwards, its byte order."""

    def __init__(self, code: str, *_: Any):
        self.dtype = np.dtype(str(code))
        if self.dtype.kind not in NUMPY_KINDS or self.dtype.itemsize > 1024:
            raise ValueError(f"arrays of {code!r} are not supported")

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """An array as pickled; its bytes are looked at only when all is read."""

    def __init__(self, *_: Any):
        self.value = np.empty(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, raw = state
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        self.value = _array(raw, dtype, shape, "F" if fortran else "C")


def _array(raw: bytes, dtype: _Dtype, shape: Any, order: str) -> np.ndarray:
    shape = tuple(int(size) for size in (shape if isinstance(shape, tuple) else (shape,)))
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


def _from_buffer(raw: bytes, dtype: _Dtype, shape: Any, order: str = "C", *_: Any) -> np.ndarray:
    return _array(raw, dtype, shape, order)


def _scalar(dtype: _Dtype, raw: Any = b"") -> Any:
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    return np.frombuffer(raw, dtype.dtype)[0]


def _encode(text: str, _encoding: str = "latin1") -> bytes:
    return text.encode("latin1")  # how Python 2 protocols carry the bytes of an array


class _Token:
    """Stands for numpy.ndarray, which is only ever named, and cannot be called."""


ADMITTED: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Token(),
    **{(module, "_reconstruct"): _Array for module in NUMPY_MODULES},
    **{(module, "scalar"): _scalar for module in NUMPY_MODULES},
    **{(module, "_frombuffer"): _from_buffer for module in NUMERIC_MODULES},
    **{
        (module, kind.__name__): kind
        for module in ("builtins", "__builtin__")
        for kind in (list, dict, tuple, set, frozenset, bool, int, float, complex, str)
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise _refusal("pickle", f"{module}.{name}")
        return ADMITTED[module, name]


def _finished(value: Any, seen: dict[int, Any], depth: int = 0) -> Any:
    """Replace arrays in the making by arrays, once per object however often it is referred to."""
    if depth > 64:
        raise ValueError("nested more than 64 deep")
    if isinstance(value, _Array):
        return value.value
    if not isinstance(value, (list, tuple, dict)):
        return value
    if id(value) not in seen:
        seen[id(value)] = None  # what contains itself ends here
        if isinstance(value, dict):
            done: Any = {key: _finished(item, seen, depth + 1) for key, item in value.items()}
        else:
            done = type(value)(_finished(item, seen, depth + 1) for item in value)
        seen[id(value)] = done
    return seen[id(value)]
