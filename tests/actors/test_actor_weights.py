"""Weights are taken when they are what they say, and otherwise not at all."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robo_offline.actors import folders
from robo_offline.actors.weights import About, Refused, check, pack, unpack, version_of

ABOUT = About(version=7, run="r", episodes=3, records=40, made_s=time.time())
STATE = {"algo.w": torch.arange(4.0), "acting.best": torch.tensor(-torch.inf)}


def test_they_come_back_with_what_they_know_of_themselves():
    name, data = pack(ABOUT, STATE)
    about, state = unpack(name, data)
    assert about == ABOUT and version_of(name) == 7
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_one_other_byte_is_refused(place, change):
    name, data = pack(ABOUT, STATE)
    raw = bytearray(data)
    raw[place % len(raw)] ^= change
    with pytest.raises(Refused, match="hash"):
        unpack(name, bytes(raw))


@given(st.binary(max_size=100))
def test_bytes_that_are_no_weights_are_refused_under_a_right_hash_too(data):
    import hashlib

    with pytest.raises(Refused, match="cannot be read"):
        unpack(f"000000001-{hashlib.sha256(data).hexdigest()}.safetensors", data)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"algo.w": torch.arange(5.0)}, "algo.w is"),
        ({"algo.w": torch.arange(4)}, "algo.w is"),
        ({"algo.w": torch.tensor([0.0, torch.nan, 0.0, 0.0])}, "not finite"),
        ({"algo.v": torch.zeros(1)}, "other names"),
    ],
)
def test_weights_of_another_policy_or_not_finite_are_refused(change, why):
    check(STATE, STATE)
    with pytest.raises(Refused, match=why):
        check(STATE | change, STATE)


def test_the_newest_of_a_folder_replaces_the_older_ones(tmp_path):
    names = []
    for version in (8, 9, 10):
        name, data = pack(About(version, "r", 0, 0, 0.0), STATE)
        folders.store(tmp_path, name, data)
        names.append(name)
    assert folders.newest(tmp_path) == names[-1]
    assert [path.name for path in tmp_path.iterdir()] == names[-1:]
