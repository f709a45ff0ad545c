"""Every YAML composes, its knobs are the dataclass's, a slip is told by its nearest name."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import toy
from hydra.utils import get_class
from omegaconf import OmegaConf

import configs
from robo_offline.algorithm import Algorithm
from robo_offline.algos.iql import IQL
from robo_offline.algos.sac import SAC
from robo_offline.config import algorithm_values, choices, compose, expand, knobs
from robo_offline.errors import UserError

ROOT = Path(configs.__file__).parent
TRAINED = (
    "algo",
    "env",
    "encoder",
    "replay",
    "goals",
    "augment",
    "phase",
    "acting",
    "collector",
    "learner",
    "evaluation",
    "logger",
    "experiment",
)
CHOICES = [(g, c) for g in TRAINED for c in choices(g) if (g, c) != ("algo", "base")]
NAMES = [name for name in choices("algo") if name != "base"]


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=lambda value: value)
def test_every_choice_composes_without_a_hole(group, choice):
    cfg = compose([f"{group}={choice}"])
    assert "???" not in OmegaConf.to_yaml(cfg, resolve=True)


@pytest.mark.parametrize("name", NAMES)
def test_the_knobs_of_a_yaml_are_the_fields_of_its_dataclass(name):
    values = compose([f"algo={name}"]).algo
    cls = get_class(values._target_.removesuffix(".create"))
    assert set(values) - {"_target_"} == {field.name for field in fields(cls.Config)}


@pytest.mark.parametrize("name", NAMES)
def test_an_algorithm_s_module_and_yaml_have_one_name(name):
    cls = get_class(compose([f"algo={name}"]).algo._target_.removesuffix(".create"))
    assert cls.__module__ == f"robo_offline.algos.{name}"
    assert algorithm_values(cls).keys() == compose([f"algo={name}"]).algo.keys() - {"_target_"}


def test_no_default_stands_in_a_dataclass_of_an_algorithm():
    for name in NAMES:
        cls = get_class(compose([f"algo={name}"]).algo._target_.removesuffix(".create"))
        with pytest.raises(TypeError):
            cls.Config()


def test_no_benchmark_is_named_in_the_values_of_an_algorithm():
    benchmark = re.compile(
        r"lift|door|wipe|stack|robosuite|panda|maze|hopper|cheetah|walker|adroit|kitchen|d4rl|minari",
        re.IGNORECASE,
    )
    for path in (ROOT / "algo").glob("*.yaml"):
        assert not benchmark.search(OmegaConf.to_yaml(OmegaConf.load(path))), path  # no comments


def test_every_folder_of_values_is_reached_from_the_command_line():
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "_"}
    assert folders == {*TRAINED, "policy"}


SLIPS = [
    ("algo=iqq", "algo 'iqq'", "iql"),
    ("env=robosuite/lft", "env 'robosuite/lft'", "robosuite/lift"),
    ("phase=ofline", "phase 'ofline'", "offline"),
    ("logger=wandbb", "logger 'wandbb'", "wandb"),
    ("acting=guar", "acting 'guar'", "guard"),
    ("experiment=demoo", "experiment 'demoo'", "demo"),
    ("+experiment=lift_human/icl", "experiment 'lift_human/icl'", "lift_human/iql"),
    ("sead=1", "knob 'sead'", "seed"),
    ("algo.betta=3", "knob 'algo.betta'", "algo.beta"),
    ("phase.online.step=3", "knob 'phase.online.step'", "phase.online.steps"),
    ("replay.offline_frac=3", "knob 'replay.offline_frac'", "replay.offline_fraction"),
]


@pytest.mark.parametrize(("override", "what", "near"), SLIPS, ids=lambda value: value)
def test_a_slip_is_told_by_the_nearest_right_name(override, what, near):
    with pytest.raises(UserError) as raised:
        compose([override])
    assert what in raised.value.what
    assert near in raised.value.remedy


def test_a_slip_in_a_chosen_algorithm_is_held_against_that_algorithm():
    with pytest.raises(UserError, match=r"algo\.num_critics"):
        compose(["algo=sac", "algo.num_critic=3"])


@pytest.mark.parametrize(
    "override", ["algo", "algo=iql,awac", "algo.beta=[1", "=3", "algo=3", "algo=null"]
)
def test_an_override_that_cannot_be_read_is_told(override):
    with pytest.raises(UserError):
        compose([override])


def test_every_knob_is_listed_once():
    listed = knobs("train")
    assert len(listed) == len(set(listed))
    assert {"algo", "algo.beta", "phase.online.utd", "seed"} <= set(listed)


def test_a_sweep_expands_to_one_list_of_overrides_per_run():
    assert expand(["algo=iql,awac", "threads=2", "seed=0,1"]) == [
        ["algo=iql", "threads=2", "seed=0"],
        ["algo=iql", "threads=2", "seed=1"],
        ["algo=awac", "threads=2", "seed=0"],
        ["algo=awac", "threads=2", "seed=1"],
    ]
    assert expand([]) == [[]]
    assert expand(["seed=range(0,3)"]) == [["seed=0"], ["seed=1"], ["seed=2"]]


def test_a_list_or_a_quoted_comma_is_no_sweep():
    whole = ["algo.hidden=[64,64]", "dataset='a,b'"]
    assert expand(whole) == [whole]
    assert expand(["algo.hidden=[64],[8,8]"]) == [["algo.hidden=[64]"], ["algo.hidden=[8,8]"]]


@pytest.mark.parametrize("override", ["x", "seed=interval(0,1)", "algo=glob(*)"])
def test_a_sweep_that_cannot_be_expanded_is_told(override):
    with pytest.raises(UserError):
        expand([override])


# -- the same values from Python -------------------------------------------------------------


def test_python_gets_the_values_of_the_command_line():
    cfg = IQL.create(toy.spec(), toy.encoder()).cfg
    shipped = compose(["algo=iql"]).algo
    assert (cfg.beta, cfg.discount, list(cfg.hidden)) == (
        shipped.beta,
        shipped.discount,
        shipped.hidden,
    )


def test_a_knob_is_changed_by_its_name():
    assert IQL.create(toy.spec(), toy.encoder(), beta=7.0, hidden=(8,)).cfg.beta == 7.0


def test_a_misspelt_knob_is_told_by_the_nearest_one():
    with pytest.raises(UserError, match="IQL has no knob 'expectil'") as raised:
        IQL.create(toy.spec(), toy.encoder(), expectil=0.9)
    assert "expectile" in raised.value.remedy


@pytest.mark.parametrize(
    "wrong", [{"beta": "much"}, {"hidden": "wide"}, {"chunk": 1.5}, {"lr": 3}, {"beta": None}]
)
def test_a_knob_of_the_wrong_type_is_told_by_its_name(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        IQL.create(toy.spec(), toy.encoder(), **wrong)


def test_an_algorithm_whose_losses_and_order_differ_is_refused():
    class Odd(SAC):
        order = ("critic", "actor")

    with pytest.raises(TypeError, match="order"):
        Odd(toy.spec(), toy.encoder(), SAC.create(toy.spec(), toy.encoder(), hidden=(8,)).cfg)


def test_an_algorithm_that_names_a_module_it_did_not_build_is_refused():
    class Bare(Algorithm):
        order = ("actor",)

        def build(self, spec, encoder):
            pass

        def loss_actor(self, batch):
            raise NotImplementedError

    with pytest.raises(TypeError, match="build"):
        Bare(toy.spec(), toy.encoder(), IQL.create(toy.spec(), toy.encoder(), hidden=(8,)).cfg)
