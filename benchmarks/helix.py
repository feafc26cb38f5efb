"""Helix's published clusters: its own objective, and ours judged by simulation.

The authors' objective is a maximum flow; their published placements are evaluated by the same
function as the search's. Then the same machines serve a closed loop of users, with the latency of
the lines and KV memory for every seat; each algorithm's plan is simulated with the same requests.
Writes docs/measured/helix.md:

    python benchmarks/helix.py --data ../shared/data --write

In pieces: served plans gather in a file, and the page gets what is in it.

    python benchmarks/helix.py --only geo24 --tables served --algorithms search --kept FILE --write
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from helix_clusters import NAMES, HelixCluster, grown, read_cluster, read_placement
from helix_serving import CHIPS, Machine, as_plan, fit_table, machines, routed, serving
from pages import put

from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.plan.baselines import Baseline
from planner.plan.flow import Windows, flow_value
from planner.plan.flowsearch import place
from planner.plan.infeasible import NoPlanError
from planner.plan.predict import predict
from planner.plan.solve import solve, solve_simply
from planner.sim.simulate import simulate

ALGORITHMS: tuple[Baseline, ...] = get_args(Baseline)
PAGE = Path(__file__).parent.parent / "docs" / "measured" / "helix.md"
TABLES = ("flow", "grown", "served")
FLOWS = 10_000
"""Flows that a search on the authors' objective evaluates."""
BEST_KNOWN = {"single24": (1289.56, 600), "geo24": (1212.18, 2700), "het42": (4892.24, 4382)}
"""The best value that the authors' mixed-integer program reports, and its seconds on 20 threads."""


@dataclass(frozen=True, slots=True)
class FlowRow:
    """One cluster under the authors' objective (tokens/s)."""

    cluster: str
    published: float
    laid: float
    found: tuple[float, ...]
    """By seed."""
    bound: float
    cpu_s: float
    """Of the slowest seed."""
    windows: Windows
    """Of the last seed."""


def flow_row(cluster: HelixCluster, folder: Path, seeds: int, flows: int) -> FlowRow:
    """The published placement and the search's on the authors' objective."""
    problem = cluster.objective
    published = flow_value(problem, read_placement(folder, cluster))
    found, seconds, placed = [], [], None
    for seed in range(seeds):
        began_s = time.process_time()
        placed = place(problem, seed, flows)
        seconds.append(time.process_time() - began_s)
        found.append(placed.value)
    assert placed is not None
    return FlowRow(
        cluster.name,
        published,
        placed.laid,
        tuple(found),
        placed.bound,
        max(seconds),
        placed.windows,
    )


def flow_table(rows: list[FlowRow]) -> list[str]:
    """Markdown of the authors' objective."""
    lines = [
        "| cluster | published placement | their best | blocks alone | found, worst to best seed "
        "| over their best | proven bound | gap | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        worst, best = min(row.found), max(row.found)
        known, known_s = BEST_KNOWN[row.cluster]
        lines.append(
            f"| {row.cluster} | {row.published:.2f} | {known:.2f} "
            f"({known_s} s) | {row.laid:.2f} | {worst:.2f} to {best:.2f} "
            f"| {best / known - 1:+.0%} | {row.bound:.2f} "
            f"| {row.bound / best - 1:.1%} | {row.cpu_s:.0f} |"
        )
    return lines


GROWN = ((42, 1), (100, 1), (200, 1), (42, 3), (100, 4), (100, 8))
"""Nodes and regions of larger clusters of het42's machines."""


def grown_table(cluster: HelixCluster) -> list[str]:
    """Markdown of flow, gap and time against the size of a cluster."""
    lines = [
        "| nodes | regions | blocks alone | found | proven bound | gap | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for nodes, regions in GROWN:
        problem = grown(cluster, nodes, regions, 0).objective
        began_s = time.process_time()
        placed = place(problem, 0, 2000)
        seconds = time.process_time() - began_s
        lines.append(
            f"| {nodes} | {regions} | {placed.laid:.0f} | {placed.value:.0f} "
            f"| {placed.bound:.0f} | {placed.gap:.0%} | {seconds:.0f} |"
        )
    return lines


SEARCH, PUBLISHED, FLOW = "search", "published placement", "greatest flow"
SERVED = (SEARCH, *ALGORITHMS, PUBLISHED, FLOW)


@dataclass(frozen=True, slots=True)
class Served:
    """One algorithm's plan under load."""

    pipelines: str
    stages: str
    predicted_tokens_per_s: float
    simulated_tokens_per_s: float
    mean_ttft_ms: float
    mean_tpot_ms: float


def served(
    cluster: HelixCluster,
    folder: Path,
    known: dict[str, Machine],
    users: int,
    name: str,
    limit_s: float,
) -> Served | None:
    """One algorithm's plan for the cluster, predicted and simulated; None where none fits."""
    problem = serving(
        cluster.name, cluster.machines, cluster.bytes_per_s, cluster.latency_s, known, users
    )
    plan = _plan(cluster, folder, problem, name, limit_s)
    if plan is None:
        return None
    plan = routed(problem, plan)
    simulated = simulate(problem, plan, 0).metrics
    sizes = sorted(len(pipeline.stages) for pipeline in plan.pipelines)
    return Served(
        f"{len(plan.pipelines)} x {plan.pipelines[0].max_num_seqs}",
        str(sizes[0]) if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}",
        predict(problem, plan).metrics.output_throughput or 0.0,
        simulated.output_throughput or 0.0,
        simulated.mean_ttft_ms or 0.0,
        simulated.mean_tpot_ms or 0.0,
    )


def _plan(
    cluster: HelixCluster, folder: Path, problem: Problem, name: str, limit_s: float
) -> Plan | None:
    if name == SEARCH:
        end_s = time.process_time() + limit_s
        return solve(problem, explain=False, halt=lambda: time.process_time() > end_s).plan
    if name == PUBLISHED:
        return as_plan(problem, cluster.objective, read_placement(folder, cluster))
    if name == FLOW:
        return as_plan(problem, cluster.objective, place(cluster.objective, 0, FLOWS).windows)
    try:
        return solve_simply(problem, name, explain=False).plan
    except NoPlanError:
        return None


def all_served(
    cluster: HelixCluster,
    folder: Path,
    known: dict[str, Machine],
    users: int,
    names: Sequence[str],
    kept: Path,
    limit_s: float,
) -> dict[str, Served | None]:
    """Plans under load by algorithm; those in the file of results are not made again."""
    results = json.loads(kept.read_text() or "{}") if kept.exists() else {}
    rows = results.setdefault(f"{cluster.name}, {users} users", {})
    for name in names:
        if name not in rows:
            row = served(cluster, folder, known, users, name, limit_s)
            rows[name] = row and asdict(row)
            kept.write_text(json.dumps(results, indent=1))
    return {name: row and Served(**row) for name, row in rows.items()}


def served_table(by_cluster: dict[str, dict[str, Served | None]]) -> list[str]:
    """Markdown of what users get from every algorithm's plan."""
    lines = [
        "| cluster | algorithm | pipelines x seats | stages | predicted tok/s | simulated tok/s "
        "| search is | mean TTFT s | mean TPOT ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for cluster, by_name in by_cluster.items():
        search = by_name.get(SEARCH)
        for name in [name for name in SERVED if name in by_name]:
            row = by_name[name]
            if row is None:
                lines.append(f"| {cluster} | {name} | no plan that fits | | | | | | |")
                continue
            now = row.simulated_tokens_per_s
            times = f"{search.simulated_tokens_per_s / now:.2f} x" if search else "-"
            lines.append(
                f"| {cluster} | {name} | {row.pipelines} | {row.stages} "
                f"| {row.predicted_tokens_per_s:.1f} | {now:.1f} | {times} "
                f"| {row.mean_ttft_ms / 1e3:.2f} | {row.mean_tpot_ms:.0f} |"
            )
    return lines


def main() -> None:
    """Prints the tables, and writes them into the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", choices=NAMES, nargs="+", default=NAMES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--flows", type=int, default=FLOWS)
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--tables", choices=TABLES, nargs="+", default=TABLES)
    parser.add_argument("--algorithms", choices=SERVED, nargs="+", default=SERVED)
    parser.add_argument("--time-limit", type=float, default=math.inf, help="CPU s of each search")
    parser.add_argument("--kept", type=Path, help="JSON file of served plans to add to")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    folder, times = given.data / "helix", given.data / "helix_hetero_layer_times.csv"
    if not folder.is_dir() or not times.is_file():
        sys.exit(f"skipped: {given.data} lacks helix/ or helix_hetero_layer_times.csv")
    clusters, tables = [read_cluster(folder, name) for name in given.only], dict[str, list[str]]()
    if "flow" in given.tables:
        tables["flow"] = flow_table(
            [flow_row(one, folder, given.seeds, given.flows) for one in clusters]
        )
    if "grown" in given.tables:
        tables["grown"] = grown_table(read_cluster(folder, "het42"))
    if "served" in given.tables:
        known = machines(times, list(CHIPS))
        kept = given.kept or Path(os.devnull)
        by_cluster = {
            one.name: all_served(
                one, folder, known, given.users, given.algorithms, kept, given.time_limit
            )
            for one in clusters
        }
        tables |= {"fit": fit_table(known), "served": served_table(by_cluster)}
    for name, lines in tables.items():
        print("\n".join(lines), flush=True)
        if given.write:
            put(PAGE, name, lines, 2 if name == "grown" else 1)


if __name__ == "__main__":
    main()
