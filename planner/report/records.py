"""Records of requests as comma-separated values."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from planner.core.metrics import RequestRecord
from planner.sim.result import SimResult

COLUMNS = (
    "target",
    "replication",
    "id",
    "pipeline",
    "status",
    "prompt_tokens",
    "output_tokens",
    "arrival_s",
    "ttft_ms",
    "tpot_ms",
    "e2el_ms",
    "reason",
)


def records_csv(targets: Iterable[tuple[str, Sequence[SimResult]]]) -> str:
    """A row per request of every replication of every target; empty where nothing is known."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for name, results in targets:
        for index, result in enumerate(results):
            rows.writerows((name, index, *_cells(record)) for record in result.records)
    return text.getvalue()


def _cells(record: RequestRecord) -> tuple[object, ...]:
    ttft_s, e2el_s = (record.ttft_s, record.e2el_s) if record.token_s else (None, None)
    return (
        record.id,
        record.pipeline,
        record.status,
        record.prompt_tokens,
        record.output_tokens,
        record.arrival_s,
        *("" if time_s is None else 1e3 * time_s for time_s in (ttft_s, record.tpot_s, e2el_s)),
        record.reason,
    )
