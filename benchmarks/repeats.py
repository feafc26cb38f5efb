"""How far measurements of one setting differ: the error that no model of these tables can avoid.

Rows of a table that say the same of what ran (device, how many, model, scheme, engine, lengths,
users) but not of its speed. Whoever predicts from that gives one figure for all of them, at best
their median. With the engine's release told apart, and not. Then runs of llama.cpp that ought to be
equal: as many tokens by devices of one kind, in boxes with another number of them (each has layers
of its own, so a decode step or one chunk of a prompt gains nothing), or by another build, backend,
driver or host:

    python benchmarks/repeats.py ../shared/data
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from planner.core.cost.measured import MeasuredSpeed
from planner.core.engine import Engine, MeasuredAs
from planner.core.metrics import percentile
from planner.files.catalogue import Catalogue
from planner.files.measurements import read_measurements

SERVING = ("system", "model", "precision", "backend", "isl", "osl", "tp", "pp", "attn_dp", "moe_ep")
LOAD = ("batch", "concurrency")
BENCH = ("device", "n_devices", "model", "quant", "metric", "n_prompt", "n_gen", "context", "batch")
TABLES = (
    ("datacenter_serving.csv", (*SERVING, *LOAD), "backend_version", ("ttft_ms", "tpot_ms")),
    ("device_measured.csv", (*BENCH, "backend"), "date", ("value",)),
)
"""File, what ran, what tells releases apart, and the speeds."""
LLAMA = ("llama.cpp-2024", "llama.cpp", "llama.cpp-vulkan", "ollama")
SHORT_TOKENS = 512
"""Answers up to so many tokens are decoded at one speed, and a prompt of as many is one chunk."""


def spread(
    rows: list[dict[str, str]], same: tuple[str, ...], speed: str
) -> tuple[int, list[float]]:
    """Settings with runs of unlike speed, and how far each run is from the median of its own."""
    groups: dict[tuple[str, ...], set[float]] = defaultdict(set)
    for row in rows:
        if row[speed]:
            groups[tuple(row[name] for name in same)].add(float(row[speed]))
    return _apart(groups.values())


def _apart(groups: Iterable[set[float]]) -> tuple[int, list[float]]:
    """Groups of unlike figures, and how far each figure is from the median of its own."""
    repeated = [values for values in groups if len(values) > 1]
    return len(repeated), sorted(
        abs(statistics.median(values) / value - 1) for values in repeated for value in values
    )


def alike(path: Path) -> dict[tuple[str, str], tuple[int, list[float]]]:
    """What ought to be equal but differs, by what tells the runs apart and the speed."""
    known = Catalogue()
    groups: dict[tuple[str, str], dict[tuple[object, ...], set[float]]]
    groups = defaultdict(lambda: defaultdict(set))
    for name in LLAMA:
        engine = known.get_as("engines", name, Engine)[0]
        wanted = engine.measured_as or MeasuredAs(backend=engine.name)
        for row in read_measurements(path, known, wanted, skip_unknown=True).rows:
            load, model = row.load, row.model
            work = (row.device.id, model.num_hidden_layers, model.hidden_size, row.quant.id)
            if load.prompt_tokens <= SHORT_TOKENS:
                boxes = groups["boxes", row.speed]
                boxes[(name, *work, load)].add(row.value)
            if row.count == 1:
                others = groups["builds, backends, hosts", row.speed]
                others[(*work, _short(row))].add(row.value)
    return {key: _apart(found.values()) for key, found in groups.items()}


def _short(row: MeasuredSpeed) -> Sequence[object]:
    """What was asked, all answers of at most 512 tokens as one."""
    load = row.load
    output_tokens = max(load.output_tokens, SHORT_TOKENS)
    return load.prompt_tokens, output_tokens, load.batch, load.cached_tokens


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
    print("\n| runs differ in | speed | settings | runs | median | p90 | most |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for (apart, speed_name), (settings, errors) in sorted(
        alike(options.data / "device_measured.csv").items()
    ):
        shares = (percentile(errors, 50), percentile(errors, 90), errors[-1])
        cells = (apart, speed_name, str(settings), str(len(errors)))
        print(f"| {' | '.join(cells)} | {' | '.join(f'{one:.0%}' for one in shares)} |")


if __name__ == "__main__":
    main()
