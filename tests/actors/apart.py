"""Actors without Ray: a run's folder, weights in it, and an actor whose courier is a call."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from omegaconf import OmegaConf

from robo_offline import build
from robo_offline.actors.actor import Actor, Desk
from robo_offline.actors.courier import Courier
from robo_offline.actors.folders import Follower, run_id, store
from robo_offline.actors.records import Arrived, Assembly
from robo_offline.actors.service import Service
from robo_offline.actors.weights import About, pack
from robo_offline.config import compose
from robo_offline.phases.run import Run
from robo_offline.train import write_identity


def run_of(directory: Path, overrides: list[str]) -> Run:
    """Build a run as `train` does, up to the moment where it would begin."""
    cfg = compose(overrides)
    run = build.run(cfg, directory)
    write_identity(cfg, directory)
    return run


def publish(run: Run, version: int = 0, episodes: int = 0, records: int = 0, **changes) -> None:
    """Give the actor the weights of a run's learner, as if a courier had brought them."""
    values = {
        "version": version,
        "run": run_id(run.directory),
        "episodes": episodes,
        "records": records,
        "made_s": time.time(),
    }
    state = run.policy(explore=True).state_dict()
    store(run.directory / "actor" / "weights", *pack(About(**values | changes), state))


def push_to_one_side(run: Run) -> None:
    """Make the learner's actor push as far as it goes in every dimension."""
    with torch.no_grad():
        last = run.learner.algo.actor.net[-1]
        last.weight.zero_()
        half = last.bias.shape[-1] // 2  # means, then log-stds
        last.bias[..., :half], last.bias[..., half:] = 5.0, -9.0


@contextmanager
def acting(directory: Path, carry=lambda desk: None):
    """Let an actor play in a thread; `carry` is what its courier does, all few milliseconds."""
    before, Desk._carry = Desk._carry, carry
    actor, failed = Actor(directory), []

    def play() -> None:
        try:
            actor.play()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield actor
    finally:
        actor.stopped.set()
        thread.join()
        Desk._carry = before
    if failed:
        raise failed[0]


def carrier(service: Service):
    """Return a courier that is a call, to a service in this process."""
    couriers: list[Courier] = []

    def carry(desk: Desk) -> None:
        if not couriers:
            couriers.append(Courier(desk.folder, service))
        couriers[0].turn()

    return carry


def until(there) -> None:
    ends = time.monotonic() + 60
    while not there():
        assert time.monotonic() < ends
        time.sleep(0.005)


def episodes(spool: Path) -> list[Arrived]:
    """Read all the episodes of a spool."""
    assembly, found = Assembly(), []
    for number, payload in Follower(spool, -1):
        found += assembly.add(number, payload)
    return found


def knob(directory: Path, **values) -> None:
    """Change knobs of `collector` in a run's configuration."""
    cfg = OmegaConf.load(directory / "config.yaml")
    for key, value in values.items():
        cfg.collector[key] = value
    OmegaConf.save(cfg, directory / "config.yaml")
