"""Room: what several devices of a node hold twice counts twice, in plans and in the search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from planner.core.cluster import Node
from planner.core.cost.room import kv_blocks
from planner.core.engine import Split
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem
from planner.plan.fits import fits
from planner.plan.room import capacity_bytes, overfull, stage_needs
from planner.plan.ways import Way
from tests.core.world import device, engine, model, problem

SEATS = 64


def world(devices: int, memory: float = 1e6) -> Problem:
    """Layers with two KV heads, on a node of so many devices."""
    return problem(
        nodes=[Node(id="a", device="chip", count=devices)],
        devices=[device(memory=memory, interconnect="50 GB/s")],
        engine=engine(memory_reserve=1e3, split="tensor"),
        model=model(num_hidden_layers=4),
    )


def stage(split: Split | None = None) -> Stage:
    return Stage(node="a", start=0, stop=4, quant="bf16", split=split)


@pytest.mark.parametrize(
    ("devices", "split", "times"),
    [(1, None, 1), (2, None, 1), (4, None, 2), (8, None, 4), (4, "tensor", 2), (4, "layer", 1)],
)
def test_devices_beyond_the_kv_heads_hold_heads_again(
    devices: int, split: Split | None, times: int
) -> None:
    one = stage_needs(world(1), stage(), SEATS)
    many = stage_needs(world(devices), stage(split), SEATS)
    assert many.kv_bytes == pytest.approx(times * one.kv_bytes)
    assert many.weights_bytes == one.weights_bytes
    assert many.reserve_bytes == devices * one.reserve_bytes


def test_a_node_that_would_be_too_full_with_that_is_overfull_and_has_fewer_blocks() -> None:
    shared = stage_needs(world(4), stage("layer"), SEATS).total_bytes
    twice = stage_needs(world(4), stage("tensor"), SEATS).total_bytes
    tight = world(4, memory=(shared + twice) / 2 / 4)
    plans = {
        split: Plan(pipelines=(Pipeline(stages=(stage(split),), max_num_seqs=SEATS),))
        for split in ("layer", "tensor")
    }
    assert overfull(tight, plans["layer"]) == []
    assert overfull(tight, plans["tensor"]) == ["a"]
    blocks = {split: kv_blocks(tight, plan.pipelines[0]) for split, plan in plans.items()}
    assert 0 < blocks["tensor"] < blocks["layer"]


@pytest.mark.parametrize("split", [None, "tensor", "layer"])
@pytest.mark.parametrize("memory", [3e4, 6e4, 1e5, 2e5])
def test_the_search_fits_what_fits(split: Split | None, memory: float) -> None:
    tight = world(4, memory)
    able = np.isfinite(fits(tight, "a", Way(0, tight.quant("bf16"), split), SEATS))
    for start, stop in itertools.combinations(range(5), 2):
        held = Stage(node="a", start=start, stop=stop, quant="bf16", split=split)
        need = stage_needs(tight, held, SEATS).total_bytes
        assert able[start, stop] == (need <= capacity_bytes(tight, "a"))
