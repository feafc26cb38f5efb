"""Desk: where jobs leave the coordinator as frames and come back as tokens.

A decode job takes one frame, or several: with checks in flight the next guesses follow before it is
known whether the ones before them are right. The answers of frames behind a wrong guess are void.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from planner.core.errors import RunError
from planner.core.schedule import Job
from planner.run.drafts import DraftTally, Guesser, LookUp, Wish
from planner.run.fleet import Fleet
from planner.run.frames import Frame, Kind, Seat, read_frame
from planner.run.prompts import Prompt, Running
from planner.run.ready import ready
from planner.run.steps import Step
from planner.run.traffic import Traffic

_TOKEN_LIMIT_BYTES = 2**20


@dataclass(slots=True)
class Coordination:
    """What the coordinator did for each job of a pipeline."""

    sent: list[Step] = field(default_factory=list)
    """``compute_s`` is the coordinator's own time for the job, drafting left out."""
    drafted: list[Step] = field(default_factory=list)
    """What the draft took: prompts that it read, and guesses, where ``new_tokens`` are the
    steps that it made."""
    returned: list[Step] = field(default_factory=list)
    requests: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Ids of the requests that each job serves."""
    tally: DraftTally = field(default_factory=DraftTally)


class Returned(NamedTuple):
    """What came back of a job."""

    job: Job[Running]
    tokens: list[tuple[Running, tuple[int, ...]]]
    """One or more for each of its sequences, but for those of which nothing is of use."""
    at_s: float


class _Part(NamedTuple):
    """What a frame has of one sequence."""

    sequence: Running
    turn: int
    position: int
    ids: list[int]
    picks: int
    """Tokens that the answer has for it."""
    short: bool
    """Whether fewer guesses were made than could have been checked."""


class Desk:
    """Turns jobs into frames and back; writes down when, if asked to ``keep`` that."""

    def __init__(
        self,
        fleet: Fleet,
        traffic: Traffic,
        prompt: Callable[[int], Prompt],
        guesser: Guesser | None = None,
    ) -> None:
        """Guesses are looked up without a ``guesser``."""
        self._fleet, self._traffic, self.prompt = fleet, traffic, prompt
        self._guesser = guesser or LookUp()
        self._steps: dict[int, Step] = {}
        """What the coordinator did for the jobs under way, by number."""
        self._parts: dict[int, list[_Part]] = {}
        self.coordination = [Coordination() for _ in fleet.plan.pipelines]
        self.keep = True

    def send(
        self, index: int, job: Job[Running], decided_s: float, follows: bool = False
    ) -> float | None:
        """Sends a job down a pipeline, or what ``follows`` of one that is under way.

        When that was done; None where there is nothing to send, or an answer to read first.
        """
        parts, drafting_s = self._compose(index, job, follows)
        if not parts:
            return None
        decided_s += drafting_s
        for frame in self._chunks(self._frame(job, parts)):
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
                self._steps[frame.job], self._parts[frame.job] = step, parts
            if self.keep:
                own = self.coordination[index]
                own.sent.append(step)
                own.requests[frame.job] = tuple(part.sequence.id for part in parts)
            self._fleet.lines[index].outlet.send(frame)
            decided_s = step.computed_s
        return decided_s

    def go_on(self, sent: Sequence[tuple[int, Job[Running]]]) -> bool:
        """Does what need not be done before jobs are sent; whether that was to send more of them.

        The draft reads prompts while pipelines compute them; then comes one more frame of every
        job that may have more.
        """
        settings, followed = self._fleet.settings, False
        for index, job in sent:
            if job.phase == "prefill" and settings.draft_tokens:
                self._read(index, job)
        for index, job, has_room in self._traffic.follow_ups(settings.checks_in_flight):
            if has_room:
                followed |= self.send(index, job, time.monotonic(), follows=True) is not None
            else:
                self._think_ahead(index, job)
        return followed

    def _think_ahead(self, index: int, job: Job[Running]) -> None:
        """Has the draft make guesses for which there is no place in flight yet."""
        alive = [sequence for sequence in job.sequences if not sequence.ended]
        self._guess(index, [self._wish(one, self._most(one)) for one in alive], follows=True)

    def _read(self, index: int, job: Job[Running]) -> None:
        for sequence in job.sequences:
            wish = self._wish(sequence, 0)
            began_s = time.monotonic()
            if self._guesser.read(index, wish) and self.keep:
                times_s = (0.0, began_s, time.monotonic())
                step = Step(0, "prefill", 1, len(wish.ids), 0, *times_s)
                self.coordination[index].drafted.append(step)

    def receive(self, index: int) -> Returned:
        """The job whose tokens have come; raises PeerLostError."""
        end = self._fleet.lines[index].tokens
        assert end is not None
        frame = read_frame(end, _TOKEN_LIMIT_BYTES)
        now_s = time.monotonic()
        job, sent = self._traffic.back(frame.job), self._steps.pop(frame.job, None)
        parts = self._parts.pop(frame.job, [])
        if job is None or sent is None or frame.rows != sum(part.picks for part in parts):
            raise RunError("a worker answered a job that nobody sent")
        if self.keep:
            back = sent._replace(waited_s=now_s - sent.computed_s, received_s=now_s)
            self.coordination[index].returned.append(back._replace(computed_s=now_s))
        picked = struct.unpack(f"<{frame.rows}i", frame.payload)
        return Returned(job, list(self._kept(index, job, parts, picked)), now_s)

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

    def _compose(
        self, index: int, job: Job[Running], follows: bool = False
    ) -> tuple[list[_Part], float]:
        """What to send of each sequence, and how long the draft took (s).

        A sequence with nothing under way sends what no stage holds, and guesses of what follows;
        one that waits for an answer sends guesses beyond those under way, if there are any.
        """
        alive = [sequence for sequence in job.sequences if not sequence.ended]
        wishes = [self._wish(sequence, self._most(sequence)) for sequence in alive]
        drafts = job.phase == "decode" and any(wish.most > 0 for wish in wishes)
        guessed, drafting_s = [list[int]() for _ in alive], 0.0
        if drafts:
            guessed, drafting_s = self._guess(index, wishes, follows)
            if follows and self._answered(index):
                return [], drafting_s
        parts = []
        for sequence, wish, guesses in zip(alive, wishes, guessed, strict=True):
            if sequence.under_way and not guesses:
                continue
            position = sequence.sent
            ids = [*wish.ids[position:], *guesses]
            sequence.ahead += guesses
            sequence.under_way += 1
            picks = len(ids) if job.phase == "decode" else 1
            short = drafts and len(guesses) < wish.most
            parts.append(_Part(sequence, sequence.turn, position, ids, picks, short))
            tally = self.coordination[index].tally
            tally.checks += job.phase == "decode"
            tally.drafted += len(guesses)
        return parts, drafting_s

    def _guess(
        self, index: int, wishes: Sequence[Wish], follows: bool
    ) -> tuple[list[list[int]], float]:
        """Guesses, and how long they took (s); an answer is waited for no longer than a token."""
        began_s = time.monotonic()
        asked = [wish for wish in wishes if wish.most > 0]
        steps = self._guesser.steps
        guessed = self._guesser.guess(
            index, wishes, (lambda: self._answered(index)) if follows else (lambda: False)
        )
        context, made = sum(len(wish.ids) for wish in asked), self._guesser.steps - steps
        step = Step(0, "decode", len(asked), made, context, 0.0, began_s, time.monotonic())
        if made and self.keep:
            self.coordination[index].drafted.append(step)
        return guessed, step.compute_s

    def _answered(self, index: int) -> bool:
        """Whether an answer has come that nobody has read yet."""
        end = self._fleet.lines[index].tokens
        return end is not None and bool(ready([end]))

    def _most(self, sequence: Running) -> int:
        """Guesses to send along: no more than could be kept."""
        left = self.prompt(sequence.id).max_new_tokens - len(sequence.output_ids) - 1
        return max(0, min(self._fleet.settings.draft_tokens, left - len(sequence.ahead)))

    def _wish(self, sequence: Running, most: int) -> Wish:
        return Wish(sequence.ids, most, self._seat(sequence, 0, 1))

    def _seat(self, sequence: Running, position: int, tokens: int) -> Seat:
        prompt = self.prompt(sequence.id)
        picking = (prompt.temperature, prompt.top_p, prompt.seed)
        return Seat(sequence.slot, position, *picking, tokens, sequence.id)

    def _frame(self, job: Job[Running], parts: Sequence[_Part]) -> Frame:
        self._fleet.jobs_sent += 1
        seats = tuple(self._seat(part.sequence, part.position, len(part.ids)) for part in parts)
        ids = [token for part in parts for token in part.ids]
        kind = Kind.PREFILL if job.phase == "prefill" else Kind.DECODE
        payload = struct.pack(f"<{len(ids)}i", *ids)
        return Frame(kind, self._fleet.jobs_sent, seats, "int32", len(ids), 1, payload)

    def _kept(
        self, index: int, job: Job[Running], parts: Sequence[_Part], picked: Sequence[int]
    ) -> Iterator[tuple[Running, tuple[int, ...]]]:
        """What each sequence gets: the model's own picks, up to the first that nobody foresaw."""
        tally, row = self.coordination[index].tally, 0
        for part in parts:
            sequence, mine = part.sequence, picked[row : row + part.picks]
            row += part.picks
            if sequence.ended or sequence.turn != part.turn:
                tally.void += 1
                continue
            sequence.under_way -= 1
            kept: list[int] = []
            for token in mine:
                kept.append(token)
                foreseen = sequence.confirm(token)
                tally.accepted += foreseen is True
                tally.refused += foreseen is False
                if foreseen is False:
                    break
            else:
                tally.refused += part.short and not sequence.ahead
            yield sequence, tuple(kept)
