"""TLS between members of a deployment: version 1.3, both sides with a certificate.

What a certificate may say is checked twice: OpenSSL checks the chain to the deployment's own
authority and the dates, ``peer`` checks who it names and that the key is the pinned one.
"""

from __future__ import annotations

import ipaddress
import select
import socket
import ssl
import time

from cryptography import x509

from planner.core.errors import RunError
from planner.run.identity import CERTIFICATE, KEY, Keys, Member, member_of

HANDSHAKE_S = 5.0
CONNECT_S = 10.0
_KEEPALIVE = {"TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3}
_USER_TIMEOUT_MS = 5000


class RefusedError(RunError):
    """Somebody at the other end of a connection who is not whom it should be."""


def server_context(keys: Keys) -> ssl.SSLContext:
    """Accepts members of the deployment only."""
    context = _context(keys, ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # every connection is a handshake of its own
    return context


def client_context(keys: Keys) -> ssl.SSLContext:
    """Talks to members of the deployment only."""
    return _context(keys, ssl.PROTOCOL_TLS_CLIENT)


def dial(host: str, port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    """A TLS connection whose other end holds a certificate of the deployment; raises RunError."""
    try:
        raw = socket.create_connection((host, port), timeout=CONNECT_S)
    except OSError as error:
        raise RunError(f"nobody answers at {host}:{port}: {error.strerror or error}") from None
    return handshake(raw, context, server=False)


def handshake(raw: socket.socket, context: ssl.SSLContext, *, server: bool) -> ssl.SSLSocket:
    """The connection with TLS on it; it is closed and RefusedError raised where that fails."""
    deadline_s = time.monotonic() + HANDSHAKE_S
    secure = None
    try:
        raw.settimeout(HANDSHAKE_S)
        keep_alive(raw)
        secure = context.wrap_socket(raw, server_side=server, do_handshake_on_connect=False)
        _finish(secure, deadline_s)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        (secure or raw).close()
        raise RefusedError(f"no secure connection: {_reason(error)}") from None
    return secure


def peer(sock: ssl.SSLSocket) -> Member:
    """Who is at the other end, by its certificate; raises RefusedError."""
    data = sock.getpeercert(binary_form=True)
    if data is None:
        raise RefusedError("the other end showed no certificate")
    try:
        return member_of(x509.load_der_x509_certificate(data))
    except (RunError, ValueError) as error:
        raise RefusedError(str(error)) from None


def expect_node(found: Member, name: str, fingerprint: str) -> None:
    """Raises RefusedError unless a member is the node that was meant."""
    if (found.role, found.id) != ("node", name):
        raise RefusedError(f"{found.role} {found.id} answered where node {name} should")
    if found.fingerprint != fingerprint:
        raise RefusedError(f"node {name} has another key than the inventory pins")


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from its own host only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def keep_alive(sock: socket.socket) -> None:
    """Has the system notice a peer that went silent, whether or not data is under way."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)


def _context(keys: Keys, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # ids are no host names; ``expect_node`` compares them
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(keys.ca)
    context.load_cert_chain(keys.directory / CERTIFICATE, keys.directory / KEY)
    return context


def _finish(sock: ssl.SSLSocket, deadline_s: float) -> None:
    """The handshake, within a deadline for all of it and not for each message."""
    sock.setblocking(False)
    while True:
        try:
            sock.do_handshake()
            break
        except ssl.SSLWantReadError:
            _wait(sock, deadline_s, write=False)
        except ssl.SSLWantWriteError:
            _wait(sock, deadline_s, write=True)
    sock.setblocking(True)


def _wait(sock: ssl.SSLSocket, deadline_s: float, *, write: bool) -> None:
    left_s = deadline_s - time.monotonic()
    poll = select.poll()
    poll.register(sock, select.POLLOUT if write else select.POLLIN)
    if left_s <= 0 or not poll.poll(left_s * 1e3):
        raise TimeoutError(f"the handshake took longer than {HANDSHAKE_S:g} s")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return getattr(error, "reason", None) or str(error)
