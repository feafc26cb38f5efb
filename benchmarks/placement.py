"""Time and proven gap of the placement search against the number of nodes.

Random clusters of consumer cards in 3 to 10 regions, one class per node nearly everywhere:

    python benchmarks/placement.py --nodes 24 100 300 --seeds 5
    python benchmarks/placement.py --write          # every row of docs/measured/placement.md
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

from worlds import ROOT, world

from planner.core.requirements import Objective
from planner.plan.solve import solve

PAGE = ROOT / "docs" / "measured" / "placement.md"
START, END = "<!-- measured -->", "<!-- /measured -->"
HEAD = "| search | layers | nodes | clusters | gap, median | worst | CPU s, median | worst | MB |"


@dataclass(frozen=True)
class Row:
    """Clusters of one size under one objective."""

    name: str
    objective: Objective
    users: int
    nodes: int
    seeds: int
    model: str = "llama-3.3-70b"


def rows(nodes: list[int], seeds: int) -> list[Row]:
    """One pipeline for a single user, and replicas for eight, at each number of nodes."""
    return [
        Row(name, objective, users, count, seeds)
        for name, objective, users in (
            ("one pipeline, TPOT", "tpot", 1),
            ("replicas, throughput", "throughput", 8),
        )
        for count in nodes
    ]


WRITTEN = (
    *(
        row
        for count, seeds in ((24, 20), (42, 10), (100, 5), (300, 3))
        for row in rows([count], seeds)
    ),
    Row("one pipeline, TPOT", "tpot", 1, 1000, 2, "llama-3.1-405b"),
    Row("replicas, throughput", "throughput", 8, 1000, 1, "llama-3.1-405b"),
)


def measured(row: Row) -> str:
    """The row of a table, its clusters planned one after another."""
    gaps, seconds, layers = [], [], 0
    for seed in range(row.seeds):
        problem = world(row.nodes, seed, row.objective, row.users, row.model)
        layers = problem.model.num_hidden_layers
        began_s = time.process_time()
        gaps.append(solve(problem).gap)
        seconds.append(time.process_time() - began_s)
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"| {row.name} | {layers} | {row.nodes} | {row.seeds} "
        f"| {statistics.median(gaps):.1%} | {max(gaps):.1%} "
        f"| {statistics.median(seconds):.1f} | {max(seconds):.1f} | {memory_mb:.0f} |"
    )


def apart(index: int) -> str:
    """A row of the page in a process of its own, so that its memory is its own."""
    command = [sys.executable, __file__, "--row", str(index)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write(only: list[int]) -> None:
    """Puts rows into the page, one after another; rows that are there stay until replaced."""
    for index in only or range(len(WRITTEN)):
        line = apart(index)
        print(line, flush=True)
        text = PAGE.read_text()
        before, rest = text.split(START)
        table, after = rest.split(END)
        key = tuple(line.split("|")[1:4])
        kept = [one for one in table.strip().splitlines()[2:] if tuple(one.split("|")[1:4]) != key]
        lines = sorted([*kept, line], key=lambda one: (one.split("|")[1], int(one.split("|")[3])))
        ruler = "|---" * 9 + "|"
        PAGE.write_text(before + "\n".join([START, HEAD, ruler, *lines, END]) + after)


def main() -> None:
    """Prints one row for each objective and number of nodes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[24, 42, 100, 300])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", choices=["tpot", "throughput"])
    parser.add_argument("--write", type=int, nargs="*", help="rows of the page; all if none given")
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row is not None:
        print(measured(WRITTEN[given.row]))
        return
    if given.write is not None:
        write(given.write)
        print(f"on {platform.machine()}, Python {platform.python_version()}", file=sys.stderr)
        return
    print(HEAD, "|---" * 9 + "|", sep="\n")
    for row in rows(given.nodes, given.seeds):
        if given.only in (None, row.objective):
            print(measured(row), flush=True)


if __name__ == "__main__":
    main()
