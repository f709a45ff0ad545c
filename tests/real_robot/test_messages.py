import contextlib
import pickle
import struct

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from real_robot.messages import Command, Malformed, Mode, Source, command, pack, unpack

GOOD = Command(
    lease=3,
    seq=1,
    obs_seq=2,
    source=Source.POLICY,
    mode=Mode.JOINT,
    targets=np.arange(14.0).reshape(2, 7),
    gripper=np.array([0.0, 1.0]),
    t_rel_ns=(0, 50),
    valid_ns=9,
    speed_scale=0.5,
    policy="v1",
    descriptor="d",
)


def test_a_command_comes_back_as_it_was_sent_to_the_last_bit():
    sent = np.random.default_rng(0).normal(size=(2, 7))
    back = command(unpack(Command(**{**fields(), "targets": sent}).encode()), 7)
    assert (
        (back.targets == sent).all() and back.t_rel_ns == (0, 50) and back.source is Source.POLICY
    )


def fields():
    return {name: getattr(GOOD, name) for name in Command.__slots__}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        b"\x93\x01",
        pack({"type": 3}),
        pack({"no": "type"}),
        b"\x80",
        pickle.dumps({"type": "x"}),
        msgpack.packb([1, 2]),
        b"\xdf" + struct.pack(">I", 2**31),
        b"\xdd" + struct.pack(">I", 2**31),
        msgpack.packb({"type": "x", "deep": [[[[]]]]})[:-1],
        b"\x81\xa4type\xd9\xff",
        b"x" * 20_000,
        msgpack.packb({"type": "x", "b": b"bytes"}),
        msgpack.packb({1: 2, "type": "x"}),
        msgpack.packb({"type": "x", "e": msgpack.ExtType(1, b"1")}),
    ],
)
def test_what_is_no_message_is_malformed_and_nothing_worse(raw):
    with pytest.raises(Malformed):
        unpack(raw)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_map_or_malformed(raw):
    with contextlib.suppress(Malformed):
        assert isinstance(unpack(raw)["type"], str)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_flipped_byte_of_a_command_is_a_command_or_malformed(data):
    raw = bytearray(GOOD.encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = command(unpack(bytes(raw)), 7)
    except Malformed:
        return
    assert found.targets.shape == (2, 7) and found.targets.dtype == np.float64


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=20,
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(sorted(Command.__slots__)), JSON)
def test_any_value_in_any_field_is_a_command_or_malformed(name, value):
    message = unpack(GOOD.encode())
    message[name] = value
    try:
        found = command(message, 7)
    except Malformed:
        return
    assert found.targets.shape == (len(found.t_rel_ns), 7)
    assert found.gripper.shape == (len(found.t_rel_ns),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("targets", [[0.0] * 6] * 2),
        ("targets", [[0.0] * 7]),
        ("targets", [0.0] * 14),
        ("targets", [["1"] * 7] * 2),
        ("targets", [[True] * 7] * 2),
        ("targets", []),
        ("t_rel_ns", []),
        ("t_rel_ns", [5, 5]),
        ("t_rel_ns", [1.0, 2.0]),
        ("seq", 1.0),
        ("seq", True),
        ("source", 9),
        ("mode", 5),
        ("policy", 3),
        ("speed_scale", [1.0]),
        ("speed_scale", True),
        ("gripper", [0.0]),
        ("lease", None),
    ],
)
def test_a_field_of_another_shape_or_type_is_malformed(name, value):
    with pytest.raises(Malformed):
        command({**unpack(GOOD.encode()), name: value}, 7)


def test_missing_and_unknown_keys_are_named():
    message = unpack(GOOD.encode())
    del message["seq"]
    with pytest.raises(Malformed, match="seq"):
        command(message, 7)
    with pytest.raises(Malformed, match="more"):
        command({**unpack(GOOD.encode()), "more": 1}, 7)
