"""Tables of kernel times, as profilers of serving engines write them -> values a fit can use.

One time per row: ``dense:NAME`` is an operation of one layer for ``tokens`` tokens,
``per_seq:NAME`` one of a step for as many sequences, ``attn_*`` attention of one layer for
``prefill_chunk`` new tokens after ``kv_prefill`` cached ones beside ``n_decode`` sequences of
``kv_decode`` tokens each.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from planner.core.cost.batch import Batch
from planner.core.device import Device
from planner.core.errors import FileProblem, InvalidFileError
from planner.core.model import ModelSpec
from planner.core.quant import QuantScheme
from planner.fit.kernels import KernelTimes

COLUMNS = ("op", "tokens", "prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us")
_LAYER, _STEP, _ATTENTION = "dense:", "per_seq:", "attn_"
_PRODUCTS = "_proj"
_ENDS = ("embedding", "final_layernorm")
"""Operations that are once in a step, although they go by tokens."""
_TIMES = {"layernorm": 2}
"""How often an operation is in a layer, where that is not once."""


def is_kernel_table(path: Path) -> bool:
    """Whether a file has the header of such a table; False where it cannot be read."""
    try:
        with path.open(encoding="utf-8") as lines:
            header = next((line for line in lines if line.strip() and line[0] != "#"), "")
    except (OSError, ValueError):
        return False
    return set(COLUMNS) <= {name.strip() for name in header.split(",")}


def read_kernels(path: Path, device: Device, model: ModelSpec, quant: QuantScheme) -> KernelTimes:
    """The kernel times of a table; raises InvalidFileError with every row that cannot be read."""
    products: dict[float, float] = defaultdict(float)
    between: dict[float, float] = defaultdict(float)
    ends: dict[float, float] = defaultdict(float)
    attention: list[tuple[tuple[Batch, ...], float]] = []
    problems: list[FileProblem] = []
    for number, row in _rows(path):
        try:
            kind, seconds = row["op"], _number(row, "time_us") * 1e-6
            if kind.startswith(_ATTENTION):
                attention.append((_batches(row), seconds))
            elif kind.startswith(_STEP):
                ends[_number(row, "tokens")] += seconds
            elif kind.startswith(_LAYER):
                name = kind.removeprefix(_LAYER)
                into = products if name.endswith(_PRODUCTS) else between
                if name not in _ENDS:
                    into[_number(row, "tokens")] += seconds * _TIMES.get(name, 1)
            else:
                raise ValueError(f"op {kind!r} is none of {_LAYER}*, {_STEP}*, {_ATTENTION}*")
        except ValueError as error:
            problems.append(FileProblem(str(path), str(error), line=number))
    for name, found in (("dense:*_proj", products), ("dense:*", between), ("per_seq:*", ends)):
        if not found:
            problems.append(FileProblem(str(path), f"there is no {name} row"))
    if problems:
        raise InvalidFileError(problems, f"the columns are {','.join(COLUMNS)}")
    return KernelTimes(device, model, quant, dict(products), dict(between), attention, dict(ends))


def _rows(path: Path) -> list[tuple[int, Mapping[str, str]]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [(at, line) for at, line in enumerate(lines, 1) if line.strip() and line[0] != "#"]
    reader = csv.DictReader(line for _, line in kept)
    return [
        (at, {key: (value or "").strip() for key, value in row.items() if key})
        for (at, _), row in zip(kept[1:], reader, strict=False)
    ]


def _batches(row: Mapping[str, str]) -> tuple[Batch, ...]:
    """What an attention row computes: a piece of a prompt, decoding sequences, or both."""
    new, cached, sequences, each = (
        _number(row, name, least=0)
        for name in ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
    )
    found = []
    if new:
        found.append(Batch.prefill(new, cached))
    if sequences:
        found.append(Batch.decode(sequences, sequences * each))
    if not found:
        raise ValueError("attention over neither a prompt nor decoding sequences")
    return tuple(found)


def _number(row: Mapping[str, str], name: str, least: float | None = None) -> float:
    """A cell as a number above 0, or at least ``least``; an empty one is 0."""
    try:
        value = float(row[name] or 0)
    except ValueError:
        raise ValueError(f"{name}: {row[name]!r} is no number") from None
    if value <= 0 if least is None else value < least:
        bound = "above 0" if least is None else "at least 0"
        raise ValueError(f"{name}: {value:g} must be {bound}")
    return value
