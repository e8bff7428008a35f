"""Messages between nodes, and between a client and a node: the payload of each frame (docs/protocol.md, section 9).

Each message is a frozen value with a type number; ``encode`` and ``decode_message`` are the only two ways in and out.
Objects that are hashed or signed (blocks, votes, batches) travel as bytes, so that their receiver can hash what it got.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, TypeAlias

from p2pledger.primitives.codec import Fields, Value, decode, encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.hashing import PAYLOAD_HEAD_TAG, PAYLOAD_TAG, ZERO_HASH, tagged_hash
from p2pledger.primitives.reasons import MOST_RULE_BYTES

__all__ = [
    "MAX_ADDRESSES",
    "MAX_MESSAGE_BYTES",
    "MAX_PAYLOAD_BYTES",
    "MAX_PAYLOAD_IDS",
    "MAX_SMALL_PAYLOAD_BYTES",
    "PIECE_BYTES",
    "Addresses",
    "Answer",
    "BatchMessage",
    "BlockMessage",
    "Branch",
    "CertificateMessage",
    "Chain",
    "Follow",
    "HavePayloads",
    "MeshLink",
    "Message",
    "MissingBatches",
    "Payload",
    "PayloadHead",
    "Piece",
    "Progress",
    "ProgressStatus",
    "ProposalMessage",
    "Query",
    "Rules",
    "Settled",
    "Status",
    "Submit",
    "Submitted",
    "VoteMessage",
    "WantAddresses",
    "WantBatches",
    "WantBlocks",
    "WantBranch",
    "WantCertificates",
    "WantChain",
    "WantPayload",
    "decode_message",
    "head_id",
    "payload_id",
]

MAX_MESSAGE_BYTES: Final = 1_048_576
MAX_SMALL_PAYLOAD_BYTES: Final = 16_384
"""A payload up to this size is sent whole; of a larger one, pieces."""
PIECE_BYTES: Final = 65_536
MAX_PAYLOAD_BYTES: Final = 256 * PIECE_BYTES
MAX_PAYLOAD_IDS: Final = 1_024
"""In one announcement."""
MAX_ADDRESSES: Final = 256
"""In one answer."""
Rules: TypeAlias = tuple[tuple[int, str], ...]
"""(index of a transaction, name of the rule that refused it), by index; only where one was named."""
_MAX_DIGESTS: Final = 64
_MAX_BLOCKS: Final = 1_024
_MAX_SUBMITTED: Final = 4_096


@dataclass(frozen=True, slots=True)
class Message:
    """Base of all messages. ``type`` is the first field of the encoded array, ``count`` the number of fields."""

    type: ClassVar[int]
    count: ClassVar[int]

    def values(self) -> tuple[Value, ...]:
        raise NotImplementedError

    def encode(self) -> bytes:
        return encode((self.type, *self.values()))

    @classmethod
    def read(cls, fields: Fields) -> Message:
        raise NotImplementedError


# --- between nodes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BatchMessage(Message):
    """A signed batch, streamed by its maker or sent on request."""

    type: ClassVar[int] = 10
    count: ClassVar[int] = 2
    data: bytes

    def values(self) -> tuple[Value, ...]:
        return (self.data,)

    @classmethod
    def read(cls, fields: Fields) -> BatchMessage:
        return cls(fields.binary("data"))


@dataclass(frozen=True, slots=True)
class WantBatches(Message):
    """Asks for batches by digest; answered by BatchMessage or MissingBatches for each."""

    type: ClassVar[int] = 11
    count: ClassVar[int] = 2
    digests: tuple[bytes, ...]

    def values(self) -> tuple[Value, ...]:
        return (self.digests,)

    @classmethod
    def read(cls, fields: Fields) -> WantBatches:
        return cls(fields.binaries("digests", 32, most=_MAX_DIGESTS))


@dataclass(frozen=True, slots=True)
class ProposalMessage(Message):
    """A block with its leader's notarise vote."""

    type: ClassVar[int] = 12
    count: ClassVar[int] = 3
    block: bytes
    vote: bytes

    def values(self) -> tuple[Value, ...]:
        return (self.block, self.vote)

    @classmethod
    def read(cls, fields: Fields) -> ProposalMessage:
        return cls(fields.binary("block"), fields.binary("vote"))


@dataclass(frozen=True, slots=True)
class VoteMessage(Message):
    type: ClassVar[int] = 13
    count: ClassVar[int] = 2
    vote: bytes

    def values(self) -> tuple[Value, ...]:
        return (self.vote,)

    @classmethod
    def read(cls, fields: Fields) -> VoteMessage:
        return cls(fields.binary("vote"))


@dataclass(frozen=True, slots=True)
class CertificateMessage(Message):
    type: ClassVar[int] = 14
    count: ClassVar[int] = 2
    certificate: bytes

    def values(self) -> tuple[Value, ...]:
        return (self.certificate,)

    @classmethod
    def read(cls, fields: Fields) -> CertificateMessage:
        return cls(fields.binary("certificate"))


@dataclass(frozen=True, slots=True)
class WantCertificates(Message):
    """Asks for the certificates of views ``from_view .. to_view``."""

    type: ClassVar[int] = 15
    count: ClassVar[int] = 3
    from_view: int
    to_view: int

    def values(self) -> tuple[Value, ...]:
        return (self.from_view, self.to_view)

    @classmethod
    def read(cls, fields: Fields) -> WantCertificates:
        return cls(fields.integer("from_view"), fields.integer("to_view"))


@dataclass(frozen=True, slots=True)
class WantBlocks(Message):
    """Asks for blocks by id; answered by BlockMessage for those that are there."""

    type: ClassVar[int] = 16
    count: ClassVar[int] = 2
    ids: tuple[bytes, ...]

    def values(self) -> tuple[Value, ...]:
        return (self.ids,)

    @classmethod
    def read(cls, fields: Fields) -> WantBlocks:
        return cls(fields.binaries("ids", 32, most=_MAX_BLOCKS))


@dataclass(frozen=True, slots=True)
class BlockMessage(Message):
    """A block: the answer to WantBlocks, and in the chain family an announcement, which nobody has asked for."""

    type: ClassVar[int] = 17
    count: ClassVar[int] = 2
    block: bytes

    def values(self) -> tuple[Value, ...]:
        return (self.block,)

    @classmethod
    def read(cls, fields: Fields) -> BlockMessage:
        return cls(fields.binary("block"))


@dataclass(frozen=True, slots=True)
class Status(Message):
    """Where a node stands: sent when a session opens, and when a peer asks for what it should have by now.

    ``head`` is the newest executed block of the chain that the node follows, which need not be final.
    """

    type: ClassVar[int] = 18
    count: ClassVar[int] = 6
    final_height: int
    final_block: bytes
    view: int
    head_height: int = 0
    head: bytes = ZERO_HASH

    def values(self) -> tuple[Value, ...]:
        return (self.final_height, self.final_block, self.view, self.head_height, self.head)

    @classmethod
    def read(cls, fields: Fields) -> Status:
        final_height, final_block = fields.integer("final_height"), fields.binary("final_block", 32)
        view, head_height = fields.integer("view"), fields.integer("head_height")
        return cls(final_height, final_block, view, head_height, fields.binary("head", 32))


@dataclass(frozen=True, slots=True)
class WantChain(Message):
    """Asks for final blocks from a height on, at most ``limit`` of them."""

    type: ClassVar[int] = 19
    count: ClassVar[int] = 3
    from_height: int
    limit: int

    def values(self) -> tuple[Value, ...]:
        return (self.from_height, self.limit)

    @classmethod
    def read(cls, fields: Fields) -> WantChain:
        return cls(fields.integer("from_height"), fields.integer("limit"))


@dataclass(frozen=True, slots=True)
class Chain(Message):
    """Final blocks in order of height, and a finalisation certificate of the last one, which proves them all.

    In the chain family there is no certificate (the field is empty): each block is judged as if it had been announced.
    """

    type: ClassVar[int] = 20
    count: ClassVar[int] = 3
    blocks: tuple[bytes, ...]
    certificate: bytes

    def values(self) -> tuple[Value, ...]:
        return (self.blocks, self.certificate)

    @classmethod
    def read(cls, fields: Fields) -> Chain:
        return cls(fields.binaries("blocks", most=_MAX_BLOCKS), fields.binary("certificate"))


@dataclass(frozen=True, slots=True)
class MissingBatches(Message):
    """The peer does not hold these batches (any more): ask somebody else."""

    type: ClassVar[int] = 21
    count: ClassVar[int] = 2
    digests: tuple[bytes, ...]

    def values(self) -> tuple[Value, ...]:
        return (self.digests,)

    @classmethod
    def read(cls, fields: Fields) -> MissingBatches:
        return cls(fields.binaries("digests", 32, most=_MAX_DIGESTS))


@dataclass(frozen=True, slots=True)
class WantBranch(Message):
    """Asks for a block and its ancestors, newest first, at most ``limit``; answered by Branch. (Chain family.)"""

    type: ClassVar[int] = 22
    count: ClassVar[int] = 3
    block: bytes
    limit: int

    def values(self) -> tuple[Value, ...]:
        return (self.block, self.limit)

    @classmethod
    def read(cls, fields: Fields) -> WantBranch:
        return cls(fields.binary("block", 32), fields.integer("limit"))


@dataclass(frozen=True, slots=True)
class Branch(Message):
    """Blocks, each the parent of the one before it; none where the wanted one is not held. (Chain family.)"""

    type: ClassVar[int] = 23
    count: ClassVar[int] = 2
    blocks: tuple[bytes, ...]

    def values(self) -> tuple[Value, ...]:
        return (self.blocks,)

    @classmethod
    def read(cls, fields: Fields) -> Branch:
        return cls(fields.binaries("blocks", most=_MAX_BLOCKS))


# --- relaying -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Payload(Message):
    """A small payload, whole. ``topic`` says what it is; its id is ``payload_id(topic, data)``."""

    type: ClassVar[int] = 40
    count: ClassVar[int] = 3
    topic: int
    data: bytes

    def values(self) -> tuple[Value, ...]:
        return (self.topic, self.data)

    @classmethod
    def read(cls, fields: Fields) -> Payload:
        return cls(fields.integer("topic", most=255), fields.binary("data", most=MAX_SMALL_PAYLOAD_BYTES))


@dataclass(frozen=True, slots=True)
class PayloadHead(Message):
    """Of a large payload what its pieces are to be: its id is the hash of this (``head_id``). The pieces follow."""

    type: ClassVar[int] = 41
    count: ClassVar[int] = 4
    topic: int
    size_bytes: int
    pieces: bytes
    """32 bytes a piece: the SHA-256 of each."""

    def values(self) -> tuple[Value, ...]:
        return (self.topic, self.size_bytes, self.pieces)

    @classmethod
    def read(cls, fields: Fields) -> PayloadHead:
        topic, size_bytes = fields.integer("topic", most=255), fields.integer("size_bytes", most=MAX_PAYLOAD_BYTES)
        pieces = fields.binary("pieces", most=32 * (MAX_PAYLOAD_BYTES // PIECE_BYTES))
        if size_bytes <= MAX_SMALL_PAYLOAD_BYTES or len(pieces) != 32 * -(-size_bytes // PIECE_BYTES):
            raise PeerFault("a payload's head does not have the pieces of its size", code="malformed")
        return cls(topic, size_bytes, pieces)


@dataclass(frozen=True, slots=True)
class Piece(Message):
    """One piece of a large payload: 64 KiB, the last one what is left."""

    type: ClassVar[int] = 42
    count: ClassVar[int] = 4
    id: bytes
    index: int
    data: bytes

    def values(self) -> tuple[Value, ...]:
        return (self.id, self.index, self.data)

    @classmethod
    def read(cls, fields: Fields) -> Piece:
        return cls(fields.binary("id", 32), fields.integer("index"), fields.binary("data", most=PIECE_BYTES))


@dataclass(frozen=True, slots=True)
class HavePayloads(Message):
    """These the sender has: who lacks one may want it, and nobody needs to send it here."""

    type: ClassVar[int] = 43
    count: ClassVar[int] = 2
    ids: tuple[bytes, ...]

    def values(self) -> tuple[Value, ...]:
        return (self.ids,)

    @classmethod
    def read(cls, fields: Fields) -> HavePayloads:
        return cls(fields.binaries("ids", 32, most=MAX_PAYLOAD_IDS))


@dataclass(frozen=True, slots=True)
class WantPayload(Message):
    """Asks for a payload that was announced; of a large one from a piece on, 0 for the head too."""

    type: ClassVar[int] = 44
    count: ClassVar[int] = 3
    id: bytes
    first: int

    def values(self) -> tuple[Value, ...]:
        return (self.id, self.first)

    @classmethod
    def read(cls, fields: Fields) -> WantPayload:
        return cls(fields.binary("id", 32), fields.integer("first", most=MAX_PAYLOAD_BYTES // PIECE_BYTES))


@dataclass(frozen=True, slots=True)
class MeshLink(Message):
    """Whether the sender wants payloads pushed to it over this session (else they are only announced)."""

    type: ClassVar[int] = 45
    count: ClassVar[int] = 2
    wanted: bool

    def values(self) -> tuple[Value, ...]:
        return (self.wanted,)

    @classmethod
    def read(cls, fields: Fields) -> MeshLink:
        return cls(fields.boolean("wanted"))


# --- finding each other ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WantAddresses(Message):
    """Asks for addresses of other nodes, and says at which port the asker listens itself; 0 where it does not say."""

    type: ClassVar[int] = 46
    count: ClassVar[int] = 2
    port: int

    def values(self) -> tuple[Value, ...]:
        return (self.port,)

    @classmethod
    def read(cls, fields: Fields) -> WantAddresses:
        return cls(fields.integer("port", most=65_535))


@dataclass(frozen=True, slots=True)
class Addresses(Message):
    """Where others may listen: ``ip (4 or 16) || port (2)`` each. What they are worth, the receiver judges."""

    type: ClassVar[int] = 47
    count: ClassVar[int] = 2
    addresses: tuple[bytes, ...]

    def values(self) -> tuple[Value, ...]:
        return (self.addresses,)

    @classmethod
    def read(cls, fields: Fields) -> Addresses:
        return cls(fields.binaries("addresses", most=MAX_ADDRESSES))


# --- between a client and a node ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submit(Message):
    """Signed transactions for the ledger; answered by one Submitted, and later by Settled for those accepted."""

    type: ClassVar[int] = 30
    count: ClassVar[int] = 3
    request: int
    transactions: tuple[bytes, ...]

    def values(self) -> tuple[Value, ...]:
        return (self.request, self.transactions)

    @classmethod
    def read(cls, fields: Fields) -> Submit:
        return cls(fields.integer("request"), fields.binaries("transactions", most=_MAX_SUBMITTED))


@dataclass(frozen=True, slots=True)
class Submitted(Message):
    """One code per transaction: 0 = kept and on its way, otherwise why not. ``retry_after_ms`` goes with *busy*."""

    type: ClassVar[int] = 31
    count: ClassVar[int] = 4
    request: int
    codes: tuple[int, ...]
    retry_after_ms: int

    def values(self) -> tuple[Value, ...]:
        return (self.request, self.codes, self.retry_after_ms)

    @classmethod
    def read(cls, fields: Fields) -> Submitted:
        request, codes = fields.integer("request"), fields.array("codes", most=_MAX_SUBMITTED)
        if any(type(code) is not int for code in codes):
            raise PeerFault("field codes of submitted is not an array of integers", code="malformed")
        return cls(request, codes, fields.integer("retry_after_ms"))


def _read_rules(fields: Fields, count: int) -> Rules:
    """Indexes ascending and below ``count``; names of 1 to 64 bytes."""
    rules: list[tuple[int, str]] = []
    for item in fields.array("rules", most=count):
        entry = Fields(item, what="rule", count=2)
        index, rule = entry.integer("index"), entry.text("rule", most=MOST_RULE_BYTES)
        if index >= count or (rules and index <= rules[-1][0]) or not rule:
            raise PeerFault("the rules of outcomes are not in order", code="malformed")
        rules.append((index, rule))
    return tuple(rules)


@dataclass(frozen=True, slots=True)
class Settled(Message):
    """Final outcomes of transactions that this client submitted: n ids (n x 32 bytes), n outcomes (n x 4 bytes).

    ``rules`` names what refused some of them: (index from 0, name), by index.
    """

    type: ClassVar[int] = 32
    count: ClassVar[int] = 6
    height: int
    time_ms: int
    ids: bytes
    codes: bytes
    rules: Rules = ()

    def values(self) -> tuple[Value, ...]:
        return (self.height, self.time_ms, self.ids, self.codes, self.rules)

    @classmethod
    def read(cls, fields: Fields) -> Settled:
        height, time_ms = fields.integer("height"), fields.integer("time_ms")
        ids, codes = fields.binary("ids"), fields.binary("codes")
        if len(ids) % 32 or len(codes) * 8 != len(ids):
            raise PeerFault("the columns of settled differ in length", code="malformed")
        return cls(height, time_ms, ids, codes, _read_rules(fields, len(ids) // 32))


@dataclass(frozen=True, slots=True)
class Query(Message):
    """A question about the final state; ``kind`` names it (docs/protocol.md, section 10)."""

    type: ClassVar[int] = 33
    count: ClassVar[int] = 4
    request: int
    kind: str
    arguments: tuple[Value, ...]

    def values(self) -> tuple[Value, ...]:
        return (self.request, self.kind, self.arguments)

    @classmethod
    def read(cls, fields: Fields) -> Query:
        request, kind = fields.integer("request"), fields.text("kind", most=32)
        return cls(request, kind, fields.array("arguments", most=_MAX_SUBMITTED))


@dataclass(frozen=True, slots=True)
class Answer(Message):
    """The answer to a query: ``code`` "" and the values, or a stable code and one sentence."""

    type: ClassVar[int] = 34
    count: ClassVar[int] = 4
    request: int
    code: str
    result: tuple[Value, ...]

    def values(self) -> tuple[Value, ...]:
        return (self.request, self.code, self.result)

    @classmethod
    def read(cls, fields: Fields) -> Answer:
        request, code = fields.integer("request"), fields.text("code", most=64)
        return cls(request, code, fields.array("result", most=1_000_000))


class ProgressStatus(IntEnum):
    """What is known of a transaction before it is final."""

    PENDING = 1
    """Executed on the chain that the node follows."""
    REVERTED = 2
    """That chain is no longer followed; the transaction waits for its next chance."""
    CONFIRMED = 3
    """So many blocks stand above it that the policies of all assets that it touches are met."""


@dataclass(frozen=True, slots=True)
class Progress(Message):
    """What became of transactions of this client that are not final yet: ids, outcomes and rules as in ``Settled``."""

    type: ClassVar[int] = 35
    count: ClassVar[int] = 7
    status: ProgressStatus
    height: int
    time_ms: int
    ids: bytes
    codes: bytes
    rules: Rules = ()

    def values(self) -> tuple[Value, ...]:
        return (int(self.status), self.height, self.time_ms, self.ids, self.codes, self.rules)

    @classmethod
    def read(cls, fields: Fields) -> Progress:
        status, height, time_ms = fields.integer("status"), fields.integer("height"), fields.integer("time_ms")
        ids, codes = fields.binary("ids"), fields.binary("codes")
        if status not in tuple(ProgressStatus):
            raise PeerFault(f"status {status} of progress is unknown", code="malformed")
        if len(ids) % 32 or len(codes) * 8 != len(ids):
            raise PeerFault("the columns of progress differ in length", code="malformed")
        return cls(ProgressStatus(status), height, time_ms, ids, codes, _read_rules(fields, len(ids) // 32))


@dataclass(frozen=True, slots=True)
class Follow(Message):
    """Whether this session wants Progress from now on of what it submits."""

    type: ClassVar[int] = 36
    count: ClassVar[int] = 2
    wanted: bool

    def values(self) -> tuple[Value, ...]:
        return (self.wanted,)

    @classmethod
    def read(cls, fields: Fields) -> Follow:
        return cls(fields.boolean("wanted"))


_MESSAGES: Final[dict[int, type[Message]]] = {
    kind.type: kind
    for kind in (
        BatchMessage,
        WantBatches,
        ProposalMessage,
        VoteMessage,
        CertificateMessage,
        WantCertificates,
        WantBlocks,
        BlockMessage,
        Status,
        WantChain,
        Chain,
        MissingBatches,
        WantBranch,
        Branch,
        Payload,
        PayloadHead,
        Piece,
        HavePayloads,
        WantPayload,
        MeshLink,
        WantAddresses,
        Addresses,
        Submit,
        Submitted,
        Settled,
        Query,
        Answer,
        Progress,
        Follow,
    )
}


def payload_id(topic: int, data: bytes) -> bytes:
    """The identifier of a small payload."""
    return tagged_hash(PAYLOAD_TAG, bytes((topic,)) + data)


def head_id(head: PayloadHead) -> bytes:
    """The identifier of a large payload."""
    return tagged_hash(PAYLOAD_HEAD_TAG, encode(head.values()))


def decode_message(payload: bytes) -> Message:
    """The message of a frame's payload. PeerFault ``malformed``, ``too_large`` or ``unknown_message``."""
    values = decode(payload, limit_bytes=MAX_MESSAGE_BYTES, what="message")
    if type(values) is not tuple or not values or type(values[0]) is not int:
        raise PeerFault("a message is not an array that starts with its type", code="malformed")
    kind = _MESSAGES.get(values[0])
    if kind is None:
        raise PeerFault(f"message type {values[0]} is unknown", code="unknown_message")
    fields = Fields(values, what=kind.__name__, count=kind.count, version=kind.type)
    return kind.read(fields)
