"""Weights & Biases from a thread of its own, so that no trouble there can stop or slow a run."""

from __future__ import annotations

import json
import logging
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from robo_offline.errors import UserError
from robo_offline.loggers.logger import Axis, Logger, Row, plain, require

warn = logging.getLogger(__name__).warning
MODES = ("auto", "online", "offline")
WAITING_ROWS = 10_000  # more than an hour of rows; beyond that the service is not coming back


class Wandb(Logger):
    """Queue rows for a worker that alone talks to W&B; the first failure switches it off."""

    def __init__(
        self,
        directory: Path | str,
        project: str,
        entity: str | None,
        group: str | None,
        tags: Sequence[str],
        mode: str,
        timeout_seconds: float,
        videos: bool,
    ):
        require("wandb")
        if mode not in MODES:
            raise UserError(
                "the W&B logger does not know this mode",
                where="logger.extra.wandb.mode",
                expected=" or ".join(MODES),
                found=repr(mode),
                remedy="use auto: online when you are logged in, else offline",
            )
        self.directory = Path(directory)
        self.project, self.entity, self.group = project, entity, group
        self.tags, self.mode = list(tags), mode
        self.timeout_seconds, self.videos = timeout_seconds, videos
        self.id = secrets.token_hex(4)
        self.resumed = False
        self.axis = Axis()
        self.on = True
        self.connected = threading.Event()
        self.waiting: queue.Queue[Callable[[Any], None] | None] = queue.Queue(WAITING_ROWS)
        self.worker: threading.Thread | None = None
        self.started = 0.0

    def begin(self, phase: str, total: int, step: int = 0) -> None:
        self._send(lambda run: None)  # connect now rather than at the first row

    def log(self, row: Row) -> None:
        row = plain(row)
        row["progress"] = self.axis.position(row)
        self._send(lambda run: run.log(row))

    def evaluation(self, row: Row) -> None:
        row = plain(row)
        position = self.axis.position(row)
        named = {f"evaluate/{name}": value for name, value in row.items()} | {"progress": position}
        video = row.get("video")

        def send(run: Any) -> None:
            if self.videos and video and (self.directory / video).is_file():
                import wandb

                named["evaluate/video"] = wandb.Video(str(self.directory / video), format="mp4")
            run.log(named)

        self._send(send)

    def finish(self) -> None:
        """Wait for the last rows to be sent, but no longer than the timeout."""
        if self.worker is None or not self.on:
            return
        self._put(None)
        self.worker.join(self.timeout_seconds)
        if self.worker.is_alive():
            self._off(f"it had not sent its rows {self.timeout_seconds:g} s after the run's end")
        self.on = False

    def state(self) -> dict[str, Any]:
        return {"id": self.id, "axis": self.axis.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue the same W&B run; rows that are written twice lie on top of each other there."""
        self.id, self.resumed = state["id"], True
        self.axis.restore(state["axis"])

    def _send(self, call: Callable[[Any], None]) -> None:
        if not self.on:
            return
        if self.worker is None:
            self.started = time.monotonic()
            self.worker = threading.Thread(target=self._work, name="wandb-logger", daemon=True)
            self.worker.start()
        late = time.monotonic() - self.started > self.timeout_seconds
        if late and not self.connected.is_set():
            self._off(f"wandb.init had not returned after {self.timeout_seconds:g} s")
        else:
            self._put(call)

    def _put(self, call: Callable[[Any], None] | None) -> None:
        try:
            self.waiting.put_nowait(call)
        except queue.Full:
            self._off(f"{WAITING_ROWS} rows are waiting to be sent")

    def _work(self) -> None:
        try:
            run = self._connect()
            self.connected.set()
            while self.on and (call := self.waiting.get()) is not None:
                call(run)
            run.finish()
        except (Exception, SystemExit) as error:  # a service's trouble is not the run's
            self._off(f"{type(error).__name__}: {error}")

    def _connect(self) -> Any:
        import wandb

        mode = self._resolved_mode(wandb)
        run = wandb.init(
            project=self.project,
            entity=self.entity,
            group=self.group,
            tags=self.tags,
            id=self.id,
            name=self._name(),
            resume="allow" if self.resumed and mode != "offline" else None,
            dir=str(self.directory),
            config=self._config(),
            mode=mode,  # type: ignore[arg-type]
            settings=wandb.Settings(silent=True, console="off", init_timeout=self.timeout_seconds),
        )
        run.define_metric("progress")
        run.define_metric("*", step_metric="progress")
        return run

    def _resolved_mode(self, wandb: Any) -> str:
        asked = os.environ.get("WANDB_MODE", "auto") if self.mode == "auto" else self.mode
        if asked == "auto":
            return "online" if _logged_in(wandb) else "offline"
        if asked == "online" and not _logged_in(wandb):  # wandb would stop and ask at the terminal
            warn(
                f"not logged in to W&B: the rows are kept in {self.directory / 'wandb'}; "
                "`wandb login` and `wandb sync` send them later"
            )
            return "offline"
        return asked

    def _name(self) -> str:
        try:
            return str(json.loads((self.directory / "run.json").read_text())["name"])
        except (OSError, ValueError, KeyError, TypeError):
            return self.directory.name

    def _config(self) -> dict[str, Any]:
        import yaml

        try:
            config = yaml.safe_load((self.directory / "config.yaml").read_text())
        except (OSError, ValueError, yaml.YAMLError):
            return {}
        return config if isinstance(config, dict) else {}

    def _off(self, why: str) -> None:
        if self.on:
            self.on = False
            warn(f"W&B is off for the rest of this run ({why}); the files in the run go on")


def _logged_in(wandb: Any) -> bool:
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except TypeError:  # an older wandb has no `prompt`, and knows it here
        return wandb.api.api_key is not None
