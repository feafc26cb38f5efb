"""A prefix cache at the stages, and near the user from where it has to travel."""

from __future__ import annotations

import pytest

from planner.advice.prefix import prefix_saving
from planner.core.cluster import Node
from planner.core.cost import Batch, traverse
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.prefix import PrefixCache
from planner.core.prices import TokenPrice
from tests.core.world import device, engine, link, problem

HALVES = (
    Stage(node="a", start=0, stop=2, quant="bf16"),
    Stage(node="b", start=2, stop=4, quant="bf16"),
)
PLAN = Plan(pipelines=(Pipeline(stages=HALVES),))


def world(flop_per_s: float = 10e12):  # type: ignore[no-untyped-def]
    nodes = [Node(id="home"), Node(id="a", device="chip"), Node(id="b", device="chip")]
    return problem(
        nodes,
        [link()],
        [device(compute={"bf16": flop_per_s})],
        engine=engine(kv_block_tokens=16),
    )


def test_a_hit_at_the_stages_computes_only_the_rest() -> None:
    made = world()
    found = prefix_saving(made, PLAN, PrefixCache(tokens=80, hit_rate=0.5, entries=3))
    whole = traverse(made, PLAN.pipelines[0], Batch.prefill(100)).total_s
    rest = traverse(made, PLAN.pipelines[0], Batch.prefill(20, 80)).total_s
    assert (found.prompt_s, found.hit_s) == (whole, rest)
    assert found.mean_s == pytest.approx((whole + rest) / 2)
    assert found.saved_bytes == 80 * 64 * 2
    # keys and values of two heads of 16, two layers, 80 tokens in five blocks of 16, 2 bytes
    assert found.kept_bytes == {"a": 3 * 2 * 2 * 32 * 80 * 2, "b": 3 * 2 * 2 * 32 * 80 * 2}
    assert found.pays


def test_near_the_user_it_pays_only_where_computing_is_slower_than_sending() -> None:
    cache = PrefixCache(tokens=80, hit_rate=0.5, at="user")
    fast, slow = (prefix_saving(world(rate), PLAN, cache) for rate in (10e12, 1e8))
    size = 2 * 2 * 32 * 80 * 2
    assert fast.sent_bytes == slow.sent_bytes == 2 * size
    assert fast.sent_s == pytest.approx((size + 64) / 10e6 + 0.01 + 1e-4)
    assert fast.kept_bytes == {"home": 2 * size}
    assert not fast.pays
    assert fast.mean_s == fast.prompt_s
    assert slow.pays


def test_an_api_with_a_price_for_cached_tokens_gets_cheaper() -> None:
    price = TokenPrice(
        model="tiny",
        usd_per_input_token=1e-6,
        usd_per_output_token=2e-6,
        usd_per_cached_token=0.1e-6,
    )
    found = prefix_saving(world(), PLAN, PrefixCache(tokens=80, hit_rate=0.5), price)
    before = (100 * 1 + 11 * 2) / 11
    after = (60 * 1 + 40 * 0.1 + 11 * 2) / 11
    assert found.api_usd == pytest.approx((before, after))
