"""What the largest load is that targets take, and what stops them there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from planner.core.metrics import Metrics
from planner.core.words import figure, missed_text
from planner.report.tables import Lines, table

if TYPE_CHECKING:
    from planner.sim.capacity import Capacity, Tried, Unit

UNITS: dict[Unit, str] = {"requests_per_s": "requests/s", "users": "users"}


def capacity_document(found: Capacity) -> dict[str, Any]:
    """The JSON object of a capacity."""
    beyond = found.beyond
    return {
        "load": found.load,
        "unit": found.unit,
        "interval": None if found.interval is None else list(found.interval),
        "limited": found.limited,
        "beyond": None if beyond is None else _tried(beyond),
        "tried": [_tried(one) for one in found.tried],
    }


def _tried(one: Tried) -> dict[str, Any]:
    missed = [miss.model_dump(mode="json") for miss in one.missed]
    return {"load": one.load, "missed": missed}


def capacity_text(found: Sequence[tuple[str, Capacity, Metrics]]) -> Lines:
    """The largest load of every target by name, with its metrics there, and what is too much."""
    yield "The largest load that meets the must-haves"
    rows = table("", ">load", "", "interval", ">tok/s", ">USD/Mtok")
    for name, one, metrics in found:
        interval = f"[{', '.join(map(_digits, one.interval))}]" if one.interval else ""
        felt = (
            figure(metric, getattr(metrics, metric), unit=False)
            for metric in ("output_throughput", "usd_per_million_output_tokens")
        )
        load = _digits(one.load) if one.load else "none"
        rows.add_row(name, load, UNITS[one.unit], interval, *(felt if one.load else ("-", "-")))
    yield rows
    for name, one, _ in found:
        yield f"  {name}: {_why(one)}"


def _why(found: Capacity) -> str:
    """What stops a target from taking more."""
    beyond, unit = found.beyond, UNITS[found.unit]
    if beyond is not None:
        said = "; ".join(missed_text(miss) for miss in beyond.missed)
        told = f"at {_digits(beyond.load)} {unit}, {said}"
        if found.unit == "users" and found.seats is not None and found.seats < beyond.load:
            told += (
                f"; the plan has seats for {found.seats}, and one for more users may take more "
                f"(--set workload.arrivals.concurrency={_digits(beyond.load)})"
            )
        return told
    most = _digits(found.tried[-1].load)
    return f"more load breaks no must-have, as far as was looked ({most} {unit})"


def capacity_said(found: Capacity) -> str:
    """The largest load and what stops it, in a sentence."""
    if not found.load:
        return f"No load meets the must-haves: {_why(found)}."
    return f"It takes up to {_digits(found.load)} {UNITS[found.unit]}: {_why(found)}."


def _digits(load: float) -> str:
    return figure("load", load, unit=False)
