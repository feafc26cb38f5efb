"""Where nothing can hold the model: the change that is proposed, applied, gives a plan."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from planner.core.cluster import Node
from planner.core.problem import Problem
from planner.core.requirements import MustHave, Requirements
from planner.files.scenario import load_scenario
from planner.plan.infeasible import NoPlanError
from planner.plan.solve import searched, solve
from tests.core.world import device, link, problem, quant

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def world(workers: int = 3, memory: float = 4.5e5, **must: Any) -> Problem:
    """Workers in a region each, the first one's own; four layers, of which a node holds two."""
    nodes = [Node(id="home")]
    nodes += [
        Node(
            id=f"n{index}",
            device="chip",
            price=1.0,
            region=f"r{index}",
            trust="own" if index == 0 else "rented",
        )
        for index in range(workers)
    ]
    return problem(
        nodes,
        links=[link(), link("home", "n0", one_way_latency=0.001)],
        devices=[device(memory=memory)],
        quants=(quant("q4", weight_bits=4.5, lossless=False), quant("bf16")),
        requirements=Requirements(must_have=MustHave.model_validate(must)),
    )


@pytest.mark.parametrize(
    ("made", "constraint", "name"),
    [
        (world(workers=1, memory=1.5e5), "memory", "nodes"),
        (world(regions=("r9",)), "regions", "regions"),
        (world(forbid_regions=("r0", "r1", "r2")), "regions", "forbid_regions"),
        (world(workers=1, quality=0.9999, memory=2.5e5), "memory", "quality"),
        (world(workers=3, trust="own", memory=1.8e5), "memory", "trust"),
    ],
    ids=["memory", "regions", "forbidden", "quality", "trust"],
)
def test_the_proposed_change_makes_it_feasible(made: Problem, constraint: str, name: str) -> None:
    with pytest.raises(NoPlanError) as caught:
        solve(made)
    error = caught.value
    assert error.constraint == constraint
    assert error.mend is not None
    assert error.mend.name == name
    assert error.mend.text in error.hint
    assert error.nearest is not None
    solution = solve(error.mend.applied)
    assert solution.plan.nodes
    assert set(error.nearest.plan.nodes) <= {node.id for node in error.mend.applied.cluster.nodes}


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (world(regions=("r9",), trust="own", memory=1.8e5), {"regions", "trust"}),
        (world(regions=("r9",), usd_per_hour=0.1), {"regions", "usd_per_hour"}),
        (world(forbid_regions=("r0", "r1", "r2"), mean_tpot=1e-3), {"forbid_regions", "mean_tpot"}),
        (
            world(workers=1, quality=0.9999, forbid_regions=("r0",), memory=2.5e5),
            {"quality", "forbid_regions"},
        ),
        (world(workers=1, memory=1.5e5, usd_per_hour=0.5), {"nodes", "usd_per_hour"}),
        (world(workers=1, memory=1.5e5, max_nodes=1), {"nodes", "max_nodes"}),
        (
            world(regions=("r9",), trust="own", memory=1.8e5, usd_per_hour=0.1),
            {"regions", "trust", "usd_per_hour"},
        ),
    ],
    ids=lambda value: "+".join(sorted(value)) if isinstance(value, set) else "",
)
def test_changes_that_help_only_together(made: Problem, names: set[str]) -> None:
    with pytest.raises(NoPlanError) as caught:
        solve(made)
    error = caught.value
    assert error.mend is None
    assert {mend.name for mend in error.mends} == names
    assert all(mend.text in error.hint for mend in error.mends)
    applied = error.mends[-1].applied
    solution = solve(applied)
    assert not applied.requirements.must_have.missed(solution.prediction.metrics)


def test_a_layer_that_no_node_holds_is_named() -> None:
    made = world(workers=1, memory=8e4)
    with pytest.raises(NoPlanError) as caught:
        solve(made)
    error = caught.value
    assert error.constraint == "memory"
    assert "no node has more than" in error.message
    assert error.mends == ()


def test_copies_have_the_links_of_what_they_are_copies_of() -> None:
    with pytest.raises(NoPlanError) as caught:
        solve(world(workers=1, memory=1.5e5))
    mend = caught.value.mend
    assert mend is not None
    cluster = mend.applied.cluster
    fresh = [node.id for node in cluster.workers if node.id != "n0"]
    assert fresh
    for name in fresh:
        line = cluster.link("home", name)
        assert line is not None
        assert line.one_way_latency_s == 0.001


@pytest.mark.slow
@pytest.mark.alone
def test_what_is_missing_beside_a_budget_is_told_as_soon_as_a_plan_would_be() -> None:
    """Energy makes prices depend on more than which nodes there are, which prunes little.

    Each lot of workstations that might do was searched to the end: more than the 9 s of CPU that
    are allowed here, of which it takes 2.
    """
    asked = ["must_have.trust=own", "quants=[bf16]", "must_have.usd_per_hour=0.05 USD/h"]
    made = load_scenario(SCENARIOS / "hybrid-with-cloud.yaml", [], asked).problem
    began_s = time.process_time()
    with pytest.raises(NoPlanError) as caught:
        solve(made)
    assert time.process_time() - began_s < 9
    mends = caught.value.mends
    assert {mend.name for mend in mends} == {"trust", "usd_per_hour"}
    found = searched(mends[-1].applied, expansions=1000)
    assert found
    assert not mends[-1].applied.requirements.must_have.missed(found[0].prediction.metrics)
