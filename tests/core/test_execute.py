"""The bulk path by the rules of section 4.1: each reason, each order of rules, and both implementations alike."""

import random
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import msgpack
import pytest

from p2pledger import _reference
from p2pledger._reference import Limits, MalformedBytes, StateReleased
from tests.core import builders as b

A, B, C, X = (b.account(name) for name in ("a", "b", "c", "stranger"))
JOINT, RICH = b.account("joint"), b.account("rich")
GOLD, CASH = b.asset("XAU"), b.asset("CNY@ICBC")
WHOLE = 65535
MAX = 2**64 - 1

OK, EXPIRED, TOO_FAR, DUPLICATE, FEE, UNAUTHORISED, NO_ACCOUNT, NO_ASSET = range(8)
NO_FREE, NO_LOCKED, ZERO, SAME, OVERFLOW = range(8, 13)
CANNOT_PAY = 20


def world(core: ModuleType) -> Any:
    """a, b and c hold gold and cash; `joint` needs two of three keys; `frozen` and the asset LEAD have flags."""
    branch = core.empty_state(b.WIDTHS).branch()
    for name in ("a", "b", "c"):
        b.put_account(branch, name)
        b.put_holding(branch, "XAU", name, 100)
        b.put_holding(branch, "CNY@ICBC", name, 1000, 50)
    b.put_account(branch, "joint", ("a", 1), ("b", 1), ("c", 2), threshold=3)
    b.put_holding(branch, "XAU", "joint", 10)
    b.put_account(branch, "frozen", flags=1)
    b.put_account(branch, "rich")
    b.put_holding(branch, "XAU", "rich", MAX - 10, 5)
    b.put_asset(branch, "XAU")
    b.put_asset(branch, "CNY@ICBC")
    b.put_asset(branch, "LEAD", flags=4)
    b.put_holding(branch, "LEAD", "a", 10)
    branch.put(b.LOCKS, GOLD + A + C, b.pack([1, 7]))
    branch.put(b.LOCKS, GOLD + b.account("frozen") + C, b.pack([1, 7]))
    b.put_holding(branch, "XAU", "frozen", 0, 7)
    b.put_holding(branch, "XAU", "a", 100, 7)
    return branch


def run(
    core: ModuleType, branch: Any, transactions: Sequence[Any], height: int = 50, window: int = 100, fee: int = 0
) -> tuple[int, list[tuple[int, int]]]:
    """Executes a batch from its start; returns where it stopped, and (code, operation) of the decided ones."""
    columns = core.scan_batch(b.batch(transactions), b.NETWORK, b.LIMITS)
    codes = bytearray(b"\xee" * (4 * columns.count))
    end = branch.execute_plain(columns, 0, height, window, fee, codes)
    assert codes[4 * end :] == b"\xee" * (4 * (columns.count - end))
    numbers = [int.from_bytes(codes[2 * i : 2 * i + 2], "big") for i in range(2 * end)]
    return end, list(zip(numbers[::2], numbers[1::2], strict=True))


def simple(operations: Sequence[Any], *signers: str, payer: bytes = A, **fields: Any) -> Any:
    return b.signed(b.body(operations, payer, **fields), signers or ("a",))


def test_a_delivery_versus_payment(core: ModuleType) -> None:
    branch = world(core)
    trade = simple([[1, A, B, GOLD, 30], [1, B, A, CASH, 600]], "a", "b")
    assert run(core, branch, [trade]) == (1, [(OK, 0)])
    assert b.holding(branch, "XAU", "a") == [70, 7]
    assert b.holding(branch, "XAU", "b") == [130, 0]
    assert b.holding(branch, "CNY@ICBC", "a") == [1600, 50]
    assert b.holding(branch, "CNY@ICBC", "b") == [400, 50]
    # It is remembered with its height and code.
    replay = (100).to_bytes(8, "big") + b.transaction_id(trade[0])
    assert branch.get(b.REPLAY, replay) == b.pack([1, 50, 0, 0])
    assert branch.count(b.REPLAY) == 1


def test_lock_and_release(core: ModuleType) -> None:
    branch = world(core)
    assert run(core, branch, [simple([[2, B, GOLD, 40, C]], "b", payer=B)]) == (1, [(OK, 0)])
    assert b.holding(branch, "XAU", "b") == [60, 40]
    assert b.lock(branch, "XAU", "b", "c") == 40
    # Only the controller's signature counts.
    assert run(core, branch, [simple([[3, B, GOLD, 40, C]], "b", payer=B, salt=1)])[1] == [(UNAUTHORISED, 0)]
    assert run(core, branch, [simple([[3, B, GOLD, 15, C]], "c", payer=C, salt=2)])[1] == [(OK, 0)]
    assert b.holding(branch, "XAU", "b") == [75, 25]
    assert run(core, branch, [simple([[3, B, GOLD, 26, C]], "c", payer=C, salt=3)])[1] == [(NO_LOCKED, 0)]
    assert run(core, branch, [simple([[3, B, GOLD, 25, C]], "c", payer=C, salt=4)])[1] == [(OK, 0)]
    assert b.lock(branch, "XAU", "b", "c") is None
    assert b.holding(branch, "XAU", "b") == [100, 0]


def test_emptied_rows_disappear(core: ModuleType) -> None:
    branch = world(core)
    rows = branch.count(b.HOLDINGS)
    assert run(core, branch, [simple([[1, B, X, GOLD, 1]], "b", payer=B)])[1] == [(NO_ACCOUNT, 0)]
    assert run(core, branch, [simple([[1, B, C, GOLD, 100]], "b", payer=B)])[1] == [(OK, 0)]
    assert b.holding(branch, "XAU", "b") is None
    assert branch.count(b.HOLDINGS) == rows - 1
    # There and back within one transaction leaves no row where none was.
    there_and_back = simple([[1, C, B, GOLD, 5], [1, B, C, GOLD, 5]], "b", "c", payer=C)
    assert run(core, branch, [there_and_back])[1] == [(OK, 0)]
    assert branch.count(b.HOLDINGS) == rows - 1


# name -> (operations, signers, fields, what it ends with); the world is that of world(), the height 50.
REASONS: dict[str, tuple[list[Any], tuple[str, ...], dict[str, Any], tuple[int, int]]] = {
    "expired": ([[1, A, B, GOLD, 1]], ("a",), {"valid_until": 49}, (EXPIRED, WHOLE)),
    "last height": ([[1, A, B, GOLD, 1]], ("a",), {"valid_until": 50}, (OK, 0)),
    "end of the window": ([[1, A, B, GOLD, 1]], ("a",), {"valid_until": 150}, (OK, 0)),
    "too far ahead": ([[1, A, B, GOLD, 1]], ("a",), {"valid_until": 151}, (TOO_FAR, WHOLE)),
    "very far ahead": ([[1, A, B, GOLD, 1]], ("a",), {"valid_until": MAX}, (TOO_FAR, WHOLE)),
    "payer unknown": ([[1, A, B, GOLD, 1]], ("a",), {"payer": X}, (NO_ACCOUNT, WHOLE)),
    "payer has not signed": ([[1, A, B, GOLD, 1]], ("a",), {"payer": B}, (UNAUTHORISED, WHOLE)),
    "debited account unknown": ([[1, X, B, GOLD, 1]], ("a",), {}, (NO_ACCOUNT, 0)),
    "debited account has not signed": ([[1, A, B, GOLD, 1], [1, B, A, CASH, 1]], ("a",), {}, (UNAUTHORISED, 1)),
    "authority comes before balance": ([[1, A, B, GOLD, 9999], [1, B, A, CASH, 1]], ("a",), {}, (UNAUTHORISED, 1)),
    "controller unknown": ([[3, A, GOLD, 1, X]], ("a",), {}, (NO_ACCOUNT, 0)),
    "zero before same account": ([[1, A, A, GOLD, 0]], ("a",), {}, (ZERO, 0)),
    "zero before unknown account": ([[1, A, X, GOLD, 0]], ("a",), {}, (ZERO, 0)),
    "zero lock": ([[2, A, GOLD, 0, A]], ("a",), {}, (ZERO, 0)),
    "zero release": ([[3, A, X[:16], 0, C]], ("a", "c"), {}, (ZERO, 0)),
    "same account": ([[1, A, A, X[:16], 1]], ("a",), {}, (SAME, 0)),
    "controller is the holder": ([[2, A, X[:16], 1, A]], ("a",), {}, (SAME, 0)),
    "receiver unknown before asset": ([[1, A, X, X[:16], 1]], ("a",), {}, (NO_ACCOUNT, 0)),
    "lock under an unknown controller": ([[2, A, GOLD, 1, X]], ("a",), {}, (NO_ACCOUNT, 0)),
    "asset unknown": ([[1, A, B, X[:16], 1]], ("a",), {}, (NO_ASSET, 0)),
    "locked asset unknown": ([[2, A, X[:16], 1, B]], ("a",), {}, (NO_ASSET, 0)),
    "released asset unknown": ([[3, A, X[:16], 1, C]], ("a", "c"), {}, (NO_ASSET, 0)),
    "free holding too small": ([[1, A, B, GOLD, 101]], ("a",), {}, (NO_FREE, 0)),
    "locked gold is not free": ([[2, A, GOLD, 101, B]], ("a",), {}, (NO_FREE, 0)),
    "all of it": ([[1, A, B, GOLD, 100]], ("a",), {}, (OK, 0)),
    "spent in the operation before": ([[1, A, B, GOLD, 60], [1, A, C, GOLD, 41]], ("a",), {}, (NO_FREE, 1)),
    "received in the operation before": ([[1, B, A, GOLD, 100], [1, A, C, GOLD, 200]], ("a", "b"), {}, (OK, 0)),
    "released too much": ([[3, A, GOLD, 8, C]], ("a", "c"), {}, (NO_LOCKED, 0)),
    "released under another controller": ([[3, A, GOLD, 7, B]], ("a", "b"), {}, (NO_LOCKED, 0)),
    "released and moved": ([[3, A, GOLD, 7, C], [1, A, B, GOLD, 107]], ("a", "c"), {}, (OK, 0)),
    "locks add up": ([[2, A, GOLD, 1, C], [2, A, GOLD, 2, C], [3, A, GOLD, 10, C]], ("a", "c"), {}, (OK, 0)),
    "overflow of the receiver": ([[1, A, RICH, GOLD, 6]], ("a",), {}, (OVERFLOW, 0)),
    "one less does not overflow": ([[1, A, RICH, GOLD, 5]], ("a",), {}, (OK, 0)),
    "amount of 64 bits": ([[1, A, RICH, GOLD, MAX]], ("a",), {}, (NO_FREE, 0)),
    "joint account, weights too small": ([[1, JOINT, A, GOLD, 1]], ("a", "b"), {}, (UNAUTHORISED, 0)),
    "joint account, one key too few": ([[1, JOINT, C, GOLD, 1]], ("c",), {"payer": C}, (UNAUTHORISED, 0)),
    "joint account, weights enough": ([[1, JOINT, A, GOLD, 1]], ("a", "c"), {}, (OK, 0)),
    "joint account, strangers": ([[1, JOINT, A, GOLD, 1]], ("a", "b", "x", "y", "z"), {}, (UNAUTHORISED, 0)),
    "joint account, among strangers": ([[1, JOINT, A, GOLD, 1]], ("a", "b", "c", "x", "y", "z"), {}, (OK, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", REASONS)
def test_reasons(core: ModuleType, name: str) -> None:
    operations, signers, fields, expected = REASONS[name]
    branch = world(core)
    before = branch.root()
    transaction = simple(operations, *signers, **fields)
    assert run(core, branch, [transaction]) == (1, [expected])
    code, operation = expected
    replay = transaction[0][2].to_bytes(8, "big") + b.transaction_id(transaction[0])
    remembered = code == OK or (code not in (UNAUTHORISED,) and operation != WHOLE and name not in FAILED_AUTHORITY)
    if not remembered:
        assert branch.root() == before
        assert branch.get(b.REPLAY, replay) is None
    else:
        assert branch.get(b.REPLAY, replay) == b.pack([1, 50, code, operation])
        # Whether it succeeded or failed, it does not come again.
        assert run(core, branch, [transaction]) == (1, [(DUPLICATE, WHOLE)])
        assert branch.get(b.REPLAY, replay) == b.pack([1, 50, code, operation])
        if code != OK:
            branch.delete(b.REPLAY, replay)
            assert branch.root() == before


FAILED_AUTHORITY = ("debited account unknown", "controller unknown")


def test_the_fee_is_compared(core: ModuleType) -> None:
    branch = world(core)
    b.put_native(branch, "a", 100)
    low, enough = (simple([[1, A, B, GOLD, 1]], max_fee=fee) for fee in (4, 5))
    assert run(core, branch, [low, enough], fee=5)[1] == [(FEE, WHOLE), (OK, 0)]
    # A duplicate is named before a fee that is too low, one that has expired before both.
    assert run(core, branch, [enough], fee=6)[1] == [(DUPLICATE, WHOLE)]
    assert run(core, branch, [enough], fee=6, height=101)[1] == [(EXPIRED, WHOLE)]


def test_every_operation_is_charged_and_the_fee_stays_paid_when_they_fail(core: ModuleType) -> None:
    branch = world(core)
    b.put_native(branch, "a", 100)
    b.put_native(branch, "b", 30)
    moves = [[1, A, B, GOLD, 1], [1, A, C, GOLD, 1], [1, A, B, CASH, 1]]
    done = run(core, branch, [
        simple(moves, salt=1, max_fee=29),
        simple(moves, salt=2, max_fee=30),
        simple([[1, A, B, GOLD, 9999]], salt=3, max_fee=MAX),
        simple([[1, A, B, GOLD, 1]], "b", salt=4, max_fee=MAX, payer=B),
        simple(moves, "a", "b", salt=5, max_fee=30, payer=B),
    ], fee=10)  # fmt: skip
    assert done == (5, [(FEE, WHOLE), (OK, 0), (NO_FREE, 0), (UNAUTHORISED, 0), (OK, 0)])
    assert (b.native(branch, "a"), b.native(branch, "b")) == (60, None)  # a row of zero is not kept
    assert branch.fees_taken == 70
    assert branch.count(b.REPLAY) == 3
    assert run(core, branch, [simple(moves, salt=6, max_fee=MAX)], fee=30)[1] == [(CANNOT_PAY, WHOLE)]
    assert branch.count(b.REPLAY) == 3
    assert branch.fees_taken == 70
    # The fee of all operations exceeds 64 bits: it is not what max_fee allows.
    assert run(core, branch, [simple(moves, salt=7, max_fee=MAX)], fee=MAX)[1] == [(FEE, WHOLE)]


def test_who_cannot_pay_leaves_no_trace(core: ModuleType) -> None:
    branch = world(core)
    b.put_native(branch, "a", 4)
    before = branch.root()
    poor = simple([[1, A, B, GOLD, 1]], max_fee=9)
    pennyless = simple([[1, C, B, GOLD, 1]], "c", payer=C, max_fee=9)
    unsigned = simple([[1, A, B, GOLD, 1]], "b", max_fee=9)
    assert run(core, branch, [poor, pennyless, unsigned], fee=5)[1] == [
        (CANNOT_PAY, WHOLE),
        (CANNOT_PAY, WHOLE),
        (UNAUTHORISED, WHOLE),
    ]
    assert branch.root() == before
    # What the bulk path cannot decide is not charged by it.
    b.put_native(branch, "a", 5)
    before = branch.root()
    undecided = simple([[1, A, B, GOLD, 1], [1, A, b.account("frozen"), GOLD, 1]], max_fee=9)
    assert run(core, branch, [undecided], fee=2) == (0, [])
    branch.put(b.NATIVE, A, b.pack([2, 5]))
    assert run(core, branch, [poor], fee=2) == (0, [])
    branch.put(b.NATIVE, A, b.pack([1, 5]))
    assert (branch.root(), branch.fees_taken) == (before, 0)


def test_a_transaction_with_other_signatures_is_the_same_transaction(core: ModuleType) -> None:
    branch = world(core)
    content = b.body([[1, A, B, GOLD, 1]], A)
    too_few, enough, more = (b.signed(content, names) for names in (["b"], ["a"], ["a", "b"]))
    assert run(core, branch, [too_few, too_few, enough, more, too_few])[1] == [
        (UNAUTHORISED, WHOLE),
        (UNAUTHORISED, WHOLE),
        (OK, 0),
        (DUPLICATE, WHOLE),
        (DUPLICATE, WHOLE),
    ]


UNDECIDED: dict[str, Any] = {
    "an issue": [[1, A, B, GOLD, 1], [4, GOLD, A, 1]],
    "a new policy": [[8, A, b.policy(("a", 1), version=2)]],
    "payment to a flagged account": [[1, A, B, GOLD, 1], [1, A, b.account("frozen"), GOLD, 1]],
    "lock under a flagged account": [[1, A, B, GOLD, 1], [2, A, GOLD, 1, b.account("frozen")]],
    "a debit of a flagged account": [[1, A, B, GOLD, 1], [1, b.account("frozen"), A, GOLD, 1]],
    "a flagged asset": [[1, A, B, GOLD, 1], [1, A, B, b.asset("LEAD"), 1]],
    "a flagged asset locked": [[1, A, B, GOLD, 1], [2, A, b.asset("LEAD"), 1, B]],
    "a flagged asset released": [[1, A, B, GOLD, 1], [3, A, b.asset("LEAD"), 1, C]],
    "what a flagged account has locked released": [[1, A, B, GOLD, 1], [3, b.account("frozen"), GOLD, 1, C]],
}


@pytest.mark.parametrize("name", UNDECIDED)
def test_what_the_bulk_path_cannot_decide_leaves_no_trace(core: ModuleType, name: str) -> None:
    branch = world(core)
    others = [simple([[1, A, B, GOLD, 1]], salt=salt) for salt in range(3)]
    undecided = simple(UNDECIDED[name], "a", "c", "frozen", salt=9)
    assert run(core, branch, [*others[:2], undecided, others[2]]) == (2, [(OK, 0), (OK, 0)])
    before = branch.root()
    assert run(core, branch, [undecided]) == (0, [])
    assert branch.root() == before
    # Rules that decide before the flags are met still decide, if every operation is plain.
    if all(operation[0] <= 3 for operation in UNDECIDED[name]):
        assert run(core, branch, [undecided], height=101) == (1, [(EXPIRED, WHOLE)])


STRANGE_ROWS: dict[str, tuple[int, bytes, Any]] = {
    "account of version 2": (b.ACCOUNTS, B, [2, 0, b.policy(("b", 1))]),
    "account without a policy": (b.ACCOUNTS, B, [1, 0]),
    "asset of version 2": (b.ASSETS, GOLD, [2, 0, 0, 0, A, 0, 0, "x"]),
    "holding of version 2": (b.HOLDINGS, GOLD + B, [2, 1, 1]),
    "holding with a field more": (b.HOLDINGS, GOLD + B, [1, 1, 1, 1]),
    "holding above 64 bits": (b.HOLDINGS, GOLD + B, [1, MAX, 1]),
    "lock of version 2": (b.LOCKS, GOLD + A + C, [2, 7]),
    "lock that is not canonical": (b.LOCKS, GOLD + A + C, b"\x92\x01\xcc\x07"),
    "lock with bytes behind it": (b.LOCKS, GOLD + A + C, b"\x92\x01\x07\x07"),
    "lock above 64 bits": (b.LOCKS, GOLD + A + C, [1, MAX]),
    "lock above what is locked": (b.HOLDINGS, GOLD + A, [1, 100, 0]),
}


@pytest.mark.parametrize("name", STRANGE_ROWS)
def test_rows_that_the_bulk_path_does_not_understand(core: ModuleType, name: str) -> None:
    table, key, value = STRANGE_ROWS[name]
    branch = world(core)
    branch.put(table, key, value if isinstance(value, bytes) else b.pack(value))
    before = branch.root()
    operations = [[1, A, B, GOLD, 1], [2, A, GOLD, 1, C], [3, A, GOLD, 2, C], [1, B, A, GOLD, 1]]
    assert run(core, branch, [simple(operations, "a", "b", "c")]) == (0, [])
    assert branch.root() == before


def test_runs_resume_where_they_stopped(core: ModuleType) -> None:
    branch = world(core)
    transactions = [simple([[1, A, B, GOLD, 1]], salt=i) for i in range(6)]
    transactions[3] = simple([[4, GOLD, A, 1]], salt=3)
    columns = core.scan_batch(b.batch(transactions), b.NETWORK, b.LIMITS)
    codes = bytearray(24)
    assert branch.execute_plain(columns, 0, 50, 100, 0, codes) == 3
    assert branch.execute_plain(columns, 3, 50, 100, 0, codes) == 3
    assert branch.execute_plain(columns, 4, 50, 100, 0, codes) == 6
    assert branch.execute_plain(columns, 6, 50, 100, 0, codes) == 6
    assert b.holding(branch, "XAU", "b") == [105, 0]


def test_wrong_arguments_are_named(core: ModuleType) -> None:
    branch = world(core)
    columns = core.scan_batch(b.batch([simple([[1, A, B, GOLD, 1]])]), b.NETWORK, b.LIMITS)
    before = branch.root()
    codes = bytearray(4)
    for arguments, kind, name in (
        ((b"columns", 0, 1, 1, 0, codes), TypeError, "columns"),
        ((None, 0, 1, 1, 0, codes), TypeError, "columns"),
        ((columns, 2, 1, 1, 0, codes), ValueError, "start"),
        ((columns, -1, 1, 1, 0, codes), ValueError, "start"),
        ((columns, "0", 1, 1, 0, codes), TypeError, "start"),
        ((columns, 0, -1, 1, 0, codes), ValueError, "height"),
        ((columns, 0, 1, 2**64, 0, codes), ValueError, "replay_window"),
        ((columns, 0, 1, 1, 0.5, codes), TypeError, "fee"),
        ((columns, 0, 1, 1, 0, bytes(4)), TypeError, "codes"),
        ((columns, 0, 1, 1, 0, bytearray(3)), ValueError, "codes"),
    ):
        with pytest.raises(kind, match=name):
            branch.execute_plain(*arguments)
    assert branch.root() == before
    bare = core.empty_state({1: 32, 2: 16}).branch()
    with pytest.raises(ValueError, match="table"):
        bare.execute_plain(columns, 0, 1, 1, 0, codes)
    without_money = core.empty_state({table: width for table, width in b.WIDTHS.items() if table != b.NATIVE}).branch()
    with pytest.raises(ValueError, match="table"):
        without_money.execute_plain(columns, 0, 1, 1, 1, codes)
    assert without_money.execute_plain(columns, 0, 1, 200, 0, codes) == 1
    branch.drop()
    with pytest.raises(StateReleased):
        branch.execute_plain(columns, 0, 1, 1, 0, codes)


# Random workloads: few accounts, so that everything meets everything.

NAMES = ["a", "b", "c", "joint", "rich", "frozen", "stranger"]
ASSETS = ["XAU", "CNY@ICBC", "LEAD", "nowhere"]


def random_transaction(rng: random.Random, salt: int) -> Any:
    def someone() -> bytes:
        return b.account(rng.choices(NAMES, weights=(20, 20, 20, 8, 4, 1, 1))[0])

    def amount() -> int:
        return rng.choice((0, 1, 5, 5, 7, 20, 20, 60, 120, 1000, MAX)) if rng.random() < 0.9 else rng.randrange(2**64)

    operations = []
    for _ in range(rng.choice((1, 1, 2, 2, 3, 6, 20))):
        asset = b.asset(rng.choices(ASSETS, weights=(30, 30, 1, 1))[0])
        number = rng.choices((1, 2, 3, 4), weights=(100, 30, 30, 1))[0]
        if number == 1:
            operations.append([1, someone(), someone(), asset, amount()])
        elif number == 4:
            operations.append([4, asset, someone(), amount()])
        else:
            operations.append([number, someone(), asset, rng.choice((1, 2, amount())), someone()])
    signers = [name for name in ("a", "b", "c", "rich", "frozen", "x") if rng.random() < 0.93]
    valid_until = rng.choices((100, 49, 150, 151), (50, 1, 5, 1))[0]
    content = b.body(operations, someone(), valid_until=valid_until, salt=salt, max_fee=rng.choice((5, 20, 1000)))
    return b.signed(content, signers or ["a"])


def totals(state: Any) -> dict[bytes, int]:
    """Free plus locked over all holders, by asset."""
    sums: dict[bytes, int] = {}
    for key, value in state.scan(b.HOLDINGS, limit=10**6):
        sums[key[:16]] = sums.get(key[:16], 0) + sum(msgpack.unpackb(value)[1:])
    return sums


def native_money(state: Any) -> int:
    return sum(int(msgpack.unpackb(value)[1]) for _, value in state.scan(b.NATIVE, limit=10**6))


def locked(state: Any) -> tuple[dict[bytes, int], dict[bytes, int]]:
    """What each holding says is locked, and the sum of the locks on it."""
    said = {key: msgpack.unpackb(value)[2] for key, value in state.scan(b.HOLDINGS, limit=10**6)}
    sums: dict[bytes, int] = {}
    for key, value in state.scan(b.LOCKS, limit=10**6):
        sums[key[:48]] = sums.get(key[:48], 0) + msgpack.unpackb(value)[1]
    return {key: amount for key, amount in said.items() if amount}, sums


def test_random_workloads_end_alike_and_conserve_supply(compiled: ModuleType) -> None:
    seen: dict[int, int] = {}
    taken: list[int] = []
    stops = 0
    for seed in range(60):
        rng = random.Random(seed)
        fee = seed % 3  # none, or one that some cannot pay
        transactions = [random_transaction(rng, salt) for salt in range(40)]
        transactions += rng.sample(transactions, 6)
        data = b.batch(transactions)
        states = []
        for core in (_reference, compiled):
            branch = world(core)
            for name in ("a", "b", "c"):  # no locks but those of the world, and each with its row
                b.put_holding(branch, "CNY@ICBC", name, 1000)
            for key, _ in branch.scan(b.LOCKS):
                assert key in (GOLD + A + C, GOLD + b.account("frozen") + C)
            b.put_holding(branch, "XAU", "rich", MAX - 10)
            for name, free in (("a", 500), ("b", 12), ("c", 60), ("joint", 30), ("rich", MAX - 700)):
                b.put_native(branch, name, free)
            before, money = totals(branch), native_money(branch)
            columns = core.scan_batch(data, b.NETWORK, b.LIMITS)
            codes = bytearray(4 * columns.count)
            ends = []
            start = 0
            while start < columns.count:
                start = branch.execute_plain(columns, start, 50, 100, fee, codes)
                ends.append(start)
                start += 1  # skips what is not for the bulk path
            assert totals(branch) == before
            assert native_money(branch) + branch.fees_taken == money
            said, sums = locked(branch)
            assert said == sums
            taken.append(branch.fees_taken)
            states.append((branch.commit(), bytes(codes), ends))
        assert taken[-1] == taken[-2]
        (one, one_codes, one_ends), (other, other_codes, other_ends) = states
        assert one_codes == other_codes, seed
        assert one_ends == other_ends, seed
        assert one.root() == other.root(), seed
        for i in range(0, len(one_codes), 4):
            code = int.from_bytes(one_codes[i : i + 2], "big")
            seen[code] = seen.get(code, 0) + 1
        stops += len(one_ends) - 1
    assert set(seen) >= {*range(13), CANNOT_PAY}
    assert max(taken) > 100
    assert seen[OK] > 100
    assert stops > 10


def test_blocks_around_the_size_of_a_window(compiled: ModuleType) -> None:
    """Windows of 64 transactions or 192 operations; the same one twice, in one window and in different ones."""
    for count, operations in ((1, 1), (63, 1), (64, 1), (65, 2), (129, 1), (10, 19), (3, 64), (60, 5), (150, 2)):
        rng = random.Random(count)
        transactions = []
        for salt in range(count):
            # Some change rows that others in the same window have read, made or emptied.
            moves = [
                [1, *rng.sample([A, B, C, RICH], 2), rng.choice((GOLD, CASH)), rng.choice((1, 2, 50, 100))]
                for _ in range(operations)
            ]
            transactions.append(simple(moves, "a", "b", "c", "rich", salt=salt))
        transactions += [transactions[-1], transactions[0]]
        results = []
        for core in (_reference, compiled):
            branch = world(core)
            parent = branch.commit()
            branch = parent.branch()
            results.append((run(core, branch, transactions), branch.root(), branch.count(b.HOLDINGS)))
            assert parent.root() == world(core).root()
        assert results[0] == results[1]


def test_the_last_operation_of_the_longest_transaction_has_a_number(core: ModuleType) -> None:
    """The numbers of operations have 16 bits, in receipts and in REPLAY, whose row is here as long as it can be."""
    most, height = WHOLE, MAX - 1
    branch = world(core)
    b.put_holding(branch, "XAU", "a", most)
    transaction = simple([*[[1, A, B, GOLD, 1]] * (most - 1), [1, A, B, GOLD, 0]], valid_until=MAX)
    limits = Limits(1, most, 1, 2**24, 1)
    columns = core.scan_batch(b.batch([transaction]), b.NETWORK, limits)
    codes = bytearray(4)
    assert branch.execute_plain(columns, 0, height, 100, 0, codes) == 1
    assert codes.hex() == f"{ZERO:04x}{most - 1:04x}"
    assert [value for _, value in branch.scan(b.REPLAY)] == [b.pack([1, height, ZERO, most - 1])]
    with pytest.raises(MalformedBytes, match="too_many"):
        core.scan_batch(b.batch([simple([[1, A, B, GOLD, 1]] * (most + 1))]), b.NETWORK, limits)


def test_a_large_state_changes_like_a_small_one(compiled: ModuleType) -> None:
    """Thousands of holdings: many paths go down together, some end in new rows, some in rows that go."""
    names = [f"holder {i}" for i in range(2000)]
    rng = random.Random(9)
    transactions = []
    for salt in range(900):
        source, target = rng.sample(names, 2)
        amount = rng.choice((1, 100, 100, 101))  # all of it, or too much
        moves = [[1, b.account(source), b.account(target), rng.choice((GOLD, CASH)), amount]]
        transactions.append(b.signed(b.body(moves, b.account(source), salt=salt), [source]))
    results = []
    for core in (_reference, compiled):
        branch = core.empty_state(b.WIDTHS).branch()
        b.put_asset(branch, "XAU")
        b.put_asset(branch, "CNY@ICBC")
        for i, name in enumerate(names):
            b.put_account(branch, name)
            if i % 3:
                b.put_holding(branch, "XAU", name, 100)
            b.put_holding(branch, "CNY@ICBC", name, 100)
        parent = branch.commit()
        before = parent.root()
        branch = parent.branch()
        decided = run(core, branch, transactions)
        child = branch.commit()
        again = child.branch()
        # Whether they succeeded or failed, all of them are remembered.
        assert set(run(core, again, transactions)[1]) == {(DUPLICATE, WHOLE)}
        again.drop()
        results.append((decided, child.root(), child.scan(b.HOLDINGS, limit=10**6)))
        assert parent.root() == before
        assert parent.branch().table_root(b.HOLDINGS) == parent.table_root(b.HOLDINGS)
        parent.release()
        assert child.branch().root() == child.root()
    assert results[0] == results[1]


def test_runs_between_other_writes_hash_what_those_left(compiled: ModuleType) -> None:
    """A run hashes what it wrote, if it was much; rows beside them that others wrote have no hashes yet."""
    names = [f"holder {i}" for i in range(700)]
    rng = random.Random(4)
    batches = []
    for part in range(3):
        pairs = [rng.sample(names, 2) for _ in range(300)]
        batches.append(
            [
                b.signed(
                    b.body([[1, b.account(one), b.account(other), GOLD, 1]], b.account(one), salt=1000 * part + i),
                    [one],
                )
                for i, (one, other) in enumerate(pairs)
            ]
        )
    roots = []
    for core in (_reference, compiled):
        branch = core.empty_state(b.WIDTHS).branch()
        b.put_asset(branch, "XAU")
        for name in names:
            b.put_account(branch, name)
            b.put_holding(branch, "XAU", name, 100)
        for part, transactions in enumerate(batches):
            assert run(core, branch, transactions)[0] == 300
            for name in names[part::50]:
                b.put_holding(branch, "XAU", name, 10 + part)
            if part == 1:
                branch = branch.commit().branch()
        roots.append(branch.root())
    assert roots[0] == roots[1]


def test_paths_of_many_forks_change_together(compiled: ModuleType) -> None:
    """Each holder stands at the end of a chain of neighbours that differ from it in one bit: more forks than are
    hashed at once. Written in bulk, on shared nodes and then on own ones, the table is what single writes make it."""
    rng = random.Random(6)
    holders = [i.to_bytes(2, "big") + rng.randbytes(30) for i in range(320)]
    branch = compiled.empty_state(b.WIDTHS).branch()
    b.put_asset(branch, "XAU")
    for holder in holders:
        branch.put(b.ACCOUNTS, holder, b.pack([1, 0, b.policy(("a", 1))]))
        number = int.from_bytes(holder, "big")
        for bit in range(200, 240):
            branch.put(b.HOLDINGS, GOLD + (number ^ 1 << bit).to_bytes(32, "big"), b.pack([1, 1, 0]))
        branch.put(b.HOLDINGS, GOLD + holder, b.pack([1, 100, 0]))
    parent = branch.commit()
    before = parent.table_root(b.HOLDINGS)
    branch = parent.branch()
    moves = [[1, holders[i - 1], holders[i], GOLD, 1 + i % 5] for i in range(320)]
    for salt in (1, 2):
        trades = [simple(moves[64 * k : 64 * k + 64], payer=holders[0], salt=5 * salt + k) for k in range(5)]
        assert run(compiled, branch, trades) == (5, [(OK, 0)] * 5)
        rows = branch.scan(b.HOLDINGS, limit=10**6)
        single = compiled.empty_state(b.WIDTHS).branch()
        for key, value in rows:
            single.put(b.HOLDINGS, key, value)
        assert branch.table_root(b.HOLDINGS) == single.table_root(b.HOLDINGS) != before
    assert parent.branch().table_root(b.HOLDINGS) == before
