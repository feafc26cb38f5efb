"""How alternatives compare, what to do, and when that changes, as text and as a document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from planner.core.cost.ledger import CostLine
from planner.core.prediction import Prediction
from planner.core.units import plain
from planner.core.words import figure, label, missed_text
from planner.report.tables import Lines, bar, cost_rows, grid, table

if TYPE_CHECKING:
    from rich.table import Table

    from planner.advice.advise import Advice
    from planner.advice.alternative import Alternative
    from planner.advice.pareto import ParetoPoint

NO_PRICE = "Cost: nothing here has a price (nodes: price or electricity; links: egress)"
_MOST_LINES = 14
_LEAST = 1e-3
"""Share of the sum below which several lines are told as one."""
COST_WORDS = {
    "rent": "rent of working time",
    "idle": "idle capacity",
    "repeated": "failed and repeated work",
    "standby": "standby",
    "coordinator": "coordinator",
    "start_up": "start-up and loading",
    "rounding": "rounding up of rentals",
    "hardware": "hardware",
    "electricity": "electricity",
    "egress": "egress",
    "weights": "weights",
    "verification": "verification",
    "tokens": "tokens",
    "retries": "requests sent again",
}
"""Kinds of cost in words."""


def advice_document(advice: Advice) -> dict[str, Any]:
    """The keys that advice adds to a document."""
    return {
        "verdict": advice.verdict.model_dump(mode="json"),
        "flips": [flip.model_dump(mode="json") for flip in advice.flips],
        "tornado": [swing.model_dump(mode="json") for swing in advice.swings],
        "pareto": [point.model_dump(mode="json") for point in advice.points],
        "metered_hops": [hop.model_dump(mode="json") for hop in advice.hops],
    }


def verdict_text(advice: Advice) -> Lines:
    """What to do, before anything else."""
    yield from advice.verdict.text
    yield from egress_text(advice)


def egress_text(advice: Advice) -> Iterator[str]:
    """Hops whose egress alone costs more than the tokens do elsewhere."""
    if advice.cheapest is None:
        return
    name, usd = advice.cheapest
    yield from (hop.text(usd, name) + "." for hop in advice.hops if hop.usd > usd)


def comparison(advice: Advice) -> Lines:
    """A row for each alternative, and below what each misses."""
    rows = table(
        "", ">USD/Mtok", ">USD/h", ">TTFT", ">TPOT", ">goodput", ">availability", "must-haves"
    )
    for one in advice.alternatives:
        rows.add_row(*_row(one, one.name == advice.verdict.winner))
    yield rows
    yield "  * the choice; TTFT, TPOT: p50/p95 in ms; goodput in req/s; availability: share served"
    for one in advice.alternatives:
        said = "; ".join(_remarks(one))
        if said:
            yield f"  {one.name}: {said}"


def _row(one: Alternative, chosen: bool) -> list[str]:
    metrics = one.metrics
    met = "met"
    if one.missed:
        met = f"misses {len(one.missed)}"
    elif one.unknown:
        met = "not known"
    return [
        ("* " if chosen else "  ") + one.name,
        figure("usd", metrics.usd_per_million_output_tokens, unit=False),
        figure("usd", metrics.usd_per_hour, unit=False),
        _pair(metrics.median_ttft_ms, metrics.p95_ttft_ms, metrics.mean_ttft_ms),
        _pair(metrics.median_tpot_ms, metrics.p95_tpot_ms, metrics.mean_tpot_ms),
        figure("rate", metrics.request_goodput, unit=False),
        figure("availability", metrics.availability),
        met,
    ]


def _pair(median: float | None, p95: float | None, mean: float | None) -> str:
    if median is None and p95 is None:
        return "-" if mean is None else f"{mean:,.3g}"
    return "/".join("-" if value is None else f"{value:,.0f}" for value in (median, p95))


def _remarks(one: Alternative) -> Iterator[str]:
    """What the row has no room for: machines, confidence, misses."""
    if one.machines and one.kind not in ("scenario", "manifest"):
        yield " + ".join(dict.fromkeys(one.machines))
    ends = one.confidence.get("usd_per_million_output_tokens")
    if ends is not None:
        low, high = (figure("usd", end, unit=False) for end in ends)
        yield f"{low} to {high} USD/Mtok at 95 % confidence"
    if one.missed:
        yield "misses: " + "; ".join(map(missed_text, one.missed))
    if one.unknown:
        yield "nobody published its " + ", ".join(map(label, one.unknown))


def flips_text(advice: Advice) -> Lines:
    """A sentence for each value at which the choice changes."""
    if not advice.flips:
        yield "No input changes the choice within 64 times its value of today."
        return
    if advice.flips_from:
        yield f"  By the formulas, which search for this, {advice.flips_from} is the choice today;"
    rows = grid(">", "<", "<")
    for flip in advice.flips:
        near = "near" if flip.near else ""
        rows.add_row(f"  {flip.distance:.3g}x", near, flip.text)
    yield rows


def tornado_text(advice: Advice) -> Lines:
    """What halving and doubling each input does to the price, the strongest first."""
    widest = max(swing.width for swing in advice.swings)
    rows = grid("<", ">", ">", "<")
    for swing in advice.swings:
        ends = (
            f"{figure('usd', usd, unit=False)} at {text}"
            for usd, text in ((swing.low_usd, swing.low_text), (swing.high_usd, swing.high_text))
        )
        rows.add_row(f"  {swing.parameter}", *ends, bar(swing.width / widest if widest else 0, 12))
    yield rows


def pareto_text(points: Sequence[ParetoPoint]) -> Lines:
    """What nothing beats in everything, and what beats the others."""
    rows = table("", ">USD/Mtok", ">p95 TPOT", ">there", ">quality", "against the choice")
    for point in points:
        price, speed, there, quality = point.values.values()
        told = point.text if point.front else f"beaten by {point.beaten_by}"
        rows.add_row(
            ("* " if point.chosen else "  ") + point.name,
            figure("usd", price, unit=False),
            figure("ms", speed, unit=False),
            figure("availability", there),
            figure("quality", quality),
            told,
        )
    yield rows


def costs_table(lines: Sequence[CostLine], parts: Mapping[str, float]) -> Table:
    """Cost lines or, where there are none, the parts of the hourly cost (USD/h)."""
    if lines:
        return _lines_table(lines)
    rows = grid("<", ">")
    for name, value in cost_rows(parts):
        rows.add_row(f"  {name}", value)
    return rows


def _lines_table(lines: Sequence[CostLine]) -> Table:
    """Cost lines, the largest first; small ones of a kind together; the sum last."""
    ranked = sorted(lines, key=lambda line: (-abs(line.usd_per_hour), line.kind, line.where))
    whole = sum(line.usd_per_hour for line in lines)
    large = sum(abs(line.usd_per_hour) >= _LEAST * abs(whole) for line in ranked)
    most = min(_MOST_LINES, large) if large < len(ranked) - 1 else _MOST_LINES
    shown, rest = ranked[:most], ranked[most:]
    rows = grid("<", "<", ">", "<")
    for line in shown:
        rows.add_row(
            f"  {COST_WORDS[line.kind]}", line.where, f"{plain(line.usd_per_hour)} USD/h", line.note
        )
    if rest:
        usd = sum(line.usd_per_hour for line in rest)
        kinds = ", ".join(dict.fromkeys(COST_WORDS[line.kind] for line in rest))
        rows.add_row(f"  {len(rest)} smaller lines", "", f"{plain(usd)} USD/h", kinds)
    rows.add_row("  in all", "", f"{plain(whole)} USD/h", "")
    return rows


def costs_text(told: Prediction) -> Lines:
    """What a plan costs, by line or by part; that nothing of it has a price, where that is so."""
    if not told.metrics.usd_per_hour:
        yield NO_PRICE
        return
    per_million = told.metrics.usd_per_million_output_tokens
    yield f"Cost, {figure('usd_per_million_output_tokens', per_million)}"
    yield costs_table(told.cost_lines, told.cost_usd_per_hour)
