"""When memory runs out the compiled core says so: MemoryError, never a crash, and the parent version is as before."""

import os
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from p2pledger._reference import StateReleased
from tests.core import builders as b
from tests.core.test_execute import GOLD, A, B, C, simple, world


def until_it_succeeds(core: ModuleType, work: Callable[[], Any]) -> int:
    """Repeats the work with ever more allocations allowed; returns how many it takes."""
    for allowed in range(2000):
        core._fail_allocations_after(allowed)
        try:
            work()
        except MemoryError:
            continue
        finally:
            core._fail_allocations_after(-1)
        return allowed
    raise AssertionError("never enough")


def test_scans(compiled: ModuleType) -> None:
    data = b.batch(b.one_of_each() * 20)
    assert until_it_succeeds(compiled, lambda: compiled.scan_batch(data, b.NETWORK, b.LIMITS)) > 4
    items = [b.pack(transaction) for transaction in b.one_of_each() * 20]
    assert until_it_succeeds(compiled, lambda: compiled.scan_transactions(items, b.NETWORK, b.LIMITS)) > 4
    assert until_it_succeeds(compiled, lambda: compiled.empty_state({1: 1})) == 1


@pytest.mark.parametrize("write", ["put", "overwrite", "delete", "delete_prefix", "delete_below", "execute_plain"])
def test_writes(compiled: ModuleType, write: str) -> None:
    branch = world(compiled)
    for i in range(300):
        branch.put(0, i.to_bytes(2, "big"), b"value")
    parent = branch.commit()
    rows, root = parent.scan(0), parent.root()
    operations = [[1, A, B, GOLD, 100], [2, B, GOLD, 3, C], [3, A, GOLD, 7, C]]
    trades = [simple(operations[:1], salt=1), simple(operations[1:], "a", "b", "c", salt=2)]
    columns = compiled.scan_batch(b.batch(trades), b.NETWORK, b.LIMITS)
    codes = bytearray(8)

    def work() -> None:
        branch = parent.branch()
        try:
            match write:
                case "put":
                    branch.put(0, b"\x77\x77", b"new")
                case "overwrite":
                    branch.put(0, bytes(2), b"new")
                case "delete":
                    assert branch.delete(0, b"\0\x55")
                case "delete_prefix":
                    assert branch.delete_prefix(0, b"\1") == 44
                case "delete_below":
                    assert branch.delete_below(0, b"\0\xf1") == 241
                case "execute_plain":
                    assert branch.execute_plain(columns, 0, 50, 100, 0, codes) == 2
                    assert codes == bytes(8)
        except MemoryError:
            with pytest.raises(StateReleased):
                branch.root()
            raise
        finally:
            assert parent.scan(0) == rows
        assert branch.root() != root

    assert until_it_succeeds(compiled, work) > 1
    assert parent.branch().root() == root


def test_many_changes_at_once(compiled: ModuleType) -> None:
    """Whenever memory ends, also between the copies of forks that borrow from each other, the parent stays whole."""
    names = [f"holder {i}" for i in range(60)]
    branch = compiled.empty_state(b.WIDTHS).branch()
    b.put_asset(branch, "XAU")
    for name in names:
        b.put_account(branch, name)
        b.put_holding(branch, "XAU", name, 100)
    parent = branch.commit()
    rows, root = parent.scan(b.HOLDINGS), parent.root()
    trades = [
        b.signed(b.body([[1, b.account(one), b.account(other), GOLD, 1]], b.account(one), salt=i), [one])
        for i, (one, other) in enumerate(zip(names[:20], names[30:50], strict=True))
    ]
    columns = compiled.scan_batch(b.batch(trades), b.NETWORK, b.LIMITS)
    roots = set()

    def work() -> None:
        branch = parent.branch()
        try:
            assert branch.execute_plain(columns, 0, 50, 100, 0, bytearray(80)) == 20
            child = branch.commit()
        finally:
            assert parent.scan(b.HOLDINGS) == rows
        roots.add(child.root())

    assert until_it_succeeds(compiled, work) > 100
    assert len(roots) == 1
    assert parent.branch().root() == root
    # Hashing goes on without its list.
    side = parent.branch()
    assert side.execute_plain(columns, 0, 50, 100, 0, bytearray(80)) == 20
    compiled._fail_allocations_after(0)
    try:
        assert side.root() in roots
    finally:
        compiled._fail_allocations_after(-1)


def test_changes_in_many_subtrees_at_once(compiled: ModuleType) -> None:
    """More changes than are hashed at once: memory ends above the subtrees, between them, and in one of them."""
    names = [f"holder {i}" for i in range(700)]
    branch = compiled.empty_state(b.WIDTHS).branch()
    b.put_asset(branch, "XAU")
    for name in names:
        b.put_account(branch, name, ("a", 1))
        b.put_holding(branch, "XAU", name, 100)
    parent = branch.commit()
    rows, root = parent.scan(b.HOLDINGS), parent.root()
    moves = [[1, b.account(one), b.account(other), GOLD, 1] for one, other in zip(names[::2], names[1::2], strict=True)]
    trades = [simple(moves[i : i + 50], payer=b.account(names[0]), salt=i) for i in range(0, 350, 50)]
    columns = compiled.scan_batch(b.batch(trades), b.NETWORK, b.LIMITS)

    def work(allowed: int) -> bytes | None:
        side = parent.branch()
        compiled._fail_allocations_after(allowed)
        try:
            assert side.execute_plain(columns, 0, 50, 100, 0, bytearray(28)) == 7
        except MemoryError:
            with pytest.raises(StateReleased):
                side.root()
            return None
        finally:
            compiled._fail_allocations_after(-1)
        child: bytes = side.commit().root()
        return child

    expected = work(10**6)
    assert expected not in (None, root)
    failed = 0
    for allowed in [*range(20), *range(20, 1_600, 13)]:
        told = work(allowed)
        assert told in (None, expected)
        failed += told is None
    assert failed > 80
    assert parent.scan(b.HOLDINGS) == rows
    assert parent.branch().root() == root


SIZE_OF_A_LARGE_STATE = """
import hashlib, resource
from p2pledger import _core as core

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

branch = core.empty_state({1: 32, 3: 48}).branch()
before = resident()
for i in range(COUNT):
    account, key = hashlib.sha256(b"a%d" % i).digest(), hashlib.sha256(b"k%d" % i).digest()
    branch.put(1, account, bytes.fromhex("930100930191" "92c420") + key + bytes([1, 1]))
    branch.put(3, b"DE0005140008CSDC" + account, bytes.fromhex("9301ce") + (10**6 + i).to_bytes(4, "big") + bytes(1))
version = branch.commit()
print(resident() - before)
"""


@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="sanitizers need memory of their own")
def test_a_million_holdings_with_their_accounts_fit_in_400_mb(compiled: ModuleType) -> None:
    """Measured over a tenth of them, in a fresh process."""
    count = 100_000
    program = SIZE_OF_A_LARGE_STATE.replace("COUNT", str(count))
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert 250 < int(told.stdout) / count < 400
