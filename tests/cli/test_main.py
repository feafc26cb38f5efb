from __future__ import annotations

import os
import subprocess
import sys

import pytest

import planner as package
from planner.cli import doctor
from planner.cli.commands import NAMES
from planner.core.errors import InfeasibleError
from tests.cli.world import Terminal

GROUPS = ("node", "prices", "verify")
COMMANDS = [name for name in NAMES if name not in GROUPS]
HEAVY = ("pydantic", "numpy", "scipy", "yaml", "simpy", "torch", "rich.table")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(planner: Terminal, command: str) -> None:
    done = planner(command, "--help")
    assert done.code == 0
    assert done.stdout.startswith(f"Usage: planner {command}")
    assert f"`planner {command}" in done.stdout.split("Example")[1]


def test_help_and_version(planner: Terminal) -> None:
    done = planner("--help")
    assert done.code == 0
    listed = done.stdout.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in listed if line[2:3].strip()] == list(NAMES)
    assert planner("--version").stdout == f"planner {package.__version__}\n"


def test_a_wrong_command_line_says_what_was_meant(planner: Terminal) -> None:
    done = planner("estimat")
    assert (done.code, done.stdout) == (2, "")
    assert "estimate" in done.stderr
    assert planner("doctor", "--formt", "json").code == 2
    assert planner("doctor", "--format", "xml").code == 2


def test_help_imports_nothing_that_only_commands_need() -> None:
    code = (
        "import sys\n"
        "from planner.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_a_command_imports_no_other_command() -> None:
    code = (
        "import sys\n"
        "from planner.cli.main import main\n"
        "try: main(['diff', '--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {NAMES!r} if 'planner.cli.' + name in sys.modules], "
        "file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "['diff']"


def _raising(error: BaseException) -> object:
    def fail(*_: object) -> list[object]:
        raise error

    return fail


def test_planner_errors_become_message_hint_and_code(
    planner: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_software", _raising(InfeasibleError("[bold]no plan", "add one")))
    done = planner("doctor")
    assert (done.code, done.stdout) == (4, "")
    assert done.stderr == "error: [bold]no plan\nhint: add one\n"


def test_an_unexpected_error_is_a_bug_without_traceback(
    planner: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_software", _raising(ZeroDivisionError("by zero")))
    done = planner("doctor")
    assert done.code == 1
    assert "this is a bug in planner: ZeroDivisionError: by zero" in done.stderr
    assert "Traceback" not in done.stderr
    monkeypatch.setenv("PLANNER_DEBUG", "1")
    assert "Traceback" in planner("doctor").stderr


def test_an_interrupt_exits_with_130(planner: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_software", _raising(KeyboardInterrupt()))
    assert planner("doctor").code == 130


@pytest.mark.parametrize("arguments", [("show", "models"), ("doctor",)], ids=["text", "table"])
def test_a_reader_that_has_seen_enough_is_no_failure(arguments: tuple[str, ...]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "planner", *arguments]
    try:
        done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "")


def test_completion_is_offered_for_shells(
    planner: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    done = planner("--show-completion", "bash")
    assert done.code == 0
    assert "_PLANNER_COMPLETE=complete_bash" in done.stdout
