from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.core.cluster import Node
from planner.core.cost import (
    Batch,
    Chip,
    stage_memory,
    stage_time,
    transfer_time,
    traverse,
)
from planner.core.cost.compute import step_time
from planner.core.cost.money import energy_joule
from planner.core.cost.transfer import stream_bytes_per_s
from planner.core.cost.traversal import route
from planner.core.engine import Calibration, Efficiency
from planner.core.plan import Pipeline, Stage
from planner.core.problem import Serving
from tests.core.world import device, engine, link, model, problem, quant


def chip(**changes: object) -> Chip:
    return Chip(device(**changes), engine().calibrations[0])


def test_a_decode_step_reads_its_weights_once() -> None:
    spec = model()
    time = stage_time(spec, 1, 3, quant(), chip(), Batch.decode(1, 0))
    assert time.weights_s == pytest.approx(2 * spec.layers[0].params * 2 / 100e9, rel=1e-12)
    assert time.overhead_s == pytest.approx(1e-3 + 2 * 1e-4, rel=1e-12)
    assert time.kv_s == 0


def test_a_long_prompt_is_bound_by_compute() -> None:
    spec = model()
    time = stage_time(spec, 1, 2, quant(), chip(), Batch.prefill(4000))
    compute_s = 2 * spec.layers[0].params * 4000 / 10e12
    assert time.weights_s + time.compute_s == pytest.approx(compute_s, rel=1e-12)


def test_the_head_is_paid_by_the_last_stage_and_the_embedding_by_the_first() -> None:
    spec, step = model(), Batch.decode(2, 50)
    middle = stage_time(spec, 1, 2, quant(), chip(), step).total_s
    last = stage_time(spec, 3, 4, quant(), chip(), step).total_s
    first = stage_time(spec, 0, 1, quant(), chip(), step).total_s
    assert last - middle == pytest.approx(100 * 64 * 2 / 100e9, rel=1e-6)
    assert first - middle == pytest.approx(2 * 64 * 2 / 100e9, rel=1e-6)


def test_only_a_stage_that_waits_for_others_wakes_up() -> None:
    calibration = engine().calibrations[0].model_copy(update={"wake_s": 7e-4})
    sleepy, step = Chip(device(), calibration), Batch.decode(2, 50)
    for start, stop, more_s in ((0, 4, 0.0), (0, 3, 7e-4), (1, 4, 7e-4)):
        slow = stage_time(model(), start, stop, quant(), sleepy, step).total_s
        fast = stage_time(model(), start, stop, quant(), chip(), step).total_s
        assert slow - fast == pytest.approx(more_s, abs=1e-12)


@given(
    cut=st.integers(1, 3),
    sequences=st.integers(1, 64),
    context=st.integers(0, 10_000),
)
def test_a_split_costs_one_more_fixed_overhead_and_nothing_else(
    cut: int, sequences: int, context: int
) -> None:
    spec = model(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, moe_layer_freq=2)
    step = Batch.decode(sequences, context)
    whole = stage_time(spec, 0, 4, quant(), chip(), step).total_s
    parts = sum(
        stage_time(spec, start, stop, quant(), chip(), step).total_s
        for start, stop in ((0, cut), (cut, 4))
    )
    assert parts == pytest.approx(whole + 1e-3, rel=1e-9)


@given(st.integers(1, 300), st.integers(0, 300), st.integers(1, 400))
def test_attended_pairs_equal_a_count_by_hand(new: int, cached: int, window: int) -> None:
    batch = Batch.prefill(new, cached)
    assert batch.attended_pairs(None) == sum(cached + i for i in range(1, new + 1))
    counted = sum(min(cached + i, window) for i in range(1, new + 1))
    assert batch.attended_pairs(window) == pytest.approx(counted, abs=window)


def test_more_devices_share_the_work_and_pay_for_synchronisation() -> None:
    calibration = engine().calibrations[0].model_copy(update={"sync_s": 1e-5})
    one = stage_time(model(), 1, 3, quant(), Chip(device(), calibration, 1), Batch.decode(1, 0))
    two = stage_time(model(), 1, 3, quant(), Chip(device(), calibration, 2), Batch.decode(1, 0))
    assert two.weights_s == pytest.approx(one.weights_s / 2)
    assert (one.sync_s, two.sync_s) == (0, pytest.approx(2 * 2 * 1e-5))


def test_activations_pass_the_interconnect_in_an_all_reduce() -> None:
    """64 values of 2 bytes a token, 2 (4 - 1) / 4 of them passed on, twice per layer."""
    calibration = engine().calibrations[0].model_copy(update={"sync_bandwidth": 0.5})
    four = Chip(device(interconnect=1e6), calibration, 4)
    time = stage_time(model(), 1, 3, quant(), four, Batch.prefill(10))
    assert time.sync_s == pytest.approx(2 * 2 * 1.5 * 10 * 64 * 2 / 0.5e6)


def test_a_long_prompt_is_computed_in_chunks() -> None:
    """Attention sees the chunks before, weights are read once per chunk."""
    chunked = Chip(device(), engine().calibrations[0], prefill_chunk=100)
    steps = (Batch.prefill(100), Batch.prefill(100, 100), Batch.prefill(50, 200))
    parts = [stage_time(model(), 0, 4, quant(), chip(), step).total_s for step in steps]
    whole = stage_time(model(), 0, 4, quant(), chunked, Batch.prefill(250))
    assert whole.total_s == pytest.approx(sum(parts))
    short = Batch.prefill(100)
    assert stage_time(model(), 0, 4, quant(), chunked, short).total_s == parts[0]


def test_devices_that_hold_layers_of_their_own_take_turns() -> None:
    """Nothing is gained in decode; c chunks leave n devices after c + n - 1 turns."""
    calibration = engine().calibrations[0].model_copy(update={"sync_s": 1e-5})
    three = Chip(device(), calibration, 3, "layer", prefill_chunk=100)
    one = Chip(device(), calibration, 1, "layer", prefill_chunk=100)
    for step, turns in ((Batch.decode(4, 100), 3 / 3), (Batch.prefill(400), (4 + 2) / (4 * 3))):
        alone = stage_time(model(), 0, 4, quant(), one, step).total_s
        split = stage_time(model(), 0, 4, quant(), three, step).total_s
        assert split == pytest.approx(alone * turns + 2e-5)


def test_grouped_products_are_padded_to_whole_tiles() -> None:
    """Each touched expert computes half a tile for nothing, at its own share of the peak."""
    spec = model(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32)
    entry = engine().calibrations[0]
    slow = entry.efficiency["*"].model_copy(update={"experts": 0.5})
    changed = {"expert_tile": 8.0, "efficiency": {"*": slow}}
    padded = Chip(device(), entry.model_copy(update=changed))
    step = Batch.prefill(5000)
    plain_s = stage_time(spec, 1, 2, quant(), chip(), step).total_s
    padded_s = stage_time(spec, 1, 2, quant(), padded, step).total_s
    layer, flop_per_s = spec.layers[1], 10e12
    rows = 2 * (2 * 5000 + 4 * 8 / 2) - 2 * 5000
    assert padded_s - plain_s == pytest.approx(2 * layer.expert_params * rows / flop_per_s)


def test_experts_have_a_format_of_their_own_on_chips_that_scale_blocks() -> None:
    """Only routed experts, only where FP4 arithmetic is there, never beyond that format's peak."""
    spec = model(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32)
    narrow = quant(experts_dtype="fp8")
    step, peaks = Batch.prefill(5000), {"bf16": 10e12, "fp8": 40e12}
    blocks = Chip(device(compute=peaks | {"fp4": 80e12}), engine().calibrations[0])
    plain = Chip(device(compute=peaks), engine().calibrations[0])
    before_s = stage_time(spec, 1, 2, quant(), blocks, step).total_s
    saved_s = before_s - stage_time(spec, 1, 2, narrow, blocks, step).total_s
    experts_s = 2 * 2 * 5000 * spec.layers[1].expert_params / 10e12
    assert saved_s == pytest.approx(experts_s * (1 - 1 / 4))
    assert stage_time(spec, 1, 2, narrow, plain, step).total_s == pytest.approx(before_s)


def test_compute_efficiency_is_read_off_a_curve() -> None:
    reached = Efficiency(bandwidth=1, compute=((1, 0.1), (100, 0.5)))
    assert [reached.compute_at(n) for n in (0.5, 1, 10, 100, 1000)] == pytest.approx(
        [0.1, 0.1, 0.3, 0.5, 0.5]
    )


def test_no_chip_computes_faster_than_its_peak_and_none_narrow_floats_that_it_lacks() -> None:
    """A share beyond 1 is meant for chips that their power limit holds back."""
    shares = {"*": 0.5, "fp8": 1.5}
    reached = Calibration(
        efficiency={key: Efficiency(bandwidth=1.0, compute=share) for key, share in shares.items()},
        source="made up for tests",
    )
    spec, scheme = model(vocab_size=1), quant("fp8", weight_bits=8, compute_dtype="fp8")
    flops = 2 * 1e6 * sum(layer.params for layer in spec.layers)
    for rates, least_s in (
        ({"bf16": 1e12, "fp8": 2e12}, flops / 2e12),
        ({"bf16": 1e12}, flops / 0.5e12),
    ):
        made = Chip(device(memory_bandwidth=1e30, compute=rates), reached)
        found = stage_time(spec, 1, 3, scheme, made, Batch.prefill(1e6))
        assert found.compute_s == pytest.approx(least_s / 2, rel=1e-6)


def test_the_closest_calibration_wins() -> None:
    def entry(**keys: str) -> Calibration:
        return Calibration(
            efficiency={"*": Efficiency(bandwidth=1, compute=1)}, source=str(keys), **keys
        )

    made = engine(
        calibrations=(
            entry(device_class="test"),
            entry(device_class="test", architecture="new"),
            entry(device="mine"),
        )
    )
    assert made.calibration(device()).source == "{'device_class': 'test'}"
    assert "architecture" in made.calibration(device(architecture="new")).source
    assert "mine" in made.calibration(device("mine")).source
    with pytest.raises(ValueError, match="no calibration for chip"):
        made.calibration(device(device_class="other"))


def test_a_transfer_is_serialised_propagated_and_relayed() -> None:
    moved = transfer_time(link(), 10_000, engine(frame=0))
    assert (moved.serialise_s, moved.propagate_s, moved.relay_s) == (1e-3, 0.01, 1e-4)
    assert transfer_time(None, 10_000, engine()).total_s == 1e-4


def test_a_traversal_adds_stages_hops_and_the_coordinator() -> None:
    world = problem()
    pipeline = Pipeline(
        stages=(
            Stage(node="a", start=0, stop=2, quant="bf16"),
            Stage(node="b", start=2, stop=4, quant="bf16"),
        )
    )
    way = traverse(world, pipeline, Batch.prefill(100))
    assert [hop.propagate_s for hop in way.transfers] == [0, 0.01, 0.01]
    assert way.transfers[1].serialise_s == pytest.approx((100 * 64 * 2 + 64) / 10e6)
    assert way.transfers[2].serialise_s == pytest.approx((4 + 64) / 10e6)
    parts = [stage.total_s for stage in way.stages] + [hop.total_s for hop in way.transfers]
    assert way.total_s == pytest.approx(sum(parts) + 2e-4, rel=1e-12)


def test_memory_counts_weights_cache_and_ends() -> None:
    spec = model()
    needs = stage_memory(
        spec, 0, 4, quant(), engine(), sequences=3, tokens_per_sequence=33, step_tokens=10
    )
    assert needs.weights_bytes == (spec.total_params - 64) * 2
    assert needs.kv_bytes == 3 * 4 * 48 * 64 * 2
    tied = stage_memory(model(tie_word_embeddings=True), 0, 4, quant(), engine(), 1, 1, 1)
    assert needs.weights_bytes - tied.weights_bytes == 100 * 64 * 2


def test_devices_beyond_the_kv_heads_hold_copies_of_the_cache() -> None:
    """Two KV heads over four devices: each head twice, read by two devices at once."""

    def at(count: int) -> tuple[float, float]:
        needs = stage_memory(model(), 0, 4, quant(), engine(), 1, 32, 1, count)
        chip = Chip(device(interconnect=None), engine().calibrations[0], count)
        return needs.kv_bytes, stage_time(
            model(), 1, 2, quant(), chip, Batch.decode(1, 10_000)
        ).kv_s

    one, two, four = map(at, (1, 2, 4))
    assert two == (one[0], pytest.approx(one[1] / 2))
    assert four == (2 * one[0], pytest.approx(one[1] / 2))


def test_several_batches_of_a_step_read_weights_once() -> None:
    chip = Chip(device(), engine().calibrations[0])
    batches = Batch.decode(2, 200), Batch.prefill(3)
    both = step_time(model(), 1, 2, quant(), chip, *batches)
    apart = [step_time(model(), 1, 2, quant(), chip, batch) for batch in batches]
    assert both.weights_s == apart[0].weights_s == apart[1].weights_s
    assert both.kv_s == pytest.approx(apart[0].kv_s + apart[1].kv_s)


def test_energy_is_that_of_work_and_of_waiting() -> None:
    assert energy_joule(10, 100, 300, 20) == 10 * 300 + 90 * 20


def test_loss_and_window_limit_what_one_connection_reaches() -> None:
    """1460 B / 20 ms x sqrt(3 / (2 x 0.01)) = 0.894 MB/s; 64 kB / 20 ms = 3.2 MB/s."""
    assert stream_bytes_per_s(link()) == 10e6
    assert stream_bytes_per_s(link(loss=0.01)) == pytest.approx(1460 / 0.02 * math.sqrt(150))
    assert stream_bytes_per_s(link(window=64e3)) == pytest.approx(3.2e6)
    assert stream_bytes_per_s(link(window=64e3, one_way_latency=0)) == 10e6


def test_a_prompt_waits_for_the_window_to_grow() -> None:
    """10 kB, 20 kB, 40 kB windows at 10 MB/s take 1, 2, 4 ms of a round trip of 20 ms."""
    slow = link(initial_window=10e3)
    calm = engine(frame=0)
    waits = [transfer_time(slow, size, calm, "prefill").ramp_s for size in (10e3, 11e3, 60e3)]
    assert waits == pytest.approx([0, 0.019, 0.019 + 0.018])
    assert transfer_time(slow, 60e3, calm, "decode").ramp_s == 0
    grown = transfer_time(slow, 100e6, calm, "prefill").ramp_s
    assert grown == pytest.approx(sum(0.02 - 1e-3 * 2**k for k in range(5)))


def test_a_relay_on_the_way_and_a_coordinator_in_the_same_process() -> None:
    relayed = transfer_time(link(relay=4e-3), 100, engine(hop=1e-3))
    assert relayed.relay_s == pytest.approx(5e-3)
    assert transfer_time(None, 100, engine(own_hop=0)).total_s == 0


def test_an_answer_that_is_relayed_takes_the_way_back_through_every_stage() -> None:
    base = problem(nodes=[Node(id=name, device="chip") for name in "cab"])
    world = base.model_copy(update={"serving": Serving(return_path="relayed")})
    assert route(base, "ab") == (("c", "a"), ("a", "b"), ("b", "c"))
    assert route(world, "ab")[2:] == (("b", "a"), ("a", "c"))


def test_scores_that_leave_the_chip_pass_through_memory() -> None:
    """4 heads, 10 x 11 / 2 pairs, 30 bytes each, twice; nothing with fused kernels or in decode."""
    entry = engine().calibrations[0].model_copy(update={"score_bytes": 30.0})
    unfused = Chip(device(), entry)
    prompt, step = Batch.prefill(10), Batch.decode(4, 100)
    more_s = (
        stage_time(model(), 1, 3, quant(), unfused, prompt).total_s
        - stage_time(model(), 1, 3, quant(), chip(), prompt).total_s
    )
    assert more_s == pytest.approx(2 * 4 * 55 * 30 / 100e9)
    decode = (stage_time(model(), 1, 3, quant(), one, step) for one in (unfused, chip()))
    assert len({time.total_s for time in decode}) == 1


def test_a_long_step_of_narrow_weights_may_be_widened_first() -> None:
    """Read in 4 bits and written in 16 by a kernel of its own, then as a model in 16 bits."""
    narrow = quant("q4", weight_bits=4, compute_dtype="int8")
    integers = device(compute={"bf16": 10e12, "int8": 20e12, "fp32": 1e12})
    plain = Chip(integers, engine().calibrations[0])
    widening = Chip(integers, engine().calibrations[0], widens_above=32)
    for step in (Batch.decode(32, 0), Batch.prefill(32)):
        times = [stage_time(model(), 1, 3, narrow, one, step) for one in (plain, widening)]
        assert times[0] == times[1]
    step = Batch.prefill(500)
    copied = stage_time(model(), 1, 3, narrow, widening, step).total_s
    params = sum(layer.params for layer in model().layers[1:3])
    wide = stage_time(model(), 1, 3, quant(), plain, step).total_s
    assert copied - wide == pytest.approx(params * (0.5 + 2) / 100e9)
    without = device(compute={"bf16": 10e12})
    apple = [Chip(without, engine().calibrations[0], widens_above=n) for n in (None, 32)]
    times = [stage_time(model(), 1, 3, narrow, one, step) for one in apple]
    assert times[0] == times[1]


def test_small_weights_are_unpacked_and_narrow_models_leave_a_chip_idle() -> None:
    entry = engine().calibrations[0]
    integers = device(compute={"bf16": 10e12, "int8": 20e12, "fp32": 1e12})
    narrow = quant("q4", weight_bits=4, compute_dtype="int8")
    params = sum(layer.params for layer in model().layers[1:3])
    unpacking = Chip(integers, entry.model_copy(update={"unpack_flops": 6.0}))
    step = Batch.decode(1, 0)
    more = stage_time(model(), 1, 3, narrow, unpacking, step).weights_s
    less = stage_time(model(), 1, 3, narrow, Chip(integers, entry), step).weights_s
    assert more - less == pytest.approx(params * 6 / 1e12)
    prompt, half = Batch.prefill(5000), entry.model_copy(update={"fill_width": 64.0})
    full_s = stage_time(model(), 1, 3, quant(), chip(), prompt).compute_s
    half_s = stage_time(model(), 1, 3, quant(), Chip(device(), half), prompt).compute_s
    assert half_s - full_s == pytest.approx(2 * params * 5000 / 10e12)


def test_sums_over_blocks_of_weights_are_scaled_by_vector_units() -> None:
    """One sum per 32 products, 8 FLOP each at 1 TFLOP/s, beside the products at 20 TOP/s."""
    entry = engine().calibrations[0].model_copy(update={"scale_flops": 8.0})
    integers = Chip(device(compute={"bf16": 10e12, "int8": 20e12, "fp32": 1e12}), entry)
    without = Chip(device(compute={"bf16": 10e12, "fp32": 1e12}), entry)
    plain = quant("q8", weight_bits=8, compute_dtype="int8")
    blocks = quant("q8", weight_bits=8, compute_dtype="int8", scale_block=32)
    params = sum(layer.params for layer in model().layers[1:3])
    times = [
        stage_time(model(), 1, 3, scheme, chip_, Batch.prefill(5000)).total_s
        for chip_ in (integers, without)
        for scheme in (blocks, plain)
    ]
    assert times[0] - times[1] == pytest.approx(params * 5000 / 32 * 8 / 1e12)
    assert times[2] == times[3]


@pytest.mark.parametrize(
    ("launches", "at_once", "turns"),
    [
        (None, None, 6),
        (None, 2, 4 + 4),  # the third one follows the first
        (2048, None, 4 + 2 * 3.5),  # half a layer's kernels find room
        (512, None, 6),  # two whole chunks do
        (800, None, 4 + 0.72 + 3),  # 0.28 of the second one does
        (800, 1, 12),
    ],
)
def test_a_full_queue_of_launches_halts_the_devices_behind(
    launches: int | None, at_once: int | None, turns: float
) -> None:
    """Four devices hold a layer each and compute 3 chunks."""
    entry = engine().calibrations[0]
    four = Chip(device(), entry, 4, "layer", 100, chunks_at_once=at_once, launches=launches)
    one = Chip(device(), entry, prefill_chunk=100)
    step = Batch.prefill(300)
    alone = stage_time(model(), 0, 4, quant(), one, step).total_s
    split = stage_time(model(), 0, 4, quant(), four, step).total_s
    assert split == pytest.approx(alone * turns / (3 * 4))
