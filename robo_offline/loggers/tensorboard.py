"""Event files for TensorBoard, on the axis that offline and online share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robo_offline.loggers.logger import PLACE, Axis, Logger, Row, is_number, plain, require


class TensorBoard(Logger):
    """Write every number of a row as a scalar into <run>/tensorboard."""

    def __init__(self, directory: Path | str, flush_seconds: int):
        require("tensorboard")
        self.folder = Path(directory) / "tensorboard"
        self.flush_seconds = flush_seconds
        self.axis = Axis()
        self.purge: int | None = None
        self.writer: Any = None

    def log(self, row: Row) -> None:
        self._write("", row)

    def evaluation(self, row: Row) -> None:
        self._write("evaluate/", row)

    def _write(self, prefix: str, row: Row) -> None:
        row = plain(row)
        if self.writer is None:  # late, so that `restore` can still say where to resume
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(
                str(self.folder), purge_step=self.purge, flush_secs=self.flush_seconds
            )
        position = self.axis.position(row)
        for name, value in row.items():
            if is_number(value) and name not in PLACE:
                self.writer.add_scalar(prefix + name, value, position)

    def finish(self) -> None:
        if self.writer is not None:
            self.writer.close()

    def state(self) -> dict[str, Any]:
        return self.axis.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Hide what was written after the checkpoint: event files can only be added to."""
        self.axis.restore(state)
        self.purge = self.axis.last + 1
