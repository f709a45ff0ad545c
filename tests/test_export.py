"""A run's policy leaves for a robot: the same actions, proven, or nothing is written at all."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
import toy
from gymnasium.spaces import Box, Dict

from real_robot.runtime import OrtPolicy, load_bundle, signature
from real_robot.runtime.bundle import read
from real_robot.runtime.contract import Action, Camera, Contract, Leaf, Part
from real_robot.runtime.manifest import GRAPH, MANIFEST, WEIGHTS
from real_robot.runtime.session import Session
from robo_offline import cli
from robo_offline.algos.awac import AWAC
from robo_offline.algos.bc import BC
from robo_offline.algos.iql import IQL
from robo_offline.algos.sac import SAC
from robo_offline.algos.td7 import TD7
from robo_offline.encoders import Encoder
from robo_offline.encoders.state import State
from robo_offline.errors import UserError
from robo_offline.export import certificate, export, folder, graph, observations
from robo_offline.export.deployed import Deployed, evaluated
from robo_offline.export.leaves import paths
from robo_offline.policies.policy import Policy
from robo_offline.policies.select import Expansion
from robo_offline.saved import load_policy
from robo_offline.spec import Spec

OFFLINE = [
    "algo.hidden=[8]", "env=gymnasium", "env._target_=toy.make", "dataset=toy", "phase=offline",
    "logger.console=false", "phase.offline.steps=20",
    "evaluation={episodes: 2, workers: 1, video_episodes: 0}",
]  # fmt: skip


@dataclass(frozen=True)
class Exported:
    run: Path
    bundle: Path
    algo: str
    chunk: int


@contextmanager
def toy_data(rows: int = 64, here: bool = True):
    """The toy's data set, on this machine or not, and less to certify."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robo_offline.build.load", lambda name: toy.dataset(4))
        patch.setattr(observations, "load", lambda name: toy.dataset(30))
        patch.setattr(observations, "local_ids", lambda: ["toy-v0"] if here else [])
        patch.setattr(observations, "ROWS", rows)
        yield


def train(directory: Path, *overrides: str) -> Path:
    assert cli.main(["train", *OFFLINE, *overrides, f"run_dir={directory}"]) == 0
    return directory


@pytest.fixture(scope="module", params=[("bc", 1), ("bc", 3), ("iql", 1), ("iql", 3)], ids=str)
def exported(request, tmp_path_factory) -> Exported:
    algo, chunk = request.param
    home = tmp_path_factory.mktemp(f"{algo}-{chunk}")
    with toy_data():
        run = train(home / "run", f"algo={algo}", f"algo.chunk={chunk}")
        export(run, home / "bundle", rate_hz=20.0, calls=20)
    return Exported(run, home / "bundle", algo, chunk)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    with toy_data():
        return train(tmp_path_factory.mktemp("plain") / "run", "algo=bc")


@pytest.fixture
def quick():
    with toy_data():
        yield


@pytest.fixture
def traced_once(monkeypatch):
    """Tracing takes seconds; a test of something else needs it once."""
    made: dict[tuple[str, ...], bytes] = {}

    def trace(deployed, example, really=graph.trace):
        names = tuple(f"{name}{tuple(t.shape)}" for name, t in deployed.tensors().items())
        if names not in TRACED:
            TRACED[names] = really(deployed, example)
        computation, raw = TRACED[names]
        tensors = deployed.tensors()
        return computation, graph.pack({n: tensors[n] for n in safetensors.numpy.load(raw)})

    monkeypatch.setattr(graph, "trace", trace)
    return made


TRACED: dict[tuple[str, ...], tuple[bytes, bytes]] = {}


# -- from a run to a bundle and back ---------------------------------------------------------------


def test_a_bundle_acts_as_the_policy_of_its_run(exported):
    policy, bundle = load_policy(exported.run, "best"), load_bundle(exported.bundle)
    seen = {"observation": np.random.default_rng(5).normal(size=(50, 4)).astype(np.float32)}
    expected = evaluated(policy, seen)
    for row, actions in zip(seen["observation"], expected, strict=True):
        chunk = bundle.act(row)
        assert chunk.actions.shape == (exported.chunk, 2)
        np.testing.assert_allclose(chunk.actions, actions, atol=1e-5)


def test_a_bundle_drives_an_episode_to_the_same_end(exported):
    policy, bundle = load_policy(exported.run, "best"), load_bundle(exported.bundle)
    env, ends = toy.Reach(), []
    for act in (lambda o: policy.act(o, explore=False), acting(bundle)):
        policy.reset()
        observation, _ = env.reset(seed=3)
        over = False
        while not over:
            observation, _, terminated, truncated, _ = env.step(act(observation))
            over = terminated or truncated
        ends.append(observation)
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-4)


def acting(bundle: OrtPolicy):
    queue: list[np.ndarray] = []

    def act(observation: np.ndarray) -> np.ndarray:
        if not queue:
            queue.extend(bundle.act(observation).actions)
        return queue.pop(0)

    return act


def test_a_manifest_says_where_the_policy_comes_from(exported):
    manifest = read(exported.bundle).manifest
    assert (manifest.algorithm, manifest.run) == (exported.algo, "run")
    assert (manifest.phase, manifest.step, manifest.checkpoint) == ("offline", 20, "best")
    assert manifest.config["algo"]["chunk"] == exported.chunk
    assert "run_dir" not in manifest.config
    assert manifest.versions["torch"] == torch.__version__ and "onnxruntime" in manifest.versions
    assert (manifest.version, manifest.succeeds) == (0, None)


def test_a_contract_holds_shapes_bounds_and_the_data_s_statistics(exported):
    contract = read(exported.bundle).manifest.contract
    [leaf] = contract.observation
    assert (leaf.key, leaf.shape, leaf.dtype, leaf.low) == ("observation", (4,), "float32", None)
    whole = toy.dataset(4).steps["observation"]
    np.testing.assert_allclose(leaf.normaliser.mean, whole.mean(0), atol=1e-6)
    np.testing.assert_allclose(leaf.normaliser.std, whole.std(0, correction=0), atol=1e-5)
    assert leaf.normaliser.covered == 4
    action = contract.action
    assert (action.dim, action.chunk) == (2, exported.chunk)
    assert (action.low, action.high) == ((-1.0, -1.0), (1.0, 1.0))
    assert contract.rate_hz == 20.0 and contract.cameras == ()


def test_a_certificate_tells_every_parity_and_both_latencies(exported):
    told = read(exported.bundle).manifest.certificate
    rows = {name: parity.rows for name, parity in told.parity.items()}
    assert rows == {"recorded": 64, "random": 64, "edge": 23, "other_weights": 64, "batched": 64}
    assert all(parity.max_difference <= 1e-5 for parity in told.parity.values())
    assert told.parity["recorded"].source == "data set toy"
    assert told.refused_non_finite == 3 * 4
    for name in ("eager", "onnxruntime"):
        latency = told.latency[name]
        assert 0 < latency.p50_us <= latency.p99_us <= latency.p999_us and latency.calls == 20


def test_the_command_line_exports_signs_and_says_nothing_else(run, tmp_path, capfd):
    private, public = signature.make_keys(tmp_path / "keys")
    to = tmp_path / "deep" / "bundle"
    with toy_data(rows=observations.ROWS, here=False):
        words = ["export", str(run), "--to", str(to), "--rate", "20", "--sign", str(private)]
        assert cli.main([*words, "--descriptor", "c" * 64]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "parity, recorded", "parity, random", "parity, edge", "parity, other weights",
        "parity, batched", "latency, eager", "latency, onnxruntime", "bundle",
    ]  # fmt: skip
    assert "over 1024 observations (evaluation episodes, as the data set toy is not" in lines[0]
    assert "over 1024 observations" in lines[1] and "signed" in lines[-1]
    manifest = load_bundle(to, public).manifest
    assert manifest.contract.descriptor_hash == "c" * 64
    assert sorted(path.name for path in to.parent.iterdir()) == ["bundle"]
    assert {path.name for path in to.iterdir()} == {*manifest.files, MANIFEST, "manifest.sig"}


def test_any_onnx_runtime_loads_the_two_files_as_they_lie(exported):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported.bundle / GRAPH)
    seen = np.float32([[0.1, 0.2, 0.3, 0.4]])
    [action] = session.run(None, {"observation": seen})
    np.testing.assert_allclose(action[0], load_bundle(exported.bundle).act(seen[0]).actions)


def test_a_graph_holds_no_weights_and_no_word_about_the_machine(exported):
    raw = (exported.bundle / GRAPH).read_bytes()
    for word in (b".py", b"site-packages", b"robo_offline", str(Path.home()).encode()):
        assert word not in raw
    bundle = read(exported.bundle)
    for weight in bundle.weights.values():
        assert weight.size < 4 or weight.tobytes() not in raw


# -- successors ------------------------------------------------------------------------------------


def test_a_later_checkpoint_takes_over_in_a_running_policy(run, tmp_path, quick, traced_once):
    first, second = tmp_path / "first", tmp_path / "second"
    export(run, first, rate_hz=20.0, descriptor_hash="d" * 64, calls=20)
    manifest = export(run, second, checkpoint="last", successor_of=first, calls=20)
    assert (manifest.version, manifest.contract.rate_hz) == (1, 20.0)
    assert manifest.contract.descriptor_hash == "d" * 64
    running = load_bundle(first)
    report = running.swap(second / WEIGHTS)
    assert report.committed and running.manifest.version == 1
    third = export(run, tmp_path / "third", successor_of=second, calls=20)
    assert third.version == 2 and third.succeeds == manifest.succeeds


@pytest.mark.parametrize("knob", ["algo.hidden=[9]", "algo.chunk=2"])
def test_a_policy_of_another_shape_is_no_successor(knob, run, tmp_path, quick, traced_once):
    export(run, tmp_path / "first", rate_hz=20.0, calls=20)
    other = train(tmp_path / "run", "algo=bc", knob)
    with pytest.raises(UserError, match="cannot succeed that bundle"):
        export(other, tmp_path / "second", successor_of=tmp_path / "first", calls=20)
    assert not (tmp_path / "second").exists()


def test_a_damaged_bundle_has_no_successor(run, tmp_path, quick, traced_once):
    export(run, tmp_path / "first", rate_hz=20.0, calls=20)
    (tmp_path / "first" / GRAPH).write_bytes(b"")
    with pytest.raises(UserError, match="not the one that the manifest names"):
        export(run, tmp_path / "second", successor_of=tmp_path / "first")


# -- what is refused leaves nothing behind -----------------------------------------------------


def test_a_policy_that_comes_out_otherwise_is_not_written(
    run, tmp_path, quick, traced_once, monkeypatch
):
    really = certificate.evaluated
    monkeypatch.setattr(certificate, "evaluated", lambda p, rows: really(p, rows) + 2e-5)
    with pytest.raises(UserError, match=r"found: 2(\.\d+)?e-05 over 64 observations"):
        export(run, tmp_path / "bundle", rate_hz=20.0)
    assert list(tmp_path.iterdir()) == []


def test_data_that_is_not_finite_is_told_and_not_certified(
    run, tmp_path, quick, traced_once, monkeypatch
):
    data = toy.dataset(4)
    data.steps["observation"][:, 2] = torch.nan
    monkeypatch.setattr(observations, "load", lambda name: data)
    with pytest.raises(UserError, match=r"not finite\n  where: observation\[2\]"):
        export(run, tmp_path / "bundle", rate_hz=20.0)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(run, tmp_path, quick):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        export(run, tmp_path, rate_hz=20.0)
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (tmp_path / "notes.txt", tmp_path / "link"):
        with pytest.raises(UserError, match="no folder"):
            export(run, path, rate_hz=20.0)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_empty_folder_is_filled_and_a_refused_one_stays_away(tmp_path):
    (tmp_path / "empty").mkdir()
    folder.write(tmp_path / "empty", {"a": b"1"}, lambda path: None)
    assert (tmp_path / "empty" / "a").read_bytes() == b"1"

    def refuse(path: Path) -> None:
        assert (path / "a").read_bytes() == b"1"
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        folder.write(tmp_path / "other", {"a": b"1"}, refuse)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_rate_that_nobody_knows_is_asked_for(run, tmp_path, quick):
    with pytest.raises(UserError, match="--rate"):
        export(run, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_hash_that_is_none_and_a_key_that_is_none_are_told(run, tmp_path, quick, traced_once):
    with pytest.raises(UserError, match="64 hexadecimal digits"):
        export(run, tmp_path / "bundle", rate_hz=20.0, descriptor_hash="panda")
    (tmp_path / "key.pem").write_text("secret")
    with pytest.raises(UserError, match="a key cannot be read"):
        export(run, tmp_path / "bundle", rate_hz=20.0, sign=tmp_path / "key.pem", calls=20)
    assert not (tmp_path / "bundle").exists()


def test_a_folder_without_a_run_or_a_checkpoint_is_told(run, tmp_path):
    with pytest.raises(UserError, match="not the folder of a run"):
        export(tmp_path, tmp_path / "bundle")
    with toy_data(), pytest.raises(UserError, match="no checkpoint 'newest'"):
        export(run, tmp_path / "bundle", checkpoint="newest")


def test_missing_packages_are_named(run, tmp_path, monkeypatch):
    from robo_offline import export as package

    monkeypatch.setattr(package, "find_spec", lambda name: None if "onnx" in name else name)
    with pytest.raises(UserError, match=r"no onnx, onnxscript, onnxruntime") as error:
        export(run, tmp_path / "bundle")
    assert "robo-offline[deploy]" in str(error.value)


# -- every kind of policy ----------------------------------------------------------------------


def shaken(algo, seed: int = 1):
    """Weights that a training could have left: zeros are no test of anything."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in algo.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return algo


def one_dimension() -> Policy:
    scale = torch.tensor([0.5, 0.0])  # the data never moved the second one
    knobs = {"hidden": (8,), "chunk": 3, "data_range": True, "action_scale": scale}
    return Policy(shaken(SAC.create(toy.spec(), toy.encoder(), **knobs)))


def kept() -> Policy:
    algo = shaken(TD7.create(toy.spec(), toy.encoder(), hidden=(8,)))
    algo.best_return.fill_(1.0)  # a checkpoint inside of it acts, not the newest actor
    return Policy(algo)


def rescaled() -> Policy:
    return Policy(shaken(AWAC.create(toy.spec(), toy.encoder(), hidden=(8, 8))))


def nested() -> Policy:
    spec = Spec.of(toy.make_nested())
    return Policy(shaken(IQL.create(spec, lambda: State(spec), hidden=(8,), chunk=2)))


def not_looking() -> Policy:
    """Sees an image and goes by the vector beside it alone."""
    return Policy(shaken(BC.create(seeing(), lambda: State(seeing()), hidden=(8,))))


class Looking(Encoder):
    """An image and a vector, as vision policies see them."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Conv2d(3, 2, 3)
        self.dim = 2 * 2 * 2 + 4

    def forward(self, observation):
        feature = self.net(observation["wrist"].float() / 255).flatten(1)
        return torch.cat([feature, observation["state"]], -1)


def looking() -> Policy:
    return Policy(shaken(BC.create(seeing(), Looking, hidden=(8,))))


def seeing() -> Spec:
    state, image = Box(-np.inf, np.inf, (4,), np.float32), Box(0, 255, (3, 4, 4), np.uint8)
    return Spec.from_spaces(Dict({"state": state, "wrist": image}), Box(-1, 1, (2,), np.float32))


def two_policies() -> Policy:
    algo = shaken(IQL.create(toy.spec(), toy.encoder(), hidden=(8,)))
    acting = Expansion(kappa=1.0)
    acting.begin(algo, None)
    shaken(algo, seed=2)
    return Policy(algo, acting=acting)


def session_of(policy: Policy) -> tuple[Session, bytes]:
    spec = policy.algo.spec
    specs = {
        key: spec.observation[("observation", *path)] for key, path in paths(spec).items()
    }  # fmt: skip
    leaves = tuple(
        Leaf(key, tuple(x.shape), str(x.dtype)[6:], None, None, part(x.shape.numel()), None)
        for key, x in specs.items()
    )
    images = [leaf for leaf in leaves if leaf.dtype == "uint8"]
    cameras = tuple(Camera(leaf.key, *leaf.shape[1:], "CHW", "RGB") for leaf in images)
    action = Action(2, policy.algo.cfg.chunk, "", (-1.0, -1.0), (1.0, 1.0), part(2))
    contract = Contract(leaves, cameras, action, 20.0, None)
    computation, raw = graph.trace(Deployed(policy), observations.random(contract, 1))
    return Session(computation, safetensors.numpy.load(raw), contract), computation


def part(size: int) -> tuple[Part, ...]:
    return (Part("x", size, "", "", 1.0),)


@pytest.mark.parametrize(
    "kind", [one_dimension, kept, rescaled, nested, looking, not_looking, two_policies]
)
def test_every_kind_of_policy_acts_the_same_alone_and_in_a_batch(kind):
    policy = kind()
    session, _ = session_of(policy)
    assert (session.session.get_inputs()[0].shape[0] == 1) == (kind is two_policies)
    seen = observations.random(session.contract, 32, seed=2)
    expected = evaluated(policy, seen)
    alone = certificate._answers(session, seen)
    np.testing.assert_allclose(alone, expected, atol=1e-5)
    if kind is not two_policies:  # which counts the rows, so that it is traced for one
        np.testing.assert_allclose(session.batch(seen), expected, atol=1e-5)
    assert np.ptp(expected, 0).max() > 1e-2  # and not the same all over


def test_a_policy_set_uses_both_of_its_policies():
    policy = two_policies()
    seen = {"observation": np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)}
    guided = []
    for row in seen["observation"]:
        policy.reset()
        policy.act(row, explore=False)
        guided.append(policy.guided)
    assert 0 < sum(guided) < len(guided)


def test_a_weight_that_was_zero_can_be_exchanged():
    policy = Policy(BC.create(toy.spec(), toy.encoder(), hidden=(8,)))
    assert not policy.algo.actor.net[0].bias.any()
    session, computation = session_of(policy)
    policy.algo.actor.net[0].bias.fill_(0.5)
    weights = {**session.weights, "algo.actor.net.0.bias": policy.algo.actor.net[0].bias.numpy()}
    other = Session(computation, weights, session.contract)
    seen = observations.random(session.contract, 8)
    np.testing.assert_allclose(session.batch(seen).shape, (8, 1, 2))
    np.testing.assert_allclose(other.batch(seen), evaluated(policy, seen), atol=1e-6)
    assert np.abs(other.batch(seen) - session.batch(seen)).max() > 1e-3


class Branching(BC):
    __module__ = BC.__module__  # whose values it takes

    def act(self, observation, explore):
        action = super().act(observation, explore)
        return action if action.sum() > 0 else -action


def test_a_policy_that_cannot_be_traced_is_told_why():
    policy = Policy(Branching.create(toy.spec(), toy.encoder(), hidden=(8,)))
    with pytest.raises(UserError, match="Branching cannot be exported") as error:
        session_of(policy)
    assert "without a branch on a tensor's value" in str(error.value)


class Loose(BC):
    __module__ = BC.__module__

    def build(self, spec, encoder):
        super().build(spec, encoder)
        self.table = (torch.randn(4, 600),)  # in a tuple: nobody saves it

    def act(self, observation, explore):
        return super().act(observation, explore) + (observation @ self.table[0]).mean(-1, True)


def test_a_tensor_that_nobody_saves_is_told():
    policy = Policy(Loose.create(toy.spec(), toy.encoder(), hidden=(8,)))
    with pytest.raises(UserError, match="neither a parameter nor a buffer"):
        session_of(policy)


def test_the_edges_hold_zeros_bounds_extremes_and_what_no_sensor_says():
    leaf = Leaf("x", (2,), "float32", (-1.0,), (2.0,), (Part("x", 2, "", "", 1.0),), None)
    free = Leaf("y", (1,), "float32", None, None, (Part("y", 1, "", "", 1.0),), None)
    action = Action(1, 1, "", (-1.0,), (1.0,), (Part("a", 1, "", "", 1.0),))
    seen = {"x": np.zeros((3, 2), np.float32), "y": np.float32([[3], [5], [4]])}
    rows = observations.edge(Contract((leaf, free), (), action, 1.0, None), seen)
    assert rows["x"].dtype == np.float32 and len(rows["x"]) == len(rows["y"]) == 7 + 4 * 3
    for value in (0.0, -1.0, 2.0, -1e15, 1e15):
        assert (rows["x"] == np.float32(value)).any()
    assert {3.0, 5.0} <= set(rows["y"].ravel().tolist())
    drawn = observations.random(Contract((leaf, free), (), action, 1.0, None), 200)
    assert drawn["x"].min() == -1 and drawn["x"].max() == 2


def test_a_bundle_names_every_file_with_its_hash(exported):
    data = json.loads((exported.bundle / MANIFEST).read_text())
    assert set(data["files"]) == {path.name for path in exported.bundle.iterdir()} - {MANIFEST}
    assert "robo-offline" in data["versions"]
