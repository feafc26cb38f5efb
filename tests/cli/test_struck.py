from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from planner.cli.struck import struck
from planner.core.plan import Plan, Standby
from planner.run.losses import Absence, Recovered
from planner.sim.simulate import simulate
from tests.run.world import pipeline, problem, spec


def test_a_simulation_loses_the_nodes_that_the_run_lost() -> None:
    world = problem(3, spec())
    chosen = Plan(
        pipelines=(pipeline(["w0", "w1"], 4),),
        standbys=(Standby(node="w2", pipeline=0, stage=1, state="hot"),),
    )
    lost = Recovered(0, 1, "w1", "w2", 0.005, 0.0055, 0.02, True)
    run: Any = SimpleNamespace(
        absences=[Absence("w1", 0.005, float("inf"))],
        recoveries=[lost],
        records=[SimpleNamespace(token_s=[0.2])],
    )
    (one,) = simulate(struck(world, run), chosen, 0).recoveries
    assert (one.stage, one.node) == (1, "w2")
    assert one.lost_s == pytest.approx(0.005)
    assert one.detected_s - one.lost_s == pytest.approx(0.0005)
    calm: Any = SimpleNamespace(absences=[], recoveries=[], records=[])
    assert struck(world, calm) is world
