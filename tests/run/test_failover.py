"""Nodes are lost while real worker processes answer."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from planner.core.cluster import Cluster, Link
from planner.core.errors import RunError
from planner.core.plan import Plan, Standby
from planner.core.problem import Problem, Serving
from planner.core.workload import Closed, Fixed, Workload
from planner.run.blobs import recipes
from planner.run.checkpoint import open_checkpoint
from planner.run.crew import Worker
from planner.run.driver import Session
from planner.run.execute import execute
from planner.run.failover import Failover
from planner.run.fleet import Fleet
from planner.run.frames import control, encode, send_all
from planner.run.history import Cached
from planner.run.losses import Back, Care, Event, Fault, Loss, Stranded, Whole
from planner.run.measurement import Measurement
from planner.run.places import Here, LocalProcess, Process
from planner.run.prompts import Prompt
from planner.run.ready import ready
from planner.run.seeded import make_checkpoint
from planner.run.settings import Settings
from planner.run.setup import Setup
from planner.run.takeover import Takeover
from planner.run.transport import Listener, connect
from planner.run.worker import StageWorker
from tests.run.world import chain, greedy, pipeline, problem, spec

pytestmark = pytest.mark.alone

MODEL = spec()
OUTPUT = 50


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("run") / "model", MODEL, dtype="fp32")


def world(nodes: int, quant: str = "fp32", **serving: Any) -> Problem:
    """Two users whose tokens take 20 ms each on their way to the first stage."""
    return problem(
        nodes,
        MODEL,
        [
            Link(src="home", dst="*", one_way_latency=0.02, bandwidth=1e12),
            Link(src="*", dst="*", one_way_latency=0.0, bandwidth=1e12),
        ],
        quant,
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=2),
            prompt=Fixed(tokens=9),
            output=Fixed(tokens=OUTPUT),
            requests=2,
        ),
        serving=Serving(**({"detect_s": 2.0, "patience_s": 60.0} | serving)),
    )


def plan(*standbys: Standby, quant: str = "fp32", pipelines: int = 1) -> Plan:
    """Two stages on w0 and w1, or a second pipeline on w2 and w3."""
    nodes = [("w0", "w1"), ("w2", "w3")][:pipelines]
    return Plan(pipelines=tuple(pipeline(n, 4, quant) for n in nodes), standbys=standbys)


def spare(node: str, stage: int, state: str = "hot") -> Standby:
    return Standby(node=node, pipeline=0, stage=stage, state=state)


def run(folder: Path, problem: Problem, plan: Plan, *losses: Loss, **how: Any) -> Measurement:
    setup = Setup(problem, plan, folder, threads=1, **how)
    return execute(setup, problem.workload.sample(0), losses=losses)


def check_whole(folder: Path, measured: Measurement) -> None:
    """Every request has all its tokens, each once, and the right ones."""
    assert [record.status for record in measured.records] == ["completed"] * 2
    stages = chain(open_checkpoint(folder), [])
    for key, prompt in measured.prompts.items():
        assert measured.outputs[key] == greedy(stages, prompt, OUTPUT)[:OUTPUT]
        assert len(measured.records[key].token_s) == OUTPUT


@pytest.mark.slow
def test_hot_standbys_take_over_from_the_first_and_the_last_stage(folder: Path) -> None:
    chosen = plan(spare("w2", 0), spare("w3", 1))
    measured = run(folder, world(4), chosen, Loss("w1", 0.5), Loss("w0", 0.9))
    check_whole(folder, measured)
    assert {one.node: one.replacement for one in measured.recoveries} == {"w1": "w3", "w0": "w2"}
    done = {run.stage.node: len(run.steps) for run in measured.stages}
    assert set(done) == {"w0", "w1", "w2", "w3"}
    assert all(done.values()), "those that were killed had told what they did"
    steps = sum(len(run.steps) for run in measured.stages if run.stage.start == 0)
    assert steps > 0.5 * OUTPUT
    for one in measured.recoveries:
        assert 0 <= one.found_s - one.lost_s < 1.0
        assert 0 < one.recovered_s - one.found_s < 2.0
        assert [step.sequences for step in one.replays] == [1, 1]
        assert all(9 <= step.new_tokens < 9 + OUTPUT for step in one.replays)
        assert one.found_s < one.replays[0].received_s < one.replays[1].computed_s
        assert one.replays[1].computed_s < one.recovered_s


@pytest.mark.slow
def test_a_hung_stage_is_noticed_by_its_silence(folder: Path) -> None:
    chosen = plan(spare("w2", 1))
    measured = run(folder, world(3), chosen, Loss("w1", 0.2, hangs=True))
    check_whole(folder, measured)
    (one,) = measured.recoveries
    assert 1.8 < one.found_s - one.lost_s < 2.4


@pytest.mark.slow
def test_a_cold_standby_loads_and_both_stages_lost_at_once_recover(folder: Path) -> None:
    chosen = plan(spare("w2", 0, "cold"), spare("w3", 1))
    measured = run(folder, world(4), chosen, Loss("w0", 0.2), Loss("w1", 0.2))
    check_whole(folder, measured)
    assert {one.replacement for one in measured.recoveries} == {"w2", "w3"}


@pytest.mark.slow
def test_a_cold_standby_gets_the_weights_over_its_link_and_a_warm_one_has_them(
    folder: Path,
) -> None:
    """400 kB/s from the coordinator: half of the weights take a second."""
    recovered_s = {}
    for state in ("warm", "cold"):
        chosen = plan(spare("w2", 1, state))
        base = world(3)
        slow = Link(src="home", dst="w2", one_way_latency=0.0, bandwidth=RATE)
        links = {"links": (*base.cluster.links, slow)}
        asked = base.model_copy(update={"cluster": Cluster(**(dict(base.cluster) | links))})
        measured = run(folder, asked, chosen, Loss("w1", 0.2))
        check_whole(folder, measured)
        (one,) = measured.recoveries
        assert (one.replacement, one.hot) == ("w2", False)
        recovered_s[state] = one.recovered_s - one.found_s
    pieces = recipes(open_checkpoint(folder))
    sent = sum(pieces[name].size_bytes for name in ("layer-00002", "layer-00003", "end"))
    assert recovered_s["cold"] > sent / RATE
    assert recovered_s["cold"] < sent / RATE + recovered_s["warm"] + 1.0
    assert recovered_s["warm"] < 1.5


RATE = 400e3


@pytest.mark.slow
def test_a_node_that_comes_back_takes_its_stage_again(folder: Path) -> None:
    measured = run(folder, world(2), plan(), Loss("w1", 0.2, away_s=0.5))
    check_whole(folder, measured)
    (one,) = measured.recoveries
    assert (one.node, one.replacement) == ("w1", "w1")
    assert one.recovered_s - one.lost_s > 0.5


@pytest.mark.parametrize("gives_up_first", [True, False])
def test_who_returns_while_a_recovery_gives_up_is_not_missed(
    monkeypatch: pytest.MonkeyPatch, gives_up_first: bool
) -> None:
    """The recovery has seen that nobody is there; the return is told before or after it ends."""
    told: queue.Queue[Event] = queue.Queue()
    fresh: Any = SimpleNamespace(node="w1", post=None)
    fleet: Any = SimpleNamespace(
        holders={},
        plan=plan(),
        lines=[SimpleNamespace(epoch=1)],
        stages_of=lambda index: [],
        respawn=lambda node, given_up: fresh,
        load=lambda worker, post: None,
        enlist=lambda worker: None,
        connect=lambda index, limit_s: None,
    )

    def fill(self: Takeover, index: int) -> None:
        if told.empty():
            if not gives_up_first:
                failover._bring_back("w1")
            raise RunError("lost w1; nothing replaced it")

    monkeypatch.setattr(Takeover, "_fill", fill)
    with Failover(fleet, Care(world(2)), told.put) as failover:
        failover.recover(0, [])
        heard = [told.get(timeout=5)]
        if gives_up_first:
            failover._bring_back("w1")
        heard.append(told.get(timeout=5))
        assert {type(event) for event in heard} == {Back, Stranded}
        again = [failover.settle(event) for event in heard if not isinstance(event, Fault)]
        assert again == [[], [0]]
        told.put(heard[0])  # so that there is somebody
        failover.recover(0, [])
        told.get()
        whole = told.get(timeout=5)
        assert isinstance(whole, Whole)
        assert failover.settle(whole) == []
        assert not failover.stranded
        assert not failover.recovering


def test_what_a_recovery_has_read_meanwhile_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    worker: Any = Worker("w1", Here(), SimpleNamespace(control=ours))  # type: ignore[arg-type]
    fleet: Any = SimpleNamespace(holders={}, workers=[worker])
    failover = Failover(fleet, Care(world(2)), lambda event: None)
    with ours, theirs:
        failover.listen(worker)
        assert worker.heard_s == 0.0
        send_all(theirs, encode(control({"receipt": "x"})))
        failover.listen(worker)
        assert worker.heard_s > 0.0


@pytest.mark.slow
def test_a_session_that_gets_no_core_while_a_recovery_passes_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It then listens to workers that had said something before, which the recovery has read."""
    recover = Failover.recover

    def slow(self: Failover, index: int, live: list[Cached]) -> None:
        recover(self, index, live)
        self._background.join(10.0)
        for worker in self.fleet.workers:
            self.listen(worker)

    monkeypatch.setattr(Failover, "recover", slow)
    measured = run(folder, world(3), plan(spare("w2", 1)), Loss("w1", 0.2))
    check_whole(folder, measured)
    assert [one.replacement for one in measured.recoveries] == ["w2"]


@pytest.mark.slow
def test_a_bug_in_a_recovery_ends_the_run_as_what_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replay(self: Takeover, index: int, live: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Takeover, "_replay", replay)
    with pytest.raises(ZeroDivisionError, match="a bug") as caught:
        run(folder, world(3), plan(spare("w2", 1)), Loss("w1", 0.1))
    assert "_recover" in [entry.name for entry in caught.traceback]


@pytest.mark.slow
def test_a_connection_that_breaks_between_two_living_stages_is_made_anew(folder: Path) -> None:
    asked = world(2)
    settings = Settings(checkpoint=folder, slot_tokens=128, threads=1)
    heard: queue.Queue[int] = queue.Queue()
    with Fleet(asked.cluster, plan(), settings) as fleet:
        first, second = fleet.stages_of(0)
        nowhere = {"port": 1, "secret": fleet.secret, "link": None, "epoch": 1, "fence": 0}
        first.tell({"connect": nowhere})  # an attempt that was given up before it was answered
        fleet.connect(0, 10.0)
        tokenizer = open_checkpoint(folder).tokenizer()
        session = Session(fleet, tokenizer, lambda _, token: heard.put(token), care=Care(asked))
        serving = threading.Thread(target=session.serve)
        serving.start()
        session.submit(Prompt(0, 0.0, [1, 2, 3], OUTPUT))
        answer = [heard.get(timeout=10)]
        connect(second.port, fleet.secret, str(fleet.lines[0].epoch)).close()
        answer += [heard.get(timeout=10) for _ in range(OUTPUT - 1)]
        session.stop()
        serving.join(10)
        assert fleet.lines[0].epoch > 2
        assert fleet.stages_of(0) == [first, second]
    assert answer == greedy(chain(open_checkpoint(folder), []), [1, 2, 3], OUTPUT)


def test_of_two_callers_the_one_of_the_later_attempt_counts(folder: Path) -> None:
    """They are met on threads, so the earlier one may come last."""
    ours, theirs = socket.socketpair()
    stage, listener = StageWorker(theirs), Listener("secret")
    threading.Thread(target=stage._let_in, args=(listener,), daemon=True).start()
    with ours, theirs:
        later = connect(listener.port, "secret", "3")
        caller = stage._todo.get(timeout=5)
        earlier = connect(listener.port, "secret", "2")
        assert not earlier.recv(1)
        assert not ready([later])
        assert stage._todo.empty()
        caller.sock.close()
        later.close()
        earlier.close()
        listener.close()


def test_without_a_standby_sequences_go_on_in_another_pipeline(folder: Path) -> None:
    measured = run(folder, world(4), plan(pipelines=2), Loss("w3", 0.2))
    check_whole(folder, measured)
    assert [record.pipeline for record in measured.records] == [0, 0]
    assert measured.recoveries == []


@pytest.mark.slow
def test_a_stage_that_nothing_replaces_fails_its_requests_in_time(folder: Path) -> None:
    start_s = time.monotonic()
    measured = run(folder, world(2, patience_s=0.5), plan(), Loss("w1", 0.2))
    assert [record.status for record in measured.records] == ["failed"] * 2
    assert measured.records[0].reason == "lost w1; nothing replaced it within 0.5 s"
    assert measured.records[0].token_s
    assert time.monotonic() - start_s < 60


@pytest.mark.slow
def test_in_bf16_replay_in_original_shapes_changes_no_token(folder: Path) -> None:
    chosen = plan(spare("w2", 1), quant="bf16")
    calm = run(folder, world(3, "bf16"), chosen)
    struck = run(folder, world(3, "bf16"), chosen, Loss("w1", 0.4), deterministic=True)
    assert len(struck.recoveries) == 1
    assert struck.outputs == calm.outputs


class Faulty(Here):
    """A host whose worker comes to grief while weights are brought to it."""

    def __init__(self, name: str, grief: Callable[[Process], None]) -> None:
        self.host, self._grief = name, grief

    def start(self, threads: int) -> LocalProcess:
        self.process = super().start(threads)
        return self.process

    def obtain(self, start: int, stop: int) -> bool:
        self._grief(self.process)
        return True


def full(_: Process) -> None:
    raise RunError("the disk is full")


@pytest.mark.slow
@pytest.mark.parametrize(
    "grief",
    [lambda one: one.strike(hangs=False), lambda one: one.strike(hangs=True), full],
    ids=["dies", "hangs", "cannot"],
)
def test_a_standby_that_fails_while_it_takes_over_makes_way_for_the_next(
    folder: Path, grief: Callable[[Process], None]
) -> None:
    chosen = plan(spare("w2", 1, "cold"), spare("w3", 1))
    asked = world(4, detect_s=0.5)
    places = {"w2": Faulty("elsewhere", grief)}
    measured = run(folder, asked, chosen, Loss("w1", 0.005), places=places)
    check_whole(folder, measured)
    (one,) = measured.recoveries
    assert one.replacement == "w3"
    assert one.recovered_s - one.found_s < 3.0
