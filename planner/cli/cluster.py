"""``--engine ray``: the nodes of a plan on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from planner.cli.extra import needs

if TYPE_CHECKING:
    from planner.core.plan import Plan
    from planner.run.places import Place


@contextmanager
def on_ray(
    plan: Plan, checkpoint: Path, threads: int | None, address: str | None
) -> Iterator[dict[str, Place]]:
    """Places by node of a plan, as actors; raises RunError."""
    from planner.run.checkpoint import open_checkpoint
    from planner.run.node import Compute

    with needs("verify", "planner run --engine ray"):
        from planner.run.rayplaces import ray_places
    with ray_places(plan, open_checkpoint(checkpoint), Compute(threads or 1), address) as places:
        yield places
