"""Minari data sets as a source: those in the local folder, and those that Minari can download."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import minari
from minari.dataset.minari_dataset import DATASET_ID_RE

from robo_offline.datasets.episode import Episode
from robo_offline.datasets.source import Source
from robo_offline.datasets.store import Store, full_id, local_ids, space_of
from robo_offline.errors import UserError

FORMAT = "Minari"


def is_id(name: str) -> bool:
    """Say whether a source that is no file may be the id of a Minari data set."""
    return DATASET_ID_RE.fullmatch(name) is not None and name[-1:].isdigit()


def read(name: str, **_: Any) -> tuple[Iterator[Episode], Source]:
    """Open a Minari data set by id, downloading it first when it is not here."""
    name = full_id(name)
    if name not in local_ids():
        download(name)
    store = Store(name)
    source = Source(
        FORMAT,
        Path(name),
        total=len(store),
        environment=store.metadata.get("environment") or {},
        observation_space=space_of(store.metadata, "observation_space"),
        action_space=store.action_space,
        env_spec=_env_spec(store.path),
    )
    return store.episodes(), source


def download(name: str) -> None:
    """Fetch a data set of Minari's server into the local folder."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            minari.download_dataset(name)
    # Its HTTP client raises its own kinds of error, and so do the storages behind it.
    except Exception as error:
        raise UserError(
            f"the data set {name!r} is not here and could not be downloaded",
            where="Minari's server",
            found=f"{type(error).__name__}: {str(error)[:200]}",
            remedy="check the id at minari.farama.org and the network, or copy the data set into "
            "the folder MINARI_DATASETS_PATH",
        ) from error


def _env_spec(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return minari.MinariDataset(path).env_spec
        # Absent or of an environment that this installation does not know; neither matters here.
        except Exception:
            return None
