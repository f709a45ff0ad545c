"""Certificate: how exactly a bundle repeats the policy that was evaluated, and how fast."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch

from real_robot.runtime.contract import IMAGES, Contract
from real_robot.runtime.manifest import TOLERANCE, Certificate, Latency, Parity
from real_robot.runtime.refused import ObservationRefused
from real_robot.runtime.session import Session
from robo_offline.errors import UserError
from robo_offline.export import observations
from robo_offline.export.deployed import Deployed, EagerPolicy, evaluated
from robo_offline.export.leaves import Leaves, row, rows_of
from robo_offline.policies.policy import Policy

CALLS, WARM = 2000, 200  # of a latency table
BATCHED = 64  # rows that are asked for at once
CHANGE = 0.1  # by what share other weights differ


def certify(
    policy: Policy,
    session: Session,
    remade: Callable[[Mapping[str, np.ndarray]], Session],
    contract: Contract,
    seen: Leaves,
    source: str,
    machine: str,
    calls: int = CALLS,
    engine: str = "onnxruntime",
) -> Certificate:
    """Measure parity and latency. Raises UserError with the figure where parity is missing.

    `remade` is the session with other weights, `engine` what it is called in the table.
    """
    contract = contract.stacked()  # observations here are what the networks see
    asked = {
        "recorded": (seen, source),
        "random": (
            observations.random(contract, observations.ROWS),
            "normal around the data's mean, images uniform",
        ),
        "edge": (observations.edge(contract, seen), "zeros, bounds, extremes of the data, huge"),
    }
    parity = {
        name: _parity(name, _answers(session, rows), evaluated(policy, rows), text)
        for name, (rows, text) in asked.items()
    }
    few = {key: value[:BATCHED] for key, value in seen.items()}
    parity["other_weights"] = _other_weights(policy, session, remade, few)
    parity |= _batched(session, evaluated(policy, few), few)
    with _one_thread():
        latency = {
            "eager": measure(EagerPolicy(policy, contract).act, seen, calls),
            engine: measure(session.act, seen, calls),
        }
    refused = _refusals(session, row(seen, 0))
    return Certificate(TOLERANCE, parity, refused, latency, machine)


def _answers(session: Session, asked: Leaves) -> np.ndarray:
    return np.array([session.act(row(asked, index)) for index in range(rows_of(asked))])


def _parity(name: str, found: np.ndarray, expected: np.ndarray, source: str) -> Parity:
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:  # NaN too
        raise UserError(
            f"the exported policy does not act as the policy does, on {name} observations",
            expected=f"actions that differ by at most {TOLERANCE}",
            found=f"{difference:.3g} over {len(found)} observations",
            remedy="nothing was written; a policy on the edge between two actions can do that: "
            "try another checkpoint",
        )
    return Parity(len(found), source, difference)


def _other_weights(
    policy: Policy,
    session: Session,
    remade: Callable[[Mapping[str, np.ndarray]], Session],
    asked: Leaves,
) -> Parity:
    """Put other weights in: whatever an optimiser had folded into the graph would show here."""
    other = Deployed(policy)
    generator = torch.Generator().manual_seed(0)
    tensors = other.tensors()
    for value in {id(tensor): tensor for tensor in tensors.values()}.values():
        if value.is_floating_point():
            scale = CHANGE * (value.abs().mean() + CHANGE)
            value += scale * torch.randn(value.shape, generator=generator)
    swapped = remade({name: tensors[name].numpy() for name in session.weights})
    found = np.concatenate([swapped.batch(_single(asked, i)) for i in range(rows_of(asked))])
    leaves = [torch.from_numpy(asked[key]) for key in other.paths]
    with torch.inference_mode():
        expected = other(*leaves).numpy()
    if np.array_equal(found, _answers(session, asked).astype(np.float32)):
        raise UserError("other weights do not change what the exported policy does")
    return _parity("changed", found, expected, "all weights changed at random, then put in")


def _single(asked: Leaves, index: int) -> Leaves:
    return {key: value[index : index + 1] for key, value in asked.items()}


def _batched(session: Session, expected: np.ndarray, asked: Leaves) -> dict[str, Parity]:
    """Ask for several at once, where the exporter left the batch axis free."""
    if not session.batches:
        return {}
    return {
        "batched": _parity("batched", session.batch(asked), expected, f"{rows_of(asked)} at once")
    }


def _refusals(session: Session, observation: Leaves) -> int:
    """Count the broken observations that are refused; raise where one is not."""
    count = 0
    for leaf in session.contract.observation:
        if leaf.dtype == IMAGES:
            continue
        for number in range(leaf.size):
            for value in (math.nan, math.inf, -math.inf):
                broken = copy.deepcopy(observation)
                broken[leaf.key].flat[number] = value
                try:
                    session.act(broken)
                except ObservationRefused:
                    count += 1
                    continue
                raise UserError("an observation that is not finite was acted on", found=value)
    return count


def measure(act: Callable[[Leaves], object], seen: Leaves, calls: int) -> Latency:
    """Time single calls back to back, over different observations."""
    asked = [row(seen, index % rows_of(seen)) for index in range(min(calls, rows_of(seen)))]
    for index in range(min(WARM, calls)):
        act(asked[index % len(asked)])
    taken = []
    for index in range(calls):
        observation = asked[index % len(asked)]
        began = time.perf_counter_ns()
        act(observation)
        taken.append(time.perf_counter_ns() - began)
    return percentiles(taken)


def percentiles(nanoseconds: list[int]) -> Latency:
    """Summarise durations as microseconds."""
    p50, p99, p999 = (round(float(x) / 1e3, 1) for x in np.percentile(nanoseconds, (50, 99, 99.9)))
    return Latency(p50, p99, p999, len(nanoseconds))


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
