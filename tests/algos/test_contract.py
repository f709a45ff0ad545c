"""The contract of every algorithm, found by its YAML: a new one adds no test code."""

from __future__ import annotations

import ast
import copy
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path

import pytest
import torch
import toy
from goal_reference import goal_spec
from hydra.utils import get_class
from safetensors.torch import load, save
from tensordict import TensorDict
from torch.utils._python_dispatch import TorchDispatchMode

from robo_offline import schema
from robo_offline.config import choices, compose
from robo_offline.encoders.state import State
from robo_offline.engine.learner import Learner
from robo_offline.engine.seeds import SeedLearner
from robo_offline.errors import UserError
from robo_offline.schema import ACTOR_GOAL
from robo_offline.spec import Spec

B = 37  # a prime that is no other size here, so that (B, B) can only be a slip
NAMES = [name for name in choices("algo") if name != "base"]
CHUNKS = (1, 3)
WAITING = ("aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::masked_select")
ON_THE_HOST = ("prdc",)  # searches a tree
PAIRWISE = ("crl",)  # compares every row with every goal
WITHOUT_TARGETS = ("crl", "qrl")  # value actions all the same
LEARNS_FROM_SUCCESSORS = ("qrl",)  # of all rows, without bootstrapping
FORBIDDEN = (".item()", ".cuda()", ".backward()", "torch.compile")
OFF_LIMITS = ("hydra", "omegaconf", "torch.optim", "envs", "configs") + tuple(
    f"robo_offline.{part}"
    for part in (
        "engine",
        "replay",
        "datasets",
        "phases",
        "build",
        "train",
        "checkpoint",
        "loggers",
    )
)


@cache
def algorithm_class(name: str) -> type:
    return get_class(compose([f"algo={name}"]).algo._target_.removesuffix(".create"))


def build(name: str, chunk: int = 1, **changes):
    """The algorithm with its shipped values, but narrow."""
    algo = copy.deepcopy(_build(name, chunk, **changes))
    algo.schedule(10**9, "online")  # late: with every term that a method has
    return algo


@cache
def _build(name: str, chunk: int, seed: int = 0, **knobs):
    torch.manual_seed(seed)
    cls = algorithm_class(name)
    if "hidden" in cls.Config.__dataclass_fields__:
        knobs["hidden"] = (16, 16)
    encoder = partial(State, spec=spec_of(name))
    algo = cls.create(spec_of(name), encoder, action_scale=torch.ones(2), chunk=chunk, **knobs)
    algo.study(make_batch(name, chunk, seed=99))
    return algo


def aims(name: str) -> bool:
    """Whether it learns to reach goals."""
    return ACTOR_GOAL in algorithm_class(name).needs


def spec_of(name: str) -> Spec:
    return goal_spec() if aims(name) else toy.spec()


def make_batch(name: str, chunk: int, seed: int = 0) -> TensorDict:
    """Random rows: a third terminated, a third truncated, chunks with filler at the ends."""
    random = torch.Generator().manual_seed(seed)
    kind = torch.arange(B) % 3
    shape = (B, 2) if chunk == 1 else (B, chunk, 2)
    length = torch.where(kind > 0, torch.arange(B) % chunk + 1, chunk)
    batch = TensorDict(
        {
            "observation": torch.randn(B, 4, generator=random),
            "action": 2 * torch.rand(shape, generator=random) - 1,
            "discount": 0.99**length,
            "source": torch.zeros(B, dtype=torch.uint8),
            "demonstration": torch.arange(B) % 5 < 3,
            "return_to_go": torch.randn(B, generator=random),
            "next": {
                "observation": torch.randn(B, 4, generator=random),
                "reward": torch.randn(B, generator=random),
                "terminated": kind == 1,
                "truncated": kind == 2,
                "done": kind > 0,
                "action": 2 * torch.rand(shape, generator=random) - 1,
            },
        },
        [B],
    )
    if chunk > 1:
        batch["mask"] = torch.arange(chunk) < length[:, None]
        batch["next", "mask"] = torch.arange(chunk) < (torch.arange(B) % (chunk + 1))[:, None]
    return with_goals(batch, random) if aims(name) else batch


def with_goals(batch: TensorDict, random: torch.Generator) -> TensorDict:
    """The same rows as a hindsight leaves them: nested, and with every goal that there is."""

    def state() -> TensorDict:
        return TensorDict({"state": torch.randn(B, 4, generator=random)}, [B])

    goal = state()
    for path in ("observation", ("next", "observation")):
        batch[path] = TensorDict({"state": batch[path], "goal": goal}, [B])
    for key in ("actor_goal", "low_goal", "high_goal", "high_target"):
        batch[key] = state()
    return batch


def seen_by(name: str, scale: float = 1.0):
    state = scale * torch.randn(B, 4)
    if not aims(name):
        return state
    return TensorDict({"state": state, "goal": {"state": scale * torch.randn(B, 4)}}, [B])


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture(params=CHUNKS, ids=lambda chunk: f"chunk{chunk}")
def chunk(request):
    return request.param


def state(algo) -> dict[str, torch.Tensor]:
    return {key: value.detach().clone() for key, value in algo.state_dict().items()}


def losses(algo, batch) -> dict[str, torch.Tensor]:
    """Every loss, each from the same place of the random stream."""
    values = {}
    for name in algo.order:
        torch.manual_seed(1)
        values[name] = getattr(algo, f"loss_{name}")(batch)[0].detach()
    return values


def test_it_builds_from_its_yaml_and_its_batch_keeps_the_schema(name, chunk):
    algo = build(name, chunk)
    schema.check(make_batch(name, chunk), algo.spec)


def test_each_loss_trains_its_module_alone_and_its_targets_follow_exactly(name, chunk):
    algo, batch = build(name, chunk, tau=0.1), make_batch(name, chunk)
    learner = Learner(algo)
    for trained in algo.order:
        before = state(algo)
        learner.step(trained, batch)
        after = algo.state_dict()
        for key, value in after.items():
            module, _, rest = key.partition(".")
            if module == trained:
                continue
            fast = algo.targets.get(module)
            if fast == trained:
                expected = torch.lerp(before[key], after[f"{fast}.{rest}"], 0.1)
                assert torch.equal(value, expected), key
            else:
                assert torch.equal(value, before[key]), key
        trainable = dict(getattr(algo, trained).named_parameters())
        assert all(
            not torch.equal(value, before[f"{trained}.{key}"]) for key, value in trainable.items()
        )


@pytest.mark.parametrize("phase", ["offline", "online"])
def test_losses_and_metrics_are_finite_tensors_without_an_axis(name, chunk, phase):
    algo, batch = build(name, chunk), make_batch(name, chunk)
    algo.schedule(0, phase)
    for trained in algo.order:
        loss, metrics = getattr(algo, f"loss_{trained}")(batch)
        priority = metrics.pop("priority", torch.zeros(B))
        assert priority.shape == (B,) and priority.isfinite().all()
        for value in (loss, *metrics.values()):
            assert value.shape == () and value.isfinite()


def test_every_loss_falls_on_one_fixed_batch(name, chunk):
    algo, batch = build(name, chunk, tau=0.0), make_batch(name, chunk)
    learner = Learner(algo)
    for trained in algo.order:
        before = losses(algo, batch)[trained]
        for _ in range(20):
            torch.manual_seed(1)
            learner.step(trained, batch)
        assert losses(algo, batch)[trained] < before


class NoSquare(TorchDispatchMode):
    """Refuse every tensor with the batch twice among its axes."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                assert tuple(tensor.shape).count(B) < 2, f"{func} made {tuple(tensor.shape)}"
        return out


def test_no_tensor_ever_has_the_batch_twice_among_its_axes(name, chunk):
    if name in PAIRWISE:
        pytest.skip("it has them, by design")
    algo, batch = build(name, chunk), make_batch(name, chunk)
    learner = Learner(algo)
    with NoSquare():
        for trained in algo.order:
            learner.step(trained, batch)


class NoWaiting(TorchDispatchMode):
    """Refuse what makes the host wait for the device: a number read, a shape that data decides."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        assert name not in WAITING, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


def test_an_update_never_waits_for_the_device(name, chunk):
    if name in ON_THE_HOST:
        pytest.skip("it does, by design")
    learner = Learner(build(name, chunk))
    with NoWaiting():
        for count in range(2):  # what is trained on every other update as well
            learner.update(make_batch(name, chunk, count))


def test_stacked_seeds_are_the_separate_ones(name, chunk):
    stacked = SeedLearner([build(name, chunk, seed=s) for s in (1, 2)], randomness="same")
    alone = [Learner(build(name, chunk, seed=s)) for s in (1, 2)]
    with pytest.raises(UserError) if name in ON_THE_HOST else nullcontext():
        for count in range(2):
            rows = [make_batch(name, chunk, count), make_batch(name, chunk, 10 + count)]
            torch.manual_seed(count)
            found = stacked.update(torch.stack(rows))
            for index, learner in enumerate(alone):
                torch.manual_seed(count)
                for key, value in learner.update(rows[index]).items():
                    assert torch.allclose(found[key][index], value, rtol=1e-4, atol=1e-4), key


@pytest.mark.parametrize("explore", [False, True])
def test_actions_keep_their_shape_and_stay_within_the_bounds(name, chunk, explore):
    algo = build(name, chunk).eval()
    action = algo.act(seen_by(name, 100), explore)
    assert action.shape == (B, *algo.spec.action_shape)
    assert action.abs().max() <= 1


def test_acting_without_exploration_draws_nothing(name, chunk):
    algo, observation = build(name, chunk).eval(), seen_by(name)
    before = torch.get_rng_state()
    first, second = algo.act(observation, False), algo.act(observation, False)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def disturbed(batch: TensorDict, rows: torch.Tensor) -> TensorDict:
    batch = batch.clone()
    nested = ("next", "observation", "state")
    batch[nested if nested in batch.keys(True) else ("next", "observation")][rows] += 3.0
    return batch


def test_terminated_rows_ignore_their_successor(name, chunk):
    algo, batch = build(name, chunk), make_batch(name, chunk)
    # Where a goal was reached the successor is as real as any: only what bootstraps ignores it.
    told = set(algo.targets.values()) if aims(name) else set(algo.order)
    if not told:
        pytest.skip("it never bootstraps")
    changed = disturbed(batch, batch["next", "terminated"])
    found, before = losses(algo, changed), losses(algo, batch)
    assert {key: found[key] for key in told} == {key: before[key] for key in told}


def test_truncated_rows_bootstrap_from_their_successor(name, chunk):
    algo, batch = build(name, chunk), make_batch(name, chunk)
    changed = disturbed(batch, batch["next", "truncated"])
    reads = bool(algo.targets) or name in LEARNS_FROM_SUCCESSORS
    assert (losses(algo, changed) != losses(algo, batch)) == reads


def test_filler_of_a_chunk_does_not_reach_a_loss_without_a_critic(name):
    algo, batch = build(name, 3), make_batch(name, 3)
    if algo.targets or name in WITHOUT_TARGETS:
        pytest.skip("a critic may read any filler; see the replay")
    changed = batch.clone()
    changed["action"][~batch["mask"]] = 0.123
    assert losses(algo, changed) == losses(algo, batch)


def test_an_actor_does_not_imitate_the_filler_of_a_chunk(name):
    algo, batch = build(name, 3), make_batch(name, 3)
    if not hasattr(algo.actor, "log_prob"):
        pytest.skip("this actor has no density")
    observation = batch["observation"]
    if name == "hiql":  # its low policy is told a subgoal
        observation = (observation, torch.zeros(B, algo.cfg.representation))
    args = observation, batch["action"], batch["mask"]
    before = algo.actor.log_prob(*args)
    batch["action"][~batch["mask"]] = 0.123
    assert torch.equal(algo.actor.log_prob(*args), before)


def test_a_saved_learner_continues_bit_for_bit(name, chunk):
    first = Learner(build(name, chunk, seed=1))
    second = Learner(build(name, chunk, seed=2))
    for count in range(5):
        first.update(make_batch(name, chunk, count))
    second.load_state_dict(load(save(first.state_dict())))
    for learner in (first, second):
        torch.manual_seed(7)
        for count in range(25):
            metrics = learner.update(make_batch(name, chunk, 10 + count))
    a, b = first.state_dict(), second.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert all(metrics[key].isfinite() for key in metrics)


def test_the_file_keeps_to_the_layout(name):
    path = Path(__import__(algorithm_class(name).__module__, fromlist=["x"]).__file__)
    text = path.read_text()
    assert len(text.splitlines()) <= 150
    assert not [word for word in FORBIDDEN if word in text]
    for node in ast.walk(ast.parse(text)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        for module in modules:
            assert not module.startswith(OFF_LIMITS), module
