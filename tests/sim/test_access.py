"""Several links over one uplink or downlink of a node."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.core.cluster import Node
from planner.core.plan import Pipeline, Plan, Stage, Standby
from planner.core.problem import Problem, Serving
from planner.core.workload import Closed, Fixed, Poisson, Request, Workload
from planner.sim.access import downlinks, uplinks
from planner.sim.invariants import violations
from planner.sim.server import Server
from planner.sim.simulate import simulate
from tests.core.world import engine, link, model, problem
from tests.sim.test_exact import check_equal


def fan(workers: int = 2, gateway: dict[str, float] | None = None, **changes: object) -> Problem:
    """A gateway that computes nothing, and workers that each could serve the whole model."""
    nodes = [Node.model_validate({"id": "gate", "device": "chip"} | (gateway or {}))]
    nodes += [Node(id=f"w{index}", device="chip") for index in range(workers)]
    values: dict[str, object] = {
        "links": [link(bandwidth=1e6, one_way_latency=0.01)],
        "engine": engine(frame=0, coordinator_step=0),
        "workload": Workload(
            arrivals=Closed(kind="closed", concurrency=1),
            prompt=Fixed(tokens=1000),
            output=Fixed(tokens=1),
        ),
    }
    return problem(nodes=nodes, **(values | changes))  # type: ignore[arg-type]


def replicas(world: Problem, workers: int = 2) -> Plan:
    """A pipeline on every worker."""
    layers = world.model.num_hidden_layers
    return Plan(
        pipelines=tuple(
            Pipeline(
                stages=(Stage(node=f"w{index}", start=0, stop=layers, quant="bf16"),),
                max_num_seqs=4,
            )
            for index in range(workers)
        )
    )


def at_once(count: int, tokens: int = 1000) -> list[Request]:
    return [Request(index, 0.0, tokens, 1) for index in range(count)]


def first_tokens(world: Problem, plan: Plan, requests: list[Request]) -> list[float]:
    result = simulate(world, plan, requests=requests, own_times=True)
    return [record.token_s[0] for record in result.records]


def test_prompts_of_two_pipelines_follow_each_other_over_one_uplink() -> None:
    """1,000 token ids of 4 bytes take 40 ms over 100 kB/s."""
    free = first_tokens(fan(), replicas(fan()), at_once(2))
    assert free[0] == pytest.approx(free[1])
    shared = fan(gateway={"uplink": 1e5})
    times = first_tokens(shared, replicas(shared), at_once(2))
    alone = first_tokens(shared, replicas(shared), at_once(1))
    assert times[0] == pytest.approx(alone[0])
    assert times[1] - times[0] == pytest.approx(0.04)
    wide = fan(gateway={"uplink": 1e9})
    assert first_tokens(wide, replicas(wide), at_once(2)) == pytest.approx(free, abs=1e-5)


def test_a_slow_link_does_not_hold_up_the_uplink() -> None:
    """A message leaves the uplink as fast as that is; the slower link goes on by itself."""
    lines = [link(bandwidth=1e6), link(dst="w0", src="gate", bandwidth=1e4)]
    world = fan(gateway={"uplink": 1e5}, links=lines)
    slow, fast = first_tokens(world, replicas(world), at_once(2))
    assert slow - fast == pytest.approx(0.4 - 0.08)


def test_answers_that_come_together_follow_each_other_over_one_downlink() -> None:
    """4 bytes of an answer take 40 ms over 100 bytes/s; the first one is not held up."""
    world = fan(gateway={"downlink": 100.0})
    times = first_tokens(world, replicas(world), at_once(2))
    (alone,) = first_tokens(world, replicas(world), at_once(1))
    assert times[0] == pytest.approx(alone)
    assert times[1] - times[0] == pytest.approx(0.04)


def test_who_comes_first_to_a_downlink_is_served_first() -> None:
    """The message of the first request is longer on its way, so the second one's is there first."""
    far = link(src="w0", dst="gate", bandwidth=1e6, one_way_latency=0.03)
    world = fan(gateway={"downlink": 100.0}, links=[link(bandwidth=1e6), far])
    late, early = first_tokens(world, replicas(world), at_once(2))
    near = fan(gateway={"downlink": 100.0})
    assert early == pytest.approx(first_tokens(near, replicas(near), at_once(1))[0])
    assert late - early == pytest.approx(0.04)


def test_an_uplink_is_never_faster_than_it_is() -> None:
    """Four pipelines ask for more than one uplink can send, which is 404 bytes a request."""
    world = fan(
        4,
        {"uplink": 2e4},
        workload=Workload(
            arrivals=Poisson(kind="poisson", rate=100.0),
            prompt=Fixed(tokens=100),
            output=Fixed(tokens=2),
            requests=400,
        ),
    )
    result = simulate(world, replicas(world, 4))
    busy = result.link_busy["gate uplink"]
    assert 0.9 < busy <= 1.0
    assert busy * result.simulated_s == pytest.approx(400 * 404 / 2e4)
    apart = [result.link_busy[f"gate -> w{index}"] for index in range(4)]
    assert sum(apart) == pytest.approx(busy)
    assert violations(result, replicas(world, 4), 400) == []


def chain(*nodes: str) -> Plan:
    """A pipeline of two stages."""
    stages = tuple(
        Stage(node=node, start=start, stop=start + 2, quant="bf16")
        for node, start in zip(nodes, (0, 2), strict=True)
    )
    return Plan(pipelines=(Pipeline(stages=stages),))


def test_only_lines_that_several_hops_share_are_followed() -> None:
    world = fan(2, {"uplink": 1e5, "downlink": 1e5})
    assert set(uplinks(world, replicas(world))) == {"gate"}
    assert set(downlinks(world, replicas(world))) == {"gate"}
    for plan in (Plan(pipelines=replicas(world).pipelines[:1]), chain("w0", "w1")):
        assert not uplinks(world, plan)
        assert not downlinks(world, plan)
    star = world.model_copy(update={"serving": Serving(return_path="star")})
    assert set(uplinks(star, chain("w0", "w1"))) == {"gate"}
    assert set(downlinks(star, chain("w0", "w1"))) == {"gate"}


def test_a_standby_that_would_share_a_line_counts() -> None:
    """A gateway that holds the last stage of a relayed way sends into the pipeline and back."""
    world = fan(2, {"uplink": 1e5}, serving=Serving(return_path="relayed"))
    plan = chain("w0", "w1")
    assert not uplinks(world, plan)
    spare = Standby(node="gate", pipeline=0, stage=1)
    assert set(uplinks(world, Plan(pipelines=plan.pipelines, standbys=(spare,)))) == {"gate"}


@settings(max_examples=20, deadline=None)
@given(
    rate=st.floats(3e4, 1e6),
    requests=st.integers(1, 12),
    shared=st.booleans(),
    jitter=st.sampled_from([0.0, 0.005]),
)
def test_nothing_overtakes_and_nobody_is_faster_than_alone(
    rate: float, requests: int, shared: bool, jitter: float
) -> None:
    lines = [link(bandwidth=1e6, jitter=jitter)]
    world = fan(3, {"uplink": rate, "downlink": rate}, links=lines, model=model())
    plan = replicas(world, 3 if shared else 1)
    workload = Workload(
        arrivals=Closed(kind="closed", concurrency=min(requests, 5)),
        prompt=Fixed(tokens=80),
        output=Fixed(tokens=4),
        requests=requests,
    )
    world = world.model_copy(update={"workload": workload})
    result = simulate(world, plan, 3, visits=True)
    assert violations(result, plan, requests) == []
    for place in {one.place for one in result.visits}:
        ends = [one.ended_s for one in result.visits if one.place == place]
        assert all(later >= earlier for earlier, later in pairwise(ends))
    if not jitter:
        alone = simulate(world, plan, 3, [Request(0, 0.0, 80, 4)], own_times=True)
        least_s = alone.records[0].e2el_s
        assert all(record.e2el_s >= least_s - 1e-9 for record in result.records)
        if not shared:
            check_equal(simulate(world, plan, 3), simulate(world, plan, 3, exact_steps=True))


def test_a_link_is_not_busy_while_its_message_waits_for_the_uplink() -> None:
    server = Server()
    assert server.serve(1.0, 2.0, from_s=4.0) == (4.0, 6.0)
    assert server.serve(1.5, 1.0, from_s=7.0) == (7.0, 8.0)
    assert [server.busy_s(now_s) for now_s in (2.0, 5.0, 6.5, 7.5, 9.0)] == [0, 1, 2, 2.5, 3]
