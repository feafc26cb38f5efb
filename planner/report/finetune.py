"""Fine-tuning over a plan, in words."""

from __future__ import annotations

from planner.advice.finetune import FineTuned
from planner.core.finetune import FineTune
from planner.core.units import show
from planner.report.tables import Lines, duration, grid


def finetune_text(asked: FineTune, found: FineTuned) -> Lines:
    """A step of training: time, memory of each stage, traffic of each hop, price of it all."""
    yield (
        f"Fine-tuning adapters of rank {asked.rank} ({found.adapter_params / 1e6:,.4g} million "
        f"parameters) over this pipeline"
    )
    yield (
        f"  {duration(found.step_s)} a step of {asked.step_tokens:,} tokens, "
        f"{found.tokens_per_s:,.4g} tok/s; {asked.steps:,} steps take {found.hours:,.3g} h and "
        f"{found.usd:,.4g} USD"
    )
    rows = grid("<", ">", ">", "<")
    for stage in found.stages:
        used = sum(stage.memory_bytes.values())
        told = f"{show(used, 'bytes')} of {show(stage.capacity_bytes, 'bytes')}"
        parts = ", ".join(
            f"{name} {show(size, 'bytes', 3)}" for name, size in stage.memory_bytes.items()
        )
        times = f"{duration(stage.forward_s)} there, {duration(stage.backward_s)} back"
        rows.add_row(f"  {stage.node}", times, told + ("" if stage.fits else ", too much"), parts)
    for hop in found.hops:
        there, back = (show(one, "bytes", 3) for one in (hop.forward_bytes, hop.backward_bytes))
        sent = f"{there} there, {back} back"
        cost = f"{hop.usd:.3g} USD a step" if hop.usd else ""
        rows.add_row(f"  {hop.src} -> {hop.dst}", f"{duration(hop.seconds)} both ways", sent, cost)
    yield rows
