"""The problem that a run turned out to be: with the losses of nodes that it saw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.core.cluster import Churn

if TYPE_CHECKING:
    from planner.core.problem import Problem
    from planner.run.measurement import Measurement

_MOST_STEPS = 20_000
"""Steps of the record of a node's absences in a run; 1 ms or longer each."""
_ROOM = 10.0
"""How many times longer than the run a simulation of it may last."""


def struck(problem: Problem, measurement: Measurement) -> Problem:
    """The problem with the losses that the run saw, noticed as fast as they were on average."""
    if not measurement.absences:
        return problem
    lasted_s = max((max(r.token_s, default=0.0) for r in measurement.records), default=0.0)
    step_s = max(1e-3, lasted_s / _MOST_STEPS)
    steps = int(_ROOM * lasted_s / step_s) + 2
    profiles, nodes = list(problem.cluster.churn), []
    for node in problem.cluster.nodes:
        away = [one for one in measurement.absences if one.node == node.id]
        if away:
            there = [True] * steps
            for one in away:
                gone, back = round(one.gone_s / step_s), round(min(one.back_s / step_s, steps))
                there[max(1, gone) : back] = [False] * (back - max(1, gone))
            churn = f"lost {node.id}"
            profiles.append(
                Churn(
                    id=churn,
                    distribution="recorded",
                    recorded=tuple(there),
                    step_s=step_s,
                    source="this run",
                    as_of=problem.model.as_of,
                )
            )
            node = node.model_copy(update={"churn": churn, "zone": ""})
        nodes.append(node)
    found_s = [one.found_s - one.lost_s for one in measurement.recoveries]
    serving = problem.serving
    if found_s:
        serving = serving.model_copy(update={"detect_s": sum(found_s) / len(found_s)})
    update = {"nodes": tuple(nodes), "churn": tuple(profiles)}
    cluster = problem.cluster.model_copy(update=update)
    return problem.model_copy(update={"cluster": cluster, "serving": serving})
