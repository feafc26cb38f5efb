"""Explain: what limits a plan, what it hides, when another wins, what is left if a node goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from planner.core.choice import chosen, decided
from planner.core.cluster import Link
from planner.core.cost.ledger import hidden
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.requirements import MustHave
from planner.core.units import plain, show
from planner.core.workload import Closed
from planner.plan.breakdown import coordinator_parts, limiting_parts
from planner.plan.drafts import numbers_of_drafts
from planner.plan.halt import Halt, never
from planner.plan.leftout import left_out
from planner.plan.predict import metrics
from planner.plan.promise import as_cost, objective_value
from planner.plan.seats import other_seats
from planner.plan.solution import Candidate, CandidateFlip, Limit, Solution
from planner.plan.ties import ties
from planner.plan.worth import worths

_FACTORS = (0.125, 0.25, 0.5, 2.0, 4.0, 8.0)
_STEPS = 8
_COMPARED = 3
_FELT = 0.005
"""Shares of a token, and changes of a figure, below this are not worth a word."""
_KEPT = 0.0005
"""The same of the share of the quality that is kept."""


def explained(
    problem: Problem,
    solution: Solution,
    without: dict[str, Candidate | None] | None,
    over: Halt = never,
) -> Solution:
    """The solution with its limits, hidden costs, flips and fallback filled in.

    ``without`` says what is left without a node; None where there was no time to look. Flips are
    looked for until it is over. Where something runs already, what would change the choice and why
    nodes were left out are not looked for: what moves counts.
    """
    compared = solution.candidates[: _COMPARED if solution.moves is None else 0]
    candidates = _traded(problem, solution.candidates)
    fallback, text = _fallback(problem, solution.plan, without)
    settled = decided(problem, solution.plan)
    return solution.model_copy(
        update={
            "candidates": candidates,
            "ties": ties(problem, candidates) if solution.moves is None else (),
            "limits": _limits(settled, solution),
            "hidden_costs": _hidden_costs(solution),
            "flips": _flips(problem, compared, over),
            "fallback": fallback,
            "fallback_text": text,
            "left_out": left_out(settled, solution) if solution.moves is None else (),
            "seats": other_seats(problem, solution),
            "drafts": numbers_of_drafts(problem, solution),
            "standbys": tuple(worths(problem, solution.plan)),
        }
    )


def _traded(problem: Problem, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    """Each candidate with what it gains and loses against the chosen one, as reports count it."""
    wanted, chosen = problem.requirements, candidates[0].prediction
    told = []
    for index, candidate in enumerate(candidates):
        other, changes = candidate.prediction, []
        for name, label, unit in (
            ("mean_ttft_ms", "TTFT", "ms"),
            ("mean_tpot_ms", "TPOT", "ms"),
            ("output_throughput", "throughput", "tok/s"),
            ("usd_per_hour", "cost", "USD/h"),
        ):
            mine, theirs = wanted.figure(chosen.metrics, name), wanted.figure(other.metrics, name)
            if mine and theirs is not None and abs(theirs / mine - 1) > _FELT:
                changes.append(f"{label} {_signed(theirs - mine)} {unit}")
        if chosen.quality and other.quality and abs(other.quality - chosen.quality) > _KEPT:
            changes.append(f"quality {other.quality - chosen.quality:+.1%}")
        trade = "" if index == 0 else ", ".join(changes) or "nothing"
        told.append(candidate.model_copy(update={"chosen": index == 0, "trade": trade}))
    return tuple(told)


def _signed(change: float) -> str:
    return f"{'+' if change > 0 else ''}{plain(change, 3)}"


def _limits(problem: Problem, solution: Solution) -> tuple[Limit, ...]:
    """The largest parts of a token of the slowest pipeline, and memory that is nearly full."""
    slowest = max(solution.prediction.pipelines, key=lambda one: one.metrics.mean_tpot_ms or 0.0)
    own_s = coordinator_parts(problem, slowest.batch, slowest.waits_s)
    parts = limiting_parts(list(slowest.stages), slowest.hops, own_s, problem.cluster.coordinator)
    limits = [
        Limit(what="time", where=where, share=share, text=f"{text}: {share:.0%} of a token")
        for share, text, where in parts[:3]
        if share >= _FELT
    ]
    for pipeline in solution.prediction.pipelines:
        for stage in pipeline.stages:
            used = sum(stage.memory_bytes.values())
            share = used / stage.capacity_bytes
            if share > 0.85:
                text = f"memory of {stage.node}: {show(used, 'bytes')} of "
                text += show(stage.capacity_bytes, "bytes")
                limits.append(Limit(what="memory", where=stage.node, share=share, text=text))
    return tuple(limits)


def _hidden_costs(solution: Solution) -> dict[str, float]:
    """USD per hour of what a rent list does not show."""
    found = hidden(solution.prediction.cost_lines)
    named = {"egress": 0.0, "electricity": 0.0, "idle_capacity": 0.0, "coordinator": 0.0}
    for kind, usd in found.items():
        named["idle_capacity" if kind == "idle" else kind] = usd
    return named


def _fallback(
    problem: Problem, plan: Plan, without: dict[str, Candidate | None] | None
) -> tuple[Candidate | None, str]:
    """What is left when the node goes whose loss hurts most."""
    if without is None:
        return None, "the time limit left no time to look for a plan without one of the nodes"
    if not without:
        return None, "every layer sits with the coordinator: nothing serves without that node"
    for name, candidate in without.items():
        if candidate is None:
            asked = problem.requirements.must_have != MustHave()
            said = (
                "no plan meets the must-haves" if asked else "nothing can hold or serve the model"
            )
            return None, f"{_taken_over(plan, name)}without {name} {said}"
    worst = max(
        (
            (as_cost(problem, candidate.value), name)
            for name, candidate in without.items()
            if candidate is not None
        ),
    )[1]
    fallback = without[worst]
    assert fallback is not None
    nodes = " and ".join(" -> ".join(one.nodes) for one in fallback.plan.pipelines)
    waiting = _taken_over(plan, worst)
    anew = "planned anew without it" if waiting else f"if {worst} leaves"
    return fallback, f"{waiting}{anew}: {nodes}{chosen(fallback.plan)}"


def _taken_over(plan: Plan, name: str) -> str:
    """Who takes over from a node that leaves, as the beginning of a sentence; empty for nobody."""
    backed = {
        standby.node: standby.state
        for standby in reversed(plan.standbys)
        if plan.pipelines[standby.pipeline].nodes[standby.stage] == name
    }
    if not backed:
        return ""
    who = " or ".join(f"{node} ({state})" for node, state in reversed(backed.items()))
    return f"if {name} leaves, {who} takes over; "


def _flips(
    problem: Problem, candidates: tuple[Candidate, ...], over: Halt
) -> tuple[CandidateFlip, ...]:
    """Where, as an input grows or shrinks, another of the candidates becomes the best one."""
    if len(candidates) < 2:
        return ()
    flips = []
    for varied in _inputs(problem):
        for factors in (_FACTORS[2::-1], _FACTORS[3:]):
            flip = None if over() else _flip(varied, candidates, factors, over)
            if flip is not None:
                flips.append(flip)
    return tuple(flips)


@dataclass(frozen=True, slots=True)
class _Input:
    """An uncertain input."""

    name: str
    now: float
    told: str
    """How a value of it is said."""
    changed: Callable[[float], Problem]
    """The problem with the input times a factor."""
    whole: bool = False
    """Whether there are only whole values."""


def _inputs(problem: Problem) -> list[_Input]:
    """Load, and latency and bandwidth of all links."""

    def latency(factor: float) -> Problem:
        links = tuple(
            link.model_copy(update={"one_way_latency_s": link.one_way_latency_s * factor})
            for link in problem.cluster.links
        )
        return _with_links(problem, links)

    def bandwidth(factor: float) -> Problem:
        links = tuple(
            link.model_copy(update={"bytes_per_s": link.bytes_per_s * factor})
            for link in problem.cluster.links
        )
        return _with_links(problem, links)

    def load(factor: float) -> Problem:
        arrivals = problem.workload.arrivals
        if isinstance(arrivals, Closed):
            change: dict[str, float] = {"concurrency": max(1, round(arrivals.concurrency * factor))}
        else:
            change = {"requests_per_s": arrivals.requests_per_s * factor}
        changed = arrivals.model_copy(update=change)
        workload = problem.workload.model_copy(update={"arrivals": changed})
        return problem.model_copy(update={"workload": workload})

    users, rate = problem.workload.concurrency, problem.workload.requests_per_s
    return [
        _Input("load", rate or 0.0, "{:.3g} requests/s", load)
        if users is None
        else _Input("load", float(users), "{:.0f} users", load, whole=True),
        _Input("link latency (x today's)", 1.0, "{:.3g} times today's link latency", latency),
        _Input("link bandwidth (x today's)", 1.0, "{:.3g} times today's link bandwidth", bandwidth),
    ]


def _one(said: str) -> str:
    """Without the s of several where it is one."""
    return said.removesuffix("s") if said.startswith("1 ") and said.endswith("users") else said


def _with_links(problem: Problem, links: tuple[Link, ...]) -> Problem:
    values = dict(problem.cluster) | {"links": links}
    changed = problem.model_copy(update={"cluster": type(problem.cluster)(**values)})
    changed.known_stages.update(problem.known_stages)  # links say nothing about stages
    return changed


def _flip(
    varied: _Input, candidates: tuple[Candidate, ...], factors: tuple[float, ...], over: Halt
) -> CandidateFlip | None:
    """The nearest value in one direction at which the winner changes, by bisection.

    Nothing is planned anew there: it is the winner of these candidates, and a plan that was not
    among the best for today may win before.
    None where it is over before that is known.
    """

    def winner(factor: float) -> int:
        return among(max(1, round(varied.now * factor)) / varied.now if varied.whole else factor)

    @cache
    def among(factor: float) -> int:
        problem = varied.changed(factor)
        costs = []
        for candidate in candidates:
            told = metrics(problem, candidate.plan)
            value = objective_value(problem, told)
            missed = problem.requirements.must_have.missed(told)
            costs.append(float("inf") if value is None or missed else as_cost(problem, value))
        best = min(costs)
        return 0 if costs[0] <= best * (1 + 1e-9 if best > 0 else 1 - 1e-9) else costs.index(best)

    inside, outside = 1.0, next((one for one in factors if over() or winner(one)), None)
    if outside is None or over():
        return None
    for _ in range(_STEPS):
        if over():
            return None
        middle = (inside + outside) / 2
        if winner(middle):
            outside = middle
        else:
            inside = middle
    name = candidates[winner(outside)].name
    to = varied.now * outside
    if varied.whole:
        to = float(max(1, round(to)))
        if to == varied.now:
            return None
    side = "from {} on" if outside > 1 else "at {} or less"
    value, now = (_one(varied.told.format(figure)) for figure in (to, varied.now))
    text = f"{side.format(value)}, the best candidate is {name}"
    if varied.name == "load":
        text += f" (now {now})"
    return CandidateFlip(parameter=varied.name, now=varied.now, to=to, winner=name, text=text)
