"""The learner's side: the episodes of one process, whoever restarts; and what is refused."""

from __future__ import annotations

import importlib.util

import pytest
import torch
import toy
from apart import acting, carrier, knob, push_to_one_side, run_of
from omegaconf import OmegaConf

from robo_offline import build
from robo_offline.actors.apart import Apart
from robo_offline.actors.companion import Companion
from robo_offline.actors.service import Service
from robo_offline.config import compose
from robo_offline.errors import UserError
from robo_offline.phases.collector import Collector, Here

KNOBS = {
    "address": "",
    "start_actor": True,
    "lockstep": True,
    "wait_s": 0.0,
    "orphan_s": 600.0,
}


@pytest.fixture
def run(toy_run, tmp_path, monkeypatch):
    """A run in lockstep whose companions are not started: the test is the actor and the courier."""
    monkeypatch.setattr(Companion, "look_after", lambda companion: 0)
    monkeypatch.setattr(Companion, "end", lambda companion: None)
    values = ["algo=sac", "collector=ray", "collector.lockstep=true"]
    made = run_of(tmp_path / "run", [*toy_run[1:], *values])
    toy.OPEN.append(made)
    return made


def learn_from(run, collector, count: int) -> list[torch.Tensor]:
    """Take episodes; after the third the learner's actor pushes to one side."""
    found = []
    for _ in range(count):
        rows, summary = collector.next()
        run.counters.env_step += len(rows) - 1
        run.counters.episode += 1
        found.append(rows)
        assert summary["length"] == len(rows) - 1
        if run.counters.episode == 3:
            push_to_one_side(run)
    return found


def test_in_lockstep_its_episodes_are_those_of_one_process(run, toy_run, tmp_path):
    with Apart(**KNOBS)(run, random_steps=25, ahead=False) as collector:
        service = Service(str(run.directory / "service"))
        (run.directory / "service" / "learner").touch()
        with acting(run.directory, carrier(service)):
            apart = learn_from(run, collector, 6)
    alone = run_of(tmp_path / "alone", [*toy_run[1:], "algo=sac"])
    toy.OPEN.append(alone)
    with Collector(alone, random_steps=25, ahead=False) as collector:
        together = learn_from(alone, collector, 6)
    for ours, theirs in zip(apart, together, strict=True):
        assert (ours == theirs).all()
    assert (apart[3]["action"][:-1] > 0.99).all()


def test_a_learner_that_goes_back_to_its_checkpoint_gets_the_same_episodes_again(run):
    knob(run.directory, lockstep=False)  # the actor is ahead of it by then
    free = Apart(**KNOBS | {"lockstep": False})
    service_folder = run.directory / "service"
    with free(run, random_steps=0, ahead=False) as collector:
        (service_folder / "learner").touch()
        with acting(run.directory, carrier(Service(str(service_folder)))):
            first = learn_from(run, collector, 2)
            run.save()
            lost = learn_from(run, collector, 2)
    run.resume()
    assert run.counters.extra["received"] == sum(len(rows) - 1 for rows in first) - 1
    with free(run, random_steps=0, ahead=False) as collector:
        again = learn_from(run, collector, 2)
    for ours, theirs in zip(again, lost, strict=True):
        assert (ours == theirs).all()


def test_an_actor_that_ends_with_an_error_ends_the_run_and_its_last_words_are_told(
    run, monkeypatch
):
    with Apart(**KNOBS)(run, random_steps=0, ahead=False) as collector:
        (collector.actor.folder / "log").write_text("much\nthe robot cannot be commanded\n")
        monkeypatch.setattr(
            Companion, "look_after", lambda companion: 2 * companion.module.endswith("actor")
        )
        with pytest.raises(UserError, match="the robot cannot be commanded"):
            collector.next()


def test_without_ray_the_choice_is_refused_before_anything_starts(toy_run, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == "ray" else found(name, *a)
    )
    with pytest.raises(UserError, match=r"needs Ray(.|\n)*robo-offline\[ray\]"):
        build.check_values(compose([*toy_run, "collector=ray"]))
    build.check_values(compose(toy_run))


def test_a_second_process_of_the_learner_s_own_is_refused_beside_an_actor(toy_run):
    with pytest.raises(UserError, match="second_process"):
        cfg = compose([*toy_run, "collector=ray", "phase.online.second_process=true"])
        build.check_values(cfg)


def test_a_run_from_before_there_was_a_choice_collects_here(toy_run):
    cfg = compose(toy_run)
    OmegaConf.set_struct(cfg, False)
    del cfg["collector"]
    assert isinstance(build.collector(cfg), Here)
