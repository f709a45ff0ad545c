"""Measurements that anyone can repeat: `robo-offline bench NAME`, its figures in the last line."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from robo_offline.errors import UserError, nearest


def main(arguments: Sequence[str]) -> int:
    """Run one benchmark: a module of this package with `add_arguments` and `measure`.

    Where it has `show`, that is how its figures are shown to a person.
    """
    names = {m.name.replace("_", "-") for m in iter_modules(__path__) if not m.ispkg}
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: robo-offline bench {'|'.join(sorted(names))} [--json]")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in names:
        raise UserError(f"there is no benchmark '{name}'", remedy=nearest(name, names))
    module = import_module(f"robo_offline.bench.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(f"robo-offline bench {name}", description=module.__doc__)
    parser.add_argument("--json", action="store_true", help="only the JSON line, last")
    module.add_arguments(parser)
    options = parser.parse_args(rest)
    figures = {"bench": name, **module.measure(options), "machine": machine()}
    if not options.json:
        getattr(module, "show", _show)(figures)
    print(json.dumps(figures))
    return 0


def isolated(folder: Path | str) -> dict[str, str]:
    """Return an environment whose data sets and caches lie in a folder of the measurement's own."""
    return {
        **os.environ,
        "MINARI_DATASETS_PATH": str(Path(folder) / "data"),
        "ROBO_OFFLINE_CACHE": str(Path(folder) / "cache"),
    }


def machine() -> dict[str, Any]:
    """Name what was measured on."""
    from robo_offline.train import _cpu

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "python": platform.python_version(),
    }


def _show(figures: dict[str, Any], indent: str = "") -> None:
    for key, value in figures.items():
        if isinstance(value, dict):
            print(f"{indent}{key}:")
            _show(value, indent + "  ")
        else:
            print(f"{indent}{key}: {value}")
