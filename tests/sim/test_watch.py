"""What is watched while a run goes on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from planner.core.continuous import ContinuousSchedule
from planner.core.kvpool import KvPool
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.workload import Closed, Fixed, Workload
from planner.sim.cohort import Cohort
from planner.sim.invariants import violations
from planner.sim.served import Served
from planner.sim.simulate import simulate
from planner.sim.track import Flight, Track
from planner.sim.watch import Watch
from tests.core.world import problem
from tests.sim.test_exact import scenes
from tests.sim.test_simulate import split


@settings(max_examples=40, deadline=None)
@given(scenes())
def test_coalesced_runs_keep_every_invariant(scene: tuple[Problem, Plan, int]) -> None:
    world, plan, seed = scene
    for exact in (False, True):
        result = simulate(world, plan, seed, exact_steps=exact, check=True)
        assert violations(result, plan, world.workload.requests) == []


def test_a_track_that_forgets_who_is_there_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    world = problem(
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=6),
            prompt=Fixed(tokens=20),
            output=Fixed(tokens=30),
            requests=12,
        )
    )
    plan = split(world, [2], seats=6, groups=3)
    assert violations(simulate(world, plan, check=True), plan, 12) == []
    fly = Track.fly

    def forgetful(track: Track, flight: Flight, ready_s: float) -> None:
        track.free_s[:] = [0.0] * len(track.free_s)
        fly(track, flight, ready_s)

    monkeypatch.setattr(Track, "fly", forgetful)
    broken = violations(simulate(world, plan, check=True), plan, 12)
    assert any(said.startswith("8: ") for said in broken)


@pytest.mark.parametrize(
    ("visits", "said"),
    [
        ([("a", 1.0, 0.5, 2.0)], "3: a job left a before it came"),
        ([("a", 1.0, 1.0, 2.0), ("a", 0.5, 2.0, 3.0)], "7: a served out of turn"),
        ([("a -> b", 1.0, 1.0, 3.0), ("a -> b", 2.0, 2.0, 2.5)], "7: a -> b served out of turn"),
        ([("a", 1.0, 1.0, 3.0), ("a", 2.0, 2.0, 4.0)], "8: a computed two jobs at once"),
    ],
)
def test_what_is_out_of_order_is_told(
    visits: list[tuple[str, float, float, float]], said: str
) -> None:
    watch = Watch()
    for visit in visits:
        watch.see(*visit)
    assert watch.broken == [said]


def test_messages_may_overlap_on_their_way_and_lost_work_does_not_count() -> None:
    watch = Watch()
    watch.see("a -> b", 1.0, 1.0, 3.0)
    watch.see("a -> b", 2.0, 2.0, 4.0)
    watch.see("a", 1.0, 1.0, 9.0)
    watch.lose("a", 5.0)
    watch.see("a", 6.0, 6.0, 7.0)
    assert watch.broken == []


def test_a_clock_that_runs_backwards_is_told() -> None:
    watch = Watch()
    watch.tick(0, 2.0)
    watch.tick(1, 1.0)
    watch.tick(0, 1.5)
    assert watch.broken == ["2: the clock of pipeline 0 ran backwards"]


def test_blocks_that_do_not_exist_or_never_come_back_are_told() -> None:
    pool = KvPool(4, 16)
    rules: ContinuousSchedule[Served] = ContinuousSchedule(2, 1, 64, pool)
    assert rules.fault is None
    pool.take(1)
    assert rules.fault == "lacks 1 KV blocks that nobody holds"
    pool.free -= 4
    pool.take(0)
    assert rules.fault == "gave away 1 KV blocks that it does not have"


def test_tokens_that_were_not_delivered_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    world = problem()
    plan, asked = split(world, [2]), world.workload.requests
    assert violations(simulate(world, plan), plan, asked) == []
    join = Cohort.join

    def early(cohort: Cohort, sequence: Served, now_s: float) -> None:
        join(cohort, sequence, now_s)
        cohort.ends = [(cohort.steps + 1, *rest) for _, *rest in cohort.ends]

    monkeypatch.setattr(Cohort, "join", early)
    broken = violations(simulate(world, plan), plan, asked)
    assert broken[0].startswith("1: completed requests lack ")
