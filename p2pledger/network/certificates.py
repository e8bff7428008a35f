"""TLS between nodes that know each other by node keys, not by certificate authorities.

TLS is wanted for secrecy, integrity and the proof that the other end holds the key in its certificate. Who that is, is
none of its business: ``hello`` says so, signed by the node key over the hashes of both certificates (handshake.py).

Python's ``ssl`` cannot accept an unknown self-signed certificate and still hand it over: with verification on it
refuses, with verification off a server never asks for one. So every node signs its own certificate with the key of the
**open authority**, which is printed below, authenticates nothing, and only makes OpenSSL content. Anybody may use it.
The dates are as wide as X.509 allows, so that a skewed clock cannot keep a node out.

The transport key is fresh at every start of a process and never leaves its memory: OpenSSL can only read it from a
file, which is one in memory, or, where the system has none, a private one that is deleted at once.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["OPEN_AUTHORITY_SEED", "NodeCertificate", "open_authority"]

OPEN_AUTHORITY_SEED: Final = sha256(b"p2pledger open authority: this key is public and authenticates nothing").digest()
"""The private key of the open authority (an Ed25519 seed)."""

_AUTHORITY_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "p2pledger open authority")])
_NODE_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "p2pledger node")])
_FIRST_DAY: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_DAY: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # RFC 5280, 4.1.2.5: no well-defined end


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


@cache
def open_authority() -> x509.Certificate:
    """The certificate of the open authority: the same bytes everywhere, since Ed25519 signs without chance."""
    key = Ed25519PrivateKey.from_private_bytes(OPEN_AUTHORITY_SEED)
    return (
        x509.CertificateBuilder()
        .subject_name(_AUTHORITY_NAME)
        .issuer_name(_AUTHORITY_NAME)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(_FIRST_DAY)
        .not_valid_after(_LAST_DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, algorithm=None)
    )


@dataclass(frozen=True, slots=True)
class NodeCertificate:
    """One end of TLS: a certificate (DER) under the open authority, and the two contexts that present it.

    Both contexts speak TLS 1.3 only, demand a certificate, trust the open authority alone and check no names.
    """

    der: bytes
    server_context: ssl.SSLContext = field(repr=False)
    client_context: ssl.SSLContext = field(repr=False)

    @classmethod
    def fresh(cls) -> NodeCertificate:
        """With a transport key of its own, drawn from the operating system."""
        return cls.of(Ed25519PrivateKey.generate())

    @classmethod
    def of(cls, key: Ed25519PrivateKey) -> NodeCertificate:
        authority = open_authority()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_NODE_NAME)
            .issuer_name(_AUTHORITY_NAME)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_FIRST_DAY)
            .not_valid_after(_LAST_DAY)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),  # type: ignore[arg-type]
                critical=False,
            )
            .sign(Ed25519PrivateKey.from_private_bytes(OPEN_AUTHORITY_SEED), algorithm=None)
        )
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        chain = secret + certificate.public_bytes(Encoding.PEM)
        server, client = _context(ssl.PROTOCOL_TLS_SERVER), _context(ssl.PROTOCOL_TLS_CLIENT)
        server.num_tickets = 0  # Without tickets nothing is resumed: every session proves its keys anew.
        _load(chain, server, client)
        return cls(certificate.public_bytes(Encoding.DER), server, client)


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=open_authority().public_bytes(Encoding.DER))
    return context


def _load(chain: bytes, *contexts: ssl.SSLContext) -> None:
    """Let contexts read key and certificate from a file that nobody else can open, gone when this returns."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        descriptor = os.memfd_create("p2pledger-transport-key", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, chain)
            for context in contexts:
                context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryDirectory(prefix="p2pledger-") as folder:  # mode 0700
        path = Path(folder) / "transport.pem"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(chain)
        for context in contexts:
            context.load_cert_chain(path)
