"""``--engine ray`` from the outside, on a cluster of three nodes."""

from __future__ import annotations

import pytest

from tests.cli.scene import Scene
from tests.cli.test_run import two_stages

pytest.importorskip("ray", reason="ray is not installed")

from tests.run.cluster import ray_cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.filterwarnings("ignore::Warning"),
]


def test_a_plan_runs_on_ray_as_it_does_here(scene: Scene) -> None:
    manifest, prompts = two_stages(scene), scene.folder / "prompts.txt"
    prompts.write_text("hello\nwhat is it\n")
    ask = ("run", manifest, "--prompts", prompts, "--format", "json")
    here = scene.planner(*ask)
    assert here.code == 0, here.stderr
    with ray_cluster():
        there = scene.planner(*ask, "--engine", "ray")
    assert there.code == 0, there.stderr
    assert there.document["answers"] == here.document["answers"]
    assert there.document["sessions"] == {"started": 2, "completed": 2, "lost": 0}


def test_nodes_and_ray_exclude_each_other(scene: Scene) -> None:
    manifest = two_stages(scene)
    said = scene.planner("run", manifest, "--engine", "ray", "--nodes", scene.folder / "i.yaml")
    assert (said.code, said.stdout) == (2, "")
