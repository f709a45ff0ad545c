"""OrtPolicy: a bundle that acts, and takes new weights without ever acting on half of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from real_robot.runtime.bundle import ACTION, OBSERVATION, Bundle, read
from real_robot.runtime.checks import Observation, in_time
from real_robot.runtime.history import History
from real_robot.runtime.manifest import GRAPH, TOLERANCE, WEIGHTS, PolicyManifest
from real_robot.runtime.refused import BundleRefused, Refused
from real_robot.runtime.session import Session


@dataclass(frozen=True, slots=True)
class ActionChunk:
    """Actions (k, dim) float64 in the contract's units, k >= 1, one per period of its rate."""

    actions: np.ndarray
    version: int  # of the weights that chose them
    weights: str  # their SHA-256


@dataclass(frozen=True, slots=True)
class SwapReport:
    """What came of new weights. Where they were refused, the old ones act as before."""

    committed: bool
    reason: str  # why not; empty where committed
    version: int  # that acts now
    weights: str  # SHA-256 of those that act now
    probe_difference: float | None  # of the new weights, where they came that far
    seconds: float


def opened(bundle: Bundle) -> Session:
    """Compute a bundle by ONNX Runtime."""
    return Session(bundle.graph, bundle.weights, bundle.manifest.contract)


class OrtPolicy:
    """Acts by ONNX Runtime on one thread of the caller.

    `act` and `swap` may be called from different threads (`begin` and `see` belong to the one that
    acts): an action is computed by the weights of
    one session from its beginning to its end, and a swap is the exchange of one reference.
    """

    def __init__(
        self,
        bundle: Bundle,
        trusted_key: Path | str | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        open: Callable[[Bundle], Session] = opened,
    ):
        """Start acting. Raises BundleRefused where the probe does not come out.

        `open` is another way to compute a bundle; it is probed like this one, at every swap.
        """
        self._key, self._clock, self._swapping = trusted_key, clock, threading.Lock()
        self._open = open
        self._live, _ = _stage(bundle, open)
        self._history = History(bundle.manifest.contract)

    @property
    def manifest(self) -> PolicyManifest:
        """What acts now."""
        return self._live.manifest

    def begin(self) -> None:
        """Begin an episode: the images of the one before are forgotten."""
        self._history.begin()

    def see(self, observation: Observation) -> None:
        """Take note of an observation between two decisions.

        A policy that looks at several images needs one per period of its rate, be it here or in
        `act`; others need none. Raises ObservationRefused.
        """
        self._history.add(observation)

    def act(self, observation: Observation, *, deadline_ns: int | None = None) -> ActionChunk:
        """Choose a chunk of actions for one raw observation.

        `deadline_ns` is on the clock that the policy was made with (CLOCK_MONOTONIC): at that
        nanosecond an answer is still good. Raises ObservationRefused, ActionRefused or
        DeadlineMissed.
        """
        live = self._live
        in_time(self._clock, deadline_ns)
        actions = live.session.act(self._history.add(observation))
        in_time(self._clock, deadline_ns)
        return ActionChunk(actions, live.manifest.version, live.weights)

    def swap(self, weights_path: Path | str) -> SwapReport:
        """Go over to the weights of a successor: a bundle's folder, or the weights in it.

        They are verified (hashes, signature, finite, same shapes), staged in a session of their
        own, and probed; only then do they act. Otherwise nothing changes, and the report says why.
        """
        began, difference, reason = time.perf_counter(), None, ""
        with self._swapping:
            try:
                bundle = read(_folder(Path(weights_path)), self._key)
                _check_succession(self._live, bundle)
                staged, difference = _stage(bundle, self._open)
                self._live = staged
            except Refused as error:
                reason = str(error)
            live = self._live
            return SwapReport(
                committed=not reason,
                reason=reason,
                version=live.manifest.version,
                weights=live.weights,
                probe_difference=difference,
                seconds=time.perf_counter() - began,
            )


def load_bundle(path: Path | str, trusted_key: Path | str | None = None) -> OrtPolicy:
    """Load a policy, verifying hashes, contract and probe, and with a key who signed it.

    `trusted_key` is the PEM file of a public Ed25519 key. Raises BundleRefused, naming the reason.
    """
    return OrtPolicy(read(path, trusted_key), trusted_key)


@dataclass(frozen=True, slots=True)
class _Live:
    session: Session
    manifest: PolicyManifest
    root: str

    @property
    def weights(self) -> str:
        return self.manifest.files[WEIGHTS].sha256


def _stage(bundle: Bundle, open: Callable[[Bundle], Session]) -> tuple[_Live, float]:
    """Make a session that has shown on the probe that it is the policy; and how exactly."""
    session = open(bundle)
    return _Live(session, bundle.manifest, bundle.root), probe(session, bundle)


def probe(session: Session, bundle: Bundle) -> float:
    """Return the largest difference to the probe's actions. Raises BundleRefused over 1e-5."""
    keys = [leaf.key for leaf in bundle.manifest.contract.observation]
    expected, worst = bundle.probe[ACTION], 0.0
    for row in range(len(expected)):  # one at a time, as it acts
        observation = {key: bundle.probe[OBSERVATION + key][row] for key in keys}
        try:
            actions = session.act(observation)
        except Refused as error:
            raise BundleRefused("the probe does not come out", found=error) from None
        worst = max(worst, float(np.abs(actions - expected[row]).max()))
    if not worst <= TOLERANCE:
        raise BundleRefused(
            "the probe does not come out: this is not the policy that was exported",
            expected=f"differences of at most {TOLERANCE}",
            found=worst,
        )
    return worst


def _check_succession(live: _Live, bundle: Bundle) -> None:
    """Refuse what is no later version of the policy that acts."""
    now, new = live.manifest, bundle.manifest
    if bundle.root != live.root:
        raise BundleRefused(
            "these weights belong to another policy", expected=live.root, found=bundle.root
        )
    if new.version <= now.version:
        raise BundleRefused(
            "these weights are stale",
            expected=f"a version after {now.version}",
            found=new.version,
        )
    for name in ("contract", "weights"):
        if getattr(new, name) != getattr(now, name):
            raise BundleRefused("a successor must have the same shapes and units", where=name)
    if new.files[GRAPH] != now.files[GRAPH]:
        raise BundleRefused("a successor must have the same graph", where=GRAPH)


def _folder(path: Path) -> Path:
    if path.is_dir():
        return path
    if path.name != WEIGHTS:
        raise BundleRefused("these are not a bundle's weights", where=path, expected=WEIGHTS)
    return path.parent
