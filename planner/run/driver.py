"""Session: takes requests through running pipelines and notes when every token arrives.

One thread does everything: it sends what the schedules allow, then waits for the next arrival,
token frame or sign of trouble. Requests are known beforehand (``run``) or come from other threads
while it serves. Where a node is lost its pipeline stands still until the failover has mended it.
"""

from __future__ import annotations

import contextlib
import gc
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from planner.core.errors import PlannerError, RunError
from planner.core.metrics import RequestRecord
from planner.core.schedule import Job
from planner.run.audience import Audience
from planner.run.crew import Worker
from planner.run.desk import Desk
from planner.run.drafts import Guesser
from planner.run.failover import Failover
from planner.run.fleet import Fleet
from planner.run.frames import PeerLostError
from planner.run.losses import Care, Event, Fault, Stranded, Whole
from planner.run.mailbox import Mailbox
from planner.run.prompts import Prompt, Running
from planner.run.ready import ready
from planner.run.traffic import Traffic

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CANCELLED = "cancelled"
"""Why a request failed that its client gave up."""


class Session:
    """Requests on their way through pipelines, as a replay or as a service.

    After a replay ``records``, ``prompts`` and ``outputs`` tell all; a service forgets a request
    once ``on_end`` has heard of it.
    """

    def __init__(
        self,
        fleet: Fleet,
        tokenizer: Tokenizer,
        on_token: Callable[[int, int], None] | None = None,
        stall_s: float = 120.0,
        on_end: Callable[[RequestRecord], None] | None = None,
        care: Care | None = None,
        guesser: Guesser | None = None,
    ) -> None:
        """Without ``care`` a lost node ends the run; without a ``guesser`` drafts are looked up."""
        self._fleet, self._tokenizer = fleet, tokenizer
        self._audience, self._stall_s = Audience(on_token, on_end), stall_s
        self.records: dict[int, RequestRecord] = {}
        self.prompts: dict[int, list[int]] = {}
        self.outputs: dict[int, list[int]] = {}
        self.start_s = self._answered_s = self._beat_s = time.monotonic()
        self.traffic = Traffic(fleet.plan)
        self._coming: deque[Prompt] = deque()
        self._closed = False
        self._prompts: dict[int, Prompt] = {}
        self._sequences: dict[int, Running] = {}
        self.desk = Desk(fleet, self.traffic, self._prompts.__getitem__, guesser)
        self._goes_on = False
        """Whether more may follow of jobs under way."""
        self._serving = False
        self._mailbox: Mailbox[Prompt | int | Event | None] = Mailbox()
        self.failover = Failover(fleet, care, self._mailbox.put) if care else None

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
        self._serving, self.desk.keep = True, False
        with self._going() as bell:
            while self._serving:
                self._turn(bell)

    def run(self, prompts: Sequence[Prompt], concurrency: int | None = None) -> None:
        """Sends every prompt and returns when all are answered.

        ``concurrency`` users send one prompt after the other; without it every prompt comes at
        its own time. Raises RunError when a worker is lost and nothing is done about that, or
        when nobody answers for ``stall_s``.
        """
        self._coming.extend(prompts)
        self._closed = concurrency is not None
        gc.freeze()  # or a collection that walks every module would delay some token
        try:
            with self._going() as bell:
                for _ in range(concurrency or 0):
                    self._next_of_user(0.0)
                self._send(self.start_s)
                while self._coming or not self.traffic.idle:
                    self._turn(bell)
        finally:
            gc.unfreeze()

    @contextlib.contextmanager
    def _going(self) -> Iterator[socket.socket]:
        """Starts the clock and watches over the workers; gives the bell of the mailbox."""
        self.start_s = self._answered_s = self._beat_s = time.monotonic()
        try:
            with contextlib.ExitStack() as stack:
                bell = stack.enter_context(self._mailbox.bell())
                if self.failover:
                    stack.enter_context(self.failover)
                    self.failover.begin(self.start_s)
                yield bell
        except PeerLostError as error:
            raise self._fleet.explain(error) from None

    def _sources(self, bell: socket.socket) -> dict[socket.socket, int | Worker | None]:
        """Everything that can happen: the bell rings, pipelines answer, workers speak or break."""
        found: dict[socket.socket, int | Worker | None] = {bell: None}
        lines = [(index, self._fleet.lines[index]) for index in self.traffic.whole]
        watched = self.failover.watched if self.failover else self._fleet.workers
        found |= {line.tokens: index for index, line in lines if line.tokens}
        found |= {worker.control: worker for worker in watched}
        return found | {line.jobs: index for index, line in lines if line.jobs}

    def _turn(self, bell: socket.socket) -> None:
        """Waits for what happens next and acts on it; what comes out is told last."""
        sources = self._sources(bell)
        happened = ready(sources, self._wait_s)
        now_s = time.monotonic()
        if self.traffic.busy and now_s - self._answered_s >= self._stall_s:
            raise RunError(f"no token came for {self._stall_s:g} s: a stage hangs")
        for source in happened:
            who = sources[source]
            if who is None:
                self._read_mail(bell, now_s)
            elif isinstance(who, Worker):
                self._listen(who)
            elif not self.traffic.stands(who):
                self._receive(who, source)
        while self._coming and not self._closed and self._next_s <= now_s:
            prompt = self._coming.popleft()
            self._arrive(prompt, prompt.arrival_s)
        self._send(now_s)
        self._watch(now_s)
        self._audience.hear()

    @property
    def _wait_s(self) -> float:
        """How long nothing needs to be done unless something happens."""
        if self._goes_on:
            return 0.0
        now_s = time.monotonic()
        until_s = now_s + self._stall_s
        if self.traffic.busy:
            until_s = self._answered_s + self._stall_s
        if self._coming and not self._closed:
            until_s = min(until_s, self._next_s)
        if self.failover:
            until_s = min(until_s, self._beat_s)
        return max(0.0, until_s - now_s)

    def _read_mail(self, bell: socket.socket, now_s: float) -> None:
        """Does what other threads ask for."""
        for call in self._mailbox.take(bell):
            if call is None:
                self._serving = False
            elif isinstance(call, Prompt):
                self._arrive(call, now_s - self.start_s)
            elif isinstance(call, int):
                if call in self.records:
                    self._cancel(call)
            else:
                self._hear(call, now_s)

    def _cancel(self, request: int) -> None:
        """Takes a request out of the line at once, or out of its seat when its job is back."""
        record = self.records[request]
        record.status, record.reason = "failed", CANCELLED
        if self.traffic.withdraw(self._sequences[request]):
            self._end(record)

    def _end(self, record: RequestRecord) -> None:
        """Notes that a request is answered or will not be; a service then forgets it."""
        self._audience.ended.append(record)
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
        """Routes a prompt to a pipeline; False if it has no room there."""
        said = prompt.content
        ids = self._tokenizer.encode(said).ids if isinstance(said, str) else said
        chosen = self.traffic.route()
        record = RequestRecord(prompt.id, chosen, len(ids), arrival_s)
        self.records[prompt.id], self._prompts[prompt.id] = record, prompt
        room_tokens = self._fleet.slot_tokens
        if not ids or len(ids) + prompt.max_new_tokens > room_tokens:
            self.traffic.forget(chosen)
            record.status = "failed"
            record.reason = (
                f"{len(ids)} prompt and {prompt.max_new_tokens} output tokens do not fit "
                f"a seat of {room_tokens}"
            )
            self._end(record)
            return False
        sequence = self._sequences[prompt.id] = Running(prompt.id, ids, chosen)
        self.prompts[prompt.id], self.outputs[prompt.id] = ids, sequence.output_ids
        self.traffic.add(sequence)
        return True

    def _send(self, decided_s: float) -> None:
        """Sends every job that can start now, and one more frame of those that may have more."""
        jobs = self.traffic.next_jobs()
        for index, job in jobs:
            decided_s = self._dispatch(index, job, decided_s)
        self._goes_on = self.desk.go_on(jobs)

    def _dispatch(self, index: int, job: Job[Running], decided_s: float) -> float:
        """Sends a job; when that was done."""
        if not self.traffic.busy:
            self._answered_s = decided_s
        return self.desk.send(index, job, decided_s) or decided_s

    def _receive(self, index: int, end: socket.socket) -> None:
        """Takes the tokens of one job; nothing comes from where jobs go in, unless it broke."""
        if end is not self._fleet.lines[index].tokens:
            self._interrupt(index)
            return
        try:
            answer = self.desk.receive(index)
        except PeerLostError:
            self._interrupt(index)
            return
        self._answered_s = answer.at_s
        for sequence, tokens in answer.tokens:
            for token in tokens:
                if not self._take(sequence, token, answer.at_s):
                    break

    def _take(self, sequence: Running, token: int, now_s: float) -> bool:
        """Gives a sequence its next token; False after the last, which frees its seat."""
        prompt, record = self._prompts[sequence.id], self.records[sequence.id]
        if record.status == "failed":
            self.traffic.leave(sequence)
            self._end(record)
            return False
        sequence.cached = sequence.tokens
        sequence.output_ids.append(token)
        record.token_s.append(now_s - self.start_s)
        self._audience.tokens.append((sequence.id, token))
        if record.output_tokens < prompt.max_new_tokens and token not in prompt.stop_ids:
            return True
        record.status = "completed"
        self.traffic.leave(sequence, completed=True)
        self._end(record)
        if self._closed:
            self._next_of_user(now_s - self.start_s)
        return False

    def _watch(self, now_s: float) -> None:
        """Asks for signs of life, and fails whoever has waited too long for a lost node."""
        if self.failover is None or now_s < self._beat_s:
            return
        self._beat_s = now_s + self.failover.period_s
        self._lose(*self.failover.silent(now_s))
        for index, reason in self.failover.hopeless(now_s):
            self._fail(index, reason)

    def _listen(self, worker: Worker) -> None:
        """What a worker says, unasked or to a call for a sign of life."""
        if self.failover is None:
            worker.listen()
            return
        try:
            index = self.failover.listen(worker)
        except PlannerError:
            self._lose(worker)
            return
        if index is not None:
            self._interrupt(index)

    def _lose(self, *workers: Worker) -> None:
        """Gives up workers; what they held is looked after once all are known."""
        assert self.failover is not None
        lost = [self.failover.lose(worker, time.monotonic()) for worker in workers]
        for index in sorted({one for one in lost if one is not None}):
            self._interrupt(index)

    def _interrupt(self, index: int) -> None:
        """Has a pipeline stand still until the failover has mended it."""
        if self.failover is None:
            raise PeerLostError("a connection broke")
        self.traffic.interrupt(index)
        self.failover.recover(index, self.traffic.cached(index))

    def _hear(self, event: Event, now_s: float) -> None:
        """Goes on where a pipeline is whole again; has its sequences wait or move where not."""
        assert self.failover is not None
        self._answered_s = now_s
        if isinstance(event, Fault):
            raise event.error
        again = self.failover.settle(event)
        if isinstance(event, Stranded) and not again:
            self._move(event.pipeline)
        elif isinstance(event, Whole) and not again:
            for job in self.traffic.resume(event.pipeline):
                self._dispatch(event.pipeline, job, now_s)
        for index in again:
            self._interrupt(index)

    def _move(self, index: int) -> None:
        """Has the sequences of a pipeline begin anew in whole ones, if there are any."""
        if not self.traffic.whole:
            return
        for sequence in self.traffic.evict(index):
            sequence.pipeline = self.records[sequence.id].pipeline = self.traffic.route()
            self.traffic.add(sequence)

    def _fail(self, index: int, reason: str) -> None:
        """Gives up the sequences of a pipeline."""
        for sequence in self.traffic.evict(index):
            record = self.records[sequence.id]
            record.status, record.reason = "failed", reason
            self._end(record)
            if self._closed:
                self._next_of_user(time.monotonic() - self.start_s)
