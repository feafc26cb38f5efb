"""``planner diff``: what is different between two manifests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console
from planner.cli.console import Format, FormatOption

if TYPE_CHECKING:
    from planner.files.difference import Share


def diff(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="A manifest.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="Another manifest.")],
    format: FormatOption = Format.text,
) -> None:
    """Show what is different between two manifests.

    Which nodes hold something else, what that does to latency and cost, and which values of the
    problem changed.

    Example: `planner diff before.yaml after.yaml`
    """
    from planner.files.difference import difference
    from planner.files.manifest import read_manifest
    from planner.report.diff import text

    found = difference(read_manifest(before), read_manifest(after))
    if format is Format.json:
        values = found.model_dump(mode="json")
        console.emit_json(
            {"before": str(before), "after": str(after), "empty": found.empty} | values
        )
        return
    if found.empty:
        console.note("the manifests do not differ in plan, prediction or problem")
        return
    moved = [(one.node, _share(one.before), _share(one.after)) for one in found.moved]
    numbers = [
        (one.name, one.before, one.after, one.change)
        for one in (found.pipelines, *found.metrics)
        if one.before != one.after
    ]
    costs = [
        (f"{one.name}_usd_per_hour", one.before, one.after, one.change)
        for one in found.cost_usd_per_hour
        if one.before != one.after
    ]
    changes = [(one.path, one.before, one.after) for one in found.problem]
    console.emit(*text(moved, numbers + costs, changes))


def _share(share: Share | None) -> str:
    if share is None:
        return "nothing"
    layers = f"layers {share.start} to {share.stop - 1} in {share.quant}"
    return f"pipeline {share.pipeline}, {layers}"
