"""A scenario or a manifest as tables: machines, lines, requests, requirements, plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from planner.core.cluster import Churn, Link, Node
from planner.core.plan import Plan
from planner.core.prediction import Prediction
from planner.core.problem import Problem
from planner.core.speculation import Speculation
from planner.core.units import show
from planner.core.words import figure, label
from planner.core.workload import Lengths, Workload
from planner.report.churn import churn_text
from planner.report.tables import Lines, table

if TYPE_CHECKING:
    from rich.table import Table

_MOST_ROWS = 24
_FIGURES = {
    "mean_ttft_ms",
    "mean_tpot_ms",
    "mean_e2el_ms",
    "output_throughput",
    "availability",
    "usd_per_hour",
    "usd_per_million_output_tokens",
}


@dataclass(frozen=True, slots=True)
class ShowReport:
    """A problem, with what its file says beside it."""

    problem: Problem
    lines: Sequence[Link]
    """What lies between the machines."""
    description: str = ""
    alternatives: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    """File by ``KIND/NAME`` of each profile."""
    plan: Plan | None = None
    prediction: Prediction | None = None

    def text(self) -> Lines:
        """Texts and tables for people."""
        problem = self.problem
        yield f"{problem.name}  (problem {problem.digest[:12]})"
        if self.description:
            yield self.description
        yield ""
        yield self._facts()
        yield ""
        yield from _titled("Machines", self._machines(), len(problem.cluster.nodes))
        if self._churning():
            yield ""
            yield from _titled("Churn", self._churn(), 0)
        if self.lines:
            yield ""
            yield from _titled("Lines", self._lines(), len(self.lines))
        if self.plan:
            yield ""
            yield from _titled("Plan", self._stages(self.plan), len(self.plan.nodes))
        if self.prediction:
            yield ""
            yield from _titled("Predicted", self._predicted(self.prediction), 0)
        if self.sources:
            yield ""
            yield from _titled("Profiles", self._profiles(), len(self.sources))

    def _facts(self) -> Table:
        problem = self.problem
        table = _grid()
        table.add_row("Model", f"{problem.model.id}, {problem.model.num_hidden_layers} layers")
        table.add_row("Quantizations", ", ".join(quant.id for quant in problem.quants))
        table.add_row("Engine", f"{problem.engine.name} ({problem.engine.version})")
        table.add_row("Coordinator", " or ".join(problem.cluster.seats))
        if problem.serving.speculation is not None:
            table.add_row("Drafts", _drafts(problem, problem.serving.speculation))
        table.add_row("Requests", _arrivals(problem.workload))
        table.add_row("Prompt", _length(problem.workload.prompt))
        table.add_row("Output", _length(problem.workload.output))
        if problem.workload.sessions is not None:
            table.add_row("Sessions", _sessions(problem.workload))
        must = problem.requirements.must_have.model_dump(exclude_none=True, exclude_defaults=True)
        for name, value in must.items():
            table.add_row("Must have", f"{_bare(name)} {_figure(name, value)}")
        for one in self.alternatives:
            table.add_row("Alternative", one)
        return table

    def _machines(self) -> Table:
        rows = table("node", "device", ">memory", ">bandwidth", "region", ">price", "churn")
        for node in self.problem.cluster.nodes[:_MOST_ROWS]:
            rows.add_row(*self._machine(node))
        return rows

    def _machine(self, node: Node) -> tuple[str, ...]:
        if node.device is None:
            return node.id, "none", "", "", node.region, _price(node), node.churn or ""
        device = self.problem.cluster.device(node.id)
        each_bytes = device.memory_bytes if node.memory_bytes is None else node.memory_bytes
        times = f"{node.count} x " if node.count > 1 else ""
        return (
            node.id,
            f"{times}{node.device}",
            times + show(each_bytes, "bytes"),
            times + show(device.memory_bytes_per_s, "bytes_per_s"),
            node.region,
            _price(node),
            node.churn or "",
        )

    def _churning(self) -> list[Churn]:
        """The churn profiles of its nodes."""
        used = {node.churn for node in self.problem.cluster.nodes}
        return [profile for profile in self.problem.cluster.churn if profile.id in used]

    def _churn(self) -> Table:
        table = _grid()
        for profile in self._churning():
            table.add_row(profile.id, churn_text(profile))
        return table

    def _lines(self) -> Table:
        rows = table("from", "to", ">one way", ">bandwidth", ">jitter", ">loss", ">egress")
        for link in self.lines[:_MOST_ROWS]:
            rows.add_row(
                link.src,
                link.dst,
                show(link.one_way_latency_s, "s"),
                _bits(link.bytes_per_s),
                show(link.jitter_s, "s") if link.jitter_s else "",
                f"{link.loss:.2%}" if link.loss else "",
                f"{link.usd_per_byte * 1e9:.3g} USD/GB" if link.usd_per_byte else "",
            )
        return rows

    def _stages(self, plan: Plan) -> Table:
        rows = table(">pipeline", "node", "layers", ">of", "quant", ">sequences")
        for index, pipeline in enumerate(plan.pipelines):
            for stage in pipeline.stages:
                rows.add_row(
                    str(index),
                    stage.node,
                    f"{stage.start} to {stage.stop - 1}",
                    str(self.problem.model.num_hidden_layers),
                    stage.quant,
                    str(pipeline.max_num_seqs),
                )
        for standby in plan.standbys:
            place = f"stands by for stage {standby.stage}"
            rows.add_row(str(standby.pipeline), standby.node, place, "", "", "")
        return rows

    def _predicted(self, prediction: Prediction) -> Table:
        table = _grid()
        for name, value in prediction.metrics.model_dump(include=_FIGURES).items():
            if value is not None:
                table.add_row(label(name), figure(name, value))
        return table

    def _profiles(self) -> Table:
        table = _grid()
        for key, file in self.sources.items():
            table.add_row(key, file)
        return table


def _titled(title: str, table: Table, rows: int) -> Lines:
    yield title
    yield table
    if rows > _MOST_ROWS and table.row_count < rows:
        yield f"... and {rows - table.row_count} more; --format json lists all"


def _grid() -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _price(node: Node) -> str:
    if node.usd_per_hour:
        return f"{node.usd_per_hour:.4g} USD/h"
    if node.usd_per_joule:
        return f"{node.usd_per_joule * 3.6e6:.4g} USD/kWh"
    return ""


def _bits(bytes_per_s: float) -> str:
    megabits = bytes_per_s * 8 / 1e6
    return f"{megabits / 1e3:.4g} Gbit/s" if megabits >= 1e3 else f"{megabits:.4g} Mbit/s"


def _drafts(problem: Problem, speculation: Speculation) -> str:
    """How many tokens are drafted for a check, by what, and how often they are right."""
    most = "at most " if speculation.at_most else ""
    by = problem.draft.id if problem.draft else "looking up"
    said = f"{most}{speculation.draft_tokens} for a check by {by}, "
    said += f"{speculation.acceptance:.3g} of them right"
    if speculation.draft_token_s:
        said += f", {show(speculation.draft_token_s, 's')} each"
    if speculation.checks_in_flight > 1:
        said += f", {speculation.checks_in_flight} checks in flight"
    return said


def _arrivals(workload: Workload) -> str:
    values = workload.arrivals.model_dump(exclude_none=True, exclude_defaults=True)
    kind = values.pop("kind", workload.arrivals.kind)
    rest = ", ".join(f"{_bare(name)} {_figure(name, value)}" for name, value in values.items())
    return f"{kind}: {rest}" if rest else str(kind)


def _length(lengths: Lengths) -> str:
    mean = f"{lengths.mean_tokens:.0f} tokens in the mean"
    return f"{lengths.kind}, {mean}, at most {lengths.max_tokens}"


def _sessions(workload: Workload) -> str:
    sessions, prompts = workload.sessions, workload.prompts
    assert sessions is not None
    return (
        f"{workload.turns_per_session:.3g} turns in the mean, {show(sessions.think_s, 's')} to "
        f"think, whole prompts of {prompts.mean_tokens:.0f} tokens in the mean, "
        f"at most {sessions.max_tokens} tokens"
    )


def _bare(name: str) -> str:
    return "rate" if name == "requests_per_s" else name.removesuffix("_s")


def _figure(name: str, value: object) -> str:
    """A value with the unit that its name ends in."""
    if isinstance(value, float) and name == "requests_per_s":
        return show(value, "requests_per_s")
    if isinstance(value, float) and name.endswith("_s"):
        return show(value, "s")
    if isinstance(value, (list, tuple)):
        return ", ".join(str(one) for one in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
