"""Faults of the weights that act: damaged, stale, half compiled, wild, degraded."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from real_robot.building import Attended
from real_robot.deploy import FULL, LEAST, Deployment
from real_robot.ood import Gate
from real_robot.runtime import OrtPolicy, SwapReport, load_bundle
from real_robot.runtime.bundle import Bundle, read
from real_robot.runtime.manifest import TOLERANCE, PolicyManifest
from real_robot.runtime.manifest import WEIGHTS as FILE
from real_robot.runtime.policy import ActionChunk
from real_robot.runtime.session import Session
from real_robot.testing import damage
from real_robot.testing.monitor import tool_position
from real_robot.testing.reaching import Never
from robo_offline.bench.faults import Fault, Measured
from robo_offline.bench.faults.trained import (
    decided,
    keys,
    learn,
    rig,
    right,
    successor,
    trained,
)
from robo_offline.policies.policy import Policy


def refused_weights(folder: Path, whole: bool) -> Measured:
    """Offer damaged and forged weights to a policy that acts all the while in another thread."""
    base, public = trained(), keys()[1]
    better = folder / "better"
    successor(base.policy, nudge, base.bundle, better)
    seen = base.played[0].observation[0]
    expected = [load_bundle(path).act(seen).actions for path in (base.bundle, better)]
    signed, open_to_all = load_bundle(base.bundle, public), load_bundle(base.bundle)
    acted: list[tuple[int, np.ndarray]] = []
    over = threading.Event()

    def act() -> None:
        while not over.is_set():
            for policy in (signed, open_to_all):
                chunk = policy.act(seen)
                acted.append((chunk.version, chunk.actions))
            over.wait(1e-3)

    actor = threading.Thread(target=act)
    actor.start()
    try:
        reports = [_offered(signed, better, folder, spoil) for spoil in _damages(whole)]
        reports += [_offered(open_to_all, better, folder, spoil) for spoil in _forgeries()]
        committed = signed.swap(better)
        reports += [signed.swap(stale) for stale in (better, base.bundle)]
    finally:
        over.set()
        actor.join()
    mixed = sum(not np.array_equal(actions, expected[version]) for version, actions in acted)
    taken = sum(report.committed for report in reports)
    silent = sum(not report.reason for report in reports)
    held = not (mixed or taken or silent) and committed.committed and len(acted) > 100
    return Measured(
        f"{len(reports)} broken weights offered, {taken} taken, {silent} without a reason; "
        f"{len(acted)} actions meanwhile, {mixed} of other weights than they say",
        held,
        {"offered": len(reports), "taken": taken, "actions": len(acted), "mixed_actions": mixed},
    )


def folded_constants(folder: Path, whole: bool) -> Measured:
    """Compile with small weights folded into the code, as is the compiler's default; then swap."""
    from robo_offline.export.aoti import CompiledSession, compiled

    base = trained()
    errors: dict[str, float] = {}
    kept: dict[str, bool] = {}
    better = folder / "better"
    changed = successor(base.policy, nudge, base.bundle, better)
    seen = base.played[0].observation[:1]
    wanted = decided(changed, seen)
    bundle = read(base.bundle)
    for name, inductor in _compilers(whole).items():
        code = compiled(base.policy, bundle, inductor)
        bare = CompiledSession(code, bundle, read(better).weights)  # nobody looks at it
        errors[name] = float(np.abs(bare.batch({"observation": seen})[0] - wanted[0]).max())
        policy = OrtPolicy(bundle, open=partial(_native, code))
        before = policy.act(seen[0]).actions
        report = policy.swap(better)
        same = np.array_equal(policy.act(seen[0]).actions, before)
        kept[name] = not report.committed and report.version == 0 and same
    wrong = errors["folded"]
    fine = "late" not in errors or (errors["late"] <= TOLERANCE and not kept["late"])
    return Measured(
        f"actions wrong by {wrong:.3f} without the probe; with it "
        f"{'refused, the old weights act on' if kept['folded'] else 'TAKEN'}",
        kept["folded"] and wrong > TOLERANCE and fine,
        {f"error_{name}": error for name, error in errors.items()},
    )


def wild_weights(folder: Path, whole: bool) -> Measured:
    """Swap in weights whose last layer is ten times as large, in the middle of each episode."""
    base, wilder = trained(), folder / "wild"
    successor(base.policy, wild, base.bundle, wilder)
    actions = [decided(base.policy, episode.observation) for episode in base.played]
    wanted = Gate.calibrate(actions, window=3)
    on = rig(horizon=40)
    waited = []
    for index in range(20 if whole else 4):
        policy: Any = Swapped(load_bundle(base.bundle), wilder, 2 + index % 3)
        deployment = Watched(on.env, policy, FULL, gate=Never(), wanted=wanted)
        deployment.run(1)
        since = deployment.held[policy.at - 1 :]
        waited.append(since.index(True) if True in since else len(since))
    position = tool_position(on.env.robot, np.stack([c.q for _, c in on.arm.sent]))
    speed = float(
        np.linalg.norm(np.diff(position, axis=0), axis=1).max() * on.env.robot.timing.servo_hz
    )
    cap, limits = on.env.robot.limits.tcp_v_max_m_s, len(on.monitor.violations())
    return Measured(
        f"held after {max(waited)} policy ticks at most, {np.mean(waited):.1f} in the mean, of "
        f"{len(waited)} swaps; tool at most {speed:.3f} m/s of {cap:g}, {limits} limits left",
        max(waited) <= 3 and speed <= cap * (1 + 1e-6) and limits == 0,
        {
            "swaps": len(waited),
            "ticks_until_held": max(waited),
            "tool_m_s": speed,
            "violations": limits,
        },
    )


def degraded_policy(folder: Path, whole: bool) -> Measured:
    """Let a policy act whose finetuning went wrong, beside the certified one."""
    base, worse = trained(), folder / "worse"
    successor(base.policy, unlearn, base.bundle, worse)
    episodes, limits, rounds = [], 0, 5 if whole else 1
    after = []
    for _ in range(rounds):
        on = rig()
        bundles: list[Any] = [load_bundle(path) for path in (worse, base.bundle)]
        deployment = Deployment(
            Attended(on.env, on.attend), bundles[0], FULL,
            gate=Never(), certified=bundles[1], floor=0.8,
        )  # fmt: skip
        deployment.run(LEAST + 3)
        bad = deployment.outcomes[0].policy
        episodes.append(sum(o.policy == bad for o in deployment.outcomes))
        after += [o.success for o in deployment.outcomes if o.policy != bad]
        limits += len(on.monitor.violations())
    held = max(episodes) <= LEAST and limits == 0 and bool(after) and all(after)
    return Measured(
        f"the certified policy is back after {max(episodes)} episodes at most, and succeeds in "
        f"{sum(after)} of {len(after)}; {limits} limits left",
        held,
        {"episodes": max(episodes), "violations": limits, "successes_after": sum(after)},
    )


def nudge(policy: Policy) -> None:
    """Change every weight a little, and the small ones so that it shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in policy.algo.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))


def wild(policy: Policy) -> None:
    """Make the last layer ten times as large."""
    actor: Any = policy.algo.actor
    layers = dict(actor.net.named_parameters())
    last = max(name.split(".")[0] for name in layers)
    with torch.no_grad():
        for name, weight in layers.items():
            if name.startswith(last):
                weight.mul_(10)


def unlearn(policy: Policy) -> None:
    """Finetune on labels that lead away from the goal."""
    rows = torch.from_numpy(np.concatenate([e.observation for e in trained().played]))
    learn(policy.algo, rows, 300, lambda observation: -right(observation))


class Swapped:
    """A bundle that goes over to other weights at its decision number `at`."""

    def __init__(self, policy: OrtPolicy, successor: Path, at: int):
        self.policy, self.successor, self.at, self.count = policy, successor, at, 0

    @property
    def manifest(self) -> PolicyManifest:
        return self.policy.manifest

    def begin(self) -> None:
        self.policy.begin()

    def see(self, observation: Any) -> None:
        self.policy.see(observation)

    def act(self, observation: Any, *, deadline_ns: int | None = None) -> ActionChunk:
        self.count += 1
        if self.count == self.at:
            report = self.policy.swap(self.successor)
            assert report.committed, report.reason
        return self.policy.act(observation, deadline_ns=deadline_ns)


class Watched(Deployment):
    """Remembers in which steps it held."""

    def _decide(self, *given: Any) -> np.ndarray | None:
        action = super()._decide(*given)
        self.held = [*getattr(self, "held", []), action is None]
        return action


def _offered(
    policy: OrtPolicy, better: Path, folder: Path, spoil: Callable[[Path], None]
) -> SwapReport:
    broken = Path(shutil.copytree(better, folder / "offered" / "bundle"))
    spoil(broken)
    try:
        return policy.swap(broken)
    finally:
        shutil.rmtree(folder / "offered")


def _damages(whole: bool) -> Iterator[Callable[[Path], None]]:
    """Each damage to each file, bits that are turned at random, and no signature."""
    for name in damage.EVERY:
        for spoil in damage.DAMAGE:
            yield partial(_damaged, name, spoil)
    random = np.random.default_rng(0)
    for _ in range(2000 if whole else 40):
        name = damage.EVERY[random.integers(len(damage.EVERY))]
        at, bit = random.random(), int(random.integers(8))
        yield partial(_turned, name, at, bit)
    yield from _forgeries()  # the signature is over other hashes


def _forgeries() -> Iterator[Callable[[Path], None]]:
    """What is wrong with weights themselves, where nobody asks for a signature."""
    for forgery in damage.FORGED:
        yield partial(_forged, forgery)


def _damaged(name: str, spoil: Callable[[Path], None], bundle: Path) -> None:
    spoil(bundle / name)


def _turned(name: str, share: float, bit: int, bundle: Path) -> None:
    """Turn a bit at a share of a file's length."""
    damage.flip(bundle / name, int(share * (bundle / name).stat().st_size), bit)


def _forged(forgery: Callable[[damage.Tensors], None], bundle: Path) -> None:
    damage.forge_tensors(bundle, FILE, forgery)


def _native(code: bytes, bundle: Bundle) -> Session:
    from robo_offline.export.aoti import CompiledSession

    return CompiledSession(code, bundle, bundle.weights)


def _compilers(whole: bool) -> dict[str, dict[str, Any]]:
    from robo_offline.export.aoti import LATE

    folded: dict[str, dict[str, Any]] = {"folded": {}}
    return folded | {"late": LATE} if whole else folded


_ACTING = "a policy acts meanwhile in another thread"

WEIGHTS = (
    Fault(
        23,
        f"corrupt, truncated, forged, unsigned, NaN, misshapen and stale weights; {_ACTING}",
        "each is refused with its reason, and the old weights act on",
        "0 taken, 0 actions of mixed weights",
        refused_weights,
    ),
    Fault(
        24,
        "native code of AOTInductor with small weights folded into it, then a swap of weights",
        "the probe does not come out, and the old weights act on",
        f"refused where actions differ by more than {TOLERANCE:g}",
        folded_constants,
    ),
    Fault(
        25,
        "a valid successor with its last layer times ten, in the middle of an episode",
        "the gate over actions holds the arm",
        "within 3 policy ticks, the tool's speed never over its limit",
        wild_weights,
    ),
    Fault(
        35,
        "a finetuned policy that leads away from the goal, at full speed",
        "the certified policy takes over",
        f"within {LEAST} episodes, no limit left",
        degraded_policy,
    ),
)
