from __future__ import annotations

from pathlib import Path

import pytest

from planner.core.errors import Exit, UsageError
from planner.files.override import override_problem
from tests.files.world import SCENARIO, load


def test_values_are_changed_added_and_named_by_id(tmp_path: Path) -> None:
    problem = load(
        tmp_path,
        SCENARIO,
        "workload.arrivals.concurrency=8",
        "must_have.mean_ttft=2 s",
        "nodes.b.price=1 USD/h",
        "nodes[0].region=no",
        "quants=[bf16]",
        "network.default={one_way_latency: 3 ms, bandwidth: 1 MB/s}",
    ).problem
    assert problem.workload.concurrency == 8
    assert problem.requirements.must_have.mean_ttft_s == 2
    assert problem.cluster.node("b").usd_per_hour == 1
    assert problem.cluster.node("a").region == "no"
    assert problem.cluster.links[0].one_way_latency_s == 3e-3


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("workload.arivals.concurrency=8", "workload.arivals: unknown key; did you mean arrivals?"),
        ("must_have.ttft=2 s", "must_have.ttft: unknown key; did you mean mean_ttft?"),
        ("workload.requests=many", "workload.requests: must be a whole number, not 'many'"),
        ("must_have.mean_ttft=2", "must_have.mean_ttft: '2' has no unit; write it like 35 ms"),
        ("nodes.c.price=1 USD/h", "nodes has no entry 'c'"),
        ("nodes[7].price=1 USD/h", "nodes has 2 entries, counted from 0"),
        ("nodes.b.price.x=1", "nodes[1].price is a single value, it has no 'x'"),
        ("model=tony", "model: there is no model 'tony'; did you mean tiny?"),
        ("coordinator=z", "coordinator: 'z' is no node"),
        ("name=", "name: must be text, not nothing"),
        ("workload.requests", "not understood"),
        ("=1", "not understood"),
        ("a..b=1", "not understood"),
        ("a[x]=1", "not understood"),
        ("name=[1", "is no YAML"),
    ],
)
def test_a_wrong_override_is_a_wrong_command_line(argument: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, SCENARIO, argument)
    assert said in caught.value.message
    assert f"--set {argument}" in caught.value.message
    assert caught.value.exit_code == Exit.USAGE


def test_a_planned_problem_takes_the_paths_of_its_scenario(tmp_path: Path) -> None:
    problem = load(tmp_path).problem
    assert override_problem(problem, []) is problem
    same = override_problem(problem, ["name=tiny"])
    assert same.digest == problem.digest
    changed = override_problem(
        problem,
        [
            "workload.arrivals.concurrency=8",
            "nodes.b.price=1 USD/h",
            "objective=ttft",
            "engine.hop=3 ms",
            "cluster.links[0].bandwidth=5 MB/s",
        ],
    )
    assert changed.workload.concurrency == 8
    assert changed.cluster.node("b").usd_per_hour == 1
    assert changed.requirements.objective == "ttft"
    assert changed.engine.hop_s == 3e-3
    assert changed.cluster.links[0].bytes_per_s == 5e6


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("engine.hop=3", "'3' has no unit"),
        ("nodes.b.prise=1 USD/h", "prise: unknown key; did you mean price?"),
        ("coordinator=z", "'z' is no node"),
        ("nodes.z.price=1 USD/h", "has no entry 'z'"),
    ],
)
def test_a_wrong_change_of_a_planned_problem_is_told(
    argument: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        override_problem(load(tmp_path).problem, [argument])
    assert said in caught.value.message
