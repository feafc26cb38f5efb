"""Replanning: what runs stays where it is good enough, and moved bytes are counted."""

from __future__ import annotations

import pytest

from planner.core.cluster import Node
from planner.core.cost import stage_memory
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.requirements import Requirements
from planner.plan.classes import without_nodes
from planner.plan.infeasible import NoPlanError
from planner.plan.replan import Most, kept, moves
from planner.plan.solve import solve
from tests.core.world import device, link, problem


def world(fast: float = 100e9) -> Problem:
    """Four workers that hold two of the four layers each; n3 may be faster."""
    chips = [device(memory=4.5e5), device("fast", memory=4.5e5, memory_bandwidth=fast)]
    nodes = [Node(id="home"), *(Node(id=f"n{index}", device="chip") for index in range(3))]
    nodes.append(Node(id="n3", device="fast"))
    return problem(
        nodes, [link()], chips, requirements=Requirements(objective="tpot"), name="replanned"
    )


def test_nothing_moves_where_nothing_changed() -> None:
    solution = solve(world())
    again = kept(world(), solution.plan, solution, 0.05)
    assert again.plan == solution.plan
    assert again.moves is not None
    assert again.moves.bytes == 0
    assert again.moves.loads == ()


def test_a_lost_node_is_replaced_and_only_its_layers_move() -> None:
    problem_ = world()
    solution = solve(problem_)
    lost = solution.plan.pipelines[0].stages[0]
    smaller = without_nodes(problem_, {lost.node})
    again = kept(smaller, solution.plan, solve(smaller), 0.05)
    assert lost.node not in again.plan.nodes
    assert again.moves is not None
    assert lost.node in again.moves.released
    whole = stage_memory(
        smaller.model, lost.start, lost.stop, smaller.quant(lost.quant), smaller.engine, 0, 0, 0
    ).weights_bytes
    assert 0 < again.moves.bytes <= whole
    assert again.moves.seconds > 0.01


def test_what_may_move_is_limited_and_the_nearest_is_named_where_that_leaves_nothing() -> None:
    before = solve(without_nodes(world(), {"n3"})).plan
    better = world(fast=1000e9)
    free = solve(better, before=before, least_gain=0.0)
    assert free.moves is not None
    assert free.moves.bytes > 0
    kept_bytes = solve(better, before=before, least_gain=0.0, most=Most(bytes=free.moves.bytes / 2))
    assert kept_bytes.plan == before
    in_time = solve(better, before=before, least_gain=0.0, most=Most(seconds=free.moves.seconds))
    assert in_time.plan == free.plan
    lost = without_nodes(better, {before.pipelines[0].stages[0].node})
    with pytest.raises(NoPlanError) as refused:
        solve(lost, before=before, most=Most(seconds=1e-6))
    assert refused.value.constraint == "moves"
    assert "no plan moves at most 1 us" in refused.value.message
    assert "the one that comes nearest moves" in refused.value.hint


def test_small_gains_do_not_move_and_large_ones_do() -> None:
    before = solve(without_nodes(world(), {"n3"})).plan
    better = world(fast=1000e9)
    searched = solve(better)
    assert "n3" in searched.plan.nodes
    stays = kept(better, before, searched, 1e9)
    goes = kept(better, before, searched, 0.0)
    assert stays.plan == before
    assert goes.value == pytest.approx(searched.value)
    assert stays.bound == searched.bound
    assert stays.gap >= 0


def test_moves_count_only_what_a_node_lacks() -> None:
    plan = solve(world()).plan
    assert moves(world(), plan, plan).bytes == 0
    (pipeline,) = plan.pipelines
    turned = pipeline.model_copy(
        update={
            "stages": tuple(
                stage.model_copy(update={"node": name})
                for stage, name in zip(pipeline.stages, reversed(pipeline.nodes), strict=True)
            )
        }
    )
    told = moves(world(), plan, Plan(pipelines=(turned,)))
    if len(pipeline.stages) > 1:
        assert {one.node for one in told.loads} == set(plan.nodes)
    assert told.released == ()
