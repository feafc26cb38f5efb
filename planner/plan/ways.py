"""Ways: how a node of a class may hold a stage, which the search chooses along with the layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.core.engine import Split
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.plan.classes import NodeClass
from planner.plan.load import Load

Cut = tuple[int, int, int]
"""A stage: way of its node, first layer, end."""


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


def assembled(
    classes: Sequence[NodeClass],
    ways: Sequence[Way],
    pipelines: Sequence[tuple[Cut, ...]],
    load: Load,
) -> Plan:
    """A plan from cuts, giving each class's nodes away in order."""
    left = [list(entry.nodes) for entry in classes]
    made = [
        Pipeline(
            stages=tuple(
                ways[way].stage(left[ways[way].owner].pop(0), start, stop)
                for way, start, stop in cuts
            ),
            max_num_seqs=load.seats,
            micro_batches=load.groups,
        )
        for cuts in pipelines
    ]
    return Plan(pipelines=tuple(made))
