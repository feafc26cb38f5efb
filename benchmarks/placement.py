"""Time and proven gap of the placement search against the number of nodes.

Random clusters of consumer cards in 3 to 10 regions, one class per node nearly everywhere:

    python benchmarks/placement.py --nodes 24 100 300 --seeds 5
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time

from worlds import world

from planner.core.requirements import Objective
from planner.plan.solve import solve

RUNS: tuple[tuple[str, Objective, int], ...] = (
    ("one pipeline, TPOT", "tpot", 1),
    ("replicas, throughput", "throughput", 8),
)


def main() -> None:
    """Prints one row for each objective and number of nodes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[24, 42, 100, 300])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", choices=[run[1] for run in RUNS])
    given = parser.parse_args()
    print("| search | nodes | median gap | worst gap | median CPU s | worst CPU s | MB |")
    print("|---|---|---|---|---|---|---|")
    for name, objective, users in RUNS:
        if given.only not in (None, objective):
            continue
        for nodes in given.nodes:
            gaps, seconds = [], []
            for seed in range(given.seeds):
                problem = world(nodes, seed, objective, users)
                began_s = time.process_time()
                gaps.append(solve(problem).gap)
                seconds.append(time.process_time() - began_s)
            memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"| {name} | {nodes} | {statistics.median(gaps):.1%} | {max(gaps):.1%} "
                f"| {statistics.median(seconds):.1f} | {max(seconds):.1f} | {memory_mb:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
