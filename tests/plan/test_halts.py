"""Prompts that halt those who decode, and the cache that seats share, against the simulator."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pvariance

import pytest

from planner.core.cost.room import kv_blocks, seat_tokens
from planner.core.plan import Stage
from planner.core.problem import Problem, Serving
from planner.core.speculation import Speculation
from planner.core.workload import Closed, Lognormal, Poisson, Workload
from planner.files.manifest import _too_large
from planner.files.scenario import scenario_from
from planner.files.yamlfile import parse_yaml
from planner.plan.load import Load
from planner.plan.queueing import Steps, completed_per_s, felt
from planner.plan.solve import solve
from planner.sim.simulate import simulate

SCENARIO = """
schema_version: "1.0"
name: halts
model: llama-3.3-70b
engine: {engine}
quants: [{quant}]
coordinator: gateway
nodes:
  - {{id: gateway, region: east}}
  - {{id: east, device: a100-sxm-40gb, region: east, price: 2.74 USD/h}}
  - {{id: west, device: a100-sxm-40gb, region: west, price: 2.74 USD/h}}
network:
  regions:
    - {{within: east, profile: cloud-same-zone}}
    - {{within: west, profile: cloud-same-zone}}
    - {{between: [east, west], profile: cloud-to-internet, one_way_latency: 26 ms}}
workload:
  arrivals: {{kind: closed, concurrency: 32}}
  prompt: {{kind: lognormal, {prompt}}}
  output: {{kind: lognormal, median_tokens: 200, sigma: 0.7, max_tokens: 1024}}
  requests: 300
objective: usd_per_million_output_tokens
serving: {{max_num_seqs: 32, micro_batches: {groups}}}
"""
LONG = "median_tokens: 400, sigma: 0.9, max_tokens: 3072"
SHORT = "median_tokens: 50, sigma: 0.5, max_tokens: 400"


def problem(
    groups: int = 4, prompt: str = LONG, engine: str = "vllm", quant: str = "int4-g128"
) -> Problem:
    """A 70B model on two machines of two clouds."""
    text = SCENARIO.format(groups=groups, prompt=prompt, engine=engine, quant=quant)
    return scenario_from(parse_yaml(text, "halts.yaml"), Path("halts.yaml"), []).problem


@pytest.mark.parametrize(("groups", "prompt"), [(1, LONG), (4, LONG), (4, SHORT), (8, LONG)])
def test_groups_wait_for_each_others_prompts(groups: int, prompt: str) -> None:
    world = problem(groups, prompt)
    solution = solve(world, explain=False)
    predicted_ms = solution.prediction.metrics.mean_tpot_ms
    simulated_ms = simulate(world, solution.plan, seed=0).metrics.mean_tpot_ms
    assert predicted_ms == pytest.approx(simulated_ms, rel=0.12)


def test_a_cache_in_blocks_is_shared_and_slots_are_not() -> None:
    paged, slots = problem(), problem(engine="llama.cpp", quant="q4_k_m")
    longest = paged.tokens_per_request
    assert [seat_tokens(slots, seats) for seats in (1, 32)] == [longest, longest]
    assert seat_tokens(paged, 1) == longest
    drafting = Serving(speculation=Speculation(draft_tokens=3, acceptance=0.7, draft_token=0.01))
    assert seat_tokens(paged.model_copy(update={"serving": drafting}), 32) == longest
    mean, _ = paged.workload.cached_tokens
    assert mean < seat_tokens(paged, 256) < seat_tokens(paged, 32) < longest / 3
    (pipeline,) = solve(paged, explain=False).plan.pipelines
    held = pipeline.max_num_seqs * seat_tokens(paged, pipeline.max_num_seqs)
    assert pipeline.max_num_seqs == 32
    assert kv_blocks(paged, pipeline) * paged.engine.kv_block_tokens >= held


def test_an_edited_stage_has_room_for_the_longest_request_however_many_seats() -> None:
    world = problem()
    stages = [Stage(node="east", start=0, stop=stop, quant="int4-g128") for stop in range(40, 81)]
    alone, many = ([not _too_large(world, one, seats) for one in stages] for seats in (1, 64))
    assert 0 < sum(many) <= sum(alone) < len(stages)


def test_what_sequences_have_cached_is_what_one_who_looks_finds() -> None:
    workload: Workload = problem().workload
    rng = random.Random(0)
    answers = workload.output.several(rng, 20_000)
    met = rng.choices(answers, weights=answers, k=200_000)
    prompts = workload.prompt.several(rng, len(met))
    seen = [prompt + rng.random() * answer for prompt, answer in zip(prompts, met, strict=True)]
    mean, variance = workload.cached_tokens
    assert mean == pytest.approx(fmean(seen), rel=0.02)
    assert variance == pytest.approx(pvariance(seen), rel=0.05)


PROMPT = Lognormal(kind="lognormal", median_tokens=100, sigma=0.8, max_tokens=4000)


@pytest.mark.parametrize("closed", [True, False])
def test_what_users_feel_grows_with_every_time_of_a_step(closed: bool) -> None:
    """Bounds on plans rest on it."""
    rng = random.Random(1)
    for _ in range(1500):
        output = Lognormal(
            kind="lognormal", median_tokens=rng.choice([5, 20, 200]), sigma=0.5, max_tokens=2000
        )
        users, seats = rng.choice([1, 3, 8, 32, 100]), rng.choice([1, 2, 8, 32, 128])
        groups = min(seats, rng.choice([1, 2, 4, 8]))
        arrivals = (
            Closed(kind="closed", concurrency=users) if closed else Poisson(kind="poisson", rate=1)
        )
        load = Load(
            Workload(arrivals=arrivals, prompt=PROMPT, output=output, requests=500),
            seats,
            groups,
            float(users) if closed else None,
            None if closed else 1.0,
            rng.random() / 100,
            mixed=rng.random() < 0.6,
            prompt_unevenness=PROMPT.unevenness,
        )
        step_s, more = 10 ** rng.uniform(-3, 0), 1 + 10 ** rng.uniform(-4, 0)
        prefill_s = step_s * 10 ** rng.uniform(-0.5, 1.5)
        decode_s = tuple(step_s * (1 + batch / 50) * load.steps for batch in load.batches)
        gaps_s = tuple(rng.random() * one / groups * (groups > 1) for one in decode_s[:1])
        gaps_s = tuple(gaps_s[0] * one / decode_s[0] for one in decode_s)
        steps = Steps(prefill_s, prefill_s * rng.random() / 2, decode_s, gaps_s)
        if not closed:
            most = completed_per_s(load, steps)[-1]
            load = replace(load, requests_per_s=most * rng.uniform(0.05, 0.95))
        before = felt(load, steps)
        for slower in (
            replace(steps, prefill_s=more * prefill_s),
            replace(steps, prefill_gap_s=more * steps.prefill_gap_s),
            replace(steps, decode_s=tuple(more * one for one in decode_s)),
            replace(steps, decode_gap_s=tuple(more * one for one in gaps_s)),
        ):
            after = felt(load, slower)
            if after.overloaded:
                continue
            assert after.requests_per_s <= before.requests_per_s * (1 + 1e-9)
            named = (
                ["ttft_s"] if slower.prefill_gap_s > steps.prefill_gap_s else ["ttft_s", "tpot_s"]
            )
            for name in named:
                was, now = getattr(before, name), getattr(after, name)
                assert all(now[one] >= was[one] * (1 - 1e-7) for one in ("mean", "p95")), name
