"""Trial: the judge decides among good candidates, must-haves first."""

from __future__ import annotations

from planner.core.cluster import Cluster, Node
from planner.core.metrics import Metrics
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.requirements import MustHave, Requirements
from planner.core.workload import Closed, Fixed, Workload
from planner.plan.solve import solve
from planner.sim.simulate import simulate
from tests.core.world import device, problem, quant


def world(**must: float) -> Problem:
    """Two nodes that both hold the whole model, two schemes that are nearly alike."""
    kinds = [device("fast"), device("slow", memory_bandwidth=95e9)]
    return problem(
        [Node(id="a", device="fast"), Node(id="b", device="slow")],
        devices=kinds,
        quants=(quant(), quant("nearly", weight_bits=15.5)),
        requirements=Requirements(objective="throughput", must_have=MustHave.model_validate(must)),
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=2),
            prompt=Fixed(tokens=40),
            output=Fixed(tokens=10),
        ),
    )


def test_the_judge_may_prefer_another_candidate_and_the_gap_follows() -> None:
    plain = solve(world())
    assert len(plain.candidates) > 1
    favourite = plain.candidates[1].plan

    def judge(_: Problem, plan: Plan) -> Metrics:
        return Metrics(output_throughput=100.0 if plan == favourite else 1.0)

    judged = solve(world(), judge=judge)
    assert judged.plan == favourite
    assert judged.value == plain.candidates[1].value
    assert judged.gap > 0
    assert judged.bound >= plain.value * (1 - 1e-9)
    assert judged.candidates[0].trial is not None


def test_what_breaks_a_must_have_in_the_trial_comes_last() -> None:
    plain = solve(world(p95_ttft=10.0))
    first = plain.candidates[0].plan

    def judge(_: Problem, plan: Plan) -> Metrics:
        late = plan == first
        return Metrics(output_throughput=2.0 if late else 1.0, p95_ttft_ms=2e4 if late else 1.0)

    assert solve(world(p95_ttft=10.0), judge=judge).plan != first


def test_worse_candidates_are_tried_until_one_keeps_the_must_haves() -> None:
    """The second best plan is half as good, so it would not be tried for its value alone."""
    kinds = [device("fast"), device("slow", memory_bandwidth=20e9)]
    nodes = [Node(id="a", device="fast"), Node(id="b", device="slow", price=1.0)]
    made = world(p95_ttft=10.0)
    cluster = Cluster(
        devices=tuple(kinds), nodes=tuple(nodes), links=made.cluster.links, coordinator="a"
    )
    made = Problem.model_validate(
        {name: getattr(made, name) for name in Problem.model_fields} | {"cluster": cluster}
    )
    plain = solve(made)
    good = [one for one in plain.candidates if one.value > 0.75 * plain.value]
    assert 0 < len(good) < len(plain.candidates)
    late = [one.plan for one in good]

    def judge(_: Problem, plan: Plan) -> Metrics:
        return Metrics(output_throughput=1.0, p95_ttft_ms=2e4 if plan in late else 1.0)

    judged = solve(made, judge=judge)
    assert judged.plan not in late
    assert not [said for said in judged.warnings if "must-have" in said]
    stuck = solve(made, judge=lambda _, plan: Metrics(completed=0, failed=3))
    assert stuck.candidates[0].trial is not None
    assert "p95 time to first token is unknown, at most 10,000 ms is asked" in stuck.warnings[-1]


def test_a_simulation_is_a_judge() -> None:
    solution = solve(world(), judge=lambda made, plan: simulate(made, plan, 1).metrics)
    assert solution.candidates[0].trial is not None
    assert solution.candidates[0].trial.output_throughput is not None
