"""What happens when, as (time, what) tuples in tiny worlds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from planner.core.cluster import Node
from planner.core.cost import Batch, traverse
from planner.core.metrics import Metrics
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem
from planner.core.workload import Closed, Fixed, Poisson, Request, Workload
from planner.plan.predict import predict
from planner.sim.invariants import violations
from planner.sim.network import build
from planner.sim.replicate import replicate, summary, t_quantile
from planner.sim.simulate import simulate
from tests.core.world import device, engine, link, model, problem
from tests.test_laws import jittery, split

AB = (("a", 0), ("b", 2))

CALM = engine(hop=0, coordinator_step=0, request=0, frame=0)
ALONE = [Node(id="a", device="chip")]


def twice(world: Problem) -> Plan:
    """The whole model on each of the first two nodes."""
    stages = [Stage(node=node.id, start=0, stop=4, quant="bf16") for node in world.cluster.nodes]
    return Plan(pipelines=tuple(Pipeline(stages=(stage,)) for stage in stages[:2]))


def test_prompts_go_first_and_the_group_waits_for_all_of_them() -> None:
    world = problem(
        nodes=ALONE,
        engine=CALM,
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=2),
            prompt=Fixed(tokens=100),
            output=Fixed(tokens=2),
            requests=2,
        ),
    )
    plan = split(world, [], seats=2)
    prompt_s = traverse(world, plan.pipelines[0], Batch.prefill(100)).total_s
    step_s = traverse(world, plan.pipelines[0], Batch.decode(2, 200)).total_s
    told = [(record.id, record.token_s) for record in simulate(world, plan).records]
    assert told == [
        (0, pytest.approx([prompt_s, 2 * prompt_s + step_s])),
        (1, pytest.approx([2 * prompt_s, 2 * prompt_s + step_s])),
    ]


def test_without_a_seat_a_request_waits_for_one() -> None:
    world = problem(
        nodes=ALONE,
        engine=CALM,
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=2),
            prompt=Fixed(tokens=100),
            output=Fixed(tokens=1),
            requests=2,
        ),
    )
    plan = split(world, [], seats=1)
    prompt_s = traverse(world, plan.pipelines[0], Batch.prefill(100)).total_s
    result = simulate(world, plan)
    assert [r.ttft_s for r in result.records] == pytest.approx([prompt_s, 2 * prompt_s])
    assert result.most_seated == (1,)


def test_a_request_that_can_never_fit_fails_with_a_reason() -> None:
    world = problem()
    long = Request(0, 0.0, 100, 5000)
    result = simulate(world, split(world, [2]), requests=[long, Request(1, 0.0, 100, 5)])
    assert [record.status for record in result.records] == ["failed", "completed"]
    assert "5100 tokens do not fit" in result.records[0].reason
    assert result.metrics.availability == 0.5


def test_two_groups_overlap_on_the_way() -> None:
    def throughput(groups: int) -> float | None:
        world = problem(
            links=[link(one_way_latency=0.0)],
            devices=[device(compute={"bf16": 1e7})],
            workload=Workload(
                arrivals=Closed(kind="closed", concurrency=2),
                prompt=Fixed(tokens=10),
                output=Fixed(tokens=40),
                requests=2,
            ),
        )
        return simulate(world, split(world, [2], seats=2, groups=groups)).metrics.output_throughput

    assert throughput(2) > 1.5 * throughput(1)  # type: ignore[operator]


def test_pipelines_share_the_links_of_the_coordinator() -> None:
    nodes = [Node(id="home"), *(Node(id=name, device="chip") for name in "ab")]
    stages = [Stage(node=name, start=0, stop=4, quant="bf16") for name in "ab"]
    world = problem(
        nodes=nodes,
        links=[link(bandwidth=100.0, one_way_latency=0)],
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=2),
            prompt=Fixed(tokens=100),
            output=Fixed(tokens=1),
            requests=2,
        ),
    )
    plan = Plan(pipelines=tuple(Pipeline(stages=(stage,)) for stage in stages))
    result = simulate(world, plan, visits=True)
    assert [record.pipeline for record in result.records] == [0, 1]
    assert set(result.link_busy) == {"home -> a", "a -> home", "home -> b", "b -> home"}
    assert violations(result, plan, 2) == []


def test_weights_share_out_the_requests() -> None:
    world = problem(
        workload=Workload(
            arrivals=Poisson(kind="poisson", rate=1),
            prompt=Fixed(tokens=10),
            output=Fixed(tokens=1),
            requests=30,
        )
    )
    whole = [Stage(node=name, start=0, stop=4, quant="bf16") for name in "ab"]
    plan = Plan(
        pipelines=(Pipeline(stages=whole[:1], weight=2), Pipeline(stages=whole[1:], weight=1))
    )
    chosen = [record.pipeline for record in simulate(world, plan).records]
    assert (chosen.count(0), chosen.count(1)) == (20, 10)
    assert chosen[:6] == [0, 0, 1, 0, 0, 1]


def test_users_of_a_closed_loop_are_split_by_weight_whatever_the_speeds() -> None:
    """A replica ten times as fast serves more requests of as many users; prediction agrees."""
    world = problem(
        nodes=[Node(id="a", device="fast"), Node(id="b", device="chip")],
        devices=[device("fast", memory_bandwidth=1e12, compute={"bf16": 1e14}), device()],
        engine=CALM,
        model=model(hidden_size=1024, intermediate_size=4096),
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=4),
            prompt=Fixed(tokens=100),
            output=Fixed(tokens=11),
            requests=4000,
        ),
    )
    shared = twice(world)
    plan = Plan(
        pipelines=tuple(one.model_copy(update={"max_num_seqs": 4}) for one in shared.pipelines)
    )
    result = simulate(world, plan)
    chosen = [record.pipeline for record in result.records]
    assert chosen.count(0) > 1.5 * chosen.count(1)
    expected = predict(world, plan).metrics.output_throughput
    assert result.metrics.output_throughput == pytest.approx(expected, rel=0.03)


def test_warm_up_requests_do_not_count() -> None:
    world, plan = jittery()
    workload = world.workload.model_copy(update={"warmup_requests": 10})
    counted = simulate(world.model_copy(update={"workload": workload}), plan)
    assert counted.metrics.completed == 20
    assert len(counted.records) == 30


def test_money_follows_what_really_happened() -> None:
    nodes = [
        Node(id="a", device="chip", price=1.0, electricity=0.36 / 3.6e6),
        Node(id="b", device="chip", price=2.0),
    ]
    chips = [device(tdp=1000, idle=100)]
    world = problem(nodes=nodes, devices=chips, links=[link(egress=1e-6)])
    result = simulate(world, split(world, [2]))
    busy = result.stage_busy["a"]
    assert result.cost["rent"] == pytest.approx(3.0)
    assert result.cost["energy"] == pytest.approx(0.36 * (0.1 + 0.9 * busy))
    assert result.cost["egress"] > 0
    assert sum(result.cost.values()) == pytest.approx(result.metrics.usd_per_hour, rel=1e-9)


def test_replications_have_intervals_and_repeat() -> None:
    world, plan = jittery()
    made = replicate(world, plan, range(5))
    low, high = made.confidence["mean_ttft_ms"]
    assert low < (made.metrics.mean_ttft_ms or 0) < high
    assert replicate(world, plan, range(5)) == made
    assert replicate(world, plan, [0]).confidence == {}


def test_a_run_that_completed_nothing_has_no_latency_and_no_throughput() -> None:
    """The others' latencies are still known; intervals hold nothing that cannot be."""
    world, plan = jittery()
    able = [simulate(world, plan, seed) for seed in (0, 1)]
    count = len(able[0].records)
    lost = Metrics(completed=0, failed=count, availability=0.0, usd_per_hour=1.0)
    made = summary([*able, replace(able[0], metrics=lost)])
    each = [one.metrics for one in able]
    for name, runs in (("mean_ttft_ms", 2), ("p99_e2el_ms", 2), ("output_throughput", 3)):
        whole = sum(getattr(one, name) for one in each)
        assert getattr(made.metrics, name) == pytest.approx(whole / runs), name
    assert made.metrics.usd_per_million_output_tokens is None
    assert made.metrics.completed == round(2 * count / 3)
    assert made.confidence["availability"] == (0.0, 1.0)
    assert made.confidence["completed"] == (0.0, count)
    assert made.confidence["output_throughput"][0] == 0.0


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.706), (30, 2.042), (60, 2.0003), (120, 1.9799)]
)
def test_t_quantiles_are_those_of_the_tables(degrees: int, quantile: float) -> None:
    assert t_quantile(degrees) == pytest.approx(quantile, rel=1e-4)


def test_workers_on_one_host_wait_for_its_cores() -> None:
    def throughput(cores: int) -> float:
        chip = device(compute={"bf16": 1e7}, threads=1, host_threads=cores)
        world = problem(
            nodes=[Node(id=name, device="chip", host="box") for name in "ab"],
            links=[link(one_way_latency=0.0)],
            devices=[chip],
            workload=Workload(
                arrivals=Closed(kind="closed", concurrency=2),
                prompt=Fixed(tokens=10),
                output=Fixed(tokens=40),
                requests=2,
            ),
        )
        result = simulate(world, split(world, [2], seats=2, groups=2), visits=True)
        assert violations(result, split(world, [2], seats=2, groups=2), 2) == []
        busy = sum(result.stage_busy.values())
        assert busy <= cores + 1e-9
        return result.metrics.output_throughput or 0.0

    assert throughput(2) > 1.5 * throughput(1)


def in_chunks(**changes: Any) -> tuple[Problem, Plan]:
    """A prompt of 100 tokens over two stages, 30 at a time."""
    world = problem(
        nodes=[Node(id="home"), Node(id="a", device="chip"), Node(id="b", device="chip")],
        links=[link(one_way_latency=0.0)],
        engine=engine(prefill_chunk=30, **changes),
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=1),
            prompt=Fixed(tokens=100),
            output=Fixed(tokens=1),
            requests=1,
        ),
    )
    stages = [Stage(node=name, start=start, stop=start + 2, quant="bf16") for name, start in AB]
    return world, Plan(pipelines=(Pipeline(stages=tuple(stages)),))


def test_stages_compute_different_chunks_of_a_prompt_at_once() -> None:
    world, plan = in_chunks()
    result = simulate(world, plan, visits=True)
    assert violations(result, plan, 1) == []
    began_s = {
        name: [visit.began_s for visit in result.visits if visit.place == name] for name, _ in AB
    }
    ended_s = [visit.ended_s for visit in result.visits if visit.place == "a"]
    assert len(began_s["a"]) == len(began_s["b"]) == 4
    assert began_s["a"][1:] == pytest.approx(ended_s[:-1])
    assert all(b < a for a, b in zip(ended_s[2:], began_s["b"], strict=False))
    answers = [visit for visit in result.visits if visit.place == "b -> home"]
    assert len(answers) == 1


def test_whole_prompts_take_as_much_longer_as_their_chunks_overlap() -> None:
    """Places are busy for as long either way, one after the other or at once.

    But for the last norm: chunks that bring no token stop before it.
    """
    (chunked, plan), (whole, _) = in_chunks(frame=0), in_chunks(frame=0, chunks_overlap=False)
    in_turn, at_once = (
        traverse(world, plan.pipelines[0], Batch.prefill(100)) for world in (whole, chunked)
    )
    norm_s = in_turn.stages[1].total_s - at_once.stages[1].total_s
    saved_s = at_once.overlap_s + norm_s
    (sooner,), (later,) = simulate(chunked, plan).records, simulate(whole, plan).records
    assert later.ttft_s is not None
    assert sooner.ttft_s is not None
    assert later.ttft_s - sooner.ttft_s == pytest.approx(saved_s, rel=1e-9)
    assert 0 < norm_s < 1e-3 * saved_s
    assert saved_s > 0.3 * later.ttft_s
    request_s = chunked.engine.request_s
    assert sooner.ttft_s == pytest.approx(at_once.total_s + request_s, rel=1e-9)


def test_an_idle_core_takes_a_job_while_another_stage_is_busy() -> None:
    chip = device(threads=1, host_threads=2)
    world = problem(
        nodes=[Node(id=name, device="chip", host="box") for name in "ab"], devices=[chip]
    )
    begun: list[tuple[str, float]] = []
    busy, idle = (workers[0] for workers in build(world, twice(world), 0).pipelines)
    step = (Batch.decode(1, 10),)
    busy.compute(0.0, step, lambda began_s, _: begun.append(("first", began_s)))
    busy.compute(0.0, step, lambda began_s, _: begun.append(("second", began_s)))
    idle.compute(0.0, step, lambda began_s, _: begun.append(("other stage", began_s)))
    step_s = busy.step_s(step)
    busy.end(step_s)
    assert begun == [("first", 0.0), ("other stage", 0.0), ("second", step_s)]


def test_a_thousand_users_whose_requests_never_fit_are_all_answered() -> None:
    world = problem()
    long = [Request(number, 0.0, 100, 5000) for number in range(3000)]
    records = simulate(world, split(world, [2]), requests=long).records
    assert [record.status for record in records] == ["failed"] * 3000


@pytest.mark.parametrize("horizon_s", [0.0, 0.05, 1000.0])
def test_the_clock_ends_with_the_last_event_or_the_horizon(horizon_s: float) -> None:
    world = problem()
    whole = simulate(world, split(world, [2]))
    workload = world.workload.model_copy(update={"horizon_s": horizon_s})
    result = simulate(world.model_copy(update={"workload": workload}), split(world, [2]))
    assert result.simulated_s == min(horizon_s, whole.simulated_s)
    assert violations(result, split(world, [2]), 4) == []


def test_requests_that_are_given_keep_the_loop_closed_unless_told_otherwise() -> None:
    world = problem()
    given = world.workload.sample(0)
    plan = split(world, [2])
    assert simulate(world, plan, requests=given).records == simulate(world, plan).records
    own = simulate(world, plan, requests=given, own_times=True)
    assert [record.arrival_s for record in own.records] == [one.arrival_s for one in given]
