"""A run as trace events, for Perfetto and chrome://tracing; the same layout for both kinds of run.

Nodes are processes; a stage and each way out of a node are threads; requests are nested
asynchronous slices and flows; the queue and the KV cache are counters; losses and failures are
instants. Format: "Trace Event Format" (Google, 2016).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from planner.core.metrics import RequestRecord
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.sim.result import Recovery, Visit

if TYPE_CHECKING:
    from planner.run.measurement import Measurement

Event = dict[str, Any]
_REQUESTS = 1
"""Thread of the coordinator's process for what happens to no stage or way."""


@dataclass(frozen=True, slots=True)
class Span:
    """One job at one stage or on one way (s)."""

    place: str
    """Node, or ``src -> dst``."""
    job: int
    phase: str
    requests: tuple[int, ...]
    began_s: float
    ended_s: float


@dataclass(frozen=True, slots=True)
class Course:
    """What happened in a run."""

    name: str
    """``simulated`` or ``measured``."""
    problem: Problem
    plan: Plan
    spans: Sequence[Span]
    records: Sequence[RequestRecord]
    recoveries: Sequence[Recovery] = ()


def trace_document(course: Course) -> dict[str, Any]:
    """The JSON object that a trace file holds; times in microseconds."""
    tracks = _Tracks(course)
    events = [*tracks.slices(course.spans), *_requests(course, tracks), *_counters(course, tracks)]
    events += [*_flows(course, tracks), *_instants(course, tracks)]
    events.sort(key=lambda event: event["ts"])
    return {
        "traceEvents": [*tracks.names(), *events],
        "displayTimeUnit": "ms",
        "otherData": {"scenario": course.problem.name, "kind": course.name},
    }


@dataclass(slots=True)
class _Tracks:
    """Processes and threads; spans that overlap on one place get threads beside each other."""

    course: Course
    pids: dict[str, int] = field(init=False)
    tids: dict[tuple[int, str], int] = field(default_factory=dict)
    placed: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Process and thread of each span, by its place in the course."""

    def __post_init__(self) -> None:
        nodes = self.course.problem.cluster.nodes
        self.pids = {node.id: number for number, node in enumerate(nodes, start=1)}
        self.tids[self.home, "requests"] = _REQUESTS

    @property
    def home(self) -> int:
        """Process of the coordinator."""
        return self.pids[self.course.problem.cluster.coordinator]

    def slices(self, spans: Sequence[Span]) -> Iterator[Event]:
        """A slice for each span, on the first thread of its place that is free."""
        free_ns: dict[tuple[int, str], list[int]] = defaultdict(list)
        order = sorted(range(len(spans)), key=lambda at: (spans[at].began_s, spans[at].ended_s))
        for at in order:
            span = spans[at]
            pid, track = self._track(span.place)
            begin, end = _ns(span.began_s), _ns(span.ended_s)
            lanes = free_ns[pid, track]
            lane = next((i for i, free in enumerate(lanes) if free <= begin), len(lanes))
            lanes[lane : lane + 1] = [end]
            name = track if lane == 0 else f"{track} ({lane + 1})"
            tid = self.tids.setdefault((pid, name), len(self.tids) + 1)
            self.placed[at] = (pid, tid)
            yield {
                "name": span.phase,
                "cat": "stage" if span.place in self.pids else "link",
                "ph": "X",
                "ts": begin / 1e3,
                "dur": (end - begin) / 1e3,
                "pid": pid,
                "tid": tid,
                "args": {"job": span.job, "requests": list(span.requests)},
            }

    def _track(self, place: str) -> tuple[int, str]:
        src, _, dst = place.partition(" -> ")
        return self.pids[src], f"to {dst}" if dst else "stage"

    def names(self) -> Iterator[Event]:
        """What processes and threads are called, and their order."""
        used = {pid for pid, _ in self.tids}
        for node in self.course.problem.cluster.nodes:
            pid = self.pids[node.id]
            if pid in used:
                label = f"{node.id} ({node.device}, {node.region})" if node.device else node.id
                yield _named("process_name", pid, 0, {"name": label})
                yield _named("process_sort_index", pid, 0, {"sort_index": pid})
        for (pid, name), tid in self.tids.items():
            yield _named("thread_name", pid, tid, {"name": name})


def _named(what: str, pid: int, tid: int, args: Mapping[str, Any]) -> Event:
    return {"name": what, "ph": "M", "ts": 0, "pid": pid, "tid": tid, "args": dict(args)}


def _ns(seconds: float) -> int:
    """Whole nanoseconds, so that what touches in the run touches in the trace."""
    return round(seconds * 1e9)


def _us(seconds: float) -> float:
    return _ns(seconds) / 1e3


def _passes(course: Course) -> dict[int, list[int]]:
    """Places of a request's spans in the course, in the order in which it came by."""
    found: dict[int, list[int]] = defaultdict(list)
    order = sorted(range(len(course.spans)), key=lambda at: course.spans[at].began_s)
    for at in order:
        for request in course.spans[at].requests:
            found[request].append(at)
    return found


def _requests(course: Course, tracks: _Tracks) -> Iterator[Event]:
    """Each request from its arrival to its end, and within it: waiting, prompt, answer."""
    passes = _passes(course)
    for record in course.records:
        mine = passes.get(record.id, [])
        begun_s = course.spans[mine[0]].began_s if mine else record.arrival_s
        last_s = course.spans[mine[-1]].ended_s if mine else record.arrival_s
        first_s = record.token_s[0] if record.token_s else last_s
        end_s = record.token_s[-1] if record.token_s else last_s
        name = f"request {record.id}"
        args = {
            "prompt_tokens": record.prompt_tokens,
            "output_tokens": record.output_tokens,
            "status": record.status,
            "reason": record.reason,
        }
        parts = [
            (name, record.arrival_s, end_s, args),
            ("waiting", record.arrival_s, begun_s, {}),
            ("prompt", begun_s, first_s, {}),
            ("answer", first_s, end_s, {}),
        ]
        for label, from_s, to_s, told in parts:
            base: Event = {"name": label, "cat": "request", "id": str(record.id)}
            base |= {"pid": tracks.home, "tid": _REQUESTS}
            yield base | {"ph": "b", "ts": _us(from_s), "args": told}
            yield base | {"ph": "e", "ts": max(_us(from_s), _us(to_s)), "args": {}}


def _flows(course: Course, tracks: _Tracks) -> Iterator[Event]:
    """Arrows along the passes that bring a request its first and its last token."""
    for request, mine in _passes(course).items():
        jobs = [course.spans[at].job for at in mine]
        chosen = [at for at, job in zip(mine, jobs, strict=True) if job in (jobs[0], jobs[-1])]
        if len(chosen) < 2:
            continue
        for number, at in enumerate(chosen):
            pid, tid = tracks.placed[at]
            last = number == len(chosen) - 1
            event = {
                "name": f"request {request}",
                "cat": "flow",
                "ph": "s" if number == 0 else "f" if last else "t",
                "id": str(request),
                "ts": _us(course.spans[at].began_s),
                "pid": pid,
                "tid": tid,
            }
            yield event | ({"bp": "e"} if last else {})


def _counters(course: Course, tracks: _Tracks) -> Iterator[Event]:
    """Requests that wait, and tokens whose cache every stage of a pipeline holds."""
    passes = _passes(course)
    waiting: dict[int, int] = defaultdict(int)
    cached: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for record in course.records:
        mine = passes.get(record.id, [])
        if not mine:
            continue
        begin, tokens = _ns(course.spans[mine[0]].began_s), cached[record.pipeline]
        waiting[_ns(record.arrival_s)] += 1
        waiting[begin] -= 1
        tokens[begin] += record.prompt_tokens
        for time_s in record.token_s:
            tokens[_ns(time_s)] += 1
        end_s = record.token_s[-1] if record.token_s else course.spans[mine[-1]].ended_s
        tokens[_ns(end_s)] -= record.prompt_tokens + len(record.token_s)
    yield from _counter("queue", "requests", tracks.home, waiting)
    for index, changes in cached.items():
        for node in course.plan.pipelines[index].nodes:
            yield from _counter("KV cache", "tokens", tracks.pids[node], changes)


def _counter(name: str, unit: str, pid: int, changes: Mapping[int, int]) -> Iterator[Event]:
    level = 0
    for time_ns in sorted(changes):
        level += changes[time_ns]
        event = {"name": name, "ph": "C", "ts": time_ns / 1e3, "pid": pid, "tid": 0}
        yield event | {"args": {unit: level}}


def _instants(course: Course, tracks: _Tracks) -> Iterator[Event]:
    for one in course.recoveries:
        lost = course.plan.pipelines[one.pipeline].nodes[one.stage]
        yield _instant("lost", one.lost_s, tracks.pids[lost])
        yield _instant(f"loss of {lost} noticed", one.detected_s, tracks.home)
        yield _instant("works again", one.recovered_s, tracks.pids[one.node])
    for record in course.records:
        if record.status == "failed":
            at_s = max([record.arrival_s, *record.token_s[-1:]])
            event = _instant(f"request {record.id} failed", at_s, tracks.home)
            yield event | {"args": {"reason": record.reason}}


def _instant(name: str, at_s: float, pid: int) -> Event:
    return {
        "name": name,
        "cat": "failure",
        "ph": "i",
        "s": "p",
        "ts": _us(at_s),
        "pid": pid,
        "tid": 0,
    }


def simulated_spans(visits: Iterable[Visit]) -> Iterator[Span]:
    """What a simulation notes of every job at every place."""
    for one in visits:
        yield Span(one.place, one.job, one.phase, one.requests, one.began_s, one.ended_s)


def measured_spans(problem: Problem, plan: Plan, measurement: Measurement) -> Iterator[Span]:
    """What stages and coordinator noted; a way ends when its receiver takes the job up.

    Steps stand where they were made, ways between the nodes of the plan.
    """
    home = problem.cluster.coordinator
    for index, pipeline in enumerate(plan.pipelines):
        served = measurement.requests[index]
        places = [home, *pipeline.nodes, home]
        logs = [measurement.coordinator[index]]
        for stage in pipeline.stages:
            held = [
                run
                for run in measurement.stages
                if (run.pipeline, run.stage.start) == (index, stage.start)
            ]
            made = [(run.stage.node, step) for run in held for step in run.steps]
            made.sort(key=lambda one: one[1].received_s)
            logs.append([step for _, step in made])
            for node, step in made:
                if step.job in served:
                    times_s = (step.received_s, step.computed_s)
                    yield Span(node, step.job, step.phase, served[step.job], *times_s)
        logs.append(measurement.returned[index])
        for (src, dst), (sent, received) in zip(pairwise(places), pairwise(logs), strict=True):
            left_s = {step.job: step.computed_s for step in sent}
            for step in received:
                if step.job in served and step.job in left_s:
                    times_s = (left_s[step.job], step.received_s)
                    yield Span(f"{src} -> {dst}", step.job, step.phase, served[step.job], *times_s)
