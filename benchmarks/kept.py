"""Rows of a benchmark that is run in pieces: kept in a file, a JSON object a line."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from planner.core.problem import Problem
from planner.files.manifest import read_manifest

ROOT = Path(__file__).parent.parent

Row = dict[str, Any]


def keep(file: Path, row: Row) -> None:
    """Appends a row."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lines:
        lines.write(json.dumps(row) + "\n")


def kept(file: Path) -> list[Row]:
    """Every row so far."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def quantile(values: Iterable[float], share: float) -> float:
    """A quantile of absolute errors."""
    ordered = sorted(abs(value) for value in values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: list[float]) -> str:
    """Median, worst and every one of some signed errors."""
    worst = max(values, key=abs)
    every = " ".join(f"{value:+.1%}" for value in values)
    return f"{statistics.median(values):>+8.1%} {worst:>+8.1%}  {every}"


def planner(*arguments: str) -> Row:
    """The JSON document one planner command prints."""
    command = [sys.executable, "-m", "planner", *arguments, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} exited {done.returncode}:\n{done.stderr}")
    document: Row = json.loads(done.stdout)
    return document


def demo(folder: Path) -> Problem:
    """The demo's problem on this host; the profiles in ``folder`` are made where they lack."""
    profiles, manifest = folder / "profiles", folder / "manifest.yaml"
    if not (profiles / "engines").exists():
        planner("probe", "--workers", "3", "--quant", "bf16", "--out", str(profiles))
    if not manifest.exists():
        where = ("--profiles", str(profiles), "--out", str(manifest))
        planner("plan", "scenarios/demo.yaml", *where)
    return read_manifest(manifest).problem
