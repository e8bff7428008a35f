"""The scan of batches and transactions: what it finds, what it refuses and where, and that both scans agree."""

import random
from dataclasses import replace
from hashlib import sha256
from types import ModuleType
from typing import Any

import msgpack
import pytest

from p2pledger import _reference
from p2pledger._reference import Limits, MalformedBytes
from tests.core import builders as b

COLUMN_NAMES = (
    "count",
    "data",
    "ids",
    "plain",
    "signature_count",
    "public_keys",
    "signatures",
    "messages",
    "maker",
    "epoch",
    "sequence",
    "digest",
    "maker_signature",
)


def everything(columns: Any) -> list[Any]:
    """All that columns show, for comparison."""
    rows = [
        (columns.span(i), columns.transaction(i), columns.valid_until(i), columns.signers(i))
        for i in range(columns.count)
    ]
    return [*(getattr(columns, name) for name in COLUMN_NAMES), rows]


def outcome(core: ModuleType, data: bytes, limits: Limits = b.LIMITS) -> Any:
    try:
        return everything(core.scan_batch(data, b.NETWORK, limits))
    except MalformedBytes as error:
        return error.code, error.offset


def test_columns_of_a_batch(core: ModuleType) -> None:
    transactions = b.one_of_each()
    data = b.batch(transactions, signature=b"s" * 64)
    columns = core.scan_batch(data, b.NETWORK, b.LIMITS)
    assert columns.count == 3
    assert columns.data == data
    assert (columns.maker, columns.epoch, columns.sequence) == (b.MAKER, 7, 300)
    assert columns.maker_signature == b"s" * 64
    unsigned = data[1:-66]
    assert columns.digest == sha256(b"p2pl.ba1" + unsigned).digest() == core.batch_digest(unsigned)
    ids = [b.transaction_id(content) for content, _ in transactions]
    assert columns.ids == b"".join(ids)
    assert columns.plain == b"\1\0\1"
    assert columns.signature_count == 5
    keys = [pair[0] for _, pairs in transactions for pair in pairs]
    assert columns.public_keys == b"".join(keys)
    assert columns.signatures == b"".join(pair[1] for _, pairs in transactions for pair in pairs)
    assert columns.messages == [b"p2pl.ts1" + i for i in (ids[0], ids[1], ids[1], ids[1], ids[2])]
    assert [columns.valid_until(i) for i in range(3)] == [100, 2**40, 300]
    for i, transaction in enumerate(transactions):
        start, end = columns.span(i)
        assert data[start:end] == columns.transaction(i) == b.pack(transaction)
    assert columns.signers(1) == b"".join(keys[1:4])


def test_any_buffer_is_scanned_and_later_changes_do_not_matter(core: ModuleType) -> None:
    data = bytearray(b.batch(b.one_of_each()))
    columns = core.scan_batch(data, bytearray(b.NETWORK), b.LIMITS)
    before = everything(columns)
    data[:] = bytes(len(data))
    assert everything(columns) == before
    assert outcome(core, memoryview(bytes(columns.data))) == before


def test_encode_batch_is_what_the_scan_reads(core: ModuleType) -> None:
    transactions = [b.pack(t) for t in b.one_of_each()]
    for count, number in ((1, 0), (3, 127), (15, 128), (16, 2**16), (300, 2**64 - 1)):
        items = [transactions[0]] * count
        unsigned = core.encode_batch(b.NETWORK, b.MAKER, number, 2**32, items)
        assert unsigned == b.pack([1, b.NETWORK, b.MAKER, number, 2**32, [msgpack.unpackb(t) for t in items]])
        columns = core.scan_batch(b"\x92" + unsigned + b"\xc4\x40" + bytes(64), b.NETWORK, b.LIMITS)
        assert (columns.count, columns.epoch, columns.sequence) == (count, number, 2**32)
    with pytest.raises(ValueError, match="transactions"):
        core.encode_batch(b.NETWORK, b.MAKER, 0, 0, [])
    with pytest.raises(ValueError, match="maker"):
        core.encode_batch(b.NETWORK, b"short", 0, 0, transactions)
    with pytest.raises(ValueError, match="epoch"):
        core.encode_batch(b.NETWORK, b.MAKER, -1, 0, transactions)
    with pytest.raises(ValueError, match="sequence"):
        core.encode_batch(b.NETWORK, b.MAKER, 0, 2**64, transactions)
    with pytest.raises(TypeError, match="sequence"):
        core.encode_batch(b.NETWORK, b.MAKER, 0, "1", transactions)


# Refusals: a good transaction, one thing changed.

A, B, GOLD = b.account("a"), b.account("b"), b.asset("XAU")


def one(operation: Any, **fields: Any) -> Any:
    return b.signed(b.body([operation], A, **fields), ["x"])


TRANSFER = [1, A, B, GOLD, 5]
SIGNED_BACKWARDS = [[b"\2" * 32, bytes(64)], [b"\1" * 32, bytes(64)]]
SEATS: list[Any] = sorted([[A, 1, ""], [B, 2, "b"]])
MANY_SEATS = [[number.to_bytes(32, "big"), 1, ""] for number in range(1025)]
APPROVALS: list[Any] = sorted([[A, bytes(64)], [B, bytes(64)]])
REFUSED_FORMS: dict[str, tuple[Any, str]] = {
    "version": (one(TRANSFER, version=2), "unknown_version"),
    "network": (one(TRANSFER, network=b"elsewher"), "wrong_network"),
    "network width": (one(TRANSFER, network=b"short"), "bad_form"),
    "no operation": (b.signed(b.body([], A), ["x"]), "empty"),
    "operation 0": (one([0, A]), "unknown_operation"),
    "operation 15": (one([15, A]), "unknown_operation"),
    "empty operation": (one([]), "bad_form"),
    "transfer with a field more": (one([*TRANSFER, 1]), "bad_form"),
    "transfer with a field less": (one(TRANSFER[:-1]), "bad_form"),
    "transfer from 31 bytes": (one([1, A[:31], B, GOLD, 5]), "bad_form"),
    "asset of 17 bytes": (one([1, A, B, GOLD + b"x", 5]), "bad_form"),
    "amount as bytes": (one([1, A, B, GOLD, b"5"]), "wrong_type"),
    "negative amount": (one([1, A, B, GOLD, -5]), "not_canonical"),
    "amount as a float": (one([1, A, B, GOLD, 5.0]), "not_canonical"),
    "amount as nil": (one([1, A, B, GOLD, None]), "wrong_type"),
    "account as text": (one([1, "a" * 32, B, GOLD, 5]), "wrong_type"),
    "a map for a transfer": (one({1: 2}), "not_canonical"),
    "kind 2": (one([6, GOLD, 2, 0, A, "name"]), "bad_form"),
    "decimals 19": (one([6, GOLD, 0, 19, A, "name"]), "bad_form"),
    "no name": (one([6, GOLD, 0, 0, A, ""]), "bad_form"),
    "name of 65 bytes": (one([6, GOLD, 0, 0, A, "n" * 65]), "bad_form"),
    "name as bytes": (one([6, GOLD, 0, 0, A, b"name"]), "wrong_type"),
    "policy without keys": (one([8, A, [1, [], 1]]), "bad_form"),
    "policy of 17 keys": (one([8, A, b.policy(*((str(i), 1) for i in range(17)))]), "bad_form"),
    "threshold 0": (one([8, A, b.policy(("x", 1), threshold=0)]), "bad_form"),
    "threshold out of reach": (one([8, A, b.policy(("x", 1), ("y", 2), threshold=4)]), "bad_form"),
    "weight 0": (one([8, A, b.policy(("x", 0), ("y", 1))]), "bad_form"),
    "weight 2^32": (one([8, A, b.policy(("x", 2**32))]), "bad_form"),
    "policy version 0": (one([8, A, b.policy(("x", 1), version=0)]), "bad_form"),
    "policy keys unsorted": (one([8, A, [1, b.policy(("x", 1), ("y", 1))[1][::-1], 1]]), "bad_form"),
    "policy keys twice": (one([8, A, [1, b.policy(("x", 1), ("x", 1))[1], 1]]), "bad_form"),
    "pay with a field less": (one([9, A, B]), "bad_form"),
    "stake with a short key": (one([10, A, 5, bytes(16), B[:31]]), "bad_form"),
    "stake with a long salt": (one([10, A, 5, bytes(17), B]), "bad_form"),
    "unstake of text": (one([11, A, "x" * 32]), "wrong_type"),
    "confirmations as text": (one([12, GOLD, "6"]), "wrong_type"),
    "no seats": (one([13, 2, [], APPROVALS]), "bad_form"),
    "1025 seats": (one([13, 2, MANY_SEATS, APPROVALS]), "bad_form"),
    "seats as a number": (one([13, 2, 3, APPROVALS]), "wrong_type"),
    "seats unsorted": (one([13, 2, SEATS[::-1], APPROVALS]), "bad_form"),
    "a seat twice": (one([13, 2, SEATS[:1] * 2, APPROVALS]), "bad_form"),
    "a seat of two fields": (one([13, 2, [[A, 1]], APPROVALS]), "bad_form"),
    "a seat of weight 0": (one([13, 2, [[A, 0, ""]], APPROVALS]), "bad_form"),
    "a seat of weight 2^32": (one([13, 2, [[A, 2**32, ""]], APPROVALS]), "bad_form"),
    "a seat with a long name": (one([13, 2, [[A, 1, "n" * 65]], APPROVALS]), "bad_form"),
    "no approvals": (one([13, 2, SEATS, []]), "bad_form"),
    "approvals unsorted": (one([13, 2, SEATS, APPROVALS[::-1]]), "bad_form"),
    "an approval of three fields": (one([13, 2, SEATS, [[A, bytes(64), 1]]]), "bad_form"),
    "an approval of 65 bytes": (one([13, 2, SEATS, [[A, bytes(65)]]]), "bad_form"),
    "an empty statement": (one([14, b"", b"s"]), "bad_form"),
    "a statement of 1025 bytes": (one([14, b"s", bytes(1025)]), "bad_form"),
    "a statement as text": (one([14, b"s", "t"]), "wrong_type"),
    "no signature": ([b.body([TRANSFER], A), []], "empty"),
    "signatures unsorted": ([b.body([TRANSFER], A), SIGNED_BACKWARDS], "signatures_unsorted"),
    "signed twice": ([b.body([TRANSFER], A), [[b"\1" * 32, bytes(64)]] * 2], "signatures_unsorted"),
    "signature of 63 bytes": ([b.body([TRANSFER], A), [[b"\1" * 32, bytes(63)]]], "bad_form"),
    "a field too many": ([*one(TRANSFER), 1], "bad_form"),
    "no array": (b"bytes", "wrong_type"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED_FORMS)
def test_form(core: ModuleType, name: str) -> None:
    transaction, code = REFUSED_FORMS[name]
    good = one(TRANSFER)
    columns, refused = core.scan_transactions([b.pack(good), b.pack(transaction)], b.NETWORK, b.LIMITS)
    assert refused == [(1, code)]
    assert columns.data == b.pack(good)
    with pytest.raises(MalformedBytes) as caught:
        core.scan_batch(b.batch([good, transaction]), b.NETWORK, b.LIMITS)
    assert caught.value.code == code
    assert caught.value.offset > len(b.pack(good))


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (b"\x05", b"\xcc\x05"),
        (b"\x05", b"\xcd\x00\x05"),
        (b"\x05", b"\xce\x00\x00\x00\x05"),
        (b"\x05", b"\xcf" + bytes(7) + b"\x05"),
        (b"\xcc\xff", b"\xcd\x00\xff"),
        (b"\xcd\xff\xff", b"\xce\x00\x00\xff\xff"),
        (b"\xce\xff\xff\xff\xff", b"\xcf\x00\x00\x00\x00\xff\xff\xff\xff"),
        (b"\x05", b"\xd0\x05"),
        (b"\x05", b"\xd3" + bytes(7) + b"\x05"),
    ],
)
def test_a_longer_form_of_a_number_is_not_canonical(core: ModuleType, short: bytes, long: bytes) -> None:
    amount = msgpack.unpackb(short)
    start, end = b.pack(one([1, A, B, GOLD, amount])).split(b"\xc4\x10" + GOLD + short)
    good, bad = (start + b"\xc4\x10" + GOLD + number + end for number in (short, long))
    columns, refused = core.scan_transactions([good, bad], b.NETWORK, b.LIMITS)
    assert (columns.count, refused) == (1, [(1, "not_canonical")])


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (b"\x92", b"\xdc\x00\x02"),
        (b"\x92", b"\xdd\x00\x00\x00\x02"),
    ],
)
def test_a_longer_head_is_not_canonical(core: ModuleType, short: bytes, long: bytes) -> None:
    good = b.pack(one(TRANSFER))
    assert good.startswith(short)
    assert core.scan_transactions([long + good[1:]], b.NETWORK, b.LIMITS)[1] == [(0, "not_canonical")]
    network = b"\xc4\x08" + b.NETWORK
    for head in (b"\xc5\x00\x08", b"\xc6\x00\x00\x00\x08"):
        longer = good.replace(network, head + b.NETWORK)
        assert core.scan_transactions([longer], b.NETWORK, b.LIMITS)[1] == [(0, "not_canonical")]


@pytest.mark.parametrize(
    ("name", "good"),
    [
        (b"plain", True),
        ("\u00fc\u07ff\u0800\uffff\U00010000\U0010ffff".encode(), True),
        (b"\x80", False),  # a second byte without its first
        (b"\xc3", False),  # cut off
        (b"\xc1\xbf", False),  # longer than needed
        (b"\xe0\x9f\xbf", False),
        (b"\xf0\x8f\xbf\xbf", False),
        (b"\xed\xa0\x80", False),  # a surrogate
        (b"\xf4\x90\x80\x80", False),  # above U+10FFFF
        (b"\xf5\x80\x80\x80", False),
        (b"\xe2\x82", False),
        (b"\xe2\x28\xa1", False),
        (b"\xe2\x82\x28", False),
        (b"\xf0\x9f\x92", False),
        (b"\xff", False),
    ],
)
def test_text_is_valid_utf8(core: ModuleType, name: bytes, good: bool) -> None:
    placeholder = "n" * len(name)
    data = b.pack(one([6, GOLD, 0, 0, A, placeholder])).replace(placeholder.encode() + b"\x91", name + b"\x91")
    _, refused = core.scan_transactions([data], b.NETWORK, b.LIMITS)
    assert refused == ([] if good else [(0, "not_canonical")])


def test_limits(core: ModuleType) -> None:
    transactions = b.one_of_each()
    data = b.batch(transactions)
    size = max(len(b.pack(t)) for t in transactions)
    exact = Limits(3, 14, 3, size, 5)
    assert core.scan_batch(data, b.NETWORK, exact).count == 3
    for changed, code in (
        ({"max_transactions": 2}, "too_many"),
        ({"max_operations": 13}, "too_many"),
        ({"max_signatures": 2}, "too_many"),
        ({"max_transaction_bytes": size - 1}, "too_large"),
        ({"max_batch_signatures": 4}, "too_many"),
    ):
        limits = replace(exact, **changed)
        with pytest.raises(MalformedBytes) as caught:
            core.scan_batch(data, b.NETWORK, limits)
        assert caught.value.code == code
        assert outcome(_reference, data, limits) == (code, caught.value.offset)
    # Each transaction from a client is judged alone: what limits the batch does not count.
    alone = Limits(1, 14, 3, size, 1)
    columns, refused = core.scan_transactions([b.pack(t) for t in transactions], b.NETWORK, alone)
    assert (columns.count, refused) == (3, [])


def test_batch_heads(core: ModuleType) -> None:
    good = b.one_of_each()[:1]
    assert outcome(core, b.batch(good, version=2)) == ("unknown_version", 2)
    assert outcome(core, b.batch(good, network=b"elsewher")) == ("wrong_network", 3)
    assert outcome(core, b.batch([]))[0] == "empty"
    assert outcome(core, b.batch(good, maker=b"short"))[0] == "bad_form"
    assert outcome(core, b.batch(good, epoch=-1))[0] == "not_canonical"
    assert outcome(core, b.batch(good, signature=bytes(63)))[0] == "bad_form"
    data = b.batch(good)
    assert outcome(core, data + b"\0") == ("trailing", len(data))
    assert outcome(core, b"") == ("truncated", 0)
    # A count that the bytes cannot hold is refused before anything is done for it.
    head = b.pack([1, b.NETWORK, b.MAKER, 0, 0])
    assert outcome(core, b"\x92\x96" + head[1:] + b"\xdd\xff\xff\xff\xff" + bytes(100))[0] == "truncated"


def test_every_cut_is_refused(core: ModuleType) -> None:
    data = b.batch(b.one_of_each())
    for end in range(len(data)):
        code, offset = outcome(core, data[:end])
        assert code == "truncated"
        assert offset <= end


def mutants(seed: int, count: int) -> list[bytes]:
    """Real batches with a few bytes changed, taken out, put in, or moved."""
    rng = random.Random(seed)
    small = b.batch(b.one_of_each()[:1])
    joint = b.batch([b.signed(b.body([TRANSFER], A), ["x", "y", "z"])])
    sources = [b.batch(b.one_of_each()), small, joint, b.batch([one(TRANSFER)] * 20)]
    heads = bytes.fromhex("00 01 7f 80 90 91 9f a0 c0 c4 c5 c6 cc cd ce cf d9 dc dd ff")
    found = []
    for _ in range(count):
        data = bytearray(rng.choice(sources))
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            at = rng.randrange(len(data))
            kind = rng.randrange(6)
            if kind == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                data[at] = rng.choice(heads)
            elif kind == 2:
                del data[at : at + rng.choice((1, 2, 32))]
            elif kind == 3:
                data[at:at] = rng.randbytes(rng.choice((1, 2, 33)))
            elif kind == 4:
                data[at] = rng.randrange(256)
            else:
                other = rng.randrange(len(data))
                data[at : at + 9] = data[other : other + 9]
            if not data:
                data = bytearray(b"\x92")
        found.append(bytes(data))
    return found


def test_mutants_are_judged_alike_and_what_passes_is_canonical(compiled: ModuleType) -> None:
    passed = 0
    codes = set()
    for data in mutants(seed=1, count=6000):
        expected = outcome(_reference, data)
        assert outcome(compiled, data) == expected, data.hex()
        if isinstance(expected, tuple):
            codes.add(expected[0])
        else:
            passed += 1
            assert b.pack(msgpack.unpackb(data)) == data
    assert passed > 100
    assert codes >= {"truncated", "trailing", "not_canonical", "wrong_type", "bad_form", "unknown_operation"}
    assert codes >= {"unknown_version", "wrong_network", "signatures_unsorted"}


def test_every_byte_changed_is_judged_alike(compiled: ModuleType) -> None:
    data = b.batch([b.one_of_each()[1]])
    for at in range(len(data)):
        for value in (0x00, 0x01, 0x7F, 0x92, 0xA1, 0xC0, 0xC4, 0xCC, 0xCF, 0xDD, data[at] ^ 0x80):
            bent = data[:at] + bytes([value]) + data[at + 1 :]
            assert outcome(compiled, bent) == outcome(_reference, bent), (at, value)


def test_single_transactions_are_judged_alike(compiled: ModuleType) -> None:
    rng = random.Random(2)
    items = []
    for data in mutants(seed=3, count=800):
        cut = data[49 : -66 - rng.randrange(2)]
        items.append(cut)
        items.append(b.pack(rng.choice(b.one_of_each())))
    results = []
    for core in (_reference, compiled):
        columns, refused = core.scan_transactions(items, b.NETWORK, b.LIMITS)
        results.append((everything(columns), refused))
        bad = {index for index, _ in refused}
        assert columns.data == b"".join(item for index, item in enumerate(items) if index not in bad)
    assert results[0] == results[1]
    assert len(results[0][1]) > 400


def test_no_transactions_at_all(core: ModuleType) -> None:
    columns, refused = core.scan_transactions([], b.NETWORK, b.LIMITS)
    assert everything(columns)[:7] == [0, b"", b"", b"", 0, b"", b""]
    assert refused == []
    columns, refused = core.scan_transactions([b"", b"\x92"], b.NETWORK, b.LIMITS)
    assert (columns.count, refused) == (0, [(0, "truncated"), (1, "truncated")])


def test_wrong_arguments_are_named(core: ModuleType) -> None:
    data = b.batch(b.one_of_each())
    with pytest.raises(TypeError, match="data"):
        core.scan_batch("text", b.NETWORK, b.LIMITS)
    with pytest.raises(ValueError, match="network_id"):
        core.scan_batch(data, b"long network", b.LIMITS)
    with pytest.raises(TypeError, match="limits"):
        core.scan_batch(data, b.NETWORK, (1, 2, 3, 4, 5))
    with pytest.raises(TypeError, match="data"):
        core.scan_transactions([data, 7], b.NETWORK, b.LIMITS)
    with pytest.raises(ValueError, match="max_operations"):
        replace(b.LIMITS, max_operations=0)
    with pytest.raises(ValueError, match="max_operations"):  # a receipt could not name the last one
        replace(b.LIMITS, max_operations=65_536)
    with pytest.raises(TypeError, match="max_signatures"):
        replace(b.LIMITS, max_signatures=1.5)
    columns = core.scan_batch(data, b.NETWORK, b.LIMITS)
    for method in (columns.span, columns.transaction, columns.valid_until, columns.signers):
        for index in (-1, 3, 2**70):
            with pytest.raises(ValueError, match="i must be"):
                method(index)
        with pytest.raises(TypeError, match="i must be"):
            method("0")
    with pytest.raises(TypeError):
        core.Columns()


def test_receipts(core: ModuleType) -> None:
    ids = bytes(range(32)) + bytes(32) + b"\xff" * 32
    codes = bytes.fromhex("000000000001ffff012c0080")
    receipts = core.receipts(ids, codes)
    assert receipts == [b.pack([1, ids[:32], 0, 0]), b.pack([1, bytes(32), 1, 65535]), b.pack([1, ids[64:], 300, 128])]
    assert core.receipts_root(ids, codes) == core.merkle_root(receipts)
    assert core.receipts(b"", b"") == []
    assert core.receipts_root(b"", bytearray()) == sha256(b"").digest()
    for count in range(1, 20):
        codes = random.Random(count).randbytes(4 * count)
        ids = random.Random(-count).randbytes(32 * count)
        assert core.receipts_root(ids, codes) == _reference.merkle_root(_reference.receipts(ids, codes))
    for wrong_ids, wrong_codes in ((bytes(31), bytes(4)), (bytes(32), bytes(3)), (bytes(32), bytes(8))):
        with pytest.raises(ValueError, match=r"ids|codes"):
            core.receipts(wrong_ids, wrong_codes)
        with pytest.raises(ValueError, match=r"ids|codes"):
            core.receipts_root(wrong_ids, wrong_codes)
