"""Who is at the other end: the first two frames each way (docs/protocol.md, section 9).

    both sides          hello    = [1, [wire_version, ...], network_id, genesis_hash, node_key, role, name, signature]
    then both sides     accept   = [2, wire_version]        or   refuse = [3, code, sentence], and the session ends

TLS has proved that the other end holds the key of the certificate it showed. ``hello`` is signed with the node key over
the genesis, the role and the hashes of *both* certificates, so it is worth nothing in any other TLS session: somebody
in the middle, or who kept an old one, shows another certificate, and the signature does not fit. A ``hello`` that comes
back to its sender carries the sender's own key, and is refused for that.

A session is open when ``accept`` was both sent and received. Until then nothing else is read. What is checked, in this
order, with the code of the refusal:

    form                              malformed, unknown_role
    a wire version in common          unknown_wire_version
    network and genesis               wrong_network, wrong_genesis
    not oneself, not somebody else    own_key, wrong_peer (the one who was called has another key)
    signature                         bad_signature
    admission                         as the callable says: unknown_node, duplicate_session, ...
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from p2pledger.network.effects import CLIENT, OBSERVER, VALIDATOR, Identity
from p2pledger.network.frames import HANDSHAKE_LIMIT_BYTES
from p2pledger.primitives.codec import Fields, decode, encode
from p2pledger.primitives.errors import InvalidInput, P2PLedgerError, PeerFault
from p2pledger.primitives.hashing import HELLO_TAG
from p2pledger.primitives.keys import Keypair, verify

__all__ = [
    "WIRE_VERSIONS",
    "Accept",
    "Admission",
    "Handshake",
    "Hello",
    "LocalEnd",
    "Refuse",
    "Refused",
    "decode_handshake",
    "hello_message",
]

WIRE_VERSIONS: Final = (1,)
"""What this program speaks, the best first."""
_MAX_WIRE_VERSIONS: Final = 32
_MAX_NAME_BYTES: Final = 64
_MAX_SENTENCE_BYTES: Final = 512
_CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")

Admission = Callable[[Identity], tuple[str, str] | None]
"""None for welcome, else the code and the sentence of a refusal. Called once the signature holds."""


class Refused(P2PLedgerError):
    """The other end does not want this session. ``code`` and ``what`` are its own words."""

    code = "refused"
    exit_code = 4


@dataclass(frozen=True, slots=True)
class Hello:
    wire_versions: tuple[int, ...]
    network_id: bytes
    genesis_hash: bytes
    node_key: bytes
    role: int
    name: str
    signature: bytes

    def encode(self) -> bytes:
        return encode(
            (
                1,
                self.wire_versions,
                self.network_id,
                self.genesis_hash,
                self.node_key,
                self.role,
                self.name,
                self.signature,
            )
        )


@dataclass(frozen=True, slots=True)
class Accept:
    wire_version: int

    def encode(self) -> bytes:
        return encode((2, self.wire_version))


@dataclass(frozen=True, slots=True)
class Refuse:
    refusal_code: str
    sentence: str

    def encode(self) -> bytes:
        sentence = self.sentence.encode()[:_MAX_SENTENCE_BYTES].decode(errors="ignore")
        return encode((3, self.refusal_code, sentence))


def decode_handshake(payload: bytes) -> Hello | Accept | Refuse:
    """PeerFault ``malformed`` for everything that does not belong into a handshake."""
    values = decode(payload, limit_bytes=HANDSHAKE_LIMIT_BYTES, what="handshake")
    kind = values[0] if type(values) is tuple and values else None
    if type(kind) is not int or kind not in (1, 2, 3):
        raise PeerFault("the frame is no part of a handshake", code="malformed")
    if kind == 1:
        fields = Fields(values, what="hello", count=8, version=1)
        versions = fields.array("wire_versions", most=_MAX_WIRE_VERSIONS)
        if any(type(version) is not int for version in versions):
            raise PeerFault("field wire_versions of hello is not an array of integers", code="malformed")
        return Hello(
            versions,
            fields.binary("network_id", 8),
            fields.binary("genesis_hash", 32),
            fields.binary("node_key", 32),
            fields.integer("role"),
            fields.text("name", most=_MAX_NAME_BYTES),
            fields.binary("signature", 64),
        )
    if kind == 2:
        return Accept(Fields(values, what="accept", count=2, version=2).integer("wire_version"))
    fields = Fields(values, what="refuse", count=3, version=3)
    code, sentence = fields.text("code", most=64), fields.text("sentence", most=_MAX_SENTENCE_BYTES)
    if not _CODE.fullmatch(code):
        raise PeerFault("the code of refuse is no code", code="malformed")
    return Refuse(code, sentence)


def hello_message(genesis_hash: bytes, role: int, own_certificate: bytes, peer_certificate: bytes) -> bytes:
    """The bytes that ``hello`` signs. Certificates in DER, as the *sender* of hello sees them."""
    hashes = sha256(own_certificate).digest(), sha256(peer_certificate).digest()
    return HELLO_TAG + encode((genesis_hash, role, *hashes))


@dataclass(frozen=True, slots=True)
class LocalEnd:
    """What a program says of itself in every ``hello``. ``role`` is VALIDATOR, OBSERVER or CLIENT."""

    genesis_hash: bytes
    keypair: Keypair
    role: int
    name: str

    def __post_init__(self) -> None:
        if len(self.name.encode()) > _MAX_NAME_BYTES:
            raise InvalidInput(f"name {self.name!r} is too long", why=f"at most {_MAX_NAME_BYTES} bytes are told")


class Handshake:
    """One side of one handshake, without its bytes.

    Send ``hello()``; give each payload that comes to ``receive`` and send what it returns, until ``identity`` is
    there. PeerFault: this side refuses, and ought to say so with ``refusal``. Refused: the other side did.
    ``claimed`` is who the other end says it is, proved or not, for the log.
    """

    __slots__ = (
        "_admit",
        "_certificate",
        "_expected_key",
        "_local",
        "_peer_certificate",
        "_proved",
        "claimed",
        "identity",
    )

    def __init__(
        self,
        local: LocalEnd,
        *,
        certificate: bytes,
        peer_certificate: bytes,
        admit: Admission,
        expected_key: bytes | None = None,
    ) -> None:
        """``expected_key`` is the node key of the one who was called, where there is one."""
        self._local = local
        self._certificate = certificate
        self._peer_certificate = peer_certificate
        self._admit = admit
        self._expected_key = expected_key
        self._proved: Identity | None = None
        self.claimed: Hello | None = None
        self.identity: Identity | None = None

    def hello(self) -> bytes:
        local = self._local
        message = hello_message(local.genesis_hash, local.role, self._certificate, self._peer_certificate)
        return Hello(
            WIRE_VERSIONS,
            local.genesis_hash[:8],
            local.genesis_hash,
            local.keypair.public_key,
            local.role,
            local.name,
            local.keypair.sign(message),
        ).encode()

    def receive(self, payload: bytes) -> bytes | None:
        """The answer to send, if there is one."""
        assert self.identity is None, "the handshake is over"
        message = decode_handshake(payload)
        if self._proved is None:
            if isinstance(message, Refuse):
                raise Refused(message.sentence, code=message.refusal_code)
            if not isinstance(message, Hello):
                raise PeerFault("the first frame is not hello", code="malformed")
            self.claimed = message
            version = self._check(message)
            self._proved = Identity(message.node_key, message.role, message.name)
            return Accept(version).encode()
        match message:
            case Refuse(code, sentence):
                raise Refused(sentence, code=code)
            case Accept(version):
                if version not in WIRE_VERSIONS:
                    raise PeerFault(f"accept names wire version {version}", code="unknown_wire_version")
                self.identity = self._proved
                return None
            case _:
                raise PeerFault("hello came twice", code="malformed")

    def _check(self, hello: Hello) -> int:
        """The wire version to speak."""
        local = self._local
        if hello.role not in (VALIDATOR, OBSERVER, CLIENT):
            raise PeerFault(f"role {hello.role} is unknown", code="unknown_role")
        version = next((version for version in WIRE_VERSIONS if version in hello.wire_versions), None)
        if version is None:
            offered = ", ".join(map(str, hello.wire_versions)) or "none"
            spoken = ", ".join(map(str, WIRE_VERSIONS))
            raise PeerFault(
                f"no wire version in common: {spoken} is spoken here, offered: {offered}", code="unknown_wire_version"
            )
        if hello.network_id != local.genesis_hash[:8]:
            raise PeerFault(
                f"this is network {local.genesis_hash[:8].hex()}, not {hello.network_id.hex()}", code="wrong_network"
            )
        if hello.genesis_hash != local.genesis_hash:
            raise PeerFault(
                f"the genesis here is {local.genesis_hash.hex()}, not {hello.genesis_hash.hex()}", code="wrong_genesis"
            )
        if hello.node_key == local.keypair.public_key:
            raise PeerFault("both ends have the same node key", code="own_key")
        if self._expected_key is not None and hello.node_key != self._expected_key:
            raise PeerFault(
                f"the node has key {hello.node_key.hex()}; {self._expected_key.hex()} was called", code="wrong_peer"
            )
        # As the other side saw them: its own certificate first.
        message = hello_message(local.genesis_hash, hello.role, self._peer_certificate, self._certificate)
        if not verify(hello.node_key, hello.signature, message):
            raise PeerFault("the signature of hello is not valid for this TLS session", code="bad_signature")
        refusal = self._admit(Identity(hello.node_key, hello.role, hello.name))
        if refusal is not None:
            code, sentence = refusal
            raise PeerFault(sentence, code=code)
        return version

    @staticmethod
    def refusal(fault: PeerFault) -> bytes:
        """The frame that tells the other end why it is refused."""
        return Refuse(fault.code, fault.what).encode()
