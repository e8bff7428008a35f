"""Fuzzes every entry of the compiled core that takes a peer's bytes: bytes that are nearly right, from a seed.

    python -m tests.core.fuzz [--seconds 20] [--seed 1] [--only scan]

Each target takes a good input, bends it, and gives it to the compiled core at a random CPU level and to the reference:
both must end alike, in a result or in the error that the contract names. Meant to run over a core that was built with
sanitizers (`make sanitize`), which end the program at the first wrong access. A round is made from the seed and its
number alone, and both are printed when it fails.
"""

import argparse
import functools
import hashlib
import random
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from p2pledger import _core, _reference
from p2pledger._reference import MalformedBytes, Proof
from p2pledger.primitives.transactions import OPERATIONS
from tests.core import builders as b
from tests.core import form_values
from tests.core.curve import signed

INTERESTING = [0, 1, 0x7F, 0x80, 0x90, 0x91, 0x92, 0x93, 0x9F, 0xA0, 0xC0, 0xC4, 0xC5, 0xC6, 0xCC, 0xCD, 0xCE, 0xCF,
               0xD9, 0xDC, 0xDD, 0xFF]  # fmt: skip
BATCH = b.batch(b.one_of_each() * 3)
ITEMS = [b.pack(transaction) for transaction in b.one_of_each()]
LEAVES = [b"leaf %d" % i for i in range(37)]
EXECUTABLE = [
    b.signed(b.body([[1, b.account("a"), b.account("b"), b.asset("XAU"), 5]], b.account("a"), salt=i, max_fee=3), ["a"])
    for i in range(20)
]


def bent(data: bytes, rng: random.Random) -> bytes:
    """The data with some bytes changed, taken out, doubled or put in, or cut off."""
    result = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(result) + 1)
        match rng.randrange(7):
            case 0 if at < len(result):
                result[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(result):
                result[at] = rng.choice(INTERESTING)
            case 2:
                del result[at : at + rng.choice((1, 1, 2, 9, 33))]
            case 3:
                result[at:at] = result[at : at + rng.choice((1, 2, 9, 40, 200))]
            case 4:
                result[at:at] = rng.choice((b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\x7f\xff\xff\xff"))
            case 5:
                del result[at:]
            case _:
                result[at:at] = rng.randbytes(rng.randrange(1, 9))
    return bytes(result)


def told(work: Callable[[], Any]) -> Any:
    """The result, or the refusal."""
    try:
        return work()
    except MalformedBytes as error:
        return error.code, error.offset


def shown(columns: Any) -> list[Any]:
    names = ("count", "data", "ids", "plain", "public_keys", "signatures", "messages", "maker", "epoch", "sequence")
    rows = [(columns.span(i), columns.valid_until(i), columns.signers(i)) for i in range(columns.count)]
    return [*(getattr(columns, name) for name in names), columns.digest, columns.transactions_root(), rows]


def scan_batch(core: ModuleType, rng: random.Random) -> Any:
    data = bent(BATCH, rng)
    return told(lambda: shown(core.scan_batch(data, b.NETWORK, b.LIMITS)))


STRANGE = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000, 2**32 - 1, 2**32, 2**64 - 1, -1, 1.5, None, True, "",
           "text", "n" * 64, "n" * 65, b"", b"key", bytes(16), bytes(31), bytes(32), b"\xff" * 32, bytes(33), bytes(64),
           bytes(1024), bytes(1025), [], [[]], [1], {}]  # fmt: skip


def twisted(value: Any, rng: random.Random) -> Any:
    """The value with one of its parts, however deep, replaced, taken out, doubled, or moved to the end."""
    if not isinstance(value, list) or not value or rng.random() < 0.05:
        return rng.choice(STRANGE)
    at, parts = rng.randrange(len(value)), list(value)
    match rng.randrange(12):
        case 0:
            del parts[at]
        case 1:
            parts.insert(at, parts[at])
        case 2:
            parts.append(parts.pop(at))
        case 3:
            parts = parts * rng.choice((2, 15, 16, 17, 600))
        case _:
            parts[at] = twisted(parts[at], rng)
    return parts


def scan_operations(core: ModuleType, rng: random.Random) -> Any:
    """Canonical bytes with the wrong contents: each operation with the fields of others, or with strange ones."""
    items = []
    for _ in range(rng.randrange(1, 4)):
        content, signatures = b.one_of_each()[1]
        operations = rng.sample(content[6], rng.randrange(1, 4))
        if rng.random() < 0.1:
            operations[0] = [rng.randrange(16), *operations[0][1:]]
        if rng.random() < 0.8:
            operations[0] = twisted(operations[0], rng)
        content = [*content[:6], operations]
        transaction = [content, signatures] if rng.random() < 0.9 else twisted([content, signatures], rng)
        items.append(b.pack(transaction))
    columns, refused = core.scan_transactions(items, b.NETWORK, b.LIMITS)
    whole = b"\x92" + core.encode_batch(b.NETWORK, b.MAKER, 1, 2, items) + b"\xc4\x40" + bytes(64)
    return shown(columns), refused, told(lambda: shown(core.scan_batch(whole, b.NETWORK, b.LIMITS)))


KINDS = list(OPERATIONS.values())


def listed(value: Any) -> Any:
    """Tuples as lists, for `twisted`."""
    return [listed(part) for part in value] if isinstance(value, tuple) else value


def scan_forms(core: ModuleType, rng: random.Random) -> Any:
    """Every operation that there is: at the limits of its form, beyond them, and with bent bytes."""
    items = []
    for _ in range(rng.randrange(1, 4)):
        kinds = rng.choices(KINDS, k=rng.randrange(1, 4))
        operations = [listed(form_values.operation(kind, rng).values()) for kind in kinds]
        if rng.random() < 0.6:
            at = rng.randrange(1, len(operations[0]))
            operations[0][at] = twisted(operations[0][at], rng)
        if rng.random() < 0.1:
            operations[0][0] = rng.randrange(max(OPERATIONS) + 2)
        item = b.pack(b.signed(b.body(operations, b.account("a")), ["a"]))
        items.append(bent(item, rng) if rng.random() < 0.4 else item)
    columns, refused = core.scan_transactions(items, b.NETWORK, b.LIMITS)
    whole = b"\x92" + core.encode_batch(b.NETWORK, b.MAKER, 1, 2, items) + b"\xc4\x40" + bytes(64)
    return shown(columns), refused, told(lambda: shown(core.scan_batch(whole, b.NETWORK, b.LIMITS)))


def scan_transactions(core: ModuleType, rng: random.Random) -> Any:
    items = [bent(item, rng) for item in rng.choices(ITEMS, k=rng.randrange(6))]
    columns, refused = core.scan_transactions(items, b.NETWORK, b.LIMITS)
    return shown(columns), refused


def execute(core: ModuleType, rng: random.Random) -> Any:
    """Whatever the scan lets through, over a state with rows that may be bent as well."""
    branch = core.empty_state(b.WIDTHS).branch()
    for table, key, value in (
        (b.ACCOUNTS, b.account("a"), b.pack([1, 0, b.policy(("a", 1))])),
        (b.ACCOUNTS, b.account("b"), b.pack([1, 0, b.policy(("b", 1), ("c", 2), threshold=2)])),
        (b.ASSETS, b.asset("XAU"), b.pack([1, 0, 0, 0, bytes(32), 0, 0, "XAU"])),
        (b.HOLDINGS, b.asset("XAU") + b.account("a"), b.pack([1, 50, 0])),
        (b.NATIVE, b.account("a"), b.pack([1, 30])),
    ):
        branch.put(table, key, bent(value, rng) if rng.random() < 0.2 else value)
    data = bent(b.batch(EXECUTABLE), rng)
    try:
        columns = core.scan_batch(data, b.NETWORK, b.LIMITS)
    except MalformedBytes as error:
        return error.code, error.offset
    codes = bytearray(4 * columns.count)
    end = branch.execute_plain(columns, 0, 50, 100, rng.choice((0, 0, 1, 2)), codes)
    return end, bytes(codes), branch.fees_taken, branch.root()


HOLDERS = [b.account(f"holder {i}") for i in range(600)]


@functools.cache
def market(core: ModuleType) -> Any:
    """A state of many holders, any of whom a signs for."""
    branch = core.empty_state(b.WIDTHS).branch()
    b.put_asset(branch, "XAU")
    for holder in HOLDERS:
        branch.put(b.ACCOUNTS, holder, b.pack([1, 0, b.policy(("a", 1))]))
        branch.put(b.HOLDINGS, b.asset("XAU") + holder, b.pack([1, 50, 0]))
        branch.put(b.NATIVE, holder, b.pack([1, 9]))
    return branch.commit()


def execute_many(core: ModuleType, rng: random.Random) -> Any:
    """Some hundred changes at once, twice over, also when memory ended in the midst of them before."""
    trades = []
    for salt in range(rng.choice((3, 30, 60))):
        moves = []
        for _ in range(rng.choice((1, 4, 20))):
            one, other = rng.choices(HOLDERS, k=2)
            amount = rng.choice((1, 1, 50, 51))
            moves.append(rng.choice(([1, one, other, b.asset("XAU"), amount], [2, one, b.asset("XAU"), amount, other])))
        trades.append(b.signed(b.body(moves, rng.choice(HOLDERS), salt=salt, max_fee=40), ["a"]))
    fee, allowed = rng.choice((0, 1, 2)), rng.randrange(4_000)
    columns = core.scan_batch(b.batch(trades), b.NETWORK, b.LIMITS)
    parent = market(core)
    if core is _core:
        _core._fail_allocations_after(allowed)
        try:
            parent.branch().execute_plain(columns, 0, 50, 100, fee, bytearray(4 * columns.count))
        except MemoryError:
            pass
        finally:
            _core._fail_allocations_after(-1)
    branch, found = parent.branch(), []
    for _ in range(2):
        codes = bytearray(4 * columns.count)
        end = branch.execute_plain(columns, 0, 50, 100, fee, codes)
        found.append((end, bytes(codes), branch.fees_taken, branch.root()))
        branch.delete_prefix(b.REPLAY, b"")  # they come again, over nodes of which some are the branch's own
    return found, branch.commit().root()


def pow_search(core: ModuleType, rng: random.Random) -> Any:
    """A header of a peer, and targets around a hash that is there."""
    prefix = rng.randbytes(rng.choice((0, 1, 47, 48, 55, 56, 63, 64, 65, 119, 120, rng.randrange(400))))
    count = rng.choice((0, 1, 2, 15, 16, 17, 33, rng.randrange(80)))
    start = rng.choice((0, rng.getrandbits(63), 2**64 - count, 2**64 - count, 2**64 - count + 1, 2**64 - 1))
    nonce = (start + rng.randrange(count + 2)) % 2**64
    once = hashlib.sha256(prefix + nonce.to_bytes(8, "big")).digest()
    work = int.from_bytes(hashlib.sha256(once).digest(), "big")
    target = rng.choice((work, work - 1, work + 1, work >> 3, 2**256 - 1 >> rng.randrange(9), 0, 2**256))
    try:
        return core.pow_search(prefix, start, count, target)
    except ValueError as error:
        return str(error)


def merkle_verify(core: ModuleType, rng: random.Random) -> Any:
    index, size = rng.randrange(40), rng.choice((37, 37, 37, 38, 2**64 - 1, 1))
    proof = [*_reference.merkle_proof(LEAVES, min(index, 36))]
    for _ in range(rng.randrange(3)):
        at = rng.randrange(len(proof) + 1)
        proof[at : at + rng.randrange(2)] = [bent(bytes(32), rng) for _ in range(rng.randrange(2))]
    root = bent(_reference.merkle_root(LEAVES), rng) if rng.random() < 0.2 else _reference.merkle_root(LEAVES)
    return core.merkle_verify(root, LEAVES[min(index, 36)], index, size, proof)


def state_verify(core: ModuleType, rng: random.Random) -> Any:
    branch = _reference.empty_state({2: 4}).branch()
    for i in range(9):
        branch.put(2, bytes([i * 29, i, 0, 0]), b"value")
    version = branch.commit()
    key = bytes([29 * rng.randrange(12) % 256, rng.randrange(9), 0, 0])
    leaf, path, tables = version.prove(2, key)
    if leaf is not None and rng.random() < 0.4:
        leaf = (bent(leaf[0], rng), bent(leaf[1], rng))
    steps = [(bit if rng.random() < 0.8 else rng.randrange(-2, 2**17), sibling) for bit, sibling in path]
    steps = [step if rng.random() < 0.8 else (step[0], bent(step[1], rng)) for step in steps]
    value = rng.choice((version.get(2, key), None, b"value", b""))
    proof = Proof(leaf, tuple(steps), tables[: rng.choice((6, 6, 6, 5))])
    key = bent(key, rng) if rng.random() < 0.2 else key
    return core.state_verify(version.root(), rng.choice((2, 2, 2, 3)), key, value, proof)


def verify_batch(core: ModuleType, rng: random.Random) -> Any:
    """Signatures, good, bent and odd ones; few at a time, since the reference takes a millisecond for each."""
    keys, signatures, messages = [], [], []
    for _ in range(rng.choice((1, 2, 3, 5, 9))):
        message = rng.randbytes(rng.choice((0, 1, 40, 200)))
        key, signature = signed(bytes([rng.randrange(4)]) * 32, message)
        if rng.random() < 0.3:
            signature = (bent(signature, rng) + bytes(64))[:64]
        if rng.random() < 0.2:
            key = rng.choice((bytes(32), b"\1" + bytes(31), b"\xff" * 32, (bent(key, rng) + bytes(32))[:32]))
        if rng.random() < 0.1:
            message = bent(message, rng)
        keys.append(key)
        signatures.append(signature)
        messages.append(message)
    return core.verify_batch(b"".join(keys), b"".join(signatures), messages)


TARGETS: dict[str, Callable[[ModuleType, random.Random], Any]] = {
    "scan_batch": scan_batch,
    "scan_transactions": scan_transactions,
    "scan_operations": scan_operations,
    "scan_forms": scan_forms,
    "execute": execute,
    "execute_many": execute_many,
    "pow_search": pow_search,
    "merkle_verify": merkle_verify,
    "state_verify": state_verify,
    "verify_batch": verify_batch,
}


def fuzz(name: str, seed: int, number: int) -> None:
    """One round of one target."""
    chance = f"{name} {seed} {number}"
    level = random.Random(chance).choice(_core.levels())
    _core.set_level(level)
    found, expected = (TARGETS[name](core, random.Random(chance)) for core in (_core, _reference))
    assert found == expected, f"target {name}, seed {seed}, round {number}, level {level}: {found!r} != {expected!r}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzzes the compiled core beside the reference.")
    parser.add_argument("--seconds", type=float, default=20.0, help="for all targets together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="only the targets whose name contains it")
    arguments = parser.parse_args()
    names = [name for name in TARGETS if arguments.only in name]
    for name in names:
        end, number = time.monotonic() + arguments.seconds / len(names), 0
        while time.monotonic() < end:
            fuzz(name, arguments.seed, number)
            number += 1
        print(f"fuzz: {name}: {number} rounds from seed {arguments.seed}, none wrong", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
