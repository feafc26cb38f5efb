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
    forbidden = {"eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load", "sys.exit", "exit"}
    if module.relative_to(PACKAGE) == Path("cli/console.py"):
        forbidden -= {"sys.exit"}
    else:
        forbidden |= {"print"}
    assert not called & forbidden
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([alias.name for alias in node.names] + [getattr(node, "module", None) or ""])
    }
    assert not imported & {"pickle", "marshal", "shelve", "dill", "cloudpickle"}


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
