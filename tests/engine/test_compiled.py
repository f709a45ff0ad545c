"""Compiled updates are the eager ones, compile once, and say what cannot be compiled."""

from __future__ import annotations

import shutil
from functools import partial

import pytest
import torch
import toy
from torch._dynamo.utils import counters
from torch.profiler import ProfilerActivity, profile

from robo_offline import build
from robo_offline.algos.bc import BC
from robo_offline.algos.cql import CQL
from robo_offline.algos.iql import IQL
from robo_offline.algos.prdc import PRDC
from robo_offline.algos.sac import SAC
from robo_offline.algos.td3_bc import TD3BC
from robo_offline.config import compose
from robo_offline.engine.compiled import CompiledLearner
from robo_offline.engine.learner import Learner
from robo_offline.replay.buffer import Replay, Window

SMALL_CQL = partial(CQL.create, critic_hidden=(8,), num_candidates=2, backup_candidates=2)
WAITING = {"aten::_local_scalar_dense", "aten::item", "aten::nonzero"}  # for the device
KINDS = [(IQL.create, 1), (TD3BC.create, 2), (SAC.create, 1), (SMALL_CQL, 1)]


class Traced(CompiledLearner):
    """All of the compiler but the making of machine code, which takes most of the time."""

    backend = "aot_eager"


@pytest.fixture(scope="module")
def replay():
    return Replay.of_steps(toy.dataset(3).steps, Window(0.9))


def pair(create, other, **knobs) -> list[Learner]:
    learners = []
    for cls in (Learner, other):
        torch.manual_seed(0)
        learners.append(cls(create(toy.spec(), toy.encoder(), hidden=(8,), **knobs)))
    return learners


def train(learner: Learner, replay: Replay, updates: int) -> dict[str, torch.Tensor]:
    for count in range(updates):
        torch.manual_seed(count)
        learner.decay(("actor",), count / 100)
        metrics = learner.update(replay.sample(16))
    return metrics


def assert_alike(first: Learner, second: Learner) -> None:
    ours, theirs = first.state_dict(), second.state_dict()
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert torch.allclose(value, theirs[key], atol=1e-4), key


@pytest.mark.parametrize(("create", "period"), KINDS, ids=["iql", "td3_bc", "sac", "cql"])
def test_twenty_compiled_updates_are_the_eager_ones_and_neither_compile_nor_wait(
    create, period, replay
):
    eager, compiled = pair(create, Traced)
    train(compiled, replay, period)  # every kind of update once
    graphs = counters["stats"]["unique_graphs"]
    compiled.load_state_dict(eager.state_dict())
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        found = train(compiled, replay, 20)
    expected = train(eager, replay, 20)
    assert counters["stats"]["unique_graphs"] == graphs > 0
    seen = {event.key for event in profiled.key_averages()}
    assert "aten::addmm" in seen and not seen & WAITING
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.allclose(found[key], value, rtol=1e-3, atol=1e-4), key
    assert_alike(eager, compiled)


def test_a_loss_that_works_on_the_host_stays_eager_and_this_is_said_once(replay, capsys):
    eager, compiled = pair(PRDC.create, Traced)
    for learner in (eager, compiled):
        learner.algo.study(replay.gather(replay.starts))
        train(learner, replay, 4)
    assert compiled.eager == {("actor",)}
    assert capsys.readouterr().err.count("PRDC: loss_actor cannot be compiled") == 1
    assert_alike(eager, compiled)


def test_a_compiled_run_continues_where_an_eager_one_stopped(replay):
    eager, compiled = pair(BC.create, Traced)
    train(eager, replay, 3)
    compiled.load_state_dict(eager.state_dict())
    for learner in (eager, compiled):
        train(learner, replay, 3)
        learner.reset_optimisers()
        train(learner, replay, 3)
    assert_alike(eager, compiled)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Inductor's own are not ours
@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a C++ compiler")
def test_machine_code_does_the_same_and_is_kept(replay, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    eager, compiled = pair(BC.create, CompiledLearner)
    for learner in (eager, compiled):
        train(learner, replay, 20)
    assert_alike(eager, compiled)
    if " " in torch.__file__:  # Inductor does not quote the folders that it hands to g++
        assert compiled.eager
    else:
        assert not compiled.eager and list(tmp_path.rglob("*.so"))


def test_the_configuration_chooses():
    algo = BC.create(toy.spec(), toy.encoder(), hidden=(8,))
    assert type(build.learner(compose(), algo)) is Learner
    assert type(build.learner(compose(["learner=compiled"]), algo)) is CompiledLearner
    assert build.learner(compose(["learner=bf16"]), algo).bf16
