"""Left out: every node without layers is named once, with a reason that holds."""

from __future__ import annotations

from planner.core.cluster import Churn, Cluster, Link, Node
from planner.core.plan import Plan, Stage
from planner.core.problem import Problem, Serving
from planner.core.requirements import MustHave, Requirements
from planner.plan.predict import predict
from planner.plan.promise import objective_value
from planner.plan.solve import solve
from tests.core.world import CARD, device, link, model, problem


def world(*twins: str) -> Problem:
    """A cluster in which one node is right, and nodes like that one under other names."""
    nodes = [
        Node(id="home", region="eu", device=None),
        Node(id="fast", region="eu", device="fast"),
        Node(id="slow", region="eu", device="slow"),
        Node(id="small", region="eu", device="small"),
        Node(id="far", region="us", device="fast"),
        Node(id="alone", region="moon", device="fast"),
        *(Node(id=twin, region="eu", device="fast") for twin in twins),
    ]
    links = [
        Link(src=f"region:{a}", dst=f"region:{b}", one_way_latency=0.01, bandwidth=1e7)
        for a, b in (("eu", "eu"), ("eu", "us"), ("us", "eu"))
    ]
    devices = [
        device("fast", memory=3e6, memory_bandwidth=2e9),
        device("slow", memory=3e6, memory_bandwidth=1e9),
        device("small", memory=1e3, memory_bandwidth=1e9),
    ]
    return problem(
        nodes=nodes,
        devices=devices,
        links=links,
        model=model(num_hidden_layers=4),
        requirements=Requirements(objective="tpot", must_have=MustHave(forbid_regions=("us",))),
    )


def test_each_node_without_layers_is_named_once_with_its_reason() -> None:
    solution = solve(world())
    assert solution.plan.nodes == ("fast",)
    told = {name: one.why for one in solution.left_out for name in one.nodes}
    assert [*told] == ["small", "far", "alone", "slow"]
    assert "forbid" in told["far"]
    assert "one layer needs" in told["small"]
    assert "no link" in told["alone"]
    assert told["slow"].startswith("in the place of fast: ")


def test_what_a_swap_would_come_to_is_predicted() -> None:
    solution = solve(world())
    (why,) = (one.why for one in solution.left_out if one.nodes == ("slow",))
    (pipeline,) = solution.plan.pipelines
    (stage,) = pipeline.stages
    swapped = Stage(node="slow", start=stage.start, stop=stage.stop, quant=stage.quant)
    changed = Plan(pipelines=(pipeline.model_copy(update={"stages": (swapped,)}),))
    value = objective_value(world(), predict(world(), changed).metrics)
    assert why == f"in the place of fast: {value:.4g} instead of {solution.value:.4g} ms"


def test_a_twin_of_a_chosen_node_is_no_better_and_no_worse() -> None:
    (why,) = (one.why for one in solve(world("twin")).left_out if one.nodes == ("twin",))
    assert why == "no better and no worse in the place of fast"


def test_a_node_without_a_way_back_is_not_tried() -> None:
    """The answer goes back through all stages, and from ``slow`` no line leads to ``fast``."""
    nodes = [Node(id="door"), Node(id="fast", device="chip"), Node(id="slow", device="chip")]
    nodes.append(Node(id="last", device="chip"))
    pairs = [("door", "fast"), ("fast", "last"), ("last", "fast"), ("fast", "door")]
    pairs += [("door", "slow"), ("slow", "last"), ("slow", "door")]
    lines = [link(src, dst, one_way_latency=0.001) for src, dst in pairs]
    one_way = problem(
        nodes,
        lines,
        [device(memory=4.5e5)],
        requirements=Requirements(objective="tpot"),
        serving=Serving(return_path="relayed"),
    )
    solution = solve(one_way)
    assert solution.plan.nodes == ("fast", "last")
    (why,) = (one.why for one in solution.left_out)
    assert why == "none of the stages it was tried for fits or can be reached there"


def test_a_swap_is_tried_with_the_same_nodes_standing_by() -> None:
    """Alone no node is there as often as asked, so the figure is one with the standby."""
    churn = Churn.model_validate(
        {"id": "c", "distribution": "exponential", "up_scale": 9.0, "down_scale": 1.0} | CARD
    )
    nodes = [Node(id="home", device=None), Node(id="fast", device="fast", churn="c")]
    nodes += [Node(id=f"slow{at}", device="slow", churn="c", price=1.0) for at in range(2)]
    made = problem(
        nodes=nodes,
        devices=[
            device("fast", memory=3e6, memory_bandwidth=2e9),
            device("slow", memory=3e6, memory_bandwidth=1e9),
        ],
        requirements=Requirements(objective="tpot", must_have=MustHave(availability=0.95)),
    )
    cluster = Cluster(**(dict(made.cluster) | {"churn": (churn,)}))
    asked = made.model_copy(update={"cluster": cluster})
    solution = solve(asked)
    (pipeline,), (spare,) = solution.plan.pipelines, {one.node for one in solution.plan.standbys}
    (one,) = solution.left_out
    stages = tuple(each.model_copy(update={"node": one.nodes[0]}) for each in pipeline.stages)
    changed = pipeline.model_copy(update={"stages": stages})
    plan = Plan(pipelines=(changed,), standbys=solution.plan.standbys)
    value = objective_value(asked, predict(asked, plan).metrics)
    assert {spare, *one.nodes} == {"slow0", "slow1"}
    figures = f"{value:.4g} instead of {solution.value:.4g} ms"
    assert one.why == f"in the place of fast: {figures}, the same nodes standing by"
