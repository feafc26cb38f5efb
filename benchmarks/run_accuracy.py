"""Predicted against measured over stages, users and links, on a machine that was just probed.

Takes a manifest of the demo for its model, device and engine, and runs one to four stages with
one, four and eight users over links of three kinds; prints every error and their quantiles:

    planner probe --workers 3 --out build/profiles
    planner plan scenarios/demo.yaml --profiles build/profiles --out build/manifest.yaml
    python benchmarks/run_accuracy.py build/manifest.yaml build/checkpoint
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from planner.core.cluster import Link
from planner.core.metrics import Metrics, summarise
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem
from planner.core.workload import Closed, Fixed
from planner.files.manifest import read_manifest
from planner.run.execute import execute
from planner.run.seeded import make_checkpoint
from planner.sim.simulate import simulate

NAMES = ("home", "hub", "cabin", "den")
WAYS = {"loopback": None, "5 ms, 200 Mbit/s": (5e-3, 25e6), "20 ms, 100 Mbit/s": (20e-3, 12.5e6)}
METRICS = ("mean_tpot_ms", "mean_ttft_ms", "output_throughput")
BOUNDS = {"mean_tpot_ms": 0.05, "mean_ttft_ms": 0.10, "output_throughput": 0.05}
PROMPT, OUTPUT = 64, 24


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
            "requests": max(4, 2 * users),
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


def quantile(values: list[float], share: float) -> float:
    """A quantile of absolute errors."""
    ordered = sorted(abs(value) for value in values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def error(predicted: Metrics, measured: Metrics, name: str) -> float:
    """Signed relative error of one metric."""
    return float(getattr(predicted, name) / getattr(measured, name)) - 1


def main() -> int:
    """Print every error, then the median and the 90th percentile; 1 where a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--first", type=int, default=0, help="skip that many configurations")
    parser.add_argument("--count", type=int, default=12)
    options = parser.parse_args()
    base = read_manifest(options.manifest).problem
    folder = make_checkpoint(options.checkpoint, base.model)
    errors: dict[str, list[float]] = {name: [] for name in METRICS}
    chosen = list(worlds(base))[options.first : options.first + options.count]
    for label, problem, chain in chosen:
        requests = problem.workload.sample(0)
        run = execute(problem, chain, requests, folder, threads=1)
        measured = summarise(run.records)
        predicted = simulate(problem, chain, 0, requests).metrics
        row = {name: error(predicted, measured, name) for name in METRICS}
        for name, value in row.items():
            errors[name].append(value)
        said = "  ".join(f"{name} {value:+7.1%}" for name, value in row.items())
        print(f"{label:<38} {said}", flush=True)
    broken = 0
    for name, values in errors.items():
        median, high = quantile(values, 0.5), quantile(values, 0.9)
        broken += median > BOUNDS[name]
        print(f"{name:<20} median {median:6.1%}  p90 {high:6.1%}  bound {BOUNDS[name]:.0%}")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
