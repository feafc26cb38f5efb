"""Metrics: one type for what is predicted, simulated and measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from planner.core.spec import Spec

if TYPE_CHECKING:
    from planner.core.gaps import Gaps

Status = Literal["completed", "failed", "running"]

LATENCIES = ("ttft", "tpot", "itl", "e2el")
STATISTICS = ("mean", "median", "p95", "p99")


class Metrics(Spec):
    """What users feel and what it costs; None where nothing is known.

    Names and definitions follow vLLM's benchmark client. TTFT is first token out minus request
    in; TPOT is (last - first token) / (n - 1); ITL is each gap between tokens; E2EL is last
    token out minus request in.
    """

    mean_ttft_ms: float | None = None
    median_ttft_ms: float | None = None
    p95_ttft_ms: float | None = None
    p99_ttft_ms: float | None = None
    mean_tpot_ms: float | None = None
    median_tpot_ms: float | None = None
    p95_tpot_ms: float | None = None
    p99_tpot_ms: float | None = None
    mean_itl_ms: float | None = None
    median_itl_ms: float | None = None
    p95_itl_ms: float | None = None
    p99_itl_ms: float | None = None
    mean_e2el_ms: float | None = None
    median_e2el_ms: float | None = None
    p95_e2el_ms: float | None = None
    p99_e2el_ms: float | None = None
    user_ttft_ms: float | None = None
    """Mean with every pipeline counting by its weight: over the users of a closed loop, however
    many requests each of them gets to send; under open arrivals as if the router held to the
    weights. None where it is that over requests."""
    user_tpot_ms: float | None = None
    user_e2el_ms: float | None = None
    worst_p95_ttft_ms: float | None = None
    """That percentile of the pipeline whose is the worst, each with its weight's share of the
    requests; None where it is that of all requests. So are the others."""
    worst_p99_ttft_ms: float | None = None
    worst_p95_tpot_ms: float | None = None
    worst_p99_tpot_ms: float | None = None
    worst_p95_e2el_ms: float | None = None
    worst_p99_e2el_ms: float | None = None
    output_throughput: float | None = None
    """Output tokens per second."""
    total_token_throughput: float | None = None
    """Prompt and output tokens per second."""
    request_throughput: float | None = None
    """Completed requests per second."""
    request_goodput: float | None = None
    """Requests per second that met every latency bound."""
    completed: int | None = None
    failed: int | None = None
    availability: float | None = None
    """Share of finished requests that were completed."""
    usd_per_hour: float | None = None
    usd_per_million_output_tokens: float | None = None


@dataclass(slots=True)
class RequestRecord:
    """What happened to one request; times in seconds on one clock."""

    id: int
    pipeline: int
    prompt_tokens: int
    arrival_s: float
    token_s: list[float] = field(default_factory=list)
    """When each output token reached the client; the first and the last where only they count."""
    status: Status = "running"
    reason: str = ""
    """Why it failed."""
    delivered: int | None = None
    """Output tokens so far where ``token_s`` does not hold them all."""
    begun_s: float | None = None
    """When its first job began; None where nobody looked."""

    @property
    def output_tokens(self) -> int:
        """Tokens delivered so far."""
        return len(self.token_s) if self.delivered is None else self.delivered

    @property
    def ttft_s(self) -> float:
        """First token out minus request in (s)."""
        return self.token_s[0] - self.arrival_s

    @property
    def e2el_s(self) -> float:
        """Last token out minus request in (s)."""
        return self.token_s[-1] - self.arrival_s

    @property
    def tpot_s(self) -> float | None:
        """(last - first token) / (n - 1) in seconds; None for a single token."""
        later = self.output_tokens - 1
        return (self.token_s[-1] - self.token_s[0]) / later if later > 0 else None


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Percentile of sorted values by linear interpolation, as ``numpy.percentile`` does."""
    position = (len(ordered) - 1) * percent / 100
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def summarise(
    records: Sequence[RequestRecord],
    bounds_s: dict[str, float] | None = None,
    usd_per_hour: float | None = None,
    in_use: float = 1.0,
    gaps: Gaps | None = None,
) -> Metrics:
    """Metrics of finished requests.

    The duration behind every rate runs from the first arrival to the last token, or to the last
    arrival where what came at the end was not answered. ``bounds_s``
    are the per-request latency bounds that goodput counts; ``in_use`` is the share of the time
    in which requests come, while ``usd_per_hour`` is paid for all of it. Only completed requests
    enter the latencies; failed ones lower ``availability`` and ``request_goodput``. ``gaps`` are
    the gaps between tokens where the records do not hold every token.
    """
    import numpy as np

    from planner.core.outcomes import Outcomes

    everyone = Outcomes.of(records)
    done, failed = everyone.where("completed"), len(everyone.where("failed"))
    values: dict[str, float | int | None] = {"completed": len(done), "failed": failed}
    if len(done) or failed:
        values["availability"] = len(done) / (len(done) + failed)
    values["usd_per_hour"] = usd_per_hour
    if not len(done):
        return Metrics.model_validate(values)
    several = done.output_tokens > 1
    later = np.maximum(1, done.output_tokens - 1)
    latencies_s = {
        "ttft": done.first_s - done.arrival_s,
        "tpot": (done.last_s - done.first_s) / later,
        "e2el": done.last_s - done.arrival_s,
    }
    every = () if gaps else done.token_s or ()
    samples = {
        **latencies_s,
        "tpot": latencies_s["tpot"][several],
        "itl": np.array([gap_s for token_s in every for gap_s in _gaps_s(token_s)]),
    }
    for name, sample in samples.items():
        values.update(_statistics(name, np.sort(sample).tolist()))
    if gaps and gaps.count:
        values.update(_counted("itl", gaps))
    ended_s = max(done.last_s.max(), everyone.arrival_s.max())
    duration_s = float(ended_s - everyone.arrival_s.min())
    if duration_s > 0:
        output, prompt = int(done.output_tokens.sum()), int(done.prompt_tokens.sum())
        good = np.ones(len(done), bool)
        for name, bound_s in (bounds_s or {}).items():
            if name in latencies_s:
                good &= (latencies_s[name] <= bound_s) | (~several if name == "tpot" else False)
        values["output_throughput"] = output / duration_s
        values["total_token_throughput"] = (output + prompt) / duration_s
        values["request_throughput"] = len(done) / duration_s
        values["request_goodput"] = int(good.sum()) / duration_s
        if usd_per_hour is not None and output:
            values["usd_per_million_output_tokens"] = usd_per_million(
                usd_per_hour, output / duration_s * in_use
            )
    return Metrics.model_validate(values)


def usd_per_million(usd_per_hour: float, tokens_per_s: float) -> float:
    """Price of a million tokens at a steady rate (USD)."""
    return usd_per_hour / 3600 / tokens_per_s * 1e6


def _gaps_s(token_s: Sequence[float]) -> Iterator[float]:
    """Times between tokens (s)."""
    return (later_s - earlier_s for earlier_s, later_s in pairwise(token_s))


def _statistics(name: str, ordered_s: Sequence[float]) -> dict[str, float]:
    if not ordered_s:
        return {}
    return {
        f"mean_{name}_ms": 1e3 * math.fsum(ordered_s) / len(ordered_s),
        f"median_{name}_ms": 1e3 * percentile(ordered_s, 50),
        f"p95_{name}_ms": 1e3 * percentile(ordered_s, 95),
        f"p99_{name}_ms": 1e3 * percentile(ordered_s, 99),
    }


def _counted(name: str, gaps: Gaps) -> dict[str, float]:
    return {
        f"mean_{name}_ms": 1e3 * gaps.mean_s,
        f"median_{name}_ms": 1e3 * gaps.quantile_s(0.5),
        f"p95_{name}_ms": 1e3 * gaps.quantile_s(0.95),
        f"p99_{name}_ms": 1e3 * gaps.quantile_s(0.99),
    }
