"""Certificates as an operator would be issued them."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from callreel.server.certificate import Files

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def an_ec_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def an_rsa_key(bits: int = 2048) -> Key:
    return rsa.generate_private_key(65537, bits)


def pem_key(key: Key, passphrase: bytes | None = None) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption(),
    )


class Authority:
    """A private certificate authority."""

    def __init__(self, folder: Path, now: datetime) -> None:
        self.folder, self.now = folder, now
        self._key = an_ec_key()
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority of tests")])
        root = (
            self._builder(self._name, self._key, until=now + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(root.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, name: str = "issued", key: Key | None = None, until: datetime | None = None
    ) -> Files:
        """A certificate for 127.0.0.1, its issuer's after it, and its key, in two files."""
        key = key or an_ec_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        until = until or self.now + timedelta(days=90)
        own = (
            self._builder(subject, key, until)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        files = Files(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        pem = own.public_bytes(serialization.Encoding.PEM)
        files.chain.write_bytes(pem + self.ca_file.read_bytes())
        files.key.write_bytes(pem_key(key))
        return files

    def _builder(self, subject: x509.Name, key: Key, until: datetime) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(self.now, until) - timedelta(days=1))
            .not_valid_after(until)
        )
