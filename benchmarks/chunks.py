"""First tokens of prompts that go in chunks over several stages, predicted against measured.

Takes model, device and engine of the demo, links that are slow enough for chunks to be at several
places at once, and prints the error of the mean TTFT: of prediction and simulation, and of a
prediction that lets every stage take whole prompts. Runs are kept in the folder, so it can be done
in pieces:

    python -m benchmarks.chunks build/chunks --first 0 --count 3
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kept import Row, demo, keep, kept, quantile
from benchmarks.run_accuracy import NAMES, plan
from planner.core.cluster import Link
from planner.core.drift import as_found
from planner.core.metrics import summarise
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.workload import Closed, Fixed
from planner.plan.predict import predict
from planner.run.execute import execute
from planner.run.seeded import make_checkpoint
from planner.run.setup import Setup
from planner.sim.simulate import simulate

PROMPT, OUTPUT = 768, 4
ERRORS = ("predicted", "simulated", "whole")


@dataclass(frozen=True, slots=True)
class Way:
    """Every link of a configuration."""

    label: str
    latency_s: float
    bytes_per_s: float
    initial_window_bytes: float | None = None


WAYS = (
    Way("5 ms, 40 Mbit/s", 5e-3, 5e6),
    Way("20 ms, 20 Mbit/s, slow start", 20e-3, 2.5e6, 14600),
)


def worlds(base: Problem) -> Iterator[tuple[str, Problem, Plan]]:
    """Stages, links, chunks and users."""
    for stages, way, chunk in itertools.product((2, 3), WAYS, (64, 256)):
        yield (
            f"{stages} stages, {way.label}, chunks of {chunk}, 1 user",
            world(base, way, chunk, 1),
            plan(base, stages, 1),
        )
    for stages in (2, 3):
        label = f"{stages} stages, {WAYS[0].label}, chunks of 64, 3 users"
        yield label, world(base, WAYS[0], 64, 3), plan(base, stages, 3)


def world(base: Problem, way: Way, chunk: int, users: int) -> Problem:
    """The demo with four equal nodes, links of one kind between them, and long prompts."""
    hub = base.cluster.node("hub")
    nodes = tuple(hub.model_copy(update={"id": name, "memory_bytes": None}) for name in NAMES)
    links = tuple(
        Link(
            src=src,
            dst=dst,
            one_way_latency_s=way.latency_s,
            bytes_per_s=way.bytes_per_s,
            initial_window_bytes=way.initial_window_bytes,
        )
        for src, dst in itertools.permutations(NAMES, 2)
    )
    cluster = base.cluster.model_copy(
        update={"nodes": nodes, "links": links, "coordinator": NAMES[0]}
    )
    workload = base.workload.model_copy(
        update={
            "arrivals": Closed(kind="closed", concurrency=users),
            "prompt": Fixed(tokens=PROMPT),
            "output": Fixed(tokens=OUTPUT),
            "requests": max(6, 2 * users),
        }
    )
    changes = {
        "cluster": cluster,
        "workload": workload,
        "engine": base.engine.model_copy(update={"prefill_chunk": chunk}),
    }
    return Problem.model_validate(base.model_copy(update=changes).model_dump())


def measure(folder: Path, first: int, count: int) -> None:
    """Runs some of the configurations and keeps their errors."""
    base = demo(folder)
    checkpoint = make_checkpoint(folder / "checkpoint", base.model)
    for label, problem, chain in list(worlds(base))[first : first + count]:
        requests = problem.workload.sample(0)
        run = execute(Setup(problem, chain, checkpoint, threads=1, gauge=True), requests)
        measured_ms = summarise(run.records).mean_ttft_ms
        found = as_found(problem, run.speeds, run.paces)
        engine = found.engine.model_copy(update={"chunks_overlap": False})
        whole = found.model_copy(update={"engine": engine})
        said_ms = {
            "predicted": predict(found, chain).metrics.mean_ttft_ms,
            "simulated": simulate(found, chain, 0, requests).metrics.mean_ttft_ms,
            "whole": predict(whole, chain).metrics.mean_ttft_ms,
        }
        if measured_ms is None or None in said_ms.values():
            raise SystemExit(f"{label}: no first token")
        row: Row = {"label": label, "measured_ms": measured_ms}
        row |= {name: (said or 0.0) / measured_ms - 1 for name, said in said_ms.items()}
        keep(folder / "results.jsonl", row)


def show(folder: Path) -> None:
    """Every run, then median and worst absolute errors."""
    rows = kept(folder / "results.jsonl")
    print(f"{'':58} {'measured':>10} {'predicted':>10} {'simulated':>10} {'whole':>10}")
    for row in rows:
        errors = " ".join(f"{row[name]:+10.1%}" for name in ERRORS)
        print(f"{row['label']:58} {row['measured_ms']:7.1f} ms {errors}")
    for said, share in (("median", 0.5), ("worst", 1.0)):
        each = (quantile((row[name] for row in rows), share) for name in ERRORS)
        print(f"{said:58} {'':10} {' '.join(f'{value:10.1%}' for value in each)}")


def main() -> None:
    """Measure what is asked for, then print what is kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="keeps profiles, manifest and every run")
    parser.add_argument("--first", type=int, default=0, help="skip that many configurations")
    parser.add_argument("--count", type=int, default=10, help="0 prints what is there")
    options = parser.parse_args()
    if options.count:
        measure(options.folder, options.first, options.count)
    show(options.folder)


if __name__ == "__main__":
    main()
