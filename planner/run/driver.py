"""Session: takes requests through running pipelines and notes when every token arrives.

One thread does everything: it sends what the schedules allow, then waits for the next arrival,
token frame or sign of trouble, whichever comes first. Requests are known beforehand (``run``) or
come from other threads while the session serves (``submit``, ``cancel``).
"""

from __future__ import annotations

import gc
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from planner.core.errors import RunError
from planner.core.metrics import RequestRecord
from planner.core.plan import Plan
from planner.core.schedule import Job, PipelineSchedule, route
from planner.run.fleet import Fleet
from planner.run.frames import Frame, Kind, PeerLostError, Seat, read_frame
from planner.run.mailbox import Mailbox
from planner.run.steps import Step

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CANCELLED = "cancelled"
"""Why a request failed that its client gave up."""

_TOKEN_LIMIT_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request with its content."""

    id: int
    arrival_s: float
    content: str | list[int]
    """Text to be tokenised on arrival, or token ids."""
    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop_ids: frozenset[int] = frozenset()
    """Tokens that end the answer early."""


@dataclass(slots=True, eq=False)
class Running:
    """A prompt on its way through a pipeline."""

    id: int
    prompt_ids: list[int]
    output_ids: list[int] = field(default_factory=list)
    slot: int = -1
    group: int = -1


@dataclass(slots=True)
class Coordination:
    """What the coordinator did for each job of a pipeline."""

    sent: list[Step] = field(default_factory=list)
    """``compute_s`` is the coordinator's own time for the job."""
    returned: list[Step] = field(default_factory=list)
    requests: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Ids of the requests that each job serves."""


class Session:
    """Requests on their way through pipelines, as a replay or as a service.

    After a replay ``records``, ``prompts`` and ``outputs`` tell all; a service forgets a request
    once ``on_end`` has heard of it.
    """

    def __init__(
        self,
        fleet: Fleet,
        plan: Plan,
        tokenizer: Tokenizer,
        on_token: Callable[[int, int], None] | None = None,
        stall_s: float = 120.0,
        on_end: Callable[[RequestRecord], None] | None = None,
    ) -> None:
        self._fleet, self._plan, self._tokenizer = fleet, plan, tokenizer
        self._on_token, self._on_end, self._stall_s = on_token, on_end, stall_s
        self.records: dict[int, RequestRecord] = {}
        self.prompts: dict[int, list[int]] = {}
        self.outputs: dict[int, list[int]] = {}
        self.coordination = [Coordination() for _ in plan.pipelines]
        self.start_s = time.monotonic()
        self._schedules = [
            PipelineSchedule[Running](pipeline.max_num_seqs, pipeline.micro_batches)
            for pipeline in plan.pipelines
        ]
        self._assigned = [0] * len(plan.pipelines)
        self._coming: deque[Prompt] = deque()
        self._closed = False
        self._prompts: dict[int, Prompt] = {}
        self._sequences: dict[int, Running] = {}
        self._jobs: dict[int, tuple[Job[Running], Step]] = {}
        self._told: list[tuple[int, int]] = []
        self._ended: list[RequestRecord] = []
        self._serving = False
        self._mailbox: Mailbox[Prompt | int | None] = Mailbox()

    def submit(self, prompt: Prompt) -> None:
        """Hands a prompt to a session that serves; any thread may. It arrives when it is taken."""
        self._mailbox.put(prompt)

    def cancel(self, request: int) -> None:
        """Ends a request that nobody waits for any more: its seat is freed; any thread may."""
        self._mailbox.put(request)

    def stop(self) -> None:
        """Ends ``serve``, whatever is under way; any thread may."""
        self._mailbox.put(None)

    def serve(self) -> None:
        """Answers what ``submit`` brings until ``stop``. Raises as ``run`` does."""
        self._serving = True
        self.start_s = time.monotonic()
        try:
            with self._selector() as selector, self._mailbox.bell() as bell:
                selector.register(bell, selectors.EVENT_READ, None)
                while self._serving:
                    self._turn(selector)
        except PeerLostError as error:
            raise self._fleet.explain(error) from None

    def run(self, prompts: Sequence[Prompt], concurrency: int | None = None) -> None:
        """Sends every prompt and returns when all are answered.

        ``concurrency`` users send one prompt after the other; without it every prompt comes at
        its own time. Raises RunError when a worker is lost or none answers for ``stall_s``.
        """
        self._coming.extend(prompts)
        self.start_s = time.monotonic()
        gc.freeze()  # or a collection that walks every module would delay some token
        try:
            self._replay(concurrency)
        except PeerLostError as error:
            raise self._fleet.explain(error) from None
        finally:
            gc.unfreeze()

    def _replay(self, concurrency: int | None) -> None:
        self._closed = concurrency is not None
        with self._selector() as selector:
            for _ in range(concurrency or 0):
                self._next_of_user(0.0)
            self._send(self.start_s)
            while self._coming or not all(schedule.idle for schedule in self._schedules):
                self._turn(selector)

    def _selector(self) -> selectors.SelectSelector:
        """Everything that can happen to this session."""
        selector = selectors.SelectSelector()  # the only one that waits for microseconds
        for index, line in enumerate(self._fleet.lines):
            selector.register(line.tokens, selectors.EVENT_READ, index)
        for worker in self._fleet.workers:
            selector.register(worker.control, selectors.EVENT_READ, worker)
        return selector

    def _turn(self, selector: selectors.SelectSelector) -> None:
        """Waits for what happens next and acts on it; what comes out is told last."""
        wait_s = self._stall_s
        if self._coming and not self._closed:
            wait_s = min(wait_s, max(0.0, self._next_s - time.monotonic()))
        happened = selector.select(wait_s)
        now_s = time.monotonic()
        if not happened and self._jobs and wait_s == self._stall_s:
            raise RunError(f"no token came for {self._stall_s:g} s: a stage hangs")
        for key, _ in happened:
            if key.data is None:
                self._read_mail(cast(socket.socket, key.fileobj), now_s)
            elif isinstance(key.data, int):
                self._receive(key.data)
            else:
                self._fleet.raise_failure(key.data)
        while self._coming and not self._closed and self._next_s <= now_s:
            prompt = self._coming.popleft()
            self._arrive(prompt, prompt.arrival_s)
        self._send(now_s)
        if self._on_token:
            for request, token in self._told:
                self._on_token(request, token)
        self._told.clear()
        if self._on_end:
            for record in self._ended:
                self._on_end(record)
        self._ended.clear()

    def _read_mail(self, bell: socket.socket, now_s: float) -> None:
        """Does what other threads ask for."""
        for call in self._mailbox.take(bell):
            if call is None:
                self._serving = False
            elif isinstance(call, Prompt):
                self._arrive(call, now_s - self.start_s)
            elif call in self.records:
                self._cancel(call)

    def _cancel(self, request: int) -> None:
        """Takes a request out of the line at once, or out of its seat when its job is back."""
        record = self.records[request]
        record.status, record.reason = "failed", CANCELLED
        if self._schedules[record.pipeline].withdraw(self._sequences[request]):
            self._end(record)

    def _end(self, record: RequestRecord) -> None:
        """Notes that a request is answered or will not be; a service then forgets it."""
        self._ended.append(record)
        if self._serving:
            for kept in (self.records, self.prompts, self.outputs, self._prompts, self._sequences):
                kept.pop(record.id, None)

    @property
    def _next_s(self) -> float:
        """When the next prompt of an open loop arrives."""
        return self.start_s + self._coming[0].arrival_s

    def _next_of_user(self, arrival_s: float) -> None:
        """Lets the next prompt of a closed loop arrive; one that fails at once makes way."""
        while self._coming and not self._arrive(self._coming.popleft(), arrival_s):
            pass

    def _arrive(self, prompt: Prompt, arrival_s: float) -> bool:
        """Routes a prompt to the pipeline furthest behind its share; False if it has no room."""
        ids = prompt.content
        if isinstance(ids, str):
            ids = self._tokenizer.encode(ids).ids
        chosen = route(self._plan, self._assigned)
        self._assigned[chosen] += 1
        record = RequestRecord(prompt.id, chosen, len(ids), arrival_s)
        self.records[prompt.id], self._prompts[prompt.id] = record, prompt
        room_tokens = self._fleet.slot_tokens
        if not ids or len(ids) + prompt.max_new_tokens > room_tokens:
            record.status = "failed"
            record.reason = (
                f"{len(ids)} prompt and {prompt.max_new_tokens} output tokens do not fit "
                f"a seat of {room_tokens}"
            )
            self._end(record)
            return False
        sequence = self._sequences[prompt.id] = Running(prompt.id, ids)
        self.prompts[prompt.id], self.outputs[prompt.id] = ids, sequence.output_ids
        self._schedules[chosen].add(sequence)
        return True

    def _send(self, decided_s: float) -> None:
        """Sends every job that can start now."""
        for index, schedule in enumerate(self._schedules):
            for job in schedule.next_jobs():
                frame = self._frame(job)
                context_tokens = sum(seat.position for seat in frame.seats)
                sent = Step(
                    frame.job,
                    job.phase,
                    len(frame.seats),
                    frame.rows,
                    context_tokens,
                    waited_s=0.0,
                    received_s=decided_s,
                    computed_s=time.monotonic(),
                )
                self._jobs[frame.job] = (job, sent)
                if not self._serving:
                    self.coordination[index].sent.append(sent)
                    served = tuple(sequence.id for sequence in job.sequences)
                    self.coordination[index].requests[frame.job] = served
                self._fleet.lines[index].channel.send(frame)
                decided_s = sent.computed_s

    def _frame(self, job: Job[Running]) -> Frame:
        self._fleet.jobs_sent += 1
        seats = []
        for sequence in job.sequences:
            prompt = self._prompts[sequence.id]
            cached = 0
            if job.phase == "decode":
                cached = len(sequence.prompt_ids) + len(sequence.output_ids) - 1
            picking = (prompt.temperature, prompt.top_p, prompt.seed)
            seats.append(Seat(sequence.slot, cached, *picking))
        if job.phase == "prefill":
            kind, ids = Kind.PREFILL, job.sequences[0].prompt_ids
        else:
            kind, ids = Kind.DECODE, [sequence.output_ids[-1] for sequence in job.sequences]
        payload = struct.pack(f"<{len(ids)}i", *ids)
        return Frame(kind, self._fleet.jobs_sent, tuple(seats), "int32", len(ids), 1, payload)

    def _receive(self, pipeline: int) -> None:
        """Takes the tokens of one job; a finished sequence makes room for the next."""
        frame = read_frame(self._fleet.lines[pipeline].tokens, _TOKEN_LIMIT_BYTES)
        now_s = time.monotonic()
        job, sent = self._jobs.pop(frame.job, (None, None))
        if job is None or sent is None or frame.rows != len(job.sequences):
            raise RunError("a worker answered a job that nobody sent")
        if not self._serving:
            returned = sent._replace(waited_s=now_s - sent.computed_s, received_s=now_s)
            self.coordination[pipeline].returned.append(returned._replace(computed_s=now_s))
        schedule = self._schedules[pipeline]
        schedule.back(job)
        tokens = struct.unpack(f"<{frame.rows}i", frame.payload)
        for sequence, token in zip(job.sequences, tokens, strict=True):
            prompt, record = self._prompts[sequence.id], self.records[sequence.id]
            if record.status == "failed":
                schedule.leave(sequence)
                self._end(record)
                continue
            sequence.output_ids.append(token)
            record.token_s.append(now_s - self.start_s)
            self._told.append((sequence.id, token))
            if record.output_tokens == prompt.max_new_tokens or token in prompt.stop_ids:
                record.status = "completed"
                schedule.leave(sequence)
                self._end(record)
                if self._closed:
                    self._next_of_user(now_s - self.start_s)
