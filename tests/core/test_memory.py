"""When memory runs out the compiled core says so: MemoryError, never a crash, and the parent version is as before."""

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
