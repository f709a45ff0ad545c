"""Logged data is held against what an environment makes its goals of."""

from __future__ import annotations

import pytest
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, UnboundedContinuous

from robo_offline.datasets import Dataset
from robo_offline.datasets.goals import comparable
from robo_offline.errors import UserError
from robo_offline.spec import Spec

MADE_OF = {"state": (0,)}


def logged_spec(dim: int = 2) -> Spec:
    return spec_of(Composite(state=UnboundedContinuous((dim,))))


def spec_of(observation) -> Spec:
    return Spec(Composite(observation=observation), Bounded(-1.0, 1.0, shape=(2,)))


def data(spec: Spec) -> Dataset:
    return Dataset("some/data-v0", TensorDict({}, []), spec, None)


def test_data_is_held_against_what_goals_are_made_of():
    wanted = logged_spec(4).with_goal({"state": (0, 1)})
    with pytest.raises(UserError, match="does not hold what goals are made of") as error:
        comparable(data(logged_spec(2)), wanted, commanded=False)
    assert "(4,)" in str(error.value) and "(2,)" in str(error.value)
    flat = spec_of(UnboundedContinuous((4,)))
    with pytest.raises(UserError, match="one vector without leaves"):
        comparable(data(flat), wanted, commanded=False)


def test_data_without_goals_is_refused_where_none_are_drawn():
    wanted = logged_spec().with_goal(MADE_OF)
    with pytest.raises(UserError, match="no goals of its own"):
        comparable(data(logged_spec()), wanted, commanded=True)
    fits = comparable(data(logged_spec()), wanted, commanded=False)
    assert fits.spec.difference(wanted) == [] and fits.spec.goal == MADE_OF
