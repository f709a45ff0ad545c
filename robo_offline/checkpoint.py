"""Checkpoints: atomic folders of safetensors and JSON, from which a run continues exactly.

    checkpoints/000012000/learner.safetensors    networks, targets, optimiser moments
                          state.json             counters, random streams, logs, replay index
    checkpoints/replay/000000-000041.safetensors online episodes, written once, shared by all
    checkpoints/last -> 000012000, best -> ...

A folder is written under another name and renamed when it is whole, a link is replaced by renaming
another over it, and what nothing points to is deleted last: a kill at any moment leaves the
previous checkpoint or the new one.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tensordict import TensorDict
from torch import Tensor

from robo_offline.errors import UserError
from robo_offline.replay.buffer import Replay

FORMAT = 1
PARTIAL = ".next.partial"  # one name: a run has one writer, and what a kill left is overwritten


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.replay_directory = directory / "replay"

    def save(
        self,
        tag: int,
        tensors: dict[str, Tensor],
        state: dict,
        replay: Replay | None,
        *,
        best: bool = False,
    ) -> Path:
        """Write a checkpoint and point `last` at it. Raises UserError when the disk is full."""
        final = self._unused(f"{tag:09d}")
        partial = self.directory / PARTIAL
        with _disk_errors(final):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            if replay is not None:
                state = {**state, "replay": self._save_replay(replay)}
            _write_tensors(partial / "learner.safetensors", tensors)
            _write_text(partial / "state.json", json.dumps({"format": FORMAT, **state}))
            _sync(partial)
            partial.rename(final)
            if best:  # before `last`: a kill in between repeats the evaluation that found it
                self.point("best", final)
            self.point("last", final)
            self._prune()
        return final

    def _unused(self, name: str) -> Path:
        """Where to write: what a link leads to is never written again, even at the same place."""
        folder, number = self.directory / name, 2
        while folder.exists():
            folder, number = self.directory / f"{name}-{number}", number + 1
        return folder

    def exist(self) -> bool:
        """Say whether there is one to continue from."""
        return (self.directory / "last" / "state.json").exists()

    def point(self, name: str, folder: Path) -> None:
        """Make the link `name` (last, best) lead to a checkpoint, in one step."""
        fresh = self.directory / f".{name}.link"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(folder.name)
        fresh.replace(self.directory / name)
        _sync(self.directory)

    def load(self, name: str = "last") -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read tensors and state. Raises UserError when there is none or it is damaged."""
        folder = self.directory / name
        if not (folder / "state.json").exists():
            raise UserError(
                f"there is no checkpoint '{name}'",
                where=self.directory,
                found=", ".join(sorted(p.name for p in self.directory.glob("[!.]*"))) or "nothing",
                remedy="give the folder of a run that has saved at least once",
            )
        try:
            state = json.loads((folder / "state.json").read_text())
            tensors = load_file(folder / "learner.safetensors")
        except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
            raise UserError(
                "a checkpoint cannot be read",
                where=folder.resolve(),
                found=str(error).splitlines()[0],
                remedy="point `last` at an older folder beside it",
            ) from error
        version = state.get("format") if isinstance(state, dict) else None
        if version != FORMAT:
            raise UserError(
                "a checkpoint has another format", where=folder, expected=FORMAT, found=version
            )
        return tensors, state

    def _save_replay(self, replay: Replay) -> dict:
        """Write the episodes that no segment holds yet; list the segments that are still needed."""
        held = self._segments()
        written = max((end for _, end, _ in held), default=replay.total - len(replay.episodes) - 1)
        newest = replay.total - 1
        if newest > written:
            first = max(written + 1, replay.total - len(replay.episodes))
            rows, lengths = replay.export(first)
            self.replay_directory.mkdir(exist_ok=True)
            path = self.replay_directory / f"{first:09d}-{newest:09d}.safetensors"
            leaves = {
                ".".join(key) if isinstance(key, tuple) else key: value.contiguous()
                for key, value in rows.items(include_nested=True, leaves_only=True)
            }
            partial = self.replay_directory / PARTIAL
            _write_tensors(partial, leaves | {"lengths": lengths})
            partial.rename(path)
            _sync(self.replay_directory)
        return {
            "episodes": [list(pair) for pair in replay.episodes],
            "total": replay.total,
            "cursor": replay.cursor,
        }

    def restore_replay(self, replay: Replay, state: dict) -> None:
        """Fill an empty replay with the episodes of a checkpoint, each at the rows it had."""
        places = [tuple(pair) for pair in state["episodes"]]
        needed = max((first + steps + 1 for first, steps in places), default=0)
        if needed > replay.capacity:
            raise UserError(
                "the online episodes of a checkpoint do not fit into the replay",
                expected=f"a capacity of at least {needed} rows",
                found=f"{replay.capacity} rows",
                remedy="continue with the replay.capacity that the run began with",
            )
        oldest = state["total"] - len(places)
        ordinal = oldest
        for first, end, path in self._segments():
            if end < oldest or first >= state["total"]:
                continue
            try:
                tensors = load_file(path)
            except (SafetensorError, OSError) as error:
                raise UserError(
                    "a replay segment cannot be read",
                    where=path,
                    found=str(error).splitlines()[0],
                ) from error
            lengths = tensors.pop("lengths").tolist()
            rows = TensorDict(
                {tuple(key.split(".")): value for key, value in tensors.items()}, [sum(lengths)]
            )
            for number, episode in enumerate(rows.split(lengths), start=first):
                if number == ordinal and ordinal < state["total"]:
                    replay.place(episode, places[ordinal - oldest][0])
                    ordinal += 1
        if ordinal != state["total"]:
            raise UserError(
                "online episodes of a checkpoint are missing",
                where=self.replay_directory,
                expected=f"episodes {oldest} to {state['total'] - 1}",
                found=f"up to {ordinal - 1}",
            )
        replay.total, replay.cursor = state["total"], state["cursor"]
        for _, end, path in self._segments():  # of a future that this checkpoint does not know
            if end >= state["total"]:
                path.unlink()

    def _segments(self) -> list[tuple[int, int, Path]]:
        paths = sorted(self.replay_directory.glob("[0-9]*-[0-9]*.safetensors"))
        return [(int(path.stem[:9]), int(path.stem[10:]), path) for path in paths]

    def _prune(self) -> None:
        """Delete what no link reaches: older folders, and segments whose episodes all left."""
        linked = {(self.directory / name).resolve().name for name in ("last", "best")}
        for folder in self.directory.glob("[0-9]*"):
            if folder.name not in linked:
                shutil.rmtree(folder)
        state = json.loads((self.directory / "last" / "state.json").read_text())
        if "replay" in state:
            oldest = state["replay"]["total"] - len(state["replay"]["episodes"])
            for _, end, path in self._segments():
                if end < oldest:
                    path.unlink()


def random_state() -> dict[str, Any]:
    """The global random stream that losses and replays draw from, as JSON."""
    return {"torch": torch.get_rng_state().numpy().tobytes().hex()}


def set_random_state(state: dict[str, Any]) -> None:
    """Put the global random stream back."""
    raw = bytearray.fromhex(state["torch"])
    torch.set_rng_state(torch.frombuffer(raw, dtype=torch.uint8))


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    _sync(path)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)
    _sync(path)


def _sync(path: Path) -> None:
    """Force a file or folder to the disk, so that a rename never outruns what it names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _disk_errors(where: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        shutil.rmtree(where.parent / PARTIAL, ignore_errors=True)
        raise UserError(
            "the disk is full: a checkpoint was not saved"
            if full
            else "a checkpoint was not saved",
            where=where,
            found=str(error).splitlines()[0],
            remedy="free some space, then continue with `robo-offline train resume=RUN_DIR`; "
            "the previous checkpoint is untouched",
        ) from error
