"""Stream: an authenticated connection between two members, and how one comes about.

After TLS both prove who they are once more, over nonces of both sides. Only then is a connection
worth anything: in TLS 1.3 a client believes that it is connected before the server has looked at
its certificate.
"""

from __future__ import annotations

import secrets
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TypeVar

from pydantic import TypeAdapter

from planner.core.errors import RunError
from planner.run import tls
from planner.run.frames import FrameError, PeerLostError, read_frame
from planner.run.identity import Keys, Member
from planner.run.messages import (
    MESSAGE_LIMIT_BYTES,
    PROTOCOL,
    Challenge,
    Code,
    Hello,
    Message,
    Refusal,
    Source,
    Welcome,
    canonical,
    packed,
    parse,
)
from planner.run.tls import RefusedError

HELLO_S = 5.0
_HELLO_LIMIT_BYTES = 1024
"""Most that is read at once from somebody who has not said who it is."""
_CHALLENGE, _HELLO, _WELCOME = TypeAdapter(Challenge), TypeAdapter(Hello), TypeAdapter(Welcome)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stream:
    """A connection to ``peer``; None where nobody had to prove anything (loopback)."""

    sock: socket.socket
    peer: Member | None

    def send(self, message: Message, timeout_s: float = HELLO_S) -> None:
        """Sends a message; raises PeerLostError."""
        self.send_bytes(packed(message), timeout_s)

    def send_bytes(self, data: bytes | memoryview, timeout_s: float) -> None:
        """Sends bytes; raises PeerLostError."""
        try:
            self.sock.settimeout(timeout_s)
            self.sock.sendall(data)
        except OSError as error:
            raise PeerLostError(f"a connection broke while sending: {error}") from None

    def read(
        self, kind: TypeAdapter[T], timeout_s: float, limit_bytes: int = MESSAGE_LIMIT_BYTES
    ) -> T:
        """The next message, all of it within ``timeout_s``; raises FrameError, PeerLostError."""
        frame = read_frame(Hurried(self.sock, time.monotonic() + timeout_s), limit_bytes)
        return parse(kind, frame)

    def close(self) -> None:
        """Ends the connection."""
        self.sock.close()


class Hurried:
    """A socket whose reads all have to be done by one moment, however they trickle in."""

    def __init__(self, sock: socket.socket, deadline_s: float) -> None:
        self._sock, self._deadline_s = sock, deadline_s

    def recv_into(self, buffer: memoryview, /) -> int:
        """As a socket's; raises TimeoutError after the deadline."""
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("it took too long")
        self._sock.settimeout(left_s)
        return self._sock.recv_into(buffer)


def call(to: Source, keys: Keys | None) -> Stream:
    """A stream to a node; raises RefusedError if another answers, RunError if nobody does."""
    if keys is None:
        return _call_in_the_clear(to)
    sock = tls.dial(to.host, to.port, tls.client_context(keys))
    try:
        peer = tls.peer(sock)
        tls.expect_node(peer, to.node, to.fingerprint)
        stream = Stream(sock, peer)
        challenge = stream.read(_CHALLENGE, HELLO_S, _HELLO_LIMIT_BYTES)
        mine = secrets.token_hex(32)
        said = _statement("hello", keys.me, peer, challenge.nonce, mine)
        stream.send(Hello(nonce=mine, to=to.node, signature=keys.secret.sign(said).hex()))
        welcome = stream.read(_WELCOME, HELLO_S, _HELLO_LIMIT_BYTES)
        said = _statement("welcome", peer, keys.me, challenge.nonce, mine)
        if not peer.signed(bytes.fromhex(welcome.signature), said):
            raise RefusedError(f"node {to.node} did not prove that it is")
    except (FrameError, PeerLostError) as error:
        sock.close()
        raise RefusedError(f"{to.node} at {to.host}:{to.port} refused: {error.message}") from None
    except BaseException:
        sock.close()
        raise
    return stream


def receive(raw: socket.socket, keys: Keys, context: ssl.SSLContext) -> Stream:
    """The stream of whoever connected; closes it and raises RefusedError if it is no member."""
    sock = tls.handshake(raw, context, server=True)
    try:
        peer = tls.peer(sock)
        if peer.deployment != keys.me.deployment:
            raise RefusedError("a member of another deployment")
        stream = Stream(sock, peer)
        challenge = Challenge(protocol=PROTOCOL, nonce=secrets.token_hex(32))
        stream.send(challenge)
        hello = stream.read(_HELLO, HELLO_S, _HELLO_LIMIT_BYTES)
        said = _statement("hello", peer, keys.me, challenge.nonce, hello.nonce)
        if hello.to != keys.me.id or not peer.signed(bytes.fromhex(hello.signature), said):
            raise RefusedError(f"{peer.role} {peer.id} did not prove that it is, or meant another")
        said = _statement("welcome", keys.me, peer, challenge.nonce, hello.nonce)
        stream.send(Welcome(signature=keys.secret.sign(said).hex()))
    except (FrameError, PeerLostError) as error:
        sock.close()
        raise RefusedError(error.message) from None
    except BaseException:
        sock.close()
        raise
    return stream


class DeniedError(RunError):
    """A node answers with a refusal; ``code`` says why."""

    def __init__(self, node: str, code: Code) -> None:
        super().__init__(f"node {node} refused: {code}", _HINTS.get(code, ""))
        self.code = code


def granted(answer: T, node: str) -> T:
    """An answer that is no refusal; raises DeniedError."""
    if isinstance(answer, Refusal):
        raise DeniedError(node, answer.refused)
    return answer


_HINTS = {
    "unsigned": "sign the manifest with this deployment's keys: planner node sign",
    "stale_epoch": "the node has seen a newer plan; sign again: planner node sign",
    "expired": "sign the manifest again: planner node sign",
    "over_quota": "see planner node --help for the limits of a node",
    "no_such_blob": "the node needs weights that nobody has; name --checkpoint",
}


def _statement(what: str, who: Member, to: Member, challenge: str, nonce: str) -> bytes:
    """What is signed: nothing in it can be of another connection, deployment or direction."""
    return b"planner node protocol\0" + canonical(
        {
            "what": what,
            "deployment": who.deployment,
            "from": f"{who.role}/{who.id}",
            "to": f"{to.role}/{to.id}",
            "challenge": challenge,
            "nonce": nonce,
        }
    )


def _call_in_the_clear(to: Source) -> Stream:
    if not tls.is_loopback(to.host):
        raise RefusedError(f"without keys only this host is reached, not {to.host}")
    try:
        sock = socket.create_connection((to.host, to.port), timeout=tls.CONNECT_S)
    except OSError as error:
        raise RunError(
            f"nobody answers at {to.host}:{to.port}: {error.strerror or error}"
        ) from None
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Stream(sock, None)
