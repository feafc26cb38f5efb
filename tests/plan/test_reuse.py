"""What turns find in a prefix cache is predicted from the workload alone; simulation agrees."""

from __future__ import annotations

import pytest

from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem, Serving
from planner.core.sessions import Sessions
from planner.core.workload import Closed, Fixed, Lognormal, Poisson, Workload
from planner.plan.predict import predict
from planner.plan.reuse import reuse
from planner.sim.simulate import simulate
from tests.core.world import device, engine, link, problem


def chats(blocks: int, *, cache: bool = True, **serving: bool) -> Problem:
    """Chats of four turns in the mean, four turns a second, ten seconds of thought."""
    straight = engine().calibrations[0].model_copy(update={"attention_compute": 1e6})
    return problem(
        devices=[device(compute={"bf16": 5e9})],
        links=[link(one_way_latency=0.002)],
        engine=engine(
            scheduler="vllm",
            kv_block_tokens=16,
            prefix_cache=cache,
            calibrations=(straight,),
        ),
        serving=Serving(kv_blocks=blocks, **serving),
        workload=Workload(
            arrivals=Poisson(kind="poisson", rate=4.0),
            prompt=Lognormal(kind="lognormal", median_tokens=80, sigma=0.7, max_tokens=400),
            output=Lognormal(kind="lognormal", median_tokens=40, sigma=0.6, max_tokens=200),
            sessions=Sessions(mean_turns=4, think_s=10.0, max_tokens=2000),
            requests=3000,
            warmup_requests=600,
        ),
    )


def plans(replicas: int) -> Plan:
    """The whole model on each of some nodes."""
    stages = [Stage(node=name, start=0, stop=4, quant="bf16") for name in "ab"[:replicas]]
    return Plan(pipelines=tuple(Pipeline(stages=(one,), max_num_seqs=16) for one in stages))


def test_what_is_found_can_be_counted_by_hand() -> None:
    """Three turns of 64 and 16 tokens: of 79 cached ones 4 blocks, of 159 9, of 64 + 144 + 224."""
    world = problem(
        engine=engine(scheduler="vllm", kv_block_tokens=16),
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=1),
            prompt=Fixed(tokens=64),
            output=Fixed(tokens=16),
            sessions=Sessions(mean_turns=3, turns="fixed", think_s=2.0, max_tokens=300),
        ),
    )
    kept = reuse(world, 1.0)
    assert kept is not None
    assert kept.found_tokens == pytest.approx((64 + 144) / 3)
    (predicted,) = predict(world, plans(1)).pipelines
    assert predicted.prefix_found == pytest.approx((64 + 144) / (64 + 144 + 224), rel=1e-3)


@pytest.mark.parametrize(
    ("blocks", "replicas", "sticky"),
    [(20_000, 1, True), (1500, 1, True), (800, 1, True), (20_000, 2, True), (20_000, 2, False)],
)
def test_the_expected_share_is_what_is_found_in_simulation(
    blocks: int, replicas: int, sticky: bool
) -> None:
    world, plan = chats(blocks, sticky_sessions=sticky), plans(replicas)
    predicted, result = predict(world, plan), simulate(world, plan)
    asked, found = result.prefix_tokens
    assert predicted.pipelines[0].prefix_found == pytest.approx(found / asked, abs=0.03)
    assert predicted.metrics.mean_ttft_ms == pytest.approx(result.metrics.mean_ttft_ms, rel=0.1)


def test_engines_without_a_cache_find_nothing() -> None:
    for world in (
        chats(20_000, cache=False),
        chats(20_000).model_copy(update={"engine": engine()}),
    ):
        assert predict(world, plans(1)).pipelines[0].prefix_found is None


def test_what_is_computed_is_never_more_alike_than_bounds_take_it_to_be() -> None:
    kept = reuse(chats(400), 1.0)
    assert kept is not None
    found = [kept.found_tokens * part / 20 for part in range(21)]
    uneven = [kept.unevenness(tokens) for tokens in found]
    assert kept.least_unevenness == pytest.approx(max(0.0, min(uneven)))
    assert max(uneven) > kept.least_unevenness
