"""How far measurements of one setting differ: the error that no model of these tables can avoid.

Rows of a table that say the same of what ran (device, how many, model, scheme, engine, lengths,
users) but not of its speed. Whoever predicts from that gives one figure for all of them, at best
their median. With the engine's release told apart, and not:

    python benchmarks/repeats.py ../shared/data
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections import defaultdict
from pathlib import Path

from planner.core.metrics import percentile

SERVING = ("system", "model", "precision", "backend", "isl", "osl", "tp", "pp", "attn_dp", "moe_ep")
LOAD = ("batch", "concurrency")
BENCH = ("device", "n_devices", "model", "quant", "metric", "n_prompt", "n_gen", "context", "batch")
TABLES = (
    ("datacenter_serving.csv", (*SERVING, *LOAD), "backend_version", ("ttft_ms", "tpot_ms")),
    ("device_measured.csv", (*BENCH, "backend"), "date", ("value",)),
)
"""File, what ran, what tells releases apart, and the speeds."""


def spread(
    rows: list[dict[str, str]], same: tuple[str, ...], speed: str
) -> tuple[int, list[float]]:
    """Settings with runs of unlike speed, and how far each run is from the median of its own."""
    groups: dict[tuple[str, ...], set[float]] = defaultdict(set)
    for row in rows:
        if row[speed]:
            groups[tuple(row[name] for name in same)].add(float(row[speed]))
    repeated = [values for values in groups.values() if len(values) > 1]
    return len(repeated), sorted(
        abs(statistics.median(values) / value - 1) for values in repeated for value in values
    )


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table; lines that start with # are comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if line and not line.startswith("#")))


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path, help="folder with the tables")
    options = parser.parse_args()
    print("| table | speed | releases | settings | runs | median | p90 | most |")
    print("|---|---|---|--:|--:|--:|--:|--:|")
    for table, same, release, speeds in TABLES:
        rows = read(options.data / table)
        metrics = sorted({row.get("metric", "") for row in rows})
        for metric in metrics:
            mine = [row for row in rows if row.get("metric", "") == metric]
            for speed in speeds:
                for said, names in (("told apart", (*same, release)), ("not told", same)):
                    settings, errors = spread(mine, names, speed)
                    if settings < 5:
                        continue
                    shares = (percentile(errors, 50), percentile(errors, 90), errors[-1])
                    cells = (table, metric or speed, said, str(settings), str(len(errors)))
                    print(f"| {' | '.join(cells)} | {' | '.join(f'{one:.0%}' for one in shares)} |")


if __name__ == "__main__":
    main()
