"""Metrics in words: their names, their units, their values, and bounds that they break."""

from __future__ import annotations

from collections.abc import Mapping

from planner.core.requirements import Miss, at_least

LABELS: Mapping[str, str] = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "itl": "inter-token latency",
    "e2el": "end-to-end latency",
    "output_throughput": "output throughput",
    "total_token_throughput": "total throughput, prompts included",
    "request_throughput": "request throughput",
    "request_goodput": "goodput, requests within every bound",
    "completed": "requests completed",
    "failed": "requests failed",
    "availability": "availability",
    "usd_per_hour": "cost per hour",
    "usd_per_million_output_tokens": "cost per million output tokens",
    "quality": "quality kept",
    "weighted": "weighted sum",
}


def figure(metric: str, value: float | None, unit: bool = True) -> str:
    """A metric's value in three to four digits, with its unit unless told otherwise."""
    if value is None:
        return "-"
    if metric in ("availability", "quality"):
        return f"{value:.2%}"
    digits = f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{digits} {unit_of(metric)}".rstrip() if unit else digits


def unit_of(metric: str) -> str:
    """The unit of a metric, as it is written behind figures."""
    if metric.endswith("_ms"):
        return "ms"
    if metric in ("output_throughput", "total_token_throughput"):
        return "tok/s"
    if metric in ("request_throughput", "request_goodput"):
        return "req/s"
    others = {
        "usd_per_hour": "USD/h",
        "usd_per_million_output_tokens": "USD/Mtok",
        "weighted": "points",
    }
    return others.get(metric, "")


def label(metric: str) -> str:
    """A metric in plain words, such as ``p95 time to first token``."""
    if metric in LABELS:
        return LABELS[metric]
    if metric.startswith("worst_"):
        return f"{label(metric.removeprefix('worst_'))} of the worst pipeline"
    statistic, _, rest = metric.removesuffix("_ms").partition("_")
    return f"{statistic} {LABELS.get(rest, rest)}"


def missed_text(miss: Miss) -> str:
    """A broken bound in one clause."""
    value = "unknown" if miss.value is None else figure(miss.metric, miss.value)
    return f"{label(miss.metric)} is {value}, {asked_text(miss.metric, miss.bound)} is asked"


def asked_text(metric: str, bound: float) -> str:
    """A bound with its direction, such as ``at most 500 ms``."""
    return f"at {'least' if at_least(metric) else 'most'} {figure(metric, bound)}"
