"""Identity: a deployment's certificate authority and the keys of its members.

Keys are Ed25519. A member's certificate names it in one URI,
``planner://DEPLOYMENT/ROLE/ID``, and is signed by the deployment's own authority, so that nobody
else's certificate means anything here.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from planner.core.errors import FileProblem, InvalidFileError, RunError

Role = Literal["node", "coordinator"]

CA, CERTIFICATE, KEY = "ca.pem", "member.pem", "member.key"
"""Names of the files in a member's key directory."""
_CA_KEY = "ca.key"
_NAME = re.compile(
    r"planner://(?P<deployment>[0-9a-f]{16})/(?P<role>node|coordinator)/"
    r"(?P<id>[A-Za-z0-9][A-Za-z0-9._-]{0,127})"
)
_CLOCK_SLACK = datetime.timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Member:
    """Who a certificate says its holder is."""

    deployment: str
    role: Role
    id: str
    fingerprint: str
    """SHA-256 of the public key (its SubjectPublicKeyInfo), in hexadecimal digits."""
    key: Ed25519PublicKey

    def signed(self, signature: bytes, message: bytes) -> bool:
        """Whether the holder signed a message."""
        return verified(self.key, signature, message)


@dataclass(frozen=True, slots=True)
class Keys:
    """A member's own key and certificates, as files and loaded."""

    directory: Path
    me: Member
    authority: Ed25519PublicKey
    """Of the deployment: it signs members and plans."""
    secret: Ed25519PrivateKey

    @property
    def ca(self) -> Path:
        """Certificate of the authority."""
        return self.directory / CA


@dataclass(frozen=True, slots=True)
class Authority:
    """The deployment's own certificate authority; its key stays with the operator."""

    directory: Path
    certificate: x509.Certificate
    key: Ed25519PrivateKey

    @property
    def deployment(self) -> str:
        """Random name of the deployment."""
        (name,) = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(name.value)

    def admit(self, role: Role, name: str, days: float) -> Member:
        """Makes a member's keys in a directory of its name; raises RunError if it has some."""
        folder = self.directory / name
        if (folder / KEY).exists():
            raise RunError(f"{folder} holds keys already", "remove the directory to make new ones")
        key = Ed25519PrivateKey.generate()
        certificate = _certificate(self, key, role, name, days)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_key(folder / KEY, key)
        _write(folder / CERTIFICATE, _pem(certificate))
        _write(folder / CA, _pem(self.certificate))
        return member_of(certificate)


def new_authority(directory: Path, days: float) -> Authority:
    """Makes a deployment's authority in ``directory``, or opens the one that is there."""
    if (directory / _CA_KEY).exists():
        return open_authority(directory)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, secrets.token_hex(8))])
    certificate = (
        _builder(name, name, key, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=False, certifies=True), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
        .sign(key, None)
    )
    _write_key(directory / _CA_KEY, key)
    _write(directory / CA, _pem(certificate))
    return Authority(directory, certificate, key)


def read_keys(directory: Path) -> Keys:
    """A member's keys; raises InvalidFileError for files that do not belong together."""
    secret = _read_key(directory / KEY)
    certificate = _read_certificate(directory / CERTIFICATE)
    authority = _read_certificate(directory / CA).public_key()
    me = member_of(certificate)
    if me.key != secret.public_key() or not isinstance(authority, Ed25519PublicKey):
        problem = FileProblem(str(directory), f"{CERTIFICATE}, {KEY} and {CA} do not fit together")
        raise InvalidFileError([problem], _MADE_BY)
    return Keys(directory, me, authority, secret)


def member_of(certificate: x509.Certificate) -> Member:
    """Who a certificate names; raises RunError where it names nobody of a deployment."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        (uri,) = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        uri = ""
    named = _NAME.fullmatch(uri)
    key = certificate.public_key()
    if named is None or not isinstance(key, Ed25519PublicKey):
        raise RunError("a certificate names no member of a deployment")
    role = cast(Role, named["role"])
    return Member(named["deployment"], role, named["id"], fingerprint(key), key)


def fingerprint(key: Ed25519PublicKey) -> str:
    """SHA-256 of a public key's SubjectPublicKeyInfo, in hexadecimal digits."""
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(encoding, form)).hexdigest()


def verified(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    """Whether ``signature`` is that key's of ``message``."""
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


_MADE_BY = "planner node init DIR makes a deployment's keys"


def open_authority(directory: Path) -> Authority:
    """A deployment's authority; raises InvalidFileError."""
    certificate = _read_certificate(directory / CA)
    return Authority(directory, certificate, _read_key(directory / _CA_KEY))


def _certificate(
    authority: Authority, key: Ed25519PrivateKey, role: Role, name: str, days: float
) -> x509.Certificate:
    uri = f"planner://{authority.deployment}/{role}/{name}"
    if _NAME.fullmatch(uri) is None:
        raise RunError(f"{name!r} is no id of a node", "use letters, digits, dots, - and _")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    issuer = authority.key.public_key()
    return (
        _builder(subject, authority.certificate.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=True, certifies=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
        .sign(authority.key, None)
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Ed25519PrivateKey, days: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, now + datetime.timedelta(days=days)) - _CLOCK_SLACK)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(signs: bool, certifies: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        key_cert_sign=certifies,
        crl_sign=certifies,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write_key(path: Path, key: Ed25519PrivateKey) -> None:
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(path, text, mode=0o600)


def _write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Makes a new file that is never readable by more than ``mode`` says."""
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
        file.write(data)


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _read_key(path: Path) -> Ed25519PrivateKey:
    try:
        if path.stat().st_mode & 0o077:
            raise ValueError("others may read it; chmod 600")
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _unreadable(path, "is no Ed25519 key")
    return key


def _unreadable(path: Path, error: object) -> InvalidFileError:
    reason = getattr(error, "strerror", None) or str(error)
    return InvalidFileError([FileProblem(str(path), f"cannot be used: {reason}")], _MADE_BY)
