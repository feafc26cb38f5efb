"""Ways: how a node of a class may hold a stage, which the search chooses along with the layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.core.engine import Split
from planner.core.plan import Stage
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.plan.classes import NodeClass


@dataclass(frozen=True, slots=True)
class Way:
    """A class of nodes, the quantization of its stage and how its devices share it."""

    owner: int
    """Class it belongs to."""
    quant: QuantScheme
    split: Split | None = None
    """None as the engine does it by itself."""

    def stage(self, node: str, start: int, stop: int) -> Stage:
        """Layers held this way."""
        return Stage(node=node, start=start, stop=stop, quant=self.quant.id, split=self.split)


def ways(
    problem: Problem, classes: Sequence[NodeClass], quants: Sequence[QuantScheme]
) -> tuple[Way, ...]:
    """Every class in every quantization; nodes of several devices in every split there is."""
    return tuple(
        Way(owner, quant, split)
        for owner, entry in enumerate(classes)
        for quant in quants
        for split in splits(problem, entry.example)
    )


def splits(problem: Problem, node: str) -> tuple[Split | None, ...]:
    """Ways in which the devices of a node can share a stage."""
    engine = problem.engine
    if problem.cluster.node(node).count == 1:
        return (None,)
    return (None, *(split for split in engine.other_splits if split != engine.split))
