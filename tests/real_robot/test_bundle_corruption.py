"""What is broken, forged or foreign is refused with its reason; the old weights go on acting."""

from __future__ import annotations

import json
import threading

import bundles
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from real_robot.runtime import BundleRefused, load_bundle, signature
from real_robot.runtime.bundle import ACTION
from real_robot.runtime.manifest import FILES, FORMAT, GRAPH, MANIFEST, PROBE, SIGNATURE, WEIGHTS
from real_robot.testing.damage import (
    DAMAGE,
    EVERY,
    FORGED,
    edit,
    flip,
    forge,
    forge_tensors,
    wild,
    without_one,
)


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", EVERY)
def test_a_damaged_file_is_refused_at_loading_and_at_a_swap(tmp_path, name, damage):
    policy = load_bundle(bundles.place(bundles.ROOT, tmp_path / "root"), bundles.keys()[1])
    before = policy.act(bundles.observation())
    folder = bundles.place(bundles.NEXT, tmp_path / "next")
    damage(folder / name)
    with pytest.raises(BundleRefused):
        load_bundle(folder, bundles.keys()[1])
    report = policy.swap(folder)
    assert not report.committed and report.reason and report.version == 0
    after = policy.act(bundles.observation())
    assert np.array_equal(before.actions, after.actions) and after.weights == before.weights


@settings(max_examples=150)
@given(st.data())
def test_no_single_bit_of_a_signed_bundle_can_be_turned(tmp_path_factory, data):
    folder = bundles.place(bundles.ROOT, tmp_path_factory.mktemp("bits") / "root")
    path = folder / data.draw(st.sampled_from(EVERY))
    flip(path, data.draw(st.integers(0, path.stat().st_size - 1)), data.draw(st.integers(0, 7)))
    with pytest.raises(BundleRefused):
        load_bundle(folder, bundles.keys()[1])


def test_a_further_file_is_refused(tmp_path):
    folder = bundles.place(bundles.ROOT, tmp_path / "root")
    (folder / "notes.txt").write_text("hello")
    with pytest.raises(BundleRefused, match=r"notes\.txt"):
        load_bundle(folder)


def test_no_folder_and_no_bundle_are_refused(tmp_path):
    for path in (tmp_path / "nothing", tmp_path, "\0"):
        with pytest.raises(BundleRefused):
            load_bundle(path)


# -- somebody who can write the files and their hashes, but holds no key -----------------------


@pytest.mark.parametrize("forgery", FORGED, ids=lambda forgery: forgery.__name__)
def test_forged_weights_are_refused_although_their_hash_fits(tmp_path, forgery):
    folder = bundles.place(bundles.NEXT, tmp_path / "next")
    forge_tensors(folder, WEIGHTS, forgery)
    with pytest.raises(BundleRefused):
        load_bundle(folder)
    policy = load_bundle(bundles.place(bundles.ROOT, tmp_path / "root"))
    before = policy.act(bundles.observation()).actions
    assert not policy.swap(folder).committed
    assert np.array_equal(policy.act(bundles.observation()).actions, before)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_bundle_is_refused_although_its_hash_fits(tmp_path, name):
    folder = bundles.place(bundles.NEXT, tmp_path / "next")
    other = bundles.place(bundles.OTHER, tmp_path / "other")
    raw = (other / name).read_bytes()
    if raw == (folder / name).read_bytes():  # the same graph: nothing was exchanged
        assert name == GRAPH
        return
    forge(folder, name, raw)
    with pytest.raises(BundleRefused, match="probe does not come out"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: {ACTION: tensors[ACTION]},
        lambda tensors: {key: value[:0] for key, value in tensors.items()},
        lambda tensors: {key: value[:, :1] for key, value in tensors.items()},
        lambda tensors: {**tensors, ACTION: tensors[ACTION] * np.nan},
        lambda tensors: {**tensors, ACTION: tensors[ACTION] + 2e-5},
    ],
)
def test_a_forged_probe_is_refused(tmp_path, change):
    folder = bundles.place(bundles.ROOT, tmp_path / "root")
    forge_tensors(folder, PROBE, change)
    with pytest.raises(BundleRefused):
        load_bundle(folder)


@pytest.mark.parametrize("raw", [b"", b"\0" * 64, b"not a graph"])
def test_a_forged_graph_is_refused(tmp_path, raw):
    folder = bundles.place(bundles.ROOT, tmp_path / "root")
    forge(folder, GRAPH, raw)
    with pytest.raises(BundleRefused):
        load_bundle(folder)


def test_a_graph_finds_no_weights_but_those_it_is_given(tmp_path, monkeypatch):
    folder = bundles.place(bundles.ROOT, tmp_path / "root")
    monkeypatch.chdir(bundles.place(bundles.OTHER, tmp_path / "other"))  # whose weights lie here
    forge_tensors(folder, WEIGHTS, without_one)

    def change(data):
        del data["weights"]["algo.actor.net.0.bias"]

    edit(folder, change)
    with pytest.raises(BundleRefused, match="ONNX Runtime does not take"):
        load_bundle(folder)


@pytest.mark.parametrize("raw", [b"", b"\xff" * 9, b"\x08" + b"\0" * 7 + b"{}      ", b"{}"])
def test_bytes_that_are_no_tensors_are_refused(tmp_path, raw):
    folder = bundles.place(bundles.ROOT, tmp_path / "root")
    forge(folder, WEIGHTS, raw)
    with pytest.raises(BundleRefused):
        load_bundle(folder)


# -- signatures ---------------------------------------------------------------------------------


def test_a_bundle_that_is_not_signed_is_refused_where_a_key_is_trusted(tmp_path):
    folder = bundles.place(bundles.ROOT, tmp_path / "root")
    (folder / SIGNATURE).unlink()
    load_bundle(folder)
    with pytest.raises(BundleRefused, match="not complete"):
        load_bundle(folder, bundles.keys()[1])


def test_a_bundle_that_somebody_else_signed_is_refused(tmp_path):
    folder = bundles.place(bundles.ROOT, tmp_path / "root")
    private, public = signature.make_keys(tmp_path / "keys")
    with pytest.raises(BundleRefused, match="not that of the trusted key"):
        load_bundle(folder, public)
    (folder / SIGNATURE).write_bytes(signature.sign((folder / MANIFEST).read_bytes(), private))
    load_bundle(folder, public)
    with pytest.raises(BundleRefused, match="not that of the trusted key"):
        load_bundle(folder, bundles.keys()[1])


def test_a_signature_is_over_the_exact_bytes(tmp_path):
    folder = bundles.place(bundles.ROOT, tmp_path / "root")
    path = folder / MANIFEST
    path.write_bytes(path.read_bytes().replace(b"{", b"{ ", 1))  # the same JSON
    load_bundle(folder)
    with pytest.raises(BundleRefused, match="not that of the trusted key"):
        load_bundle(folder, bundles.keys()[1])


def test_a_key_that_is_none_is_told(tmp_path):
    folder = bundles.place(bundles.ROOT, tmp_path / "root")
    private, public = bundles.keys()
    (tmp_path / "bad.pem").write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----")
    for key in (tmp_path / "absent.pem", tmp_path, tmp_path / "bad.pem", private):
        with pytest.raises(BundleRefused, match="a key cannot be read"):
            load_bundle(folder, key)
    with pytest.raises(BundleRefused, match="a key cannot be read"):
        signature.sign(b"", public)


def test_a_pair_is_never_written_over_and_its_secret_is_the_owner_s(tmp_path):
    private, _ = signature.make_keys(tmp_path / "keys")
    assert private.stat().st_mode & 0o077 == 0
    with pytest.raises(FileExistsError):
        signature.make_keys(tmp_path / "keys")


# -- successors ---------------------------------------------------------------------------------


@pytest.fixture
def running(tmp_path):
    return load_bundle(bundles.place(bundles.ROOT, tmp_path / "root"), bundles.keys()[1])


def test_a_successor_takes_over_by_its_folder_or_by_its_weights(running, tmp_path):
    first, second = (bundles.place(name, tmp_path / name) for name in (bundles.NEXT, bundles.AFTER))
    before = running.act(bundles.observation()).actions
    report = running.swap(first / WEIGHTS)
    assert report.committed and report.version == 1 and report.probe_difference <= 1e-5
    chunk = running.act(bundles.observation())
    assert chunk.version == 1 and chunk.weights == report.weights
    assert np.abs(chunk.actions - before).max() > 1e-3
    alone = load_bundle(first).act(bundles.observation()).actions
    assert np.array_equal(chunk.actions, alone)
    assert running.swap(second).version == 2
    assert running.manifest.version == 2


def test_versions_may_be_skipped_but_never_repeated(running, tmp_path):
    first, second = (bundles.place(name, tmp_path / name) for name in (bundles.NEXT, bundles.AFTER))
    assert running.swap(second).committed
    for stale in (first, second, tmp_path / "root"):
        report = running.swap(stale)
        assert not report.committed and "stale" in report.reason and report.version == 2


def test_a_bundle_of_its_own_is_no_successor(running, tmp_path):
    report = running.swap(bundles.place(bundles.OTHER, tmp_path / "other"))
    assert not report.committed and "another policy" in report.reason


def test_a_file_of_another_name_is_no_weights(running, tmp_path):
    report = running.swap(bundles.place(bundles.NEXT, tmp_path / "next") / GRAPH)
    assert not report.committed and WEIGHTS in report.reason


def other_rate(data):
    data["contract"]["rate_hz"] = 10.0


def other_units(data):
    data["contract"]["action"]["parts"][0]["units"] = "mm"


def other_bounds(data):
    data["contract"]["action"]["high"] = [2.0, 2.0]


@pytest.mark.parametrize("change", [other_rate, other_units, other_bounds])
def test_a_successor_with_another_contract_is_refused(tmp_path, change):
    policy = load_bundle(bundles.place(bundles.ROOT, tmp_path / "root"))
    folder = bundles.place(bundles.NEXT, tmp_path / "next")
    edit(folder, change)
    report = policy.swap(folder)
    assert not report.committed and "contract" in report.reason


def test_no_action_comes_from_mixed_weights_while_others_are_swapped_in(tmp_path):
    folders = [bundles.place(n, tmp_path / n) for n in (bundles.ROOT, bundles.NEXT, bundles.AFTER)]
    seen = bundles.observation()
    expected = [load_bundle(folder).act(seen).actions for folder in folders]
    broken = bundles.place(bundles.AFTER, tmp_path / "broken")
    forge_tensors(broken, WEIGHTS, wild)
    policy, chunks, over = load_bundle(folders[0]), [], threading.Event()

    def act() -> None:
        while not over.is_set():
            chunks.append(policy.act(seen))

    actor = threading.Thread(target=act)
    actor.start()
    try:
        for folder in (broken, folders[1], broken, folders[2], broken):
            policy.swap(folder)
    finally:
        over.set()
        actor.join()
    chunks.append(policy.act(seen))
    for chunk in chunks:
        assert np.array_equal(chunk.actions, expected[chunk.version])
    versions = [chunk.version for chunk in chunks]
    assert versions == sorted(versions) and versions[-1] == 2


def test_the_corpus_begins_with_bundles_that_load(tmp_path):
    for name in (bundles.ROOT, bundles.NEXT, bundles.AFTER, bundles.OTHER):
        folder = bundles.place(name, tmp_path / name)
        load_bundle(folder, bundles.keys()[1])
        assert json.loads((folder / MANIFEST).read_text())["format"] == FORMAT
        assert safetensors.numpy.load((folder / PROBE).read_bytes())[ACTION].shape == (64, 3, 2)
