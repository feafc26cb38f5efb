"""Distance: regions that latency bounds rule out, whatever the machines there can do."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from planner.core.problem import Problem
from planner.core.units import show


def too_far(problem: Problem) -> Iterator[str]:
    """A sentence for each region in which no layer can be, with the bound that says so.

    A token that is computed in part in a region travels there and back; nothing is faster than the
    latency of the lines on the shortest way. Several tokens are one after the other, as many at a
    time as drafting brings in a round.
    """
    must, seats = problem.requirements.must_have, problem.cluster.seats
    nearest: dict[str, float] = {}
    for home in seats:
        there_s, back_s = (_shortest_s(problem, home, back=back) for back in (False, True))
        for node in problem.cluster.workers:
            trip_s = there_s.get(node.id, float("inf")) + back_s.get(node.id, float("inf"))
            nearest[node.region] = min(trip_s, nearest.get(node.region, float("inf")))
    seen = f"with the coordinator at {seats[0]}"
    if len(seats) > 1:
        seen = "wherever the coordinator sits"
    tokens = problem.workload.output.mean_tokens
    rounds = 1 + (tokens - 1) / problem.serving.tokens_per_round
    bounds_s = must.latency_bounds_s()
    for region, trip_s in sorted(nearest.items(), key=lambda one: (one[1], one[0])):
        least = {
            "ttft": (trip_s, "to the first token"),
            "tpot": (trip_s / problem.serving.tokens_per_round, "for each token"),
            "e2el": (trip_s * rounds, f"to the last of {tokens:.0f} tokens"),
        }
        for name, bound_s in bounds_s.items():
            needed_s, what = least[name]
            if needed_s > bound_s:
                yield (
                    f"no layer can be in {region} {seen}: a token that passes there travels "
                    f"{show(trip_s, 's', 3)}, so {what} it takes {show(needed_s, 's', 3)} at "
                    f"least; asked is {show(bound_s, 's', 3)}"
                )
                break


def _shortest_s(problem: Problem, home: str, *, back: bool) -> dict[str, float]:
    """Least one-way latency from the coordinator to every node, or back (Dijkstra 1959)."""
    cluster = problem.cluster
    names = [node.id for node in cluster.workers] + [home]
    reached: dict[str, float] = {}
    open_: list[tuple[float, str]] = [(0.0, home)]
    while open_:
        far_s, name = heapq.heappop(open_)
        if name in reached:
            continue
        reached[name] = far_s
        for other in names:
            ends = (other, name) if back else (name, other)
            if other in reached or not cluster.connected(*ends):
                continue
            link = cluster.link(*ends)
            heapq.heappush(open_, (far_s + (link.one_way_latency_s if link else 0.0), other))
    return reached
