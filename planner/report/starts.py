"""How the stages of a run came to be ready: how long it took, and which kernels they chose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planner.run.measurement import StageRun


@dataclass(frozen=True, slots=True)
class StageStart:
    """A stage when it was ready."""

    node: str
    start: int
    stop: int
    load_s: float
    """From the order to hold it on, the choice of kernels included."""
    kernels: Mapping[str, Any]

    @property
    def compiled(self) -> bool:
        """Whether single rows go through compiled programs."""
        return bool(self.kernels.get("compiled"))


def stage_starts(runs: Iterable[StageRun]) -> tuple[StageStart, ...]:
    """Those of every stage, by who held it."""
    return tuple(
        StageStart(run.stage.node, run.stage.start, run.stage.stop, run.load_s, run.kernels)
        for run in runs
    )


def starts_text(starts: Sequence[StageStart]) -> str:
    """All of them in a line."""
    told = (
        f"{one.node} {one.load_s:.1f} s{' with compiled steps' if one.compiled else ''}"
        for one in starts
    )
    return f"Time until stages were held: {', '.join(told)}"
