"""Metrics: one type for what is predicted, simulated and measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
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

    def deliver(self, tokens: int, last_s: float) -> None:
        """Notes that so many more tokens have come, the last of them at ``last_s``."""
        self.delivered = tokens + (self.delivered or 0)
        self.token_s[1:] = (last_s,)

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

    @property
    def gaps_s(self) -> Iterator[float]:
        """Times between its tokens (s)."""
        return (later - earlier for earlier, later in pairwise(self.token_s))

    def meets(self, bounds_s: dict[str, float]) -> bool:
        """Whether it was completed within every bound, by latency name (s)."""
        if self.status != "completed":
            return False
        values = {"ttft": self.ttft_s, "tpot": self.tpot_s, "e2el": self.e2el_s}
        return all(
            (value := values.get(name)) is None or value <= bound
            for name, bound in bounds_s.items()
        )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Percentile of sorted values by linear interpolation, as ``numpy.percentile`` does."""
    position = (len(ordered) - 1) * percent / 100
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def summarise(
    records: Iterable[RequestRecord],
    bounds_s: dict[str, float] | None = None,
    usd_per_hour: float | None = None,
    in_use: float = 1.0,
    gaps: Gaps | None = None,
) -> Metrics:
    """Metrics of finished requests.

    The duration behind every rate runs from the first arrival to the last token. ``bounds_s``
    are the per-request latency bounds that goodput counts; ``in_use`` is the share of the time
    in which requests come, while ``usd_per_hour`` is paid for all of it. Only completed requests
    enter the latencies; failed ones lower ``availability`` and ``request_goodput``. ``gaps`` are
    the gaps between tokens where the records do not hold every token.
    """
    everyone = list(records)
    done = [record for record in everyone if record.status == "completed"]
    failed = sum(record.status == "failed" for record in everyone)
    values: dict[str, float | int | None] = {"completed": len(done), "failed": failed}
    if done or failed:
        values["availability"] = len(done) / (len(done) + failed)
    values["usd_per_hour"] = usd_per_hour
    if not done:
        return Metrics.model_validate(values)
    samples = {
        "ttft": [record.token_s[0] - record.arrival_s for record in done],
        "tpot": [tpot for record in done if (tpot := record.tpot_s) is not None],
        "itl": [] if gaps else [gap for record in done for gap in record.gaps_s],
        "e2el": [record.token_s[-1] - record.arrival_s for record in done],
    }
    for name, sample in samples.items():
        values.update(_statistics(name, sample))
    if gaps and gaps.count:
        values.update(_counted("itl", gaps))
    start_s = min(record.arrival_s for record in everyone)
    duration_s = max(record.token_s[-1] for record in done) - start_s
    if duration_s > 0:
        output = sum(record.output_tokens for record in done)
        prompt = sum(record.prompt_tokens for record in done)
        good = sum(record.meets(bounds_s) for record in done) if bounds_s else len(done)
        values["output_throughput"] = output / duration_s
        values["total_token_throughput"] = (output + prompt) / duration_s
        values["request_throughput"] = len(done) / duration_s
        values["request_goodput"] = good / duration_s
        if usd_per_hour is not None and output:
            values["usd_per_million_output_tokens"] = usd_per_million(
                usd_per_hour, output / duration_s * in_use
            )
    return Metrics.model_validate(values)


def usd_per_million(usd_per_hour: float, tokens_per_s: float) -> float:
    """Price of a million tokens at a steady rate (USD)."""
    return usd_per_hour / 3600 / tokens_per_s * 1e6


def _statistics(name: str, sample_s: list[float]) -> dict[str, float]:
    if not sample_s:
        return {}
    ordered = sorted(sample_s)
    return {
        f"mean_{name}_ms": 1e3 * math.fsum(ordered) / len(ordered),
        f"median_{name}_ms": 1e3 * percentile(ordered, 50),
        f"p95_{name}_ms": 1e3 * percentile(ordered, 95),
        f"p99_{name}_ms": 1e3 * percentile(ordered, 99),
    }


def _counted(name: str, gaps: Gaps) -> dict[str, float]:
    return {
        f"mean_{name}_ms": 1e3 * gaps.mean_s,
        f"median_{name}_ms": 1e3 * gaps.quantile_s(0.5),
        f"p95_{name}_ms": 1e3 * gaps.quantile_s(0.95),
        f"p99_{name}_ms": 1e3 * gaps.quantile_s(0.99),
    }
