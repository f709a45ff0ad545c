"""Nothing on the robot is unpickled or evaluated, and the runtime needs little to be installed."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROBOT = Path(__file__).parents[2] / "real_robot"
SOURCES = sorted(ROBOT.rglob("*.py"))
RUNTIME = sorted((ROBOT / "runtime").rglob("*.py"))
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
EXECUTORS = {"eval", "exec", "compile", "__import__"}
LOADERS = {"np.load", "numpy.load", "torch.load"}
AT_THE_TOP = {"numpy", "real_robot"}
LATE = {"onnxruntime", "cryptography", "safetensors"}


def imported(nodes: Iterator[ast.AST] | list[ast.AST]) -> set[str]:
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def faults(text: str) -> list[str]:
    tree = ast.parse(text)
    found = sorted(imported(ast.walk(tree)) & (PICKLES | {"torch", "tensordict"}))
    for name, call in calls(tree):
        words = {keyword.arg for keyword in call.keywords}
        if name in EXECUTORS or name in LOADERS or "allow_pickle" in words:
            found.append(name)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROBOT)))
def test_nothing_is_unpickled_or_evaluated(path):
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from torch import load", "import cloudpickle as c", "eval('1')",
        "exec(x)", "import numpy as np\nnp.load(f)", "f(allow_pickle=True)", "__import__('x')",
    ],
)  # fmt: skip
def test_the_walk_sees_what_it_looks_for(text):
    assert faults(text)


@pytest.mark.parametrize("path", RUNTIME, ids=lambda path: path.name)
def test_the_runtime_imports_little_and_what_is_heavy_only_when_it_is_used(path):
    tree = ast.parse(path.read_text())
    outside = imported(tree.body) - sys.stdlib_module_names
    assert outside <= AT_THE_TOP
    assert imported(ast.walk(tree)) - sys.stdlib_module_names <= AT_THE_TOP | LATE


def test_the_runtime_knows_of_itself_alone():
    for path in RUNTIME:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("real_robot"):
                assert node.module.startswith("real_robot.runtime"), path
