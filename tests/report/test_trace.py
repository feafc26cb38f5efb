"""Traces against the trace event format: a schema, nesting, and the run they tell of."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import jsonschema

from planner.core.metrics import RequestRecord
from planner.core.workload import Request
from planner.report.trace import Course, Span, simulated_spans, trace_document
from planner.sim.result import Recovery
from planner.sim.simulate import simulate
from tests.core.world import problem
from tests.report.test_run import PLAN

_ID = {"type": "string", "minLength": 1}
_COMMON: dict[str, Any] = {
    "name": {"type": "string", "minLength": 1},
    "cat": {"type": "string", "minLength": 1},
    "ts": {"type": "number"},
    "pid": {"type": "integer", "minimum": 1},
    "tid": {"type": "integer", "minimum": 0},
    "args": {"type": "object"},
}


def _phase(phase: str | list[str], required: list[str], **more: Any) -> dict[str, Any]:
    """The events of a phase: what they must have, and that they have nothing else."""
    kinds = [phase] if isinstance(phase, str) else phase
    return {
        "type": "object",
        "properties": {**_COMMON, "ph": {"enum": kinds}, **more},
        "required": ["name", "ph", "ts", "pid", "tid", *required],
        "additionalProperties": False,
    }


_COUNTS = {"type": "object", "minProperties": 1, "additionalProperties": {"type": "number"}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["traceEvents"],
    "properties": {
        "displayTimeUnit": {"enum": ["ms", "ns"]},
        "otherData": {"type": "object"},
        "traceEvents": {
            "type": "array",
            "items": {
                "oneOf": [
                    _phase("M", ["args"]),
                    _phase("X", ["dur", "cat"], dur={"type": "number", "minimum": 0}),
                    _phase(["b", "n", "e"], ["id", "cat"], id=_ID),
                    _phase(["s", "t"], ["id", "cat"], id=_ID),
                    _phase("f", ["id", "cat", "bp"], id=_ID, bp={"enum": ["e"]}),
                    _phase("C", ["args"], args=_COUNTS),
                    _phase("i", ["s"], s={"enum": ["g", "p", "t"]}),
                ]
            },
        },
    },
}
"""The subset of Google's "Trace Event Format" (2016) that Perfetto imports and planner writes."""


def check(document: dict[str, Any]) -> None:
    """Raises AssertionError or ValidationError where a viewer would stumble."""
    jsonschema.validate(document, SCHEMA)
    events = document["traceEvents"]
    threads = defaultdict(list)
    open_slices: dict[tuple[int, str, str], list[str]] = defaultdict(list)
    counts: dict[tuple[int, str], float] = {}
    for event in events:
        if event["ph"] == "X":
            threads[event["pid"], event["tid"]].append(event)
        elif event["ph"] == "b":
            open_slices[event["pid"], event["cat"], event["id"]].append(event["name"])
        elif event["ph"] == "e":
            open_slices[event["pid"], event["cat"], event["id"]].remove(event["name"])
        elif event["ph"] == "C":
            counts[event["pid"], event["name"]] = sum(event["args"].values())
            assert counts[event["pid"], event["name"]] >= 0
    assert not any(open_slices.values())
    assert not any(counts.values()), "what was queued or cached is gone at the end"
    for slices in threads.values():
        ends: list[float] = []
        for one in sorted(slices, key=lambda event: (event["ts"], -event["dur"])):
            while ends and ends[-1] <= one["ts"] + 1e-6:
                ends.pop()
            assert not ends or one["ts"] + one["dur"] <= ends[-1] + 1e-6, "slices cross"
            ends.append(one["ts"] + one["dur"])
    named = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    assert set(threads) <= named
    _check_flows(events, threads)


def _check_flows(events: list[dict[str, Any]], threads: dict[tuple[int, int], Any]) -> None:
    """Every flow starts once, ends once, goes forwards and lies in slices."""
    flows = defaultdict(list)
    for event in events:
        if event["ph"] in "stf":
            flows[event["id"]].append(event)
            inside = [
                one
                for one in threads[event["pid"], event["tid"]]
                if one["ts"] <= event["ts"] <= one["ts"] + one["dur"]
            ]
            assert inside, event
    for steps in flows.values():
        assert [step["ph"] for step in steps] == ["s", *"t" * (len(steps) - 2), "f"]


def simulated(requests: int = 6) -> tuple[dict[str, Any], Any]:
    world = problem()
    asked = [Request(number, 0.01 * number, 20, 8) for number in range(requests)]
    result = simulate(world, PLAN, 0, asked, visits=True, own_times=True)
    spans = list(simulated_spans(result.visits))
    return trace_document(Course("simulated", world, PLAN, spans, result.records)), result


def of(document: dict[str, Any], phase: str) -> list[dict[str, Any]]:
    return [event for event in document["traceEvents"] if event["ph"] == phase]


def test_a_simulation_passes_the_check() -> None:
    document, _ = simulated()
    check(document)
    assert {event["ph"] for event in document["traceEvents"]} == set("MXbestfC") - set("i")


def test_every_visit_is_a_slice_of_its_length() -> None:
    document, result = simulated()
    slices = of(document, "X")
    assert len(slices) == len(result.visits)
    told = sum(event["dur"] for event in slices) / 1e6
    assert abs(told - sum(one.ended_s - one.began_s for one in result.visits)) < 1e-6


def test_the_same_run_makes_the_same_trace() -> None:
    assert simulated()[0] == simulated()[0]


def test_messages_under_way_together_have_threads_beside_each_other() -> None:
    spans = [Span("a -> b", job, "decode", (job,), 0.1 * job, 0.1 * job + 0.15) for job in range(4)]
    document = trace_document(Course("measured", problem(), PLAN, spans, []))
    check(document)
    names = {event["args"]["name"] for event in of(document, "M") if event["tid"] > 1}
    assert names == {"to b", "to b (2)"}


def test_losses_and_failures_are_instants() -> None:
    failed = RequestRecord(7, 0, 5, 1.0, [], "failed", "no pipeline has all its nodes")
    lost = Recovery(pipeline=0, stage=1, node="a", lost_s=2.0, detected_s=7.0, recovered_s=9.0)
    document = trace_document(Course("simulated", problem(), PLAN, [], [failed], [lost]))
    check(document)
    assert [(event["name"], event["ts"]) for event in of(document, "i")] == [
        ("request 7 failed", 1e6),
        ("lost", 2e6),
        ("loss of b noticed", 7e6),
        ("works again", 9e6),
    ]
