"""Users who come back, and what the cache still knows of them."""

from __future__ import annotations

import pytest

from planner.core.plan import Plan
from planner.core.problem import Problem, Serving
from planner.core.sessions import Sessions
from planner.core.workload import Closed, Fixed, Poisson, Request, Workload
from planner.sim.invariants import violations
from planner.sim.result import SimResult
from planner.sim.simulate import simulate
from tests.core.world import engine, problem
from tests.sim.test_churn import recorded, restless
from tests.sim.test_simulate import twice
from tests.test_laws import split


def talk(arrivals: object = None, requests: int = 6, **changes: object) -> Problem:
    """Sessions of three turns of 64 and 16 tokens under vLLM's rules, blocks of 16."""
    workload = Workload(
        arrivals=arrivals or Closed(kind="closed", concurrency=1),
        prompt=Fixed(tokens=64),
        output=Fixed(tokens=16),
        sessions=Sessions(mean_turns=3, turns="fixed", think_s=2.0, max_tokens=300),
        requests=requests,
    )
    rules = engine(scheduler="vllm", kv_block_tokens=16)
    values: dict[str, object] = {"workload": workload, "engine": rules}
    return problem(**(values | changes))


def in_turn(result: SimResult, world: Problem) -> dict[int, list[int]]:
    """Ids of the requests of every session."""
    sessions: dict[int, list[int]] = {}
    for one in world.workload.sample(0):
        assert one.session is not None
        if one.id < len(result.records):
            sessions.setdefault(one.session, []).append(one.id)
    return sessions


def test_a_turn_comes_when_the_user_has_thought_about_the_answer() -> None:
    world = talk()
    asked = world.workload.sample(0)
    result = simulate(world, split(world, [2], seats=4))
    records = {record.id: record for record in result.records}
    assert len(records) == 6
    for one in asked:
        if one.after is not None:
            answered_s = records[one.after].token_s[-1]
            assert records[one.id].arrival_s == pytest.approx(answered_s + one.think_s)
    # The one user begins the second session when the first one is over.
    assert records[3].arrival_s == records[2].token_s[-1]
    assert violations(result, split(world, [2], seats=4), 6) == []


def test_what_the_cache_still_has_is_not_computed_again() -> None:
    world = talk()
    plan = split(world, [2], seats=4)
    result = simulate(world, plan)
    # Of 64 + 16 tokens all but the last one are in the cache, which are 4 whole blocks; then 9.
    assert result.prefix_tokens == (2 * (64 + 144 + 224), 2 * (64 + 144))
    forgetful = talk(engine=engine(scheduler="vllm", kv_block_tokens=16, prefix_cache=False))
    without = simulate(forgetful, plan)
    assert without.prefix_tokens == (2 * (64 + 144 + 224), 0)
    for mine, its in zip(result.records, without.records, strict=True):
        sooner = mine.ttft_s < its.ttft_s
        assert sooner == (mine.id % 3 > 0)
    own = simulate(talk(engine=engine()), plan)
    assert own.prefix_tokens == (0, 0)


def test_a_session_stays_where_its_prefix_is() -> None:
    arrivals = Poisson(kind="poisson", rate=3.0)
    sticky = talk(arrivals, requests=60)
    loose = talk(arrivals, requests=60, serving=Serving(sticky_sessions=False))
    results = []
    for world in (sticky, loose):
        result = simulate(world, twice(world))
        records = {record.id: record for record in result.records}
        places = [
            {records[one].pipeline for one in turns} for turns in in_turn(result, world).values()
        ]
        assert {one for place in places for one in place} == {0, 1}
        results.append((max(map(len, places)), result.prefix_tokens[1]))
    (stayed, found), (moved, found_less) = results
    assert (stayed, moved) == (1, 2)
    assert found > found_less


def test_sessions_go_on_elsewhere_when_a_node_is_lost() -> None:
    world = talk(Poisson(kind="poisson", rate=3.0), requests=60)
    lost = restless(
        recorded(True, True, *[False] * 1000),
        nodes=[
            world.cluster.nodes[0],
            world.cluster.nodes[1].model_copy(update={"churn": "recorded"}),
        ],
        workload=world.workload,
        engine=world.engine,
        serving=Serving(detect_s=0.1, patience_s=1.0),
    )
    result = simulate(lost, twice(lost))
    assert result.metrics.completed == 60
    late = [record for record in result.records if record.arrival_s > 3.0]
    assert {record.pipeline for record in late} == {0}


def test_nobody_asks_on_without_an_answer() -> None:
    """A second turn that fits no seat ends its session; the user begins another."""
    world = talk(engine=engine(), requests=12)
    requests = [
        one if one.session != 1 or one.prompt_tokens < 100 else _huge(one)
        for one in world.workload.sample(0)
    ]
    plan = split(world, [2], seats=4)
    for exact in (False, True):
        result = simulate(world, plan, requests=requests, exact_steps=exact)
        failed = [record.id for record in result.records if record.status == "failed"]
        assert failed == [4]
        assert [record.id for record in result.records] == [0, 1, 2, 3, 4, *range(6, 12)]
        assert result.metrics.completed == 10


def _huge(one: Request) -> Request:
    return one._replace(prompt_tokens=5000)


def test_think_time_alone_leaves_the_system_empty() -> None:
    world = talk(requests=3)
    plan: Plan = split(world, [2], seats=4)
    result = simulate(world, plan)
    spent_s = sum(record.e2el_s for record in result.records)
    thought_s = sum(one.think_s for one in world.workload.sample(0))
    assert result.presence_s == pytest.approx(spent_s)
    assert result.simulated_s == pytest.approx(spent_s + thought_s)


def test_recorded_turns_find_their_prefix_at_their_own_times() -> None:
    """Requests with a session and shared tokens, as a trace with conversations has them."""
    world = talk()
    prompts = (64, 144, 224)
    requests = [
        Request(index, 5.0 * index, prompt, 16, session=0, shared_tokens=shared)
        for index, (prompt, shared) in enumerate(zip(prompts, (0, 80, 160), strict=True))
    ]
    plan = split(world, [2], seats=4)
    result = simulate(world, plan, requests=requests, own_times=True)
    assert [record.arrival_s for record in result.records] == [0.0, 5.0, 10.0]
    assert result.prefix_tokens == (sum(prompts), 64 + 144)
