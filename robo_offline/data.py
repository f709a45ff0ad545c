"""The `data` verb: import logged demonstrations, look at what there is, and find what is wrong."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from robo_offline.errors import UserError
from robo_offline.progress import bar


def main(arguments: Sequence[str]) -> int:
    """Run `robo-offline data import|keep|info|doctor|list`; doctor exits with 1 on errors."""
    options = _parser().parse_args(list(arguments))
    verbs = {"import": _import, "keep": _keep, "info": _info, "doctor": _doctor, "list": _list}
    return verbs[options.verb](options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("robo-offline data", description=__doc__)
    verbs = parser.add_subparsers(
        dest="verb", required=True, metavar="import|keep|info|doctor|list"
    )

    add = verbs.add_parser(
        "import",
        help="store logged demonstrations as a Minari data set",
        description="Store logged demonstrations as a Minari data set. The format is found by "
        "content: raw robosuite demonstrations, robomimic HDF5, D4RL HDF5, OGBench npz, "
        "Adroit DAPG pickles, policy-log pickles, folders of episodes that a robot lived through; "
        "or give a Minari id.",
    )
    add.add_argument("source", nargs="+", help="files or folders of one kind, or a Minari id")
    add.add_argument("--to", required=True, metavar="NAME", help="for example lift/human-v0")
    add.add_argument(
        "--cameras", default="", help="render images of these, e.g. agentview,frontview"
    )
    add.add_argument("--image-size", type=int, default=84, help="pixels, square (default 84)")
    add.add_argument("--horizon", type=int, help="time limit, where the file does not say")
    add.add_argument("--keep-tail", action="store_true", help="keep what follows the first success")
    add.add_argument(
        "--keys",
        default="",
        help="what makes up the state, in order, e.g. robot0_eef_pos,robot0_eef_quat",
    )
    add.add_argument("--filter", metavar="KEY", help="only this filter key of a robomimic file")
    add.add_argument("--overwrite", action="store_true", help="replace a data set of that name")
    add.add_argument("--json", action="store_true")

    keep = verbs.add_parser(
        "keep",
        help="store what a run met online as a data set",
        description="Store the replay of a run's last checkpoint as a Minari data set.",
    )
    keep.add_argument("run", type=Path, help="folder of the run")
    keep.add_argument("--to", required=True, metavar="NAME", help="for example hopper/replay-v0")
    keep.add_argument("--overwrite", action="store_true", help="replace a data set of that name")
    keep.add_argument("--json", action="store_true")

    for verb, text in (
        ("info", "say what a data set holds"),
        ("doctor", "find what makes offline RL silently wrong; exit 1 on errors"),
    ):
        look = verbs.add_parser(verb, help=text, description=text)
        look.add_argument("name")
        look.add_argument("--json", action="store_true")
    verbs.add_parser("list", help="list the data sets on this machine").add_argument(
        "--json", action="store_true"
    )
    return parser


def _import(options: argparse.Namespace) -> int:
    from robo_offline.datasets.importing import import_source

    with bar("importing") as progress:
        report = import_source(
            options.source,
            options.to,
            cameras=_listed(options.cameras),
            image_size=options.image_size,
            horizon=options.horizon,
            keep_tail=options.keep_tail,
            keys=_listed(options.keys) or None,
            filter_key=options.filter,
            overwrite=options.overwrite,
            progress=lambda done, total: progress(done, total or 0),
        )
    if options.json:
        print(json.dumps(report, default=str))
        return 0
    for key, value in report.items():
        print(f"{key}: {_shown(value)}")
    print(f"next: robo-offline data doctor {report.get('name', options.to)}")
    return 0


def _keep(options: argparse.Namespace) -> int:
    from robo_offline.experience import keep

    report = keep(options.run, options.to, overwrite=options.overwrite)
    if options.json:
        print(json.dumps(report))
        return 0
    for key, value in report.items():
        print(f"{key}: {value}")
    return 0


def _info(options: argparse.Namespace) -> int:
    from robo_offline.datasets.info import info, render

    about = info(options.name)
    if options.json:
        print(json.dumps(about))
    else:
        Console().print(render(about))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from robo_offline.datasets.doctor import examine, render, to_json, worst

    findings = examine(options.name)
    if options.json:
        print(to_json(findings))
    else:
        Console().print(render(findings))
    return 1 if worst(findings) == "error" else 0


def _list(options: argparse.Namespace) -> int:
    from robo_offline.datasets.store import local_ids

    names = local_ids()
    if options.json:
        print(json.dumps(names))
        return 0
    if not names:
        raise UserError(
            "there is no data set on this machine",
            remedy="robo-offline data import FILE --to NAME, or robo-offline collect",
        )
    print("\n".join(names))
    return 0


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(item)}" for key, item in value.items() if item)
    if isinstance(value, list):
        return "; ".join(_shown(item) for item in value)
    return str(value)
