"""Standbys: which of the nodes that a plan leaves out stand by for which stage, and how ready.

What is chosen: for each spare node a pipeline or none, and for each stage of it that the node can
hold whether it is hot (one at most: a process holds one stage), warm, cold, or none of these.
Compared is what the whole plan comes to with them and without: first how far must-haves are missed,
availability and goodput among them, then the objective, in which goodput counts lost nodes and a
price counts rent, then the rent of the nodes, then the good requests that are lost, then how ready
the nodes are, then all of the bill. So a standby that the objective pays for is taken, one that
only costs is not, and where must-haves ask for some the cheapest that do are, in the states that
lose the fewest requests.

How: spare nodes join one after another, while must-haves are missed the one that makes up most of
it for its price, then the one that is best for the objective; two at once where stages are lost
together and no node alone is a help. Then nodes leave again, change places with others or take over
earlier or later, and states change one by one, as long as that is better.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from planner.core.choice import decided
from planner.core.cost.availability import fate, node_up_share
from planner.core.cost.ledger import standing_usd_per_hour
from planner.core.cost.outage import Known, Outage, outage
from planner.core.metrics import Metrics
from planner.core.plan import Plan, Standby
from planner.core.prediction import Prediction
from planner.core.problem import Problem
from planner.plan.breakdown import Served
from planner.plan.classes import allowed_nodes, without_nodes
from planner.plan.goodput import lost_s
from planner.plan.predict import metrics_of, served_by, unpaid_metrics
from planner.plan.promise import as_cost, kept_by, objective_value
from planner.plan.rearranged import FEW, READY, neighbours, with_one_more

_LEVELS = 4
"""Levels of reliability that are told apart."""
_PAYING = frozenset({"goodput", "usd_per_million_output_tokens"})
"""Objectives that count lost nodes."""
_PRICED = 3600 / 1e6 * (1 + 1e-9)
"""USD per hour of a token per second at a dollar per million, and rounding."""
_EXACT = 1e-12
"""Gains below that, of the figure itself, are rounding."""

Rank = tuple[float, ...]


def weighed(problem: Problem) -> bool:
    """Whether standbys can matter: nodes come and go, and something asks that they be there."""
    must = problem.requirements.must_have
    asked = must.availability is not None or must.request_goodput is not None
    asked = asked or must.usd_per_million_output_tokens is not None
    return (asked or pays(problem)) and any(node.churn for node in allowed_nodes(problem))


def pays(problem: Problem) -> bool:
    """Whether the objective gets better where fewer requests are lost."""
    return not _PAYING.isdisjoint(problem.requirements.terms)


def promising(problem: Problem, plan: Plan, prediction: Prediction) -> bool:
    """Whether a plan that nobody stands by for yet may keep every must-have once some do."""
    each = [one.metrics for one in prediction.pipelines]
    return may_keep(problem, plan, prediction.metrics, each)


def may_keep(problem: Problem, plan: Plan, metrics: Metrics, each: Sequence[Metrics]) -> bool:
    """The same of the metrics of a plan and those of each of its pipelines.

    A plan that has the goodput asked for has the throughput at least, and for what it costs it
    serves no more tokens than while all its nodes are there.
    """
    if not weighed(problem):
        return kept_by(problem, plan, metrics, each)
    most = problem.requirements.must_have.usd_per_million_output_tokens
    served = (metrics.output_throughput or 0.0) * problem.deployment.in_use
    if most is not None and (metrics.usd_per_hour or 0.0) > served * most * _PRICED:
        return False
    return kept_by(unprotected(problem), plan, metrics, each)


def unprotected(problem: Problem) -> Problem:
    """The problem without the must-haves that only standbys may keep.

    A plan that has the goodput asked for has the throughput at least.
    """
    must = problem.requirements.must_have
    changes: dict[str, float | None] = {
        "availability": None,
        "request_goodput": None,
        "usd_per_million_output_tokens": None,
    }
    if must.request_goodput is not None:
        least = must.request_goodput * problem.workload.output.mean_tokens
        changes["output_throughput"] = max(least, must.output_throughput or 0.0)
    kept = must.model_copy(update=changes)
    requirements = problem.requirements.model_copy(update={"must_have": kept})
    return problem.model_copy(update={"requirements": requirements})


def steadier(problem: Problem) -> Iterator[Problem]:
    """The problem without its least reliable nodes, then without the next ones."""
    shares = {node.id: node_up_share(problem.cluster, node.id) for node in allowed_nodes(problem)}
    levels = sorted(set(shares.values()))[1:]
    for level in levels[:: max(1, len(levels) // _LEVELS)]:
        yield without_nodes(problem, {name for name, share in shares.items() if share < level})


def protected(problem: Problem, plan: Plan) -> Plan:
    """The plan with the standbys that serve must-haves and objective best; it may have none."""
    if not weighed(problem):
        return plan
    bare = plan.model_copy(update={"standbys": ()})
    scales = Scales(decided(problem, plan), bare)
    chosen, rank = bare, scales.rank(bare)
    while (more := _one_more(scales, chosen, rank) or _two_more(scales, chosen, rank)) is not None:
        chosen, rank = more, scales.rank(more)
    return _settled(scales, chosen, rank)


@dataclass
class Scales:
    """What standbys of a plan are weighed on; what does not change with them is known."""

    problem: Problem
    bare: Plan
    served: list[Served] = field(init=False)
    known: dict[tuple[int, tuple[Standby, ...]], Outage] = field(default_factory=dict)
    shared: Known = field(default_factory=Known)

    def __post_init__(self) -> None:
        self.served = served_by(self.problem, self.bare)

    def outages(self, plan: Plan) -> list[Outage]:
        """What losses take from each pipeline."""
        found = []
        for index, one in enumerate(self.served):
            mine = tuple(standby for standby in plan.standbys if standby.pipeline == index)
            if (index, mine) not in self.known:
                self.known[index, mine] = outage(
                    self.problem, plan, index, one.felt.batch, self.shared
                )
            found.append(self.known[index, mine])
        return found

    def metrics(self, plan: Plan) -> Metrics:
        """What a plan with these pipelines comes to."""
        return metrics_of(self.problem, plan, self.served, self.outages(plan))

    def rank(self, plan: Plan) -> Rank:
        """How good a plan is, the least being the best; where that is the same the bill decides."""
        metrics = self.metrics(plan) if self.money else self._metrics_unpaid(plan)
        short = 0.0
        for miss in self.problem.requirements.must_have.missed(metrics):
            far = math.inf if miss.value is None else abs(miss.value - miss.bound)
            short += far / (miss.bound or 1.0)
        value = objective_value(self.problem, metrics)
        cost = math.inf if value is None else as_cost(self.problem, value)
        nodes = {one.node for one in plan.standbys}
        rent = math.fsum(self.standing_usd(name) for name in sorted(nodes))
        readiness = [[one.state for one in plan.standbys].count(state) for state in READY]
        ready = tuple(-float(count) for count in readiness)
        return short, cost, rent, len(nodes), self.lost(plan), *ready

    @cached_property
    def money(self) -> bool:
        """Whether must-haves or the objective ask what a plan costs."""
        must, terms = self.problem.requirements.must_have, self.problem.requirements.terms
        asked = must.usd_per_hour, must.usd_per_million_output_tokens
        return asked != (None, None) or any(term.startswith("usd") for term in terms)

    def better(self, plan: Plan, rank: Rank, other: Plan, than: Rank) -> bool:
        """Whether a plan of that rank is better than another by more than rounding."""
        for mine, theirs in zip(rank, than, strict=True):
            if _differ(mine, theirs):
                return mine < theirs
        bill, others = (self.metrics(one).usd_per_hour or 0.0 for one in (plan, other))
        return _differ(bill, others) and bill < others

    def _metrics_unpaid(self, plan: Plan) -> Metrics:
        """The same as ``metrics`` but for what it costs."""
        return unpaid_metrics(self.problem, plan, self.served, self.outages(plan))

    def lost(self, plan: Plan) -> float:
        """Good requests an hour that losses of nodes cost."""
        return math.fsum(
            one.felt.requests_per_s * one.felt.good * seconds
            for one, out in zip(self.served, self.outages(plan), strict=True)
            for seconds in lost_s(self.problem, one, out).values()
        )

    def standing_usd(self, name: str) -> float:
        """What a node costs an hour that stands by."""
        if name == self.problem.cluster.coordinator:
            return 0.0
        return standing_usd_per_hour(self.problem, self.problem.cluster.node(name))


def _differ(mine: float, theirs: float) -> bool:
    """Whether two figures differ by more than rounding."""
    far = abs(mine - theirs)
    return far > _EXACT * max(1.0, abs(theirs)) or math.isinf(far)


def _one_more(scales: Scales, plan: Plan, rank: Rank) -> Plan | None:
    """The plan with one more node standing by, for the pipeline that loses most and can be helped.

    None where that is not better.
    """
    outages = scales.outages(plan)
    lost = [
        (-one.felt.requests_per_s * (out.away_s + out.recovering_s), index)
        for index, (one, out) in enumerate(zip(scales.served, outages, strict=True))
    ]
    for _, index in sorted(lost):
        best: tuple[float, Rank, Plan] | None = None
        for more in with_one_more(scales.problem, plan, index):
            after = scales.rank(more)
            if not scales.better(more, after, plan, rank):
                continue
            worth = (after[0] - rank[0]) / (after[2] - rank[2] + 1e-3) if rank[0] else 0.0
            if best is not None and worth == best[0]:
                wanted = scales.better(more, after, best[2], best[1])
            else:
                wanted = best is None or worth < best[0]
            if wanted:
                best = worth, after, more
        if best is not None:
            return best[2]
    return None


def _two_more(scales: Scales, plan: Plan, rank: Rank) -> Plan | None:
    """The plan with two more nodes standing by where stages are lost together.

    One node takes one stage: where two go at once, one alone may be no help. None where two are
    none either.
    """
    best, least = plan, rank
    if len(plan.pipelines) > FEW:
        return None
    for index, pipeline in enumerate(plan.pipelines):
        fates = [fate(scales.problem.cluster, name) for name in pipeline.nodes]
        if len(set(fates)) == len(fates):
            continue
        for one in with_one_more(scales.problem, plan, index):
            for two in with_one_more(scales.problem, one, index):
                after = scales.rank(two)
                if scales.better(two, after, best, least):
                    best, least = two, after
    return None if best is plan else best


def _settled(scales: Scales, plan: Plan, rank: Rank) -> Plan:
    """The plan with nodes and states changed one by one as long as that is better."""
    changed = True
    while changed:
        changed = False
        for other in neighbours(scales.problem, plan):
            after = scales.rank(other)
            if scales.better(other, after, plan, rank):
                plan, rank, changed = other, after, True
                break
    return plan
