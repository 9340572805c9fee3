"""The certificate of the API: a given one examined, or a self-signed one made and kept."""

from __future__ import annotations

import ipaddress
import logging
import os
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from callreel.base.errors import UsageError
from callreel.journal.durable import sync_folder

log = logging.getLogger(__name__)

VALID_FOR = timedelta(days=825)
"""Of a self-signed certificate: the longest that every platform takes."""
RENEW_BEFORE = timedelta(days=30)
"""A self-signed certificate that ends sooner is made anew."""
_CLOCKS_DIFFER_BY = timedelta(days=1)
_NOT_A_PAIR = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""What OpenSSL says to a key of another certificate; the last where it is of another type."""
_HERE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Files:
    """A certificate on disk."""

    chain: Path
    """PEM: the server's own certificate, then its issuers'."""
    key: Path
    """PEM: its private key, without a passphrase."""

    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Changes when either file is replaced or written to. Raises ``UsageError``."""
        try:
            states = (self.chain.stat(), self.key.stat())
        except OSError as error:
            raise UsageError(_unreadable(error)) from None
        return tuple((one.st_mtime_ns, one.st_ino, one.st_size) for one in states)


@dataclass(frozen=True, slots=True)
class Names:
    """What a self-signed certificate is to be valid for, besides this machine's loopback."""

    needed: frozenset[str] = frozenset()
    """Host names and IP addresses; a certificate that lacks one is made anew."""
    besides: frozenset[str] = frozenset()
    """Put into a new certificate, but no reason to make one: clients' trust is worth more."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A certificate that is fit to be served."""

    context: ssl.SSLContext
    """For new connections."""
    not_before: datetime
    """Valid from."""
    not_after: datetime
    """Valid until."""
    names: frozenset[str]
    """Host names and IP addresses that it is for, in lower case."""


def load(files: Files) -> Loaded:
    """Read a certificate and its key. Raises ``UsageError`` that names the file and the remedy."""
    chain = _read(files.chain)
    _read(files.key)
    try:
        own = x509.load_pem_x509_certificates(chain)[0]
        names = frozenset(_names_of(own))
    except ValueError:
        raise UsageError(
            f"{files.chain} holds no certificate in PEM form: give the server's own, then its "
            "issuers', each between BEGIN CERTIFICATE and END CERTIFICATE"
        ) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])

    def no_passphrase() -> str:
        raise UsageError(
            f"the key in {files.key} is encrypted; give it without a passphrase "
            f"(openssl pkey -in {files.key} -out …)"
        )

    try:
        # A callback even so: without one OpenSSL asks on the terminal.
        context.load_cert_chain(files.chain, files.key, password=no_passphrase)
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(_what_is_wrong(files, error)) from None
    return Loaded(context, own.not_valid_before_utc, own.not_valid_after_utc, names)


def self_signed(folder: Path, names: Names, *, now: datetime) -> Files:
    """The certificate kept in ``folder``: ``cert.pem`` is what clients are to trust.

    It is made where there is none, where it ends soon, lacks a needed name or is damaged; otherwise
    it stays, so that whoever trusts it goes on doing so. Raises ``UsageError`` where the folder
    cannot be used.
    """
    files = Files(folder / "cert.pem", folder / "key.pem")
    try:
        if not files.chain.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(files, names, now)
        elif fault := _fault(files, names, now):
            _make(files, names, now)
            log.warning(
                "the self-signed certificate %s; a new one is in %s: give it to the clients that "
                "trusted the old one",
                fault,
                files.chain,
            )
    except OSError as error:
        raise UsageError(
            f"no certificate can be kept in {folder}: {error.strerror}; make the folder writable, "
            "or give a certificate with --tls-cert and --tls-key"
        ) from None
    return files


def _fault(files: Files, names: Names, now: datetime) -> str | None:
    """Why a kept certificate will not do; None if it will."""
    try:
        kept = load(files)
    except UsageError:
        return "was damaged"
    if lacking := sorted((names.needed | set(_HERE)) - kept.names):
        return f"lacked {', '.join(lacking)}"
    if kept.not_after - now < RENEW_BEFORE:
        return f"was valid until {kept.not_after:%Y-%m-%d} only"
    return None


def _make(files: Files, names: Names, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # Of several servers' certificates in one trust store each has a subject of its own.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"callreel {serial:x}"[:24])])
    public = key.public_key()
    all_names = sorted((names.needed | names.besides) - set(_HERE))
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        # Not a CA: whoever trusts it trusts this server and nothing that its key might sign.
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([_general(one) for one in (*_HERE, *all_names)]), False),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False),
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(now - _CLOCKS_DIFFER_BY)
        .not_valid_after(now + VALID_FOR - _CLOCKS_DIFFER_BY)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    certificate = builder.sign(key, hashes.SHA256())
    _write(
        files.key,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        mode=0o600,
    )
    # A crash in between leaves a pair that does not match, and that is made anew.
    _write(files.chain, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
    sync_folder(files.chain.parent)


def _write(path: Path, data: bytes, *, mode: int) -> None:
    """Appears whole, and is at no time readable by more than ``mode`` says."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    fresh.rename(path)


def _general(name: str) -> x509.GeneralName:
    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)


def _names_of(certificate: x509.Certificate) -> set[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    names = {one.lower() for one in found.get_values_for_type(x509.DNSName)}
    return names | {str(one) for one in found.get_values_for_type(x509.IPAddress)}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(_unreadable(error)) from None


def _unreadable(error: OSError) -> str:
    return (
        f"cannot read {error.filename}: {error.strerror}; the server's user has to be able to read "
        "what --tls-cert and --tls-key name"
    )


def _what_is_wrong(files: Files, error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    if b"PRIVATE KEY-----" not in _read(files.key):
        return (
            f"{files.key} holds no private key in PEM form, between BEGIN PRIVATE KEY and "
            "END PRIVATE KEY"
        )
    if reason in _NOT_A_PAIR:
        return (
            f"the key in {files.key} is not that of the first certificate in {files.chain}: the "
            "server's own comes first, its issuers after it"
        )
    return (
        f"OpenSSL does not take the certificate in {files.chain} with the key in {files.key}: "
        f"{reason}; issue it anew"
    )
