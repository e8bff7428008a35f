"""The core in plain Python: the oracle of the tests, and the stand-in where nothing is compiled.

What it holds: hashing of many messages, the Merkle trees of RFC 9162, the canonical scan of batches, the state
tree with its proofs, the execution of plain transactions, and Ed25519 under ZIP 215. `_core.pyx` has the same
names over C; `core.py` chooses. Everything here follows docs/protocol.md, section by section, as straight as
plain Python can say it, and takes no shortcut: where the two implementations disagree, this one is read first.

What it never does: read a clock, roll a die, open a file, or keep a global that changes a result.

The state tree, in words. A table is a binary Patricia (crit-bit) tree: a leaf is a key with its value; a branch
at bit b has below it exactly the keys that agree on their first b bits, those with bit b = 0 on the left. Bits
grow on every path downwards, so a path is never longer than the key has bits, and the shape depends on the keys
alone. Nodes here are never changed once made: a write copies the path from the top of the table to the changed
leaf and shares everything else. A *version* is 64 such tops and never changes; a *branch* is 64 tops that its
one owner replaces. Hashes are computed when somebody asks and kept in the node; `commit` asks for all of them, so
that readers of a version only ever read.

The types that both implementations share (errors, Limits, Proof) are defined here.
"""

import hashlib
import itertools
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeAlias

from p2pledger._forms import FORMS, Shape

__all__ = [
    "Branch",
    "BranchInUse",
    "Columns",
    "Limits",
    "MalformedBytes",
    "Proof",
    "StateReleased",
    "Verdict",
    "Version",
    "batch_digest",
    "compiler",
    "empty_state",
    "encode_batch",
    "level",
    "levels",
    "merkle_proof",
    "merkle_root",
    "merkle_verify",
    "merkle_verify_hash",
    "pow_search",
    "receipts",
    "receipts_root",
    "scan_batch",
    "scan_transactions",
    "set_level",
    "sha256_many",
    "sha512_many",
    "state_verify",
    "validate",
    "verify_batch",
    "verify_columns",
    "verify_zip215",
]

Buffer: TypeAlias = bytes | bytearray | memoryview

TABLES = 64
KEY_WIDTH_MAX = 128
VALUE_SIZE_MAX = 16 * 1024 * 1024
SCAN_SIZE_MAX = 2**31 - 1
UINT64_MAX = 2**64 - 1

TRANSACTION_TAG = b"p2pl.tx1"
TRANSACTION_SIGNATURE_TAG = b"p2pl.ts1"
BATCH_TAG = b"p2pl.ba1"
BATCH_SIGNATURE_TAG = b"p2pl.bs1"

# The tables of section 7 that plain transactions touch.
TABLE_ACCOUNTS = 1
TABLE_ASSETS = 2
TABLE_HOLDINGS = 3
TABLE_LOCKS = 4
TABLE_REPLAY = 8
TABLE_NATIVE = 9

# The reason codes of section 4.2 that plain transactions can end with. A test holds them against the one table
# in p2pledger.primitives.reasons, which this floor must not import.
REASON_OK = 0
REASON_EXPIRED = 1
REASON_TOO_FAR_AHEAD = 2
REASON_DUPLICATE = 3
REASON_FEE_TOO_LOW = 4
REASON_UNAUTHORISED = 5
REASON_UNKNOWN_ACCOUNT = 6
REASON_UNKNOWN_ASSET = 7
REASON_INSUFFICIENT_FREE = 8
REASON_INSUFFICIENT_LOCKED = 9
REASON_ZERO_AMOUNT = 10
REASON_SAME_ACCOUNT = 11
REASON_OVERFLOW = 12
REASON_CANNOT_PAY_FEE = 20

WHOLE_TRANSACTION = 65535
"""The operation index of a code that concerns the whole transaction."""


# Errors and shared values -----------------------------------------------------------------------------------------


class MalformedBytes(ValueError):
    """Bytes from outside that are not what they must be. `code` is stable, `offset` counts from the first byte."""

    def __init__(self, code: str, offset: int) -> None:
        super().__init__(f"{code} at byte {offset}")
        self.code = code
        self.offset = offset

    def __reduce__(self) -> tuple[type["MalformedBytes"], tuple[str, int]]:
        return MalformedBytes, (self.code, self.offset)


class StateReleased(ValueError):
    """A version that was released, or a branch that was committed or dropped, was used again."""


class BranchInUse(RuntimeError):
    """Two threads used one branch at once. A branch has one owner at a time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The genesis limits that decide about the form of a batch. All counts are inclusive maxima.

    max_operations is below 2^16: a receipt names an operation by a number that is not `WHOLE_TRANSACTION`.
    """

    max_transactions: int
    max_operations: int
    max_signatures: int
    max_transaction_bytes: int
    max_batch_signatures: int

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if type(value) is not int:
                raise TypeError(f"{name} must be an int")
            if not 0 < value <= UINT64_MAX:
                raise ValueError(f"{name} must be 1 .. 2^64 - 1, not {value}")
        if self.max_operations > WHOLE_TRANSACTION:
            raise ValueError(f"max_operations must be 1 .. {WHOLE_TRANSACTION}, not {self.max_operations}")


class Proof(NamedTuple):
    """A proof of section 7: inclusion if `leaf` holds the key, absence otherwise.

    leaf    (key, value) of the leaf at which the path of the key ends, or None for an empty table
    path    (bit, sibling hash) from the leaf's parent up to the top of the table, bits strictly descending
    tables  the six hashes of the RFC 9162 inclusion proof of the table root among 64
    """

    leaf: tuple[bytes, bytes] | None
    path: tuple[tuple[int, bytes], ...]
    tables: tuple[bytes, ...]


def _as_bytes(value: object, name: str) -> bytes:
    """The bytes of any buffer. Not bytes(value): that would take an int for a length."""
    if type(value) is bytes:
        return value
    try:
        return memoryview(value).tobytes()  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be bytes-like, not {type(value).__name__}") from None


def _as_width(value: object, width: int, name: str) -> bytes:
    data = _as_bytes(value, name)
    if len(data) != width:
        raise ValueError(f"{name} must have {width} bytes, not {len(data)}")
    return data


def _check_int(value: object, name: str) -> None:
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")


def _as_uint64(value: object, name: str) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not 0 <= value <= UINT64_MAX:
        raise ValueError(f"{name} must be 0 .. 2^64 - 1")
    return int(value)


def _as_search(start: object, count: object, target: object) -> tuple[int, bytes]:
    """The start of a search for work, and its target in 32 bytes."""
    first = _as_uint64(start, "start")
    if first + _as_uint64(count, "count") > UINT64_MAX + 1:
        raise ValueError("start + count must be at most 2^64")
    if not isinstance(target, int):
        raise TypeError(f"target must be an int, not {type(target).__name__}")
    if not 0 <= target < 2**256:
        raise ValueError("target must be 0 .. 2^256 - 1")
    return first, target.to_bytes(32, "big")


def _as_index(value: object, size: int, name: str) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not 0 <= value < size:
        raise ValueError(f"{name} must be 0 .. {size - 1}, not {value}")
    return int(value)


# Hashing and RFC 9162 trees ---------------------------------------------------------------------------------------


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def sha256_many(messages: Sequence[Buffer]) -> bytes:
    """The SHA-256 of each message, concatenated: n x 32 bytes."""
    return b"".join([_sha256(_as_bytes(message, "messages")) for message in messages])


def sha512_many(messages: Sequence[Buffer]) -> bytes:
    """The SHA-512 of each message, concatenated: n x 64 bytes."""
    return b"".join([hashlib.sha512(_as_bytes(message, "messages")).digest() for message in messages])


def pow_search(prefix: Buffer, start: int, count: int, target: int) -> int | None:
    """The first nonce of start .. start + count - 1 that meets a target, or None.

    A nonce meets it if the double SHA-256 of prefix || nonce (8 bytes, big-endian), as a big-endian number, is at most
    ``target`` (S. Nakamoto, 2008; there with the bytes of the hash in the other order).
    """
    middle = hashlib.sha256(_as_bytes(prefix, "prefix"))
    first, limit = _as_search(start, count, target)
    for nonce in range(first, first + count):
        whole = middle.copy()
        whole.update(nonce.to_bytes(8, "big"))
        if _sha256(whole.digest()) <= limit:
            return nonce
    return None


def levels() -> list[str]:
    """The CPU levels that this implementation can run at here, slowest first."""
    return ["reference"]


def level() -> str:
    """The CPU level in use."""
    return "reference"


def set_level(name: str) -> None:
    """Forces a CPU level; for tests and measurements. ValueError if it is not one of `levels()`."""
    if name not in levels():
        raise ValueError(f"level must be one of {levels()}, not {name!r}")


def compiler() -> str:
    """What compiled the core: name and version; empty for the reference."""
    return ""


def _leaf_hash(leaf: bytes) -> bytes:
    return _sha256(b"\x00" + leaf)


def _node_hash(left: bytes, right: bytes) -> bytes:
    return _sha256(b"\x01" + left + right)


def _merkle_range(hashes: list[bytes], start: int, end: int) -> bytes:
    """MTH of RFC 9162, section 2.1.1, over leaf hashes. As deep as the binary logarithm of the size."""
    size = end - start
    if size == 0:
        return _sha256(b"")
    if size == 1:
        return hashes[start]
    split = 1 << ((size - 1).bit_length() - 1)
    return _node_hash(_merkle_range(hashes, start, start + split), _merkle_range(hashes, start + split, end))


def merkle_root(leaves: Sequence[Buffer]) -> bytes:
    """The root of RFC 9162, section 2.1.1, over the leaves' data; of no leaves SHA-256 of nothing."""
    hashes = [_leaf_hash(_as_bytes(leaf, "leaves")) for leaf in leaves]
    return _merkle_range(hashes, 0, len(hashes))


def _merkle_path(hashes: list[bytes], index: int) -> list[bytes]:
    """PATH of RFC 9162, section 2.1.3.1, leaf to root."""
    path: list[bytes] = []
    start, end = 0, len(hashes)
    while end - start > 1:
        split = start + (1 << ((end - start - 1).bit_length() - 1))
        if index < split:
            path.append(_merkle_range(hashes, split, end))
            end = split
        else:
            path.append(_merkle_range(hashes, start, split))
            start = split
    path.reverse()
    return path


def merkle_proof(leaves: Sequence[Buffer], index: int) -> list[bytes]:
    """The inclusion proof of leaf `index` (RFC 9162, section 2.1.3.1): 32-byte hashes, leaf to root."""
    hashes = [_leaf_hash(_as_bytes(leaf, "leaves")) for leaf in leaves]
    return _merkle_path(hashes, _as_index(index, len(hashes), "index"))


def merkle_verify(root: Buffer, leaf: Buffer, index: int, size: int, proof: Sequence[Buffer]) -> bool:
    """True if `proof` shows that `leaf` (its data) is number `index` of `size` leaves under `root`.

    RFC 9162, section 2.1.3.2. Whatever stands in a proof, the answer is True or False; only wrong types raise.
    """
    return merkle_verify_hash(root, _leaf_hash(_as_bytes(leaf, "leaf")), index, size, proof)


def merkle_verify_hash(root: Buffer, leaf_hash: Buffer, index: int, size: int, proof: Sequence[Buffer]) -> bool:
    """The same for a leaf of which only the hash, SHA-256(0x00 || data), is known."""
    wanted, running = _as_bytes(root, "root"), _as_bytes(leaf_hash, "leaf_hash")
    path = [_as_bytes(sibling, "proof") for sibling in proof]
    for number, name in ((index, "index"), (size, "size")):
        _check_int(number, name)
    if len(wanted) != 32 or len(running) != 32 or any(len(sibling) != 32 for sibling in path):
        return False
    if not 0 <= index < size <= UINT64_MAX:
        return False
    number, last = index, size - 1
    for sibling in path:
        if last == 0:
            return False
        if number & 1 or number == last:
            running = _node_hash(sibling, running)
            while not number & 1 and number != 0:
                number >>= 1
                last >>= 1
        else:
            running = _node_hash(running, sibling)
        number >>= 1
        last >>= 1
    return last == 0 and running == wanted


# Canonical MessagePack (section 1) --------------------------------------------------------------------------------


def _encode_uint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    if value < 0x100:
        return bytes((0xCC, value))
    if value < 0x10000:
        return b"\xcd" + value.to_bytes(2, "big")
    if value < 0x100000000:
        return b"\xce" + value.to_bytes(4, "big")
    return b"\xcf" + value.to_bytes(8, "big")


def _encode_array_head(count: int) -> bytes:
    if count < 16:
        return bytes((0x90 | count,))
    if count < 0x10000:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


def _forbidden(head: int) -> bool:
    """Heads of types that canonical MessagePack never has: maps, floats, signed integers, extensions, 0xc1."""
    return (
        0x80 <= head <= 0x8F
        or head == 0xC1
        or 0xC7 <= head <= 0xCB
        or 0xD0 <= head <= 0xD8
        or head in (0xDE, 0xDF)
        or head >= 0xE0
    )


class _Reader:
    """Reads canonical items one after another; every refusal names the offset at which the item starts."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self.data = data
        self.position = position
        self.end = end

    def _head(self) -> int:
        if self.position >= self.end:
            raise MalformedBytes("truncated", self.position)
        return self.data[self.position]

    def _refuse(self, head: int) -> MalformedBytes:
        return MalformedBytes("not_canonical" if _forbidden(head) else "wrong_type", self.position)

    def _number(self, width: int, least: int) -> int:
        """The big-endian number behind the head, which a shorter form must not have been able to carry."""
        start = self.position
        if self.end - start < 1 + width:
            raise MalformedBytes("truncated", start)
        value = int.from_bytes(self.data[start + 1 : start + 1 + width], "big")
        if value < least:
            raise MalformedBytes("not_canonical", start)
        self.position = start + 1 + width
        return value

    def uint(self) -> int:
        head = self._head()
        if head < 0x80:
            self.position += 1
            return head
        if head == 0xCC:
            return self._number(1, 0x80)
        if head == 0xCD:
            return self._number(2, 0x100)
        if head == 0xCE:
            return self._number(4, 0x10000)
        if head == 0xCF:
            return self._number(8, 0x100000000)
        raise self._refuse(head)

    def _body(self, start: int, length: int) -> bytes:
        if length > self.end - self.position:
            raise MalformedBytes("truncated", start)
        body = self.data[self.position : self.position + length]
        self.position += length
        return body

    def binary(self, width: int, most: int | None = None) -> bytes:
        """A byte string of ``width`` bytes, or of ``width`` to ``most``."""
        start, head = self.position, self._head()
        if head == 0xC4:
            length = self._number(1, 0)
        elif head == 0xC5:
            length = self._number(2, 0x100)
        elif head == 0xC6:
            length = self._number(4, 0x10000)
        else:
            raise self._refuse(head)
        body = self._body(start, length)
        if not width <= length <= (width if most is None else most):
            raise MalformedBytes("bad_form", start)
        return body

    def text(self) -> bytes:
        start, head = self.position, self._head()
        if 0xA0 <= head <= 0xBF:
            length = head & 0x1F
            self.position += 1
        elif head == 0xD9:
            length = self._number(1, 0x20)
        elif head == 0xDA:
            length = self._number(2, 0x100)
        elif head == 0xDB:
            length = self._number(4, 0x10000)
        else:
            raise self._refuse(head)
        body = self._body(start, length)
        try:
            body.decode("utf-8")
        except UnicodeDecodeError:
            raise MalformedBytes("not_canonical", start) from None
        return body

    def array(self) -> int:
        start, head = self.position, self._head()
        if 0x90 <= head <= 0x9F:
            count = head & 0x0F
            self.position += 1
        elif head == 0xDC:
            count = self._number(2, 0x10)
        elif head == 0xDD:
            count = self._number(4, 0x10000)
        else:
            raise self._refuse(head)
        # Every element has at least one byte, so a count beyond the bytes that are left is cut off for certain.
        if count > self.end - self.position:
            raise MalformedBytes("truncated", start)
        return count

    def fields(self, count: int) -> None:
        start = self.position
        if self.array() != count:
            raise MalformedBytes("bad_form", start)

    def versioned(self, count: int) -> None:
        """The head of an object: its version is judged before the number of its fields."""
        start = self.position
        fields = self.array()
        if fields == 0:
            raise MalformedBytes("bad_form", start)
        at = self.position
        if self.uint() != 1:
            raise MalformedBytes("unknown_version", at)
        if fields != count:
            raise MalformedBytes("bad_form", start)

    def policy(self) -> tuple[int, list[tuple[bytes, int]], int]:
        """A policy of section 3: threshold, [(key, weight)], version."""
        self.fields(3)
        threshold_at = self.position
        threshold = self.uint()
        keys_at = self.position
        count = self.array()
        if not 1 <= count <= 16:
            raise MalformedBytes("bad_form", keys_at)
        keys: list[tuple[bytes, int]] = []
        total = 0
        for _ in range(count):
            self.fields(2)
            key_at = self.position
            key = self.binary(32)
            if keys and key <= keys[-1][0]:
                raise MalformedBytes("bad_form", key_at)
            weight_at = self.position
            weight = self.uint()
            if not 1 <= weight < 2**32:
                raise MalformedBytes("bad_form", weight_at)
            total += weight
            keys.append((key, weight))
        if not 1 <= threshold <= total:
            raise MalformedBytes("bad_form", threshold_at)
        version_at = self.position
        version = self.uint()
        if version == 0:
            raise MalformedBytes("bad_form", version_at)
        return threshold, keys, version

    def switch(self) -> bool:
        head = self._head()
        if head not in (0xC2, 0xC3):
            raise self._refuse(head)
        self.position += 1
        return head == 0xC3

    def field(self, shape: Shape) -> Any:
        """Reads one field of an operation, of the shape that _forms.py gives it; the value by which lists order it."""
        at, kind = self.position, shape[0]
        if kind == "bytes":
            return self.binary(shape[1], shape[2])
        if kind == "bytes or nothing":
            data = self.binary(0, shape[1])
            if len(data) not in (0, shape[1]):
                raise MalformedBytes("bad_form", at)
            return data
        if kind == "number":
            number = self.uint()
            if not shape[1] <= number <= shape[2]:
                raise MalformedBytes("bad_form", at)
            return number
        if kind == "switch":
            return self.switch()
        if kind == "text":
            text = self.text()
            if not shape[1] <= len(text) <= shape[2]:
                raise MalformedBytes("bad_form", at)
            return text
        if kind == "policy":
            return self.policy()
        if kind == "record":
            self.fields(len(shape) - 1)
            first, *_ = [self.field(inside) for inside in shape[1:]]
            return first
        assert kind == "list", kind
        _, least, most, ascending, item = shape
        count = self.array()
        if not least <= count <= most:
            raise MalformedBytes("bad_form", at)
        previous: Any = None
        for i in range(count):
            at = self.position
            value = self.field(item)
            if ascending and i and not previous < value:
                raise MalformedBytes("bad_form", at)
            previous = value
        return None


# Columns (sections 4 and 5) ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """Where one transaction stands in the scanned bytes, and what execution needs of it."""

    start: int
    end: int
    id: bytes
    valid_until: int
    fee_payer: bytes
    max_fee: int
    operations_at: int
    operation_count: int
    plain: bool
    public_keys: bytes
    signatures: bytes


class Columns:
    """What a scan found, one row per transaction; immutable, and holds the scanned bytes.

    count            n, the number of transactions
    data             the scanned bytes; `span(i)` is where signed transaction i stands in them
    ids              n x 32 bytes
    plain            n flags, 1 = only operations 1 to 3
    signature_count  m, the number of signatures of all transactions
    public_keys, signatures, messages   m x 32 bytes, m x 64 bytes, m sign messages of 40 bytes: for verify_batch
    maker, epoch, sequence, digest, maker_signature   of a batch; empty or 0 after scan_transactions
    """

    __slots__ = (
        "_rows",
        "count",
        "data",
        "digest",
        "epoch",
        "ids",
        "maker",
        "maker_signature",
        "messages",
        "plain",
        "public_keys",
        "sequence",
        "signature_count",
        "signatures",
    )

    def __init__(
        self,
        data: bytes,
        rows: list[_Row],
        maker: bytes = b"",
        epoch: int = 0,
        sequence: int = 0,
        digest: bytes = b"",
        maker_signature: bytes = b"",
    ) -> None:
        self._rows = rows
        self.count = len(rows)
        self.data = data
        self.ids = b"".join([row.id for row in rows])
        self.plain = bytes([row.plain for row in rows])
        self.public_keys = b"".join([row.public_keys for row in rows])
        self.signatures = b"".join([row.signatures for row in rows])
        self.signature_count = len(self.public_keys) // 32
        self.messages = [TRANSACTION_SIGNATURE_TAG + row.id for row in rows for _ in range(len(row.public_keys) // 32)]
        self.maker = maker
        self.epoch = epoch
        self.sequence = sequence
        self.digest = digest
        self.maker_signature = maker_signature

    def span(self, i: int) -> tuple[int, int]:
        """Start and end of signed transaction i in `data`."""
        row = self._rows[_as_index(i, self.count, "i")]
        return row.start, row.end

    def transaction(self, i: int) -> bytes:
        """The bytes of signed transaction i."""
        start, end = self.span(i)
        return self.data[start:end]

    def valid_until(self, i: int) -> int:
        """The height until which transaction i is valid."""
        return self._rows[_as_index(i, self.count, "i")].valid_until

    def transactions_root(self) -> bytes:
        """The RFC 9162 root over the bytes of the signed transactions: 32 bytes."""
        return merkle_root([self.transaction(i) for i in range(self.count)])

    def signers(self, i: int) -> bytes:
        """The public keys that signed transaction i, ascending, concatenated."""
        return self._rows[_as_index(i, self.count, "i")].public_keys


class Verdict(NamedTuple):
    """What the signatures of columns are worth.

    maker            whether the maker's signature is valid; True where there is none (single transactions)
    flags            n flags, one for each transaction: 1 if all its signatures are valid
    signature_flags  m flags, one for each signature of a transaction, in the order of the columns
    """

    maker: bool
    flags: bytes
    signature_flags: bytes

    @property
    def valid(self) -> bool:
        """Whether every signature is."""
        return self.maker and 0 not in self.flags


def _verify_columns(columns: Columns, verify: Callable[[bytes, bytes, list[bytes]], bytes]) -> Verdict:
    """By whatever verifies batches. The maker's signature is one of the batch, the first."""
    if not isinstance(columns, Columns):
        raise TypeError(f"columns must be Columns, not {type(columns).__name__}")
    maker = [BATCH_SIGNATURE_TAG + columns.digest] if columns.maker else []
    all_flags = verify(
        columns.maker + columns.public_keys, columns.maker_signature + columns.signatures, maker + columns.messages
    )
    signature_flags = all_flags[len(maker) :]
    flags, at = bytearray(), 0
    for i in range(columns.count):
        count = len(columns.signers(i)) // 32
        flags.append(0 not in signature_flags[at : at + count])
        at += count
    return Verdict(0 not in all_flags[: len(maker)], bytes(flags), signature_flags)


def verify_columns(columns: Columns) -> Verdict:
    """Verifies all signatures of scanned columns, the maker's among them, as one batch."""
    return _verify_columns(columns, verify_batch)


def validate(data: Buffer, network_id: bytes, limits: Limits) -> tuple[Columns, Verdict]:
    """Scans a *signed batch* and verifies all its signatures. Raises MalformedBytes; a bad signature is a flag."""
    columns = scan_batch(data, network_id, limits)
    return columns, verify_columns(columns)


def _read_operation(reader: _Reader) -> bool:
    """Checks the form of one operation; True if it is plain."""
    start = reader.position
    count = reader.array()
    if count == 0:
        raise MalformedBytes("bad_form", start)
    number_at = reader.position
    number = reader.uint()
    form = FORMS.get(number)
    if form is None:
        raise MalformedBytes("unknown_operation", number_at)
    if count != 1 + len(form):
        raise MalformedBytes("bad_form", start)
    for shape in form:
        reader.field(shape)
    return number <= 3


def _read_transaction(reader: _Reader, network_id: bytes, limits: Limits, signature_room: int) -> _Row:
    """Reads one signed transaction; `signature_room` is how many signatures the batch may still have."""
    start = reader.position
    reader.fields(2)
    body_at = reader.position
    reader.versioned(7)
    at = reader.position
    if reader.binary(8) != network_id:
        raise MalformedBytes("wrong_network", at)
    valid_until = reader.uint()
    reader.binary(16)
    fee_payer = reader.binary(32)
    max_fee = reader.uint()
    at = reader.position
    operation_count = reader.array()
    if operation_count == 0:
        raise MalformedBytes("empty", at)
    if operation_count > limits.max_operations:
        raise MalformedBytes("too_many", at)
    operations_at = reader.position
    plain = True
    for _ in range(operation_count):
        plain = _read_operation(reader) and plain
    body_end = reader.position
    signatures_count = reader.array()
    if signatures_count == 0:
        raise MalformedBytes("empty", body_end)
    if signatures_count > limits.max_signatures or signatures_count > signature_room:
        raise MalformedBytes("too_many", body_end)
    public_keys: list[bytes] = []
    signatures: list[bytes] = []
    for _ in range(signatures_count):
        reader.fields(2)
        at = reader.position
        public_key = reader.binary(32)
        if public_keys and public_key <= public_keys[-1]:
            raise MalformedBytes("signatures_unsorted", at)
        public_keys.append(public_key)
        signatures.append(reader.binary(64))
    if reader.position - start > limits.max_transaction_bytes:
        raise MalformedBytes("too_large", start)
    return _Row(
        start=start,
        end=reader.position,
        id=_sha256(TRANSACTION_TAG + reader.data[body_at:body_end]),
        valid_until=valid_until,
        fee_payer=fee_payer,
        max_fee=max_fee,
        operations_at=operations_at,
        operation_count=operation_count,
        plain=plain,
        public_keys=b"".join(public_keys),
        signatures=b"".join(signatures),
    )


def _check_limits(limits: object) -> Limits:
    if not isinstance(limits, Limits):
        raise TypeError(f"limits must be Limits, not {type(limits).__name__}")
    return limits


def scan_batch(data: Buffer, network_id: bytes, limits: Limits) -> Columns:
    """Scans a *signed batch* (section 5) into columns: every byte checked for canonical form, the versions, the
    network, the form of all operations, the order of the signatures, and the limits. Signatures are not verified.

    Raises MalformedBytes with one of the codes truncated, trailing, not_canonical, wrong_type, unknown_version,
    wrong_network, too_large, too_many, unknown_operation, bad_form, signatures_unsorted, empty, and the offset of
    the first item that is wrong.
    """
    scanned = _as_bytes(data, "data")
    network = _as_width(network_id, 8, "network_id")
    limits = _check_limits(limits)
    if len(scanned) > SCAN_SIZE_MAX:
        raise MalformedBytes("too_large", 0)
    reader = _Reader(scanned, 0, len(scanned))
    reader.fields(2)
    batch_at = reader.position
    reader.versioned(6)
    at = reader.position
    if reader.binary(8) != network:
        raise MalformedBytes("wrong_network", at)
    maker = reader.binary(32)
    epoch = reader.uint()
    sequence = reader.uint()
    at = reader.position
    count = reader.array()
    if count == 0:
        raise MalformedBytes("empty", at)
    if count > limits.max_transactions:
        raise MalformedBytes("too_many", at)
    rows: list[_Row] = []
    signature_room = limits.max_batch_signatures
    for _ in range(count):
        row = _read_transaction(reader, network, limits, signature_room)
        signature_room -= len(row.public_keys) // 32
        rows.append(row)
    batch_end = reader.position
    maker_signature = reader.binary(64)
    if reader.position != len(scanned):
        raise MalformedBytes("trailing", reader.position)
    digest = _sha256(BATCH_TAG + scanned[batch_at:batch_end])
    return Columns(scanned, rows, maker, epoch, sequence, digest, maker_signature)


def scan_transactions(
    data: Sequence[Buffer], network_id: bytes, limits: Limits
) -> tuple[Columns, list[tuple[int, str]]]:
    """Scans single signed transactions, each judged alone (max_transactions and max_batch_signatures do not apply).

    Returns the columns over the good ones, whose `data` is their concatenation, and (index, code) of each bad one.
    ValueError if they have 2 GiB or more together.
    """
    items = [_as_bytes(item, "data") for item in data]
    if sum(map(len, items)) > SCAN_SIZE_MAX:
        raise ValueError(f"data must have at most {SCAN_SIZE_MAX} bytes in all")
    network = _as_width(network_id, 8, "network_id")
    limits = _check_limits(limits)
    good: list[bytes] = []
    refused: list[tuple[int, str]] = []
    rows: list[_Row] = []
    size = 0
    for index, item in enumerate(items):
        try:
            reader = _Reader(item, 0, len(item))
            row = _read_transaction(reader, network, limits, UINT64_MAX)
            if reader.position != len(item):
                raise MalformedBytes("trailing", reader.position)
        except MalformedBytes as error:
            refused.append((index, error.code))
            continue
        rows.append(_moved(row, size))
        good.append(item)
        size += len(item)
    return Columns(b"".join(good), rows), refused


def _moved(row: _Row, by: int) -> _Row:
    return _Row(
        row.start + by,
        row.end + by,
        row.id,
        row.valid_until,
        row.fee_payer,
        row.max_fee,
        row.operations_at + by,
        row.operation_count,
        row.plain,
        row.public_keys,
        row.signatures,
    )


def encode_batch(network_id: bytes, maker: bytes, epoch: int, sequence: int, transactions: Sequence[Buffer]) -> bytes:
    """The unsigned batch of section 5 around the bytes of signed transactions, which are not checked here."""
    items = [_as_bytes(transaction, "transactions") for transaction in transactions]
    if not items:
        raise ValueError("transactions must not be empty")
    head = (
        b"\x96\x01\xc4\x08"
        + _as_width(network_id, 8, "network_id")
        + b"\xc4\x20"
        + _as_width(maker, 32, "maker")
        + _encode_uint(_as_uint64(epoch, "epoch"))
        + _encode_uint(_as_uint64(sequence, "sequence"))
        + _encode_array_head(len(items))
    )
    return head + b"".join(items)


def batch_digest(batch: Buffer) -> bytes:
    """The name of an unsigned batch: H("p2pl.ba1" || batch)."""
    return _sha256(BATCH_TAG + _as_bytes(batch, "batch"))


# Receipts (section 4.1) -------------------------------------------------------------------------------------------


def receipts(ids: bytes, codes: bytes) -> list[bytes]:
    """The canonical receipts `[1, id, code, operation]`.

    ids: n x 32 bytes; codes: n x 4 bytes, code and operation as big-endian 16-bit numbers.
    """
    ids, codes = _as_bytes(ids, "ids"), _as_bytes(codes, "codes")
    if len(ids) % 32:
        raise ValueError("ids must have n x 32 bytes")
    if len(codes) != len(ids) // 8:
        raise ValueError("codes must have 4 bytes for each id")
    return [
        b"\x94\x01\xc4\x20"
        + ids[32 * i : 32 * i + 32]
        + _encode_uint(int.from_bytes(codes[4 * i : 4 * i + 2], "big"))
        + _encode_uint(int.from_bytes(codes[4 * i + 2 : 4 * i + 4], "big"))
        for i in range(len(ids) // 32)
    ]


def receipts_root(ids: bytes, codes: bytes) -> bytes:
    """The RFC 9162 root over `receipts(ids, codes)`."""
    return merkle_root(receipts(ids, codes))


# The state tree (section 7) ---------------------------------------------------------------------------------------


class _Leaf:
    __slots__ = ("_hash", "key", "table", "value")

    def __init__(self, table: int, key: bytes, value: bytes) -> None:
        self.table = table
        self.key = key
        self.value = value
        self._hash: bytes | None = None

    def hash(self) -> bytes:
        if self._hash is None:
            self._hash = _sha256(bytes((0x02, self.table)) + self.key + self.value)
        return self._hash


class _Fork:
    """An inner node: all keys below agree on the bits before `bit`; `left` has those whose bit is 0."""

    __slots__ = ("bit", "digest", "left", "right")

    def __init__(self, bit: int, left: "_Node", right: "_Node") -> None:
        self.bit = bit
        self.left = left
        self.right = right
        self.digest: bytes | None = None

    def hash(self) -> bytes:
        if self.digest is None:
            # Without recursion: a table of hostile keys is as deep as its keys have bits. Children come first.
            waiting: list[tuple[_Fork, bool]] = [(self, False)]
            while waiting:
                fork, children_done = waiting.pop()
                if fork.digest is not None:
                    continue
                if children_done:
                    fork.digest = _fork_hash(fork.bit, fork.left.hash(), fork.right.hash())
                    continue
                waiting.append((fork, True))
                for child in (fork.left, fork.right):
                    if isinstance(child, _Fork) and child.digest is None:
                        waiting.append((child, False))
        assert self.digest is not None
        return self.digest


_Node: TypeAlias = _Leaf | _Fork


def _fork_hash(bit: int, left: bytes, right: bytes) -> bytes:
    return _sha256(b"\x03" + bit.to_bytes(2, "big") + left + right)


def _bit(key: bytes, bit: int) -> int:
    """Bit 0 is the most significant bit of the first byte. Beyond the key's end every bit is 0."""
    return key[bit >> 3] >> (7 - (bit & 7)) & 1 if bit >> 3 < len(key) else 0


def _first_difference(one: bytes, other: bytes) -> int | None:
    """The number of the first bit in which two keys of one length differ."""
    difference = int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
    return 8 * len(one) - difference.bit_length() if difference else None


def _nearest_leaf(node: _Node, key: bytes) -> _Leaf:
    """The leaf at which the path of `key` ends."""
    while isinstance(node, _Fork):
        node = node.right if _bit(key, node.bit) else node.left
    return node


def _rebuild(path: list[_Fork], key: bytes, node: _Node | None) -> _Node | None:
    """Copies the forks of `path` (top first) with `node` hung in where the path of `key` leads.

    None means that nothing is left there: the fork above it gives way to its other child.
    """
    for fork in reversed(path):
        right = _bit(key, fork.bit)
        if node is None:
            node = fork.left if right else fork.right
        elif right:
            node = _Fork(fork.bit, fork.left, node)
        else:
            node = _Fork(fork.bit, node, fork.right)
    return node


def _leaves(node: _Node | None) -> Iterator[_Leaf]:
    """The leaves below, in the order of their keys."""
    waiting = [node] if node is not None else []
    while waiting:
        node = waiting.pop()
        while isinstance(node, _Fork):
            waiting.append(node.right)
            node = node.left
        yield node


class _Tables:
    """64 tops of trees with the number of rows of each; what versions and branches share."""

    __slots__ = ("counts", "tops", "widths")

    def __init__(self, widths: tuple[int, ...], tops: list[_Node | None], counts: list[int]) -> None:
        self.widths = widths
        self.tops = tops
        self.counts = counts

    def check_table(self, table: object) -> int:
        number = _as_index(table, TABLES, "table")
        if self.widths[number] == 0:
            raise ValueError(f"table {number} does not exist")
        return number

    def check_key(self, table: object, key: object) -> tuple[int, bytes]:
        number = self.check_table(table)
        return number, _as_width(key, self.widths[number], "key")

    def check_prefix(self, table: object, prefix: object) -> tuple[int, bytes]:
        number, start = self.check_table(table), _as_bytes(prefix, "prefix")
        if len(start) > self.widths[number]:
            raise ValueError(f"prefix must have at most {self.widths[number]} bytes, not {len(start)}")
        return number, start

    def get(self, table: int, key: bytes) -> bytes | None:
        top = self.tops[table]
        if top is None:
            return None
        leaf = _nearest_leaf(top, key)
        return leaf.value if leaf.key == key else None

    def put(self, table: int, key: bytes, value: bytes) -> None:
        top, leaf = self.tops[table], _Leaf(table, key, value)
        if top is None:
            self.tops[table] = leaf
            self.counts[table] = 1
            return
        difference = _first_difference(_nearest_leaf(top, key).key, key)
        path: list[_Fork] = []
        node = top
        while isinstance(node, _Fork) and (difference is None or node.bit < difference):
            path.append(node)
            node = node.right if _bit(key, node.bit) else node.left
        if difference is None:
            self.tops[table] = _rebuild(path, key, leaf)
            return
        fork = _Fork(difference, node, leaf) if _bit(key, difference) else _Fork(difference, leaf, node)
        self.tops[table] = _rebuild(path, key, fork)
        self.counts[table] += 1

    def delete(self, table: int, key: bytes) -> bool:
        top = self.tops[table]
        if top is None or _nearest_leaf(top, key).key != key:
            return False
        path: list[_Fork] = []
        node = top
        while isinstance(node, _Fork):
            path.append(node)
            node = node.right if _bit(key, node.bit) else node.left
        self.tops[table] = _rebuild(path, key, None)
        self.counts[table] -= 1
        return True

    def _prefix_path(self, table: int, prefix: bytes) -> tuple[list[_Fork], _Node | None]:
        """The forks above the subtree that holds exactly the keys with this prefix, and its top."""
        node = self.tops[table]
        path: list[_Fork] = []
        while isinstance(node, _Fork) and node.bit < 8 * len(prefix):
            path.append(node)
            node = node.right if _bit(prefix, node.bit) else node.left
        if node is not None and not _nearest_leaf(node, prefix).key.startswith(prefix):
            node = None
        return path, node

    def delete_prefix(self, table: int, prefix: bytes) -> int:
        path, node = self._prefix_path(table, prefix)
        if node is None:
            return 0
        count = sum(1 for _ in _leaves(node))
        self.tops[table] = _rebuild(path, prefix, None)
        self.counts[table] -= count
        return count

    def delete_below(self, table: int, bound: bytes) -> int:
        count = 0
        top = self.tops[table]
        while top is not None:
            first = next(_leaves(top))
            if first.key >= bound:
                break
            self.delete(table, first.key)
            top = self.tops[table]
            count += 1
        return count

    def scan(self, table: int, prefix: bytes, after: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        _, node = self._prefix_path(table, prefix)
        if node is None or limit == 0:
            return []
        waiting: list[_Node] = [node]
        if after is not None and after[: len(prefix)] > prefix:
            return []
        if after is not None and after[: len(prefix)] == prefix:
            # Keep of every fork on the path of `after` what lies right of it; then judge the subtree at which
            # `after` leaves the tree: all its keys are above it or all below it.
            difference = _first_difference(_nearest_leaf(node, after).key, after)
            waiting = []
            while isinstance(node, _Fork) and (difference is None or node.bit < difference):
                if _bit(after, node.bit):
                    node = node.right
                else:
                    waiting.append(node.right)
                    node = node.left
            if difference is not None and not _bit(after, difference):
                waiting.append(node)
        rows: list[tuple[bytes, bytes]] = []
        while waiting and len(rows) < limit:
            node = waiting.pop()
            while isinstance(node, _Fork):
                waiting.append(node.right)
                node = node.left
            rows.append((node.key, node.value))
        return rows

    def table_root(self, table: int) -> bytes:
        top = self.tops[table]
        return bytes(32) if top is None else top.hash()

    def _table_hashes(self) -> list[bytes]:
        return [_leaf_hash(self.table_root(table)) for table in range(TABLES)]

    def root(self) -> bytes:
        return _merkle_range(self._table_hashes(), 0, TABLES)

    def prove(self, table: int, key: bytes) -> Proof:
        tables = tuple(_merkle_path(self._table_hashes(), table))
        node = self.tops[table]
        if node is None:
            return Proof(None, (), tables)
        path: list[tuple[int, bytes]] = []
        while isinstance(node, _Fork):
            if _bit(key, node.bit):
                path.append((node.bit, node.left.hash()))
                node = node.right
            else:
                path.append((node.bit, node.right.hash()))
                node = node.left
        path.reverse()
        return Proof((node.key, node.value), tuple(path), tables)


def empty_state(key_widths: Mapping[int, int]) -> "Version":
    """A state without rows. key_widths: table (0 .. 63) -> width of its keys in bytes (1 .. 128)."""
    widths = [0] * TABLES
    for table, width in key_widths.items():
        number = _as_index(table, TABLES, "table")
        if not isinstance(width, int):
            raise TypeError(f"key width must be an int, not {type(width).__name__}")
        if not 1 <= width <= KEY_WIDTH_MAX:
            raise ValueError(f"key width must be 1 .. {KEY_WIDTH_MAX}, not {width}")
        widths[number] = int(width)
    return Version(_Tables(tuple(widths), [None] * TABLES, [0] * TABLES))


def state_verify(root: bytes, table: int, key: bytes, value: bytes | None, proof: Proof) -> bool:
    """True if `proof` shows under `root` that `key` has `value`, or, for None, that the table has no such key.

    `key` must have the width that the table's keys have by the protocol: the caller knows it, a proof does not
    carry it. Whatever stands in the proof, the answer is True or False; wrong types of the other arguments raise.
    """
    wanted = _as_bytes(root, "root")
    asked = _as_bytes(key, "key")
    number = _as_index(table, TABLES, "table")
    expected = None if value is None else _as_bytes(value, "value")
    flat = _flatten_proof(proof)
    if flat is None or len(wanted) != 32 or not 1 <= len(asked) <= KEY_WIDTH_MAX:
        return False
    leaf, path, tables = flat
    if leaf is None:
        if path or expected is not None:
            return False
        running = bytes(32)
    else:
        leaf_key, leaf_value = leaf
        if len(leaf_key) != len(asked):
            return False
        running = _sha256(bytes((0x02, number)) + leaf_key + leaf_value)
        below = 8 * len(asked)
        for bit, sibling in path:
            if not bit < below or _bit(asked, bit) != _bit(leaf_key, bit):
                return False
            below = bit
            running = _fork_hash(bit, sibling, running) if _bit(asked, bit) else _fork_hash(bit, running, sibling)
        if expected is None:
            if leaf_key == asked:
                return False
        elif leaf_key != asked or leaf_value != expected:
            return False
    running = _leaf_hash(running)
    for height, sibling in enumerate(tables):
        if number >> height & 1:
            running = _node_hash(sibling, running)
        else:
            running = _node_hash(running, sibling)
    return running == wanted


def _flatten_proof(
    proof: object,
) -> tuple[tuple[bytes, bytes] | None, list[tuple[int, bytes]], list[bytes]] | None:
    """The parts of a proof, checked for types and widths (six table hashes), or None. Both implementations use it."""
    if not isinstance(proof, tuple) or len(proof) != 3:
        return None
    leaf, path, tables = proof
    if not isinstance(path, (tuple, list)) or not isinstance(tables, (tuple, list)):
        return None
    if leaf is not None:
        if not isinstance(leaf, (tuple, list)) or len(leaf) != 2:
            return None
        if not isinstance(leaf[0], bytes) or not isinstance(leaf[1], bytes):
            return None
        leaf = (leaf[0], leaf[1])
    if len(path) > 8 * KEY_WIDTH_MAX or len(tables) != 6:
        return None
    steps: list[tuple[int, bytes]] = []
    for step in path:
        if not isinstance(step, (tuple, list)) or len(step) != 2:
            return None
        bit, sibling = step
        if not isinstance(bit, int) or not 0 <= bit < 8 * KEY_WIDTH_MAX:
            return None
        if not isinstance(sibling, bytes) or len(sibling) != 32:
            return None
        steps.append((bit, sibling))
    for sibling in tables:
        if not isinstance(sibling, bytes) or len(sibling) != 32:
            return None
    return leaf, steps, list(tables)


_generations = itertools.count(1)


def _check_scan(
    tables: _Tables, table: int, prefix: bytes, after: bytes | None, limit: int
) -> list[tuple[bytes, bytes]]:
    number, start = tables.check_prefix(table, prefix)
    cursor = None if after is None else _as_width(after, tables.widths[number], "after")
    if not isinstance(limit, int):
        raise TypeError(f"limit must be an int, not {type(limit).__name__}")
    if limit < 0:
        raise ValueError("limit must not be negative")
    return tables.scan(number, start, cursor, limit)


class Version:
    """A frozen state. Any thread may read it, also while another writes on a branch of it."""

    __slots__ = ("__weakref__", "_generation", "_root", "_tables_or_none")

    def __init__(self, tables: _Tables) -> None:
        if not isinstance(tables, _Tables):
            raise TypeError("versions come from empty_state() and Branch.commit()")
        self._root = tables.root()
        self._tables_or_none: _Tables | None = tables
        self._generation = next(_generations)

    def _tables(self) -> _Tables:
        tables = self._tables_or_none
        if tables is None:
            raise StateReleased("this version of the state was released")
        return tables

    @property
    def generation(self) -> int:
        """The number of this version, unique in this process and ascending."""
        return self._generation

    def get(self, table: int, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        tables = self._tables()
        return tables.get(*tables.check_key(table, key))

    def scan(
        self, table: int, prefix: bytes = b"", after: bytes | None = None, limit: int = 1000
    ) -> list[tuple[bytes, bytes]]:
        """Up to `limit` (key, value) with this prefix, keys ascending, from the first key above `after` on."""
        return _check_scan(self._tables(), table, prefix, after, limit)

    def count(self, table: int) -> int:
        """The number of rows of a table."""
        tables = self._tables()
        return tables.counts[tables.check_table(table)]

    def root(self) -> bytes:
        """The state root: 32 bytes."""
        self._tables()
        return self._root

    def table_root(self, table: int) -> bytes:
        """The root of one table: 32 bytes, zeros if it is empty."""
        tables = self._tables()
        return tables.table_root(tables.check_table(table))

    def prove(self, table: int, key: bytes) -> Proof:
        """The proof that the key has its value, or that there is no such key."""
        tables = self._tables()
        return tables.prove(*tables.check_key(table, key))

    def branch(self) -> "Branch":
        """A new branch that starts with this state."""
        tables = self._tables()
        return Branch(_Tables(tables.widths, list(tables.tops), list(tables.counts)))

    def release(self) -> None:
        """Gives the memory back; every later use raises StateReleased. Releasing twice is fine."""
        self._tables_or_none = None


class Branch:
    """A state being written. It has one owner at a time; a second thread in it raises BranchInUse."""

    __slots__ = ("__weakref__", "_fees_taken", "_lock", "_tables_or_none")

    def __init__(self, tables: _Tables) -> None:
        if not isinstance(tables, _Tables):
            raise TypeError("branches come from Version.branch()")
        self._tables_or_none: _Tables | None = tables
        self._fees_taken = 0
        self._lock = threading.Lock()

    @contextmanager
    def _owned(self) -> Iterator[_Tables]:
        if not self._lock.acquire(blocking=False):
            raise BranchInUse("this branch is in use by another thread")
        try:
            if self._tables_or_none is None:
                raise StateReleased("this branch was committed or dropped")
            yield self._tables_or_none
        finally:
            self._lock.release()

    def get(self, table: int, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        with self._owned() as tables:
            return tables.get(*tables.check_key(table, key))

    def scan(
        self, table: int, prefix: bytes = b"", after: bytes | None = None, limit: int = 1000
    ) -> list[tuple[bytes, bytes]]:
        """Up to `limit` (key, value) with this prefix, keys ascending, from the first key above `after` on."""
        with self._owned() as tables:
            return _check_scan(tables, table, prefix, after, limit)

    def count(self, table: int) -> int:
        """The number of rows of a table."""
        with self._owned() as tables:
            return tables.counts[tables.check_table(table)]

    def put(self, table: int, key: bytes, value: bytes) -> None:
        """Sets the value of a key. Values have up to 16 MiB."""
        with self._owned() as tables:
            number, row_key = tables.check_key(table, key)
            row_value = _as_bytes(value, "value")
            if len(row_value) > VALUE_SIZE_MAX:
                raise ValueError(f"value must have at most {VALUE_SIZE_MAX} bytes")
            tables.put(number, row_key, row_value)

    def delete(self, table: int, key: bytes) -> bool:
        """Deletes a row; False if there is none."""
        with self._owned() as tables:
            return tables.delete(*tables.check_key(table, key))

    def delete_prefix(self, table: int, prefix: bytes) -> int:
        """Deletes all rows whose key starts so; returns their number."""
        with self._owned() as tables:
            return tables.delete_prefix(*tables.check_prefix(table, prefix))

    def delete_below(self, table: int, key_prefix_exclusive: bytes) -> int:
        """Deletes all rows whose key is below the given (start of a) key; returns their number."""
        with self._owned() as tables:
            return tables.delete_below(*tables.check_prefix(table, key_prefix_exclusive))

    def root(self) -> bytes:
        """The state root: 32 bytes."""
        with self._owned() as tables:
            return tables.root()

    def table_root(self, table: int) -> bytes:
        """The root of one table: 32 bytes, zeros if it is empty."""
        with self._owned() as tables:
            return tables.table_root(tables.check_table(table))

    def prove(self, table: int, key: bytes) -> Proof:
        """The proof that the key has its value, or that there is no such key."""
        with self._owned() as tables:
            return tables.prove(*tables.check_key(table, key))

    @property
    def fees_taken(self) -> int:
        """What execute_plain took from the payers of fees on this branch so far."""
        return self._fees_taken

    def execute_plain(
        self, columns: Columns, start: int, height: int, replay_window: int, fee: int, codes: bytearray
    ) -> int:
        """Executes the maximal run of plain transactions from index `start` by section 4.1.

        Writes 4 bytes per decided transaction i to codes[4 * i:] (code and operation, big-endian 16-bit numbers)
        and returns the index of the first transaction that it cannot decide, or columns.count. It cannot decide one
        with an operation other than 1 to 3, one that meets an account or asset whose flags are not 0, and one that
        meets a row that is not of version 1. Such a transaction leaves no trace. `fee` is that of one operation;
        what the payers paid is added to `fees_taken`, and is the caller's to give to somebody. Rows of REPLAY that have
        expired are the caller's to delete.
        """
        with self._owned() as tables:
            if not isinstance(columns, Columns):
                raise TypeError(f"columns must be Columns, not {type(columns).__name__}")
            first = _as_index(start, columns.count + 1, "start")
            at_height, window = _as_uint64(height, "height"), _as_uint64(replay_window, "replay_window")
            due = _as_uint64(fee, "fee")
            if not isinstance(codes, bytearray):
                raise TypeError(f"codes must be a bytearray, not {type(codes).__name__}")
            if len(codes) < 4 * columns.count:
                raise ValueError(f"codes must have {4 * columns.count} bytes, not {len(codes)}")
            for table, width in _PLAIN_WIDTHS.items():
                if tables.widths[table] != width and (due or table != TABLE_NATIVE):
                    raise ValueError(f"table {table} must have keys of {width} bytes")
            room = UINT64_MAX  # for what is paid in this call: no state that grew by the rules exceeds it
            for i in range(first, columns.count):
                row = columns._rows[i]
                if not row.plain:
                    return i
                try:
                    code, operation, paid = _execute(tables, columns.data, row, at_height, window, due, room)
                except _Undecided:
                    return i
                room -= paid
                self._fees_taken += paid
                codes[4 * i : 4 * i + 4] = code.to_bytes(2, "big") + operation.to_bytes(2, "big")
            return columns.count

    def commit(self) -> Version:
        """Freezes the branch into a version. The branch is closed after it."""
        with self._owned() as tables:
            self._tables_or_none = None
            return Version(tables)

    def drop(self) -> None:
        """Throws the branch away. Dropping a closed branch is fine."""
        if not self._lock.acquire(blocking=False):
            raise BranchInUse("this branch is in use by another thread")
        try:
            self._tables_or_none = None
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()


# Execution of plain transactions (section 4.1) --------------------------------------------------------------------

_PLAIN_WIDTHS = {
    TABLE_ACCOUNTS: 32,
    TABLE_ASSETS: 16,
    TABLE_HOLDINGS: 48,
    TABLE_LOCKS: 80,
    TABLE_REPLAY: 40,
    TABLE_NATIVE: 32,
}


class _Undecided(Exception):
    """This transaction is not for the bulk path."""


class _Refused(Exception):
    """The first rule that failed."""

    def __init__(self, code: int, operation: int) -> None:
        self.code = code
        self.operation = operation


def _account_flags(value: bytes) -> _Reader:
    """Reads `[1, flags, ...` of an account; undecided unless the version is 1 and the flags are 0."""
    return _plain_head(value, 3)


def _plain_head(value: bytes, fields: int) -> _Reader:
    reader = _Reader(value, 0, len(value))
    try:
        reader.versioned(fields)
        if reader.uint() != 0:
            raise _Undecided
    except MalformedBytes:
        raise _Undecided from None
    return reader


def _amounts(value: bytes, count: int) -> list[int]:
    """The amounts behind the version of a holding or a lock."""
    reader = _Reader(value, 0, len(value))
    try:
        reader.versioned(1 + count)
        amounts = [reader.uint() for _ in range(count)]
    except MalformedBytes:
        raise _Undecided from None
    if reader.position != len(value):
        raise _Undecided
    return amounts


class _Overlay:
    """The holdings and locks that one transaction has touched: all of them are written, or none."""

    def __init__(self, tables: _Tables) -> None:
        self.tables = tables
        self.rows: dict[tuple[int, bytes], list[int]] = {}

    def _row(self, table: int, key: bytes, count: int) -> list[int]:
        row = self.rows.get((table, key))
        if row is None:
            value = self.tables.get(table, key)
            row = [0] * count if value is None else _amounts(value, count)
            # No state that grew by the rules breaks these sums; one that does is not for the bulk path.
            if sum(row) > UINT64_MAX:
                raise _Undecided
            self.rows[(table, key)] = row
        return row

    def holding(self, asset: bytes, account: bytes) -> list[int]:
        """[free, locked], to be changed in place."""
        return self._row(TABLE_HOLDINGS, asset + account, 2)

    def lock(self, asset: bytes, account: bytes, controller: bytes) -> list[int]:
        """[amount], to be changed in place."""
        return self._row(TABLE_LOCKS, asset + account + controller, 1)

    def write(self) -> None:
        for (table, key), amounts in self.rows.items():
            if any(amounts):
                head = bytes((0x91 + len(amounts), 1))
                self.tables.put(table, key, head + b"".join([_encode_uint(amount) for amount in amounts]))
            else:
                self.tables.delete(table, key)


def _check_authority(tables: _Tables, account: bytes, signers: list[bytes], operation: int) -> None:
    """Rule 4 for one account."""
    value = tables.get(TABLE_ACCOUNTS, account)
    if value is None:
        raise _Refused(REASON_UNKNOWN_ACCOUNT, operation)
    reader = _account_flags(value)
    try:
        threshold, keys, _ = reader.policy()
    except MalformedBytes:
        raise _Undecided from None
    if reader.position != len(value):
        raise _Undecided
    weight = 0
    for key, key_weight in keys:
        i = bisect_left(signers, key)
        if i < len(signers) and signers[i] == key:
            weight += key_weight
    if weight < threshold:
        raise _Refused(REASON_UNAUTHORISED, operation)


def _check_account(tables: _Tables, account: bytes, operation: int) -> None:
    value = tables.get(TABLE_ACCOUNTS, account)
    if value is None:
        raise _Refused(REASON_UNKNOWN_ACCOUNT, operation)
    _account_flags(value)


def _check_asset(tables: _Tables, asset: bytes, operation: int) -> None:
    value = tables.get(TABLE_ASSETS, asset)
    if value is None:
        raise _Refused(REASON_UNKNOWN_ASSET, operation)
    _plain_head(value, 8)


def _apply(overlay: _Overlay, operation: tuple[int, bytes, bytes, bytes, int], index: int) -> None:
    """Rule 6 for one operation: (number, account, counterparty or controller, asset, amount)."""
    number, account, other, asset, amount = operation
    tables = overlay.tables
    if amount == 0:
        raise _Refused(REASON_ZERO_AMOUNT, index)
    if number == 1:  # transfer
        if account == other:
            raise _Refused(REASON_SAME_ACCOUNT, index)
        _check_account(tables, other, index)
        _check_asset(tables, asset, index)
        source = overlay.holding(asset, account)
        if source[0] < amount:
            raise _Refused(REASON_INSUFFICIENT_FREE, index)
        target = overlay.holding(asset, other)
        if target[0] + target[1] + amount > UINT64_MAX:
            raise _Refused(REASON_OVERFLOW, index)
        source[0] -= amount
        target[0] += amount
    elif number == 2:  # lock
        if account == other:
            raise _Refused(REASON_SAME_ACCOUNT, index)
        _check_account(tables, other, index)
        _check_asset(tables, asset, index)
        source = overlay.holding(asset, account)
        if source[0] < amount:
            raise _Refused(REASON_INSUFFICIENT_FREE, index)
        lock = overlay.lock(asset, account, other)
        if lock[0] + amount > UINT64_MAX:
            raise _Undecided
        source[0] -= amount
        source[1] += amount
        lock[0] += amount
    else:  # release
        _check_asset(tables, asset, index)
        lock = overlay.lock(asset, account, other)
        if lock[0] < amount:
            raise _Refused(REASON_INSUFFICIENT_LOCKED, index)
        owner = tables.get(TABLE_ACCOUNTS, account)
        if owner is not None:  # guards are asked about it, though nobody needs its signature
            _account_flags(owner)
        source = overlay.holding(asset, account)
        if source[1] < amount:
            raise _Undecided
        lock[0] -= amount
        source[1] -= amount
        source[0] += amount


def _plain_operations(data: bytes, row: _Row) -> list[tuple[int, bytes, bytes, bytes, int]]:
    reader = _Reader(data, row.operations_at, row.end)
    operations: list[tuple[int, bytes, bytes, bytes, int]] = []
    for _ in range(row.operation_count):
        reader.array()
        number = reader.uint()
        account = reader.binary(32)
        if number == 1:
            other, asset, amount = reader.binary(32), reader.binary(16), reader.uint()
        else:
            asset, amount, other = reader.binary(16), reader.uint(), reader.binary(32)
        operations.append((number, account, other, asset, amount))
    return operations


def _execute(
    tables: _Tables, data: bytes, row: _Row, height: int, replay_window: int, fee: int, room: int
) -> tuple[int, int, int]:
    """One plain transaction by the rules 1 to 6; returns (code, operation, fee paid), which is at most `room`."""
    replay_key = row.valid_until.to_bytes(8, "big") + row.id
    if row.valid_until < height:
        return REASON_EXPIRED, WHOLE_TRANSACTION, 0
    if row.valid_until > height + replay_window:
        return REASON_TOO_FAR_AHEAD, WHOLE_TRANSACTION, 0
    if tables.get(TABLE_REPLAY, replay_key) is not None:
        return REASON_DUPLICATE, WHOLE_TRANSACTION, 0
    due = fee * row.operation_count
    if due > row.max_fee:
        return REASON_FEE_TOO_LOW, WHOLE_TRANSACTION, 0
    signers = [row.public_keys[at : at + 32] for at in range(0, len(row.public_keys), 32)]
    operations = _plain_operations(data, row)
    try:
        _check_authority(tables, row.fee_payer, signers, WHOLE_TRANSACTION)
        for index, (number, account, other, _, _) in enumerate(operations):
            _check_authority(tables, other if number == 3 else account, signers, index)
    except _Refused as refused:
        return refused.code, refused.operation, 0
    native = 0
    if due:
        value = tables.get(TABLE_NATIVE, row.fee_payer)
        native = 0 if value is None else _amounts(value, 1)[0]
        if due > room:
            raise _Undecided
        if native < due:
            return REASON_CANNOT_PAY_FEE, WHOLE_TRANSACTION, 0
    # From here on the transaction is remembered, whether it succeeds or fails.
    overlay = _Overlay(tables)
    code, failed = REASON_OK, 0
    try:
        for index, operation in enumerate(operations):
            _apply(overlay, operation, index)
    except _Refused as refused:
        code, failed = refused.code, refused.operation
    else:
        overlay.write()
    if due == native != 0:
        tables.delete(TABLE_NATIVE, row.fee_payer)
    elif due:
        tables.put(TABLE_NATIVE, row.fee_payer, b"\x92\x01" + _encode_uint(native - due))
    remembered = b"\x94\x01" + _encode_uint(height) + _encode_uint(code) + _encode_uint(failed)
    tables.put(TABLE_REPLAY, replay_key, remembered)
    return code, failed, due


# Ed25519 under ZIP 215 (section 2) --------------------------------------------------------------------------------
#
# The curve is -x^2 + y^2 = 1 + d x^2 y^2 over the integers modulo p. Points are kept in extended coordinates
# (X : Y : Z : T) with x = X/Z, y = Y/Z, T = XY/Z (Hisil, Wong, Carter, Dawson 2008): the sum formula below is
# complete, so that small-order points need no special case. The check computes
#
#     [8] ([S]B - [k]A - R) = 0
#
# in one pass from the highest bit down: S and k are written in signed sliding windows, each bit costs one shared
# doubling, each window one addition. About a millisecond each. Points to be added are prepared as
# (Y + X, Y - X, 2dT, 2Z), which saves half of the multiplications by constants.

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_SQRT_MINUS_ONE = pow(2, (_P - 1) // 4, _P)

_Point: TypeAlias = tuple[int, int, int, int]
_IDENTITY: _Point = (0, 1, 1, 0)


def _decompress(encoded: bytes) -> _Point | None:
    """The point of 32 bytes under ZIP 215: y is reduced modulo p, and x = 0 may carry the sign bit."""
    number = int.from_bytes(encoded, "little")
    sign = number >> 255
    y = (number & (2**255 - 1)) % _P
    y2 = y * y % _P
    u, v = y2 - 1, _D * y2 + 1
    v3 = v * v * v % _P
    x = u * v3 * pow(u * v3 * v3 * v, (_P - 5) // 8, _P) % _P
    check = v * x * x % _P
    if check != u % _P:
        if check != -u % _P:
            return None
        x = x * _SQRT_MINUS_ONE % _P
    if x & 1 != sign:
        x = -x % _P
    return x, y, 1, x * y % _P


def _prepare(point: _Point) -> _Point:
    x, y, z, t = point
    return (y + x) % _P, (y - x) % _P, 2 * _D * t % _P, 2 * z % _P


def _add(point: _Point, prepared: _Point, negate: bool = False) -> _Point:
    x, y, z, t = point
    plus, minus, t2d, z2 = prepared
    if negate:
        plus, minus, t2d = minus, plus, -t2d
    a, b, c, d = (y - x) * minus, (y + x) * plus, t * t2d, z * z2
    e, f, g, h = (b - a) % _P, (d - c) % _P, (d + c) % _P, (b + a) % _P
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _double(point: _Point) -> _Point:
    x, y, z, _ = point
    a, b, c = x * x, y * y, 2 * z * z
    h = (a + b) % _P
    e = (h - (x + y) ** 2) % _P
    g = (a - b) % _P
    f = (c + g) % _P
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _odd_multiples(point: _Point, count: int) -> list[_Point]:
    """1, 3, 5, ... times the point, prepared."""
    twice = _prepare(_double(point))
    multiples = [_prepare(point)]
    for _ in range(count - 1):
        point = _add(point, twice)
        multiples.append(_prepare(point))
    return multiples


def _signed_windows(scalar: int, width: int) -> list[tuple[int, int]]:
    """The scalar as a sum of (bit, odd digit), |digit| < 2^(width - 1), lowest bit first."""
    windows: list[tuple[int, int]] = []
    bit = 0
    while scalar:
        zeros = (scalar & -scalar).bit_length() - 1
        scalar >>= zeros
        bit += zeros
        digit = scalar & ((1 << width) - 1)
        if digit >> (width - 1):
            digit -= 1 << width
        windows.append((bit, digit))
        scalar -= digit
    return windows


_BASE_WIDTH = 8
_KEY_WIDTH = 5


@lru_cache(maxsize=1)
def _base_multiples() -> list[_Point]:
    base = _decompress((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))
    assert base is not None
    return _odd_multiples(base, 1 << (_BASE_WIDTH - 2))


def verify_zip215(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """One Ed25519 signature under the rules of ZIP 215, in plain integers. public_key 32, signature 64 bytes."""
    key = _as_width(public_key, 32, "public_key")
    both = _as_width(signature, 64, "signature")
    signed = _as_bytes(message, "message")
    s = int.from_bytes(both[32:], "little")
    if s >= _L:
        return False
    a, r = _decompress(key), _decompress(both[:32])
    if a is None or r is None:
        return False
    k = int.from_bytes(hashlib.sha512(both[:32] + key + signed).digest(), "little") % _L
    additions: list[list[tuple[_Point, bool]]] = [[] for _ in range(257)]
    base_multiples, key_multiples = _base_multiples(), _odd_multiples(a, 1 << (_KEY_WIDTH - 2))
    for bit, digit in _signed_windows(s, _BASE_WIDTH):
        additions[bit].append((base_multiples[abs(digit) >> 1], digit < 0))
    for bit, digit in _signed_windows(k, _KEY_WIDTH):
        additions[bit].append((key_multiples[abs(digit) >> 1], digit > 0))
    additions[0].append((_prepare(r), True))
    running = _IDENTITY
    for due in reversed(additions):
        running = _double(running)
        for prepared, negate in due:
            running = _add(running, prepared, negate)
    x, y, z, _ = _double(_double(_double(running)))
    return x == 0 and y == z


def verify_batch(public_keys: Buffer, signatures: Buffer, messages: Sequence[Buffer]) -> bytes:
    """n flags, 1 = valid under ZIP 215. public_keys n x 32 bytes, signatures n x 64 bytes, n messages.

    Every signature is checked alone and without a shortcut, about a millisecond each: this is the oracle.
    """
    keys, both, signed = check_batch_arguments(public_keys, signatures, messages)
    return bytes(
        [
            verify_zip215(keys[32 * i : 32 * i + 32], both[64 * i : 64 * i + 64], message)
            for i, message in enumerate(signed)
        ]
    )


def check_batch_arguments(
    public_keys: Buffer, signatures: Buffer, messages: Sequence[Buffer]
) -> tuple[bytes, bytes, list[bytes]]:
    """The arguments of verify_batch as bytes of the right lengths."""
    signed = [_as_bytes(message, "messages") for message in messages]
    keys = _as_width(public_keys, 32 * len(signed), "public_keys")
    return keys, _as_width(signatures, 64 * len(signed), "signatures"), signed
