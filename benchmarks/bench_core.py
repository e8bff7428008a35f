"""Measures the core floor beside what plain Python offers for the same work, and prints a table.

    python benchmarks/bench_core.py [--json] [--repeat 5] [--only WORD] [--scale 1.0]

Every figure is the best of `repeat` runs on one thread of this machine, over fixed seeded input: items per second
of this implementation and of the rival named beside it. The rivals for hashing and Merkle trees are loops over
hashlib; for the tree and the execution the reference core; for signatures PyNaCl and the plain-integer check.
"""

import argparse
import hashlib
import json
import platform
import random
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import msgpack
from nacl.bindings import crypto_sign_open
from nacl.signing import SigningKey

from p2pledger import _reference, core

NETWORK = b"bench-nw"
LIMITS = core.Limits(100_000, 64, 16, 65_536, 100_000)
WIDTHS = {1: 32, 2: 16, 3: 48, 4: 80, 8: 40}
ASSET, CASH = b"DE0005140008CSDC", b"CNY".ljust(12, b"\0") + b"ICBC"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. Rates are items per second."""

    what: str
    item: str
    items: int
    rate: float
    rival: str
    rival_rate: float | None


def best_rate(work: Callable[[], Any], items: int, repeat: int) -> float:
    """Items per second of the fastest run."""
    best = float("inf")
    for _ in range(repeat):
        before = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - before)
    return items / best


def pack(value: object) -> bytes:
    packed = msgpack.packb(value, use_bin_type=True)
    assert isinstance(packed, bytes)
    return packed


def identifier(kind: str, number: int) -> bytes:
    return hashlib.sha256(f"{kind} {number}".encode()).digest()


def hashing(repeat: int, scale: float) -> list[Figure]:
    figures = []
    for size, count in ((67, 100_000), (300, 50_000), (4096, 5_000)):
        count = max(1, int(count * scale))
        messages = [random.Random(i).randbytes(size) for i in range(count)]
        figures.append(
            Figure(
                f"sha256_many, {size} bytes each",
                "message",
                count,
                best_rate(lambda m=messages: core.sha256_many(m), count, repeat),
                "hashlib loop",
                best_rate(lambda m=messages: [hashlib.sha256(x).digest() for x in m], count, repeat),
            )
        )
    return figures


def hashlib_merkle_root(leaves: list[bytes]) -> bytes:
    """The loop that one would write."""
    level = [hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves]
    while len(level) > 1:
        pairs = [hashlib.sha256(b"\1" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(level) & ~1 :]
    return level[0]


def merkle(repeat: int, scale: float) -> list[Figure]:
    count = max(2, int(20_000 * scale))
    leaves = [random.Random(i).randbytes(42) for i in range(count)]
    assert core.merkle_root(leaves) == hashlib_merkle_root(leaves)
    ids, codes = b"".join(identifier("id", i) for i in range(count)), bytes(4 * count)
    return [
        Figure(
            "merkle_root",
            "leaf",
            count,
            best_rate(lambda: core.merkle_root(leaves), count, repeat),
            "hashlib loop",
            best_rate(lambda: hashlib_merkle_root(leaves), count, repeat),
        ),
        Figure(
            "receipts_root",
            "receipt",
            count,
            best_rate(lambda: core.receipts_root(ids, codes), count, repeat),
            "hashlib loop",
            best_rate(lambda: hashlib_merkle_root(_reference.receipts(ids, codes)), count, repeat),
        ),
    ]


def trades(count: int, accounts: int) -> list[bytes]:
    """Signed delivery-versus-payment transactions; the signatures stand in for real ones."""
    rng = random.Random(1)
    signed = []
    for number in range(count):
        seller, buyer = rng.sample(range(accounts), 2)
        operations = [
            [1, identifier("account", seller), identifier("account", buyer), ASSET, rng.randrange(1, 100)],
            [1, identifier("account", buyer), identifier("account", seller), CASH, rng.randrange(1, 10_000)],
        ]
        body = [1, NETWORK, 100, number.to_bytes(16, "big"), identifier("account", seller), 0, operations]
        signatures = sorted([identifier("key", who), bytes(64)] for who in (seller, buyer))
        signed.append(pack([body, signatures]))
    return signed


def scanning(repeat: int, scale: float) -> list[Figure]:
    count = max(1, int(500 * scale))
    unsigned = core.encode_batch(NETWORK, bytes(32), 1, 1, trades(count, 1000))
    batch = b"\x92" + unsigned + b"\xc4\x40" + bytes(64)
    return [
        Figure(
            f"scan_batch, {len(batch) // count} bytes each",
            "transaction",
            count,
            best_rate(lambda: core.scan_batch(batch, NETWORK, LIMITS), count, repeat),
            "reference core",
            best_rate(lambda: _reference.scan_batch(batch, NETWORK, LIMITS), count, max(1, repeat // 3)),
        )
    ]


def filled(implementation: Any, accounts: int) -> Any:
    branch = implementation.empty_state(WIDTHS).branch()
    for asset in (ASSET, CASH):
        branch.put(2, asset, pack([1, 0, 0, 0, bytes(32), 0, 0, "asset"]))
    for number in range(accounts):
        account = identifier("account", number)
        branch.put(1, account, pack([1, 0, [1, [[identifier("key", number), 1]], 1]]))
        for asset in (ASSET, CASH):
            branch.put(3, asset + account, pack([1, 10**12, 0]))
    return branch.commit()


def tree(repeat: int, scale: float) -> list[Figure]:
    count = max(10, int(20_000 * scale))
    keys = [ASSET + identifier("account", i) for i in range(count)]

    def fill(implementation: Any) -> Any:
        branch = implementation.empty_state(WIDTHS).branch()
        for key in keys:
            branch.put(3, key, b"\x93\x01\x05\x00")
        return branch.commit()

    def rewrite(version: Any) -> None:
        branch = version.branch()
        for key in keys[::20]:
            branch.put(3, key, b"\x93\x01\x06\x00")
        branch.commit()

    def read(version: Any) -> None:
        for key in keys:
            version.get(3, key)

    one, other = fill(core), fill(_reference)
    assert one.root() == other.root()
    few = max(1, repeat // 3)
    rewritten = len(keys[::20])
    return [
        Figure(
            "put into an empty table, and the root",
            "row",
            count,
            best_rate(lambda: fill(core), count, repeat),
            "reference core",
            best_rate(lambda: fill(_reference), count, few),
        ),
        Figure(
            "put over existing rows, and the root",
            "row",
            rewritten,
            best_rate(lambda: rewrite(one), rewritten, repeat),
            "reference core",
            best_rate(lambda: rewrite(other), rewritten, few),
        ),
        Figure(
            "get",
            "row",
            count,
            best_rate(lambda: read(one), count, repeat),
            "reference core",
            best_rate(lambda: read(other), count, few),
        ),
    ]


def execution(repeat: int, scale: float) -> list[Figure]:
    accounts, count = max(10, int(5_000 * scale)), max(1, int(2_000 * scale))
    transactions = trades(count, accounts)
    rates = []
    roots = set()
    for implementation, times in ((core, repeat), (_reference, max(1, repeat // 3))):
        version = filled(implementation, accounts)
        columns, refused = implementation.scan_transactions(transactions, NETWORK, LIMITS)
        assert not refused
        codes = bytearray(4 * count)

        def execute(version: Any = version, columns: Any = columns, codes: bytearray = codes, impl: Any = None) -> None:
            branch = version.branch()
            assert branch.execute_plain(columns, 0, 50, 100, 0, codes) == count
            roots.add(branch.commit().root())

        rates.append(best_rate(execute, count, times))
        assert codes == bytes(4 * count)
    assert len(roots) == 1
    return [
        Figure(
            f"execute_plain, DvP over {accounts} accounts, and the root",
            "transaction",
            count,
            rates[0],
            "reference core",
            rates[1],
        )
    ]


def signatures(repeat: int, scale: float) -> list[Figure]:
    count = max(1, int(500 * scale))
    secrets = [SigningKey(identifier("seed", i)) for i in range(count)]
    messages = [b"p2pl.ts1" + identifier("message", i) for i in range(count)]
    keys = b"".join(bytes(secret.verify_key) for secret in secrets)
    both = b"".join(secret.sign(message).signature for secret, message in zip(secrets, messages, strict=True))
    assert core.verify_batch(keys, both, messages) == b"\1" * count

    def pynacl() -> None:
        for i, message in enumerate(messages):
            crypto_sign_open(both[64 * i : 64 * i + 64] + message, keys[32 * i : 32 * i + 32])

    wrong = [b"another message" for _ in messages]
    few = max(1, repeat // 3)
    return [
        Figure(
            "verify_batch, valid signatures",
            "signature",
            count,
            best_rate(lambda: core.verify_batch(keys, both, messages), count, repeat),
            "PyNaCl loop",
            best_rate(pynacl, count, repeat),
        ),
        Figure(
            "verify_batch, refused signatures",
            "signature",
            count,
            best_rate(lambda: core.verify_batch(keys, both, wrong), count, few),
            "plain integers",
            best_rate(lambda: _reference.verify_batch(keys, both, wrong), count, few),
        ),
    ]


def memory(repeat: int, scale: float) -> list[Figure]:
    """Resident bytes for each holding with its account, by the growth of this process; not a rate."""
    count = max(1000, int(200_000 * scale))
    before = resident_bytes()
    branch = core.empty_state(WIDTHS).branch()
    for number in range(count):
        account = identifier("account", number)
        branch.put(1, account, pack([1, 0, [1, [[identifier("key", number), 1]], 1]]))
        branch.put(3, ASSET + account, pack([1, 10**6 + number, 0]))
    version = branch.commit()
    size = (resident_bytes() - before) / count
    version.release()
    return [Figure("memory of a holding and its account (bytes, not a rate)", "byte", count, size, "", None)]


def resident_bytes() -> int:
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


SECTIONS = (memory, hashing, merkle, scanning, tree, execution, signatures)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures the core floor beside plain Python.")
    parser.add_argument("--json", action="store_true", help="one object on stdout instead of the table")
    parser.add_argument("--repeat", type=int, default=5, help="runs of which the best counts")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the amounts of work")
    parser.add_argument("--only", default="", help="only the sections whose name contains this word")
    arguments = parser.parse_args()
    if not core.compiled:
        print(core.description(), file=sys.stderr)
    figures: list[Figure] = []
    for section in SECTIONS:
        if arguments.only in section.__name__:
            figures += section(max(1, arguments.repeat), arguments.scale)
    if arguments.json:
        print(
            json.dumps(
                {
                    "schema": 1,
                    "core": {"compiled": core.compiled, "level": core.level(), "levels": core.levels()},
                    "python": platform.python_version(),
                    "machine": platform.machine(),
                    "figures": [asdict(figure) for figure in figures],
                }
            )
        )
        return 0
    print(f"{core.description()}; Python {platform.python_version()}, {platform.machine()}\n")
    print(f"{'what':<58} {'items':>7} {'per second':>12}   {'rival':<16} {'per second':>12} {'factor':>7}")
    for figure in figures:
        line = f"{figure.what:<58} {figure.items:>7} {figure.rate:>12,.0f}"
        if figure.rival_rate is not None:
            line += f"   {figure.rival:<16} {figure.rival_rate:>12,.0f} {figure.rate / figure.rival_rate:>7.2f}"
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
