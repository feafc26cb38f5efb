"""Rehearsals made of steps that stages told of, written down by hand."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from planner.core.forecast import Rehearsal
from planner.core.metrics import RequestRecord
from planner.core.plan import Stage
from planner.core.problem import Problem
from planner.run.measurement import StageRun
from planner.run.prompts import Prompt
from planner.run.rehearsal import held_tokens, in_run, lasting_s, made
from planner.run.steps import Step
from tests.core.world import device, problem

STAGES = {
    "a": Stage(node="a", start=0, stop=2, quant="bf16"),
    "b": Stage(node="b", start=2, stop=4, quant="bf16"),
}


def world(at_once: int) -> Problem:
    """Two stages on one host that has cores for so many."""
    base = problem()
    chip = device(threads=1, host_threads=at_once)
    nodes = tuple(node.model_copy(update={"host": "box"}) for node in base.cluster.nodes)
    changes = {"devices": (chip,), "nodes": nodes}
    return base.model_copy(update={"cluster": base.cluster.model_copy(update=changes)})


def run(node: str, *steps: Step) -> StageRun:
    return StageRun(0, STAGES[node], 0, 0, {}, 0.0, list(steps))


def decode(begin_s: float, end_s: float, sequences: int = 2) -> Step:
    return Step(0, "decode", sequences, sequences, 20, 0.0, begin_s, end_s)


def prompt(begin_s: float, end_s: float, tokens: int) -> Step:
    return Step(0, "prefill", 1, tokens, 0, 0.0, begin_s, end_s)


def taken_s(rehearsal: Rehearsal) -> list[Sequence[float]]:
    return [[round(step.seconds, 6) for step in one] for one in rehearsal.rounds]


def test_steps_go_to_the_round_in_which_they_began() -> None:
    steps = (decode(0.1, 0.2), decode(0.9, 1.1), decode(1.0, 1.3), decode(2.5, 2.6))
    found = made(world(2), [run("a", *steps)], (0.0, 1.0, 2.0))
    assert taken_s(found["a"]) == [[0.1, 0.2], [0.3]]
    assert found["a"].span_s == 2.0
    (first, _), _ = found["a"].rounds
    assert (first.start, first.stop, first.quant.id, first.batch.sequences) == (0, 2, "bf16", 2)


def test_steps_that_waited_for_a_core_do_not_count() -> None:
    runs = [run("a", decode(0.0, 0.2), decode(0.5, 0.6)), run("b", decode(0.1, 0.3))]
    alone = made(world(1), runs, (0.0, 1.0))
    assert taken_s(alone["a"]) == [[0.1]]
    assert taken_s(alone["b"]) == [[]]
    both = made(world(2), runs, (0.0, 1.0))
    assert taken_s(both["a"]) == [[0.2, 0.1]]


def test_short_prompts_say_nothing_of_long_ones() -> None:
    steps = (prompt(0.0, 0.4, 64), prompt(0.4, 0.5, 8), decode(0.5, 0.6, 1))
    found = made(world(2), [run("a", *steps)], (0.0, 1.0))
    assert taken_s(found["a"]) == [[0.4, 0.1]]


def test_a_run_tells_of_the_nodes_that_worked_in_it() -> None:
    before = made(world(2), [run("a", decode(0.0, 0.1)), run("b", decode(0.2, 0.3))], (0.0, 1.0))
    measurement: Any = SimpleNamespace(
        stages=[run("a", decode(0.0, 0.2), decode(0.3, 0.5)), run("b")], paces=before
    )
    found = in_run(world(2), measurement)
    assert taken_s(found["a"]) == [[0.2, 0.2]]
    assert taken_s(found["b"]) == [[0.1]]
    assert found["b"].host != found["a"].host


@pytest.mark.parametrize(("slot_tokens", "tokens"), [(200, 64), (65, 64), (10, 9), (1, 1)])
def test_a_prompt_leaves_room_for_its_answer(slot_tokens: int, tokens: int) -> None:
    assert held_tokens(slot_tokens) == tokens


def test_how_long_requests_take_is_told_by_those_of_a_round() -> None:
    round_of_two = [RequestRecord(i, 0, 8, 0.0, [0.5, 0.6, 0.7]) for i in range(2)]
    asked = [Prompt(i, 0.0, [0] * 8, 21) for i in range(6)]
    three_in_turn_s = 3 * (0.5 + 21 * 0.1)
    assert lasting_s(asked, round_of_two) == pytest.approx(three_in_turn_s)
    late = [*asked, Prompt(6, 60.0, [0] * 8, 21)]
    assert lasting_s(late, round_of_two) == 60.0
