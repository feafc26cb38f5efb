"""Telemetry: what a service tells Prometheus, under the names that vLLM's dashboards know."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

_FIRST_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_GAP_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_WHOLE_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Telemetry:
    """Counts and times of one service."""

    def __init__(self, model: str, seats: int) -> None:
        self._registry = CollectorRegistry()
        self._labels = {"model_name": model}
        self._seats = seats
        self._first = self._histogram("time_to_first_token_seconds", _FIRST_S)
        self._gap = self._histogram("inter_token_latency_seconds", _GAP_S)
        self._mean_gap = self._histogram("request_time_per_output_token_seconds", _GAP_S)
        self._whole = self._histogram("e2e_request_latency_seconds", _WHOLE_S)
        self._prompt = self._counter("prompt_tokens")
        self._answer = self._counter("generation_tokens")
        self._running = self._gauge("num_requests_running", "Requests that have a seat.")
        self._waiting = self._gauge("num_requests_waiting", "Requests that wait for a seat.")
        self._usage = self._gauge("kv_cache_usage_perc", "Share of the seats that is taken.")
        self._ended = Counter(
            "vllm:request_success",
            "Requests that ended, by reason.",
            ["model_name", "finished_reason"],
            registry=self._registry,
        )
        self._turned_away = Counter(
            "planner_requests_refused",
            "Requests that were refused, by HTTP status.",
            ["model_name", "status"],
            registry=self._registry,
        )

    def token(self, since_s: float, *, first: bool) -> None:
        """A token that came so long after the request, or after the one before it."""
        (self._first if first else self._gap).labels(**self._labels).observe(since_s)
        self._answer.labels(**self._labels).inc()

    def ended(
        self, reason: str, prompt_tokens: int, tokens: int, took_s: float, after_first_s: float
    ) -> None:
        """A request that was answered, the last token so long after the first."""
        self._ended.labels(finished_reason=reason, **self._labels).inc()
        self._prompt.labels(**self._labels).inc(prompt_tokens)
        self._whole.labels(**self._labels).observe(took_s)
        if tokens > 1:
            self._mean_gap.labels(**self._labels).observe(after_first_s / (tokens - 1))

    def refused(self, status: int) -> None:
        """A request that was not begun."""
        self._turned_away.labels(status=str(status), **self._labels).inc()

    def text(self, running: int, waiting: int) -> bytes:
        """Everything, as Prometheus reads it."""
        self._running.labels(**self._labels).set(running)
        self._waiting.labels(**self._labels).set(waiting)
        self._usage.labels(**self._labels).set(running / self._seats)
        return generate_latest(self._registry)

    def _histogram(self, name: str, buckets: tuple[float, ...]) -> Histogram:
        said = name.replace("_", " ").capitalize() + "."
        return Histogram(
            f"vllm:{name}", said, ["model_name"], registry=self._registry, buckets=buckets
        )

    def _counter(self, name: str) -> Counter:
        said = name.replace("_", " ").capitalize() + "."
        return Counter(f"vllm:{name}", said, ["model_name"], registry=self._registry)

    def _gauge(self, name: str, said: str) -> Gauge:
        return Gauge(f"vllm:{name}", said, ["model_name"], registry=self._registry)
