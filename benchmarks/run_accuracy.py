"""Predicted against measured over stages, users and links, on a machine that was just probed.

Takes model, device and engine of the demo, and runs one to four stages with one, four and eight
users over links of three kinds, for some twenty seconds each: the speed of a shared host has a
memory of a few. Prints every error and their quantiles. Profiles and errors are kept in the folder,
so it can be done in pieces:

    python -m benchmarks.run_accuracy build/run-accuracy --first 0 --count 6
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks.kept import Row, demo, keep, kept, quantile
from planner.core.cluster import Link
from planner.core.drift import as_found
from planner.core.metrics import Metrics, summarise
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem
from planner.core.workload import Closed, Fixed
from planner.report.hosts import step_speeds
from planner.report.steadiness import steadiness
from planner.report.terms import coordinator_terms, hop_terms, stage_terms
from planner.run.execute import execute
from planner.run.rehearsal import in_run
from planner.run.seeded import make_checkpoint
from planner.run.setup import Setup
from planner.sim.simulate import simulate

NAMES = ("home", "hub", "cabin", "den")
WAYS = {"loopback": None, "5 ms, 200 Mbit/s": (5e-3, 25e6), "20 ms, 100 Mbit/s": (20e-3, 12.5e6)}
METRICS = ("mean_tpot_ms", "mean_ttft_ms", "output_throughput")
BOUNDS = {"mean_tpot_ms": 0.05, "mean_ttft_ms": 0.10, "output_throughput": 0.05}
PROMPT, OUTPUT = 64, 24
LEAST_ROUNDS = 2
"""Requests of every user."""
SAID = {"error": "as found", "planned_error": "as probed", "hindsight_error": "hindsight"}
"""By what is predicted: profile and rehearsal, the profile alone, the steps of the run itself. The
last one leaves what queues, batches, links and hops are off by; the rest is the host's drift."""


def worlds(base: Problem) -> Iterator[tuple[str, Problem, Plan]]:
    """Twelve configurations, the kinds of links in turn."""
    ways = list(WAYS)
    count = 0
    for stages in (1, 2, 3, 4):
        for users in (1, 4, 8):
            name = ways[count % len(ways)]
            count += 1
            yield (
                f"{stages} stages, {users} users, {name}",
                world(base, users, name),
                plan(base, stages, users),
            )


def world(base: Problem, users: int, way: str) -> Problem:
    """The demo with four equal nodes and links of one kind between coordinator and stages."""
    hub = base.cluster.node("hub")
    nodes = tuple(hub.model_copy(update={"id": name, "memory_bytes": None}) for name in NAMES)
    links = list(base.cluster.links)
    if WAYS[way] is not None:
        latency_s, rate = WAYS[way]
        links = [
            link.model_copy(update={"one_way_latency_s": latency_s, "bytes_per_s": rate})
            for link in links
        ]
        for src in NAMES:
            for dst in NAMES:
                if src != dst:
                    links.append(
                        Link(src=src, dst=dst, one_way_latency_s=latency_s, bytes_per_s=rate)
                    )
    cluster = base.cluster.model_copy(
        update={"nodes": nodes, "links": tuple(dict.fromkeys(links)), "coordinator": "home"}
    )
    workload = base.workload.model_copy(
        update={
            "arrivals": Closed(kind="closed", concurrency=users),
            "prompt": Fixed(tokens=PROMPT),
            "output": Fixed(tokens=OUTPUT),
            "requests": LEAST_ROUNDS * users,
        }
    )
    return Problem.model_validate(
        base.model_copy(update={"cluster": cluster, "workload": workload}).model_dump()
    )


def plan(base: Problem, stages: int, users: int) -> Plan:
    """Layers spread evenly; the coordinator's node holds a stage only where all four do."""
    nodes = NAMES[1:] if stages < 4 else NAMES
    layers = base.model.num_hidden_layers
    ends = [layers * index // stages for index in range(stages + 1)]
    quant = base.quants[0].id
    return Plan(
        pipelines=(
            Pipeline(
                stages=tuple(
                    Stage(node=nodes[i], start=ends[i], stop=ends[i + 1], quant=quant)
                    for i in range(stages)
                ),
                max_num_seqs=users,
            ),
        )
    )


def error(predicted: Metrics, measured: Metrics, name: str) -> float:
    """Signed relative error of one metric."""
    return float(getattr(predicted, name) / getattr(measured, name)) - 1


def lasting(problem: Problem, chain: Plan, seconds: float) -> Problem:
    """With as many requests of every user as take so long."""
    base = simulate(problem, chain, 0, problem.workload.sample(0)).simulated_s
    asked = problem.workload.requests * math.ceil(seconds / base)
    workload = problem.workload.model_copy(update={"requests": asked})
    return Problem.model_validate(problem.model_copy(update={"workload": workload}).model_dump())


def measure(folder: Path, first: int, count: int, seconds: float) -> None:
    """Runs some of the configurations and keeps their errors."""
    base = demo(folder)
    checkpoint = make_checkpoint(folder / "checkpoint", base.model)
    for label, short, chain in list(worlds(base))[first : first + count]:
        problem = lasting(short, chain, seconds)
        requests = problem.workload.sample(0)
        run = execute(Setup(problem, chain, checkpoint, threads=1, gauge=True), requests)
        measured = summarise(run.records)
        ahead_s = simulate(problem, chain, 0, requests).simulated_s
        found = as_found(problem, run.speeds, run.paces, ahead_s)
        turned_out = as_found(problem, run.speeds, in_run(problem, run))
        row: Row = {"label": label}
        for said, world_of in (
            ("error", found),
            ("planned_error", problem),
            ("hindsight_error", turned_out),
        ):
            predicted = simulate(world_of, chain, 0, requests).metrics
            row[said] = {name: error(predicted, measured, name) for name in METRICS}
        terms = (
            *stage_terms(found, run.stages),
            *hop_terms(found, chain, run.hops),
            *coordinator_terms(found, run),
        )
        row["terms"] = [term.document() for term in terms]
        steps = step_speeds(problem, run.paces, ahead_s)
        row["rehearsed"] = [step.document() for step in steps]
        lasted_s = max(record.token_s[-1] for record in run.records)
        hosts = steadiness(problem, run.paces, in_run(problem, run), lasted_s)
        row["steadiness"] = [host.document() for host in hosts]
        keep(folder / "results.jsonl", row)
        said = "  ".join(f"{name} {value:+7.1%}" for name, value in row["error"].items())
        print(f"{label:<38} {said}", flush=True)


def show(folder: Path) -> int:
    """Prints median and 90th percentile of every metric; how many medians break a bound."""
    rows, broken = kept(folder / "results.jsonl"), 0
    print(f"{len(rows)} runs of {len({row['label'] for row in rows})} configurations")
    for key, said in SAID.items():
        for name, bound in BOUNDS.items():
            values = [row[key][name] for row in rows if key in row]
            if not values:
                continue
            median, high = quantile(values, 0.5), quantile(values, 0.9)
            broken += key == "error" and median > bound
            mean = statistics.fmean(values)
            print(
                f"{said:<10} {name:<18} median {median:6.1%}  p90 {high:6.1%}  "
                f"mean {mean:+6.1%}  bound {bound:.0%}"
            )
    return broken


def main() -> int:
    """Measure what is asked for, then print what is kept; 1 where a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="keeps profiles, manifest and every run")
    parser.add_argument("--first", type=int, default=0, help="skip that many configurations")
    parser.add_argument("--count", type=int, default=12, help="0 prints what is there")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each is to take")
    options = parser.parse_args()
    if options.count:
        measure(options.folder, options.first, options.count, options.seconds)
    return 1 if show(options.folder) else 0


if __name__ == "__main__":
    raise SystemExit(main())
