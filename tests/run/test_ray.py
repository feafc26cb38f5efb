"""Plans and grids on a Ray cluster of three nodes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from planner.run.checkpoint import open_checkpoint
from planner.run.driver import Prompt, Session
from planner.run.fleet import Fleet, Settings
from planner.run.node import Compute
from planner.run.rayplaces import ray_places
from planner.run.seeded import make_checkpoint
from planner.run.spread import over_processes, over_ray, usable_cores

pytest.importorskip("ray", reason="ray is not installed")

from tests.run.cluster import RayCluster, ray_cluster
from tests.run.world import chain, greedy, pipeline, plan, problem, spec

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::Warning")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as made:
        yield made


def process_of(_: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def squared(value: int) -> int:
    return value * value


def test_ray_and_processes_answer_in_the_order_of_a_loop(cluster: RayCluster) -> None:
    values = list(range(64))
    expected = [squared(value) for value in values]
    assert list(over_ray(squared, values)) == expected
    assert list(over_processes(squared, values, usable_cores())) == expected


def test_all_cores_are_used(cluster: RayCluster) -> None:
    assert len(set(over_ray(process_of, range(64)))) == 3
    assert len(set(over_processes(process_of, range(64), 2))) == 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("ray") / "model", spec(), dtype="fp32")


def asked(count: int, tokens: int) -> list[Prompt]:
    return [Prompt(key, 0.0, [key + 1, 7, 9], tokens) for key in range(count)]


def test_stages_in_actors_write_what_one_process_writes(cluster: RayCluster, folder: Path) -> None:
    opened = open_checkpoint(folder)
    chosen = plan(pipeline(["w0", "w1", "w2"], 4, max_num_seqs=2))
    settings = Settings(folder, slot_tokens=64, threads=1, imitate_links=False)
    with (
        ray_places(chosen, opened, Compute(1)) as places,
        Fleet(problem(3, spec()).cluster, chosen, settings, places) as fleet,
    ):
        session = Session(fleet, chosen, opened.tokenizer())
        prompts = asked(4, 8)
        session.run(prompts, concurrency=2)
    stages = chain(opened, [])
    for prompt in prompts:
        assert isinstance(prompt.content, list)
        assert session.outputs[prompt.id] == greedy(stages, prompt.content, 8)
