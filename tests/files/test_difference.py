from __future__ import annotations

from planner.core.cluster import Link
from planner.core.plan import Pipeline, Plan, Stage
from planner.files.difference import Share, changes, difference
from tests.core.world import problem
from tests.files.world import manifest


def plan(*stages: tuple[str, int, int, str]) -> Plan:
    return Plan(
        pipelines=(
            Pipeline(
                stages=tuple(Stage(node=n, start=a, stop=b, quant=q) for n, a, b, q in stages)
            ),
        )
    )


def test_nothing_differs_from_itself() -> None:
    assert difference(manifest(), manifest()).empty


def test_moved_layers_numbers_and_causes_are_named() -> None:
    before = manifest(plan=plan(("a", 0, 2, "bf16"), ("b", 2, 4, "bf16")))
    world = problem(name="tiny").model_copy(
        update={"serving": before.problem.serving.model_copy(update={"micro_batches": 2})}
    )
    metrics = before.prediction.metrics.model_copy(
        update={"mean_tpot_ms": 10.0, "completed": None, "mean_itl_ms": 1.0}
    )
    prediction = before.prediction.model_copy(
        update={"metrics": metrics, "cost_usd_per_hour": {"rent": 0.8}}
    )
    after = manifest(world, plan=plan(("a", 0, 4, "q8")), prediction=prediction)
    found = difference(before, after)
    assert [(one.node, one.before, one.after) for one in found.moved] == [
        (
            "a",
            Share(pipeline=0, start=0, stop=2, quant="bf16"),
            Share(pipeline=0, start=0, stop=4, quant="q8"),
        ),
        ("b", Share(pipeline=0, start=2, stop=4, quant="bf16"), None),
    ]
    changes = {one.name: (one.before, one.after, one.change) for one in found.metrics}
    assert changes["mean_tpot_ms"] == (12.5, 10.0, 10 / 12.5 - 1)
    assert changes["completed"] == (4, None, None)
    assert changes["mean_itl_ms"] == (None, 1.0, None)
    assert [(one.name, one.before, one.after) for one in found.cost_usd_per_hour] == [
        ("rent", 0.4, 0.8),
        ("energy", 1e-7, None),
    ]
    assert [(one.path, one.before, one.after) for one in found.problem] == [
        ("serving.micro_batches", 1, 2)
    ]
    assert not found.empty


def test_links_are_told_apart_by_their_ends() -> None:
    ends = [("a", "b"), ("b", "a"), ("*", "*")]
    links = [Link(src=src, dst=dst, one_way_latency=0.01, bandwidth=1e6) for src, dst in ends]
    before, after = (problem(links=made) for made in (links, links[1:]))
    (gone,) = changes(before, after)
    assert (gone.path, gone.after) == ("cluster.links.a -> b", None)
    faster = [*links[:2], links[2].model_copy(update={"bytes_per_s": 2e6})]
    (changed,) = changes(before, problem(links=faster))
    assert (changed.path, changed.before, changed.after) == (
        "cluster.links.* -> *.bytes_per_s",
        1e6,
        2e6,
    )
