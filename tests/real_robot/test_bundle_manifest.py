"""A manifest is read strictly: any bytes are either one, or refused by the same clear error."""

from __future__ import annotations

import copy
import json

import bundles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from real_robot.runtime import BundleRefused, PolicyManifest, strict
from real_robot.runtime.manifest import MANIFEST


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> bytes:
    folder = bundles.place(bundles.NEXT, tmp_path_factory.mktemp("manifest") / "next")
    return (folder / MANIFEST).read_bytes()


def refused(data) -> str:
    with pytest.raises(BundleRefused) as error:
        PolicyManifest.parse(json.dumps(data).encode())
    return str(error.value)


def places(value, path=()):
    """Every place in a JSON value that a strict reader looks at."""
    yield path
    if path and path[0] in ("config", "versions"):
        return
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, inner in items:
        yield from places(inner, (*path, key))


def put(data, path, value):
    for key in path[:-1]:
        data = data[key]
    data[path[-1]] = value


def at(data, path):
    for key in path:
        data = data[key]
    return data


def test_it_is_read_and_written_without_a_change(raw):
    manifest = PolicyManifest.parse(raw)
    assert manifest.dump() == raw
    assert manifest.contract == bundles.contract()
    assert (manifest.version, manifest.step, manifest.config) == (1, 41, {"seed": 1})


def test_every_key_is_needed_and_named(raw):
    data = json.loads(raw)
    tables = [path for path in places(data) if isinstance(at(data, path), dict)]
    free = (("weights",), ("config",), ("versions",))  # what they hold is not ours to name
    free += (("certificate", "parity"), ("certificate", "latency"))
    for path in tables:
        if path in free:
            continue
        for key in at(data, path):
            lacking = copy.deepcopy(data)
            del at(lacking, path)[key]
            assert key in refused(lacking)


def test_a_key_that_is_not_known_is_named(raw):
    data = json.loads(raw)
    for path in (
        (),
        ("contract",),
        ("contract", "action"),
        ("files", "policy.onnx"),
        ("certificate",),
    ):
        more = copy.deepcopy(data)
        at(more, path)["surprise"] = 1
        assert "surprise" in refused(more)


WRONG = [None, True, -1, 1.5, 1e400, "", "x", [], {}, [1], {"a": 1}, 10**400, "\ud800"]


def test_a_value_of_another_kind_never_crashes_the_reader(raw):
    data = json.loads(raw)
    for path in list(places(data))[1:]:
        old = at(data, path)
        for value in WRONG:
            put(data, path, value)
            try:
                strict.build(PolicyManifest, data, MANIFEST)
            except BundleRefused as error:
                str(error).encode()
        put(data, path, old)
    strict.build(PolicyManifest, data, MANIFEST)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=200)
@given(data=st.data())
def test_any_json_in_any_place_is_read_or_refused(raw, data):
    manifest = json.loads(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        put(manifest, data.draw(st.sampled_from(list(places(manifest))[1:])), data.draw(JSON))
    try:
        PolicyManifest.parse(json.dumps(manifest).encode())
    except BundleRefused as error:
        str(error).encode()


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(raw):
    with pytest.raises(BundleRefused):
        PolicyManifest.parse(raw)


@settings(max_examples=200)
@given(data=st.data())
def test_a_cut_out_piece_is_refused(raw, data):
    first = data.draw(st.integers(0, len(raw) - 2))
    last = data.draw(st.integers(first + 1, len(raw) - 1))
    try:
        PolicyManifest.parse(raw[:first] + raw[last:])
    except BundleRefused as error:
        str(error).encode()


NOT_STRICT = {
    "a key twice": lambda raw: raw.replace(b'"format"', b'"format": 1, "format"', 1),
    "NaN": lambda raw: raw.replace(b'"rate_hz": 20.0', b'"rate_hz": NaN'),
    "an infinity": lambda raw: raw.replace(b'"rate_hz": 20.0', b'"rate_hz": Infinity'),
    "an infinity by its digits": lambda raw: raw.replace(b'"rate_hz": 20.0', b'"rate_hz": 1e999'),
    "endless digits": lambda raw: raw.replace(b'"step": 41', b'"step": ' + b"9" * 5000),
    "endless depth": lambda raw: raw.replace(b'"step": 41', b'"step": ' + b"[" * 100_000),
    "a comment": lambda raw: b"// hello\n" + raw,
    "something behind it": lambda raw: raw + b"{}",
    "another encoding": lambda raw: raw.decode().encode("utf-16"),
    "endless length": lambda raw: raw + b" " * (16 * 2**20),
}


@pytest.mark.parametrize("name", NOT_STRICT)
def test_json_that_is_not_strict_is_refused(raw, name):
    changed = NOT_STRICT[name](raw)
    assert changed != raw
    with pytest.raises(BundleRefused):
        PolicyManifest.parse(changed)


SENSELESS = {
    "a stale format": (("format",), 0),
    "a format of the future": (("format",), 3),
    "a file outside": (("files",), {"../policy.onnx": {"sha256": "a" * 64, "size": 1}}),
    "a hash that is none": (("files", "policy.onnx", "sha256"), "A" * 64),
    "an endless file": (("files", "policy.onnx", "size"), 2**40),
    "an empty file": (("files", "policy.onnx", "size"), 0),
    "a successor of nothing": (("succeeds",), None),
    "a first one that succeeds": (("version",), 0),
    "a negative version": (("version",), -1),
    "no weights": (("weights",), {}),
    "weights of objects": (("weights", "algo.action_range.scale", "dtype"), "object"),
    "a generous certificate": (("certificate", "tolerance"), 1e-3),
    "no parity": (("certificate", "parity", "edge", "max_difference"), 2e-5),
    "nothing asked": (("certificate", "parity", "random", "rows"), 0),
    "not asked of recorded ones": (("certificate", "parity"), {}),
}


@pytest.mark.parametrize("name", SENSELESS)
def test_a_manifest_without_sense_is_refused(raw, name):
    data = json.loads(raw)
    path, value = SENSELESS[name]
    put(data, path, value)
    refused(data)
