"""Activity: how long nodes are predicted to compute is how long they do."""

from __future__ import annotations

import pytest

from planner.core.plan import Pipeline, Plan, Stage
from planner.core.workload import Fixed, Poisson, Workload
from planner.plan.predict import predict, served_by
from planner.sim.simulate import simulate
from tests.core.world import problem


@pytest.mark.parametrize("each", [0.1, 0.7, 2.0])
def test_steps_are_shared_while_somebody_is_there(each: float) -> None:
    """``each`` requests are there on average: often none, but a step has one at least."""
    work = {"prompt": Fixed(tokens=20), "output": Fixed(tokens=41), "requests": 1500}
    stages = (
        Stage(node="a", start=0, stop=2, quant="bf16"),
        Stage(node="b", start=2, stop=4, quant="bf16"),
    )
    plan = Plan(pipelines=(Pipeline(stages=stages, max_num_seqs=16),))
    slow = problem(workload=Workload(arrivals=Poisson(kind="poisson", rate=0.01), **work))
    alone_s = (predict(slow, plan).metrics.mean_e2el_ms or 0.0) / 1e3
    rate = Poisson(kind="poisson", rate=each / alone_s)
    world = problem(workload=Workload(arrivals=rate, **work))
    predicted, simulated = served_by(world, plan)[0].activity, simulate(world, plan, 0)
    for node, busy in simulated.stage_busy.items():
        assert predicted.busy[node] == pytest.approx(busy, rel=0.07)
