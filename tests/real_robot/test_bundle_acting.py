"""A bundle acts: without torch, on one thread, in time, and never on what it was not trained on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import bundles
import numpy as np
import pytest

from real_robot.runtime import (
    ActionRefused,
    DeadlineMissed,
    ObservationRefused,
    OrtPolicy,
    load_bundle,
)
from real_robot.runtime.bundle import read
from real_robot.runtime.checks import Checks
from robo_offline.export.deployed import EagerPolicy, evaluated


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return bundles.place(bundles.ROOT, tmp_path_factory.mktemp("acting") / "bundle")


@pytest.fixture(scope="module")
def policy(folder) -> OrtPolicy:
    return load_bundle(folder, bundles.keys()[1])


def test_it_acts_as_the_policy_that_was_evaluated(policy):
    seen = bundles.observation()
    expected = evaluated(bundles.policy(0), {key: value[None] for key, value in seen.items()})[0]
    chunk = policy.act(seen)
    assert chunk.actions.shape == (bundles.CHUNK, 2) and chunk.actions.dtype == np.float64
    np.testing.assert_allclose(chunk.actions, expected, atol=1e-6)
    assert (chunk.version, chunk.weights) == (
        0,
        policy.manifest.files["weights.safetensors"].sha256,
    )


def test_pytorch_answers_the_same_through_the_same_door(policy):
    eager = EagerPolicy(bundles.policy(0), policy.manifest.contract)
    for seed in range(20):
        seen = bundles.observation(seed)
        np.testing.assert_allclose(eager.act(seen).actions, policy.act(seen).actions, atol=1e-6)
    with pytest.raises(ObservationRefused, match="velocity"):
        eager.act({**bundles.observation(), "velocity": np.full(2, np.nan, np.float32)})


ALONE = """
import sys
for name in ("torch", "robo_offline", "tensordict", "onnx", "onnxscript", "gymnasium"):
    sys.modules[name] = None  # importing it fails
import numpy as np
from real_robot.runtime import load_bundle
policy = load_bundle(sys.argv[1], sys.argv[2])
report = policy.swap(sys.argv[3])
assert report.committed, report.reason
seen = {"position": np.float32([0.1, 0.2]), "velocity": np.float32([0.3, 0.4])}
print(policy.act(seen).actions.ravel().tolist())
"""


def test_it_loads_acts_and_goes_over_to_new_weights_where_torch_cannot_be_imported(
    folder, tmp_path
):
    successor = bundles.place(bundles.NEXT, tmp_path / "next")
    found = subprocess.run(
        [sys.executable, "-c", ALONE, folder, bundles.keys()[1], successor],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    seen = {"position": np.float32([[0.1, 0.2]]), "velocity": np.float32([[0.3, 0.4]])}
    expected = evaluated(bundles.policy(1), seen).ravel()
    np.testing.assert_allclose(np.fromstring(found.stdout[1:-2], sep=","), expected, atol=1e-6)
    assert found.stderr == ""


BROKEN = {
    "a missing key": lambda o: o.pop("velocity"),
    "another key": lambda o: o.update(wrist=o["velocity"]),
    "another shape": lambda o: o.update(velocity=np.zeros(3, np.float32)),
    "a batch": lambda o: o.update(velocity=np.zeros((1, 2), np.float32)),
    "double precision": lambda o: o.update(velocity=np.zeros(2)),
    "another byte order": lambda o: o.update(velocity=np.zeros(2, ">f4")),
    "a list": lambda o: o.update(velocity=[0.0, 0.0]),
    "NaN": lambda o: o.update(velocity=np.float32([0, np.nan])),
    "infinity": lambda o: o.update(velocity=np.float32([np.inf, 0])),
    "minus infinity": lambda o: o.update(velocity=np.float32([-np.inf, 0])),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_an_observation_that_does_not_fit_is_refused_by_its_name(policy, fault):
    seen = bundles.observation()
    BROKEN[fault](seen)
    with pytest.raises(ObservationRefused, match="wrist" if fault == "another key" else "velocity"):
        policy.act(seen)


def test_an_array_is_no_observation_of_two_keys(policy):
    with pytest.raises(ObservationRefused, match="ndarray"):
        policy.act(np.zeros(4, np.float32))


def test_an_answer_is_good_at_its_deadline_and_refused_a_nanosecond_later(folder):
    now = [1000]
    policy = OrtPolicy(read(folder), clock=lambda: now[0])
    assert policy.act(bundles.observation(), deadline_ns=1000).actions.shape == (3, 2)
    now[0] = 1001
    with pytest.raises(DeadlineMissed, match="1 ns later"):
        policy.act(bundles.observation(), deadline_ns=1000)


def test_an_answer_that_took_too_long_is_refused_too(folder):
    moments = iter((1000, 1001))
    policy = OrtPolicy(read(folder), clock=lambda: next(moments))
    with pytest.raises(DeadlineMissed):
        policy.act(bundles.observation(), deadline_ns=1000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.001, -1.001])
def test_an_action_that_is_not_finite_or_out_of_bounds_is_refused_by_its_place(value):
    raw = np.zeros((1, bundles.CHUNK, 2), np.float32)
    raw[0, 2, 1] = value
    with pytest.raises(ActionRefused, match="step 2, number 1"):
        Checks(bundles.contract()).actions(raw)


def test_actions_of_another_shape_are_refused():
    with pytest.raises(ActionRefused, match="shape"):
        Checks(bundles.contract()).actions(np.zeros((1, 1, 2), np.float32))


def test_it_has_no_threads_of_its_own(folder):
    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    load_bundle(folder).act(bundles.observation())
    before = threads()
    policy = load_bundle(folder)
    policy.act(bundles.observation())
    assert threads() == before


def test_acting_and_swapping_do_not_gather_memory(folder, tmp_path):
    successor = bundles.place(bundles.NEXT, tmp_path / "next")

    def work(rounds: int) -> None:
        for _ in range(rounds):
            policy = load_bundle(folder)
            assert policy.swap(successor).committed
            for seed in range(50):
                policy.act(bundles.observation(seed))

    def resident_kib() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4

    work(10)
    before = resident_kib()
    work(30)
    assert resident_kib() - before < 1024
