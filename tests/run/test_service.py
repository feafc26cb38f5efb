"""A session that serves: requests come from other threads and may be given up."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from planner.core.metrics import RequestRecord
from planner.run.checkpoint import open_checkpoint
from planner.run.driver import CANCELLED, Session
from planner.run.fleet import Fleet
from planner.run.prompts import Prompt
from planner.run.seeded import make_checkpoint
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
