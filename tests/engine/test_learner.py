"""Steps, targets, periods, rates, and a state that fits or is refused."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import toy
from torch.utils._python_dispatch import TorchDispatchMode

from robo_offline.algos.bc import BC
from robo_offline.algos.iql import IQL
from robo_offline.algos.rlpd import RLPD
from robo_offline.algos.sac import SAC
from robo_offline.algos.td3_bc import TD3BC
from robo_offline.engine.learner import Learner
from robo_offline.engine.optim import adam, cosine, learning_rates
from robo_offline.errors import UserError
from robo_offline.replay.buffer import Replay, Window


def make(cls=SAC, **knobs) -> Learner:
    return Learner(cls.create(toy.spec(), toy.encoder(), **{"hidden": (8,), **knobs}))


@pytest.fixture(scope="module")
def batch():
    return Replay.of_steps(toy.dataset(3).steps, Window(0.9)).sample(16)


def weights(module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def test_targets_move_strictly_between_where_they_were_and_the_online_network(batch):
    learner = make(tau=0.1)
    for parameter in learner.algo.target_critic.parameters():
        parameter.data += 1.0
    before = weights(learner.algo.target_critic)
    learner.update(batch)
    after, online = weights(learner.algo.target_critic), weights(learner.algo.critic)
    for old, moved, fast in zip(before, after, online, strict=True):
        assert torch.equal(moved, torch.lerp(old, fast, 0.1))
        assert ((moved < old) & (moved > fast)).all()


def test_a_target_starts_as_its_network_and_is_never_trained():
    algo = make().algo
    pairs = zip(algo.critic.parameters(), algo.target_critic.parameters(), strict=True)
    assert all(torch.equal(a, b) and not b.requires_grad for a, b in pairs)


def test_actor_and_temperature_are_stepped_once_per_period_the_critic_always(batch):
    learner = make(RLPD, actor_period=5, num_critics=3)
    moved = {name: [] for name in learner.algo.order}
    for _ in range(15):
        before = {name: weights(getattr(learner.algo, name)) for name in moved}
        learner.update(batch)
        for name, old in before.items():
            new = weights(getattr(learner.algo, name))
            moved[name].append(any(not torch.equal(a, b) for a, b in zip(old, new, strict=True)))
    assert moved["critic"] == [True] * 15
    assert moved["actor"] == moved["alpha"] == [(n + 1) % 5 == 0 for n in range(15)]


def test_a_target_with_a_period_copies_only_then(batch):
    learner = make()
    learner.algo.target_period = lambda slow: 3
    learner.algo.target_tau = lambda slow: 1.0
    start = weights(learner.algo.target_critic)
    for count in range(1, 7):
        learner.update(batch)
        due = weights(learner.algo.critic) if count % 3 == 0 else start
        start = due
        held = weights(learner.algo.target_critic)
        assert all(torch.equal(a, b) for a, b in zip(held, due, strict=True))


def test_simultaneous_losses_all_see_the_parameters_before_the_update(batch):
    learners = make(), make()
    learners[1].algo.load_state_dict(learners[0].algo.state_dict())
    alone, whole = learners
    whole.algo.simultaneous = True
    torch.manual_seed(3)
    whole.update(batch)
    torch.manual_seed(3)
    for name in alone.algo.order:
        alone.differentiate(name, batch)
    for name in alone.algo.order:
        alone.apply(name)
    for a, b in zip(alone.algo.parameters(), whole.algo.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_the_losses_report_reaches_the_algorithm(batch):
    learner, seen = make(), []
    learner.algo.after_update = seen.append
    metrics = learner.update(batch)
    assert seen == [metrics]


def test_a_step_leaves_no_gradient_behind_for_another_module(batch):
    learner = make()
    learner.step("actor", batch)
    assert all(p.grad is None for p in learner.algo.critic.parameters())


def test_a_step_is_plain_adam(batch):
    learner = make(BC, lr={"default": 1e-2})
    expected = [p.detach().clone().requires_grad_() for p in learner.algo.actor.parameters()]
    first, second = ([torch.zeros_like(p) for p in expected] for _ in range(2))
    for count in range(1, 4):
        loss, _ = learner.algo.loss_actor(batch)
        gradients = torch.autograd.grad(loss, list(learner.algo.actor.parameters()))
        learner.update(batch)
        for p, g, m, v in zip(expected, gradients, first, second, strict=True):
            m.mul_(0.9).add_(0.1 * g)
            v.mul_(0.999).add_(0.001 * g * g)
            step = (m / (1 - 0.9**count)) / ((v / (1 - 0.999**count)).sqrt() + 1e-8)
            p.data -= 1e-2 * step
    for p, q in zip(expected, learner.algo.actor.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6)


def test_there_is_no_weight_decay():
    optimisers = make().optimisers.values()
    assert all(type(o) is torch.optim.Adam for o in optimisers)
    assert {o.param_groups[0]["weight_decay"] for o in optimisers} == {0}


def test_every_module_has_its_own_rate_and_the_default_serves_the_rest():
    learner = make(lr={"default": 1e-3, "alpha": 5e-4})
    found = {name: o.param_groups[0]["lr"] for name, o in learner.optimisers.items()}
    assert found == {"critic": 1e-3, "actor": 1e-3, "alpha": 5e-4}


def test_a_rate_for_one_module_leaves_the_default_of_the_yaml_to_the_others():
    assert make(lr={"alpha": 5e-4}).rates == {"critic": 3e-4, "actor": 3e-4, "alpha": 5e-4}


def test_a_rate_for_a_module_that_is_not_trained_is_refused():
    with pytest.raises(UserError, match="not trained") as raised:
        make(lr={"default": 1e-3, "actr": 1e-3})
    assert "actor" in raised.value.remedy


def test_the_cosine_falls_from_one_to_zero_and_never_climbs_back():
    assert cosine(0.0) == 1.0
    assert cosine(0.5) == pytest.approx(0.5)
    assert cosine(1.0) == pytest.approx(0.0, abs=1e-15)
    assert cosine(1.5) == cosine(2.0) == cosine(1.0)
    values = [cosine(n / 100) for n in range(250)]
    assert all(b <= a for a, b in itertools.pairwise(values))


def test_decay_touches_the_named_modules_alone_and_is_undone_by_none():
    learner = make()
    learner.decay(("actor",), 0.25)
    rate = 3e-4 * 0.5 * (1 + math.cos(math.pi / 4))
    assert learner.optimisers["actor"].param_groups[0]["lr"] == pytest.approx(rate)
    assert learner.optimisers["critic"].param_groups[0]["lr"] == 3e-4
    learner.decay((), 0.0)
    assert learner.optimisers["actor"].param_groups[0]["lr"] == 3e-4


def test_a_decay_of_a_module_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="offline_decay"):
        make(offline_decay=("actr",))


def test_metrics_are_tensors_without_a_graph(batch):
    metrics = make().update(batch)
    assert {"critic/loss", "actor/loss", "alpha/loss"} <= metrics.keys()
    assert all(isinstance(v, torch.Tensor) and not v.requires_grad for v in metrics.values())


class Waits(TorchDispatchMode):
    """Count what makes the host wait for a device: numbers read, shapes that data decides."""

    names = ("aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::masked_select")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func._schema.name in self.names
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("cls", [IQL, TD3BC])
def test_only_logs_and_saves_wait_for_the_device_and_no_step_does(tmp_path, cls):
    found = []
    for steps in (5, 25):
        run = toy.run(tmp_path / str(steps), cls, data=toy.dataset(3), episodes=0)
        phase = toy.offline(steps=steps, log_every=0, evaluate_every=0, save_every=0)
        with Waits() as waits:
            run.execute({"offline": phase})
        found.append(waits.count)
    assert found[0] == found[1] > 0  # those of the beginning and of the end


def test_a_saved_state_is_a_copy(batch):
    learner = make()
    learner.update(batch)
    state = learner.state_dict()
    before = {key: value.clone() for key, value in state.items()}
    learner.update(batch)
    assert all(torch.equal(state[key], before[key]) for key in state)


def test_a_state_of_other_widths_is_refused_by_the_name_of_a_tensor():
    with pytest.raises(UserError, match="does not fit SAC"):
        make().load_state_dict(make(hidden=(9,)).state_dict())


def test_a_state_of_another_algorithm_is_refused():
    with pytest.raises(UserError, match="does not fit"):
        make(BC).load_state_dict(make().state_dict())


def test_adam_takes_its_rate():
    assert adam([torch.nn.Parameter(torch.ones(1))], 0.1).param_groups[0]["lr"] == 0.1


def test_rates_without_a_default_need_every_module():
    with pytest.raises(UserError, match="default"):
        learning_rates(["actor", "critic"], {"actor": 1e-3})
