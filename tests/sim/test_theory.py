"""Queues whose mean waiting time is known."""

from __future__ import annotations

import math
import random

import pytest

from planner.core.cluster import Node
from planner.core.cost import Batch, traverse
from planner.core.engine import Calibration, Efficiency
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem
from planner.core.workload import Empirical, Fixed, Poisson, Request, Workload
from planner.plan.predict import predict
from planner.sim.invariants import violations
from planner.sim.simulate import simulate
from tests.core.world import device, engine, link, problem

RUNS, REQUESTS = 8, 8_000


def queue(stages: int, slower: float = 1.0) -> tuple[Problem, Plan]:
    """Stages in a row that compute prompts in proportion to their length, and nothing else."""
    calibration = Calibration(
        efficiency={"*": Efficiency(bandwidth=1.0, compute=1.0)},
        attention_compute=1e12,
        source="made up for tests",
    )
    chips = [
        device(f"chip{index}", memory_bandwidth=1e21, compute={"bf16": 1e9 / slower**index})
        for index in range(stages)
    ]
    world = problem(
        nodes=[Node(id=f"n{index}", device=chip.id) for index, chip in enumerate(chips)],
        links=[link(one_way_latency=0, bandwidth=1e18)],
        devices=chips,
        engine=engine(hop=0, coordinator_step=0, request=0, frame=0, calibrations=(calibration,)),
        workload=Workload(
            arrivals=Poisson(kind="poisson", rate=1),
            prompt=Fixed(tokens=4000),
            output=Fixed(tokens=1),
        ),
    )
    ends = [0, 4] if stages == 1 else [0, 2, 4]
    placed = tuple(
        Stage(node=f"n{index}", start=ends[index], stop=ends[index + 1], quant="bf16")
        for index in range(stages)
    )
    # every prompt in a group of its own: none waits until others are back
    pipeline = Pipeline(stages=placed, max_num_seqs=400, micro_batches=400 if stages > 1 else 1)
    return world, Plan(pipelines=(pipeline,))


def service_s(world: Problem, plan: Plan, tokens: int) -> float:
    """Time of the slowest stage."""
    way = traverse(world, plan.pipelines[0], Batch.prefill(tokens))
    return max(stage.total_s for stage in way.stages)


def waits_s(world: Problem, plan: Plan, lengths: list[int], rate: float, seed: int) -> float:
    """Mean time a request spends beyond what it takes alone (s)."""
    rng, now_s, requests = random.Random(seed), 0.0, []
    for number, tokens in enumerate(lengths):
        now_s += rng.expovariate(rate)
        requests.append(Request(number, now_s, tokens, 1))
    result = simulate(world, plan, 0, requests, own_times=True)
    assert violations(result, plan, len(requests)) == []
    alone_s = {
        tokens: traverse(world, plan.pipelines[0], Batch.prefill(tokens)).total_s
        for tokens in set(lengths)
    }
    waited = (
        record.ttft_s - alone_s[tokens]
        for record, tokens in zip(result.records, lengths, strict=True)
    )
    return math.fsum(waited) / len(lengths)


def check_mean(means: list[float], expected: float) -> None:
    """Within three standard errors."""
    mean = math.fsum(means) / len(means)
    spread = math.sqrt(sum((value - mean) ** 2 for value in means) / (len(means) - 1))
    assert abs(mean - expected) < 3 * spread / math.sqrt(len(means))


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.5, 0.8])
@pytest.mark.parametrize("kind", ["exponential", "two lengths"])
def test_one_stage_with_poisson_arrivals_waits_as_pollaczek_and_khinchine_say(
    kind: str, load: float
) -> None:
    """M/G/1: W = rate E[S^2] / (2 (1 - load)); with exponential S load S / (1 - load), as M/M/1.

    The moments are those of the lengths that are really drawn.
    """
    world, plan = queue(1)
    draws = random.Random(5)
    means, expected = [], []
    for seed in range(RUNS):
        if kind == "exponential":
            lengths = [1 + min(3998, int(draws.expovariate(1 / 300))) for _ in range(REQUESTS)]
        else:
            lengths = [draws.choice((50, 50, 50, 1500)) for _ in range(REQUESTS)]
        known = {tokens: service_s(world, plan, tokens) for tokens in set(lengths)}
        times_s = [known[tokens] for tokens in lengths]
        mean_s = math.fsum(times_s) / REQUESTS
        square = math.fsum(time * time for time in times_s) / REQUESTS
        rate = load / mean_s
        expected.append(rate * square / (2 * (1 - load)))
        if kind == "exponential":
            assert expected[-1] == pytest.approx(load * mean_s / (1 - load), rel=0.08)
        means.append(waits_s(world, plan, lengths, rate, seed) / expected[-1])
    check_mean(means, 1.0)


@pytest.mark.parametrize("seats", [1, 3, 400])
@pytest.mark.parametrize("load", [0.08, 0.5, 0.8])
def test_prompts_alone_are_predicted_as_pollaczek_and_khinchine_say(
    load: float, seats: int
) -> None:
    """With one seat they wait before it, with many behind others in theirs; never in both."""
    world, plan = queue(1)
    lengths = Empirical(kind="empirical", tokens=(500, 500, 500, 1500))
    time_s = sum(service_s(world, plan, tokens) for tokens in lengths.tokens) / 4
    square_s2 = sum(service_s(world, plan, tokens) ** 2 for tokens in lengths.tokens) / 4
    rate = load / time_s
    pipelines = (plan.pipelines[0].model_copy(update={"max_num_seqs": seats}),)
    for prompt, squares in ((Fixed(tokens=750), time_s**2), (lengths, square_s2)):
        arrivals = Poisson(kind="poisson", rate=rate)
        asked = Workload(arrivals=arrivals, prompt=prompt, output=Fixed(tokens=1))
        predicted = predict(world.model_copy(update={"workload": asked}), Plan(pipelines=pipelines))
        expected_s = time_s + rate * squares / (2 * (1 - load))
        assert predicted.metrics.mean_ttft_ms == pytest.approx(1e3 * expected_s, rel=1e-3)


@pytest.mark.parametrize("seats", [1, 16])
def test_answers_that_prompts_go_before_are_predicted_as_they_are_simulated(seats: int) -> None:
    """At half load, prompts ten times as long as a decode step; within a tenth."""
    world = problem(
        nodes=[Node(id="a", device="chip")],
        devices=[device(compute={"bf16": 5e9})],
        workload=Workload(
            arrivals=Poisson(kind="poisson", rate=12.0 if seats == 1 else 25.0),
            prompt=Fixed(tokens=200),
            output=Fixed(tokens=20),
            requests=4000,
            warmup_requests=200,
        ),
    )
    stage = Stage(node="a", start=0, stop=4, quant="bf16")
    plan = Plan(pipelines=(Pipeline(stages=(stage,), max_num_seqs=seats),))
    predicted, simulated = predict(world, plan).metrics, simulate(world, plan).metrics
    for name in ("mean_ttft_ms", "mean_e2el_ms"):
        expected = getattr(simulated, name)
        assert getattr(predicted, name) == pytest.approx(expected, rel=0.1), name


@pytest.mark.slow
@pytest.mark.parametrize("slower", [0.5, 2.0])
def test_a_tandem_of_fixed_times_waits_as_its_slower_queue_alone(slower: float) -> None:
    """Friedman (Operations Research 1965): in a row of fixed times the order does not matter, so
    all waiting is that of M/D/1 at the slowest."""
    world, plan = queue(2, slower)
    time_s, load = service_s(world, plan, 500), 0.7
    means = [waits_s(world, plan, [500] * REQUESTS, load / time_s, seed) for seed in range(RUNS)]
    check_mean(means, load * time_s / (2 * (1 - load)))
