"""``--vary``, ``--jobs`` and ``--engine`` of simulate: grids, wherever they run."""

from __future__ import annotations

from typing import Any

import pytest

from planner.cli.grid import combinations
from planner.core.errors import UsageError
from tests.cli.scene import Scene

GRID = (
    "--vary",
    "workload.arrivals.concurrency=1,2,3,4",
    "--vary",
    "serving.max_num_seqs=1,2",
    "--replications",
    8,
    "--format",
    "json",
)


def told(scene: Scene, *arguments: object) -> list[Any]:
    """What 8 targets under 8 seeds came to."""
    said = scene.planner("simulate", scene.scenario("must_have: {}\n"), *GRID, *arguments)
    assert said.code == 0, said.stderr
    targets: list[Any] = said.document["targets"]
    return targets


def test_values_make_combinations_in_order() -> None:
    assert combinations([]) == [()]
    found = combinations(["a.b=1,2", "c=[x,y],[z]"])
    assert found == [
        ("a.b=1", "c=[x,y]"),
        ("a.b=1", "c=[z]"),
        ("a.b=2", "c=[x,y]"),
        ("a.b=2", "c=[z]"),
    ]


@pytest.mark.parametrize("text", ["a.b", "=1,2", "a.b=1,,2", "a.b="])
def test_a_vary_without_values_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        combinations([text])


def test_a_wrong_value_is_said_of_vary(scene: Scene) -> None:
    wrong = "workload.arrivals.concurrency=1,many"
    said = scene.planner("simulate", scene.scenario(), "--vary", wrong)
    assert said.code == 2
    assert "--vary workload.arrivals.concurrency=many: " in said.stderr
    assert "--set" not in said.stderr


def test_a_grid_names_its_points_and_compares_them(scene: Scene) -> None:
    sets = ("--vary", "workload.arrivals.concurrency=1,2")
    said = scene.planner("simulate", scene.scenario(), *sets)
    assert said.code == 0, said.stderr
    assert "tiny concurrency=1" in said.stdout
    assert "Compared, on the same random numbers" in said.stdout


@pytest.mark.slow
def test_sixty_four_runs_over_processes_equal_the_serial_ones(scene: Scene) -> None:
    serial = told(scene, "--jobs", 1)
    assert len(serial) == 8
    assert told(scene, "--jobs", 2) == serial


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning")
def test_sixty_four_runs_over_ray_equal_the_serial_ones(scene: Scene) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    from tests.run.cluster import ray_cluster

    serial = told(scene, "--jobs", 1)
    with ray_cluster():
        assert told(scene, "--engine", "ray") == serial
