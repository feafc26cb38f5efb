"""Every row of the public tables, asked of ``planner estimate`` as a reader of the table would.

Devices, models, schemes and engines are named as the table spells them, and nothing is said but
what a row says; rows that a fit leaves out are asked, too. Prints how many names mean a card, what
is said of those that do not, and how wrong the answers are:

    python benchmarks/asked.py ../shared/data
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from planner.cli import cards
from planner.cli.console import Format
from planner.cli.estimate import estimate
from planner.core.errors import PlannerError
from planner.core.metrics import percentile
from planner.files.catalogue import Catalogue

Row = Mapping[str, str]
SPEEDS = {
    "decode_tok_s": "decode_tok_s",
    "decode_tok_s_aggregate": "decode_tok_s",
    "prefill_tok_s": "prefill_tok_s",
}
"""Metrics of the device table that an estimate has, and its key of the JSON document."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A row, what it measured, and what was answered."""

    table: str
    row: Row
    speed: str
    measured: float
    said: float | None
    why_not: str = ""

    @property
    def error(self) -> float:
        """(predicted - measured) / measured."""
        assert self.said is not None
        return self.said / self.measured - 1


def asked(data: Path) -> Iterator[Asked]:
    """The rows of both tables of whole engines."""
    yield from map(_device, rows(data / "device_measured.csv"))
    for row in rows(data / "datacenter_serving.csv"):
        yield from _serving(row)


def rows(path: Path) -> list[Row]:
    """The rows of a table whose comments start with #."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def _device(row: Row) -> Asked:
    """llama-bench's tests: a prompt alone, or tokens after next to nothing."""
    speed = SPEEDS.get(row["metric"], "")
    measured = float(row["value"])
    if not speed or (row["metric"] == "prefill_tok_s" and not row["n_prompt"]):
        return Asked("devices", row, row["metric"], measured, None, "no such figure")
    names = (row["device"], row["model"], row["quant"], f"{row['backend']} {row['date']}".strip())
    context = int(row["context"] or 0)
    if speed == "prefill_tok_s":
        tokens = int(row["n_prompt"])
        load = (tokens, 1, 1, context if context > tokens / 2 else 0)
    else:
        tokens = int(row["n_gen"] or 0) or 128
        load = (1, tokens, int(row["batch"] or 1), context if context > tokens / 2 else 0)
    said, why = answer(*names, int(row["n_devices"] or 1), *load)
    return Asked("devices", row, speed, measured, None if why else said[speed], why)


def _serving(row: Row) -> Iterator[Asked]:
    wide = [row[name] for name in ("pp", "attn_dp", "moe_ep") if row[name] not in ("", "1")]
    engine = f"{row['backend']} {row['backend_version']}".strip()
    names = (row["system"], row["model"], row["precision"] or "bf16", engine)
    load = (int(row["isl"]), int(row["osl"]), int(row["concurrency"] or row["batch"]), 0)
    said, why = ({}, "other parallelism") if wide else answer(*names, int(row["tp"]), *load)
    for speed in ("ttft_ms", "tpot_ms"):
        yield Asked("serving", row, speed, float(row[speed]), None if why else said[speed], why)


@cache
def answer(
    device: str,
    model: str,
    quant: str,
    engine: str,
    count: int,
    prompt: int,
    output: int,
    batch: int,
    cached: int,
) -> tuple[Mapping[str, float], str]:
    """The JSON document of an estimate, or why there is none."""
    out = io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(io.StringIO()):
            estimate(
                model=model,
                device=device,
                count=count,
                engine=engine or None,
                quant=quant or None,
                prompt=prompt,
                output=output,
                batch=batch,
                draft_tokens=0,
                cached=cached,
                format=Format.json,
            )
    except PlannerError as error:
        return {}, str(error)
    return json.loads(out.getvalue()), ""


def main() -> None:
    """Asks, and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path, help="folder with the tables")
    options = parser.parse_args()
    known = Catalogue(Path(), ())
    cards.catalogue = lambda profiles: known  # reads every card once, not once a row
    found = list(asked(options.data))
    for table in ("devices", "serving"):
        mine = [one for one in found if one.table == table]
        print(f"{table}: {len(mine)} figures, {sum(one.said is not None for one in mine)} answered")
        for why, count in Counter(one.why_not for one in mine if one.why_not).most_common():
            print(f"  {count:4} {why}")
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in found:
        if one.said is not None:
            groups[one.speed, one.row["backend"]].append(one.error)
    for name, errors in sorted(groups.items()):
        off = sorted(map(abs, errors))
        print(
            f"{' '.join(name):50} {len(off):5} median {percentile(off, 50):.1%} "
            f"p90 {percentile(off, 90):.1%} bias {statistics.median(errors):+.1%}"
        )


if __name__ == "__main__":
    main()
