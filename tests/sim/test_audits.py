from planner.core.cluster import Node
from planner.core.cost.traversal import chip
from planner.core.cost.verification import audit_cost
from planner.core.plan import Pipeline, Plan, Stage, Standby
from planner.plan.predict import predict
from planner.sim.simulate import simulate
from tests.core.world import problem


def test_audits_of_a_run_cost_what_the_sessions_of_the_run_ask_for() -> None:
    nodes = [Node(id=name, device="chip", usd_per_hour=1.0) for name in "abc"]
    asked = problem(nodes=nodes, serving={"verification": {"audit_share": 0.25}})
    stages = (
        Stage(node="b", start=0, stop=2, quant="bf16"),
        Stage(node="c", start=2, stop=4, quant="bf16"),
    )
    plan = Plan(
        pipelines=(Pipeline(stages=stages),), standbys=(Standby(node="b", pipeline=0, stage=1),)
    )
    result, predicted = simulate(asked, plan), predict(asked, plan).verification
    assert result.verification is not None
    assert predicted is not None
    once = [
        audit_cost(asked.model, start, start + 2, asked.quant("bf16"), chip(asked, who), 100, 11)
        for start, who in ((0, "a"), (2, "b"))
    ]
    rate = 4 / result.simulated_s
    expected_s = 3600 * rate * 0.25 * sum(one.compute_s for one in once)
    assert abs(result.verification.audit_s_per_hour - expected_s) < 1e-9 * expected_s
    assert result.verification.verifiers == {"b": "a", "c": "b"}
    assert abs(result.verification.overhead / predicted.overhead - 1) < 0.01
    lines = [line for line in result.cost_lines if line.kind == "verification"]
    total = sum(line.usd_per_hour for line in lines)
    assert abs(total - result.verification.usd_per_hour) < 1e-12
    assert abs(total - expected_s / 3600) < 1e-9
