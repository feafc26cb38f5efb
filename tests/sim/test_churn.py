"""What happens when nodes come and go."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.core.cluster import Churn, Cluster, Node
from planner.core.cost.loading import weights_bytes
from planner.core.cost.recovery import recovery
from planner.core.plan import Plan, Standby
from planner.core.problem import Problem, Serving
from planner.core.workload import Closed, Fixed, Poisson, Workload
from planner.sim.churn import outages
from planner.sim.invariants import violations
from planner.sim.result import SimResult
from planner.sim.simulate import simulate
from tests.core.world import CARD, link, problem
from tests.sim.test_simulate import twice
from tests.test_laws import split


def churn(name: str = "restless", **changes: object) -> Churn:
    """Up for 40 s and away for 10 s, on average."""
    values = {"id": name, "distribution": "exponential", "up_scale": 40.0, "down_scale": 10.0}
    return Churn.model_validate(values | CARD | changes)


def recorded(*there: bool, step_s: float = 1.0) -> Churn:
    """A node that was there or not, second by second."""
    return Churn.model_validate(
        {"id": "recorded", "distribution": "recorded", "recorded": there, "step": step_s} | CARD
    )


def restless(*profiles: Churn, nodes: list[Node], **changes: object) -> Problem:
    """A world whose nodes may name the given churn profiles."""
    world = problem(nodes=nodes, **changes)  # type: ignore[arg-type]
    cluster = Cluster.model_validate(dict(world.cluster) | {"churn": profiles})
    return world.model_copy(update={"cluster": cluster})


def one_loss(standby: str = "", detect_s: float = 0.5) -> tuple[Problem, Plan]:
    """Two stages; the second one's node is away from 1 s to 8 s; perhaps a standby."""
    world = restless(
        recorded(True, *[False] * 7, *[True] * 1000),
        nodes=[
            Node(id="a", device="chip"),
            Node(id="b", device="chip", churn="recorded"),
            Node(id="c", device="chip"),
        ],
        links=[link(bandwidth=1e5)],
        serving=Serving(detect_s=detect_s, patience_s=60.0),
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=2),
            prompt=Fixed(tokens=100),
            output=Fixed(tokens=60),
            requests=4,
        ),
    )
    plan = split(world, [2], seats=2)
    if standby:
        spare = Standby(node="c", pipeline=0, stage=1, state=standby)
        plan = Plan(pipelines=plan.pipelines, standbys=(spare,))
    return world, plan


def availability(profile: Churn, until_s: float) -> float:
    """Share of the time before ``until_s`` that a node of this profile is there."""
    world = restless(profile, nodes=[Node(id="a", device="chip", churn=profile.id)])
    away = itertools.takewhile(lambda one: one[0] < until_s, outages(world.cluster, "a", 0))
    return 1 - math.fsum(min(back, until_s) - gone for gone, back in away) / until_s


@settings(max_examples=50)
@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 4))
def test_a_recorded_series_is_available_exactly_as_recorded(there: list[bool], times: int) -> None:
    share = sum(there) / len(there)
    profile = recorded(*there, step_s=4.0)
    assert availability(profile, 4.0 * len(there) * times) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize(
    ("profile", "share"),
    [
        (churn(), 0.8),
        (churn(distribution="weibull", up_shape=0.5, down_scale=20.0), 80 / 100),
    ],
)
def test_drawn_times_have_the_availability_of_alternating_renewal(
    profile: Churn, share: float
) -> None:
    assert availability(profile, 1e6) == pytest.approx(share, abs=0.02)


def test_nodes_of_a_zone_go_together_and_others_do_not() -> None:
    nodes = [Node(id=name, device="chip", churn="restless", zone=name[0]) for name in ("x1", "x2")]
    nodes.append(Node(id="y", device="chip", churn="restless", zone="y"))
    cluster = restless(churn(), nodes=nodes).cluster
    first, second, other = (
        list(itertools.islice(outages(cluster, name, 3), 5)) for name in ("x1", "x2", "y")
    )
    assert first == second != other


def test_a_hot_standby_takes_over_after_detection_and_replay() -> None:
    world, plan = one_loss("hot")
    result = simulate(world, plan)
    (recovery,) = result.recoveries
    assert (recovery.node, recovery.lost_s, recovery.detected_s) == ("c", 1.0, 1.5)
    assert 1.5 < recovery.recovered_s < 3.0
    assert {name: count for name, count in result.events.items() if count} == {
        "failures": 1,
        "failovers": 1,
    }
    assert result.metrics.availability == 1.0


def test_a_recovery_is_a_takeover_and_a_replay_without_the_head() -> None:
    """The lost stage is the last one: nobody asks it for a token while it computes again."""
    world, plan = one_loss("hot")
    world = world.model_copy(
        update={"engine": world.engine.model_copy(update={"takeover_s": 0.25})}
    )
    huge = world.model.model_copy(update={"vocab_size": 1000 * world.model.vocab_size})
    (one,) = simulate(world, plan).recoveries
    planned = recovery(world, plan, plan.standbys[0], 2.0)
    took_s = one.recovered_s - one.detected_s
    assert planned.takeover_s == 0.25
    assert took_s - 0.25 == pytest.approx(planned.replay_s, rel=0.05)
    assert 0 < one.replayed_s < planned.replay_s
    talkative = world.model_copy(update={"model": huge})
    assert recovery(talkative, plan, plan.standbys[0], 2.0) == planned


def test_a_cold_standby_downloads_the_weights_first() -> None:
    hot, cold = (simulate(*one_loss(state)).recoveries[0] for state in ("hot", "cold"))
    assert cold.recovered_s > hot.recovered_s + 1.0


def test_a_standby_that_is_not_hot_loads_what_it_has_or_gets() -> None:
    """2 s to load any stage; a warm one has the weights, a cold one waits for them."""
    recovered_s, planned_s = {}, {}
    for state in ("hot", "warm", "cold"):
        world, plan = one_loss(state)
        engine = world.engine.model_copy(update={"load_s": 2.0, "load_bytes_per_s": 1e9})
        world = world.model_copy(update={"engine": engine})
        recovered_s[state] = simulate(world, plan).recoveries[0].recovered_s
        planned_s[state] = recovery(world, plan, plan.standbys[0], 2.0)
    size_bytes = weights_bytes(world, plan.pipelines[0].stages[1])
    warm_s, cold_s = (recovered_s[state] - recovered_s["hot"] for state in ("warm", "cold"))
    assert warm_s == pytest.approx(2.0 + size_bytes / 1e9)
    assert planned_s["warm"].load_s == pytest.approx(warm_s)
    assert cold_s == pytest.approx(warm_s + planned_s["cold"].download_s)
    assert planned_s["cold"].download_s > size_bytes / 10e6
    for state, one in planned_s.items():
        assert 1.5 + one.total_s == pytest.approx(recovered_s[state], rel=0.05)


def test_without_a_standby_requests_wait_for_the_node() -> None:
    result = simulate(*one_loss())
    (recovery,) = result.recoveries
    assert recovery.node == "b"
    assert recovery.recovered_s > 8.0
    assert result.metrics.completed == 4
    assert result.away_s["b"] == 7.0


def test_impatient_requests_fail_with_a_reason() -> None:
    world, plan = one_loss()
    world = world.model_copy(update={"serving": Serving(detect_s=0.5, patience_s=5.0)})
    result = simulate(world, plan)
    failed = [record for record in result.records if record.status == "failed"]
    assert failed[0].reason == "lost b; nothing replaced it within 5 s"
    assert 0 < (result.metrics.availability or 0) < 1


def test_requests_begin_anew_in_another_pipeline() -> None:
    world, _ = one_loss()
    result = simulate(world, twice(world))
    assert result.events["retries"] == 1
    assert {record.pipeline for record in result.records} == {0}
    assert result.metrics.completed == 4


def test_a_node_costs_nothing_while_it_is_away() -> None:
    world, plan = one_loss()
    nodes = tuple(node.model_copy(update={"usd_per_hour": 1.0}) for node in world.cluster.nodes[:2])
    cluster = world.cluster.model_copy(update={"nodes": nodes})
    world = world.model_copy(update={"cluster": cluster})
    result = simulate(world, plan)
    assert result.cost["rent"] == pytest.approx(2.0 - 7.0 / result.simulated_s)


@settings(max_examples=60, deadline=None)
@given(
    up_s=st.floats(0.5, 20),
    down_s=st.floats(0.1, 20),
    detect_s=st.sampled_from([0.0, 0.2, 3.0]),
    patience_s=st.sampled_from([0.0, 1.0, 30.0]),
    standby=st.sampled_from(["", "hot", "cold"]),
    both=st.booleans(),
    rate=st.sampled_from([None, 2.0]),
    host=st.sampled_from(["", "box"]),
    notice_s=st.sampled_from([0.0, 1.0, 30.0]),
    dud=st.sampled_from([0.0, 0.4]),
    start_up_s=st.sampled_from([0.0, 0.5]),
    uplink=st.sampled_from([None, 2e5]),
    seed=st.integers(0, 99),
)
def test_every_run_with_churn_keeps_the_invariants(
    up_s: float,
    down_s: float,
    detect_s: float,
    patience_s: float,
    standby: str,
    both: bool,
    rate: float | None,
    host: str,
    notice_s: float,
    dud: float,
    start_up_s: float,
    uplink: float | None,
    seed: int,
) -> None:
    world = restless(
        churn(up_scale=up_s, down_scale=down_s, notice=notice_s, dud=dud, dud_after=1.0),
        nodes=[
            Node(
                id=name,
                device="chip",
                churn="restless",
                host=host,
                start_up=start_up_s,
                uplink=uplink,
                price=1.0,
            )
            for name in "abcde"
        ],
        serving=Serving(detect_s=detect_s, patience_s=patience_s),
        workload=Workload(
            arrivals=Poisson(kind="poisson", rate=rate)
            if rate
            else Closed(kind="closed", concurrency=3),
            prompt=Fixed(tokens=50),
            output=Fixed(tokens=20),
            requests=15,
        ),
    )
    plan = split(world, [2], seats=2, groups=2)
    pipelines = plan.pipelines
    if both:
        moved = {"a": "d", "b": "e"}
        stages = [
            stage.model_copy(update={"node": moved[stage.node]}) for stage in pipelines[0].stages
        ]
        pipelines += (pipelines[0].model_copy(update={"stages": tuple(stages)}),)
    spares = (Standby(node="c", pipeline=0, stage=1, state=standby),) if standby else ()
    plan = Plan(pipelines=pipelines, standbys=spares)
    result: SimResult = simulate(world, plan, seed, visits=True)
    assert violations(result, plan, 15) == []
    assert len(result.records) == 15
    assert {record.status for record in result.records} <= {"completed", "failed"}
    for record in result.records:
        assert record.status == "failed" or record.output_tokens == 20
    for name, away_s in result.away_s.items():
        assert 0 <= away_s + result.starting_s[name] <= result.simulated_s + 1e-9
    assert result.events["duds"] == 0 or dud
    assert result.events["notices"] == 0 or notice_s
    assert simulate(world, plan, seed, visits=True) == result
