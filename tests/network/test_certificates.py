"""The open authority: the same everywhere, accepted by TLS 1.3 on both sides, and nobody else is."""

import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from p2pledger.network import certificates
from p2pledger.network.certificates import NodeCertificate, open_authority

Ends = tuple[ssl.SSLObject, ssl.SSLObject]


def shake_hands(client_context: ssl.SSLContext, server_context: ssl.SSLContext) -> Ends:
    """TLS in memory, to its end or to the error of the side that refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
        if not waiting:
            return client, server
    raise AssertionError("TLS never came to an end")


def test_the_authority_is_the_same_in_every_process() -> None:
    first = open_authority().public_bytes(Encoding.DER)
    open_authority.cache_clear()
    assert open_authority().public_bytes(Encoding.DER) == first


def test_dates_are_as_wide_as_they_can_be() -> None:
    for certificate in (open_authority(), x509.load_der_x509_certificate(NodeCertificate.fresh().der)):
        assert certificate.not_valid_before_utc.year == 1970
        assert certificate.not_valid_after_utc.year == 9999


def test_both_sides_see_each_other_s_certificate_over_tls_1_3() -> None:
    alice, bob = NodeCertificate.fresh(), NodeCertificate.fresh()
    client, server = shake_hands(alice.client_context, bob.server_context)
    assert client.version() == server.version() == "TLSv1.3"
    assert client.getpeercert(binary_form=True) == bob.der
    assert server.getpeercert(binary_form=True) == alice.der


def test_transport_keys_are_fresh() -> None:
    assert NodeCertificate.fresh().der != NodeCertificate.fresh().der


def test_a_client_without_a_certificate_is_refused() -> None:
    bob = NodeCertificate.fresh()
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake_hands(bare, bob.server_context)


def test_older_tls_is_refused() -> None:
    alice, bob = NodeCertificate.fresh(), NodeCertificate.fresh()
    old = alice.client_context
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake_hands(old, bob.server_context)


def test_a_certificate_of_another_authority_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = NodeCertificate.fresh()
    monkeypatch.setattr(certificates, "OPEN_AUTHORITY_SEED", bytes(32))
    open_authority.cache_clear()
    try:
        stranger = NodeCertificate.fresh()
    finally:
        monkeypatch.undo()
        open_authority.cache_clear()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(stranger.client_context, honest.server_context)


def test_nothing_is_resumed() -> None:
    """A resumed session would not prove its keys again."""
    alice, bob = NodeCertificate.fresh(), NodeCertificate.fresh()
    client, _ = shake_hands(alice.client_context, bob.server_context)
    assert bob.server_context.num_tickets == 0
    assert client.session is None or not client.session.has_ticket


def test_without_files_in_memory_the_key_passes_through_a_private_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[int] = []
    load = ssl.SSLContext.load_cert_chain

    def spy(context: ssl.SSLContext, path: Path) -> None:
        seen.append(Path(path).stat().st_mode & 0o777)
        load(context, path)

    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spy)
    own = NodeCertificate.of(Ed25519PrivateKey.generate())
    assert seen == [0o600, 0o600]
    assert list(tmp_path.iterdir()) == []
    shake_hands(own.client_context, own.server_context)
