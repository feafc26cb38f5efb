"""Session: replays requests through running pipelines and notes when every token arrives.

One thread does everything: it sends what the schedules allow, then waits for the next arrival,
token frame or sign of trouble, whichever comes first.
"""

from __future__ import annotations

import gc
import selectors
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from planner.core.errors import RunError
from planner.core.metrics import RequestRecord
from planner.core.plan import Plan
from planner.core.schedule import Job, PipelineSchedule, route
from planner.run.fleet import Fleet
from planner.run.frames import Frame, Kind, PeerLostError, Seat, read_frame
from planner.run.steps import Step

if TYPE_CHECKING:
    from tokenizers import Tokenizer

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


class Session:
    """One replay of prompts; afterwards ``records``, ``prompts`` and ``outputs`` tell all."""

    def __init__(
        self,
        fleet: Fleet,
        plan: Plan,
        tokenizer: Tokenizer,
        on_token: Callable[[int, int], None] | None = None,
        stall_s: float = 120.0,
    ) -> None:
        self._fleet, self._plan, self._tokenizer = fleet, plan, tokenizer
        self._on_token, self._stall_s = on_token, stall_s
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
        self._jobs: dict[int, tuple[Job[Running], Step]] = {}
        self._told: list[tuple[int, int]] = []

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
        with selectors.SelectSelector() as selector:  # the only one that waits for microseconds
            for index, line in enumerate(self._fleet.lines):
                selector.register(line.tokens, selectors.EVENT_READ, index)
            for worker in self._fleet.workers:
                selector.register(worker.control, selectors.EVENT_READ, worker)
            for _ in range(concurrency or 0):
                self._next_of_user(0.0)
            self._send(self.start_s)
            while self._coming or not all(schedule.idle for schedule in self._schedules):
                self._turn(selector)

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
            if isinstance(key.data, int):
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
            return False
        sequence = Running(prompt.id, ids)
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
                self.coordination[index].sent.append(sent)
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
        returned = sent._replace(waited_s=now_s - sent.computed_s, received_s=now_s)
        self.coordination[pipeline].returned.append(returned._replace(computed_s=now_s))
        schedule = self._schedules[pipeline]
        schedule.back(job)
        tokens = struct.unpack(f"<{frame.rows}i", frame.payload)
        for sequence, token in zip(job.sequences, tokens, strict=True):
            prompt, record = self._prompts[sequence.id], self.records[sequence.id]
            sequence.output_ids.append(token)
            record.token_s.append(now_s - self.start_s)
            self._told.append((sequence.id, token))
            if record.output_tokens == prompt.max_new_tokens or token in prompt.stop_ids:
                record.status = "completed"
                schedule.leave(sequence)
                if self._closed:
                    self._next_of_user(now_s - self.start_s)
