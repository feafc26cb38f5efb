"""Stage, Pipeline and Plan: who holds which layers, and nothing else."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from planner.core.engine import Split
from planner.core.spec import Spec
from planner.core.units import Count, Positive

Readiness = Literal["hot", "warm", "cold"]
"""What a standby has of a stage: a process that holds it, its weights on disk, or nothing."""


class Stage(Spec):
    """Layers ``[start, stop)`` on a node."""

    node: str
    start: int = Field(ge=0)
    stop: int
    quant: str
    split: Split | None = None
    """How several devices of the node share it; as the engine does by itself where absent."""

    @model_validator(mode="after")
    def _not_empty(self) -> Stage:
        if self.stop <= self.start:
            raise ValueError(f"layers [{self.start}, {self.stop}) are none")
        return self

    @model_serializer(mode="wrap")
    def _brief(self, every: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Its fields, without a split where none was chosen."""
        fields: dict[str, Any] = every(self)
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def layers(self) -> range:
        """Indices of the layers it holds."""
        return range(self.start, self.stop)


class Pipeline(Spec):
    """Stages that cover all layers exactly once, in hop order."""

    stages: tuple[Stage, ...] = Field(min_length=1)
    weight: Positive = 1.0
    """Share of the requests it gets, relative to the other pipelines."""
    max_num_seqs: Count = 1
    """Most sequences it serves at once; memory for their KV cache is set aside."""
    micro_batches: Count = 1
    """Groups of sequences that travel through the stages at the same time."""

    @model_validator(mode="after")
    def _contiguous(self) -> Pipeline:
        expected = 0
        for stage in self.stages:
            if stage.start != expected:
                raise ValueError(
                    f"stage on {stage.node} starts at layer {stage.start}, expected {expected}"
                )
            expected = stage.stop
        nodes = [stage.node for stage in self.stages]
        if len(set(nodes)) != len(nodes):
            raise ValueError(f"a node appears twice in one pipeline: {', '.join(nodes)}")
        return self

    @property
    def nodes(self) -> tuple[str, ...]:
        """Ids of its nodes in hop order."""
        return tuple(stage.node for stage in self.stages)


class Standby(Spec):
    """A node that takes over a stage when its node is lost."""

    node: str
    pipeline: int = Field(ge=0)
    stage: int = Field(ge=0)
    state: Readiness = "cold"


class Plan(Spec):
    """Placement only; every number about it is computed from it."""

    pipelines: tuple[Pipeline, ...] = Field(min_length=1)
    standbys: tuple[Standby, ...] = ()
    coordinator: str | None = None
    """Where requests enter and tokens leave; where the problem says so if absent."""
    draft_tokens: int | None = Field(default=None, ge=0)
    """Tokens drafted for one check; as many as the problem says if absent."""

    @model_validator(mode="after")
    def _nodes_once(self) -> Plan:
        nodes = [node for pipeline in self.pipelines for node in pipeline.nodes]
        if len(set(nodes)) != len(nodes):
            twice = sorted({node for node in nodes if nodes.count(node) > 1})
            raise ValueError(f"nodes used by several pipelines: {', '.join(twice)}")
        return self

    @model_serializer(mode="wrap")
    def _brief(self, every: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Its fields, without choices that the problem had made."""
        fields: dict[str, Any] = every(self)
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def nodes(self) -> tuple[str, ...]:
        """Ids of all nodes that hold layers."""
        return tuple(node for pipeline in self.pipelines for node in pipeline.nodes)
