import math
from dataclasses import replace

import numpy as np
import pytest

from planner.core.cluster import Node
from planner.core.cost import Batch, Chip, stage_time
from planner.core.cost.compute import head_time
from planner.core.cost.traversal import chip as chip_of
from planner.core.cost.verification import (
    audit_cost,
    audit_load,
    drawn_overhead,
    session_s,
    verification_cost,
    verifier,
)
from planner.core.plan import Pipeline, Plan, Stage, Standby
from planner.core.verification import (
    Verification,
    audit_probability_for,
    detection,
    deterring_probability,
    sessions_until_caught,
)
from tests.core.world import device, engine, model, problem, quant


def chip() -> Chip:
    return Chip(device(), engine().calibrations[0])


def test_an_audit_is_one_prefill_over_all_positions() -> None:
    cost = audit_cost(model(), 1, 3, quant(), chip(), 10, 6)
    once = stage_time(model(), 1, 3, quant(), chip(), Batch.prefill(15))
    assert cost.compute_s == once.total_s
    assert cost.traffic_bytes == 2 * 15 * 64 * 2


def test_a_verifier_fetches_what_entered_a_stage_and_left_its_layers() -> None:
    first, last, whole = (
        audit_cost(model(), start, stop, quant(), chip(), 10, 6).traffic_bytes
        for start, stop in ((0, 2), (2, 4), (0, 4))
    )
    hidden, ids = 15 * 64 * 2, 15 * 4
    assert (first, last, whole) == (ids + hidden, 2 * hidden, ids + hidden)


def test_the_head_is_asked_about_every_output_token() -> None:
    spec, outputs, tokens = model(), (1, 3900), 4000
    less, more = (
        audit_cost(spec, 2, 4, quant(), chip(), tokens - output, output).compute_s
        for output in outputs
    )
    one, all_of_them = (
        head_time(spec, quant(), chip(), Batch.decode(output, 0)).total_s for output in outputs
    )
    assert more - less == pytest.approx(all_of_them - one)
    assert more > less


def test_an_audit_is_computed_in_one_go_whatever_the_engine_does_with_prompts() -> None:
    pieces = replace(chip(), prefill_chunk=4)
    assert audit_cost(model(), 1, 3, quant(), pieces, 10, 6) == audit_cost(
        model(), 1, 3, quant(), chip(), 10, 6
    )


def test_auditing_weighs_more_the_larger_the_batch() -> None:
    spec, audit = model(), audit_cost(model(), 1, 3, quant(), chip(), 100, 200).compute_s
    shares = [
        audit / session_s(spec, 1, 3, quant(), chip(), 100, 200, batch) for batch in (1, 8, 64)
    ]
    assert shares == sorted(shares)
    assert shares[-1] > 10 * shares[0]


@pytest.mark.parametrize(
    ("probability", "share", "half", "most", "nearly_all"),
    [(0.01, 1.0, 70, 299, 459), (0.05, 0.1, 139, 599, 920), (0.1, 0.01, 694, 2998, 4608)],
)
def test_sessions_until_a_cheat_is_caught(
    probability: float, share: float, half: int, most: int, nearly_all: int
) -> None:
    found = [
        math.ceil(sessions_until_caught(caught, probability, share, 0.999))
        for caught in (0.5, 0.95, 0.99)
    ]
    assert found == [half, most, nearly_all]


def test_detection_is_what_drawing_sessions_finds() -> None:
    probability, share, power, sessions, runs = 0.05, 0.3, 0.9, 120, 20_000
    drawn = np.random.default_rng(3).random((runs, sessions, 3)) < (probability, share, power)
    caught = drawn.all(axis=2).any(axis=1).mean()
    expected = detection(probability, share, power, sessions)
    assert caught == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / runs))


def test_the_probability_for_a_detection_gives_that_detection() -> None:
    needed = audit_probability_for(0.99, 200, 0.5, 0.95)
    assert needed is not None
    assert detection(needed, 0.5, 0.95, 200) == pytest.approx(0.99, rel=1e-12)
    assert audit_probability_for(0.99, 2, 0.1, 0.95) is None


def test_without_audits_nobody_is_caught() -> None:
    assert detection(0.0, 1.0, 1.0, 1000) == 0
    assert sessions_until_caught(0.5, 0.0, 1.0, 1.0) == math.inf
    assert detection(1.0, 1.0, 1.0, 1) == pytest.approx(1)


def test_cheating_does_not_pay_above_the_deterring_probability() -> None:
    gain, loss, power = 2.0, 30.0, 0.9
    least = deterring_probability(gain, loss, power)
    for probability, pays in ((least * 0.99, True), (least * 1.01, False)):
        caught = probability * power
        assert (gain * (1 - caught) - loss * caught > 0) == pays


def test_the_smallest_audit_share_is_chosen_that_catches_a_cheat_in_time() -> None:
    asked = Verification.model_validate({"detection": {"sessions": 100}, "power": "99 %"})
    assert detection(asked.probability, 1.0, 0.99, 100) == pytest.approx(0.95)
    assert asked.sessions_until_caught() == pytest.approx(100)


def test_what_no_audit_can_promise_is_refused() -> None:
    with pytest.raises(ValueError, match="even audits of every session"):
        Verification.model_validate({"detection": {"sessions": 3, "chance": 0.99}, "power": 0.5})
    with pytest.raises(ValueError, match="give either audit_share"):
        Verification()


def test_the_first_standby_audits_else_a_coordinator_with_a_device() -> None:
    plan = Plan(
        pipelines=(
            Pipeline(
                stages=(
                    Stage(node="a", start=0, stop=2, quant="bf16"),
                    Stage(node="b", start=2, stop=4, quant="bf16"),
                )
            ),
        ),
        standbys=(Standby(node="c", pipeline=0, stage=1),),
    )
    asked = problem(
        nodes=[Node(id=name, device="chip") for name in "abc"],
        serving={"verification": {"audit_share": 0.1}},
    )
    assert [verifier(asked, plan, 0, stage) for stage in (0, 1)] == ["a", "c"]
    load = audit_load(asked, plan, [2.0], 10, 6)
    once = audit_cost(asked.model, 2, 4, asked.quant("bf16"), chip_of(asked, "c"), 10, 6)
    first = audit_cost(asked.model, 0, 2, asked.quant("bf16"), chip_of(asked, "a"), 10, 6)
    assert load.busy == {
        "a": pytest.approx(0.2 * first.compute_s),
        "c": pytest.approx(0.2 * once.compute_s),
    }
    assert load.sent_bytes["b", "c"] == pytest.approx(720 * once.traffic_bytes)
    cost = verification_cost(asked, plan, load, 0.5, 0.25)
    assert cost is not None
    assert cost.overhead == pytest.approx(sum(load.busy.values()) / 0.5)
    drawn = drawn_overhead(cost, {"a": 3, "b": 1}, 20)
    assert drawn == pytest.approx((3 * first.compute_s + once.compute_s) / 10)
    assert cost.verifiers == {"a": "a", "b": "c"}
