"""Measures the core beside every peer that is installed: ``p2pledger bench core``.

How it is measured. Everything runs in one thread, through the Python API, over input from fixed seeds. What is compared
takes turns: in each round every contender runs once, so that a busy neighbour or a falling clock meets all of them
alike. Times are the processor time of the thread (``time.thread_time``), so waiting for the processor does not count;
what others do to the caches and the memory does. Minimum and median of the rounds are kept, ratios are of medians. A
*canary*, one fixed loop of plain Python, is timed in every round as well: if its median is far from its minimum, or
from what it was elsewhere, the machine was not itself.

Peers that check signatures one by one are timed over some of the signatures and told per signature.
"""

from __future__ import annotations

import hashlib
import importlib
import platform
import random
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgpack

from p2pledger import core
from p2pledger.bench.machine import commit_of, cpu_model
from p2pledger.bench.market import Market

__all__ = ["SECTIONS", "Environment", "Figure", "Timing", "describe", "measure"]

NETWORK: Final = b"bench-nw"
LIMITS: Final = core.Limits(100_000, 64, 16, 65_536, 200_000)
WIDTHS: Final = {1: 32, 2: 16, 3: 48, 4: 80, 8: 40}
ASSET: Final = b"DE0005140008CSDC"
CASH: Final = b"CNY".ljust(12, b"\0") + b"ICBC"
PEER_SIGNATURES: Final = 200
"""Over so many signatures the peers that check one by one are timed."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Nanoseconds an item: the fastest round, and the one in the middle."""

    name: str
    minimum_ns: float
    median_ns: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One line: what was done to how many items, by the core at one level, and by its peers in the same rounds."""

    section: str
    what: str
    item: str
    items: int
    level: str
    ours: Timing
    peers: tuple[Timing, ...] = ()
    target: float | None = None
    """What the ratio to the first peer should be at least; without a peer, items a second."""

    def ratio(self, peer: Timing) -> float:
        return peer.median_ns / self.ours.median_ns

    @property
    def per_second(self) -> float:
        return 1e9 / self.ours.median_ns if self.ours.median_ns else 0.0


@dataclass(frozen=True, slots=True)
class Environment:
    """Where the figures come from."""

    cpu: str
    level: str
    levels: tuple[str, ...]
    core: str
    compiler: str
    commit: str
    python: str
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much is done: rounds, accounts of the large state, and a factor for all other amounts."""

    rounds: int
    accounts: int
    scale: float

    def of(self, amount: int, least: int = 1) -> int:
        return max(least, int(amount * self.scale))


Contender = tuple[str, int, Callable[[], Any]]
"""A name, the items of one run, and the run."""


def describe() -> Environment:
    """This machine, this build, and which peers are installed."""
    return Environment(
        cpu=cpu_model(),
        level=core.level(),
        levels=tuple(core.levels()),
        core=core.description(),
        compiler=core.compiler(),
        commit=commit_of(),
        python=platform.python_version(),
        peers=tuple(f"{name} {version}" for name in ("PyNaCl", "cryptography", "pymerkle") if (version := _peer(name))),
    )


def measure(amounts: Amounts, only: str = "", levels: Sequence[str] = ()) -> Iterator[Figure]:
    """The figures, as they are ready. only: the sections whose name contains it; levels: all if none is given."""
    before = core.level()
    try:
        for name, section in SECTIONS.items():
            if only in name:
                yield from section(amounts, tuple(levels) or tuple(core.levels()))
    finally:
        core.set_level(before)


def _timings(rounds: int, contenders: Sequence[Contender]) -> list[Timing]:
    """Every contender once a round, in turns; before the first round once without being timed."""
    times: list[list[float]] = [[] for _ in contenders]
    for _, _, work in contenders:
        work()
    for _ in range(rounds):
        for taken, (_, items, work) in zip(times, contenders, strict=True):
            begun = time.thread_time_ns()
            work()
            taken.append((time.thread_time_ns() - begun) / items)
    return [
        Timing(name, min(taken), statistics.median(taken))
        for taken, (name, _, _) in zip(times, contenders, strict=True)
    ]


def _at_level(level: str, work: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> None:
        core.set_level(level)
        work()

    return run


def _at_levels(
    section: str,
    what: str,
    item: str,
    items: int,
    levels: Sequence[str],
    rounds: int,
    work: Callable[[], Any],
    peers: Sequence[Contender] = (),
    target: float | None = None,
    targets: dict[str, float] | None = None,
) -> Iterator[Figure]:
    """One figure for each level, all of them and the peers in the same rounds; ``target`` is for the best level."""
    ours: list[Contender] = [(level, items, _at_level(level, work)) for level in levels]
    timings = _timings(rounds, [*ours, *peers])
    for level, timing in zip(levels, timings, strict=False):
        goal = (targets or {}).get(level, target if level == core.levels()[-1] else None)
        yield Figure(section, what, item, items, level, timing, tuple(timings[len(ours) :]), goal)


# What is measured


def canary(amounts: Amounts, levels: Sequence[str]) -> Iterator[Figure]:
    """The state of the machine: the same loop everywhere, which nothing of ours can make faster."""

    def loop() -> int:
        number = 1
        for i in range(20_000):
            number = (number * 48271 + i) % 2147483647
        return number

    (timing,) = _timings(max(20, amounts.rounds), [("python", 20_000, loop)])
    yield Figure("canary", "a fixed loop in plain Python", "step", 20_000, "python", timing)


def hashing(amounts: Amounts, levels: Sequence[str]) -> Iterator[Figure]:
    for size, count, target in ((64, 10_000, 8.0), (300, 10_000, None), (4096, 1_000, None)):
        count = amounts.of(count)
        messages = [random.Random(i).randbytes(size) for i in range(count)]
        peers: list[Contender] = [
            ("hashlib loop", count, partial(lambda m: [hashlib.sha256(x).digest() for x in m], messages))
        ]
        yield from _at_levels(
            "hashing", f"sha256_many, {size} B each", "message", count, levels, amounts.rounds,
            partial(core.sha256_many, messages), peers, target,
        )  # fmt: skip


def hashlib_merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The loop that one would write."""
    level = [hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves]
    while len(level) > 1:
        pairs = [hashlib.sha256(b"\1" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(level) & ~1 :]
    return level[0]


def merkle(amounts: Amounts, levels: Sequence[str]) -> Iterator[Figure]:
    count = amounts.of(10_000, 2)
    leaves = [random.Random(i).randbytes(200) for i in range(count)]
    assert core.merkle_root(leaves) == hashlib_merkle_root(leaves)
    peers: list[Contender] = [("hashlib loop", count, lambda: hashlib_merkle_root(leaves))]
    if _peer("pymerkle"):
        tree_type = importlib.import_module("pymerkle").InmemoryTree

        def pymerkle() -> Any:
            tree = tree_type(algorithm="sha256")
            for leaf in leaves[: count // 10]:
                tree.append_entry(leaf)
            return tree.get_state()

        peers.append(("pymerkle", max(1, count // 10), pymerkle))
    yield from _at_levels(
        "merkle", "merkle_root, leaves of 200 B", "leaf", count, levels, amounts.rounds,
        lambda: core.merkle_root(leaves), peers, 7.0,
    )  # fmt: skip
    ids, codes = b"".join(_identifier("id", i) for i in range(count)), bytes(4 * count)
    yield from _at_levels(
        "merkle", "receipts_root", "receipt", count, levels, amounts.rounds, lambda: core.receipts_root(ids, codes)
    )


def signatures(amounts: Amounts, levels: Sequence[str]) -> Iterator[Figure]:
    """Messages of 200 bytes. No key is seen twice but where it is said."""
    count = amounts.of(8192, 64)
    keys, both, messages = _signed_messages(count, count)
    peers = _verifiers(keys, both, messages, min(PEER_SIGNATURES, count))
    rounds = max(3, amounts.rounds // 2)
    for some, targets in (
        (64, {"avx512": 8.0}),
        (1024, {"avx512": 16.0}),
        (8192, {"avx512": 20.0, "avx2": 6.0, "portable": 4.0}),
    ):
        some = min(some, count)
        yield from _at_levels(
            "signatures", f"verify_batch, {some} signatures, distinct keys", "signature", some, levels, rounds,
            partial(core.verify_batch, keys[: 32 * some], both[: 64 * some], messages[:some]), peers, targets=targets,
        )  # fmt: skip
    bent = bytearray(both)
    bent[64 * (count // 3) + 40] ^= 1
    one_bad = bytes(bent)
    for level in levels:
        # One level at a time: its peer is the good batch at the same level, the one that was set last.
        yield from _at_levels(
            "signatures", f"verify_batch, {count} signatures, one of them bad", "signature", count, [level], rounds,
            lambda: core.verify_batch(keys, one_bad, messages),
            [("all good", count, lambda: core.verify_batch(keys, both, messages))], targets={"avx512": 0.25},
        )  # fmt: skip
    few_keys, few_both, few_messages = _signed_messages(count, 64)
    yield from _at_levels(
        "signatures", f"verify_batch, {count} signatures, 64 keys", "signature", count, levels, rounds,
        lambda: core.verify_batch(few_keys, few_both, few_messages),
        _verifiers(few_keys, few_both, few_messages, min(PEER_SIGNATURES, count)), targets={"avx512": 35.0},
    )  # fmt: skip


def block(amounts: Amounts, levels: Sequence[str]) -> Iterator[Figure]:
    """A block of transfers with one signature each, over a large state: scan, ids, Merkle root, execution, new root."""
    count = amounts.of(10_000)
    accounts = max(2, amounts.accounts)
    data, senders = _signed_batch(count, accounts)
    version = _filled(accounts, senders)

    def run(verified: bool) -> None:
        if verified:
            columns = core.scan_batch(data, NETWORK, LIMITS)
        else:
            columns, verdict = core.validate(data, NETWORK, LIMITS)
            assert verdict.flags == b"\1" * count
        columns.transactions_root()
        codes = bytearray(4 * count)
        with version.branch() as branch:
            done = branch.execute_plain(columns, 0, 50, 100, 0, codes)
            following = branch.commit()
        assert done == count
        assert not any(codes)
        following.root()
        core.receipts_root(columns.ids, bytes(codes))
        following.release()

    where = f"of {count} transfers over {accounts} accounts"
    yield from _at_levels(
        "block", f"validate and execute a block {where}, signatures not seen before", "transaction", count, levels,
        max(3, amounts.rounds // 2), lambda: run(verified=False), target=120_000.0,
    )  # fmt: skip
    yield from _at_levels(
        "block", f"the same {where}, signatures checked before", "transaction", count, levels, amounts.rounds,
        lambda: run(verified=True), target=400_000.0,
    )  # fmt: skip
    version.release()


def rules(amounts: Amounts, levels: Sequence[str]) -> Iterator[Figure]:
    """The same block with ever more transactions that bear rules, in turns; the peer is the plain one."""
    market = Market(amounts.of(4_000, 200))
    count = market.count
    (name, plain), *mixed = market.blocks()
    contenders = [("plain", count, plain), *((what, count, work) for what, work in mixed)]
    first, *others = _timings(max(3, amounts.rounds // 2), contenders)
    yield Figure("rules", f"execute a block of {count} {name}", "transaction", count, core.level(), first)
    for other in others:
        what = f"the same with {other.name}"
        yield Figure("rules", what, "transaction", count, core.level(), other, (first,))


def tree(amounts: Amounts, levels: Sequence[str]) -> Iterator[Figure]:
    count = amounts.of(20_000, 40)
    keys = [ASSET + _identifier("account", i) for i in range(count)]

    def fill() -> core.Version:
        branch = core.empty_state(WIDTHS).branch()
        for key in keys:
            branch.put(3, key, b"\x93\x01\x05\x00")
        return branch.commit()

    version = fill()

    def rewrite() -> None:
        branch = version.branch()
        for key in keys[::20]:
            branch.put(3, key, b"\x93\x01\x06\x00")
        branch.commit()

    def read() -> None:
        for key in keys:
            version.get(3, key)

    for what, items, work in (
        ("put into an empty table, and the root", count, fill),
        ("put over existing rows, and the root", len(keys[::20]), rewrite),
        ("get", count, read),
    ):
        yield from _at_levels("tree", what, "row", items, levels, amounts.rounds, work)


def memory(amounts: Amounts, levels: Sequence[str]) -> Iterator[Figure]:
    """Bytes by which this process grows for a holding and its account: bytes in the place of nanoseconds."""
    count = max(1000, amounts.accounts // 5)
    _filled(1000, {}).release()  # what is needed once
    before = _resident_bytes()
    version = _filled(count, {}, assets=(ASSET,))
    size = max(0.0, (_resident_bytes() - before) / count)
    version.release()
    yield Figure(
        "memory", "a holding and its account; bytes, not time", "row", count, core.level(), Timing("bytes", size, size)
    )


SECTIONS: Final[dict[str, Callable[[Amounts, Sequence[str]], Iterator[Figure]]]] = {
    "memory": memory,
    "canary": canary,
    "hashing": hashing,
    "merkle": merkle,
    "signatures": signatures,
    "block": block,
    "rules": rules,
    "tree": tree,
}


# Input


def _identifier(kind: str, number: int) -> bytes:
    return hashlib.sha256(f"{kind} {number}".encode()).digest()


def _pack(value: object) -> bytes:
    packed = msgpack.packb(value, use_bin_type=True)
    assert isinstance(packed, bytes)
    return packed


def _signed_messages(count: int, signers: int) -> tuple[bytes, bytes, list[bytes]]:
    from nacl.signing import SigningKey

    secrets = [SigningKey(_identifier("secret", i)) for i in range(signers)]
    messages = [random.Random(i).randbytes(200) for i in range(count)]
    keys = b"".join(bytes(secrets[i % signers].verify_key) for i in range(count))
    both = b"".join(secrets[i % signers].sign(message).signature for i, message in enumerate(messages))
    return keys, both, messages


def _verifiers(keys: bytes, both: bytes, messages: Sequence[bytes], count: int) -> list[Contender]:
    """Loops over what checks one signature at a time."""
    from nacl.signing import VerifyKey

    triples = [(keys[32 * i : 32 * i + 32], both[64 * i : 64 * i + 64], messages[i]) for i in range(count)]
    contenders: list[Contender] = [
        (
            "PyNaCl loop",
            count,
            lambda: [VerifyKey(key).verify(message, signature) for key, signature, message in triples],
        )
    ]
    if _peer("cryptography"):
        load = importlib.import_module("cryptography.hazmat.primitives.asymmetric.ed25519").Ed25519PublicKey
        contenders.append(
            (
                "cryptography loop",
                count,
                lambda: [load.from_public_bytes(key).verify(signature, message) for key, signature, message in triples],
            )
        )
    return contenders


def _signed_batch(count: int, accounts: int) -> tuple[bytes, dict[int, bytes]]:
    """A batch of transfers with real signatures, and the public keys of their senders by account."""
    from nacl.signing import SigningKey

    rng = random.Random(1)
    signed, senders = [], {}
    for number in range(count):
        sender, receiver = rng.sample(range(accounts), 2)
        secret = SigningKey(_identifier("secret", sender))
        source, target = _identifier("account", sender), _identifier("account", receiver)
        body = [
            1,
            NETWORK,
            100,
            number.to_bytes(16, "big"),
            source,
            0,
            [[1, source, target, ASSET, rng.randrange(1, 99)]],
        ]
        identity = hashlib.sha256(b"p2pl.tx1" + _pack(body)).digest()
        senders[sender] = bytes(secret.verify_key)
        signed.append(_pack([body, [[senders[sender], secret.sign(b"p2pl.ts1" + identity).signature]]]))
    unsigned = core.encode_batch(NETWORK, bytes(32), 1, 1, signed)
    return b"\x92" + unsigned + b"\xc4\x40" + bytes(64), senders


def _filled(accounts: int, keys: dict[int, bytes], assets: Sequence[bytes] = (ASSET,)) -> core.Version:
    """A state where every account holds the assets; keys by account, others have keys that nobody can use."""
    branch = core.empty_state(WIDTHS).branch()
    for asset in assets:
        branch.put(2, asset, _pack([1, 0, 0, 0, bytes(32), 0, 0, "asset"]))
    for number in range(accounts):
        account = _identifier("account", number)
        key = keys.get(number) or _identifier("key", number)
        branch.put(1, account, b"\x93\x01\x00\x93\x01\x91\x92\xc4\x20" + key + b"\x01\x01")
        for asset in assets:
            branch.put(3, asset + account, b"\x93\x01\xce" + (10**6 + number).to_bytes(4, "big") + b"\x00")
    return branch.commit()


# The machine


def _peer(name: str) -> str:
    """The version of an installed package, or an empty string."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
