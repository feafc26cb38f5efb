"""Helix's machines under our cost model: fitted layer times, and plans along their paths."""

from __future__ import annotations

import os
import statistics
from pathlib import Path

import numpy as np
import pytest

from benchmarks.helix_clusters import read_cluster, read_placement
from benchmarks.helix_serving import as_plan, machines, routed, serving
from planner.plan.flow import FlowProblem, windows_of
from planner.plan.predict import predict
from planner.plan.room import overfull
from planner.sim.simulate import simulate

DATA = Path(os.environ.get("PLANNER_TEST_DATA", "../shared/data"))
TIMES = DATA / "helix_hetero_layer_times.csv"
needs_data = pytest.mark.skipif(not TIMES.exists(), reason=f"{TIMES} is not here")
pytestmark = [needs_data, pytest.mark.slow]


def test_fitted_machines_meet_the_measured_layer_times() -> None:
    for name, machine in machines(TIMES, ["A100", "L4", "T4x2"]).items():
        assert statistics.median(map(abs, machine.errors)) < 0.05, name


def test_a_published_placement_becomes_a_plan_of_distinct_nodes_that_fits() -> None:
    cluster = read_cluster(DATA / "helix", "geo24")
    known = machines(TIMES, sorted(set(cluster.machines)))
    problem = serving(
        "geo24", cluster.machines, cluster.bytes_per_s, cluster.latency_s, known, users=4
    )
    published = read_placement(DATA / "helix", cluster)
    plan = as_plan(problem, cluster.objective, published)
    assert plan is not None
    assert not overfull(problem, plan)
    for pipeline in plan.pipelines:
        for stage in pipeline.stages:
            start, stop = published[int(stage.node[1:])]
            assert start <= stage.start < stage.stop == stop
    result = simulate(problem, routed(problem, plan), 0).metrics
    assert result.completed == 40
    predicted = predict(problem, plan).metrics.output_throughput
    assert predicted is not None
    assert result.output_throughput == pytest.approx(predicted, rel=0.05)


def test_a_placement_beyond_memory_becomes_no_plan() -> None:
    cluster = read_cluster(DATA / "helix", "single24")
    known = machines(TIMES, sorted(set(cluster.machines)))
    count = len(cluster.machines)
    problem = serving(
        "single24", cluster.machines, cluster.bytes_per_s, cluster.latency_s, known, users=2
    )
    wide = np.full(count, 1e6)
    rates = np.tile(np.arange(81.0), (count, 1))
    flows = FlowProblem(80, rates, wide, wide, np.full((count, count), 1e6))
    windows = np.zeros((count, 2), dtype=np.int64)
    windows[[6, 7, 8]] = windows_of([(0, 12), (12, 40), (40, 80)])
    assert as_plan(problem, flows, windows) is None
