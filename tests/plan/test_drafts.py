"""The number of drafts: chosen as brute force chooses it, and what every other would bring."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.core.choice import decided, drafting, seated
from planner.core.cluster import Node
from planner.core.cost import Batch, traverse
from planner.core.cost.drafting import draft_bytes
from planner.core.cost.room import draft_missing_bytes
from planner.core.problem import Problem, Serving
from planner.core.requirements import Requirements
from planner.core.speculation import Speculation
from planner.core.workload import Closed, Fixed, Workload
from planner.plan.branches import leaves
from planner.plan.infeasible import NoPlanError
from planner.plan.predict import predict
from planner.plan.promise import as_cost
from planner.plan.solve import solve, solve_simply
from planner.plan.survey import bounded, surveyed
from planner.sim.simulate import simulate
from tests.core.world import device, engine, link, model, problem
from tests.plan.test_solve import brute_force
from tests.plan.worlds import problems

RELAXED = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@st.composite
def open_worlds(draw: st.DrawFn, bounds: bool = False) -> Problem:
    """A random world that drafts up to three tokens, whose coordinator may be open, too."""
    world = draw(problems(bounds))
    drafts = Speculation(
        draft_tokens=draw(st.integers(1, 3)),
        at_most=True,
        acceptance=draw(st.sampled_from([0.0, 0.4, 0.9])),
        draft_token=draw(st.sampled_from([1e-4, 3e-3])),
        checks_in_flight=draw(st.sampled_from([1, 1, 2])),
    )
    serving = world.serving.model_copy(update={"speculation": drafts})
    world = Problem.model_validate(dict(world) | {"serving": serving})
    ids = tuple(node.id for node in world.cluster.nodes)
    return seated(world, ids[:2]) if draw(st.booleans()) else world


def check_against_brute_force(world: Problem) -> None:
    each = {
        (one.cluster.coordinator, one.serving.draft_tokens): brute_force(one)
        for one in leaves(world)
    }
    optimum = min(each.values())
    try:
        solution = solve(world, equal_weights=True)
    except NoPlanError:
        assert optimum == math.inf
        return
    plan = solution.plan
    assert plan.draft_tokens is not None
    assert as_cost(world, solution.value) == pytest.approx(optimum, rel=1e-9)
    assert solution.gap == 0
    settled = decided(world, plan)
    made = settled.cluster.coordinator, settled.serving.draft_tokens
    assert each[made] == pytest.approx(optimum, rel=1e-9)
    assert predict(settled, plan) == solution.prediction
    costs = sorted(min(c for (_, k), c in each.items() if k == n) for n in {k for _, k in each})
    told = sorted(as_cost(world, one.value) for one in solution.drafts)
    assert told[0] == pytest.approx(costs[0], rel=1e-9)
    if len(told) > 1:
        assert told[1] == pytest.approx(costs[1], rel=1e-9)


@settings(RELAXED, max_examples=6)
@given(open_worlds())
def test_the_number_is_what_brute_force_finds_and_so_is_the_next_best(world: Problem) -> None:
    check_against_brute_force(world)


@pytest.mark.slow
@settings(RELAXED, max_examples=8)
@given(open_worlds(bounds=True))
def test_the_number_is_what_brute_force_finds_under_must_haves(world: Problem) -> None:
    check_against_brute_force(world)


@settings(RELAXED, max_examples=4)
@given(open_worlds())
def test_bounds_of_large_clusters_hold_over_all_numbers(world: Problem) -> None:
    try:
        optimum = as_cost(world, solve(world, equal_weights=True, explain=False).value)
    except NoPlanError:
        return
    slack = 1e-9 * abs(optimum)
    assert bounded(world) <= optimum + slack
    found = surveyed(world)
    assert min(one.best.bound for one in found) <= optimum + slack
    assert min(one.best.cost for one in found) >= optimum - slack


def far(users: int, draft_token_s: float = 1e-3, most: int = 8) -> Problem:
    """Two nodes 40 ms apart that compute slowly: checks are cheap for one user, dear for many."""
    nodes = [Node(id="a", device="chip"), Node(id="b", device="chip")]
    drafts = Speculation(draft_tokens=most, at_most=True, acceptance=0.8, draft_token=draft_token_s)
    return problem(
        nodes,
        [link(one_way_latency=0.04, bandwidth=1e9)],
        [device(memory=6e6, compute={"bf16": 2e8})],
        model=model(num_hidden_layers=4),
        requirements=Requirements(objective="throughput"),
        serving=Serving(speculation=drafts),
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=users),
            prompt=Fixed(tokens=10),
            output=Fixed(tokens=50),
        ),
    )


def test_one_user_over_a_far_link_drafts_and_a_large_batch_does_not() -> None:
    alone, crowd = solve(far(1)), solve(far(256))
    assert alone.plan.draft_tokens is not None
    assert alone.plan.draft_tokens > 0
    assert crowd.plan.draft_tokens == 0
    assert decided(far(256), crowd.plan).serving.speculation is None
    rounds = [one.round_s for one in crowd.drafts]
    assert rounds == sorted(rounds)
    assert rounds[4] > 2 * rounds[0]


def test_every_number_says_what_a_round_brings_and_takes() -> None:
    world = far(1, draft_token_s=2e-3)
    solution = solve(world)
    assert [one.draft_tokens for one in solution.drafts] == list(range(9))
    assert [one.draft_tokens for one in solution.drafts if one.chosen] == [
        solution.plan.draft_tokens
    ]
    pipeline = solution.plan.pipelines[0]
    for one in solution.drafts:
        settled = drafting(world, one.draft_tokens)
        assert one.tokens_per_round == settled.serving.tokens_per_round
        steps = 49 / one.tokens_per_round
        batch = Batch.decode(1, 10 + 49 / 2, one.draft_tokens + 1)
        if one.same_stages:
            way_s = traverse(settled, pipeline, batch).total_s
            assert one.round_s == pytest.approx(way_s, rel=0.02), steps


def test_a_slow_draft_is_used_less_and_a_useless_one_never() -> None:
    quick, slow = solve(far(1, 1e-4)), solve(far(1, 0.02))
    assert (slow.plan.draft_tokens or 0) < (quick.plan.draft_tokens or 0)
    assert solve(far(1, 10.0)).plan.draft_tokens == 0


def test_simulation_and_simpler_planners_know_the_chosen_number() -> None:
    world = far(2)
    solution = solve(world)
    settled = drafting(world, solution.plan.draft_tokens or 0)
    assert simulate(world, solution.plan, 3).metrics == simulate(settled, solution.plan, 3).metrics
    simple = solve_simply(world, "even")
    each = [solve_simply(one, "even").value for one in leaves(world)]
    assert simple.value == max(each)
    assert simple.plan.draft_tokens == each.index(max(each))


def test_what_runs_drafts_as_many_as_is_best_now() -> None:
    before = solve(far(1, 1e-4)).plan
    assert before.draft_tokens
    after = solve(far(1, 10.0), before=before, least_gain=1e9)
    assert after.moves is not None
    assert after.moves.bytes == 0
    assert after.plan.draft_tokens == 0


def heavy(at_most: bool, *roomy: str) -> Problem:
    """Two nodes and a draft of some 540 kB, which only the ``roomy`` ones have memory for."""
    nodes = [Node(id=name, device="big" if name in roomy else "chip") for name in "ab"]
    drafts = Speculation(draft_tokens=2, at_most=at_most, acceptance=0.9, draft_token=1e-6)
    return problem(
        nodes,
        [link(one_way_latency=0.0)],
        [device(memory=4.2e5), device("big", memory=1.2e6)],
        draft=model(id="heavy", num_hidden_layers=5),
        engine=engine(memory_reserve=5e4),
        serving=Serving(speculation=drafts),
        requirements=Requirements(objective="tpot"),
    )


def test_a_draft_that_fits_at_no_seat_is_refused_by_name_and_with_what_mends_it() -> None:
    for world in (heavy(False), seated(heavy(False), ("a", "b"))):
        with pytest.raises(NoPlanError) as caught:
            solve(world)
        assert caught.value.constraint == "draft"
        assert "the draft heavy in bf16 needs" in str(caught.value)
        assert "leave draft and serving.speculation out" in caught.value.hint
        assert caught.value.nearest is not None
        with pytest.raises(NoPlanError, match="heavy"):
            solve_simply(world, "even")


def test_the_reserve_of_the_engine_counts_beside_the_draft() -> None:
    world = heavy(False)
    missing = draft_bytes(world) + 5e4 - 4.2e5
    assert draft_missing_bytes(world, "a") == pytest.approx(missing)
    assert draft_missing_bytes(heavy(False, "a"), "a") == 0


def test_without_room_for_the_draft_there_are_no_drafts_and_no_rows_of_them() -> None:
    solution = solve(heavy(True))
    assert solution.plan.draft_tokens == 0
    assert [one.draft_tokens for one in solution.drafts] == [0]
    assert solve(heavy(True, "a")).plan.draft_tokens == 2


def test_the_coordinator_sits_where_its_draft_fits() -> None:
    world = seated(heavy(False, "b"), ("a", "b"))
    solution = solve(world)
    assert solution.plan.coordinator == "b"
    assert not solution.seats
    assert bounded(world) <= as_cost(world, solution.value)
    assert all(one.problem.cluster.coordinator == "b" for one in surveyed(world))
