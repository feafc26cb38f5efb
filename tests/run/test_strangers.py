"""Who is turned away at a node's door, and that nothing is set aside for them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from planner.core.errors import InvalidFileError, RunError
from planner.run import stream as streams
from planner.run import tls
from planner.run.frames import PeerLostError, control, encode, read_frame
from planner.run.identity import Keys, new_authority, read_keys
from planner.run.limits import Limits
from planner.run.messages import ANSWER, Deliver, Fetch, Hello, Refusal, Work, packed
from planner.run.stream import call
from planner.run.tls import RefusedError
from tests.run.deployment import Daemon, Deployment, deployment

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deployment(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def owner(home: Deployment) -> Keys:
    return home.keys("coordinator", "home")


@pytest.fixture(scope="module")
def berlin(home: Deployment) -> Iterator[Daemon]:
    with home.daemon("berlin") as daemon:
        yield daemon


def ends_without_a_word(sock: socket.socket) -> bool:
    """Whether the other end closes the connection, at most after an alert of TLS."""
    sock.settimeout(tls.HANDSHAKE_S + 2)
    said = b""
    with contextlib.suppress(OSError):
        while data := sock.recv(4096):
            said += data
    return b"PLNR" not in said


def test_a_member_is_let_in_and_asked_what_it_wants(owner: Keys, berlin: Daemon) -> None:
    with contextlib.closing(call(berlin.source, owner)) as stream:
        stream.send(Fetch(what="fetch", digest="0" * 64, offset=0))
        assert stream.read(ANSWER, 5) == Refusal(refused="no_such_blob")
    assert berlin.idle()


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"".join(encode(control({"what": "work"}))),
        b"\x16\x03\x01\xff\xff" + bytes(300),
        b"\x80",
    ],
    ids=["http", "frame", "broken tls", "one byte"],
)
def test_plaintext_is_refused(berlin: Daemon, said: bytes) -> None:
    with socket.create_connection(berlin.address) as sock:
        with contextlib.suppress(OSError):  # it may be closed already
            sock.sendall(said)
            sock.shutdown(socket.SHUT_WR)
        assert ends_without_a_word(sock)
    assert berlin.idle()


def test_a_silent_caller_is_dropped_at_the_deadline(
    berlin: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_S", 0.3)
    with socket.create_connection(berlin.address) as sock:
        begun_s = time.monotonic()
        for _ in range(3):  # a byte now and then does not keep it
            with contextlib.suppress(OSError):
                sock.send(b"\x16")
            time.sleep(0.05)
        assert ends_without_a_word(sock)
        assert time.monotonic() - begun_s < 1.0
    assert berlin.idle()


def raw(berlin: Daemon, context: ssl.SSLContext) -> bytes:
    """What a TLS client hears after its handshake."""
    with socket.create_connection(berlin.address) as sock, context.wrap_socket(sock) as secure:
        secure.settimeout(5)
        return secure.recv(4096)


def open_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_no_certificate_a_foreign_one_and_an_old_protocol(berlin: Daemon) -> None:
    foreign = open_context()
    trustme.CA().issue_cert("berlin").configure_cert(foreign)
    old = open_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    for context in (open_context(), foreign, old):
        with pytest.raises(OSError, match=r"(?i)alert|reset|eof|unsupported|required"):
            raw(berlin, context)
    assert berlin.idle()


def test_another_deployments_member_of_the_same_name(tmp_path: Path, berlin: Daemon) -> None:
    other = deployment(tmp_path)
    stranger = other.keys("coordinator", "home")
    with pytest.raises(RefusedError, match=r"(?i)verify|signature|certificate"):
        call(berlin.source, stranger)
    (tmp_path / "home" / "ca.pem").write_bytes((berlin.node.keys.ca).read_bytes())  # type: ignore[union-attr]
    with pytest.raises(RefusedError):
        call(berlin.source, stranger)
    assert berlin.idle()


def test_an_expired_certificate(home: Deployment, berlin: Daemon) -> None:
    late = home.keys("coordinator", "late", days=-1.0)
    with pytest.raises(RefusedError, match="refused"):
        call(berlin.source, late)
    assert berlin.idle()


def test_a_node_with_an_expired_certificate_is_not_talked_to(home: Deployment, owner: Keys) -> None:
    keys = home.keys("node", "stale", days=-1.0)
    context = tls.server_context(keys)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with contextlib.suppress(RunError):
                tls.handshake(sock, context, server=True).close()

        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        to = streams.Source(
            node="stale", host="127.0.0.1", port=port, fingerprint=keys.me.fingerprint
        )
        with pytest.raises(RefusedError, match="expired"):
            call(to, owner)
        thread.join()


def test_the_wrong_node_and_the_wrong_key_answer(owner: Keys, berlin: Daemon) -> None:
    wrong = berlin.source.model_copy(update={"node": "paris"})
    with pytest.raises(RefusedError, match="node berlin answered where node paris should"):
        call(wrong, owner)
    other = berlin.source.model_copy(update={"fingerprint": "0" * 64})
    with pytest.raises(RefusedError, match="another key than the inventory pins"):
        call(other, owner)
    assert berlin.idle()


def overheard(owner: Keys, berlin: Daemon, monkeypatch: pytest.MonkeyPatch) -> Hello:
    """The hello of a connection that was accepted."""
    heard: list[Hello] = []
    send = streams.Stream.send

    def listen(self: streams.Stream, message: object, timeout_s: float = 5.0) -> None:
        if isinstance(message, Hello):
            heard.append(message)
        send(self, message, timeout_s)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(streams.Stream, "send", listen)
        call(berlin.source, owner).close()
    return heard[0]


def test_a_replayed_hello_is_refused(
    owner: Keys, berlin: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = overheard(owner, berlin, monkeypatch)
    sock = tls.dial(*berlin.address, tls.client_context(owner))
    with contextlib.closing(sock):
        read_frame(sock, 1024)  # a fresh challenge
        sock.sendall(packed(old) + packed(Work(what="work")))
        with pytest.raises(PeerLostError):
            read_frame(sock, 4096)
    assert berlin.idle()


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"nonce": "0" * 64, "to": "berlin", "signature": "0" * 128},
        {"nonce": "0" * 64, "to": "berlin", "signature": "0" * 128, "extra": 1},
        {"nonce": "0" * 64, "to": "../berlin", "signature": "0" * 128},
        {"nonce": 7, "to": "berlin", "signature": "0" * 128},
        {"nonce": "0" * 64, "to": "berlin", "signature": "x" * 900},
        {"pad": "x" * 5000},
    ],
)
def test_a_hello_that_proves_nothing(
    owner: Keys, berlin: Daemon, message: dict[str, object]
) -> None:
    sock = tls.dial(*berlin.address, tls.client_context(owner))
    with contextlib.closing(sock):
        read_frame(sock, 1024)
        with contextlib.suppress(OSError):
            sock.sendall(b"".join(encode(control(message))))
        with pytest.raises(PeerLostError):
            read_frame(sock, 4096)
    assert berlin.idle()


def test_a_node_may_not_do_what_a_coordinator_may(home: Deployment, berlin: Daemon) -> None:
    paris = home.keys("node", "paris")
    with contextlib.closing(call(berlin.source, paris)) as stream:
        stream.send(Work(what="work"))
        assert stream.read(ANSWER, 5) == Refusal(refused="not_allowed")
    assert berlin.idle()


def test_a_coordinator_without_a_warrant_gets_no_worker(owner: Keys, berlin: Daemon) -> None:
    with contextlib.closing(call(berlin.source, owner)) as stream:
        stream.send(Work(what="work"))
        assert stream.read(ANSWER, 5) == Refusal(refused="not_allowed")
    assert berlin.idle()


@pytest.mark.parametrize(
    "request_text",
    [
        {"what": "run", "code": "1"},
        {"what": "deliver", "port": 0},
        {"what": "deliver", "port": True},
        {"what": "deliver", "port": "22"},
        {"what": "fetch", "digest": "../../etc/passwd", "offset": 0},
        {"what": "fetch", "digest": "0" * 64, "offset": -1},
        {"what": "lead", "to": {"node": "x", "host": "a b", "port": 1}, "port": 1},
        {"what": "work", "work": "twice"},
    ],
)
def test_requests_that_are_none(
    owner: Keys, berlin: Daemon, request_text: dict[str, object]
) -> None:
    with contextlib.closing(call(berlin.source, owner)) as stream:
        stream.send_bytes(b"".join(encode(control(request_text))), 5)
        assert stream.read(ANSWER, 5) == Refusal(refused="bad_message")
    assert berlin.idle()


def test_a_port_that_no_worker_opened_is_not_reached(owner: Keys, berlin: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0.3)
        with contextlib.closing(call(berlin.source, owner)) as stream:
            port = other.getsockname()[1]
            stream.send(Deliver(what="deliver", port=port))
            assert stream.read(ANSWER, 5) == Refusal(refused="no_such_port")
        with pytest.raises(TimeoutError):
            other.accept()
    assert berlin.idle()


def test_quotas(home: Deployment, owner: Keys) -> None:
    with home.daemon("oslo", Limits(strangers=2, streams=2, streams_per_minute=5)) as oslo:
        strangers = [socket.create_connection(oslo.address) for _ in range(2)]
        time.sleep(0.1)
        with socket.create_connection(oslo.address) as third:
            third.settimeout(2)
            assert third.recv(1) == b""  # at once: two wait already
        for sock in strangers:
            sock.close()
        time.sleep(0.1)
        held = [call(oslo.source, owner) for _ in range(2)]
        time.sleep(0.1)
        assert refused(oslo, owner) == "over_quota"
        for stream in held:
            stream.close()
        assert oslo.idle()
        assert refused(oslo, owner) == "no_such_blob"
        assert refused(oslo, owner) == "no_such_blob"
        assert refused(oslo, owner) == "over_quota"


def refused(daemon: Daemon, owner: Keys) -> str:
    with contextlib.closing(call(daemon.source, owner)) as stream:
        with contextlib.suppress(PeerLostError):
            stream.send(Fetch(what="fetch", digest="0" * 64, offset=0))
        said = stream.read(ANSWER, 5)
    assert isinstance(said, Refusal)
    return said.refused


def test_without_keys_only_this_host_is_called() -> None:
    far = streams.Source(node="berlin", host="10.0.0.2", port=1, fingerprint="0" * 64)
    with pytest.raises(RefusedError, match="only this host"):
        call(far, None)


def test_keys_that_do_not_belong_together(tmp_path: Path) -> None:
    one = new_authority(tmp_path, 1.0)
    for name in ("a", "b"):
        one.admit("node", name, 1.0)
    (tmp_path / "a" / "member.pem").write_bytes((tmp_path / "b" / "member.pem").read_bytes())
    with pytest.raises(InvalidFileError, match="do not fit together"):
        read_keys(tmp_path / "a")
    (tmp_path / "b" / "member.key").chmod(0o644)
    with pytest.raises(InvalidFileError, match="chmod 600"):
        read_keys(tmp_path / "b")
    with pytest.raises(RunError, match="holds keys already"):
        one.admit("node", "a", 1.0)
