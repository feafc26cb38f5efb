"""Walls between the rooms of the house, checked by tools rather than by promises."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "planner"
MODULES = sorted(PACKAGE.rglob("*.py"))


def test_imports_point_down_only() -> None:
    from importlinter.cli import lint_imports

    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


def calls(tree: ast.AST) -> set[str]:
    """Dotted names of everything that is called."""
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_unsafe_and_nothing_printed_outside_the_console(module: Path) -> None:
    tree = ast.parse(module.read_text())
    called = calls(tree)
    forbidden = {"sys.exit", "exit"}
    if module.relative_to(PACKAGE) == Path("cli/console.py"):
        forbidden -= {"sys.exit"}
    else:
        forbidden |= {"print"}
    assert not called & forbidden
    assert dangers(tree) == set()


CODE_FROM_DATA = {"eval", "exec", "compile", "__import__", "execfile"}
UNSAFE_MODULES = {
    "pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib",
    "jsonpickle",
}  # fmt: skip
UNSAFE_NAMES = {
    "torch": {"load", "jit", "hub", "package"},
    "yaml": {
        "load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all",
        "Loader", "UnsafeLoader", "FullLoader", "CLoader", "CUnsafeLoader", "CFullLoader",
    },
    "os": {"system", "popen"},
    "subprocess": {"getoutput", "getstatusoutput"},
    "numpy": {"load"},
    "importlib": {"import_module"},
}  # fmt: skip
UNSAFE_ARGUMENTS = {"trust_remote_code", "shell", "allow_pickle", "weights_only"}


def dangers(tree: ast.AST) -> set[str]:
    """Ways in which data could become code, under whichever name they were imported."""
    found: set[str] = set()
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                modules[(alias.asname or alias.name).split(".")[0]] = alias.name.split(".")[0]
                found |= {alias.name} & UNSAFE_MODULES
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            top = node.module.split(".")[0]
            found |= {top} & UNSAFE_MODULES
            names = {alias.name for alias in node.names}
            found |= names & UNSAFE_NAMES.get(top, set())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id, "")
            found |= {node.attr} & UNSAFE_NAMES.get(module, set())
        elif isinstance(node, ast.Name):
            found |= {node.id} & CODE_FROM_DATA
        elif isinstance(node, ast.keyword) and node.arg in UNSAFE_ARGUMENTS:
            found.add(node.arg)
    return found


@pytest.mark.parametrize(
    "text",
    [
        "eval('1')",
        "e = eval",
        "import pickle",
        "from pickle import loads",
        "import cloudpickle as c",
        "import torch as t\nt.load('x')",
        "from torch import load as read",
        "import torch\ntorch.jit.load('x')",
        "import yaml\nyaml.load(x, Loader=yaml.Loader)",
        "from yaml import UnsafeLoader",
        "import os\nos.system('x')",
        "run(x, shell=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "import importlib\nimportlib.import_module(x)",
    ],
)
def test_what_would_make_code_of_data_is_found(text: str) -> None:
    assert dangers(ast.parse(text))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_stay_readable(module: Path) -> None:
    text = module.read_text()
    assert len(text.splitlines()) <= 350
    long = [
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (node.end_lineno or 0) - node.body[0].lineno > 60
    ]
    assert not long


ALONE = "pytest.mark.alone"
CLOCKS = {"time.monotonic", "time.perf_counter", "time.process_time"}


def test_tests_that_read_a_clock_run_alone() -> None:
    """What else runs would be measured with them."""
    beside = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if not any(clock in (text := path.read_text()) for clock in CLOCKS):
            continue
        for node in ast.parse(text).body:
            if ast.unparse(node).startswith("pytestmark") and ALONE in ast.unparse(node):
                break
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                marks = map(ast.unparse, node.decorator_list)
                if calls(node) & CLOCKS and ALONE not in marks:
                    beside.append(f"{path.relative_to(ROOT)}::{node.name}")
    assert beside == []


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "--help"], ["simulate", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys, planner.cli.main as m\n"
        f"sys.argv = ['planner', *{arguments!r}]\n"
        "try:\n    m.main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'pandas', 'networkx', 'simpy', 'numpy', 'scipy', 'plotly'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
