"""What the hosts of a run were found to reach, beside what their profiles say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.core.cost.batch import Batch
from planner.core.cost.measured import MeasuredStep
from planner.core.drift import Speeds, probed
from planner.core.forecast import Forecast, Rehearsal, forecasts
from planner.core.problem import Problem
from planner.core.units import show
from planner.report.tables import signed, table

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class HostSpeeds:
    """Nodes that were read together: as probed, and as found when the run began."""

    nodes: tuple[str, ...]
    probed: Speeds
    found: Speeds

    def document(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "nodes": list(self.nodes),
            **{
                name: {"probed": getattr(self.probed, name), "found": getattr(self.found, name)}
                for name in ("memory_bytes_per_s", "flop_per_s", "call_s")
            },
        }


def host_speeds(problem: Problem, found: Mapping[str, Speeds]) -> tuple[HostSpeeds, ...]:
    """By host, of the nodes whose devices were probed."""
    together: dict[tuple[Speeds, Speeds], list[str]] = {}
    for name, now in found.items():
        if problem.cluster.node(name).device is None:
            continue
        then = probed(problem.cluster.device(name))
        if then is not None:
            together.setdefault((then, now), []).append(name)
    return tuple(HostSpeeds(tuple(names), *pair) for pair, names in together.items())


@dataclass(frozen=True, slots=True)
class StepSpeed:
    """A step of the stage that a node holds: as its profile has it, and as found."""

    node: str
    batch: Batch
    probed_s: float
    found_s: float
    expected_s: float
    """Of the run to come, by both."""
    weight: float
    """How much of what was found is believed."""
    draft: str = ""
    """Id of the draft model whose step it is; empty for a stage's."""

    def document(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "node": self.node,
            "phase": self.batch.phase,
            "sequences": self.batch.sequences,
            "new_tokens": self.batch.new_tokens,
            "probed_s": self.probed_s,
            "found_s": self.found_s,
            "expected_s": self.expected_s,
            "weight": self.weight,
            "draft": self.draft or None,
        }

    @property
    def title(self) -> str:
        """What was computed, in words."""
        whose = f", {self.draft}" if self.draft else ""
        if self.batch.phase == "prefill":
            return f"a prompt of {self.batch.new_tokens:g} tokens{whose}"
        return f"a decode step of {self.batch.sequences:g}{whose}"


def step_speeds(
    problem: Problem, paces: Mapping[str, Rehearsal], ahead_s: float = math.inf
) -> tuple[StepSpeed, ...]:
    """Of every node that rehearsed, the largest prompt and decode step of each model."""
    known = forecasts(problem, paces, ahead_s).values()
    forecast = {node: one for one in known for node in one.rehearsals}
    return tuple(
        _step_speed(problem, node, forecast[node], step)
        for node, rehearsal in paces.items()
        if node in forecast
        for step in _largest(rehearsal)
    )


def _largest(rehearsal: Rehearsal) -> list[MeasuredStep]:
    """Prompt first, then the decode step, of every model."""
    found: dict[tuple[str, str], MeasuredStep] = {}
    for step in rehearsal.steps:
        key = step.model.id, step.batch.phase
        if key not in found or step.batch.new_tokens > found[key].batch.new_tokens:
            found[key] = step
    return list(found.values())


def _step_speed(problem: Problem, node: str, forecast: Forecast, step: MeasuredStep) -> StepSpeed:
    series = node, step.batch.phase
    probed_s, seen = step.predicted_s(problem.calibration(node)), forecast.seen(series)
    return StepSpeed(
        node,
        step.batch,
        probed_s,
        probed_s * math.exp(seen),
        probed_s * math.exp(forecast.weight(series) * seen),
        forecast.weight(series),
        "" if step.model.id == problem.model.id else step.model.id,
    )


def hosts_table(hosts: Iterable[HostSpeeds], steps: Iterable[StepSpeed] = ()) -> Table:
    """One row per host and reading, then one per node and step."""
    rows = table("host of", "", ">probed", ">found", ">change", ">expected")
    for host in hosts:
        for said, name, unit in (
            ("streaming read", "memory_bytes_per_s", "bytes_per_s"),
            ("products in bf16", "flop_per_s", "flop_per_s"),
            ("a small operation", "call_s", "s"),
        ):
            then, now = getattr(host.probed, name), getattr(host.found, name)
            cells = [show(then, unit), show(now, unit), signed(now / then - 1)]
            rows.add_row(", ".join(host.nodes), said, *cells)
    for step in steps:
        change = signed(step.found_s / step.probed_s - 1)
        seconds = (step.probed_s, step.found_s, step.expected_s)
        probed, found, expected = (show(value, "s") for value in seconds)
        cells = [probed, found, change, expected]
        rows.add_row(step.node, step.title, *cells)
    return rows
