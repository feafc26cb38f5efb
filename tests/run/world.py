"""Tiny checkpoints and plans of the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from planner.core.cluster import Link, Node
from planner.core.model import ModelSpec
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem
from planner.core.workload import Closed, Fixed, Workload
from planner.run.checkpoint import Checkpoint, open_checkpoint
from planner.run.model import CacheShape
from planner.run.model import Stage as Layers
from planner.run.seeded import make_checkpoint
from tests.core import world

CACHE = CacheShape(slots=4, slot_tokens=64)


def spec(**changes: Any) -> ModelSpec:
    """Four layers of 64, grouped heads, 300 tokens."""
    return world.model(**({"vocab_size": 300, "max_position_embeddings": 512} | changes))


def checkpoint(folder: Path, dtype: str = "fp32", **changes: Any) -> Checkpoint:
    """A seeded checkpoint of ``spec(**changes)``."""
    return open_checkpoint(make_checkpoint(folder / "model", spec(**changes), dtype=dtype))


def chain(opened: Checkpoint, cuts: Sequence[int], quant: str = "fp32") -> list[Layers]:
    """Stages that split a model at ``cuts``, in this process."""
    ends = [0, *cuts, opened.config.layers]
    return [Layers(opened, start, stop, quant, CACHE) for start, stop in pairwise(ends)]


def prefill(stages: Sequence[Layers], prompt: Sequence[int], slot: int = 0) -> torch.Tensor:
    """Logits [1, vocabulary] after a prompt."""
    x = torch.tensor(prompt)
    for stage in stages:
        x = stage.prefill(x, slot)
    return x


def decode(
    stages: Sequence[Layers], tokens: Sequence[int], slots: Sequence[int], held: Sequence[int]
) -> torch.Tensor:
    """Logits [B, vocabulary] after one more token each."""
    x = torch.tensor(tokens)
    for stage in stages:
        x = stage.decode(x, slots, held)
    return x


def greedy(stages: Sequence[Layers], prompt: Sequence[int], new: int, slot: int = 0) -> list[int]:
    """``new`` greedy tokens after a prompt."""
    tokens = [int(prefill(stages, prompt, slot).argmax())]
    for step in range(new - 1):
        logits = decode(stages, tokens[-1:], [slot], [len(prompt) + step])
        tokens.append(int(logits.argmax()))
    return tokens


def problem(
    nodes: int, model: ModelSpec, links: Sequence[Link] = (), quant: str = "fp32", **changes: Any
) -> Problem:
    """``home`` coordinates; ``w0``, ``w1`` ... hold layers; two users of 9 + 6 tokens."""
    values: dict[str, Any] = {
        "model": model,
        "quants": (world.quant(quant),),
        "workload": Workload(
            arrivals=Closed(kind="closed", concurrency=2),
            prompt=Fixed(tokens=9),
            output=Fixed(tokens=6),
            requests=4,
        ),
    }
    return world.problem(
        nodes=[Node(id="home"), *(Node(id=f"w{i}", device="chip") for i in range(nodes))],
        links=links or [Link(src="*", dst="*", one_way_latency=0.0, bandwidth=1e12)],
        **(values | changes),
    )


def pipeline(nodes: Sequence[str], layers: int, quant: str = "fp32", **changes: Any) -> Pipeline:
    """Layers spread evenly over ``nodes``."""
    ends = [layers * index // len(nodes) for index in range(len(nodes) + 1)]
    stages = [
        Stage(node=node, start=start, stop=stop, quant=quant)
        for node, (start, stop) in zip(nodes, pairwise(ends), strict=True)
    ]
    return Pipeline.model_validate({"stages": tuple(stages), "max_num_seqs": 2} | changes)


def plan(*pipelines: Pipeline) -> Plan:
    """A plan without standbys."""
    return Plan(pipelines=pipelines)
