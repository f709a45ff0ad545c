"""The actor by itself: what it plays, when it takes weights, and that it needs nobody."""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import pytest
import torch
import toy
from apart import acting, episodes, knob, publish, push_to_one_side, run_of, until

from envs.torchrl import EpisodeSeeds
from robo_offline.actors import actor as actors
from robo_offline.actors.actor import LATE, Desk, Memory
from robo_offline.actors.folders import last_record, run_id, store
from robo_offline.actors.weights import About, pack
from robo_offline.errors import UserError


@pytest.fixture
def run(toy_run, tmp_path):
    made = run_of(tmp_path / "run", [*toy_run, "collector=ray", "collector.wait_s=0"])
    toy.OPEN.append(made)
    return made


def spool(run):
    return run.directory / "actor" / "spool"


def count(run) -> int:
    return last_record(spool(run))[0] + 1


def by_hand(policy, index: int) -> torch.Tensor:
    policy.reset(index)
    env = EpisodeSeeds(toy.Reach(), policy.seed, first_episode=index)
    observation, _ = env.reset()
    seen, over = [observation], False
    while not over:
        observation, _, terminated, truncated, _ = env.step(policy.act(observation))
        seen.append(observation)
        over = terminated or truncated
    return torch.tensor(np.stack(seen[:-1]))


def test_it_plays_what_the_policy_does_by_hand_with_nobody_listening(run):
    publish(run)
    with acting(run.directory):
        until(lambda: count(run) > 3 * toy.HORIZON)
    policy = run.policy(explore=True)
    for index, episode in enumerate(episodes(spool(run))[:3]):
        assert episode.index == index
        assert torch.equal(episode.td["observation"], by_hand(policy, index))


@pytest.mark.parametrize("chunk", [1, 3])
def test_new_weights_act_from_the_next_action_on_but_never_within_chunks(toy_run, tmp_path, chunk):
    sac = ["algo=sac", f"algo.chunk={chunk}", "collector=ray", "collector.wait_s=0"]
    run = run_of(tmp_path / "run", [*toy_run[1:], *sac])
    toy.OPEN.append(run)
    publish(run)
    with acting(run.directory) as actor:
        keep, kept = actor.memory.keep, 0

        def spy(payload: bytes) -> None:
            nonlocal kept
            kept += 1
            if kept == 5:  # in the middle of an episode, and of a chunk
                push_to_one_side(run)
                publish(run, version=1)
                until(lambda: actor.desk.ready[0].version == 1)
            keep(payload)

        actor.memory.keep = spy
        until(lambda: count(run) >= 3 * toy.HORIZON)
    found = episodes(spool(run))
    pushed = torch.cat([(e.td["next", "executed"] > 0.99).all(-1) for e in found])
    began = 5 if chunk == 1 else len(found[0].td)
    assert pushed[began:].all() and not pushed[began - 1]


def test_every_transition_says_how_stale_its_weights_were(run):
    publish(run, records=0, made_s=time.time() - 100)
    with acting(run.directory):
        until(lambda: count(run) > toy.HORIZON)
    first = episodes(spool(run))[0]
    assert first.staleness["staleness_steps"] == (len(first.td) - 1) / 2
    assert 100 <= first.staleness["staleness_s"] < 400


def bad(run, name: str) -> None:
    state = run.policy(explore=True).state_dict()
    about = About(5, run_id(run.directory), 0, 0, 0.0)
    if name == "not finite":
        state = {k: v * torch.nan if v.is_floating_point() else v for k, v in state.items()}
    if name == "another run":
        about = About(5, "another", 0, 0, 0.0)
    if name == "another policy":
        state = {"algo.w": torch.zeros(1)}
    file, data = pack(about, state)
    if name == "corrupt":
        data = data[:-1] + bytes([data[-1] ^ 1])
    store(run.directory / "actor" / "weights", file, data)


@pytest.mark.parametrize("name", ["not finite", "another run", "another policy", "corrupt"])
def test_bad_weights_are_passed_over_and_the_good_ones_go_on(run, name, capfd):
    publish(run)
    with acting(run.directory) as actor:
        until(lambda: count(run) > 5)
        bad(run, name)
        until(lambda: actor.desk._read.startswith("000000005"))
        before = count(run)
        until(lambda: count(run) > before + 2 * toy.HORIZON)
        assert actor.about.version == 0
    assert name == "another run" or "refused" in capfd.readouterr().err


def test_a_learner_that_is_far_behind_is_waited_for_once_and_not_for_ever(run):
    knob(run.directory, wait_s=0.3)
    publish(run)
    with acting(run.directory):
        until(lambda: count(run) > 6 * toy.HORIZON)
    whole = episodes(spool(run))
    assert len(whole) >= 5


def test_in_lockstep_it_waits_for_the_weights_of_the_episodes_before(run):
    knob(run.directory, lockstep=True)
    publish(run)
    with acting(run.directory) as actor:
        until(lambda: len(episodes(spool(run))) == 1)
        time.sleep(0.2)
        assert len(episodes(spool(run))) == 1 == count(run) // toy.HORIZON
        publish(run, version=1, episodes=1)
        until(lambda: len(episodes(spool(run))) == 2)
        assert actor.about.version == 1


@pytest.mark.parametrize("lockstep", [False, True])
def test_after_a_crash_it_goes_on_behind_what_is_on_its_disk(run, lockstep):
    knob(run.directory, lockstep=lockstep)
    publish(run, episodes=100)
    with acting(run.directory) as actor:
        keep, kept = actor.memory.keep, 0

        def crash(payload: bytes) -> None:
            nonlocal kept
            kept += 1
            if kept > 7:
                actor.stopped.set()
            else:
                keep(payload)

        actor.memory.keep = crash
        until(actor.stopped.is_set)
    assert count(run) == 7
    publish(run, version=1, episodes=200)
    with acting(run.directory):
        until(lambda: count(run) > 3 * toy.HORIZON)
    found, policy = episodes(spool(run)), run.policy(explore=True)
    first = found[0].td["observation"]
    whole = by_hand(policy, found[0].index)
    if lockstep:  # played once more, and no transition of it twice
        assert torch.equal(first, whole)
    else:  # cut where it was
        assert len(first) == 7 and torch.equal(first, whole[:7])
        assert bool(found[0].td["next", "truncated"][-1])
    assert torch.equal(found[1].td["observation"], by_hand(policy, found[1].index))


def test_without_a_learner_it_ends_after_a_while_with_its_episode_whole(run):
    publish(run)
    with acting(run.directory) as actor:
        until(lambda: count(run))
        actor.knobs.orphan_s = 0.0
        until(lambda: not actor.desk.is_alive())
    _, payload = last_record(spool(run))
    assert actors.place(payload)[2]


def test_two_actors_never_act_for_one_run(run):
    with actors.alone(run.directory / "actor", "one") as first:
        assert first and actors.main(run.directory) == 0
    assert count(run) == 0


# -- the disk, and the courier ---------------------------------------------------------------


def test_a_slow_disk_does_not_hold_up_the_control_loop(tmp_path, monkeypatch):
    memory, gate = Memory(tmp_path), actors.threading.Event()
    monkeypatch.setattr("real_robot.spool.os.fsync", lambda descriptor: gate.wait(60))
    memory.start()
    for number in range(LATE):
        memory.keep(b"%d" % number)  # comes back at once: nothing is on the disk yet
    assert memory.next == LATE
    held = actors.threading.Thread(target=memory.keep, args=(b"one too many",))
    held.start()
    held.join(0.2)
    assert held.is_alive()  # so many are not remembered that nobody should act
    gate.set()
    held.join(60)
    memory.close()
    assert last_record(tmp_path) == (LATE, b"one too many")


def test_a_full_disk_ends_the_acting(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    memory = Memory(tmp_path)
    monkeypatch.setattr("real_robot.spool.os.fsync", full)
    memory.start()
    memory.keep(b"lost")
    until(lambda: memory.failed)
    with pytest.raises(UserError, match="spool"):
        memory.keep(b"next")


@pytest.mark.parametrize(("code", "goes_on"), [(1, True), (2, False)])
def test_a_courier_that_dies_is_replaced_but_one_that_is_refused_ends_the_acting(
    tmp_path, monkeypatch, code, goes_on
):
    started = []
    popen = actors.subprocess.Popen

    def start(command, env):
        started.append(command)
        return popen([sys.executable, "-c", f"import sys; sys.exit({code})"], env=os.environ)

    monkeypatch.setattr(actors.subprocess, "Popen", start)
    monkeypatch.setattr(actors, "AGAIN_S", 0.0)
    desk = Desk(tmp_path, "run", "")
    desk.start()
    until(lambda: len(started) > 2 if goes_on else desk.failed)
    desk.over.set()
    desk.join()
    assert bool(desk.failed) is not goes_on
    assert started[0][1:3] == ["-m", "robo_offline.actors.courier"]
