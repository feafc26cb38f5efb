"""The search against simpler planners, on the bundled scenarios and on random mixed clusters.

Every algorithm of ``planner plan --algorithm`` plans the same problem, and the same cost model
predicts each plan. Writes docs/measured/baselines.md:

    python benchmarks/baselines.py --nodes 24 42 100 --seeds 5 --write

In pieces: results gather in a file, and a run that was stopped goes on.

    python benchmarks/baselines.py --nodes 42 --seeds 5 --write --random-only --kept FILE
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from pages import put
from worlds import world

from planner.core.problem import Problem
from planner.core.requirements import Objective, scale
from planner.files.scenario import load_scenario
from planner.plan.baselines import Baseline
from planner.plan.infeasible import NoPlanError
from planner.plan.solution import Solution
from planner.plan.solve import solve, solve_simply

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "measured" / "baselines.md"
NAMES: tuple[Baseline, ...] = get_args(Baseline)
NEEDS_PROBE = ("demo",)
"""Scenarios that name the probed host, which no benchmark carries."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One problem under every algorithm: values of its objective, None where there is no plan."""

    name: str
    objective: Objective
    search: float | None
    bound: float | None
    """That no plan passes."""
    simple: dict[Baseline, float | None]

    @property
    def best(self) -> float | None:
        """The best value that a simpler planner reaches."""
        values = [value for value in self.simple.values() if value is not None]
        most = max if self.grows else min
        return most(values, default=None)

    @property
    def grows(self) -> bool:
        """Whether more is better."""
        return scale(self.objective)[2] == "max"

    @property
    def ratio(self) -> float | None:
        """How many times as good the search is as the best of them; None where none has a plan."""
        if self.search is None or self.best is None:
            return None
        ratio = self.search / self.best
        return ratio if self.grows else 1 / ratio

    @property
    def possible(self) -> float | None:
        """The same for the proven bound: no plan is so many times as good."""
        if self.search is None or self.ratio is None or not self.bound:
            return None
        room = self.bound / self.search
        return self.ratio * (room if self.grows else 1 / room)


def compared(problem: Problem, kept: Path) -> Compared:
    """All algorithms on one problem; what is in the file of results is not planned again."""
    known = json.loads(kept.read_text() or "{}") if kept.exists() else {}
    if problem.name not in known:
        search = _tried(lambda: solve(problem, explain=False))
        simple = {
            name: _tried(lambda name=name: solve_simply(problem, name, explain=False))
            for name in NAMES
        }
        one = Compared(
            problem.name,
            problem.requirements.objective,
            search and search.value,
            search and search.bound,
            {name: found and found.value for name, found in simple.items()},
        )
        known[problem.name] = asdict(one)
        kept.write_text(json.dumps(known, indent=1))
        print(f"{one.name}: {_times(one.ratio)} the best of the others", file=sys.stderr)
    return Compared(**known[problem.name])


def _tried(make: Callable[[], Solution]) -> Solution | None:
    try:
        return make()
    except NoPlanError:
        return None


def bundled() -> Iterator[Problem]:
    """The scenarios that come with planner."""
    for path in sorted((ROOT / "scenarios").glob("*.yaml")):
        if path.stem not in NEEDS_PROBE:
            yield load_scenario(path, [], []).problem


def scenario_table(rows: list[Compared]) -> list[str]:
    """Markdown of the objective by scenario and algorithm."""
    lines = [
        "| scenario | objective | search | " + " | ".join(NAMES) + " | times the best |",
        "|---|---|" + "---|" * (len(NAMES) + 2),
    ]
    for row in rows:
        _, unit, _ = scale(row.objective)
        cells = [_value(row.search), *(_value(row.simple[name]) for name in NAMES)]
        objective = f"{row.objective} ({unit})"
        lines.append(f"| {row.name} | {objective} | {' | '.join(cells)} | {_times(row.ratio)} |")
    return lines


def random_table(by_nodes: dict[int, list[Compared]]) -> list[str]:
    """Markdown of throughput on random clusters: medians over the seeds."""
    lines = [
        "| nodes | seeds | search (tok/s) | " + " | ".join(NAMES) + " | median times the best "
        "| least | most possible, median |",
        "|---|---|" + "---|" * (len(NAMES) + 4),
    ]
    for nodes, rows in by_nodes.items():
        search = [row.search for row in rows if row.search is not None]
        cells = [
            _median([one for row in rows if (one := row.simple[name]) is not None], len(rows))
            for name in NAMES
        ]
        ratios = [row.ratio for row in rows if row.ratio is not None]
        rooms = [row.possible for row in rows if row.possible is not None]
        lines.append(
            f"| {nodes} | {len(rows)} | {_median(search, len(rows))} | {' | '.join(cells)} "
            f"| {_times(statistics.median(ratios))} | {_times(min(ratios))} "
            f"| {_times(statistics.median(rooms))} |"
        )
    return lines


def _median(values: list[float], of: int) -> str:
    """The median of those that have a plan, and how many have none."""
    if not values:
        return "no plan"
    without = of - len(values)
    return f"{statistics.median(values):.1f}" + (f" ({without} no plan)" if without else "")


def _value(value: float | None) -> str:
    return "no plan" if value is None else f"{value:.4g}"


def _times(ratio: float | None) -> str:
    return "-" if ratio is None or not math.isfinite(ratio) else f"{ratio:.2f} x"


def main() -> None:
    """Prints the tables, and puts them into the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="*", default=[24, 42, 100])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--users", type=int, default=32)
    parser.add_argument("--random-only", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument(
        "--kept", type=Path, help="JSON file of results to add to, of as many --users"
    )
    given = parser.parse_args()
    kept = given.kept or Path(os.devnull)
    if not given.random_only:
        rows = [compared(problem, kept) for problem in bundled()]
        show("scenarios", scenario_table(rows), given.write)
    for nodes in given.nodes:
        worlds = (world(nodes, seed, "throughput", given.users) for seed in range(given.seeds))
        rows = [compared(one, kept) for one in worlds]
        show("random", random_table({nodes: rows}), given.write)


def show(name: str, lines: list[str], write: bool) -> None:
    """Prints a table, and puts its rows into the page."""
    print("\n".join(lines), flush=True)
    if write:
        put(PAGE, name, lines)


if __name__ == "__main__":
    main()
