"""The verb `robot` of the command line.

    robo-offline robot up robot=sim      a cell: simulated arm, robotd, robotwatch, console
    robo-offline robot stop              bring the arm to rest and end the cell, from any terminal
    robo-offline robot status            what it does now
    robo-offline robot console           another operator's console on a running cell
    robo-offline robot keys new --role policy --to FOLDER
    robo-offline robot keys revoke NAME

up takes robot=NAME or FILE, address=ARM, scene=capsules|peg/X,Y,Z|robosuite/TASK,
keys=FOLDER, bind=tcp://HOST:PORT, limits=FILE, out=FOLDER, and --plain or --no-console.
--first schedules a simulated arm like hardware, for a machine that has other work.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from robo_offline.errors import UserError, nearest


def main(arguments: Sequence[str]) -> int:
    """Run `robo-offline robot ...`; return the exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    verb, *rest = arguments
    if verb not in _VERBS:
        raise UserError(f"there is no 'robot {verb}'", remedy=nearest(verb, _VERBS))
    missing = [name for name in ("msgpack", "ruckig", "zmq") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"robots need {', '.join(missing)}, not installed here",
            remedy="pip install 'robo-offline[robot]'",
        )
    return _VERBS[verb](rest)


def _up(arguments: list[str]) -> int:
    from real_robot import cell

    flags = {"--plain", "--no-console", "--first"}
    found = _pairs(arguments, {"robot", "address", "scene", "keys", "bind", "limits", "out"}, flags)
    given: dict[str, object] = {n: found[n] for n in ("robot", "address", "bind") if n in found}
    paths = {"keys": "keys", "limits": "limits", "out": "folder"}
    given |= {field: Path(found[n]).expanduser() for n, field in paths.items() if n in found}
    if "scene" in found:
        given["scene"] = _scene(found["scene"])
    if "--first" in arguments:
        given["scene"] = (*given.get("scene", ()), "--first")  # type: ignore[misc]
    if "--plain" in arguments:
        given["console"] = ("--plain",)
    if "--no-console" in arguments:
        given["console"] = None
    return cell.up(cell.Plan(**given))  # type: ignore[arg-type]


def _stop(arguments: list[str]) -> int:
    from real_robot import cell

    return cell.stop(_pairs(arguments, {"robot"}).get("robot"))


def _status(arguments: list[str]) -> int:
    from real_robot import cell, screen

    notice = cell.running(_pairs(arguments, {"robot"}).get("robot"))
    with notice.client() as client:
        try:
            state = client.state(3.0)
        except TimeoutError as error:
            raise UserError(str(error)) from None
    view = screen.View().next(state, "")
    print(f"{notice.robot}: {screen.line(view)}")
    for name, value in screen.rows(view):
        print(f"  {name:<11} {value}")
    return 0


def _console(arguments: list[str]) -> int:
    from real_robot import cell, console

    notice = cell.running(_pairs(arguments, {"robot"}, {"--plain"}).get("robot"))
    key = str(Path(notice.keys) / "operator.key")
    plain = [a for a in arguments if a == "--plain"]
    return console.main([notice.address, "--key", key, *plain])


def _keys(arguments: list[str]) -> int:
    from real_robot import keys
    from real_robot.requests import Role

    parser = argparse.ArgumentParser("robo-offline robot keys")
    verbs = parser.add_subparsers(dest="verb", required=True)
    new = verbs.add_parser("new", help="make a client's key and allow it")
    new.add_argument("--role", required=True, choices=[role.value for role in Role])
    new.add_argument("--name", help="default: the role")
    new.add_argument("--to", type=Path, default=keys.default_folder(), help="%(default)s")
    revoke = verbs.add_parser("revoke", help="a running robotd follows at once")
    revoke.add_argument("name")
    revoke.add_argument("--in", dest="to", type=Path, default=keys.default_folder())
    options = parser.parse_args(arguments)
    if options.verb == "revoke":
        keys.revoke(options.to, options.name)
        print(f"revoked: {options.name}")
        return 0
    path = keys.new(options.to, Role(options.role), options.name)
    print(f"key: {path} (its holder may act as {options.role}; copy it nowhere else)")
    return 0


def _scene(text: str) -> tuple[str, ...]:
    if text == "capsules":
        return ("--capsules",)
    kind, _, task = text.partition("/")
    if kind == "peg" and len(hole := task.split(",")) == 3:
        return ("--hole", *hole)
    if kind == "robosuite" and task:
        return ("--robosuite", task)
    known = "capsules, peg/X,Y,Z or robosuite/TASK"
    raise UserError("there is no such scene", expected=known, found=text)


def _pairs(
    arguments: Sequence[str], known: set[str], flags: Collection[str] = ()
) -> Mapping[str, str]:
    """Return the values of name=value; UserError for other names and words."""
    found = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument in flags:
            continue
        if not equals or name not in known:
            names = [f"{k}=" for k in known] + sorted(flags)
            raise UserError(f"'{argument}' is not understood", remedy=nearest(argument, names))
        found[name] = value
    return found


_VERBS: Mapping[str, Callable[[list[str]], int]] = {
    "up": _up,
    "stop": _stop,
    "status": _status,
    "console": _console,
    "keys": _keys,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
