"""A session that serves: requests come from other threads and may be given up."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from planner.core.errors import RunError
from planner.core.metrics import RequestRecord
from planner.run import service as service_module
from planner.run.checkpoint import open_checkpoint
from planner.run.driver import CANCELLED, Session
from planner.run.fleet import Fleet
from planner.run.prompts import Prompt
from planner.run.seeded import make_checkpoint
from planner.run.service import Asked, OnEnd, OnToken, UnavailableError
from planner.run.service import Service as Served
from planner.run.settings import Settings
from tests.run.world import chain, greedy, pipeline, plan, problem, spec

pytestmark = pytest.mark.slow


@dataclass
class Service:
    """A session on its own thread and what it tells."""

    folder: Path
    session: Session
    told: dict[int, list[int]] = field(default_factory=dict)
    ended: queue.Queue[RequestRecord] = field(default_factory=queue.Queue)
    first: threading.Event = field(default_factory=threading.Event)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = make_checkpoint(tmp_path_factory.mktemp("run") / "model", spec(), dtype="fp32")
    world = problem(2, spec())
    chosen = plan(pipeline(["w0", "w1"], 4, max_num_seqs=2))
    settings = Settings(checkpoint=folder, slot_tokens=256, threads=1)

    def hear(request: int, token: int) -> None:
        made.told.setdefault(request, []).append(token)
        made.first.set()

    with Fleet(world.cluster, chosen, settings) as fleet:
        tokenizer = open_checkpoint(folder).tokenizer()
        session = Session(fleet, tokenizer, hear, on_end=lambda record: made.ended.put(record))
        made = Service(folder, session)
        serving = threading.Thread(target=session.serve)
        serving.start()
        yield made
        session.stop()
        serving.join(10)
        assert not serving.is_alive()


def test_requests_of_other_threads_are_answered_and_forgotten(service: Service) -> None:
    for key in range(5):
        service.session.submit(Prompt(key, 0.0, [key + 1, 7, 9], 6))
    records = {record.id: record for record in (service.ended.get(timeout=20) for _ in range(5))}
    stages = chain(open_checkpoint(service.folder), [])
    for key in range(5):
        assert records[key].status == "completed"
        assert service.told[key] == greedy(stages, [key + 1, 7, 9], 6)
    assert service.session.records == service.session.outputs == {}


def test_a_request_that_is_given_up_frees_its_seat(service: Service) -> None:
    service.first.clear()
    for key in (10, 11, 12):
        service.session.submit(Prompt(key, 0.0, [key, 3], 250))
    assert service.first.wait(20)
    for key in (12, 10, 11, 99):
        service.session.cancel(key)
    records = [service.ended.get(timeout=20) for _ in range(3)]
    assert records[0].id == 12
    assert {record.reason for record in records} == {CANCELLED}
    assert all(record.output_tokens < 250 for record in records)
    service.session.submit(Prompt(13, 0.0, [1, 2], 3))
    assert service.ended.get(timeout=20).status == "completed"


def test_a_request_without_room_ends_with_the_reason(service: Service) -> None:
    service.session.submit(Prompt(20, 0.0, [1] * 10, 250))
    record = service.ended.get(timeout=20)
    assert record.status == "failed"
    assert "do not fit" in record.reason


def test_a_service_whose_session_failed_answers_again_once_another_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_PAUSE_S", 0.05)
    folder = make_checkpoint(tmp_path / "model", spec(), dtype="fp32")
    world, chosen = problem(2, spec()), plan(pipeline(["w0", "w1"], 4, max_num_seqs=1))
    settings = Settings(checkpoint=folder, slot_tokens=64, threads=1)
    tokenizer = open_checkpoint(folder).tokenizer()
    fleets: list[Fleet | None] = []
    with contextlib.ExitStack() as running:

        def make(on_token: OnToken, on_end: OnEnd) -> Session:
            running.close()
            fleets.append(None)
            if len(fleets) == 2:
                raise RunError("node w0 is away")
            fleets[-1] = fleet = running.enter_context(Fleet(world.cluster, chosen, settings))
            return Session(fleet, tokenizer, on_token, on_end=on_end)

        served = Served(make, seats=1, slot_tokens=64, most_waiting=1, again=make)

        async def answer() -> list[int]:
            asked = Asked([3, 7, 9], 6, temperature=0.0)
            return [token async for token in served.ask(asked).tokens()]

        async def lose_a_worker() -> tuple[list[int], list[int]]:
            served.start(asyncio.get_running_loop())
            before = await answer()
            assert fleets[0] is not None
            fleets[0].workers[0].process.kill()
            while served.failure is None:
                await asyncio.sleep(0.01)
            with pytest.raises(UnavailableError):
                served.ask(Asked([3, 7, 9], 6))
            while served.failure is not None:
                await asyncio.sleep(0.01)
            after = await answer()
            await asyncio.to_thread(served.stop)
            return before, after

        before, after = asyncio.run(asyncio.wait_for(lose_a_worker(), 60))
    assert len(fleets) == 3
    assert before == after == greedy(chain(open_checkpoint(folder), []), [3, 7, 9], 6)
