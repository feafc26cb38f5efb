"""Helix's clusters as problems of ours: latency, KV memory, and stage times fitted to theirs.

Each type of machine is one device with the memory, bandwidth and arithmetic of all its chips. Its
calibration is fitted to the authors' layer times of Llama-2-70B with the code behind ``planner
calibrate``; decoding sequences are taken to have ``CONTEXT`` tokens of KV cache, which the table
does not say. A placement of overlapping ranges becomes pipelines of distinct nodes: the widest path
of its flow first, then that of what is left.
"""

from __future__ import annotations

import csv
import itertools
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from planner.core.cluster import Cluster, Link, Node
from planner.core.cost import Batch
from planner.core.cost.measured import MeasuredStep
from planner.core.device import Device
from planner.core.engine import Calibration, Efficiency
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem, Serving
from planner.core.requirements import Requirements
from planner.core.workload import Closed, Fixed, Workload
from planner.files.catalogue import Catalogue, Kind
from planner.fit.constants import Free
from planner.fit.steps import fit
from planner.plan.choices import seats_to_try
from planner.plan.flow import Array, FlowProblem, Windows, greatest_flow
from planner.plan.predict import predict
from planner.plan.promise import as_cost, objective_value
from planner.plan.room import overfull
from planner.plan.shares import shared

CHIPS = {
    "A100": ("a100-sxm-40gb", 1),
    "L4": ("l4", 1),
    "L4x2": ("l4", 2),
    "T4": ("t4", 1),
    "T4x2": ("t4", 2),
    "T4x4": ("t4", 4),
    "V100": ("v100-sxm-16gb", 1),
}
PROMPT, OUTPUT = 750, 240
"""Mean lengths that the authors plan for."""
CONTEXT = PROMPT + OUTPUT // 2
CURVE = (32.0, 128.0, 512.0, 2048.0, 8192.0)
"""Tokens in a step at which the share of the peak arithmetic is fitted."""
CARDS = Catalogue(Path(), ())


def card(kind: Kind, name: str) -> Any:
    """A bundled card."""
    return CARDS.get(kind, name)[0]


@dataclass(frozen=True, slots=True)
class Machine:
    """A type of machine, and how far its fitted layer times are off."""

    device: Device
    calibration: Calibration
    errors: tuple[float, ...]


def machines(times: Path, names: list[str]) -> dict[str, Machine]:
    """Machines fitted to the layer times in a file of model, machine, phase, tokens, time_ms."""
    lines = [line for line in times.read_text().splitlines() if not line.startswith("#")]
    rows = [row for row in csv.DictReader(lines) if row["model"] == "llama2_70b"]
    return {name: _machine(name, rows) for name in names}


def _machine(name: str, rows: list[dict[str, str]]) -> Machine:
    model, quant = card("models", "llama-2-70b"), card("quants", "bf16")
    chip_name, chips = CHIPS[name]
    chip = card("devices", chip_name)
    device = chip.model_copy(
        update={
            "id": name.lower(),
            "memory_bytes": chip.memory_bytes * chips,
            "memory_bytes_per_s": chip.memory_bytes_per_s * chips,
            "flop_per_s": {dtype: peak * chips for dtype, peak in chip.flop_per_s.items()},
        }
    )
    steps = []
    for row in rows:
        if row["machine"] == name.lower():
            tokens = float(row["tokens"])
            prompts = max(1.0, tokens / PROMPT)
            batch = (
                Batch("prefill", prompts, tokens, 0)
                if row["phase"] == "prompt"
                else Batch.decode(tokens, tokens * CONTEXT)
            )
            seconds = float(row["time_ms"]) / 1e3
            steps.append(MeasuredStep(device, model, 40, 41, quant, batch, seconds))
    start = Calibration(
        device=device.id,
        efficiency={"*": Efficiency(bandwidth=0.8, compute=tuple((at, 0.5) for at in CURVE))},
        source="fitted to the layer times of Thesys-lab/Helix-ASPLOS25",
    )
    fitted = fit(steps, start, Free(("layer_overhead_s",), bandwidth=("*",), compute=("*",)))
    return Machine(device, fitted.calibration, fitted.errors)


def serving(
    name: str,
    types: tuple[str, ...],
    bytes_per_s: Array,
    latency_s: Array,
    known: dict[str, Machine],
    users: int,
) -> Problem:
    """Throughput for that many users; index -2 of the tables is the source, -1 the sink."""
    engine = card("engines", "vllm")
    used = {kind: known[kind] for kind in dict.fromkeys(types)}
    nodes = [Node(id="gateway")]
    nodes += [
        # zones of their own: 24 alike nodes in three classes are too many for the exact search
        Node(id=f"n{at:02}", device=kind.lower(), zone=f"z{at:02}")
        for at, kind in enumerate(types)
    ]
    return Problem(
        name=f"helix-{name}",
        cluster=Cluster(
            devices=tuple(machine.device for machine in used.values()),
            nodes=tuple(nodes),
            links=_links(bytes_per_s, latency_s),
            coordinator="gateway",
        ),
        model=card("models", "llama-2-70b"),
        engine=engine.model_copy(
            update={"calibrations": tuple(one.calibration for one in used.values())}
        ),
        quants=(card("quants", "bf16"),),
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=users),
            prompt=Fixed(tokens=PROMPT),
            output=Fixed(tokens=OUTPUT),
            requests=10 * users,
        ),
        requirements=Requirements(objective="throughput"),
        serving=Serving(micro_batches=8),
    )


def _links(bytes_per_s: Array, latency_s: Array) -> tuple[Link, ...]:
    """One for all where all lines are alike, else one for each pair."""
    pairs = [
        (src, dst)
        for src, dst in np.argwhere(bytes_per_s > 0)
        if src < len(bytes_per_s) - 1 and dst != len(bytes_per_s) - 2
    ]
    kinds = {(float(bytes_per_s[pair]), float(latency_s[pair])) for pair in pairs}

    def link(src: str, dst: str, rate: float, away_s: float) -> Link:
        return Link(src=src, dst=dst, bandwidth=rate, one_way_latency=away_s)

    if len(kinds) == 1:
        return (link("*", "*", *kinds.pop()),)
    ids = [f"n{at:02}" for at in range(len(bytes_per_s) - 2)] + ["gateway", "gateway"]
    return tuple(
        link(ids[src], ids[dst], float(bytes_per_s[src, dst]), float(latency_s[src, dst]))
        for src, dst in pairs
    )


def as_plan(problem: Problem, flows: FlowProblem, windows: Windows) -> Plan | None:
    """The best plan of ours, as predicted, along a placement's paths; None where none fits."""
    best, least = None, np.inf
    paths = _paths(flows, windows)
    for replicas in range(1, len(paths) + 1):
        for seats in seats_to_try(problem, replicas):
            plan = Plan(
                pipelines=tuple(_pipeline(problem, path, seats) for path in paths[:replicas])
            )
            if overfull(problem, plan):
                continue
            value = objective_value(problem, predict(problem, plan).metrics)
            if value is not None and as_cost(problem, value) < least:
                best, least = plan, as_cost(problem, value)
            break
    return best


def routed(problem: Problem, plan: Plan) -> Plan:
    """The plan with the weights with which its pipelines serve most, as predicted."""

    def cost(one: Plan) -> float:
        value = objective_value(problem, predict(problem, one).metrics)
        return math.inf if value is None else as_cost(problem, value)

    return min(plan, shared(problem, plan), key=cost)


def _pipeline(problem: Problem, path: list[tuple[int, int, int]], seats: int) -> Pipeline:
    quant = problem.quants[0].id
    return Pipeline(
        stages=tuple(
            Stage(node=f"n{node:02}", start=start, stop=stop, quant=quant)
            for node, start, stop in path
        ),
        max_num_seqs=seats,
        micro_batches=min(problem.serving.micro_batches, seats),
    )


def _paths(flows: FlowProblem, windows: Windows) -> list[list[tuple[int, int, int]]]:
    """Widest paths of the greatest flow, each of nodes that no other uses."""
    left, found = windows.copy(), []
    while True:
        flow = greatest_flow(flows, left)
        if flow.value <= 0:
            return found
        order = sorted(np.nonzero(left[:, 1])[0], key=lambda node: (left[node, 1], node))
        width, came = flow.enter.copy(), np.full(len(left), -1)
        for node in order:
            via = np.minimum(width, flow.between[:, node])
            if via.max() > width[node]:
                width[node], came[node] = via.max(), via.argmax()
        ends = np.where(left[:, 1] == flows.layers, width, 0.0)
        node, path = int(ends.argmax()), []
        while node >= 0:
            path.append(node)
            node = int(came[node])
        path.reverse()
        stops = [0, *(int(left[node, 1]) for node in path)]
        pairs = zip(path, itertools.pairwise(stops), strict=True)
        found.append([(node, start, stop) for node, (start, stop) in pairs])
        left[path] = 0


def fit_table(known: dict[str, Machine]) -> list[str]:
    """Markdown of how well the fitted layer times meet the authors'."""
    lines = ["| machine | points | median error | worst |", "|---|---|---|---|"]
    for name, machine in known.items():
        sizes = [abs(error) for error in machine.errors]
        lines.append(
            f"| {name} | {len(sizes)} | {statistics.median(sizes):.1%} | {max(sizes):.1%} |"
        )
    return lines
