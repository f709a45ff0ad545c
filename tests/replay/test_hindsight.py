"""Hindsight against a literal reading of its definitions, one transition after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_rows import dataset_steps, episode
from tensordict import TensorDict
from torchrl.data import Composite, UnboundedContinuous

from robo_offline.algos.iql import IQL
from robo_offline.encoders.state import State
from robo_offline.errors import UserError
from robo_offline.losses.td import bootstrap
from robo_offline.replay.buffer import Replay, Window
from robo_offline.replay.hindsight import Hindsight, Near, SameRow, Shares, check
from robo_offline.replay.mixture import Mixture
from robo_offline.schema import ACTOR_GOAL, RETURN_TO_GO, SUBGOALS
from robo_offline.schema import check as check_batch
from robo_offline.spec import Spec, _bounded

NOTHING = Shares(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
KINDS = ("current", "geometric", "uniform", "final", "random", "commanded")
COMMANDED = 5000.0  # and the number of the episode: a goal that no row achieves
MADE_OF = {"state": (0,)}


def only(**shares: float) -> Shares:
    return replace(NOTHING, **shares)


def hindsight(**changes) -> Hindsight:
    values = Hindsight(
        value=only(current=0.2, geometric=0.5, random=0.3),
        actor=only(uniform=1.0),
        discount=0.9,
        reached=SameRow(offset=0),
        reward=0.0,
        reward_before=-1.0,
        ends=True,
        subgoal_steps=3,
    )
    return replace(values, **changes)


def window(told: Hindsight, **changes) -> Window:
    values = {"discount": 0.9, "hindsight": told, "goal": MADE_OF}
    return Window(**{**values, "extras": (ACTOR_GOAL, SUBGOALS), **changes})


def rows(number: int, steps: int, end: str = "truncated", commanded: bool = True) -> TensorDict:
    """An episode with nested observations whose first entry says which row it is."""
    part = episode(number, steps, end)
    leaves = {"state": part["observation"]}
    if commanded:
        goal = torch.full((steps + 1, 1), COMMANDED + number)
        leaves["goal"] = TensorDict({"state": goal}, [steps + 1])
    part["observation"] = TensorDict(leaves, [steps + 1])
    return part


def fixed(parts: list[TensorDict], w: Window) -> Replay:
    return Replay.of_steps(dataset_steps(parts), w)


def ring(parts: list[TensorDict], w: Window, capacity: int) -> Replay:
    replay = Replay(capacity, w)
    for part in parts:
        replay.extend(part)
    return replay


def goal_of(leaf: TensorDict) -> np.ndarray:
    return leaf["state"].squeeze(-1).numpy()


# -- what a batch must be, from the definitions alone ----------------------------------------------


def judged(part: TensorDict, at: int, goal: float, w: Window) -> tuple[float, bool]:
    """Return the reward of a window that begins at step `at`, and whether its goal ended it."""
    told, steps = w.hindsight, len(part) - 1
    total, discount = 0.0, 1.0
    for step in range(at, min(at + w.length, steps)):
        if goal >= COMMANDED and not isinstance(told.reached, Near):
            hit = bool(part["success"][step])
        elif isinstance(told.reached, Near):
            hit = abs(part["observation", "state"][step + 1, 0].item() - goal) < 1.5
        else:
            hit = part["observation", "state"][step + told.reached.offset, 0].item() == goal
        raw = told.reward if hit else told.reward_before
        total += discount * (w.reward_scale * raw + w.reward_shift)
        discount *= w.discount
        if hit and told.ends:
            return total, True
    return total, False


def legal(part: TensorDict, at: int, live: list[TensorDict], shares: Shares, w: Window) -> set:
    """Return the goals that a transition may be given."""
    steps, later = len(part) - 1, w.hindsight.reached.offset
    own = part["observation", "state"][:, 0].tolist()
    last = steps - 1 + later
    allowed: set = set()
    allowed |= {own[at]} if shares.current else set()
    allowed |= (
        set(own[min(at + 1, last) : last + 1]) if shares.geometric + shares.uniform else set()
    )
    allowed |= {own[last]} if shares.final else set()
    if shares.random:
        for other in live:
            allowed |= set(
                other["observation", "state"][later : len(other) - 1 + later, 0].tolist()
            )
    if shares.commanded:
        allowed |= set(goal_of(part["observation", "goal"]).tolist())
    return allowed


def assert_batches_are_right(replay: Replay, live: list[TensorDict]) -> None:
    w = replay.window
    told = w.hindsight
    batch = replay.gather(replay.starts)
    at = [(part, step) for part in live for step in range(len(part) - 1)]
    value, actor = goal_of(batch["observation", "goal"]), goal_of(batch[ACTOR_GOAL])
    high, low = goal_of(batch["high_goal"]), goal_of(batch["low_goal"])
    assert set(batch["high_target"].keys()) == {"state"}
    for i, (part, step) in enumerate(at):
        own = part["observation", "state"][:, 0].tolist()
        last = len(part) - 2 + told.reached.offset
        assert value[i] == goal_of(batch["next", "observation", "goal"])[i]
        assert value[i] in legal(part, step, live, told.value, w)
        assert {actor[i], high[i]} <= legal(part, step, live, told.actor, w)
        reward, ended = judged(part, step, value[i], w)
        assert batch["next", "reward"][i].item() == pytest.approx(reward, rel=1e-5, abs=1e-5)
        assert batch["next", "terminated"][i].item() == ended
        over = step + w.length >= len(part) - 1 and bool(
            part["terminated"][-2] | part["truncated"][-2]
        )
        assert batch["next", "truncated"][i].item() == (over and not ended)
        assert batch["next", "done"][i].item() == (over or ended)
        ahead = own[min(step + told.subgoal_steps, last)]
        assert low[i] == ahead
        target = batch["high_target", "state"][i, 0].item()
        if high[i] in own and not told.actor.random:
            assert target == own[min(step + told.subgoal_steps, own.index(high[i]))]
        else:
            assert target in (ahead, *own[step : step + told.subgoal_steps])


@st.composite
def mixtures(draw) -> Shares:
    weight = [draw(st.sampled_from([0, 0, 1, 3])) for _ in KINDS]
    weight = weight if sum(weight) else [1, 0, 0, 0, 0, 0]
    return Shares(*(w / sum(weight) for w in weight))


shapes = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from(["terminated", "truncated", "open"])),
    min_size=1,
    max_size=6,
)
windows = st.builds(
    lambda told, **changes: window(told, **changes),
    st.builds(
        hindsight,
        value=mixtures(),
        actor=mixtures(),
        discount=st.sampled_from([0.0, 0.5, 0.99]),
        reached=st.sampled_from([SameRow(offset=0), SameRow(offset=1), Near(tolerance=1.5)]),
        reward=st.sampled_from([0.0, 1.0]),
        ends=st.booleans(),
        subgoal_steps=st.integers(1, 6),
    ),
    discount=st.sampled_from([0.5, 0.99, 1.0]),
    chunk=st.integers(1, 4),
    n_step=st.integers(1, 4),
    reward_scale=st.sampled_from([1.0, 2.0]),
    reward_shift=st.sampled_from([0.0, -0.5]),
)


@settings(max_examples=60)
@given(shapes, windows)
def test_every_batch_of_a_data_set_is_as_defined(shapes, w):
    parts = [rows(number, *shape) for number, shape in enumerate(shapes)]
    assert_batches_are_right(fixed(parts, w), parts)


@settings(max_examples=60)
@given(shapes, windows, st.integers(10, 40))
def test_goals_never_cross_an_episode_of_a_ring_from_which_episodes_leave(shapes, w, capacity):
    parts = [rows(number, *shape) for number, shape in enumerate(shapes)]
    replay = ring(parts, w, capacity)
    assert_batches_are_right(replay, parts[-len(replay.episodes) :])


# -- how often each goal is drawn ------------------------------------------------------------------

STEPS, AT, DRAWS = 6, 2, 40_000


def frequencies(told: Hindsight, at: int = AT) -> dict[int, float]:
    """Return how often a transition at step `at` gets the goal of each step of its episode."""
    replay = fixed([rows(0, STEPS)], window(told, extras=()))
    batch = replay.gather(torch.full((DRAWS,), at))
    found, count = np.unique(goal_of(batch["observation", "goal"]), return_counts=True)
    return dict(zip(found.astype(int).tolist(), (count / DRAWS).tolist(), strict=True))


def assert_like(found: dict[int, float], expected: dict[int, float]) -> None:
    assert found.keys() == {key for key, share in expected.items() if share > 0}
    for key, share in found.items():
        assert share == pytest.approx(expected[key], abs=5 * (0.25 / DRAWS) ** 0.5)


@pytest.mark.parametrize(("reached", "last"), [(SameRow(0), STEPS - 1), (Near(0.5), STEPS)])
def test_geometric_goals_are_discounted_steps_ahead_and_stop_at_the_last(reached, last):
    found = frequencies(hindsight(value=only(geometric=1.0), discount=0.7, reached=reached))
    expected = {AT + d: 0.3 * 0.7 ** (d - 1) for d in range(1, last - AT)}
    assert_like(found, {**expected, last: 1 - sum(expected.values())})


@pytest.mark.parametrize(("reached", "last"), [(SameRow(0), STEPS - 1), (Near(0.5), STEPS)])
def test_uniform_goals_are_rounded_between_the_next_row_and_the_last(reached, last):
    found = frequencies(hindsight(value=only(uniform=1.0), reached=reached))
    inner = 1 / (last - AT - 1)
    assert_like(
        found,
        {AT + 1: inner / 2, last: inner / 2, **dict.fromkeys(range(AT + 2, last), inner)},
    )


def test_the_last_transition_is_its_own_future_where_goals_are_reached_before_a_step():
    for shares in (only(geometric=1.0), only(uniform=1.0), only(final=1.0)):
        assert_like(frequencies(hindsight(value=shares), at=STEPS - 1), {STEPS - 1: 1.0})
        near = hindsight(value=shares, reached=Near(0.5))
        assert_like(frequencies(near, at=STEPS - 1), {STEPS: 1.0})


def test_shares_are_what_they_say():
    shares = only(current=0.2, final=0.3, random=0.4, commanded=0.1)
    found = frequencies(hindsight(value=shares))
    expected = dict.fromkeys(range(STEPS), 0.4 / STEPS)
    expected[AT] += 0.2
    expected[STEPS - 1] += 0.3
    assert_like(found, {**expected, int(COMMANDED): 0.1})


def test_value_and_actor_goals_are_drawn_independently():
    told = hindsight(value=only(random=1.0), actor=only(random=1.0))
    batch = fixed([rows(0, 100)], window(told)).sample(20_000)
    value, actor = goal_of(batch["observation", "goal"]), goal_of(batch[ACTOR_GOAL])
    assert abs(np.corrcoef(value, actor)[0, 1]) < 0.05
    assert (value == actor).mean() == pytest.approx(0.01, abs=0.004)


def test_a_random_high_goal_leaves_the_way_to_the_episodes_end():
    told = hindsight(actor=only(random=1.0), subgoal_steps=2)
    batch = fixed([rows(0, 9), rows(1, 9)], window(told)).sample(2000)
    start = batch["observation", "state"][:, 0]
    end = torch.div(start, 100, rounding_mode="floor") * 100 + 8
    assert torch.equal(batch["high_target", "state"][:, 0], torch.minimum(start + 2, end))


def test_an_episode_gives_way_to_waypoints_no_further_than_the_high_goal():
    told = hindsight(actor=only(uniform=1.0), subgoal_steps=4)
    batch = fixed([rows(0, 9)], window(told)).sample(2000)
    start, goal = batch["observation", "state"][:, 0], batch["high_goal", "state"][:, 0]
    assert torch.equal(batch["high_target", "state"][:, 0], torch.minimum(start + 4, goal))


# -- conventions -----------------------------------------------------------------------------------


def test_at_its_goal_a_state_is_worth_nothing_more_and_elsewhere_a_step_costs_one():
    """OGBench: reward success - 1, and no bootstrap where the row is the goal's."""
    told = hindsight(value=only(current=0.5, uniform=0.5))
    batch = fixed([rows(0, 9)], window(told)).sample(500)
    at_goal = batch["observation", "state"][:, :1] == batch["observation", "goal", "state"]
    target = bootstrap(batch, torch.full((500,), -7.0))
    expected = torch.where(at_goal.squeeze(1), 0.0, -1.0 + 0.9 * -7.0)
    assert 0.4 < at_goal.float().mean() < 0.7
    assert torch.allclose(target, expected)


def test_the_step_that_arrives_is_paid_one_and_ends():
    told = hindsight(
        value=only(uniform=1.0), reached=SameRow(offset=1), reward=1.0, reward_before=0.0
    )
    batch = fixed([rows(0, 9)], window(told)).sample(500)
    arrives = batch["next", "observation", "state"][:, 0] == goal_of_tensor(batch)
    assert torch.equal(batch["next", "reward"], arrives.float())
    assert torch.equal(batch["next", "terminated"], arrives) and arrives.any()


def goal_of_tensor(batch: TensorDict) -> torch.Tensor:
    return batch["observation", "goal", "state"][:, 0]


def test_hindsight_judges_by_where_a_step_leads_and_need_not_end():
    told = hindsight(value=only(uniform=1.0), reached=Near(tolerance=2.5), ends=False)
    batch = fixed([rows(0, 9, "terminated")], window(told)).sample(500)
    near = (batch["next", "observation", "state"][:, 0] - goal_of_tensor(batch)).abs() < 2.5
    assert torch.equal(batch["next", "reward"], near.float() - 1)
    assert not batch["next", "terminated"].any()
    over = batch["observation", "state"][:, 0] == 8
    assert torch.equal(batch["next", "truncated"], over)  # the end of the old task is none here


def test_what_was_commanded_is_judged_by_the_environment():
    told = hindsight(value=only(commanded=1.0))
    batch = fixed([rows(0, 4, "terminated")], window(told)).gather(torch.arange(4))
    assert batch["next", "reward"].tolist() == [-1, -1, -1, 0]
    assert batch["next", "terminated"].tolist() == [False, False, False, True]
    assert (goal_of_tensor(batch) == COMMANDED).all()


@pytest.mark.parametrize("entries", [(0,), (1, 0), (0, 1)])
def test_a_goal_is_made_of_the_entries_it_names_in_their_order(entries):
    told = hindsight(value=only(final=1.0), reached=Near(0.5))
    batch = fixed([rows(0, 9)], window(told, goal={"state": entries}, extras=())).sample(64)
    closing = torch.tensor([9.0, -9.0])[list(entries)]
    assert torch.equal(batch["observation", "goal", "state"], closing.expand(64, -1))
    arrives = batch["observation", "state"][:, 0] == 8
    assert torch.equal(batch["next", "terminated"], arrives)


def test_images_are_goals_and_nothing_is_measured():
    part = rows(0, 5, commanded=False)
    image = torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1, 1).expand(6, 3, 2, 2).contiguous()
    part["observation", "camera"] = image
    told = hindsight(value=only(uniform=1.0))
    batch = fixed([part], window(told, goal={"camera": None}, extras=())).sample(64)
    goal = batch["observation", "goal", "camera"]
    assert goal.dtype == torch.uint8 and goal.shape == (64, 3, 2, 2)
    assert (goal[:, 0, 0, 0] >= batch["observation", "camera"][:, 0, 0, 0]).all()


def test_a_batch_mixes_logged_data_without_goals_and_experience_with_them():
    told = hindsight(value=only(uniform=1.0), reached=Near(0.5))
    w = window(told)
    offline = fixed([rows(0, 9, commanded=False)], w)
    online = ring([rows(1, 9)], w, 100)
    batch = Mixture(offline, online, fraction=0.5).sample(32)
    check_batch(batch, logged_spec().with_goal(MADE_OF))
    logged = batch["source"] == 0
    assert logged.sum() == 16
    assert (goal_of_tensor(batch)[logged] < 100).all()
    assert (goal_of_tensor(batch)[~logged] >= 100).all()


def logged_spec(dim: int = 2) -> Spec:
    nested = Composite(state=UnboundedContinuous((dim,)))
    return Spec(Composite(observation=nested), _bounded(2))


def test_an_ordinary_algorithm_learns_from_relabelled_batches():
    told = hindsight()
    spec = logged_spec().with_goal(MADE_OF)
    algo = IQL.create(spec, lambda **changes: State(changes.get("spec", spec)), hidden=(8,))
    batch = fixed([rows(0, 9), rows(1, 5)], window(told, extras=())).sample(16)
    for name in algo.order:
        loss, _ = getattr(algo, f"loss_{name}")(batch)
        assert loss.isfinite()


# -- what does not fit -----------------------------------------------------------------------------


def test_an_algorithm_that_needs_goals_is_refused_without_a_hindsight():
    with pytest.raises(UserError, match="needs goals") as error:
        check(Window(0.9, extras=(ACTOR_GOAL, SUBGOALS)))
    assert "goals=ogbench" in str(error.value)


def test_hindsight_without_goals_in_the_environment_is_refused():
    with pytest.raises(UserError, match="the environment has none"):
        check(window(hindsight(), goal=None))


def test_returns_to_go_of_another_goal_are_refused():
    with pytest.raises(UserError, match="returns to go"):
        check(window(hindsight(), extras=(RETURN_TO_GO,)))


@pytest.mark.parametrize(
    "changes",
    [
        {"value": only(current=0.5)},
        {"value": only(current=1.5, random=-0.5)},
        {"discount": 1.0},
        {"reward": -1.0},
        {"subgoal_steps": 0},
    ],
)
def test_values_without_sense_are_refused(changes):
    with pytest.raises(UserError, match="does not fit"):
        hindsight(**changes)


def test_a_tolerance_and_an_offset_are_held_to_their_ranges():
    for wrong in (lambda: Near(0.0), lambda: SameRow(offset=2)):
        with pytest.raises(UserError, match="does not fit"):
            wrong()
