"""Nodes that say before that they will go, are taken away on purpose, or take time to start."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from planner.core.cluster import Churn, Cluster, Node
from planner.core.cost.availability import mean_spells_s, up_share
from planner.core.plan import Plan, Standby
from planner.core.problem import Problem, Serving
from planner.core.sessions import Sessions
from planner.core.workload import Closed, Fixed, Poisson, Workload
from planner.sim.churn import delays, outages
from planner.sim.invariants import violations
from planner.sim.simulate import simulate
from tests.core.world import CARD, link
from tests.sim.test_churn import availability, churn, restless
from tests.sim.test_simulate import twice
from tests.test_laws import split

TALK = Workload(
    arrivals=Closed(kind="closed", concurrency=2),
    prompt=Fixed(tokens=100),
    output=Fixed(tokens=60),
    requests=8,
)

HALF = {"start": 0, "length": 5, "every": 10}
"""Half of the time."""


def planned(*windows: tuple[float, ...], **changes: object) -> Churn:
    """Maintenance at the given times: start, length and perhaps from one to the next."""
    names = ("start", "length", "every")
    made = [dict(zip(names, window, strict=False)) for window in windows]
    values = {"id": "planned", "distribution": "planned", "maintenance": made}
    return Churn.model_validate(values | CARD | changes)


def one_goes(
    standby: str = "", profile: Churn | None = None, trust: str = "own", **changes: object
) -> tuple[Problem, Plan]:
    """Two stages; the second one's node goes for 100 s after 4 s; perhaps with a standby."""
    profile = profile or planned((4.0, 100.0), notice=3.5)
    world = restless(
        profile,
        nodes=[
            Node(id="a", device="chip"),
            Node.model_validate(
                {"id": "b", "device": "chip", "churn": profile.id, "price": 1.0, "trust": trust}
                | changes
            ),
            Node(id="c", device="chip"),
        ],
        links=[link(bandwidth=1e5)],
        serving=Serving(detect_s=0.5, patience_s=600.0),
        workload=TALK,
    )
    plan = split(world, [2], seats=2)
    spares = (Standby(node="c", pipeline=0, stage=1, state=standby),) if standby else ()
    return world, Plan(pipelines=plan.pipelines, standbys=spares)


def test_a_hot_standby_takes_the_stage_before_its_node_goes() -> None:
    world, plan = one_goes("hot")
    result = simulate(world, plan)
    (recovery,) = result.recoveries
    assert (recovery.node, recovery.lost_s, recovery.detected_s) == ("c", 0.5, 0.5)
    assert recovery.recovered_s < 4.0
    happened = {name: count for name, count in result.events.items() if count}
    assert happened == {"notices": 1, "handovers": 1}
    assert result.metrics.completed == 8
    unannounced, _ = one_goes("hot", planned((4.0, 100.0)))
    sudden = simulate(unannounced, plan)
    assert {name: count for name, count in sudden.events.items() if count} == {
        "failures": 1,
        "failovers": 1,
    }
    assert result.simulated_s < sudden.simulated_s


def test_a_cold_standby_loads_while_the_node_still_works() -> None:
    """It has the weights 1.5 s after the notice, while the pipeline goes on."""
    world, plan = one_goes("cold")
    result = simulate(world, plan)
    (recovery,) = result.recoveries
    assert 0.5 < recovery.lost_s == recovery.detected_s < 4.0
    assert recovery.recovered_s - recovery.lost_s < 1.0
    served = [record for record in result.records if record.token_s[0] < recovery.lost_s - 1e-9]
    assert served
    hot = simulate(*one_goes("hot"))
    assert recovery.lost_s > hot.recoveries[0].lost_s


def test_a_notice_that_is_too_short_is_a_loss_that_is_known_at_once() -> None:
    world, plan = one_goes("cold", planned((4.0, 100.0), notice=0.4))
    result = simulate(world, plan)
    (recovery,) = result.recoveries
    assert (recovery.node, recovery.lost_s, recovery.detected_s) == ("c", 4.0, 4.0)
    sudden, _ = one_goes("cold", planned((4.0, 100.0)))
    (later,) = simulate(sudden, plan).recoveries
    assert later.detected_s == 4.5
    # 0.4 s of the download had passed, and nobody waited 0.5 s for an answer.
    assert later.recovered_s - recovery.recovered_s == pytest.approx(0.9, abs=1e-6)
    assert result.events["failures"] == result.events["failovers"] == 1


def test_a_standby_that_is_lost_while_it_gets_ready_is_replaced() -> None:
    profile = planned((4.0, 100.0), notice=3.5)
    world, plan = one_goes("cold")
    nodes = (
        *world.cluster.nodes[:2],
        Node(id="c", device="chip", churn="early"),
        Node(id="d", device="chip"),
    )
    early = planned((0.9, 100.0), id="early")
    values = dict(world.cluster) | {"nodes": nodes, "churn": (profile, early)}
    world = world.model_copy(update={"cluster": Cluster.model_validate(values)})
    spares = (*plan.standbys, Standby(node="d", pipeline=0, stage=1, state="cold"))
    plan = Plan(pipelines=plan.pipelines, standbys=spares)
    result = simulate(world, plan)
    (recovery,) = result.recoveries
    assert recovery.node == "d"
    assert recovery.lost_s == recovery.detected_s > 0.9
    assert result.events["handovers"] == 1


def test_new_requests_go_where_nodes_stay() -> None:
    """In two pipelines, the second without the node that goes."""
    world, _ = one_goes(profile=planned((3.0, 5.0), notice=2.0))
    requests = [
        one._replace(arrival_s=0.2 * index) for index, one in enumerate([*TALK.sample(0)] * 8)
    ]
    requests = [one._replace(id=index) for index, one in enumerate(requests)]
    result = simulate(world, twice(world), requests=requests, own_times=True)
    plan = twice(world)
    (drained,) = [index for index, one in enumerate(plan.pipelines) if "b" in one.nodes]
    at_s = {record.arrival_s: record.pipeline for record in result.records}
    before = {pipeline for arrival_s, pipeline in at_s.items() if arrival_s < 1.0}
    during = {pipeline for arrival_s, pipeline in at_s.items() if 1.0 < arrival_s < 8.0}
    after = {pipeline for arrival_s, pipeline in at_s.items() if arrival_s > 8.5}
    assert before == {0, 1}
    assert during == {1 - drained}
    assert after == {0, 1}
    assert violations(result, plan, len(requests)) == []


def test_who_waits_for_a_seat_goes_where_nodes_stay() -> None:
    """Eight come at once to two pipelines of two seats; half of those without one change over."""
    world, _ = one_goes(profile=planned((20.0, 5.0), notice=19.95))
    plan = twice(world)
    (drained,) = [index for index, one in enumerate(plan.pipelines) if "b" in one.nodes]
    requests = [one._replace(arrival_s=0.0) for one in TALK.sample(0)]
    for exact in (False, True):
        result = simulate(world, plan, requests=requests, own_times=True, exact_steps=exact)
        places = [record.pipeline for record in result.records]
        assert places.count(drained) == plan.pipelines[drained].max_num_seqs
        assert result.events["failures"] == result.events["retries"] == 0
        assert result.metrics.completed == 8
        assert violations(result, plan, 8) == []


def test_sessions_are_handed_over_with_the_next_turn() -> None:
    world, _ = one_goes(profile=planned((6.0, 50.0), notice=4.0))
    workload = Workload(
        arrivals=Poisson(kind="poisson", rate=3.0),
        prompt=Fixed(tokens=20),
        output=Fixed(tokens=5),
        sessions=Sessions(mean_turns=4, turns="fixed", think_s=1.0, max_tokens=110),
        requests=40,
    )
    world = world.model_copy(update={"workload": workload})
    plan = twice(world)
    (drained,) = [index for index, one in enumerate(plan.pipelines) if "b" in one.nodes]
    result = simulate(world, plan)
    places: dict[int | None, set[int]] = {}
    sessions = {one.id: one.session for one in workload.sample(0)}
    for record in result.records:
        places.setdefault(sessions[record.id], set()).add(record.pipeline)
        assert not (2.0 < record.arrival_s < 56.0 and record.pipeline == drained)
    assert {0, 1} in places.values()
    assert result.metrics.completed == 40


def test_a_leaving_node_is_better_than_none() -> None:
    """A lost stage is taken by a standby that will go, if there is no other."""
    profile = planned((4.0, 100.0))
    world, plan = one_goes("hot", profile)
    leaving = planned((30.0, 100.0), id="leaving", notice=29.0)
    nodes = (*world.cluster.nodes[:2], Node(id="c", device="chip", churn="leaving"))
    values = dict(world.cluster) | {"nodes": nodes, "churn": (profile, leaving)}
    world = world.model_copy(update={"cluster": Cluster.model_validate(values)})
    assert simulate(world, plan).recoveries[0].node == "c"


def test_maintenance_comes_again_and_joins_other_outages() -> None:
    profile = planned((1.0, 2.0, 10.0), (2.5, 1.5), (22.0, 1.0))
    world = restless(profile, nodes=[Node(id="a", device="chip", churn="planned")])
    found = list(itertools.islice(outages(world.cluster, "a", 0), 4))
    assert found == [(1.0, 4.0), (11.0, 13.0), (21.0, 23.0), (31.0, 33.0)]
    once = restless(planned((5.0, 1.0)), nodes=[Node(id="a", device="chip", churn="planned")])
    assert list(outages(once.cluster, "a", 0)) == [(5.0, 6.0)]


@settings(max_examples=40)
@given(
    start_s=st.floats(0, 50),
    length_s=st.floats(0.1, 5),
    gap_s=st.floats(0.5, 20),
    seed=st.integers(0, 99),
)
def test_joined_outages_are_the_union(
    start_s: float, length_s: float, gap_s: float, seed: int
) -> None:
    every_s = length_s + gap_s
    window = {"start": start_s, "length": length_s, "every": every_s}
    drawn = churn(up_scale=4.0, down_scale=2.0)
    both = churn(up_scale=4.0, down_scale=2.0, maintenance=[window])

    def series(profile: Churn) -> list[tuple[float, float]]:
        world = restless(profile, nodes=[Node(id="a", device="chip", churn=profile.id)])
        found = outages(world.cluster, "a", seed)
        return list(itertools.takewhile(lambda one: one[0] < 200, found))

    apart, joined = series(drawn), series(both)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(joined))

    def away(moment_s: float) -> bool:
        phase_s = (moment_s - start_s) % every_s
        swept = moment_s >= start_s and phase_s < length_s
        return swept or any(gone <= moment_s < back for gone, back in apart)

    for index in range(400):
        moment_s = 0.4999 * index
        inside = any(gone <= moment_s < back for gone, back in joined)
        near = any(abs(moment_s - end_s) < 1e-6 for one in joined for end_s in one)
        assert near or inside == away(moment_s)


def test_the_availability_of_maintenance_is_what_it_leaves() -> None:
    profile = planned((1.0, 2.0, 10.0))
    assert up_share(profile) == pytest.approx(0.8)
    assert availability(profile, 1e5) == pytest.approx(0.8, abs=1e-4)
    assert mean_spells_s(profile)[0] == float("inf")
    drawn = churn(up_scale=400.0, down_scale=100.0)
    assert up_share(drawn.model_copy(update={"maintenance": profile.maintenance})) == (
        pytest.approx(0.64)
    )


def test_a_rented_node_starts_and_loads_before_it_works_again() -> None:
    profile = planned((4.0, 2.0))
    plain, plan = one_goes(profile=profile, trust="rented")
    slow, _ = one_goes(profile=profile, trust="rented", start_up=5.0)
    (sooner,), (later,) = (simulate(world, plan).recoveries for world in (plain, slow))
    assert later.recovered_s - sooner.recovered_s == pytest.approx(5.0)
    result = simulate(slow, plan)
    assert (result.away_s["b"], result.starting_s["b"]) == (2.0, 5.0)
    lasted_s = result.simulated_s
    assert result.cost["rent"] == pytest.approx(
        1.0 - 2.0 / lasted_s + 5.0 / slow.deployment.period_s
    )
    lines = {line.kind: line.usd_per_hour for line in result.cost_lines if line.where == "b"}
    assert lines["start_up"] == pytest.approx(
        5.0 / lasted_s + 5.0 / slow.deployment.period_s, rel=1e-3
    )


def test_duds_cost_rent_and_time() -> None:
    profile = planned((2.0, 1.0, 20.0), dud=0.6, dud_after=4.0)
    world, plan = one_goes(profile=profile, start_up=1.0)
    workload = world.workload.model_copy(update={"requests": 200})
    world = world.model_copy(update={"workload": workload})
    result = simulate(world, plan, 3)
    duds = result.events["duds"]
    assert duds > 0
    returns = len(result.recoveries)
    whole = [wait_s for _, wait_s in itertools.islice(delays(world.cluster, "b", 3), returns)]
    assert sum(whole) >= result.starting_s["b"] - 1e-9
    assert result.starting_s["b"] > 4.0
    assert violations(result, plan, 200) == []


def test_duds_are_as_frequent_as_they_are_said_to_be() -> None:
    profile = planned((2.0, 1.0, 20.0), dud=0.25, dud_after=4.0)
    world, _ = one_goes(profile=profile, start_up=1.0)
    drawn = list(itertools.islice(delays(world.cluster, "b", 0), 20_000))
    assert sum(duds for duds, _ in drawn) / len(drawn) == pytest.approx(1 / 3, rel=0.05)
    assert all(wait_s == 4.0 * duds + 1.0 for duds, wait_s in drawn)
    assert drawn != list(itertools.islice(delays(world.cluster, "b", 1), 20_000))


def test_maintenance_of_what_is_never_there_changes_nothing() -> None:
    gone = churn(
        distribution="recorded", recorded=[False], step=1.0, maintenance=[HALF],
        up_scale=0.0, down_scale=0.0,
    )  # fmt: skip
    world = restless(gone, nodes=[Node(id="a", device="chip", churn=gone.id)])
    assert list(outages(world.cluster, "a", 0)) == [(0.0, float("inf"))]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"maintenance": []}, "planned churn needs maintenance"),
        ({"up_scale": 3.0}, "planned churn needs maintenance"),
        ({"maintenance": [{"start": 0, "length": 5, "every": 5}]}, "longer than length"),
        ({"dud": 1.0}, "no such node would ever work"),
        ({"dud": 0.5}, "dud needs dud_after"),
        ({"maintenance": [HALF, {**HALF, "start": 5}]}, "leaves no time"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        planned((1.0, 2.0), **changes)
