"""Desk: where jobs leave the coordinator as frames and come back as tokens."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from planner.core.errors import RunError
from planner.core.schedule import Job
from planner.run.drafts import kept, look_up
from planner.run.fleet import Fleet
from planner.run.frames import Frame, Kind, Seat, read_frame
from planner.run.prompts import Prompt, Running
from planner.run.steps import Step
from planner.run.traffic import Traffic

_TOKEN_LIMIT_BYTES = 2**20


@dataclass(slots=True)
class Coordination:
    """What the coordinator did for each job of a pipeline."""

    sent: list[Step] = field(default_factory=list)
    """``compute_s`` is the coordinator's own time for the job."""
    returned: list[Step] = field(default_factory=list)
    requests: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Ids of the requests that each job serves."""


class Answer(NamedTuple):
    """A job that is back."""

    job: Job[Running]
    tokens: list[tuple[int, ...]]
    """One or more for each of its sequences."""
    at_s: float


class Desk:
    """Turns jobs into frames and back; writes down when, if asked to ``keep`` that."""

    def __init__(
        self, fleet: Fleet, traffic: Traffic, prompt: Callable[[int], Prompt], pipelines: int
    ) -> None:
        self._fleet, self._traffic, self.prompt = fleet, traffic, prompt
        self._steps: dict[int, Step] = {}
        """What the coordinator did for the jobs under way, by number."""
        self.coordination = [Coordination() for _ in range(pipelines)]
        self.keep = True

    def send(self, index: int, job: Job[Running], decided_s: float) -> float:
        """Sends a job down a pipeline; when that was done."""
        for frame in self._chunks(self._frame(job)):
            step = Step(
                frame.job,
                job.phase,
                len(frame.seats),
                frame.rows,
                sum(seat.position for seat in frame.seats),
                waited_s=0.0,
                received_s=decided_s,
                computed_s=time.monotonic(),
            )
            if frame.kind is not Kind.CHUNK:
                self._traffic.sent(frame.job, index, job)
                self._steps[frame.job] = step
            if self.keep:
                own = self.coordination[index]
                own.sent.append(step)
                own.requests[frame.job] = tuple(sequence.id for sequence in job.sequences)
            self._fleet.lines[index].outlet.send(frame)
            decided_s = step.computed_s
        return decided_s

    def receive(self, index: int) -> Answer:
        """The job whose tokens have come; raises PeerLostError."""
        end = self._fleet.lines[index].tokens
        assert end is not None
        frame = read_frame(end, _TOKEN_LIMIT_BYTES)
        now_s = time.monotonic()
        job, sent = self._traffic.back(frame.job), self._steps.pop(frame.job, None)
        if job is None or sent is None or frame.rows != _picks(job):
            raise RunError("a worker answered a job that nobody sent")
        if self.keep:
            back = sent._replace(waited_s=now_s - sent.computed_s, received_s=now_s)
            self.coordination[index].returned.append(back._replace(computed_s=now_s))
        return Answer(job, _kept(job, struct.unpack(f"<{frame.rows}i", frame.payload)), now_s)

    def _chunks(self, frame: Frame) -> Iterator[Frame]:
        """A prompt in parts, if it is longer than they may be; each is a job of its own."""
        size = self._fleet.settings.prefill_chunk
        if frame.kind is not Kind.PREFILL or size is None or frame.rows <= size:
            yield frame
            return
        (seat,), payload = frame.seats, memoryview(frame.payload)
        for start in range(0, frame.rows, size):
            tokens = min(size, frame.rows - start)
            if start:
                self._fleet.jobs_sent += 1
            yield frame._replace(
                kind=Kind.PREFILL if start + tokens == frame.rows else Kind.CHUNK,
                job=self._fleet.jobs_sent,
                seats=(seat._replace(position=seat.position + start, tokens=tokens),),
                rows=tokens,
                payload=payload[4 * start : 4 * (start + tokens)],
            )

    def _frame(self, job: Job[Running]) -> Frame:
        self._fleet.jobs_sent += 1
        seats: list[Seat] = []
        ids: list[int] = []
        for sequence in job.sequences:
            prompt, new = self.prompt(sequence.id), sequence.new_ids
            sequence.drafts = self._drafts(sequence, prompt) if job.phase == "decode" else ()
            new = [*new, *sequence.drafts]
            picking = (prompt.temperature, prompt.top_p, prompt.seed)
            seats.append(Seat(sequence.slot, sequence.cached, *picking, len(new), sequence.id))
            ids += new
        kind = Kind.PREFILL if job.phase == "prefill" else Kind.DECODE
        payload = struct.pack(f"<{len(ids)}i", *ids)
        return Frame(kind, self._fleet.jobs_sent, tuple(seats), "int32", len(ids), 1, payload)

    def _drafts(self, sequence: Running, prompt: Prompt) -> tuple[int, ...]:
        """Guesses to send along with the latest token, no more than could be kept."""
        left = prompt.max_new_tokens - len(sequence.output_ids) - 1
        most = min(self._fleet.settings.draft_tokens, left)
        if most <= 0:
            return ()
        return tuple(look_up(sequence.prompt_ids + sequence.output_ids, most))


def _picks(job: Job[Running]) -> int:
    """Tokens that a job's answer holds."""
    return sum(1 + len(sequence.drafts) for sequence in job.sequences)


def _kept(job: Job[Running], picked: tuple[int, ...]) -> list[tuple[int, ...]]:
    """What each sequence of a job gets."""
    found, row = [], 0
    for sequence in job.sequences:
        count = 1 + len(sequence.drafts)
        found.append(kept(sequence.drafts, picked[row : row + count]))
        row += count
    return found
