"""Plans that run on nodes behind TLS, with weights that come over it."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from planner.core.errors import RunError
from planner.core.plan import Plan
from planner.receipts.check import check_log
from planner.receipts.log import read_lines
from planner.receipts.record import Deployment as DeploymentRecord
from planner.receipts.record import Threshold, numeric_class, parse
from planner.run import remote
from planner.run.blobs import list_pieces, recipes
from planner.run.checkpoint import open_checkpoint
from planner.run.driver import Session
from planner.run.fleet import Fleet
from planner.run.identity import Keys
from planner.run.inspection import Inspection
from planner.run.losses import Care
from planner.run.messages import ANSWER, Progress, Refusal, Source, Work
from planner.run.node import Compute, Node
from planner.run.oversight import Oversight
from planner.run.prompts import Prompt
from planner.run.remote import Provision, RemotePlace, Supplies, prepare
from planner.run.seeded import make_checkpoint
from planner.run.settings import Settings
from planner.run.store import Store
from planner.run.stream import Stream, call
from planner.run.warrant import Assignment, Signed, Warrant, sign
from tests.run.deployment import Daemon, Deployment, deployment
from tests.run.world import chain, greedy, pipeline, plan, problem, spec

PLAN = plan(pipeline(["w0", "w1"], 4, max_num_seqs=2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("remote") / "model", spec(), dtype="fp32")


@pytest.fixture
def home(tmp_path: Path) -> Deployment:
    return deployment(tmp_path / "keys")


@pytest.fixture
def owner(home: Deployment) -> Keys:
    return home.keys("coordinator", "home")


@contextlib.contextmanager
def nodes(home: Deployment, *names: str) -> Iterator[dict[str, Daemon]]:
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(home.daemon(name)) for name in names}


def order(home: Deployment, folder: Path, chosen: Plan = PLAN, **changes: object) -> Provision:
    opened = open_checkpoint(folder)
    pieces = list_pieces(opened)
    held = [(stage.node, stage) for one in chosen.pipelines for stage in one.stages]
    held += [
        (one.node, chosen.pipelines[one.pipeline].stages[one.stage]) for one in chosen.standbys
    ]
    assignments = tuple(
        Assignment(node=node, start=stage.start, stop=stage.stop, quant=stage.quant)
        for node, stage in held
    )
    values = {
        "deployment": home.authority.deployment,
        "manifest": "0" * 64,
        "weights": pieces.digest,
        "epoch": 1,
        "expires": int(time.time()) + 600,
        "assignments": assignments,
    }
    signed = sign(Warrant(**(values | changes)), home.authority)  # type: ignore[arg-type]
    return Provision(signed, Supplies(pieces, recipes(opened)), "model")


@pytest.mark.slow
def test_two_nodes_write_what_one_process_writes(
    home: Deployment, owner: Keys, folder: Path
) -> None:
    world = problem(2, spec())
    asked = order(home, folder)
    with nodes(home, "w0", "w1") as daemons:
        places = {name: RemotePlace(daemon.source, owner) for name, daemon in daemons.items()}
        pulled = prepare(places, asked)
        whole = sum(blob.size_bytes for blob in asked.supplies.pieces.blobs)
        assert all(0 < one.pulled_bytes < 0.7 * whole for one in pulled.values())
        again = prepare(places, asked)
        assert all(one.pulled_bytes == 0 for one in again.values())
        settings = Settings(folder, slot_tokens=64, threads=1, imitate_links=False)
        with Fleet(world.cluster, PLAN, settings, places) as fleet:
            session = Session(fleet, open_checkpoint(folder).tokenizer())
            prompts = [Prompt(key, 0.0, [key + 1, 7, 9], 8) for key in range(4)]
            session.run(prompts, concurrency=2)
        stages = chain(open_checkpoint(folder), [])
        for prompt in prompts:
            assert isinstance(prompt.content, list)
            assert session.outputs[prompt.id] == greedy(stages, prompt.content, 8)
        for daemon in daemons.values():
            daemon.node._leases.clear()
            assert daemon.idle()


@pytest.mark.slow
def test_nodes_sign_what_they_do_with_their_own_keys(
    home: Deployment, owner: Keys, folder: Path, tmp_path: Path
) -> None:
    world, judged = problem(2, spec()), {}
    for stage in PLAN.pipelines[0].stages:
        numeric = numeric_class(stage)
        bounds = Threshold(prover=numeric, verifier=numeric, accept=0.1, reject=0.2, token_gap=0.1)
        judged[stage.start, stage.stop, stage.quant] = (bounds,)
    with nodes(home, "w0", "w1") as daemons:
        places = {name: RemotePlace(daemon.source, owner) for name, daemon in daemons.items()}
        prepare(places, order(home, folder))
        settings = Settings(folder, slot_tokens=64, threads=1, imitate_links=False)
        with Fleet(world.cluster, PLAN, settings, places) as fleet:
            tokenizer = open_checkpoint(folder).tokenizer()
            session = Session(fleet, tokenizer, care=Care(world))
            oversight = Oversight(tmp_path / "log", "0" * 64, 1.0, judged)
            inspection = Inspection(fleet, oversight, session)
            session.run([Prompt(key, 0.0, [key + 1, 7, 9], 20) for key in range(2)], concurrency=2)
            found = inspection.finish()
        owned = {name: daemon.node.keys for name, daemon in daemons.items()}
    checked = check_log(read_lines(found.log))
    assert checked.findings == []
    assert (found.tally.sampled, found.tally.accepted) == (4, 4)
    first = parse(next(read_lines(found.log)))
    assert not isinstance(first, str)
    assert isinstance(first.statement, DeploymentRecord)
    for name, keys in owned.items():
        assert keys is not None
        assert first.statement.keys[name] == keys.me.key.public_bytes_raw().hex()


@pytest.mark.slow
def test_a_coordinator_that_goes_takes_its_workers_along(
    home: Deployment, owner: Keys, folder: Path
) -> None:
    with nodes(home, "w0", "w1") as daemons:
        places = {name: RemotePlace(daemon.source, owner) for name, daemon in daemons.items()}
        prepare(places, order(home, folder))
        process = places["w0"].start(1)
        assert daemons["w0"].node.usage.held("workers", "home") == 1
        process.kill()
        process.close()
        daemons["w0"].node._leases.clear()
        assert daemons["w0"].idle()


def refusal(place: RemotePlace, asked: Provision) -> str:
    with pytest.raises(RunError) as caught:
        place.prepare(asked)
    return caught.value.message.rpartition(" ")[2]


def test_warrants_that_are_not_good(home: Deployment, owner: Keys, folder: Path) -> None:
    with nodes(home, "w0") as daemons:
        place = RemotePlace(daemons["w0"].source, owner)
        good = order(home, folder, epoch=5)
        assert place.prepare(good).pulled_bytes > 0
        assert refusal(place, order(home, folder, epoch=4)) == "stale_epoch"
        assert place.prepare(order(home, folder, epoch=5)).pulled_bytes == 0
        assert refusal(place, order(home, folder, epoch=6, expires=1)) == "expired"
        assert refusal(place, order(home, folder, deployment="0" * 16)) == "unsigned"
        other = Assignment(node="w9", start=0, stop=2, quant="fp32")
        assert refusal(place, order(home, folder, epoch=5, assignments=(other,))) == "not_allowed"
        text, signature = good.signed.text, good.signed.signature
        for forged in (
            Signed(text.replace('"epoch":5', '"epoch":9'), signature),
            Signed(text, "0" * 128),
            Signed(text, signature[2:] + "00"),
        ):
            assert refusal(place, Provision(forged, good.supplies, "model")) == "unsigned"


def test_the_epoch_is_remembered_by_a_node_that_starts_anew(
    home: Deployment, owner: Keys, folder: Path
) -> None:
    with nodes(home, "w0") as daemons:
        RemotePlace(daemons["w0"].source, owner).prepare(order(home, folder, epoch=7))
        store = daemons["w0"].node.store
        assert type(store)(store.root).epoch(home.authority.deployment) == 7


def test_a_nodes_own_checkpoint_is_used_if_it_is_the_signed_one(
    home: Deployment, owner: Keys, folder: Path
) -> None:
    asked = order(home, folder)
    with nodes(home, "w0") as daemons:
        daemon = daemons["w0"]
        place = RemotePlace(daemon.source, owner)
        make_checkpoint(daemon.node.store.root / "model", spec(), seed=1, dtype="fp32")
        assert place.prepare(asked).pulled_bytes > 0
        assert daemon.node._leases["home"].directory.parent.name == "models"
        make_checkpoint(daemon.node.store.root / "model", spec(), seed=0, dtype="fp32")
        found = place.prepare(asked)
        assert (found.pulled_bytes, found.found_bytes > 0) == (0, True)
        assert daemon.node._leases["home"].directory == daemon.node.store.root / "model"


def test_a_node_gets_some_of_its_layers_first_and_others_when_they_are_needed(
    home: Deployment, owner: Keys, folder: Path
) -> None:
    asked = order(home, folder, plan(pipeline(["w0", "w1"], 4)))
    sizes = {one.name: one.size_bytes for one in asked.supplies.pieces.blobs}
    with nodes(home, "w1") as daemons:
        place = RemotePlace(daemons["w1"].source, owner)
        first = place.prepare(asked, ranges=())
        assert (first.pulled_bytes, first.found_bytes) == (sizes["config.json"], 0)
        assert place.obtain(2, 4)
        directory = daemons["w1"].node._leases["home"].directory
        names = {path.name for path in directory.iterdir()}
        wanted = {"layer-00002", "layer-00003", "end"}
        assert names == {"config.json", *(f"{name}.safetensors" for name in wanted)}
        assert place.obtain(0, 2), "layers that the warrant does not give it"
        assert {path.name for path in directory.iterdir()} == names


def test_weights_that_broke_off_are_gone_on_with(
    home: Deployment, owner: Keys, folder: Path
) -> None:
    asked = order(home, folder)
    (blob,) = [one for one in asked.supplies.pieces.blobs if one.name == "layer-00001"]
    with nodes(home, "w0") as daemons:
        store = daemons["w0"].node.store
        half = b"".join(asked.supplies.recipes[blob.name].chunks())[: blob.size_bytes // 2]
        (store.root / "blobs" / f"{blob.digest}.part").write_bytes(half)
        given: list[int] = []
        recipe = asked.supplies.recipes[blob.name]

        class Counting(type(recipe)):  # type: ignore[misc]
            def chunks(self, offset: int = 0) -> Iterator[bytes]:
                given.append(offset)
                return super().chunks(offset)

        asked.supplies.recipes[blob.name] = Counting(recipe.parts)
        RemotePlace(daemons["w0"].source, owner).prepare(asked)
        assert given == [len(half)]
        assert (store.root / "blobs" / blob.digest).stat().st_size == blob.size_bytes


def test_weights_that_are_something_else_are_not_kept(
    home: Deployment, owner: Keys, folder: Path, tmp_path: Path
) -> None:
    other = make_checkpoint(tmp_path / "other", spec(), seed=1, dtype="fp32")
    asked = order(home, folder)
    forged = Supplies(asked.supplies.pieces, recipes(open_checkpoint(other)))
    with nodes(home, "w0") as daemons:
        place = RemotePlace(daemons["w0"].source, owner)
        assert refusal(place, Provision(asked.signed, forged, "model")) == "bad_digest"
        assert "home" not in daemons["w0"].node._leases
        blobs = {path.name for path in (daemons["w0"].node.store.root / "blobs").iterdir()}
        config = next(b for b in asked.supplies.pieces.blobs if b.name == "config.json")
        assert blobs <= {asked.supplies.pieces.digest, config.digest}


def test_a_second_node_takes_weights_from_the_first(
    home: Deployment, owner: Keys, folder: Path
) -> None:
    both = plan(pipeline(["w0"], 4), pipeline(["w1"], 4))
    asked = order(home, folder, both)
    with nodes(home, "w0", "w1") as daemons:
        RemotePlace(daemons["w0"].source, owner).prepare(asked)
        nothing = Provision(asked.signed, Supplies(asked.supplies.pieces, {}), "model")
        second = RemotePlace(daemons["w1"].source, owner)
        assert refusal(second, nothing) == "no_such_blob"
        pulled = second.prepare(nothing, others=(daemons["w0"].source,))
        assert pulled.pulled_bytes == sum(b.size_bytes for b in asked.supplies.pieces.blobs)


def test_a_worker_is_given_only_with_a_warrant(home: Deployment, owner: Keys, folder: Path) -> None:
    with nodes(home, "w0") as daemons:
        with contextlib.closing(call(daemons["w0"].source, owner)) as stream:
            stream.send(Work(what="work"))
            assert stream.read(ANSWER, 5) == Refusal(refused="not_allowed")
        assert folder.is_dir()


def test_without_keys_on_this_host(folder: Path, tmp_path: Path, home: Deployment) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        node = Node(None, Store(tmp_path / "weights"), Compute(1))
        threading.Thread(target=node.serve, args=(listener,), daemon=True).start()
        port = listener.getsockname()[1]
        source = Source(node="w0", host="127.0.0.1", port=port, fingerprint="0" * 64)
        assert RemotePlace(source, None).prepare(order(home, folder)).pulled_bytes > 0
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("says", ["nothing", "how far it is, then nothing"])
def test_a_node_that_hangs_over_its_weights_is_not_waited_for(
    folder: Path, home: Deployment, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    monkeypatch.setattr(remote, "_SILENT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang() -> None:
            with listener.accept()[0] as caller:
                stream = Stream(caller, None)
                for done in range(3 if says != "nothing" else 0):
                    time.sleep(0.2)
                    stream.send(Progress(done_bytes=done, total_bytes=9))
                time.sleep(2)

        threading.Thread(target=hang, daemon=True).start()
        port = listener.getsockname()[1]
        source = Source(node="w0", host="127.0.0.1", port=port, fingerprint="0" * 64)
        with pytest.raises(RunError, match=r"node w0 .* not a word") as failed:
            RemotePlace(source, None).prepare(order(home, folder))
    assert failed.value.hint


def test_a_node_tells_that_it_checks_weights_and_that_it_waits_for_others(
    folder: Path, tmp_path: Path
) -> None:
    opened = open_checkpoint(folder)
    pieces, made = list_pieces(opened), recipes(opened)
    supplies, store = Supplies(pieces, made), Store(tmp_path / "weights")
    told: list[int] = []

    def fetch(digest: str, offset: int) -> Iterator[bytes]:
        found = supplies.find(digest)
        assert found is not None
        return found.chunks(offset)

    store.ready(pieces.digest, [(0, 4)], "absent", fetch)
    store.ready(pieces.digest, [(0, 4)], "absent", fetch, lambda done, total: told.append(done))
    assert len(told) >= len(pieces.needed([(0, 4)]))
    waited = threading.Event()
    with store._lock:
        ask = lambda: store.ready(  # noqa: E731
            pieces.digest, [(0, 4)], "absent", fetch, lambda done, total: waited.set()
        )
        waiting = threading.Thread(target=ask)
        waiting.start()
        assert waited.wait(5)
    waiting.join(5)
    assert not waiting.is_alive()


@pytest.mark.slow
def test_a_daemon_that_was_started_anew_is_shown_the_warrant_again(
    home: Deployment, owner: Keys, folder: Path
) -> None:
    with nodes(home, "w0") as daemons:
        daemon = daemons["w0"]
        place = RemotePlace(daemon.source, owner)
        place.prepare(order(home, folder))
        daemon.node._leases.clear()  # as a new process has none
        process = place.start(1)
        assert daemon.node.usage.held("workers", "home") == 1
        process.kill()
        process.close()


def test_a_source_that_does_not_answer_is_passed_over(
    home: Deployment, owner: Keys, folder: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    nobody = Source(node="w9", host="127.0.0.1", port=port, fingerprint="0" * 64)
    with nodes(home, "w0") as daemons:
        place = RemotePlace(daemons["w0"].source, owner)
        assert place.prepare(order(home, folder), (nobody,)).pulled_bytes > 0


@pytest.mark.parametrize("how", ["breaks off", "gives something else"])
def test_a_source_that_fails_half_way_is_replaced(
    home: Deployment, owner: Keys, folder: Path, how: str
) -> None:
    asked = order(home, folder, plan(pipeline(["w0"], 4), pipeline(["w1"], 4)))
    with nodes(home, "w0", "w1") as daemons:
        first = daemons["w0"].node.store
        RemotePlace(daemons["w0"].source, owner).prepare(asked)
        (layer,) = [one for one in asked.supplies.pieces.blobs if one.name == "layer-00001"]
        open_ = first.open

        def faulty(digest: str) -> tuple[int, Callable[[int], Iterator[bytes]]]:
            size_bytes, chunks = open_(digest)
            if digest != layer.digest:
                return size_bytes, chunks
            if how == "breaks off":
                return size_bytes, lambda offset: broken(chunks(offset))
            return size_bytes, lambda offset: iter([bytes(size_bytes - offset)])

        def broken(chunks: Iterator[bytes]) -> Iterator[bytes]:
            yield next(chunks)[:1000]
            raise RunError("the disk fell out")

        first.open = faulty  # type: ignore[method-assign]
        second = RemotePlace(daemons["w1"].source, owner)
        pulled = second.prepare(asked, others=(daemons["w0"].source,))
        assert pulled.found_bytes + pulled.pulled_bytes == sum(
            one.size_bytes for one in asked.supplies.pieces.blobs
        )
        assert daemons["w1"].node.store.open(layer.digest)[0] == layer.size_bytes


def test_a_daemon_outlives_a_moment_without_descriptors(home: Deployment, owner: Keys) -> None:
    class Listener:
        """One that has nothing to give at first."""

        def __init__(self, sock: socket.socket) -> None:
            self.sock, self.errors = sock, [OSError(errno.EMFILE, "too many open files")]

        def accept(self) -> object:
            if self.errors:
                raise self.errors.pop()
            return self.sock.accept()

    with home.daemon("w0") as daemon, socket.create_server(("127.0.0.1", 0)) as sock:
        listener = cast("socket.socket", Listener(sock))
        threading.Thread(target=daemon.node.serve, args=(listener,), daemon=True).start()
        port = sock.getsockname()[1]
        call(daemon.source.model_copy(update={"port": port}), owner).close()
        sock.shutdown(socket.SHUT_RDWR)
