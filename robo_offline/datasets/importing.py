"""Import: recognise a file of demonstrations by its content and store it as a Minari data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from robo_offline.datasets import (
    d4rl,
    guard,
    minari_import,
    ogbench,
    pickles,
    raw_robosuite,
    robomimic,
    robot_episodes,
    store,
    trajectories,
)
from robo_offline.datasets.episode import Episode
from robo_offline.datasets.source import Source
from robo_offline.errors import UserError

READS = (
    "it reads raw robosuite demonstrations (demo.hdf5), robomimic HDF5, D4RL HDF5, OGBench "
    "npz, pickled trajectories (DAPG, Berkeley), folders of robot episodes and Minari ids"
)
DEMO_FILE = "demo.hdf5"  # what robosuite calls its file in a folder of demonstrations
Progress = Callable[[int, int], None]  # (episodes done, episodes in all)


def import_source(
    source: str | Path | Sequence[str | Path],
    name: str,
    *,
    cameras: Sequence[str] = (),
    image_size: int = 84,
    horizon: int | None = None,
    keep_tail: bool = False,
    keys: Sequence[str] | None = None,
    filter_key: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Store the episodes of one file, or of several of one kind, under `name`; say what was done.

    `cameras`, `image_size`: images to make (robosuite) or to take (robomimic) beside the state.
    `horizon`: the environment's time limit; an episode that ends exactly there was cut, not over.
    `keep_tail`: keep what was logged after the first success. `keys`, `filter_key`: robomimic's.
    """
    store.check_free(name, overwrite)  # before minutes of playback, not after
    paths = [source] if isinstance(source, (str, Path)) else list(source)
    options = {
        "cameras": tuple(cameras),
        "image_size": image_size,
        "horizon": horizon,
        "keep_tail": keep_tail,
        "keys": keys,
        "filter_key": filter_key,
    }
    if not paths:
        raise UserError("no source was given", expected=READS)
    opened = [open_source(path, **options) for path in paths]
    return _store(opened, name, overwrite, progress)


def open_source(source: str | Path, **options: Any) -> tuple[Iterator[Episode], Source]:
    """Recognise one source by its content and open it."""
    path = Path(source).expanduser()
    if path.is_dir() and (path / DEMO_FILE).is_file():
        path = path / DEMO_FILE
    if not path.exists():
        if minari_import.is_id(str(source)):
            return minari_import.read(str(source), **options)
        raise UserError("no such file", where=path, remedy=f"give a file or a Minari id. {READS}")
    if path.is_dir() and robot_episodes.folder_of(path) is not None:
        return robot_episodes.read(path, **options)
    if path.is_dir():
        raise _unknown(path, "a folder of " + ", ".join(sorted(p.name for p in path.iterdir())[:8]))
    with guard.reading(path), path.open("rb") as file:
        head = file.read(len(guard.HDF5_MAGIC))
    if head == guard.HDF5_MAGIC:
        return _open_hdf5(path, options)
    if ogbench.looks_like_one(path):
        return ogbench.read(path, **options)
    if pickles.looks_like_one(head):
        return trajectories.read(path, **options)
    raise _unknown(path, f"{path.stat().st_size} bytes that begin with {head!r}")


def _open_hdf5(path: Path, options: dict[str, Any]) -> tuple[Iterator[Episode], Source]:
    with guard.hdf5(path) as file:
        form = next((f for f in (robomimic, raw_robosuite, d4rl) if f.recognises(file)), None)
        if form is None:
            held: list[str] = []
            file.visit(lambda name: held.append(name) if len(held) < 12 else True)
            raise _unknown(path, "an HDF5 file of " + (", ".join(held) or "nothing"))
    return form.read(path, **options)


def _unknown(path: Path, found: str) -> UserError:
    return UserError("the format is not known", where=path, expected=READS, found=found)


def _store(
    opened: list[tuple[Iterator[Episode], Source]],
    name: str,
    overwrite: bool,
    progress: Progress | None,
) -> dict[str, Any]:
    sources = [source for _, source in opened]
    first = sources[0]
    for other in sources[1:]:
        if (other.format, other.environment) != (first.format, first.environment):
            raise UserError(
                "the files were not logged in the same environment",
                where=other.path,
                expected=f"{first.format}, {first.environment}",
                found=f"{other.format}, {other.environment}",
                remedy="import them under two names",
            )
    report: dict[str, Any] = {"episodes": 0, "steps": 0, "successes": 0}
    provenance: dict[str, Any] = {"environment": first.environment}
    total = sum(source.total for source in sources)

    def episodes() -> Iterator[Episode]:
        for iterator, _ in opened:
            for episode in iterator:
                report["episodes"] += 1
                report["steps"] += len(episode)
                report["successes"] += bool(episode.success is not None and episode.success.any())
                yield episode
                if progress is not None:
                    progress(report["episodes"], total)
        provenance["import"] = [_about(source) for source in sources]

    path = store.write(
        name,
        episodes(),
        action_space=first.action_space,
        observation_space=first.observation_space,
        env_spec=first.env_spec,
        extra_metadata=provenance,
        overwrite=overwrite,
    )
    return {
        "name": store.full_id(name),
        "path": str(path),
        "environment": first.environment,
        **report,
        "sources": provenance["import"],
    }


def _about(source: Source) -> dict[str, Any]:
    return {
        "file": source.path.name,
        "format": source.format,
        "counts": {key: count for key, count in source.counts.items() if count},
        "notes": source.notes,
    }
