"""The house by machine: who may import whom, how long a file may be, and what no file says."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "robo_offline"
SOURCES = sorted(
    path
    for top in ("robo_offline", "envs", "real_robot", "configs")
    for path in (ROOT / top).rglob("*.py")
)
ALGOS = sorted((PACKAGE / "algos").glob("*.py"))

# What each part may import of the others: the arrows of the picture in robo_offline/__init__.py.
BRICKS = {"errors", "spec", "schema"}
NETWORKS = BRICKS | {"nets", "encoders", "losses", "policies"}
DATA = BRICKS | {"datasets", "progress"}
ALLOWED = {
    "errors": set(),
    "spec": {"errors"},
    "schema": {"errors", "spec"},
    "processes": set(),
    "progress": set(),
    "video": {"errors"},
    "nets": BRICKS | {"encoders"},
    "losses": BRICKS,
    "encoders": BRICKS,
    "policies": NETWORKS | {"algorithm", "analysis"},
    "algorithm": BRICKS | {"config", "encoders", "policies"},
    "algos": NETWORKS | {"algorithm", "algos"},
    "engine": BRICKS | {"algorithm", "nets"},
    "config": {"errors"},
    "datasets": DATA,
    "replay": BRICKS | {"policies", "nets", "algorithm"},
    "loggers": {"errors", "analysis"},
    "analysis": BRICKS,
}
OUTER = ("phases", "build", "train", "cli", "saved", "demo", "bench", "report", "api")


def modules_of(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside of a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def part_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def parts_imported(path: Path) -> set[str]:
    names = {name for name in modules_of(path) if name.startswith("robo_offline.")}
    known = {p.name.removesuffix(".py") for p in PACKAGE.iterdir()}
    return {name.split(".")[1] for name in names} & known - {part_of(path)}


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_a_part_imports_only_what_lies_below_it(part):
    for path in SOURCES:
        if path.is_relative_to(PACKAGE) and part_of(path) == part:
            assert parts_imported(path) <= ALLOWED[part], path


def test_nothing_below_imports_what_drives_it():
    for path in SOURCES:
        if path.is_relative_to(PACKAGE) and part_of(path) in ALLOWED:
            assert not parts_imported(path) & set(OUTER), path


@pytest.mark.parametrize("package", ["envs", "real_robot"])
def test_worlds_know_nothing_of_learning(package):
    learning = ("algos", "engine", "replay", "phases", "losses", "nets", "train", "build")
    for path in (ROOT / package).rglob("*.py"):
        for name in modules_of(path):
            assert not name.startswith(tuple(f"robo_offline.{part}" for part in learning)), path


def test_algorithms_know_nothing_of_hydra_optimisers_or_worlds():
    for path in ALGOS:
        for name in modules_of(path):
            assert not name.startswith(("hydra", "omegaconf", "torch.optim", "envs", "gymnasium"))


@pytest.mark.parametrize("word", [".item()", ".cuda()", ".backward()", "torch.compile", "optim."])
def test_an_algorithm_does_not_say(word):
    assert [path.name for path in ALGOS if word in path.read_text()] == []


def test_no_file_is_longer_than_400_lines_and_no_algorithm_longer_than_150():
    lengths = {path: len(path.read_text().splitlines()) for path in SOURCES}
    assert {str(p): n for p, n in lengths.items() if n > (150 if p in ALGOS else 400)} == {}


def test_every_file_begins_with_what_it_is():
    for path in SOURCES:
        text = path.read_text()
        assert not text.strip() or ast.get_docstring(ast.parse(text)), path
    for path in ALGOS:
        assert re.match(r"[^\n]+[.:]", ast.get_docstring(ast.parse(path.read_text())) or ""), path


def test_no_except_is_bare():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ExceptHandler) and node.type is None), path


def test_no_assertion_stands_for_a_check_of_what_a_user_gives():
    """`python -O` drops them; those that remain only tell the type checker what is known."""
    for path in ALGOS:
        assert not any(isinstance(n, ast.Assert) for n in ast.walk(ast.parse(path.read_text())))


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def mentions(pattern: str) -> list[str]:
    found = []
    for path in tracked():
        if path == Path(__file__) or path.stat().st_size > 1_000_000:
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if re.search(pattern, text):
            found.append(str(path.relative_to(ROOT)))
    return found


def test_no_path_of_the_workplace_stands_in_the_repository():
    assert mentions(r"/work/|/root/|/home/") == []


def test_nothing_is_left_to_do_in_a_comment():
    assert mentions(r"\b(TODO|FIXME|XXX|HACK)\b") == []


def test_no_module_has_the_name_of_a_heap():
    heaps = re.compile(r"(^|_)(utils?|helpers?|misc|common|managers?)(_|\.|$)")
    assert [path.name for path in SOURCES if heaps.search(path.name)] == []


def test_what_runs_the_robot_needs_no_torch_and_unpickles_nothing():
    forbidden = ("torch", "torchrl", "tensordict", "pickle", "dill", "cloudpickle", "shelve")
    for path in (ROOT / "real_robot").rglob("*.py"):
        for name in modules_of(path):
            assert name.split(".")[0] not in forbidden, path
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            assert not (isinstance(called, ast.Name) and called.id in ("eval", "exec")), path
            allows = [k for k in getattr(node, "keywords", []) if k.arg == "allow_pickle"]
            assert not any(getattr(k.value, "value", True) for k in allows), path
