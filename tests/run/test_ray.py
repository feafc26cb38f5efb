"""Plans and grids on a Ray cluster of three nodes."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from planner.core.plan import Plan, Standby
from planner.core.problem import Problem, Serving
from planner.core.workload import Closed, Fixed, Workload
from planner.run.checkpoint import open_checkpoint
from planner.run.driver import Prompt, Session
from planner.run.execute import execute
from planner.run.fleet import Fleet
from planner.run.measurement import Measurement
from planner.run.model import CacheShape
from planner.run.model import Stage as Layers
from planner.run.node import Compute
from planner.run.places import Place
from planner.run.rayplaces import RayPlace, ray_places
from planner.run.seeded import make_checkpoint
from planner.run.settings import Settings
from planner.run.setup import Setup
from planner.run.spread import over_processes, over_ray, usable_cores

pytest.importorskip("ray", reason="ray is not installed")

from tests.run.cluster import RayCluster, ray_cluster
from tests.run.world import chain, greedy, pipeline, plan, problem, spec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.filterwarnings("ignore::Warning"),
]


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
        session = Session(fleet, opened.tokenizer())
        prompts = asked(4, 8)
        session.run(prompts, concurrency=2)
    stages = chain(opened, [])
    for prompt in prompts:
        assert isinstance(prompt.content, list)
        assert session.outputs[prompt.id] == greedy(stages, prompt.content, 8)


LONG = 400
"""Tokens of an answer that is still being written when a node has been taken away."""


def long_answers(nodes: int) -> Problem:
    workload = Workload(
        arrivals=Closed(kind="closed", concurrency=2),
        prompt=Fixed(tokens=9),
        output=Fixed(tokens=LONG),
        requests=4,
    )
    serving = Serving(detect_s=5.0, patience_s=120.0)
    return problem(nodes, spec(), workload=workload, serving=serving)


def struck(
    folder: Path,
    world: Problem,
    chosen: Plan,
    places: Mapping[str, Place],
    strike: Callable[[], None],
) -> Measurement:
    """A run that is struck, by another thread, once a few tokens are out."""
    told = itertools.count(1)
    threads: list[threading.Thread] = []

    def on_token(_request: int, _token: int, _text: str) -> None:
        if next(told) == 40:
            threads.append(threading.Thread(target=strike))
            threads[-1].start()

    requests = world.workload.sample(0)
    setup = Setup(world, chosen, folder, threads=1, places=places)
    measured = execute(setup, requests, on_token=on_token)
    for thread in threads:
        thread.join()
    return measured


def check_whole(folder: Path, measured: Measurement) -> None:
    """Every request has all its tokens, and those that one process writes."""
    assert [record.status for record in measured.records] == ["completed"] * 4
    opened = open_checkpoint(folder)
    stages = [Layers(opened, 0, opened.config.layers, "fp32", CacheShape(1, LONG + 16))]
    for key, prompt in measured.prompts.items():
        assert measured.outputs[key] == greedy(stages, prompt, LONG)


def test_ray_starts_an_actor_anew_that_was_killed(cluster: RayCluster, folder: Path) -> None:
    import ray

    chosen = plan(pipeline(["w0", "w1"], 4, max_num_seqs=2))
    with ray_places(chosen, open_checkpoint(folder), Compute(1)) as places:
        place = places["w1"]
        assert isinstance(place, RayPlace)
        measured = struck(
            folder,
            long_answers(2),
            chosen,
            places,
            lambda: ray.kill(place.actor, no_restart=False),
        )
    check_whole(folder, measured)
    assert [(one.node, one.replacement) for one in measured.recoveries] == [("w1", "w1")]


def test_a_run_survives_the_loss_of_a_ray_node(cluster: RayCluster, folder: Path) -> None:
    chosen = Plan(
        pipelines=(pipeline(["w0", "w1"], 4, max_num_seqs=2),),
        standbys=(Standby(node="w2", pipeline=0, stage=1, state="hot"),),
    )
    with ray_places(chosen, open_checkpoint(folder), Compute(1)) as places:
        measured = struck(folder, long_answers(3), chosen, places, lambda: cluster.remove("w1"))
    check_whole(folder, measured)
    assert {one.node: one.replacement for one in measured.recoveries} == {"w1": "w2"}
