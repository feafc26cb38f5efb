"""What ``planner run`` says: predicted beside measured, down to stages and hops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from planner.core.metrics import LATENCIES, STATISTICS, Metrics
from planner.core.words import figure, label
from planner.report.drafts import DraftTerms
from planner.report.hosts import HostSpeeds, StepSpeed, hosts_table
from planner.report.starts import StageStart, starts_text
from planner.report.steadiness import Steadiness
from planner.report.tables import Lines, plain_metrics, signed, table
from planner.report.terms import (
    RecoveryTerm,
    Term,
    recoveries_table,
    relative_error,
    terms_table,
)
from planner.report.verified import VerificationTerms

if TYPE_CHECKING:
    from rich.table import Table

CHECKED = ("mean_tpot_ms", "mean_ttft_ms", "output_throughput")
"""Metrics that ``--max-error`` looks at."""

_SHOWN = (
    "mean_ttft_ms",
    "p95_ttft_ms",
    "mean_tpot_ms",
    "p95_tpot_ms",
    "mean_e2el_ms",
    "p95_e2el_ms",
    "output_throughput",
)
_COMPARED = (
    *(f"{statistic}_{name}_ms" for name in LATENCIES for statistic in STATISTICS),
    "output_throughput",
    "total_token_throughput",
    "request_throughput",
    "request_goodput",
)


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run with what was predicted of it."""

    analytic: Metrics
    predicted: Metrics
    """Of a simulation of the same requests."""
    measured: Metrics
    stages: tuple[Term, ...]
    hops: tuple[Term, ...]
    coordinator: tuple[Term, ...]
    sessions: Mapping[str, int]
    threads: int
    answers: tuple[tuple[str, str], ...] = field(default=())
    """Prompts and what the model wrote, where prompts were given."""
    recoveries: tuple[RecoveryTerm, ...] = ()
    verification: VerificationTerms = field(default_factory=VerificationTerms)
    hosts: tuple[HostSpeeds, ...] = ()
    """What the hosts reached when the run began, where they were read."""
    starts: tuple[StageStart, ...] = ()
    """What it took to hold the stages."""
    rehearsed: tuple[StepSpeed, ...] = ()
    """Steps that the nodes made of their stages then."""
    planned: Metrics | None = None
    """Of a simulation with the speeds of the profiles, where ``predicted`` has those found."""
    hindsight: Metrics | None = None
    """Of a simulation with steps as fast as they were in the run."""
    steadiness: tuple[Steadiness, ...] = ()
    """How far the speeds of the hosts wandered, where stages rehearsed."""
    draft: tuple[Term, ...] = ()
    """Steps of the draft model at the coordinator."""
    drafts: DraftTerms | None = None
    """How its guesses turned out, or those that were looked up."""
    unserved: str = ""
    """Why requests were lost with their node; empty where none was."""

    @property
    def error(self) -> dict[str, float]:
        """Signed error of each metric that both know."""
        return self._errors(self.predicted)

    def _errors(self, predicted: Metrics) -> dict[str, float]:
        errors = {
            name: relative_error(getattr(predicted, name), getattr(self.measured, name))
            for name in _COMPARED
        }
        return {name: value for name, value in errors.items() if value is not None}

    def beyond(self, limit: float) -> dict[str, float | None]:
        """Checked metrics whose error is unknown or larger than ``limit`` (a fraction)."""
        errors = {name: self.error.get(name) for name in CHECKED}
        return {
            name: error for name, error in errors.items() if error is None or abs(error) > limit
        }

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "predicted": plain_metrics(self.predicted),
            "analytic": plain_metrics(self.analytic),
            "measured": plain_metrics(self.measured),
            "error": self.error,
            "starts": [asdict(one) for one in self.starts],
            "hosts": [host.document() for host in self.hosts],
            "rehearsed": [step.document() for step in self.rehearsed],
            **self._other("planned", self.planned),
            **self._other("hindsight", self.hindsight),
            "steadiness": [host.document() for host in self.steadiness],
            "sessions": dict(self.sessions),
            "recoveries": [term.document() for term in self.recoveries],
            "verification": self.verification.document(),
            "stages": [term.document() for term in self.stages],
            "hops": [term.document() for term in self.hops],
            "coordinator": [term.document() for term in self.coordinator],
            "draft": [term.document() for term in self.draft],
            **({"speculation": self.drafts.document()} if self.drafts else {}),
            "threads": self.threads,
            "answers": [{"prompt": prompt, "text": text} for prompt, text in self.answers],
        }

    def _other(self, name: str, metrics: Metrics | None) -> dict[str, Any]:
        if metrics is None:
            return {}
        return {name: plain_metrics(metrics), f"{name}_error": self._errors(metrics)}

    def text(self) -> Lines:
        """Texts and tables for people."""
        for prompt, answer in self.answers:
            yield f"> {prompt}"
            yield answer
            yield ""
        started, completed = self.sessions["started"], self.sessions["completed"]
        yield f"{completed} of {started} requests completed, {self.sessions['lost']} lost"
        yield ""
        yield self._metrics()
        yield ""
        if self.starts:
            yield starts_text(self.starts)
            yield ""
        if self.hosts:
            yield "The hosts when the run began; expected is what is predicted from both"
            yield hosts_table(self.hosts, self.rehearsed)
            yield ""
        yield from self._steadiness()
        yield "Steps of the stages, mean over the batches that ran"
        yield terms_table("stage", (*self.stages, *self.coordinator, *self.draft))
        if self.hops:
            yield ""
            yield "Hops, mean over the messages that went"
            yield terms_table("hop", self.hops)
        if self.drafts:
            yield from self.drafts.text()
        if self.recoveries:
            yield ""
            yield "Lost stages and their recovery, counted from detection"
            yield recoveries_table(self.recoveries)
        yield from self.verification.text()
        sentence = self._furthest()
        if sentence:
            yield ""
            yield sentence

    def _steadiness(self) -> Iterator[str]:
        """How restless hosts were, and which part of the error that is."""
        for host in self.steadiness:
            yield from host.text()
        if self.hindsight is not None:
            left = self._errors(self.hindsight)
            named = (
                f"{label(name)} {signed(left.get(name))} instead of {signed(self.error.get(name))}"
                for name in CHECKED
            )
            told = "; ".join(named)
            yield f"Errors with the step times of the run itself: {told}."
            yield ""

    def _metrics(self) -> Table:
        columns = {
            ">as probed": self.planned,
            ">analytic": self.analytic,
            ">simulated": self.predicted,
            ">measured": self.measured,
        }
        said = {head: metrics for head, metrics in columns.items() if metrics is not None}
        rows = table("", *said, ">error")
        for name in _SHOWN:
            cells = (figure(name, getattr(metrics, name)) for metrics in said.values())
            rows.add_row(label(name), *cells, signed(self.error.get(name)))
        return rows

    def _furthest(self) -> str:
        """Which term brought most of the error, in words."""
        terms = (*self.stages, *self.hops, *self.coordinator, *self.draft)
        worst = max(terms, key=lambda term: term.missing_s, default=None)
        if worst is None or worst.missing_s == 0:
            return ""
        return (
            f"Furthest off: {worst.phase} at {worst.where}, {1e3 * worst.predicted_s:.3g} ms "
            f"predicted and {1e3 * worst.measured_s:.3g} ms measured, {worst.steps} times."
        )
