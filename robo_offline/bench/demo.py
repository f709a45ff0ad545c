"""The demo's time, and its success before and after finetuning."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="keep everything there")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run `robo-offline demo` in this process."""
    from robo_offline import demo

    if options.out:
        return demo.run(options.out, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        return demo.run(Path(folder) / "demo", options.seed)
