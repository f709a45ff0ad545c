"""Rows on disk, as JSON lines and as CSV, that a resumed run can cut back to its checkpoint."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from robo_offline.loggers.logger import Logger, Row, plain

warn = logging.getLogger(__name__).warning


class JsonLines:
    """An append-only file of one JSON object per line; a line counts once its newline is written.

    NaN and infinities are written as Python's json does (NaN, Infinity), so they come back as such.
    """

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self.cut(path.stat().st_size)
        self.count = sum(1 for _ in self.lines())
        self.file = path.open("ab")

    def append(self, row: Row) -> None:
        """Write a row and hand it to the operating system at once."""
        if self.file.closed:  # a finished run that goes on with another phase
            self.file = self.path.open("ab")
        self.file.write(json.dumps(row).encode("ascii") + b"\n")
        self.file.flush()
        self.count += 1

    def lines(self) -> Iterator[bytes]:
        """Yield the complete lines."""
        with self.path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows, passing over a line that something else has spoilt."""
        for line in self.lines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield row

    def state(self) -> dict[str, int]:
        """Return the present end, after the disk has confirmed everything up to it."""
        if not self.file.closed:
            self.file.flush()
            os.fsync(self.file.fileno())
        return {"bytes": self.path.stat().st_size, "rows": self.count}

    def restore(self, state: Mapping[str, int]) -> None:
        """Cut the file back to `state`."""
        size = self.path.stat().st_size
        if size < state["bytes"]:
            warn(
                f"{self.path}: the checkpoint was written at byte {state['bytes']}, "
                f"the file ends at {size}; the rows in between are lost"
            )
        self.cut(min(size, state["bytes"]))
        self.count = sum(1 for _ in self.lines())

    def cut(self, size: int) -> None:
        """Shorten the file to the last whole line within `size` bytes, in one system call."""
        with self.path.open("rb+") as file:
            end = size
            while end > 0:
                start = max(0, end - 65536)
                file.seek(start)
                newline = file.read(end - start).rfind(b"\n")
                if newline >= 0:
                    end = start + newline + 1
                    break
                end = start
            file.truncate(end)
            os.fsync(file.fileno())

    def close(self) -> None:
        self.file.close()


class Csv:
    """The rows of a JsonLines file as a table, whose header grows when a new metric appears."""

    def __init__(self, path: Path, source: JsonLines):
        self.path, self.source = path, source
        self.columns: dict[str, None] = {}  # an ordered set
        self.rebuild()

    def append(self, row: Row) -> None:
        """Add a row that the source already holds."""
        if row.keys() <= self.columns.keys():
            with self.path.open("ab") as file:
                file.write(self.line(row))
        else:
            self.rebuild()

    def rebuild(self) -> None:
        """Write the table anew beside the old one and put it in its place."""
        rows = list(self.source.rows())
        self.columns = {name: None for row in rows for name in row}
        part = self.path.with_name(self.path.name + ".part")
        with part.open("wb") as file:
            if rows:
                file.write(self.line({name: name for name in self.columns}))
            file.writelines(self.line(row) for row in rows)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.path)

    def line(self, row: Row) -> bytes:
        cells = [_cell(row.get(name)) for name in self.columns]
        text = ",".join(cells) or '""'  # a blank line would not count as a row
        return text.encode("utf-8", "backslashreplace") + b"\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = repr(value) if isinstance(value, float) else str(value)
    if any(character in text for character in ',"\r\n'):  # csv.writer leaves a bare \r unquoted
        return '"' + text.replace('"', '""') + '"'
    return text


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a metrics table back, each cell as it stands."""
    text = path.read_bytes().decode("utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))


class Files(Logger):
    """metrics.jsonl, metrics.csv and evaluations.jsonl: the record that everything else reads."""

    def __init__(self, directory: Path | str):
        folder = Path(directory)
        self.metrics = JsonLines(folder / "metrics.jsonl")
        self.evaluations = JsonLines(folder / "evaluations.jsonl")
        self.table = Csv(folder / "metrics.csv", self.metrics)

    def log(self, row: Row) -> None:
        row = plain(row)
        if row:
            self.metrics.append(row)
            self.table.append(row)

    def evaluation(self, row: Row) -> None:
        self.evaluations.append(plain(row))

    def finish(self) -> None:
        self.metrics.close()
        self.evaluations.close()

    def state(self) -> dict[str, Any]:
        return {"metrics": self.metrics.state(), "evaluations": self.evaluations.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.metrics.restore(state["metrics"])
        self.evaluations.restore(state["evaluations"])
        self.table.rebuild()
