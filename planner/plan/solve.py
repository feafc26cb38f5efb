"""solve: Problem -> Solution: every number of replicas, quantization and seats, each exactly.

What is chosen: disjoint pipelines, for each its nodes, their order and layer ranges, and how each
node's devices share a stage; one quantization for all, or one for each stage; how many seats each
has; and where the coordinator sits, if the problem leaves that open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import chain

from planner.core.choice import chosen, stamped
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.plan.baselines import Baseline
from planner.plan.branches import by_drafts
from planner.plan.classes import allowed_nodes
from planner.plan.exact import Solved, exactly
from planner.plan.explain import explained
from planner.plan.fallback import without_each
from planner.plan.halt import Halt, never
from planner.plan.infeasible import (
    NoPlanError,
    near_miss,
    no_draft,
    no_nodes,
    no_room,
    nothing_simple,
    relaxed_problem,
    with_objective,
)
from planner.plan.mend import Search, aimed_at, numbers, serving
from planner.plan.overload import overload
from planner.plan.predict import predict
from planner.plan.promise import admissible, as_cost, objective_value
from planner.plan.replan import ANY, Most, kept
from planner.plan.shares import rescued, routed, weights_bounded
from planner.plan.simple import roomy, simple, simplest
from planner.plan.solution import Candidate, Solution, proven_gap
from planner.plan.standby import pays, protected, steadier, weighed
from planner.plan.survey import LOOKS, bounded, surveyed
from planner.plan.ties import untied
from planner.plan.together import unmet
from planner.plan.trial import Judge, tried, verdict
from planner.plan.widen import widened

_NEAR = 0.01
"""Gap below which plans without the least reliable nodes are not looked for."""
_GLANCE = 1_000
"""Labels of each structure in a search for what would be possible, of which nothing is proven."""
_LOOKS = 4
"""Looks in such a search, on large clusters."""


def solve(
    problem: Problem,
    *,
    expansions: int = 200_000,
    before: Plan | None = None,
    least_gain: float = 0.05,
    most: Most = ANY,
    judge: Judge | None = None,
    halt: Halt | None = None,
    equal_weights: bool = False,
    explain: bool = True,
) -> Solution:
    """The best plan, with a bound that no plan passes.

    ``expansions`` limits the labels of each structure's search; where it ends a search, the gap
    says how far from the optimum the answer can be. With a plan that runs ``before``, the search
    on a large cluster is a short one, and what runs stays or is mended unless a plan is better by
    ``least_gain``, a share of the objective; nothing moves more than ``most`` allows. A ``judge``,
    such as a simulation, has the last word on which of the best candidates is chosen. A search ends
    early where ``halt`` says so, a time limit for example, with what was found by then or the plan
    of a simpler planner, whichever is better. Pipelines get weights unless these are to be
    ``equal_weights``, as in bounds. Who only wants the plan and its bound need not have it told
    what limits it and when another wins: to ``explain`` that can take longer than the search.
    Raises NoPlanError.
    """
    looks, halted = LOOKS if before is None else 0, False

    def over() -> bool:
        nonlocal halted
        halted = halted or (halt is not None and halt())
        return halted

    quickly = _once(partial(searched, expansions=min(_GLANCE, expansions), looks=_LOOKS))
    try:
        in_hand = _in_hand(problem) if halt is not None else []
        candidates, bound, whole = _candidates(problem, expansions, looks, over)
        candidates = _joined(problem, candidates, in_hand) if halted else candidates
        if halted and not candidates:  # no limit makes a problem one without a plan
            candidates, bound, whole = _candidates(problem, expansions, looks)
    except NoPlanError as error:
        raise widened(problem, error, quickly) from None
    if not equal_weights:
        candidates = routed(problem, candidates)
        if not candidates:
            few = min(looks, _LOOKS)
            found, bound, whole = _candidates(relaxed_problem(problem), expansions, few, over)
            served = (quickly(serving(relaxed_problem(problem), one)) for one in numbers(problem))
            candidates = rescued(problem, found) or rescued(problem, [*chain(*served)])
    if not candidates:
        raise unmet(problem, _nearest(problem, quickly), quickly)
    candidates = untied(problem, candidates)
    if judge is not None:
        candidates = tried(problem, candidates, judge)
    best = candidates[0]
    gap = proven_gap(as_cost(problem, best.value), bound)
    solution = Solution(
        plan=best.plan,
        prediction=best.prediction,
        value=best.value,
        bound=best.value if gap == 0 else as_cost(problem, bound),
        gap=gap,
        solver="exact" if whole else "chains with a Lagrangian bound",
        stopped="proven" if gap == 0 else "time limit" if halted else "effort",
        bound_weights=weights_bounded(problem),
        equal_value=best.equal_value,
        candidates=tuple(candidates),
        warnings=(*best.prediction.warnings, *verdict(problem, best)),
    )
    if before is not None:
        solution = kept(problem, before, solution, least_gain, most)
    if not explain:
        return solution
    return explained(problem, solution, without_each(problem, solution, expansions, over), over)


def searched(
    problem: Problem, *, expansions: int = 200_000, best_only: bool = False, looks: int = 0
) -> tuple[Candidate, ...]:
    """The plans that ``solve`` would choose from, best first, unexplained; none where none is.

    With ``best_only`` those that cannot be the best are not looked for. On large clusters so many
    ``looks`` at structures improve them.
    """
    with suppress(NoPlanError):
        return tuple(_candidates(problem, expansions, looks, best_only=best_only)[0])
    return ()


def _once(search: Search) -> Search:
    """The search, which looks for the plans of each problem once."""
    known = dict[str, Sequence[Candidate]]()

    def remembered(problem: Problem) -> Sequence[Candidate]:
        if problem.digest not in known:
            known[problem.digest] = search(problem)
        return known[problem.digest]

    return remembered


def solve_simply(problem: Problem, name: Baseline, *, explain: bool = True) -> Solution:
    """What a simpler planner would choose, with a proven bound on how far off it is.

    Its quantization is the best for it, its seats as many as users where they fit; ``explain`` is
    as in ``solve``. Raises NoPlanError where its plans miss the must-haves.
    """
    if not allowed_nodes(problem):
        raise no_nodes(problem)
    if not by_drafts(problem):
        raise no_draft(problem)
    found = simple(problem, name)
    if not found:
        raise nothing_simple(name)
    best = found[0]
    bound = min(bounded(problem), cost := as_cost(problem, best.value))
    solution = Solution(
        plan=best.plan,
        prediction=best.prediction,
        value=best.value,
        bound=as_cost(problem, bound),
        gap=proven_gap(cost, bound),
        solver=f"baseline {name}",
        bound_weights=weights_bounded(problem),
        candidates=tuple(found),
        warnings=best.prediction.warnings,
    )
    if not explain:
        return solution
    return explained(problem, solution, without_each(problem, solution, 200_000))


def _in_hand(problem: Problem) -> list[Candidate]:
    """What simpler planners come to, before a search that may be stopped at any time."""
    found = simplest(problem)
    return _with_standbys(problem, found, never) if weighed(problem) else found


def _joined(
    problem: Problem, found: Sequence[Candidate], in_hand: Sequence[Candidate]
) -> list[Candidate]:
    """What a stopped search found and what was in hand before, best first."""
    return _ranked(problem, [*found, *roomy(problem, in_hand, found)])


def _candidates(
    problem: Problem,
    limit: int,
    looks: int = LOOKS,
    over: Halt = never,
    *,
    best_only: bool = False,
) -> tuple[list[Candidate], float, bool]:
    """The best plan of each structure, best first; a bound over all; whether it is proven.

    Where bounds on numbers leave none, plans are looked for that serve these numbers.
    """
    found, bound, whole = _aimed(problem, limit, looks, over, best_only)
    if not (found or whole or over()):
        found = _serving(problem, limit, min(looks, _LOOKS), over)
    return found, bound, whole


def _serving(problem: Problem, limit: int, looks: int, over: Halt) -> list[Candidate]:
    """Plans that keep all must-haves, found where a bounded number is the objective; best first.

    A search that aims elsewhere may miss what keeps a tight bound.
    """
    found = list[Candidate]()
    for name in numbers(problem):
        wanted = aimed_at(problem, name)
        if wanted.requirements.objective == problem.requirements.objective:
            continue
        with suppress(NoPlanError):
            for one in _aimed(wanted, limit, looks, over)[0]:
                value = objective_value(problem, one.prediction.metrics)
                if value is not None and admissible(problem, one.plan, one.prediction):
                    found.append(one.model_copy(update={"value": value}))
    return _ranked(problem, found)


def _aimed(
    problem: Problem, limit: int, looks: int, over: Halt, best_only: bool = False
) -> tuple[list[Candidate], float, bool]:
    """The same by the objective alone.

    Standbys are added afterwards, where must-haves or the objective weigh lost nodes. Plans without
    the least reliable nodes are tried where that does not do, and where the objective counts lost
    nodes, the search is quick, and what was found is not near the bound.
    """
    if not weighed(problem):
        return _searched(problem, limit, looks, over, best_only)
    found, bound, whole = _searched(problem, limit, looks, over, best_only)
    kept = _with_standbys(problem, found, over)
    for smaller in steadier(problem):
        if kept and (over() or not (whole and pays(problem)) or _near(problem, kept[0], bound)):
            break
        with suppress(NoPlanError):
            found = _searched(smaller, limit, looks, over)[0]
            kept = _ranked(problem, [*kept, *_with_standbys(problem, found, over)])
    return kept, bound, whole


def _near(problem: Problem, best: Candidate, bound: float) -> bool:
    """Whether nothing that is worth another search can be better."""
    cost = as_cost(problem, best.value)
    return cost - bound <= _NEAR * abs(cost)


def _ranked(problem: Problem, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Each plan once, the best first."""
    once: dict[Plan, Candidate] = {}
    for one in candidates:
        once.setdefault(one.plan, one)
    return sorted(once.values(), key=lambda one: as_cost(problem, one.value))


def _with_standbys(problem: Problem, found: list[Candidate], over: Halt) -> list[Candidate]:
    """The candidates that can be kept available as asked, best first; one where it is over."""
    kept: list[tuple[float, int, Candidate]] = []
    for rank, one in enumerate(found):
        if kept and over():
            break
        plan = protected(problem, one.plan)
        prediction = predict(problem, plan)
        value = objective_value(problem, prediction.metrics)
        if value is not None and admissible(problem, plan, prediction):
            changes = {"plan": plan, "prediction": prediction, "value": value}
            kept.append((as_cost(problem, value), rank, one.model_copy(update=changes)))
    return [one for *_, one in sorted(kept, key=lambda entry: entry[:2])]


def _searched(
    problem: Problem, limit: int, looks: int, over: Halt, best_only: bool = False
) -> tuple[list[Candidate], float, bool]:
    """The same where availability does not matter.

    An exact search that does not come to its end is followed by that for large clusters.
    """
    if not allowed_nodes(problem):
        raise no_nodes(problem)
    if not by_drafts(problem):
        raise no_draft(problem)
    exact = exactly(problem, limit, over, best_only=best_only)
    solved, left = exact or ([], None)
    bound = -math.inf if left is None else _least_bound(solved)
    least = min((one.best.cost for one in solved), default=math.inf)
    whole = left == [] and not any(one.best.open and one.best.bound < least for one in solved)
    if left:
        known = math.isfinite(least)
        further = [one.solved for one in surveyed(problem, looks, over, left, known)]
        bound, solved = min(bound, _least_bound(further)), [*solved, *further]
    elif not whole:
        further = [one.solved for one in surveyed(problem, looks, over)]
        bound, solved = max(bound, _least_bound(further)), [*solved, *further]
    if not any(one.holds for one in solved):
        raise no_room(by_drafts(problem)[0])
    found: dict[tuple[str, Plan], tuple[float, int, str, Candidate]] = {}
    for one in solved:
        best = one.best
        if best.plan is not None and best.prediction is not None:
            plan = stamped(best.plan, problem, one.problem)
            name = one.name + chosen(plan)
            value = as_cost(problem, best.cost)
            candidate = Candidate(name=name, plan=plan, prediction=best.prediction, value=value)
            found[name, plan] = best.cost, len(plan.nodes), name, candidate
    ranked = sorted(found.values(), key=lambda entry: entry[:3])
    return [candidate for *_, candidate in ranked], bound, whole


def _least_bound(solved: Sequence[Solved]) -> float:
    return min((one.best.bound for one in solved), default=math.inf)


def _there(problem: Problem, plan: Plan) -> float:
    """Availability of a plan with the standbys that suit it best."""
    return predict(problem, protected(problem, plan)).metrics.availability or 0.0


def _nearest(problem: Problem, search: Search) -> Solution:
    """The plan that comes nearest to the must-haves it cannot meet."""
    free = relaxed_problem(problem)
    found = search(free)
    if not found:
        raise overload(problem, free, search) or no_room(by_drafts(problem)[0])
    misses = problem.requirements.must_have.missed(found[0].prediction.metrics)
    if misses:
        found = search(with_objective(free, misses[0].metric)) or found
    if misses and misses[0].metric == "availability":  # no objective of a search
        found = sorted(found, key=lambda one: -_there(problem, one.plan))
    best = found[0]
    return near_miss(problem, protected(problem, best.plan), best.value)
