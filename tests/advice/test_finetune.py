"""Training adapters over a pipeline, worked out by hand."""

from __future__ import annotations

import pytest

from planner.advice.finetune import fine_tuned
from planner.core.cluster import Node
from planner.core.cost import Batch, traverse
from planner.core.finetune import FineTune, adapter_params
from planner.core.plan import Pipeline, Plan, Stage
from tests.core.world import link, model, problem

PLAN = Plan(
    pipelines=(
        Pipeline(
            stages=(
                Stage(node="a", start=0, stop=3, quant="bf16"),
                Stage(node="b", start=3, stop=4, quant="bf16"),
            )
        ),
    )
)
ASKED = FineTune(rank=16, sequence_tokens=100, micro_batches=4, steps=50)


def world(**changes: object):  # type: ignore[no-untyped-def]
    nodes = [Node(id="a", device="chip", price=1.0), Node(id="b", device="chip", price=2.0)]
    return problem(nodes, [link(egress=0.09e-9, **changes)])


def test_adapters_of_a_dense_layer_and_of_one_with_experts() -> None:
    """q 64+64, o 64+64, k and v 64+32 each, three matrices 64+128 each: 1024 sides."""
    assert adapter_params(model(), 16) == 16 * 1024
    experts = model(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=64)
    assert adapter_params(experts, 1) == 256 + 192


def test_hidden_states_go_one_way_and_gradients_the_other() -> None:
    made = world()
    (hop,) = fine_tuned(made, PLAN, ASKED).hops
    assert hop.forward_bytes == hop.backward_bytes == 4 * 100 * 64 * 2
    assert hop.usd == pytest.approx(2 * 4 * 100 * 64 * 2 * 0.09e-9)
    each_s = (100 * 64 * 2 + 64) / 10e6 + 0.01 + 1e-4
    assert hop.seconds == pytest.approx(2 * each_s)
    slim = made.quants[0].model_copy(update={"wire_bits": 8})
    thin = world().model_copy(update={"quants": (slim,)})
    (hop,) = fine_tuned(thin, PLAN, ASKED).hops
    assert hop.forward_bytes == hop.backward_bytes / 2


def test_a_step_is_the_first_sequence_and_the_slowest_part_for_each_other() -> None:
    made = world()
    ahead = [one.total_s for one in traverse(made, PLAN.pipelines[0], Batch.prefill(100)).stages]
    found = fine_tuned(made, PLAN, ASKED)
    across = found.hops[0].seconds
    parts = [3 * ahead[0], 3 * ahead[1], across]
    assert found.step_s == pytest.approx(sum(parts) + 3 * max(parts))
    lazy = fine_tuned(made, PLAN, ASKED.model_copy(update={"recompute": False}))
    assert lazy.stages[0].backward_s == pytest.approx(ahead[0])
    assert found.tokens_per_s == pytest.approx(400 / found.step_s)
    hours = 50 * found.step_s / 3600
    assert found.usd == pytest.approx(3.0 * hours + 50 * found.hops[0].usd)


def test_memory_has_the_optimiser_and_what_is_kept() -> None:
    found = fine_tuned(world(), PLAN, ASKED)
    first = found.stages[0].memory_bytes
    assert first["adapters"] == 3 * 16 * 1024 * 16
    state = 100 * 64 * 2
    kept = first["activations"] - 17 * state
    assert kept >= 3 * 4 * state
    all_kept = fine_tuned(world(), PLAN, ASKED.model_copy(update={"recompute": False}))
    more = all_kept.stages[0].memory_bytes["activations"] - first["activations"]
    assert more == pytest.approx(16 * 3 * 4 * state)
    assert found.fits
    huge = ASKED.model_copy(update={"sequence_tokens": 10_000_000})
    assert not fine_tuned(world(), PLAN, huge).fits
