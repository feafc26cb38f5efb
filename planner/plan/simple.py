"""Simple: the plans of simpler planners as candidates, each in the structure that suits it best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import get_args

from planner.core.choice import chosen, stamped
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.plan.baselines import Baseline, baseline
from planner.plan.branches import leaves
from planner.plan.choices import good_enough, most_replicas, seats_to_try, structure_name
from planner.plan.classes import allowed_nodes
from planner.plan.predict import predict
from planner.plan.promise import admissible, as_cost, objective_value
from planner.plan.solution import Candidate


def simple(problem: Problem, name: Baseline) -> list[Candidate]:
    """What a simpler planner makes of a problem that keeps the must-haves, best first."""
    found = [one for leaf in leaves(problem) for one in _made(problem, leaf, name)]
    return sorted(found, key=lambda one: as_cost(problem, one.value))


def simplest(problem: Problem) -> list[Candidate]:
    """The best of each simpler planner, best first; they take a small part of a search's time."""
    if not allowed_nodes(problem):
        return []
    best = {name: found[0] for name in get_args(Baseline) if (found := simple(problem, name))}
    each = [
        one.model_copy(update={"name": f"{one.name}, placed as {name} does"})
        for name, one in best.items()
    ]
    return sorted(each, key=lambda one: as_cost(problem, one.value))


def roomy(
    problem: Problem, simpler: Sequence[Candidate], found: Sequence[Candidate]
) -> list[Candidate]:
    """Those of simpler planners that seat as many users as the best that a search found.

    In a closed loop plans with fewer seats answer each user faster, and let the others wait: a
    search takes them only where there is no room for more.
    """
    if problem.workload.concurrency is None or not found:
        return list(simpler)
    return [one for one in simpler if _seats(one.plan) >= _seats(found[0].plan)]


def _seats(plan: Plan) -> int:
    return sum(pipeline.max_num_seqs for pipeline in plan.pipelines)


def _made(asked: Problem, problem: Problem, name: Baseline) -> Iterator[Candidate]:
    """Its plans for a problem at one of the seats that ``asked`` leaves open."""

    @cache
    def made(quant: QuantScheme, seats: int) -> Plan | None:
        return baseline(problem, name, quant, seats)

    for quant in good_enough(problem):
        for replicas in range(1, most_replicas(problem, (quant,)) + 1):
            for seats in seats_to_try(problem, replicas):
                whole = made(quant, seats)
                if whole is None or len(whole.pipelines) < replicas:
                    continue
                plan = stamped(Plan(pipelines=whole.pipelines[:replicas]), asked, problem)
                prediction = predict(problem, plan)
                value = objective_value(problem, prediction.metrics)
                if value is not None and admissible(problem, plan, prediction):
                    said = structure_name(replicas, (quant,), seats) + chosen(plan)
                    yield Candidate(name=said, plan=plan, prediction=prediction, value=value)
                    if problem.workload.concurrency is not None:
                        break
