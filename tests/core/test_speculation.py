from __future__ import annotations

import random
import statistics

import pytest

from planner.core.cluster import Node
from planner.core.cost import Batch, Chip, stage_time, traverse
from planner.core.cost.room import capacity_bytes
from planner.core.cost.traversal import coordinator_s
from planner.core.plan import Pipeline, Stage
from planner.core.problem import Problem, Serving
from planner.core.speculation import Drafting, Speculation
from tests.core.world import engine, model, problem


def test_tokens_of_a_round_are_the_geometric_sum() -> None:
    four = Speculation(draft_tokens=4, acceptance=0.5, draft_token=0.01)
    assert four.tokens_per_round == pytest.approx(1 + 0.5 + 0.25 + 0.125 + 0.0625)
    assert four.draft_s == pytest.approx(0.04)
    assert Speculation(draft_tokens=3, acceptance=1).tokens_per_round == 4
    assert Speculation(draft_tokens=3, acceptance=0).tokens_per_round == 1


def test_checks_in_flight_follow_each_other_until_a_draft_is_wrong() -> None:
    two = Speculation(draft_tokens=4, acceptance=0.5, draft_token=0.01, checks_in_flight=2)
    assert two.tokens_per_round == pytest.approx(1 / 0.5)
    assert two.draft_s == pytest.approx(0.04 / (1 - 0.5**4))
    never = Speculation(draft_tokens=4, acceptance=0, draft_token=0.01, checks_in_flight=2)
    assert (never.tokens_per_round, never.draft_s) == (1, 0.04)


def test_a_round_with_checks_in_flight_takes_what_events_say() -> None:
    """Drafts of 39 ms sent as they are ready, answers 103 ms later, all void behind a miss."""
    drafted_s, way_s, chance = 0.039, 0.103, 0.75
    one = Speculation(
        draft_tokens=4, acceptance=chance, draft_token=drafted_s / 4, checks_in_flight=8
    )
    rng = random.Random(2)
    tokens, now_s = 0, 0.0
    for _ in range(20_000):
        checks, right = 1, True
        while right:
            kept = 0
            while kept < 4 and rng.random() < chance:
                kept += 1
            tokens += kept
            right = kept == 4
            checks += right
        tokens += 1
        now_s += checks * drafted_s + way_s
    predicted = one.tokens_per_round / (one.draft_s + way_s)
    assert predicted == pytest.approx(tokens / now_s, rel=0.01)


def test_draws_have_the_expected_mean() -> None:
    four = Speculation(draft_tokens=4, acceptance=0.7)
    rng = random.Random(1)
    drawn = [four.draw(rng) for _ in range(20_000)]
    assert (min(drawn), max(drawn)) == (1, 5)
    assert statistics.fmean(drawn) == pytest.approx(four.tokens_per_round, rel=0.02)


def test_a_check_computes_and_sends_all_drafts() -> None:
    some = Speculation(draft_tokens=4, acceptance=0.7, draft_token=0.01)
    world: Problem = problem(serving=Serving(speculation=some))
    stages = (
        Stage(node="a", start=0, stop=2, quant="bf16"),
        Stage(node="b", start=2, stop=4, quant="bf16"),
    )
    way = traverse(world, Pipeline(stages=stages), Batch.decode(2, 200, 5))
    assert way.transfers[1].serialise_s == pytest.approx((10 * 64 * 2 + 64) / 10e6)
    assert way.transfers[2].serialise_s == pytest.approx((10 * 4 + 64) / 10e6)
    assert way.coordinator_s == pytest.approx(0.04 + 2e-4)


HALF = model(id="half", num_hidden_layers=2)


def test_a_draft_model_takes_what_the_cost_model_says_of_it() -> None:
    """Decode steps of the same sequences on the coordinator's device, one for each guess."""
    some = Speculation(draft_tokens=4, acceptance=0.7)
    world = problem(serving=Serving(speculation=some), draft=HALF)
    chip = Chip.of(world.engine, world.cluster.device("a"))
    each_s = stage_time(HALF, 0, 2, world.quants[0], chip, Batch.decode(2, 200)).total_s
    assert coordinator_s(world, Batch.decode(2, 200, 5)) == pytest.approx(4 * each_s + 2e-4)
    assert coordinator_s(world, Batch.prefill(100)) == 2e-4
    looked_up = problem(serving=Serving(speculation=some))
    assert coordinator_s(looked_up, Batch.decode(2, 200, 5)) == 2e-4
    stated = some.model_copy(update={"draft_token_s": 0.01})
    world = problem(serving=Serving(speculation=stated), draft=HALF)
    assert coordinator_s(world, Batch.decode(2, 200, 5)) == pytest.approx(0.04 + 2e-4)


def test_the_coordinators_memory_holds_the_draft() -> None:
    some = Speculation(draft_tokens=4, acceptance=0.7)
    without = problem(serving=Serving(speculation=some))
    world = problem(serving=Serving(speculation=some, max_num_seqs=3), draft=HALF)
    taken = capacity_bytes(without, "a") - capacity_bytes(world, "a")
    weights = 2 * (2 * 100 * 64 + 2 * (64 * (64 + 32 + 32 + 64) + 3 * 64 * 128 + 2 * 64) + 64)
    cache = 3 * 2 * (2 * 2 * 16) * 112 * 2
    assert taken > weights + cache
    assert taken == pytest.approx(weights + cache, rel=0.5)
    assert capacity_bytes(without, "b") == capacity_bytes(world, "b")


def test_a_coordinator_without_a_device_cannot_draft() -> None:
    some = Serving(speculation=Speculation(draft_tokens=4, acceptance=0.7))
    nodes = [Node(id="home"), Node(id="b", device="chip")]
    with pytest.raises(ValueError, match="home coordinates and has no device"):
        problem(nodes=nodes, serving=some, draft=HALF)


def test_what_runs_found_of_drafts_is_kept_by_pair() -> None:
    known = engine().knowing(Drafting(model="tiny", acceptance=0.2, source="a run"))
    known = known.knowing(Drafting(model="tiny", draft="half", acceptance=0.7, source="a run"))
    known = known.knowing(Drafting(model="tiny", acceptance=0.3, source="another"))
    assert known.acceptance("tiny", "half") == 0.7
    assert known.acceptance("tiny", "") == 0.3
    assert known.acceptance("other", "") is None
    assert len(known.drafting) == 2


@pytest.mark.parametrize(("places", "drafted_s", "chance"), [(2, 0.01, 0.9), (4, 0.02, 0.95)])
def test_checks_wait_for_a_place_in_flight(places: int, drafted_s: float, chance: float) -> None:
    """Events: a draft begins when the last one is sent, and is sent when a place is free.

    Each is 0.1 s under way; a round follows no more than 32.
    """
    one = Speculation(draft_tokens=2, acceptance=chance, checks_in_flight=places)
    rng, way_s = random.Random(7), 0.1
    rounds, now_s = 40_000, 0.0
    for _ in range(rounds):
        sent: list[float] = []
        while True:
            ready_s = (sent[-1] if sent else now_s) + drafted_s
            if len(sent) >= places:
                ready_s = max(ready_s, sent[-places] + way_s)
            sent.append(ready_s)
            right = all(rng.random() < chance for _ in range(2))
            if not right or len(sent) == 32:
                break
        now_s = sent[-1] + way_s
    token_s = drafted_s / 2
    round_s = one.waited_s(token_s) + one.stalled_s(token_s, way_s) + way_s
    assert round_s == pytest.approx(now_s / rounds, rel=0.02)
    wide = one.model_copy(update={"checks_in_flight": 12})
    assert wide.stalled_s(token_s, way_s) == 0.0
    single = one.model_copy(update={"checks_in_flight": 1})
    assert single.stalled_s(token_s, way_s) == 0.0
