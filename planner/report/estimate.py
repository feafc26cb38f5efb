"""What ``planner estimate`` says: figures first, then where the time and the memory go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from planner.core.cost.estimate import Estimate
from planner.core.cost.memory import StageMemory
from planner.core.cost.stagetime import StageTime
from planner.core.device import Device
from planner.core.engine import Engine
from planner.core.model import ModelSpec
from planner.core.quant import QuantScheme
from planner.core.trust import Trust
from planner.report.tables import BAR, GIB, Lines, bar, duration, trust

if TYPE_CHECKING:
    from rich.table import Table

_TIME_MEANING = {
    "weights": "reading weights",
    "compute": "products beyond reading weights",
    "kv": "reading the KV cache",
    "attention": "attention beyond reading the cache",
    "sync": "between devices of the node",
    "overhead": "launches and fixed cost",
    "coordinator": "scheduling and sampling",
    "draft": "the draft model",
    "prompts": "prompts of other requests between",
}
_MEMORY_MEANING = {
    "weights": "parameters",
    "kv": "KV cache of the requests",
    "activation": "activations and logits",
    "reserve": "the runtime itself",
    "free": "left for more KV cache",
}
_NOTHING_S = 1e-12
"""Below this a part is what rounding leaves."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """A scheme, on so many devices that share every layer, that would fit."""

    quant: str
    count: int
    memory_bytes: float
    """On all of them together."""


@dataclass(frozen=True, slots=True)
class EstimateReport:
    """An estimate with what it is an estimate of."""

    model: ModelSpec
    quant: QuantScheme
    device: Device
    count: int
    engine: Engine
    values: Estimate
    instead: tuple[Fitting, ...] = ()
    """What would fit where this does not, the widest scheme first, then more devices."""

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        values = self.values
        said = self._trusted
        band = said.band
        return {
            "model": self.model.id,
            "device": self.device.id,
            "count": self.count,
            "engine": self.engine.id,
            "engine_version": self.engine.version,
            "quant": self.quant.id,
            "prompt_tokens": values.load.prompt_tokens,
            "output_tokens": values.load.output_tokens,
            "batch": values.load.batch,
            "prefill_tok_s": values.prefill_tokens_per_s,
            "decode_tok_s": values.decode_tokens_per_s,
            "ttft_ms": values.ttft_s * 1e3,
            "tpot_ms": values.tpot_s * 1e3,
            "memory_gib": values.memory.total_bytes / GIB,
            "capacity_gib": values.capacity_bytes / GIB,
            "fits": values.fits,
            "would_fit": [
                {"quant": one.quant, "count": one.count, "memory_gib": one.memory_bytes / GIB}
                for one in self.instead
            ],
            "kv_capacity_tokens": values.kv_capacity_tokens,
            "tokens_per_step": values.tokens_per_step,
            "breakdown": self._decode(),
            "prefill_breakdown": self._step(values.prefill),
            "memory_breakdown_gib": {
                name: size / GIB for name, size in _parts(values.memory, "_bytes").items()
            },
            "tier": said.tier,
            "new": said.new,
            "error_band": band.figures if band else None,
            "error_bands": said.bands_figures,
        }

    def text(self) -> Lines:
        """Texts and tables for people."""
        values, load = self.values, self.values.load
        devices = f"{self.count} x {self.device.name}" if self.count > 1 else self.device.name
        yield f"{self.model.name or self.model.id} in {self.quant.id} on {devices}"
        yield (
            f"{self.engine.name} ({self.engine.version}), {load.prompt_tokens} prompt and "
            f"{load.output_tokens} output tokens, batch {load.batch}"
        )
        if not values.fits:
            yield ""
            yield self._misfit()
        yield ""
        yield self._figures()
        yield ""
        whole = f"One decode step, {duration(values.step_s + values.between_s)}"
        if values.tokens_per_step != 1:
            whole += f", of {values.tokens_per_step:.3g} tokens"
        yield _bars(whole, self._decode(), duration, _TIME_MEANING)
        yield ""
        rows = self._step(values.prefill)
        whole = f"One prompt, {duration(sum(rows.values()))}"
        yield _bars(whole, rows, duration, _TIME_MEANING)
        yield ""
        memory = _parts(values.memory, "_bytes")
        left = values.capacity_bytes - values.memory.total_bytes
        whole = f"Memory, {_gib(values.memory.total_bytes)} of {_gib(values.capacity_bytes)}"
        yield _bars(whole, memory | ({"free": left} if left > 0 else {}), _gib, _MEMORY_MEANING)
        yield ""
        yield self._trust()

    def _decode(self) -> dict[str, float]:
        """Seconds of a decode step by cause."""
        rows = self._step(self.values.decode)
        others = {"draft": self.values.draft_s, "prompts": self.values.between_s}
        return rows | {name: time_s for name, time_s in others.items() if time_s > _NOTHING_S}

    def _figures(self) -> Table:
        from rich.table import Table

        values = self.values
        table = Table.grid(padding=(0, 3))
        table.add_column()
        table.add_column(justify="right")
        table.add_column()
        table.add_row("Prefill", _rate(values.prefill_tokens_per_s), "")
        table.add_row("Decode", _rate(values.decode_tokens_per_s), "all of the batch")
        idle = "to the first token" + (", node idle" if values.load.batch == 1 else "")
        table.add_row("TTFT", duration(values.ttft_s), idle)
        table.add_row("TPOT", duration(values.tpot_s), "per output token after it")
        if values.fits:
            room = f"room for {values.kv_capacity_tokens:,} tokens of KV cache"
            table.add_row("Fits", "yes", room)
        else:
            short = values.memory.total_bytes - values.capacity_bytes
            table.add_row(
                "Fits", "no", f"{_gib(short)} short: it does not run, whatever stands above"
            )
        return table

    def _misfit(self) -> str:
        """That it does not run, and what would."""
        ways = [
            f"{one.quant} on {one.count} of them ({_gib(one.memory_bytes)} in all)"
            if one.count > self.count
            else f"{one.quant} ({_gib(one.memory_bytes)})"
            for one in self.instead
        ]
        told = (
            f"What would: {', '.join(ways)}."
            if ways
            else "No narrower scheme of this engine would, nor eight of them."
        )
        return (
            f"It does not fit: {_gib(self.values.memory.total_bytes)} are needed of "
            f"{_gib(self.values.capacity_bytes)}. {told} The speeds below are those of such a "
            "device with more memory."
        )

    @property
    def _trusted(self) -> Trust:
        return self.engine.trust(self.device, self.model.id, self.quant.id)

    def _trust(self) -> str:
        said = self._trusted
        band = said.band.figures if said.band else None
        return trust(said.tier, band, said.new, said.bands_figures)

    def _step(self, stage: StageTime) -> dict[str, float]:
        """Seconds of a step by cause, the coordinator's included."""
        return {**_parts(stage, "_s"), "coordinator": self.values.coordinator_s}


def _parts(value: StageTime | StageMemory, unit: str) -> dict[str, float]:
    """Fields of a broken-down value by name, without their unit."""
    return {
        field.name.removesuffix(unit): float(getattr(value, field.name)) for field in fields(value)
    }


def _bars(
    title: str,
    parts: Mapping[str, float],
    written: Callable[[float], str],
    meaning: Mapping[str, str],
) -> Table:
    """A row for every part that is not zero, with its share of the whole."""
    from rich.table import Table

    whole = sum(parts.values())
    table = Table(
        title=title,
        title_justify="left",
        title_style="",
        box=None,
        show_header=False,
        padding=0,
        pad_edge=False,
    )
    table.add_column(min_width=12)
    table.add_column(justify="right", min_width=10)
    table.add_column(justify="right", min_width=7)
    table.add_column(min_width=BAR + 4, no_wrap=True)
    table.add_column(overflow="fold")
    for name, size in parts.items():
        if size <= 0:
            continue
        share = size / whole
        table.add_row(name, written(size), f"{share:.1%}", f"  {bar(share)}", meaning[name])
    return table


def _rate(tokens_per_s: float) -> str:
    digits = 0 if tokens_per_s >= 100 else 2
    return f"{tokens_per_s:,.{digits}f} tok/s"


def _gib(size_bytes: float) -> str:
    return f"{size_bytes / GIB:.2f} GiB"
