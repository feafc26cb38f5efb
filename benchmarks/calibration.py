"""The shipped engine profiles from published measurements, and how wrong they are.

Runs ``planner calibrate`` as a user would, each device left out in turn, and prints the errors by
device class, quantization and regime. ``--write`` puts the profiles into ``profiles/engines`` and
the table into docs/model.md; ``--sources`` only leaves out whoever measured, one after the other:

    python benchmarks/calibration.py ../shared/data --write
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from planner.core.cost.measured import MeasuredSpeed
from planner.core.engine import Engine, MeasuredAs
from planner.core.metrics import percentile
from planner.files.catalogue import Catalogue
from planner.files.measurements import read_measurements
from planner.fit.speeds import Row, fit_speeds, held, left_out

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "model.md"
BEGIN, END = "<!-- accuracy -->", "<!-- /accuracy -->"
FITS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "datacenter_serving.csv": (
        "2026-04-27",
        "NVIDIA aiconfigurator silicon samples (InferenceMAX and its own runs)",
        ("vllm", "sglang", "sglang-0.5.10", "tensorrt-llm"),
    ),
    "device_measured.csv": (
        "2026-04-01",
        "GPU-Benchmarks-on-LLM-Inference aa72e0e; llama.cpp and Ollama scoreboards to 2026",
        ("llama.cpp-2024", "llama.cpp", "llama.cpp-vulkan", "ollama"),
    ),
}
"""Day and source of each table, and the engines that are fitted to it together."""
KERNELS: dict[str, tuple[str, str, str, str]] = {
    "rtx4090_llama31_8b_ops.csv": (
        "casys-kaist/LLMServingSim profiler, vLLM 0.19.0",
        "vllm",
        "rtx-4090",
        "llama-3.1-8b",
    ),
}
"""Source, engine, device and model of each table of kernel times in bf16."""
NAMES = {
    "prefill_tok_s": "prefill tokens/s",
    "decode_tok_s": "decode tokens/s",
    "ttft_ms": "TTFT",
    "tpot_ms": "TPOT",
}
SHOWN = ("device class", "quant", "regime", "devices together")


def fit(data: Path, table: str, out: Path) -> dict[str, Any]:
    """What ``planner calibrate`` says of a table; the profiles are in ``out``."""
    day, source, engines = FITS[table]
    named = [part for engine in engines for part in ("--engine", engine)]
    options = ["--fresh", "--skip-unknown", "--source", source, "--as-of", day]
    return _calibrate(data / table, *named, *options, "--out", str(out))


def fit_kernels(data: Path, table: str, out: Path) -> dict[str, Any]:
    """What ``planner calibrate`` says of kernel times; added to the profiles in ``out``."""
    source, engine, device, model = KERNELS[table]
    names = ("--engine", engine, "--device", device, "--model", model)
    folders = ("--out", str(out), "--profiles", str(out))
    return _calibrate(data / table, *names, "--source", source, *folders)


def _calibrate(table: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "planner", "calibrate", str(table), *options]
    done = subprocess.run(
        [*command, "--format", "json"], stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def without_sources(data: Path, table: str) -> list[str]:
    """Errors where all that one source measured is left out, as Markdown."""
    known = Catalogue()
    texts = (data / table).read_text(encoding="utf-8").splitlines()
    rows: list[Row] = []
    for name in FITS[table][2]:
        engine = known.get_as("engines", name, Engine)[0]
        wanted = engine.measured_as or MeasuredAs(backend=engine.name)
        found = read_measurements(data / table, known, wanted, skip_unknown=True)
        rows += [(engine, row) for row in held(engine, found.rows)]
    whole = fit_speeds(rows, fresh=True)
    left = left_out(rows, whole, True, lambda row: _source(texts, row))
    sources = {_source(texts, row) for _, row in rows}
    made = [f"**{', '.join(FITS[table][2])}**: {len(sources)} sources.", ""]
    made += ["| speed | rows | source out: median | p90 |", "|---|--:|--:|--:|"]
    for speed in sorted({row.speed for _, row in rows}):
        errors = sorted(
            abs(error) for (_, row), error in zip(rows, left, strict=True) if row.speed == speed
        )
        shares = [f"{percentile(errors, share):.0%}" for share in (50, 90)]
        made.append(f"| {NAMES[speed]} | {len(errors)} | {' | '.join(shares)} |")
    return [*made, ""]


def _source(texts: list[str], row: MeasuredSpeed) -> str:
    """Who measured a row of a table, without the part of the page that it is from."""
    line = int(row.place.rsplit(":", 1)[1])
    (cells,) = csv.DictReader([texts[0], texts[line - 1]])
    said = cells.get("origin") or cells["source"]
    return said.split()[0] if said.startswith(("github:", "https:")) else said.split(", ")[0]


def lines(results: dict[str, dict[str, Any]]) -> list[str]:
    """The tables as Markdown."""
    made: list[str] = []
    for table, result in results.items():
        engines = ", ".join(FITS[table][2])
        made += [
            f"**{engines}**: {result['rows']} measurements, {result['constants']} constants.",
            "",
            "| engine | by | group | speed | rows | devices | fit: median | p90 "
            "| device out: median | p90 | model out: median | p90 | bias |",
            "|---|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        made += [_row(one) for one in result["errors"] if one["by"] in ("", *SHOWN)]
        made += ["", *map(_tail, result["tails"]), *map(_covered, result["coverage"]), ""]
    return made[:-1]


def _tail(one: dict[str, Any]) -> str:
    """What has to go until p90 is 2.5 times the median, as an item of a list."""
    name, rest, by = NAMES[one["speed"]], one["rest"], one["by"]
    said = f"- {name}, by {by}: p90 is {one['p90'] / one['median']:.1f} times the median."
    if not one["groups"]:
        return said
    groups = ", ".join(
        f"{group[by]} under {group['engine']} ({group['beyond']} of {group['rows']} rows)"
        for group in one["groups"]
    )
    return (
        f"{said} More than a quarter beyond 2.5 times the median: {groups}; "
        f"p90 of the other {rest['rows']} rows is {rest['p90']:.0%}."
    )


def _covered(one: dict[str, Any]) -> str:
    """How honest the bands that predictions print are, as an item of a list."""
    return (
        f"- {NAMES[one['speed']]}, {one['left_out']} left out: {one['within_median']:.0%} of "
        f"{one['rows']} rows are within the median band, {one['within_p90']:.0%} within the p90."
    )


def kernel_lines(results: dict[str, dict[str, Any]]) -> list[str]:
    """The table of kernel fits as Markdown."""
    made = ["| device, model, engine | layers | how many | median | p90 |", "|---|---|--:|--:|--:|"]
    for table, result in results.items():
        _, engine, device, model = KERNELS[table]
        made += [
            f"| {device}, {model}, {engine} | {one['of']} | {one['layers']} "
            f"| {one['median']:.1%} | {one['p90']:.1%} |"
            for one in result["layer_errors"]
        ]
    return ["**Kernel times**: error of the time of one layer.", "", *made]


def _row(one: dict[str, Any]) -> str:
    fitted, left = one["fit"], one["leave_one_device_out"]
    model = one["leave_one_model_out"]
    shares = tuple(each[of] for each in (fitted, left, model) for of in ("median", "p90"))
    cells = [one["engine"], one["by"] or "all", one["group"], NAMES[one["speed"]]]
    cells += [str(one["rows"]), str(one["devices"])]
    cells += [f"{share:.0%}" for share in shares] + [f"{one['bias']:+.0%}"]
    return f"| {' | '.join(cells)} |"


def write(made: list[str]) -> None:
    """Puts the tables between their markers in docs/model.md."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    body = "\n".join(["", *made, ""])
    PAGE.write_text(f"{before}{BEGIN}{body}{END}{after}", encoding="utf-8")


def main() -> None:
    """Fits, prints, and writes where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path, help="folder with the tables")
    parser.add_argument("--write", action="store_true", help="into profiles/ and docs/model.md")
    parser.add_argument("--sources", action="store_true", help="leave out sources, nothing else")
    options = parser.parse_args()
    if options.sources:
        for table in FITS:
            print("\n".join(without_sources(options.data, table)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        out = ROOT / "profiles" if options.write else Path(scratch)
        with ThreadPoolExecutor() as at_once:
            found = at_once.map(lambda table: fit(options.data, table, out), FITS)
            results = dict(zip(FITS, found, strict=True))
        kernels = {table: fit_kernels(options.data, table, out) for table in KERNELS}
        made = [*lines(results), "", *kernel_lines(kernels)]
        print("\n".join(made))
        if options.write:
            write(made)
            return
        for path in sorted(out.glob("engines/*.yaml")):
            shipped = ROOT / "profiles" / "engines" / path.name
            same = shipped.read_bytes() == path.read_bytes()
            print(f"{path.name}: {'as shipped' if same else 'differs from what is shipped'}")


if __name__ == "__main__":
    main()
