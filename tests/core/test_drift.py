from __future__ import annotations

import pytest

from planner.core.cost import Batch, chip, stage_time
from planner.core.drift import Speeds, as_found, probed
from planner.core.problem import Problem
from tests.core.world import device, problem

THEN = Speeds(memory_bytes_per_s=1e10, flop_per_s=1e11, call_s=1e-6)


def world() -> Problem:
    base = problem()
    cards = tuple(
        one.model_copy(
            update={
                "memory_bytes_per_s": THEN.memory_bytes_per_s,
                "flop_per_s": {"bf16": THEN.flop_per_s, "fp32": THEN.flop_per_s / 2},
                "call_s": THEN.call_s,
            }
        )
        for one in base.cluster.devices
    )
    cluster = type(base.cluster)(**(dict(base.cluster) | {"devices": cards}))
    return base.model_copy(update={"cluster": cluster})


def seconds(asked: Problem, node: str, batch: Batch) -> float:
    quant = asked.quants[0]
    return stage_time(asked.model, 0, 2, quant, chip(asked, node), batch).total_s


def test_a_host_twice_as_slow_in_everything_takes_twice_as_long() -> None:
    before = world()
    slow = Speeds(THEN.memory_bytes_per_s / 2, THEN.flop_per_s / 2, 2 * THEN.call_s)
    node, other = (one.id for one in before.cluster.workers[:2])
    after = as_found(before, {node: slow})
    for batch in (Batch.decode(1, 100), Batch.decode(8, 800), Batch.prefill(200)):
        assert seconds(after, node, batch) == pytest.approx(2 * seconds(before, node, batch))
        assert seconds(after, other, batch) == seconds(before, other, batch)
    assert after.engine.hop_s == pytest.approx(2 * before.engine.hop_s)


def test_reads_products_and_overheads_scale_with_their_own_reading() -> None:
    before = world()
    node = before.cluster.workers[0].id
    quant, batch = before.quants[0], Batch.decode(1, 100)
    usual = stage_time(before.model, 0, 2, quant, chip(before, node), batch)
    after = as_found(before, {node: Speeds(2e10, THEN.flop_per_s, THEN.call_s)})
    found = stage_time(after.model, 0, 2, quant, chip(after, node), batch)
    assert found.weights_s == pytest.approx(usual.weights_s / 2)
    assert found.overhead_s == pytest.approx(usual.overhead_s)
    after = as_found(before, {node: Speeds(1e10, THEN.flop_per_s, 3e-6)})
    found = stage_time(after.model, 0, 2, quant, chip(after, node), batch)
    assert found.weights_s == pytest.approx(usual.weights_s)
    assert found.overhead_s == pytest.approx(3 * usual.overhead_s)


def test_what_was_not_probed_or_not_read_stays_as_it_is() -> None:
    plain = problem()
    assert probed(device()) is None
    assert as_found(plain, {plain.cluster.workers[0].id: THEN}) is plain
    assert as_found(world(), {}) == world()
