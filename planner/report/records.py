"""Records of requests, and of every job at every place, as flat rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from planner.core.columns import Columns
from planner.core.metrics import RequestRecord
from planner.sim.result import SimResult

Targets = Iterable[tuple[str, Sequence[SimResult]]]
"""Results of every replication, by target."""

RECORDS: Columns = {
    "target": "text",
    "replication": "whole",
    "id": "whole",
    "pipeline": "whole",
    "status": "text",
    "prompt_tokens": "whole",
    "output_tokens": "whole",
    "arrival_s": "real",
    "ttft_ms": "real",
    "tpot_ms": "real",
    "e2el_ms": "real",
    "reason": "text",
}
"""Columns of a row per request, and what they hold."""
VISITS: Columns = {
    "target": "text",
    "replication": "whole",
    "place": "text",
    "job": "whole",
    "phase": "text",
    "came_s": "real",
    "began_s": "real",
    "ended_s": "real",
    "requests": "wholes",
}
"""Columns of a row per job at a stage or on a link."""


def record_rows(targets: Targets) -> Iterator[tuple[object, ...]]:
    """A row per request of every replication of every target; None where nothing is known."""
    for name, results in targets:
        for index, result in enumerate(results):
            for record in result.records:
                yield (name, index, *_cells(record))


def visit_rows(targets: Targets) -> Iterator[tuple[object, ...]]:
    """A row per job at every place it came to, in order of beginning."""
    for name, results in targets:
        for index, result in enumerate(results):
            for visit in result.visits:
                times_s = (visit.came_s, visit.began_s, visit.ended_s)
                yield (name, index, visit.place, visit.job, visit.phase, *times_s, visit.requests)


def _cells(record: RequestRecord) -> tuple[object, ...]:
    times_s = (record.ttft_s, record.tpot_s, record.e2el_s) if record.token_s else (None,) * 3
    return (
        record.id,
        record.pipeline,
        record.status,
        record.prompt_tokens,
        record.output_tokens,
        record.arrival_s,
        *(None if time_s is None else 1e3 * time_s for time_s in times_s),
        record.reason,
    )
