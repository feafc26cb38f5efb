"""Steps and layers that others timed, beside what the shipped profiles say of them.

Nothing is fitted to these rows: they were measured with engines of 2023 and 2024, of which planner
has no profile, and show how far the profiles carry. ``--write`` puts the table into docs/model.md:

    python benchmarks/steps.py ../shared/data --write
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.core.cost import Batch, Chip
from planner.core.cost.compute import layer_time, step_time
from planner.core.device import Device
from planner.core.engine import Engine
from planner.core.metrics import percentile
from planner.core.model import ModelSpec
from planner.core.quant import QuantScheme
from planner.files.catalogue import Catalogue

PAGE = Path(__file__).parent.parent / "docs" / "model.md"
BEGIN, END = "<!-- steps -->", "<!-- /steps -->"
CARDS = Catalogue(Path(), ())
SPLITWISE, HELIX = "splitwise_llama70b_bloom176b.csv", "helix_hetero_layer_times.csv"
MODELS = {
    "bloom-176b": "bloom-176b",
    "llama2-70b": "llama-2-70b",
    "llama2_70b": "llama-2-70b",
    "llama1_30b": "llama-30b",
}
DEVICES = {
    "a100-80gb": "a100-sxm-80gb",
    "h100-80gb": "h100-sxm-80gb",
    "a100": "a100-sxm-40gb",
    "l4": "l4",
    "t4": "t4",
    "v100": "v100-sxm-16gb",
}
"""Helix does not say which A100 and V100; those of its cloud are taken."""
CONTEXT_TOKENS = 900
"""Read off Helix's slope over sequences, 20 us on the A100 and 0.1 ms on the L4 for LLaMA 30B."""


@dataclass(frozen=True, slots=True)
class Timed:
    """A step or a layer that somebody timed, and what the profile says (s)."""

    group: tuple[str, str, str, str]
    """Source, device and number of them, model, phase."""
    layers: int
    predicted_s: float
    measured_s: float

    def error(self, overhead_s: float = 0.0) -> float:
        """(predicted - measured) / measured, with so much more overhead per layer."""
        return (self.predicted_s + self.layers * overhead_s) / self.measured_s - 1


def card(kind: Any, name: str, of: type[Any]) -> Any:
    """A bundled profile."""
    found, _ = CARDS.get(kind, name)
    assert isinstance(found, of)
    return found


def timed(data: Path) -> Iterator[Timed]:
    """Every row of both tables."""
    yield from (one for row in rows(data / SPLITWISE) for one in _splitwise(row))
    yield from map(_helix, rows(data / HELIX))


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table whose comments start with #."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def _splitwise(row: Mapping[str, str]) -> Iterator[Timed]:
    """All prompts of a batch in one step, and a decode step at its mean context."""
    model, count = card("models", MODELS[row["model"]], ModelSpec), int(row["tensor_parallel"])
    chip = _chip(row["hardware"], count)
    quant = card("quants", "fp16", QuantScheme)
    users, prompt, output = (int(row[name]) for name in ("batch_size", "prompt_size", "token_size"))
    steps = {
        "prompt": (Batch("prefill", users, users * prompt, 0), "prompt_ms"),
        "token": (Batch.decode(users, users * (prompt + output / 2)), "token_ms"),
    }
    for phase, (batch, column) in steps.items():
        said = step_time(model, 0, model.num_hidden_layers, quant, chip, batch).total_s
        group = ("Splitwise", f"{count} x {chip.device.id}", model.id, phase)
        yield Timed(group, model.num_hidden_layers, said, float(row[column]) / 1e3)


def _helix(row: Mapping[str, str]) -> Timed:
    """One layer; how long the contexts of decode are, its times tell."""
    name, _, count = row["machine"].partition("x")
    chip, tokens = _chip(name, int(count or 1)), float(row["tokens"])
    model = card("models", MODELS[row["model"]], ModelSpec)
    batch = (
        Batch.prefill(tokens)
        if row["phase"] == "prompt"
        else Batch.decode(tokens, tokens * CONTEXT_TOKENS)
    )
    said = layer_time(model, model.layers[1], card("quants", "fp16", QuantScheme), chip, batch)
    group = ("Helix", f"{chip.count} x {chip.device.id}", model.id, row["phase"])
    return Timed(group, 1, said.total_s, float(row["time_ms"]) / 1e3)


def _chip(name: str, count: int) -> Chip:
    return Chip.of(card("engines", "vllm", Engine), card("devices", DEVICES[name], Device), count)


def table(found: list[Timed]) -> list[str]:
    """The errors by group as Markdown."""
    groups: dict[tuple[str, ...], list[Timed]] = defaultdict(list)
    for one in found:
        groups[one.group].append(one)
    lines = [
        "| measured by | devices | model | phase | rows | median | p90 | bias | overhead fitted |",
        "|---|---|---|---|--:|--:|--:|--:|--:|",
    ]
    more_s = {source: _overhead_s(found, source) for source in ("Splitwise", "Helix")}
    for group, mine in groups.items():
        errors = [one.error() for one in mine]
        off = sorted(map(abs, errors))
        figures = f"{percentile(off, 50):.0%} | {percentile(off, 90):.0%}"
        bias = f"{statistics.median(errors):+.0%}"
        then = statistics.median(abs(one.error(more_s[group[0]])) for one in mine)
        lines.append(f"| {' | '.join(group)} | {len(mine)} | {figures} | {bias} | {then:.0%} |")
    said = ", ".join(f"{1e3 * time_s:.2f} ms ({source})" for source, time_s in more_s.items())
    return [*lines, "", f"Overhead per layer beyond that of vLLM today, one constant each: {said}."]


def _overhead_s(found: list[Timed], source: str) -> float:
    """What a layer took more in decode than predicted, in the median over the rows of a source."""
    return statistics.median(
        (one.measured_s - one.predicted_s) / one.layers
        for one in found
        if one.group[0] == source and one.group[3] != "prompt"
    )


def main() -> None:
    """Prints the table, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path, help="folder with the tables")
    parser.add_argument("--write", action="store_true", help="into docs/model.md")
    options = parser.parse_args()
    made = "\n".join(table(list(timed(options.data))))
    print(made)
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        _, after = rest.split(END)
        PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
