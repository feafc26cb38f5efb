"""Chaos: workers of random stages are killed and stopped under load, and nobody notices."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from planner.core.cluster import Link
from planner.core.plan import Plan, Standby
from planner.core.problem import Serving
from planner.core.rng import stream
from planner.core.workload import Closed, Fixed, Workload
from planner.run.checkpoint import open_checkpoint
from planner.run.execute import execute
from planner.run.losses import Loss
from planner.run.model import Stage
from planner.run.seeded import make_checkpoint
from planner.run.setup import Setup
from tests.run.world import chain, decode, pipeline, prefill, problem, spec

USERS, PROMPT, OUTPUT = 4, 16, 44
KILLS, HANGS = 50, 20
DETECT_S = 0.6
SEED = int(os.environ.get("PLANNER_CHAOS_SEED", "1"))


def losses(seed: int) -> tuple[list[Loss], float]:
    """Kills and hangs in random order at random stages, and when the last one strikes (s)."""
    draws = stream(seed, "chaos")
    kinds = [False] * KILLS + [True] * HANGS
    draws.shuffle(kinds)
    made, at_s = [], 0.5
    for hangs in kinds:
        made.append(Loss("", at_s, 0.0, hangs, (0, draws.randrange(2))))
        at_s += draws.uniform(0.3, 0.6) + (DETECT_S if hangs else 0.0)
    return made, at_s


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_seventy_lost_workers_cost_no_session_and_change_no_token(tmp_path: Path) -> None:
    model = spec()
    folder = make_checkpoint(tmp_path / "model", model, dtype="fp32")
    struck, lasts_s = losses(SEED)
    step_s = 0.012
    still_s = HANGS * DETECT_S  # nothing moves until a hang is noticed
    waves = int((lasts_s - still_s) / (OUTPUT * step_s)) + 1
    world = problem(
        4,
        model,
        [
            Link(src="home", dst="*", one_way_latency=step_s, bandwidth=1e12),
            Link(src="*", dst="*", one_way_latency=0.0, bandwidth=1e12),
        ],
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=USERS),
            prompt=Fixed(tokens=PROMPT),
            output=Fixed(tokens=OUTPUT),
            requests=USERS * waves,
        ),
        serving=Serving(detect_s=DETECT_S, patience_s=60.0),
    )
    plan = Plan(
        pipelines=(pipeline(["w0", "w1"], 4, max_num_seqs=USERS),),
        standbys=(
            Standby(node="w2", pipeline=0, stage=0, state="hot"),
            Standby(node="w3", pipeline=0, stage=1, state="hot"),
            Standby(node="w3", pipeline=0, stage=0, state="cold"),
            Standby(node="w2", pipeline=0, stage=1, state="cold"),
        ),
    )
    setup = Setup(world, plan, folder, threads=1, deterministic=True)
    measured = execute(setup, world.workload.sample(0), losses=struck)
    assert [one.status for one in measured.records] == ["completed"] * (USERS * waves)
    stages = chain(open_checkpoint(folder), [])
    for first in range(0, USERS * waves, USERS):
        wave = range(first, first + USERS)
        expected = together(stages, [measured.prompts[key] for key in wave])
        assert [measured.outputs[key] for key in wave] == expected, f"seed {SEED}"
    found = sorted(one.found_s - one.lost_s for one in measured.recoveries)
    took = sorted(one.recovered_s - one.found_s for one in measured.recoveries if one.hot)
    sys.stdout.write(
        f"\nseed {SEED}: {len(measured.absences)} workers lost, {len(found)} recoveries; "
        f"noticed after {1e3 * found[0]:.1f} to {1e3 * found[-1]:.0f} ms; {len(took)} hot standbys "
        f"took over in {1e3 * p(took, 50):.1f} ms (median), {1e3 * p(took, 95):.0f} ms (p95), "
        f"{1e3 * took[-1]:.0f} ms (worst)\n"
    )
    assert len(measured.absences) >= 0.9 * (KILLS + HANGS)
    assert found[-1] < 1.2 * DETECT_S
    assert p(took, 95) < 0.25


def p(ordered: list[float], percent: float) -> float:
    """A percentile."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def together(stages: list[Stage], prompts: list[list[int]]) -> list[list[int]]:
    """Greedy answers to prompts that are prefilled one by one and decoded as one batch."""
    slots = range(len(prompts))
    tokens = [int(prefill(stages, prompt, slot).argmax()) for slot, prompt in enumerate(prompts)]
    answers = [[token] for token in tokens]
    for step in range(OUTPUT - 1):
        logits = decode(stages, tokens, slots, [PROMPT + step] * len(prompts))
        tokens = logits.argmax(-1).tolist()
        for answer, token in zip(answers, tokens, strict=True):
            answer.append(token)
    return answers
