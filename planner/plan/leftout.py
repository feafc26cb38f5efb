"""Left out: why nodes that exist hold no layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from planner.core.cluster import Node
from planner.core.cost.traversal import route
from planner.core.plan import Plan, Stage
from planner.core.prediction import Prediction
from planner.core.problem import Problem
from planner.core.requirements import scale
from planner.core.units import plain, show
from planner.core.words import asked_text, figure, label
from planner.plan.classes import allowed_nodes
from planner.plan.predict import predict
from planner.plan.promise import admissible, as_cost, objective_value
from planner.plan.room import capacity_bytes, needs, overfull
from planner.plan.solution import LeftOut, Solution

_NODES = 4
"""Nodes that are tried in the places of others, those nearest to the coordinator first."""
_PLACES = 3
"""Places in which each is tried, those in its region first."""
_EQUAL = 5e-4
"""Relative difference that four printed digits cannot show."""


def left_out(problem: Problem, solution: Solution) -> tuple[LeftOut, ...]:
    """Every worker that holds nothing and stands by for nobody, with the reason; alike together."""
    used = {*solution.plan.nodes, *(standby.node for standby in solution.plan.standbys)}
    told: dict[str, list[str]] = {}
    spare, unfit = list[Node](), _unfit(problem)
    for node in problem.cluster.workers:
        if node.id in used:
            continue
        why = unfit(node)
        if why is None:
            spare.append(node)
        else:
            told.setdefault(why, []).append(node.id)
    spare.sort(key=lambda node: (_away_s(problem, node.id), node.id))
    for node in spare[:_NODES]:
        told.setdefault(_swapped(problem, solution, node), []).append(node.id)
    if spare[_NODES:]:
        why = "could hold layers, but others are chosen; only the nearest are tried in their places"
        told.setdefault(why, []).extend(node.id for node in spare[_NODES:])
    return tuple(LeftOut(nodes=tuple(names), why=why) for why, names in told.items())


def _unfit(problem: Problem) -> Callable[[Node], str | None]:
    """Tells why a node can hold no stage at all; None where it can."""
    cluster, allowed = problem.cluster, {one.id for one in allowed_nodes(problem)}
    ends = [cluster.coordinator, *(one.id for one in cluster.workers)]
    least = min(
        needs(problem, at, at + 1, quant.id, 1).total_bytes
        for quant in problem.quants
        for at in range(problem.model.num_hidden_layers)
    )

    def why(node: Node) -> str | None:
        if node.id not in allowed:
            return "the must-haves forbid its region or its owner"
        room = capacity_bytes(problem, node.id)
        if least > room:
            return f"one layer needs {show(least, 'bytes')} and it has {show(room, 'bytes')}"
        if not any(end != node.id and cluster.connected(end, node.id) for end in ends):
            return "no link leads to it"
        return None

    return why


def _away_s(problem: Problem, name: str) -> float:
    """Latency from the coordinator to a node; infinite without a link."""
    home = problem.cluster.coordinator
    if not problem.cluster.connected(home, name):
        return float("inf")
    line = problem.cluster.link(home, name)
    return line.one_way_latency_s if line else 0.0


def _swapped(problem: Problem, solution: Solution, node: Node) -> str:
    """What the plan would come to with the node in the place of another."""
    _, unit, _ = scale(problem.requirements.objective)
    tried = list(_with(problem, solution.plan, node))
    able = [(as_cost(problem, value), away, value) for away, value, broken in tried if not broken]
    if not tried:
        return "none of the stages it was tried for fits or can be reached there"
    if not able:
        away, _, broken = tried[0]
        return f"in the place of {away}: {broken}"
    cost, away, value = min(able)
    if math.isclose(value, solution.value, rel_tol=_EQUAL):
        return f"no better and no worse in the place of {away}"
    better = "even better: " if cost < as_cost(problem, solution.value) else ""
    figures = f"{better}{plain(value)} instead of {plain(solution.value)} {unit}"
    kept = ", the same nodes standing by" if solution.plan.standbys else ""
    return f"in the place of {away}: {figures}{kept}"


def _with(problem: Problem, plan: Plan, node: Node) -> Iterator[tuple[str, float, str]]:
    """Node replaced, objective and broken must-have of plans with the node in the place of it.

    The same nodes stand by: to choose them anew for each would take longer than the search.
    """
    places = [
        (problem.cluster.node(stage.node).region != node.region, number, index)
        for number, pipeline in enumerate(plan.pipelines)
        for index, stage in enumerate(pipeline.stages)
    ]
    for _, number, index in sorted(places)[:_PLACES]:
        before = plan.pipelines[number]
        stages = list(before.stages)
        old = stages[index]
        stages[index] = Stage(node=node.id, start=old.start, stop=old.stop, quant=old.quant)
        pipelines = list(plan.pipelines)
        pipelines[number] = before.model_copy(update={"stages": tuple(stages)})
        changed = Plan(pipelines=tuple(pipelines), standbys=plan.standbys)
        if overfull(problem, changed) or not _reachable(problem, changed):
            continue
        prediction = predict(problem, changed)
        value = objective_value(problem, prediction.metrics)
        broken = _broken(problem, changed, prediction)
        if value is not None or broken:
            yield old.node, value or 0.0, broken


def _broken(problem: Problem, plan: Plan, prediction: Prediction) -> str:
    """What of a plan is not as it must be; empty where all is."""
    if admissible(problem, plan, prediction):
        return ""
    if any(one.metrics.mean_ttft_ms is None for one in prediction.pipelines):
        return "it could not keep up with the requests"
    every = [prediction.metrics, *(one.metrics for one in prediction.pipelines)]
    must = problem.requirements.must_have
    miss = next((miss for one in every for miss in must.missed(one)), None)
    if miss is None or miss.value is None:
        return "a must-have would be broken"
    value, asked = figure(miss.metric, miss.value), asked_text(miss.metric, miss.bound)
    return f"{label(miss.metric)} would be {value}, {asked} is asked"


def _reachable(problem: Problem, plan: Plan) -> bool:
    """Whether there is a line for every hop, back to the coordinator included."""
    return all(
        problem.cluster.connected(*hop)
        for pipeline in plan.pipelines
        for hop in route(problem, pipeline.nodes)
    )
