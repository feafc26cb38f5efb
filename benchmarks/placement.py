"""Time and proven gap of the placement search against the number of nodes.

Random clusters of consumer cards in 3 to 10 regions, one class per node nearly everywhere:

    python benchmarks/placement.py --nodes 24 100 300 --seeds 5
    python benchmarks/placement.py --write          # every row of docs/measured/placement.md

In pieces: results gather in a file, and the page gets what is in it.

    python benchmarks/placement.py --write 4 5 --seeds 0 5 --kept /tmp/placement.json
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from worlds import ROOT, world

from planner.core.requirements import Objective
from planner.plan.solve import solve

PAGE = ROOT / "docs" / "measured" / "placement.md"
START, END = "<!-- measured -->", "<!-- /measured -->"
HEAD = (
    "| search | layers | nodes | clusters | gap, median | worst "
    "| CPU s, median | worst | wall s, median | worst | MB |"
)


@dataclass(frozen=True)
class Row:
    """Clusters of one size under one objective."""

    name: str
    objective: Objective
    users: int
    nodes: int
    seeds: int
    model: str = "llama-3.3-70b"
    lost: bool = False
    """Whether nodes come and go."""


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
        for count, seeds in ((24, 20), (42, 20), (100, 20), (300, 20))
        for row in rows([count], seeds)
    ),
    Row("one pipeline, TPOT", "tpot", 1, 1000, 2, "llama-3.1-405b"),
    Row("replicas, throughput", "throughput", 8, 1000, 1, "llama-3.1-405b"),
    Row("replicas, goodput, nodes come and go", "goodput", 8, 24, 5, lost=True),
    Row(
        "replicas, price of tokens, nodes come and go",
        "usd_per_million_output_tokens",
        8,
        24,
        5,
        lost=True,
    ),
)


@dataclass(frozen=True)
class Plan:
    """What the search for one cluster came to."""

    gap: float
    cpu_s: float
    wall_s: float
    memory_mb: float
    layers: int


def planned(row: Row, seed: int) -> Plan:
    """One cluster of a row, planned by this process; memory is its peak."""
    problem = world(row.nodes, seed, row.objective, row.users, row.model, lost=row.lost)
    began_s, cpu_began_s = time.perf_counter(), time.process_time()
    gap = solve(problem).gap
    cpu_s, wall_s = time.process_time() - cpu_began_s, time.perf_counter() - began_s
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Plan(gap, cpu_s, wall_s, memory_mb, problem.model.num_hidden_layers)


def line(row: Row, plans: list[Plan]) -> str:
    """The row of a table."""
    gaps = [one.gap for one in plans]
    cpu_s, wall_s = [one.cpu_s for one in plans], [one.wall_s for one in plans]
    return (
        f"| {row.name} | {plans[0].layers} | {row.nodes} | {len(plans)} "
        f"| {statistics.median(gaps):.1%} | {max(gaps):.1%} "
        f"| {statistics.median(cpu_s):.1f} | {max(cpu_s):.1f} "
        f"| {statistics.median(wall_s):.1f} | {max(wall_s):.1f} "
        f"| {max(one.memory_mb for one in plans):.0f} |"
    )


def apart(index: int, seed: int) -> Plan:
    """A cluster of a row of the page in a process of its own, so that its memory is its own."""
    command = [sys.executable, __file__, "--row", str(index), str(seed)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Plan(**json.loads(said))


def write(only: list[int], seeds: range | None, kept: Path | None) -> None:
    """Puts rows into the page, one after another; rows that are there stay until replaced.

    Clusters already planned are read from a file of results and not planned again.
    """
    known = json.loads(kept.read_text()) if kept and kept.exists() else {}
    for index in only or range(len(WRITTEN)):
        row = WRITTEN[index]
        for seed in range(row.seeds) if seeds is None else seeds:
            key = f"{row.name}, {row.nodes} nodes, seed {seed}"
            if key not in known:
                known[key] = asdict(apart(index, seed))
                print(f"{key}: {known[key]}", flush=True)
                if kept:
                    kept.write_text(json.dumps(known, indent=1))
        plans = [
            Plan(**value)
            for key, value in known.items()
            if key.startswith(f"{row.name}, {row.nodes} nodes,")
        ]
        replace(line(row, plans))


def replace(new: str) -> None:
    """Puts a row into the page, in place of that for the same search, layers and nodes."""
    before, rest = PAGE.read_text().split(START)
    table, after = rest.split(END)
    key = tuple(new.split("|")[1:4])
    kept = [one for one in table.strip().splitlines()[2:] if tuple(one.split("|")[1:4]) != key]
    lines = sorted([*kept, new], key=lambda one: (one.split("|")[1], int(one.split("|")[3])))
    ruler = "|---" * (HEAD.count("|") - 1) + "|"
    PAGE.write_text(before + "\n".join([START, HEAD, ruler, *lines, END]) + after)


def main() -> None:
    """Prints one row for each objective and number of nodes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[24, 42, 100, 300])
    parser.add_argument("--seeds", type=int, nargs="+", default=[20], help="END or START END")
    parser.add_argument("--only", choices=["tpot", "throughput"])
    parser.add_argument("--write", type=int, nargs="*", help="rows of the page; all if none given")
    parser.add_argument("--kept", type=Path, help="JSON file of results to add to, for --write")
    parser.add_argument("--row", type=int, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row is not None:
        index, seed = given.row
        print(json.dumps(asdict(planned(WRITTEN[index], seed))))
        return
    if given.write is not None:
        write(given.write, range(*given.seeds) if given.kept else None, given.kept)
        print(f"on {platform.machine()}, Python {platform.python_version()}", file=sys.stderr)
        return
    print(HEAD, "|---" * (HEAD.count("|") - 1) + "|", sep="\n")
    seeds = range(*given.seeds)
    for row in rows(given.nodes, len(seeds)):
        if given.only in (None, row.objective):
            print(line(row, [planned(row, seed) for seed in seeds]), flush=True)


if __name__ == "__main__":
    main()
