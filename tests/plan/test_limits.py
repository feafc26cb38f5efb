"""Limits: plans within a budget are found, and bounds under one hold."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.worlds import world
from planner.core.cluster import Node
from planner.core.problem import Problem
from planner.core.requirements import MustHave, Objective, Requirements
from planner.plan.chain import Lengths, cheapest
from planner.plan.distinct import Ration, distinct
from planner.plan.exact import pool_of
from planner.plan.limits import Limits, reachable
from planner.plan.memory import Memory
from planner.plan.pipeline import Found, best_pipeline
from planner.plan.solve import solve
from planner.plan.structure import Structure
from planner.plan.survey import surveyed
from planner.plan.thrift import leaning
from planner.plan.ways import Cut
from tests.core.world import device, model, problem
from tests.plan.test_large import chains, random_lengths


def within(given: Lengths, takes: list[float], most: float) -> float:
    """Least length of all chains that use no class twice and take no more than that."""
    best = np.inf
    for order, ends in chains(given):
        cuts = tuple((way, *ends[at : at + 2]) for at, way in enumerate(order))
        if sum(takes[way] for way in order) <= most and np.isfinite(given.of(cuts)):
            best = min(best, given.of(cuts))
    return best


@pytest.mark.parametrize("seed", range(6))
def test_what_chains_cost_at_the_price_of_a_budget_bounds_those_within_it(seed: int) -> None:
    given, rng = random_lengths(seed), np.random.default_rng(seed)
    takes = rng.uniform(0.2, 1.0, 4)
    memory = Memory(np.arange(4), np.ones(4, np.bool_), 3)
    memory.near = {one: tuple(sorted({*range(4)} - {one})) for one in range(4)}
    for most in (0.5, 1.0, 1.4, 1.8, 3.0):
        limits = Limits(np.ones(4), takes[None], np.array([most]))
        optimum = within(given, takes.tolist(), most)
        free, _ = leaning(given, limits, limits.none())
        prices, _ = leaning(given, limits, limits.none(), memory)
        if prices is None:
            assert np.isinf(optimum)
            continue
        for each, what in ((free, None), (prices, memory)):
            assert each is not None
            dual = cheapest(given, limits.each(each), what).length - each @ limits.all
            assert dual <= optimum + 1e-9
        ration = Ration.of(given, takes, most)
        found = distinct(given, limits.each(prices), np.ones(4), 8, [ration])
        for cuts in found:
            assert sum(takes[way] for way, *_ in cuts) <= most + 1e-9
            assert given.of(cuts) >= optimum - 1e-9


def test_prices_in_cents_reach_whole_cents_only() -> None:
    assert reachable(0.6798, np.array([0.34, 0.16, 0.05])) == pytest.approx(0.67)
    assert reachable(0.6798, np.array([0.34, 0.16, 0.0])) == pytest.approx(0.66)
    assert reachable(0.68, np.array([0.34, 0.17])) == pytest.approx(0.68)
    assert reachable(0.6798, np.array([0.34, 1 / 3])) == 0.6798


def asking(problem: Problem, objective: Objective, **must_have: float) -> Problem:
    must = MustHave.model_validate(must_have)
    requirements = Requirements(objective=objective, must_have=must)
    return problem.model_copy(update={"requirements": requirements})


def test_a_budget_just_above_the_cheapest_plan_is_kept_and_proven() -> None:
    cluster = world(24, 0, "usd_per_hour", 8)
    usd = solve(cluster, explain=False).value
    found = solve(asking(cluster, "tpot", usd_per_hour=1.005 * usd), explain=False)
    assert found.prediction.metrics.usd_per_hour == pytest.approx(usd, rel=0.005)
    assert found.gap < 0.01


def test_a_latency_just_above_the_least_is_kept_whatever_the_objective() -> None:
    cluster = world(24, 1, "p95_ttft", 1)
    least_ms = solve(cluster, explain=False).value
    asked = asking(cluster, "p99_e2el", p95_ttft=1.0001e-3 * least_ms)
    assert solve(asked, explain=False).prediction.metrics.p95_ttft_ms == pytest.approx(least_ms)


def test_a_search_ends_where_no_chain_that_remembers_its_nodes_is_quick_enough() -> None:
    found = [one.best for one in surveyed(world(24, 6, "ttft", 8), looks=8)]
    least = min(best.cost for best in found)
    assert 0.9 * least < min(best.bound for best in found) < least


def test_a_search_that_prices_pipelines_in_vain_ends() -> None:
    kinds = [device(name, memory_bandwidth=1e9 + 1e8 * at) for at, name in enumerate("abcde")]
    nodes, layers = [Node(id=one.id, device=one.id) for one in kinds], model(num_hidden_layers=6)
    pool = pool_of(problem(nodes, devices=kinds, model=layers))
    every = Structure(pool.problem, pool.classes, pool.every, 1, pool.problem.quants, 1, None)
    priced = list[tuple[Cut, ...]]()

    def refuse(cuts: tuple[Cut, ...]) -> float:
        priced.append(cuts)
        return np.inf

    def search(limit: int) -> Found:
        priced.clear()
        state = max(every.sets)
        kinds = every.criteria, every.tables, every.owners
        return best_pipeline(*kinds, state, lambda one: every.judge(one, 0.0), refuse, False, limit)

    whole = search(10_000)
    assert whole.cuts is None
    assert np.isfinite(whole.bound)  # 600 orders and cuts, of which a third is priced
    assert (len(priced), whole.expanded) == (200, 10_000)
    assert search(100_000).bound == np.inf
    assert len(priced) == 600
