"""Faults of what is judged: odd observations, slow policies, changing hands, ends, contracts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import torch
from tensordict import TensorDict

from real_robot.actions import JointDelta
from real_robot.cameras.camera import CameraSpec
from real_robot.cameras.direct import DirectCamera
from real_robot.cameras.synthetic import Synthetic
from real_robot.debounce import Debounced
from real_robot.deploy import STAGES, Deployment
from real_robot.machine import State
from real_robot.ood import Gate
from real_robot.runtime import load_bundle
from real_robot.testing import mutations
from real_robot.testing.lockstep import Lockstep
from real_robot.testing.reaching import Acting, Never, Rig, reaching, towards
from robo_offline.analysis.intervals import wilson
from robo_offline.bench.faults import Fault, Measured
from robo_offline.bench.faults.rehearsed import Flapping, Slow, fooled, say, vetoed
from robo_offline.bench.faults.trained import NOISE, play, rig, trained
from robo_offline.errors import UserError
from robo_offline.losses.td import bootstrap

ALPHA = 0.05
PERIOD_S = 0.05
HAND_M_S = 0.1


def odd_observations(folder: Path, whole: bool) -> Measured:
    """Show a gate episodes with joints off or in another order, and such as it knows."""
    episodes = [episode.observation for episode in trained().played]
    if whole:
        on, random = rig(roams=True), np.random.default_rng(7)

        def stumble(_: np.ndarray) -> np.ndarray:
            return np.clip(towards(on) + NOISE * random.normal(size=4), -1, 1)

        episodes = [e.observation for e in play(on, 400, stumble, seed=5000) if e.success]
    order = np.roll(np.arange(7), 1)
    kinds: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "none": lambda rows: rows,
        "out_of_range": lambda rows: rows + np.eye(rows.shape[1])[1] * 0.5,
        "permuted": lambda rows: np.hstack([rows[:, order], rows[:, 7:]]),
        "shifted": lambda rows: rows + 0.1 * np.isin(np.arange(rows.shape[1]), (7, 8, 9)),
    }
    alarms: dict[str, list[bool]] = {name: [] for name in kinds}
    for split in range(20):
        mixed = np.random.default_rng(split).permutation(len(episodes))
        half = len(episodes) // 2
        gate = Gate.calibrate([episodes[i] for i in mixed[:half]], ALPHA, seed=split)
        for name, change in kinds.items():
            alarms[name] += [_fires(gate, change(episodes[i])) for i in mixed[half:]]
    rates = {name: float(np.mean(found)) for name, found in alarms.items()}
    false = wilson(round(rates["none"] * len(episodes)), len(episodes))
    found = {name: rate for name, rate in rates.items() if name != "none"}
    return Measured(
        f"found {', '.join(f'{name} {rate:.1%}' for name, rate in found.items())}; false alarms "
        f"in {rates['none']:.1%} [{false.low:.1%}, {false.high:.1%}] of {len(episodes)} episodes",
        min(found.values()) >= 0.9 and false.low <= ALPHA <= false.high,
        {"false_alarms": rates["none"], **{f"found_{k}": v for k, v in found.items()}},
    )


def slow_policy(folder: Path, whole: bool) -> Measured:
    """Let a policy of chunks of eight think for up to 2 s, at first or all the time."""
    count = stale = stops = 0
    farthest = 0.0
    limits = 0
    for think_s in np.linspace(0.0, 2.0, 41 if whole else 9):
        for always in (False, True):
            found = Slow(float(think_s), always)
            found.run(8 if whole else 3)
            count, stale = count + found.count, stale + found.stale
            stops, farthest = stops + found.stops, max(farthest, found.farthest)
            limits += len(found.rig.monitor.violations())
    first_ms = _first_act_ms()
    bounds = reaching().env.robot.limits.step_max_rad
    held = not stale and not limits and farthest <= max(bounds) and count > 50
    return Measured(
        f"{count} actions of late chunks executed, {stale} of them stale; {stops} episodes ended "
        f"by the watchdog; farthest target {farthest:.3f} rad away; {limits} limits left; the "
        f"first answer of a loaded bundle took {first_ms:.1f} ms",
        held and first_ms < 1e3 * PERIOD_S,
        {
            "actions": count,
            "stale_actions": stale,
            "farthest_target_rad": farthest,
            "first_act_ms": first_ms,
            "violations": limits,
        },
    )


def flapping_hands(folder: Path, whole: bool) -> Measured:
    """Let a person take over and let go at every step; compare labels with robotd's record."""
    wrong = steps = changes = human = 0
    for index in range(20 if whole else 2):
        told, recorded, untrue = Flapping(folder / f"{index}", index).play(100)
        wrong += untrue + (told != recorded)
        steps, human = steps + len(told), human + sum(told)
        changes += int(np.abs(np.diff(told)).sum())
    return Measured(
        f"{steps} steps of which {human} were the person's: {wrong} labels unlike the record; "
        f"{changes} changes of hands",
        wrong == 0 and 0 < human < steps and changes > 0,
        {"steps": steps, "wrong_labels": wrong, "changes_of_hands": changes},
    )


def ends_at_once(folder: Path, whole: bool) -> Measured:
    """Let success, failure, the time limit and a stop fall into the same step, in every way."""
    wrong = rows = 0
    for success, failure, limit, stop in product((False, True), repeat=4):
        on = reaching(horizon=1 if limit else 5)
        on.env.reset(seed=0)
        on.env.outcome = lambda *_, s=success, f=failure: (float(s), s, f and not s)
        if stop:
            on.daemon.stop("a fault is injected")
        _, reward, terminated, truncated, info = on.env.step(np.zeros(4))
        ends = (success or failure) and not stop
        expected = (ends, (stop or limit) and not ends, success and not stop)
        y = _target(reward, terminated)
        right = float(success and not stop) + 0.99 * 10.0 * (not ends)
        wrong += (terminated, truncated, info["success"]) != expected or abs(y - right) > 1e-4
        rows += 1
    return Measured(
        f"{rows} combinations, {wrong} of them ended or bootstrapped otherwise than they should",
        wrong == 0,
        {"combinations": rows, "wrong": wrong},
    )


def false_success(folder: Path, whole: bool) -> Measured:
    """Let a classifier see success where there is none: every row of the table, and an episode."""
    wrong = rows = 0
    for n in range(1, 8 if whole else 6):
        for k, looks in product(range(1, n + 1), product((False, True), repeat=n + 2)):
            said = iter(looks)
            judge = Debounced(lambda *_, s=said: (1.0, next(s), False), lambda *_: None, k, n)
            for step in range(len(looks)):
                believed = sum(looks[max(0, step - n + 1) : step + 1]) >= k
                wrong += judge.outcome({}, None) != (float(believed), believed, False)
                rows += 1
    bare, debounced = fooled(1, 1), fooled(3, 5)
    kept, vetoes = vetoed()
    return Measured(
        f"{rows} rows of k of n, {wrong} wrong; an adversarial frame pair ended {debounced} of 1 "
        f"episodes with 3 of 5 ({bare} with 1 of 1); a person's veto was kept: {kept}",
        wrong == 0 and bare == 1 and debounced == 0 and kept and vetoes == 1,
        {"rows": rows, "wrong": wrong, "fooled_3_of_5": debounced, "vetoes": vetoes},
    )


def foreign_contracts(folder: Path, whole: bool) -> Measured:
    """Deploy policies whose contract differs in one thing, on a robot that is not yet armed."""
    asked = refused = moved = 0
    states = set()
    for on in _robots():
        policy = Acting(on.env, on.env.actions.nothing)
        fits = policy.manifest.contract
        say(on, type="disarm")
        sent = len(on.arm.sent)
        for _, contract in mutations.contracts(fits):
            policy.manifest.contract = contract
            for stage in STAGES.values():
                asked += 1
                try:
                    Deployment(on.env, policy, stage, gate=Never())
                except UserError:
                    refused += 1
                on.clock.tick()
                states.add(on.daemon.machine.state)
        reply = say(on, type="arm", descriptor="0" * 64)
        asked, refused = asked + 1, refused + (not reply["ok"])
        moved += len(on.arm.sent) - sent
        policy.manifest.contract = fits
        Deployment(on.env, policy, STAGES["full"], gate=Never())  # what fits is not refused
    return Measured(
        f"{refused} of {asked} refused, {moved} ticks sent to the arm, "
        f"robot {', '.join(sorted(state.value for state in states))}",
        refused == asked and moved == 0 and states == {State.IDLE},
        {"contracts": asked, "refused": refused, "ticks_sent": moved},
    )


def _fires(gate: Gate, episode: np.ndarray) -> bool:
    gate.begin()
    return bool([row for row in episode if gate.fires(row)])


def _first_act_ms() -> float:
    """Return how long the first answer of a bundle takes that was just loaded."""
    base = trained()
    policy = load_bundle(base.bundle)
    began = time.perf_counter()
    policy.act(base.played[0].observation[0])
    return 1e3 * (time.perf_counter() - began)


def _target(reward: float, terminated: bool) -> float:
    """Return the regression target where the next value is 10 and the discount 0.99."""
    flags = {"reward": torch.tensor([reward]), "terminated": torch.tensor([terminated])}
    batch = TensorDict({"next": flags, "discount": torch.tensor([0.99])}, [1])
    return float(bootstrap(batch, torch.tensor([10.0])))


def _robots() -> Iterator[Rig]:
    """Build robots moved in space and by joints, and one that sees."""
    yield reaching()
    yield reaching(lambda robot: JointDelta(robot, 0.05))
    clock = Lockstep()
    camera = DirectCamera(Synthetic(CameraSpec("wrist", 64, 48, 30.0), clock), clock)
    camera.open()
    yield reaching(clock=clock, cameras={"wrist": camera})


JUDGEMENT = (
    Fault(
        26,
        "observations with a joint 0.5 rad off, joints in another order, a tool 0.1 m off; "
        "gates look at state vectors, not at images",
        "the gate holds the arm, and seldom without need",
        "found in 90 % of episodes; the interval of false alarms holds alpha = 5 %",
        odd_observations,
    ),
    Fault(
        27,
        "a policy that thinks for up to 2 s, at its first answer or at each, on a virtual clock",
        "actions whose time is over are dropped; the arm holds, or the watchdog stops it",
        "0 stale actions executed, no target farther than a step, no limit left",
        slow_policy,
    ),
    Fault(
        28,
        "a person who takes over and lets go 20 times a second",
        "they keep the robot through the pauses, and every label is true",
        "all labels as in robotd's record",
        flapping_hands,
    ),
    Fault(
        29,
        "success, failure, time limit and safety stop in the same step, in all combinations",
        "terminated, truncated and the target of learning are what they should be",
        "exact",
        ends_at_once,
    ),
    Fault(
        31,
        "success that a classifier sees where there is none; a person's veto",
        "success is believed where k of the last n looks saw it, and never against a person",
        "exact over the whole table",
        false_success,
    ),
    Fault(
        38,
        "contracts that differ in one key, shape, unit, frame, camera, statistic, mode or rate",
        "the policy is refused at every stage, before the robot is armed",
        "all are refused, nothing is sent",
        foreign_contracts,
    ),
)
