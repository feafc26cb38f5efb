"""What ``planner simulate`` says: what users felt, what was busy, and how targets compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from planner.core.cost.ledger import CostLine
from planner.core.cost.verification import VerificationCost
from planner.core.metrics import LATENCIES, STATISTICS, Metrics
from planner.core.requirements import Miss, MustHave
from planner.core.words import LABELS, figure, label, missed_text
from planner.report.advice import (
    NO_PRICE,
    advice_document,
    comparison,
    costs_table,
    flips_text,
    pareto_text,
    tornado_text,
    verdict_text,
)
from planner.report.audits import audits_text
from planner.report.capacity import capacity_document, capacity_text
from planner.report.paired import paired, paired_text
from planner.report.spent import busy_table, spent_text
from planner.report.tables import Lines, grid, plain_metrics, table
from planner.sim.failures import Failure
from planner.sim.result import Recovery

if TYPE_CHECKING:
    from rich.table import Table

    from planner.advice.advise import Advice
    from planner.advice.alternative import Alternative
    from planner.sim.capacity import Capacity

_COMPARED = (
    "usd_per_million_output_tokens",
    "mean_tpot_ms",
    "p95_ttft_ms",
    "output_throughput",
    "mean_ttft_ms",
    "mean_e2el_ms",
    "availability",
    "usd_per_hour",
)
_RATES = (
    "output_throughput",
    "total_token_throughput",
    "request_throughput",
    "request_goodput",
    "completed",
    "failed",
    "availability",
)


@dataclass(frozen=True, slots=True)
class Target:
    """One way to serve the requests, and what came of it."""

    name: str
    kind: str
    """``manifest``, ``scenario`` or ``api``."""
    metrics: Metrics
    confidence: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Interval of each metric over the replications."""
    each: tuple[Metrics, ...] = ()
    """Metrics of every replication; those of other targets had the same random numbers."""
    cost: Mapping[str, float] = field(default_factory=dict)
    """USD per hour by part."""
    failures: Sequence[Failure] = ()
    """Why requests failed, over all replications."""
    events: Mapping[str, int] = field(default_factory=dict)
    prefix_tokens: tuple[int, int] = (0, 0)
    """Tokens looked up in prefix caches and found there, over all replications."""
    spent_s: Mapping[str, float] = field(default_factory=dict)
    """Where the time of a request went, in the mean."""
    recoveries: Sequence[Recovery] = ()
    """Lost stages that came to work again, over all replications."""
    verification: VerificationCost | None = None
    """What audits come to; None where nodes are taken at their word."""
    stage_busy: Mapping[str, float] = field(default_factory=dict)
    link_busy: Mapping[str, float] = field(default_factory=dict)
    draft_busy: Mapping[str, float] = field(default_factory=dict)
    missed: tuple[Miss, ...] = ()
    """Must-haves that do not hold."""
    unknown: tuple[str, ...] = ()
    """Metrics that must-haves bound and nobody published."""
    quality: float | None = None
    """Share of the unquantised quality that is kept."""
    lines: tuple[CostLine, ...] = ()
    """What it costs, by cause and place."""
    machines: tuple[str, ...] = ()
    """Nodes that hold layers."""
    source: str = ""
    """Where a price is from, and of what day."""
    short_run: str = ""
    """Why it was too short to say how often nodes are there; empty where it was not."""
    capacity: Capacity | None = None
    """The largest load it takes, where that was asked for: the one it is simulated under."""

    def document(self) -> dict[str, Any]:
        """The JSON object of this target."""
        return {
            "name": self.name,
            "kind": self.kind,
            "metrics": plain_metrics(self.metrics),
            "confidence": {name: list(ends) for name, ends in self.confidence.items()},
            "cost": dict(self.cost),
            "cost_lines": [line.model_dump(mode="json") for line in self.lines],
            "quality": self.quality,
            "machines": list(self.machines),
            "unknown": list(self.unknown),
            "failures": [asdict(failure) for failure in self.failures],
            "events": dict(self.events),
            "prefix_cache": dict(
                zip(("asked_tokens", "found_tokens"), self.prefix_tokens, strict=True)
            ),
            "latency_parts_ms": {name: 1e3 * time_s for name, time_s in self.spent_s.items()},
            "recoveries": [
                {
                    "node": one.node,
                    "detect_ms": (one.detected_s - one.lost_s) * 1e3,
                    "recover_ms": (one.recovered_s - one.detected_s) * 1e3,
                }
                for one in self.recoveries
            ],
            "verification": (
                self.verification.model_dump(mode="json") if self.verification else None
            ),
            "utilisation": {
                "nodes": dict(self.stage_busy),
                "links": dict(self.link_busy),
                "drafting": dict(self.draft_busy),
            },
            "source": self.source,
            "short_run": self.short_run,
            **({"capacity": capacity_document(self.capacity)} if self.capacity else {}),
        }


@dataclass(frozen=True, slots=True)
class SimulateReport:
    """Targets that served the same requests; the first one is what was asked about."""

    targets: Sequence[Target]
    simulated_s: float
    wall_s: float
    """In the JSON document only."""
    events: int
    replications: int = 1
    must_have: MustHave = field(default_factory=MustHave)
    left_out: Sequence[tuple[str, str]] = ()
    """Alternatives that could not be simulated, with the reason."""
    advice: Advice | None = None
    """What to do, where there is something to compare with."""
    prices: Sequence[Mapping[str, str]] = ()
    """Prices from lists that it rests on: what, value, as_of, source, file."""

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "targets": [target.document() for target in self.targets],
            "comparison": [
                _compared(self.targets[0]),
                *(_compared(target, self.targets[0]) for target in self.targets[1:]),
            ],
            "left_out": [{"name": name, "reason": why} for name, why in self.left_out],
            **(advice_document(self.advice) if self.advice else {}),
            "prices": [dict(price) for price in self.prices],
            "replications": self.replications,
            "engine": {
                "simulated_s": self.simulated_s,
                "wall_s": self.wall_s,
                "events": self.events,
            },
        }

    def text(self) -> Lines:
        """Texts and tables for people."""
        first = self.targets[0]
        able = [(one.name, one.capacity, one.metrics) for one in self.targets if one.capacity]
        if able:
            yield from capacity_text(able)
        elif self.advice is not None:
            yield from verdict_text(self.advice)
            yield ""
            yield "Compared, on the same requests"
            yield from comparison(self.advice)
        elif len(self.targets) > 1:
            yield "Compared, on the same random numbers"
            yield _side_by_side(self.targets)
        if not able:
            yield from paired_text([(one.name, one.each) for one in self.targets])
        for name, why in self.left_out:
            yield f"  {name} is left out: {why}"
        if self.advice is not None or self.left_out or len(self.targets) > 1 or able:
            yield ""
        yield from _felt(first, self.replications)
        yield from audits_text(first.verification)
        yield ""
        yield from self._must_haves(first)
        if first.stage_busy or first.link_busy:
            yield ""
            yield "Busy"
            yield busy_table(first.stage_busy, first.draft_busy, first.link_busy)
        yield from self._advised()

    def _advised(self) -> Lines:
        """What would change the choice, what moves the price, what is traded, what it rests on."""
        if self.advice is None:
            return
        yield ""
        yield "What would change the choice"
        yield from flips_text(self.advice)
        if self.advice.swings:
            yield ""
            yield f"What moves the price of {self.targets[0].name}, USD/Mtok"
            yield from tornado_text(self.advice)
        yield ""
        yield "Price against speed, availability and quality"
        yield from pareto_text(self.advice.points)
        if self.prices:
            yield ""
            yield "Prices"
            rows = grid("<", ">", "<", "<")
            for price in self.prices:
                rows.add_row(f"  {price['what']}", price["value"], price["as_of"], price["source"])
            yield rows

    def _must_haves(self, first: Target) -> Lines:
        if first.missed:
            yield "Must-haves missed"
            yield from (f"  {missed_text(miss)}" for miss in first.missed)
        elif self.must_have == MustHave():
            yield "Must-haves: none are asked."
        else:
            yield "Must-haves: all that bound a figure are met."


def api_target(found: Alternative) -> Target:
    """An API among the targets."""
    cost = {"tokens": found.metrics.usd_per_hour} if found.metrics.usd_per_hour else {}
    known = found.metrics.mean_tpot_ms is not None
    return Target(
        name=found.name,
        kind="api",
        metrics=found.metrics,
        cost=cost,
        missed=found.missed,
        unknown=found.unknown,
        lines=found.lines,
        source=f"price of {found.as_of}, {found.source}"
        + ("" if known else "; its speed is not known"),
    )


def _compared(target: Target, first: Target | None = None) -> dict[str, Any]:
    values = {name: getattr(target.metrics, name) for name in _COMPARED}
    missed = [miss.model_dump(mode="json") for miss in target.missed]
    said = {"name": target.name, "kind": target.kind, **values, "missed": missed}
    if first and (moved := paired(first.each, target.each, _COMPARED)):
        said["difference"] = moved
    return said


def _side_by_side(targets: Sequence[Target]) -> Table:
    """A row for each target; those that miss a must-have say which."""
    rows = table("", ">USD/Mtok", ">mean TPOT", ">p95 TTFT", ">tok/s", "must-haves")
    for target in targets:
        cells = [
            figure(name, getattr(target.metrics, name), unit=name.endswith("_ms"))
            for name in _COMPARED[:4]
        ]
        missed = ", ".join(label(miss.metric) for miss in target.missed)
        rows.add_row(target.name, *cells, f"misses {missed}" if missed else "met")
    return rows


def _felt(target: Target, replications: int) -> Lines:
    metrics = target.metrics
    times = f", mean of {replications} replications" if replications > 1 else ""
    yield f"{target.name}, simulated{times}"
    empty = sum(one.completed == 0 for one in target.each)
    if 0 < empty < len(target.each):
        yield f"  {empty} of them completed no request: latencies are those of the others"
    latencies = table("", *(f">{statistic}" for statistic in STATISTICS))
    for name in LATENCIES:
        row = (f"{statistic}_{name}_ms" for statistic in STATISTICS)
        latencies.add_row(
            f"  {LABELS[name]}", *(figure(metric, getattr(metrics, metric)) for metric in row)
        )
    yield latencies
    yield ""
    rates = grid("<", ">", "<")
    price = ("usd_per_million_output_tokens",) if metrics.usd_per_hour else ()
    for name in (*_RATES, *price):
        value = getattr(metrics, name)
        if value is not None:
            rates.add_row(f"  {LABELS[name]}", figure(name, value), _interval(target, name))
    asked, reused = target.prefix_tokens
    if reused:
        rates.add_row("  prompt tokens found in the cache", f"{reused / asked:.1%}", "")
    together = f" in all {replications} replications" if replications > 1 else ""
    for name, count in target.events.items():
        if count:
            rates.add_row(f"  {name}", str(count), together.strip())
    yield rates
    if target.short_run:
        yield f"  {target.short_run}"
    for failure in target.failures:
        yield f"  {failure.requests} failed{together}: {failure.reason}"
        yield f"    mend: {failure.mend}"
    if target.confidence:
        latency = ", ".join(
            f"{LABELS[name]} {_interval(target, f'mean_{name}_ms')}"
            for name in ("ttft", "tpot", "e2el")
            if f"mean_{name}_ms" in target.confidence
        )
        if latency:
            yield f"  95 % confidence intervals of the means: {latency}"
    yield from spent_text(target.spent_s)
    yield ""
    if not price:
        yield NO_PRICE
        return
    yield "Cost"
    yield costs_table(target.lines, target.cost)


def _interval(target: Target, metric: str) -> str:
    ends = target.confidence.get(metric)
    if ends is None:
        return ""
    low, high = (figure(metric, end, unit=False) for end in ends)
    return f"[{low}, {high}]"
