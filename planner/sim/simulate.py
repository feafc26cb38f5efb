"""simulate: replays requests through a plan."""

from __future__ import annotations

from collections.abc import Sequence

from planner.core.choice import decided
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.workload import Request
from planner.sim.lanes import hang_together
from planner.sim.network import build
from planner.sim.outcome import outcome
from planner.sim.replicas import served, simple
from planner.sim.result import SimResult
from planner.sim.run import Run
from planner.sim.served import outcomes
from planner.sim.watch import Watch


def simulate(
    problem: Problem,
    plan: Plan,
    seed: int = 0,
    requests: Sequence[Request] | None = None,
    visits: bool = False,
    *,
    own_times: bool = False,
    exact_steps: bool = False,
    check: bool = False,
) -> SimResult:
    """What becomes of ``requests`` (the workload's own, by default) under ``plan``.

    ``own_times`` lets requests come at their own times where the workload is a closed loop.
    ``exact_steps`` makes every hop of every step an event, as ``visits`` do: the same to 1e-9 s,
    and records that hold the time of every token. ``check`` has every job watched at every place,
    as ``visits`` have. The same problem, plan and seed give the same
    result. Raises LookupError where a hop of the plan has no link.
    """
    problem = decided(problem, plan)
    if requests is None:
        requests = problem.workload.sample(seed)
    concurrency = None if own_times else problem.workload.concurrency

    network = build(problem, plan, seed)
    hop_by_hop = exact_steps or visits or hang_together(problem, network)
    watch = Watch() if check or visits else None
    run = Run(problem, plan, network, visits, hop_by_hop, watch)
    run.prepare(requests)
    columns = simple(run, requests) if concurrency is None else None
    if columns is not None:
        return outcome(run, served(run, columns))
    run.replay(requests, concurrency)
    return outcome(run, outcomes(run.served, every_token=run.exact_steps))
