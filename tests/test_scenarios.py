"""Every bundled scenario is a test."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from planner.core.cost import stage_memory
from planner.core.device import Device
from planner.core.engine import Calibration, Efficiency, Engine
from planner.core.problem import Problem
from planner.files.alternatives import Api
from planner.files.offers import Offer
from planner.files.readable import write_card
from planner.files.scenario import Scenario, load_scenario
from planner.plan.solve import solve

TEMPLATES = ("homes", "marketplace", "single-region", "hybrid-with-cloud", "campus-lan")
SCENARIOS = sorted((Path(__file__).parent.parent / "scenarios").glob("*.yaml"))


def probed(folder: Path) -> Path:
    """Profiles as ``planner probe`` writes them."""
    card = {"source": "planner probe", "as_of": datetime.date(2026, 1, 1)}
    device = Device.model_validate(
        {
            "id": "this-host",
            "name": "test host",
            "device_class": "this-host",
            "memory": 8e9,
            "memory_bandwidth": 10e9,
            "compute": {"fp32": 1e11, "bf16": 2e11},
            **card,
        }
    )
    calibration = Calibration(
        device="this-host",
        efficiency={"bf16": Efficiency(bandwidth=0.6, compute=0.4)},
        layer_overhead=1e-4,
        tier=2,
        source="planner probe",
    )
    engine = Engine.model_validate(
        {
            "id": "this-host",
            "name": "planner runtime",
            "version": "probed",
            "calibrations": (calibration,),
            "hop": 1e-4,
            "memory_reserve": 400 * 2**20,
            **card,
        }
    )
    write_card(folder, device)
    write_card(folder, engine)
    return folder


@pytest.fixture(autouse=True)
def _no_profiles_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("PLANNER_PROFILES", raising=False)


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_it_loads_and_explains_itself(path: Path, tmp_path: Path) -> None:
    scenario = load_scenario(path, [probed(tmp_path)])
    assert scenario.name == path.stem
    assert scenario.description
    assert not scenario.warnings
    assert path.read_text().startswith("# ")
    assert f"scenarios/{path.name}" in path.read_text()
    digest = load_scenario(path, [tmp_path]).problem.digest
    assert scenario.problem.digest == digest


def test_the_set_is_complete() -> None:
    names = {path.stem for path in SCENARIOS}
    assert {"demo", "two-homes", "cloud-baseline", "drafting-homes", *TEMPLATES} <= names


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_are_split_and_have_something_to_compare_with(name: str) -> None:
    scenario = load_scenario(named(name))
    solution = solve(scenario.problem)
    assert max(len(pipeline.stages) for pipeline in solution.plan.pipelines) > 1
    must = scenario.problem.requirements.must_have
    assert not must.missed(solution.prediction.metrics)
    assert scenario.alternatives or name == "single-region"


def named(name: str) -> Path:
    return next(path for path in SCENARIOS if path.stem == name)


def most_layers(problem: Problem, start: int, node: str) -> int:
    """The layers from ``start`` on that a node has memory for."""
    engine, layers = problem.engine, problem.model.num_hidden_layers
    room = (problem.cluster.node(node).memory_bytes or 0) * engine.memory_fraction
    stop = start
    while stop < layers:
        needed = stage_memory(
            problem.model,
            start,
            stop + 1,
            problem.quants[0],
            engine,
            problem.serving.max_num_seqs or 1,
            problem.tokens_per_request,
            problem.workload.prompt.max_tokens,
        )
        if needed.total_bytes > room:
            break
        stop += 1
    return stop


def test_the_demo_needs_all_its_workers_and_its_slow_line(tmp_path: Path) -> None:
    problem = load_scenario(named("demo"), [probed(tmp_path)]).problem
    assert 30e6 <= problem.model.total_params <= 60e6
    stop = 0
    for node in problem.cluster.workers:
        assert stop < problem.model.num_hidden_layers
        stop = most_layers(problem, stop, node.id)
    assert stop == problem.model.num_hidden_layers
    lines = [problem.cluster.link(src, dst) for src, dst in (("home", "cabin"), ("cabin", "home"))]
    found = [(line.one_way_latency_s, line.bytes_per_s) for line in lines if line is not None]
    assert found == [(0.02, 12.5e6)] * 2


def test_two_homes_share_what_neither_can_hold() -> None:
    problem = load_scenario(named("two-homes")).problem
    weights = problem.model.total_params * 2
    memory = [problem.cluster.device(node.id).memory_bytes for node in problem.cluster.workers]
    assert max(memory) * problem.engine.memory_fraction < weights * 1.05 < sum(memory)


@pytest.mark.slow
def test_homes_that_draft_leave_the_seat_and_the_number_of_drafts_to_the_plan() -> None:
    problem = load_scenario(named("drafting-homes")).problem
    assert problem.draft is not None
    solution = solve(problem)
    assert solution.plan.coordinator in {node.id for node in problem.cluster.nodes}
    assert solution.plan.draft_tokens
    assert [one.draft_tokens for one in solution.drafts] == list(range(7))
    assert {one.node for one in solution.seats} < {node.id for node in problem.cluster.nodes}


def test_the_marketplace_is_compared_with_everything_that_could_serve() -> None:
    scenario = load_scenario(named("marketplace"))
    assert len({node.region for node in scenario.problem.cluster.workers}) == 3
    assert all(node.usd_per_hour > 0 for node in scenario.problem.cluster.workers)
    offers = [one for one in scenario.alternatives if isinstance(one, Offer)]
    assert [one.kind for one in offers] == ["on_demand", "spot", "reserved", "market", "own"]
    for one in offers:
        assert one.problem.workload == scenario.problem.workload
        assert one.tags
        assert all(tag.source and tag.file for tag in one.tags)
    apis = [one for one in scenario.alternatives if isinstance(one, Api)]
    assert len(apis) == 3
    assert all(api.price.model == "llama-3.3-70b" for api in apis)
    others = [one for one in scenario.alternatives if isinstance(one, Scenario)]
    assert [one.name for one in others] == ["cloud-baseline"]
