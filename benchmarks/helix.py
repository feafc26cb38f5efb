"""Helix's published clusters: its own objective, and ours judged by simulation.

The authors' objective is a maximum flow; their published placements are evaluated by the same
function as the search's. Writes docs/measured/helix.md:

    python benchmarks/helix.py --data ../shared/data/helix --write
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from helix_clusters import NAMES, HelixCluster, read_cluster, read_placement

from planner.plan.flow import flow_value
from planner.plan.flowsearch import place

PAGE = Path(__file__).parent.parent / "docs" / "measured" / "helix.md"
BEGIN, END = "<!-- flow -->", "<!-- /flow -->"
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
    return FlowRow(cluster.name, published, placed.laid, tuple(found), placed.bound, max(seconds))


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


def main() -> None:
    """Prints the tables, and writes them into the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/helix"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--flows", type=int, default=10_000)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if not given.data.is_dir():
        sys.exit(f"skipped: no folder {given.data} with Helix's clusters")
    clusters = [read_cluster(given.data, name) for name in NAMES]
    lines = flow_table([flow_row(one, given.data, given.seeds, given.flows) for one in clusters])
    print("\n".join(lines))
    if given.write:
        text = PAGE.read_text()
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        PAGE.write_text("\n".join([before + BEGIN, *lines, END]) + after)


if __name__ == "__main__":
    main()
