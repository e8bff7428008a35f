"""Transactions, batches and small states for the tests, written with the msgpack library: a second encoder."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgpack

from p2pledger._reference import Limits

NETWORK = b"test-net"
MAKER = bytes(range(32))
LIMITS = Limits(
    max_transactions=1000,
    max_operations=64,
    max_signatures=16,
    max_transaction_bytes=65536,
    max_batch_signatures=4000,
)
WIDTHS = {0: 2, 1: 32, 2: 16, 3: 48, 4: 80, 5: 4, 6: 32, 7: 8, 8: 40, 9: 32}
ACCOUNTS, ASSETS, HOLDINGS, LOCKS, REPLAY, NATIVE = 1, 2, 3, 4, 8, 9


def pack(value: object) -> bytes:
    packed = msgpack.packb(value, use_bin_type=True)
    assert isinstance(packed, bytes)
    return packed


def account(name: str) -> bytes:
    return sha256(b"account " + name.encode()).digest()


def key(name: str) -> bytes:
    """A public key; nobody has its secret."""
    return sha256(b"key " + name.encode()).digest()


def asset(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")


def policy(*keys: tuple[str, int], threshold: int = 1, version: int = 1) -> list[Any]:
    return [threshold, sorted([key(name), weight] for name, weight in keys), version]


def body(operations: Sequence[Any], payer: bytes, valid_until: int = 100, salt: int = 0, **fields: Any) -> list[Any]:
    return [
        fields.get("version", 1),
        fields.get("network", NETWORK),
        valid_until,
        salt.to_bytes(16, "big"),
        payer,
        fields.get("max_fee", 0),
        list(operations),
    ]


def signed(content: list[Any], signers: Sequence[str]) -> list[Any]:
    """With signatures that stand in for real ones: neither the scan nor the execution verifies."""
    return [content, sorted([key(name), sha256(name.encode()).digest() * 2] for name in signers)]


def transaction_id(content: list[Any]) -> bytes:
    return sha256(b"p2pl.tx1" + pack(content)).digest()


def batch(transactions: Sequence[Any], **fields: Any) -> bytes:
    """A signed batch around transactions as `signed` makes them."""
    unsigned = [
        fields.get("version", 1),
        fields.get("network", NETWORK),
        fields.get("maker", MAKER),
        fields.get("epoch", 7),
        fields.get("sequence", 300),
        list(transactions),
    ]
    return pack([unsigned, fields.get("signature", bytes(64))])


def one_of_each() -> list[Any]:
    """Transactions with all operations, of every width of number."""
    a, b, c = account("a"), account("b"), account("c")
    gold = asset("XAU000000001CSDC")
    operations = [
        [1, a, b, gold, 5],
        [2, a, gold, 200, c],
        [3, a, gold, 70000, c],
        [4, gold, a, 2**33],
        [5, gold, a, 2**64 - 1],
        [6, gold, 1, 18, a, "Gold, in grammes \u00fc\u4e2d\U0001f4b0"],
        [7, a, bytes(16), policy(("x", 1), ("y", 2**32 - 1), threshold=2**32)],
        [8, a, policy(("x", 1), version=2**40)],
        [9, a, b, 300],
        [10, a, 2**64 - 1, bytes(16), key("x")],
        [11, a, b],
        [12, gold, 100_000],
        [13, 2**40, sorted([[key("x"), 1, ""], [key("y"), 2**32 - 1, "n" * 64]]), sorted([[key("x"), bytes(64)]])],
        [14, b"s", b"t" * 1024],
    ]
    return [
        signed(body(operations[:3], a, salt=1), ["x"]),
        signed(body(operations, a, valid_until=2**40, salt=2, max_fee=1000), ["x", "y", "z"]),
        signed(body(operations[:1], b, valid_until=300, salt=3), ["y"]),
    ]


def put_account(branch: Any, name: str, *keys: tuple[str, int], threshold: int = 1, flags: int = 0) -> None:
    branch.put(ACCOUNTS, account(name), pack([1, flags, policy(*(keys or ((name, 1),)), threshold=threshold)]))


def put_asset(branch: Any, name: str, flags: int = 0) -> None:
    row = [1, flags, 0, 0, account("issuer"), 0, 0, name]
    branch.put(ASSETS, asset(name), pack(row))


def put_holding(branch: Any, name: str, holder: str, free: int, locked: int = 0) -> None:
    branch.put(HOLDINGS, asset(name) + account(holder), pack([1, free, locked]))


def put_native(branch: Any, holder: str, free: int) -> None:
    branch.put(NATIVE, account(holder), pack([1, free]))


def native(state: Any, holder: str) -> int | None:
    value = state.get(NATIVE, account(holder))
    return None if value is None else msgpack.unpackb(value)[1]


def holding(state: Any, name: str, holder: str) -> list[int] | None:
    """[free, locked], or None where there is no row."""
    value = state.get(HOLDINGS, asset(name) + account(holder))
    return None if value is None else msgpack.unpackb(value)[1:]


def lock(state: Any, name: str, holder: str, controller: str) -> int | None:
    value = state.get(LOCKS, asset(name) + account(holder) + account(controller))
    return None if value is None else msgpack.unpackb(value)[1]


def naive_table_root(table: int, rows: Mapping[bytes, bytes]) -> bytes:
    """The root of a table straight from the definition of section 7, without a tree."""

    def root_of(keys: list[bytes]) -> bytes:
        if not keys:
            return bytes(32)
        if len(keys) == 1:
            return sha256(bytes([2, table]) + keys[0] + rows[keys[0]]).digest()
        bits = [format(int.from_bytes(k, "big"), f"0{8 * len(k)}b") for k in keys]
        at = next(i for i in range(len(bits[0])) if len({b[i] for b in bits}) == 2)
        left = [k for k, b in zip(keys, bits, strict=True) if b[at] == "0"]
        right = [k for k, b in zip(keys, bits, strict=True) if b[at] == "1"]
        return sha256(b"\x03" + at.to_bytes(2, "big") + root_of(left) + root_of(right)).digest()

    return root_of(sorted(rows))


def naive_state_root(tables: Mapping[int, Mapping[bytes, bytes]]) -> bytes:
    level = [sha256(b"\0" + naive_table_root(table, tables.get(table, {}))).digest() for table in range(64)]
    while len(level) > 1:
        level = [sha256(b"\1" + level[i] + level[i + 1]).digest() for i in range(0, len(level), 2)]
    return level[0]
