"""The command line: `robo-offline VERB ...`, one verb per thing a user does."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from robo_offline import __version__
from robo_offline.errors import UserError, nearest

USAGE = """\
usage: robo-offline VERB [arguments] [--debug]

  train      train a policy: robo-offline train algo=iql dataset=NAME env=robosuite/lift
             continue one:   robo-offline train resume=RUN_DIR
             many at once:   robo-offline train --multirun algo=iql,awac seed=0,1,2
  evaluate   score a run's policy again: robo-offline evaluate RUN_DIR
  report     write a page about runs: robo-offline report RUN_DIR...
  export     hand a run's policy to a robot: robo-offline export RUN_DIR --to FOLDER
  data       import, keep, info, doctor, list: robo-offline data import FILE --to NAME
  collect    make a data set: robo-offline collect env=robosuite/lift policy=scripted
  algos      list the algorithms
  docs       which method, which knob: robo-offline docs [PAGE]
  deploy     let a bundle act on a robot: robo-offline deploy BUNDLE robot=sim
  robot      bring a robot up, stop it, make keys: robo-offline robot up robot=sim
  demo       from demonstrations to a finetuned policy in minutes, with a report
  bench      measure: robo-offline bench suite|peers|handover|updates|... [--json]

  robo-offline VERB --help says more.
"""

INTERRUPTED = 130  # what a shell expects of a program stopped by Ctrl-C


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb and return the exit status: 0 done, 1 findings, 2 unusable input, 130 stopped."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"robo-offline {__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    try:
        if verb not in VERBS:
            raise UserError(f"there is no verb '{verb}'", remedy=nearest(verb, VERBS))
        return VERBS[verb](rest) or 0
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `robo-offline ... | head`
        return 0
    except UserError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            print(f"error: the disk is full\n  found: {error}", file=sys.stderr)
            return 2
        print(
            f"error: {type(error).__name__}: {error}\n"
            "  this is a fault of robo-offline; --debug shows where",
            file=sys.stderr,
        )
        return 2


def _train(arguments: list[str]) -> int:
    from robo_offline import train

    if _help(arguments):
        print(train.__doc__)
        _print_config("train")
        return 0
    if "--multirun" in arguments or "-m" in arguments:
        from robo_offline import multirun

        return multirun.main([a for a in arguments if a not in ("--multirun", "-m")])
    from robo_offline.phases.run import Interrupted

    try:
        directory = train.main(arguments)
    except Interrupted as stopped:
        print(
            f"stopped and saved; continue with: robo-offline train resume={stopped}",
            file=sys.stderr,
        )
        return INTERRUPTED
    print(f"run: {directory}")
    print(f"checkpoint: {directory / 'checkpoints' / 'best'}")
    print(f"next: robo-offline report {directory}")
    return 0


def _evaluate(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("robo-offline evaluate")
    parser.add_argument("run", type=Path)
    parser.add_argument("--checkpoint", default="last", help="last, best, or a checkpoint's name")
    parser.add_argument("--episodes", type=int, help="default: as in the run's configuration")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--video", action="store_true", help="write a video grid")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    from robo_offline import saved

    result, path = saved.evaluate(
        options.run,
        checkpoint=options.checkpoint,
        episodes=options.episodes,
        seed=options.seed,
        workers=options.workers,
        video=options.video,
    )
    row = result.row()
    if options.json:
        print(json.dumps(row | {"path": str(path)}))
        return 0
    print(
        f"success {row['success_rate']:.1%} "
        f"(95 % interval {row['success_low']:.1%} to {row['success_high']:.1%}), "
        f"{row['episodes']} episodes"
    )
    print(f"return {row['return_mean']:.3f} +- {row['return_std']:.3f}")
    print(f"length {row['length_mean']:.1f} steps")
    if row["normalised_score"] is not None:
        print(f"normalised score {row['normalised_score']:.1f}")
    print(f"written: {path}")
    return 0


def _report(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("robo-offline report")
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument(
        "--out", type=Path, help="folder of the page; default: inside the first run"
    )
    options = parser.parse_args(arguments)
    from robo_offline import report

    print(f"report: {report.write(options.runs, options.out)}")
    return 0


def _export(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "robo-offline export",
        description="Write a run's policy as a bundle that a robot loads without torch: weights, "
        "computation, contract, and a certificate that it acts as the policy does.",
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--to", type=Path, required=True, help="folder of the bundle, new or empty")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a checkpoint's name")
    parser.add_argument("--sign", type=Path, metavar="KEY.pem", help="a private Ed25519 key")
    parser.add_argument("--rate", type=float, metavar="HZ", help="where no environment says it")
    parser.add_argument("--descriptor", metavar="SHA256", help="hash of the robot it is meant for")
    parser.add_argument(
        "--successor-of", type=Path, metavar="BUNDLE", help="keep its graph, for a running robot"
    )
    parser.add_argument(
        "--compiled", type=Path, metavar="FOLDER", help="also as native code, which needs torch"
    )
    options = parser.parse_args(arguments)
    from robo_offline.export import export

    manifest = export(
        options.run,
        options.to,
        checkpoint=options.checkpoint,
        sign=options.sign,
        rate_hz=options.rate,
        descriptor_hash=options.descriptor,
        successor_of=options.successor_of,
        compiled=options.compiled,
    )
    told = manifest.certificate
    for name, parity in told.parity.items():
        print(
            f"parity, {name.replace('_', ' ')}: {parity.max_difference:.1e} at most, over "
            f"{parity.rows} observations ({parity.source})"
        )
    for name, latency in told.latency.items():
        print(
            f"latency, {name}: {latency.p50_us:.0f} us median, {latency.p99_us:.0f} us p99, "
            f"{latency.p999_us:.0f} us p99.9"
        )
    signed = "signed" if options.sign else "not signed"
    print(f"bundle: {options.to} (version {manifest.version}, {signed})")
    if options.compiled:
        print(f"compiled by AOTInductor: {options.compiled}")
    return 0


def _data(arguments: list[str]) -> int:
    from robo_offline import data

    return data.main(arguments)


def _collect(arguments: list[str]) -> int:
    from robo_offline import collect
    from robo_offline.config import compose
    from robo_offline.progress import bar

    if _help(arguments):
        print(collect.__doc__)
        _print_config("collect")
        return 0
    cfg = compose(arguments, "collect")
    with bar("collecting") as progress:
        report = collect.run(cfg, progress)
    for key, value in report.items():
        print(f"{key}: {value}")
    return 0


def _algos(arguments: list[str]) -> int:
    from robo_offline import listing

    return listing.main(arguments)


def _docs(arguments: list[str]) -> int:
    from robo_offline import docs

    return docs.main(arguments)


def _deploy(arguments: list[str]) -> int:
    from robo_offline import deploy

    return deploy.main(arguments)


def _robot(arguments: list[str]) -> int:
    from real_robot import cli

    return cli.main(arguments)


def _demo(arguments: list[str]) -> int:
    from robo_offline import demo

    return demo.main(arguments)


def _bench(arguments: list[str]) -> int:
    from robo_offline import bench

    return bench.main(arguments)


def _help(arguments: Sequence[str]) -> bool:
    return "--help" in arguments or "-h" in arguments


def _print_config(name: str) -> None:
    from omegaconf import OmegaConf

    from robo_offline.config import compose

    print(f"\nThe configuration, each value changed by key=value (robo-offline {name} algo=bc):\n")
    print(OmegaConf.to_yaml(compose([], name)))


VERBS: dict[str, Callable[[list[str]], int | None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "report": _report,
    "export": _export,
    "data": _data,
    "collect": _collect,
    "algos": _algos,
    "docs": _docs,
    "deploy": _deploy,
    "robot": _robot,
    "demo": _demo,
    "bench": _bench,
}

if __name__ == "__main__":
    sys.exit(main())
