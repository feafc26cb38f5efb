"""Answers that are known beforehand, from the bundled scenarios."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest

from planner.advice.alternative import predicted
from planner.advice.distance import too_far
from planner.advice.flips import best
from planner.advice.metered import metered_hops
from planner.cli.contest import Contest
from planner.cli.entrants import compete_with, options, planned
from planner.core.errors import InfeasibleError
from planner.core.plan import Pipeline, Plan, Stage
from planner.files.scenario import Scenario, load_scenario
from planner.plan.solve import solve
from planner.sim.simulate import simulate
from tests.core.world import link, problem, quant
from tests.core.world import model as tiny

SCENARIOS = Path(__file__).parent.parent.parent / "scenarios"
TODAY = datetime.date(2026, 11, 25)


def scenario(name: str, *sets: str) -> Scenario:
    return load_scenario(SCENARIOS / f"{name}.yaml", overrides=sets)


@pytest.fixture(scope="module", autouse=True)
def _no_profiles_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.delenv("PLANNER_PROFILES", raising=False)
        yield


def contest(found: Scenario) -> Contest:
    made = Contest(None, (), TODAY)
    made.enter(planned(found, explained=False))
    compete_with(made, found)
    return made


@pytest.fixture(scope="module")
def single_stream() -> Contest:
    return contest(scenario("gpt-oss-four-4090"))


def test_one_user_of_four_4090_pays_eleven_dollars_and_loses_to_apis(
    single_stream: Contest,
) -> None:
    """1.60 USD/h by 40 tok/s are 11.1 USD per million."""
    first = single_stream.contestants[0]
    result = simulate(first.problem, first.plan, 0)
    metrics = result.metrics
    assert metrics.usd_per_hour == pytest.approx(1.6, abs=0.01)
    assert metrics.output_throughput == pytest.approx(40, rel=0.05)
    assert metrics.usd_per_million_output_tokens == pytest.approx(11.1, rel=0.05)
    competing = options(single_stream)
    prices = {o.name: o.price.usd_per_output_token * 1e6 for o in competing if o.price}
    assert min(prices.values()) == pytest.approx(0.25)
    assert max(prices.values()) <= 0.6 + 1e-9
    assert best(competing).startswith("Novita")


def test_a_card_that_is_paid_for_beats_the_apis(single_stream: Contest) -> None:
    other = scenario("gpt-oss-four-4090", "alternatives=[{own: {device: rtx-4090, paid: true}}]")
    _, own = options(contest(other))
    assert best([*options(single_stream), own]) == "own hardware, paid for"
    assert (predicted(own).metrics.usd_per_million_output_tokens or 9) < 0.3


def test_a_hop_of_a_70b_model_is_16_gb_and_dearer_than_an_api() -> None:
    found = scenario("metered-split")
    plan = solve(found.problem, explain=False).plan
    hop = metered_hops(found.problem, plan)[0]
    assert hop.sent_bytes == 8192 * 2 * 1e6 == 16.384e9
    assert hop.usd == pytest.approx(1.4746, rel=1e-3)
    apis = [api.price.usd_per_output_token * 1e6 for api in contest(found).apis]
    assert hop.usd > min(apis) == pytest.approx(0.4)
    assert "its egress alone costs more than the cheapest API asks" in hop.text(min(apis))


def test_int8_on_the_wire_halves_it() -> None:
    wide = problem(links=[link(egress=0.09e-9)], model=tiny(hidden_size=8192))
    slim = wide.model_copy(update={"quants": (quant(wire_bits=8),)})
    halves = (
        Stage(node="a", start=0, stop=2, quant="bf16"),
        Stage(node="b", start=2, stop=4, quant="bf16"),
    )
    plan = Plan(pipelines=(Pipeline(stages=halves),))
    usd = [metered_hops(one, plan)[0].usd for one in (wide, slim)]
    assert usd == pytest.approx([16.384 * 0.09, 8.192 * 0.09])


def regions(found: Scenario) -> set[str]:
    return {
        found.problem.cluster.node(name).region
        for name in solve(found.problem, explain=False).plan.nodes
    }


def test_an_agent_is_moved_to_one_region_with_the_reason() -> None:
    agent = scenario("agent-continents")
    assert regions(agent) == {"eu"}
    said = list(too_far(agent.problem))
    assert [one.split(":")[0] for one in said] == [
        "no layer can be in us with the coordinator at gateway",
        "no layer can be in asia with the coordinator at gateway",
    ]
    assert "asked is 1 s" in said[0]


def test_a_batch_job_is_accepted_on_the_nodes_that_an_agent_is_refused() -> None:
    far = "must_have.forbid_regions=[eu]"
    batch = scenario("agent-continents", "workload.preset=batch", far)
    assert regions(batch) == {"us", "asia"}
    assert not list(too_far(batch.problem))


def test_an_agent_without_machines_nearby_is_refused_with_the_reason() -> None:
    agent = scenario("agent-continents", "must_have.forbid_regions=[eu]")
    with pytest.raises(InfeasibleError, match="p95 end-to-end latency binds"):
        solve(agent.problem)
    assert len(list(too_far(agent.problem))) == 2
