"""Kiln: compiled programs, made once for a host and kept in the user's cache.

torch's inductor compiles in a process of its own, ``python -m planner.run.kiln FORM FILES``: what
it imports would take a worker half as much memory again as torch does. It needs a C++
compiler; where there is none, or anything else goes wrong, there are no programs.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import planner
from planner.run import programs
from planner.run.programs import Form

Program = Callable[[list[Tensor]], list[Tensor]]

_BAKE_S = 240.0
_OPTIONS = {"cpp.enable_floating_point_contract_flag": "fast"}


def bake(form: Form, names: Sequence[str]) -> dict[str, Program] | None:
    """Programs by name, compiled where they are not in the cache; None where that fails."""
    folder = _folder()
    if folder is None:
        return None
    paths = {name: folder / f"{name}-{_digest(form, name)}.so" for name in names}
    missing = [name for name, path in paths.items() if not path.exists()]
    if missing and not _compiled(form, {name: paths[name] for name in missing}):
        return None
    try:
        return {name: _loaded(path) for name, path in paths.items()}
    except (RuntimeError, AttributeError):  # not made for this torch or processor after all
        return None


def _loaded(path: Path) -> Program:
    run: Program = torch._C._aoti.AOTIModelContainerRunnerCpu(str(path), 1).run
    return run


def _folder() -> Path | None:
    """The cache, for nobody else to write to; None where it cannot be had."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    folder = Path(base) / "planner" / "programs"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
    except (OSError, RuntimeError):
        return None
    return folder if state.st_uid == os.geteuid() and not state.st_mode & 0o022 else None


def _digest(form: Form, name: str) -> str:
    """Changes whenever a program would."""
    said = [
        asdict(form),
        name,
        _OPTIONS,
        Path(programs.__file__).read_text(),
        torch.__version__,
        platform.machine(),
        _processor(),
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]


def _processor() -> str:
    """What instructions it has: programs are made for these."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CXX", "")) or shutil.which("g++") or shutil.which("clang++")


def _compiled(form: Form, paths: dict[str, Path]) -> bool:
    """Has every program made by a process of its own; whether all of them are there."""
    if _compiler() is None:
        return False
    source = str(Path(planner.__file__).parent.parent)
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    folder = next(iter(paths.values())).parent
    with _alone(folder):
        missing = {name: str(file) for name, file in paths.items() if not file.exists()}
        words = [sys.executable, "-m", "planner.run.kiln", json.dumps(asdict(form))]
        try:
            subprocess.run(
                [*words, json.dumps(missing)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_BAKE_S,
                env=os.environ | {"PYTHONPATH": path},
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
    return all(file.exists() for file in paths.values())


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process compiles at a time: others find what it made."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class _Module(torch.nn.Module):
    """A program as inductor wants it."""

    def __init__(self, form: Form, name: str) -> None:
        super().__init__()
        self._program = form.program(name)

    def forward(self, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        return self._program(*inputs)


def main(form: Form, name: str, path: Path) -> None:
    """Compiles one program into a file, which appears whole or not at all."""
    torch.set_num_threads(form.threads)
    with torch.no_grad(), tempfile.TemporaryDirectory(dir=path.parent) as folder:
        inputs = form.examples(name)
        module = torch.export.export(_Module(form, name), inputs).module()
        options: dict[str, Any] = _OPTIONS | {
            "aot_inductor.output_path": str(Path(folder) / "program.so")
        }
        made = torch._inductor.aot_compile(module, inputs, options=options)
        Path(str(made)).rename(path)


if __name__ == "__main__":
    for _name, _file in json.loads(sys.argv[2]).items():
        main(Form(**json.loads(sys.argv[1])), _name, Path(_file))
