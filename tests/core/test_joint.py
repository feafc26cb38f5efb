"""Steps that mix prompts and decoding, put together from terms."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.core.cost import Batch, Chip
from planner.core.cost.joint import Terms, joint_time
from tests.core.world import device, engine, model, quant

SHAPES = (
    model(),
    model(
        num_experts=8,
        num_experts_per_tok=2,
        moe_intermediate_size=64,
        sliding_window=30,
        layer_types=("full_attention", "sliding_attention") * 2,
    ),
)


@settings(max_examples=100, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    ends=st.sampled_from([(0, 4), (0, 2), (1, 3), (2, 4)]),
    sequences=st.integers(1, 50),
    context=st.integers(1, 400),
    prompts=st.lists(st.tuples(st.integers(1, 200), st.integers(0, 200)), min_size=1, max_size=3),
    bandwidth=st.sampled_from([1e8, 1e11]),
    count=st.sampled_from([1, 2]),
)
def test_terms_add_up_to_the_time_of_the_step(
    shape: object,
    ends: tuple[int, int],
    sequences: int,
    context: int,
    prompts: list[tuple[int, int]],
    bandwidth: float,
    count: int,
) -> None:
    chip = Chip.of(engine(), device(memory_bandwidth=bandwidth), count)
    stage = (shape, *ends, quant(), chip)
    terms = Terms(*stage)  # type: ignore[arg-type]
    decoding = Batch.decode(sequences, sequences * context)
    pieces = [Batch.prefill(*one) for one in prompts]
    whole = joint_time(*stage, decoding, *pieces).total_s  # type: ignore[arg-type]
    tokens = sequences + sum(new for new, _ in prompts)
    apart = terms.products_s(tokens, sequences + len(prompts))
    apart += terms.decoding_s(sequences, sequences * context)
    apart += sum(terms.prompt_s(*one) for one in prompts)
    assert apart == pytest.approx(whole, rel=1e-12)
