"""A policy as native code acts as its bundle does, takes new weights, and is trusted like one."""

from __future__ import annotations

import shutil

import bundles
import numpy as np
import pytest

from real_robot.runtime import BundleRefused, load_bundle
from real_robot.runtime.bundle import read
from real_robot.runtime.manifest import MANIFEST, SIGNATURE, TOLERANCE
from real_robot.testing.damage import flip
from robo_offline.errors import UserError
from robo_offline.export import aoti

pytestmark = pytest.mark.slow  # a C++ compiler runs


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return bundles.place(bundles.ROOT, tmp_path_factory.mktemp("bundle") / "root")


@pytest.fixture(scope="module")
def made(root, tmp_path_factory):
    if not aoti.possible():
        pytest.skip("PyTorch's compiler cannot link from a folder with a space in its path")
    folder = tmp_path_factory.mktemp("native") / "compiled"
    seen = {key: np.stack([bundles.observation(s)[key] for s in range(8)]) for key in bundles.KEYS}
    private, _ = bundles.keys()
    about = aoti.write(bundles.policy(0), read(root), seen, "drawn", folder, private, calls=10)
    return folder, about


def test_it_is_certified_like_the_graph(made):
    _, about = made
    assert set(about.certificate.parity) >= {"recorded", "random", "edge", "other_weights"}
    assert all(p.max_difference <= TOLERANCE for p in about.certificate.parity.values())
    assert set(about.certificate.latency) == {"eager", "aotinductor"}


def test_it_acts_as_its_bundle_does_and_goes_over_to_new_weights(made, root, tmp_path):
    native = aoti.load(made[0], read(root), bundles.keys()[1])
    graph = load_bundle(root)
    successor = bundles.place(bundles.NEXT, tmp_path / "next")
    for _ in range(2):
        for seed in range(10):
            seen = bundles.observation(seed)
            np.testing.assert_allclose(
                native.act(seen).actions, graph.act(seen).actions, atol=TOLERANCE
            )
        report = native.swap(successor)
        graph.swap(successor)
    assert native.manifest.version == 1 and "stale" in report.reason


def test_what_is_damaged_foreign_or_not_signed_is_not_loaded(made, root, tmp_path):
    bundle, public = read(root), bundles.keys()[1]
    other = read(bundles.place(bundles.OTHER, tmp_path / "other"))
    with pytest.raises(BundleRefused, match="another bundle's"):
        aoti.load(made[0], other)
    for name in (aoti.PACKAGE, MANIFEST, SIGNATURE):
        folder = tmp_path / name
        shutil.copytree(made[0], folder)
        flip(folder / name, 20)
        with pytest.raises(BundleRefused):
            aoti.load(folder, bundle, public)
    with pytest.raises(BundleRefused, match="no compiled policy"):
        aoti.load(tmp_path / "nothing", bundle)


def test_an_error_of_the_compiler_is_told(root, monkeypatch):
    monkeypatch.setattr(aoti, "possible", lambda: True)
    with pytest.raises(UserError, match="cannot be compiled"):
        aoti.compiled(bundles.policy(0), read(root), {"no.such.setting": 1})


def test_an_environment_with_a_space_in_its_path_is_refused_before_anything(root, monkeypatch):
    monkeypatch.setattr(aoti, "possible", lambda: False)
    with pytest.raises(UserError, match="has no space"):
        aoti.compiled(bundles.policy(0), read(root))
