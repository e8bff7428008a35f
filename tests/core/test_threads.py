"""Readers of frozen versions beside a writer: what they see never changes. Bounded by rounds, not by a clock."""

import random
import threading
from types import ModuleType
from typing import Any

from p2pledger import _reference
from p2pledger._reference import BranchInUse, StateReleased
from tests.core import builders as b


def rounds_for(core: ModuleType, rounds: int) -> int:
    return rounds // 10 if core is _reference else rounds


def in_threads(*works: Any) -> None:
    """Runs the works beside each other; the first failure of any of them is the failure of the test."""
    failures: list[BaseException] = []

    def guarded(work: Any) -> None:
        try:
            work()
        except BaseException as failure:  # also what pytest raises
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def transfers(core: ModuleType, names: list[str], count: int, seed: int) -> Any:
    rng = random.Random(seed)
    transactions = []
    for salt in range(count):
        source, target = rng.sample(names, 2)
        operations = [[1, b.account(source), b.account(target), b.asset("XAU"), rng.randrange(1, 9)]]
        transactions.append(b.signed(b.body(operations, b.account(source), salt=seed * count + salt), [source]))
    return core.scan_batch(b.batch(transactions), b.NETWORK, b.LIMITS)


def test_readers_see_frozen_versions_beside_a_writer(core: ModuleType) -> None:
    names = [f"holder {i}" for i in range(40)]
    branch = core.empty_state(b.WIDTHS).branch()
    b.put_asset(branch, "XAU")
    for name in names:
        b.put_account(branch, name)
        b.put_holding(branch, "XAU", name, 10_000)
    newest = branch.commit()
    first = newest
    expected = first.scan(b.HOLDINGS)
    batches = [transfers(core, names, 30, seed) for seed in range(6)]
    published: list[Any] = [first]
    finished = threading.Event()

    def write() -> None:
        nonlocal newest
        try:
            for height in range(1, rounds_for(core, 400)):
                branch = newest.branch()
                branch.delete_prefix(b.REPLAY, b"")
                columns = batches[height % len(batches)]
                codes = bytearray(4 * columns.count)
                assert branch.execute_plain(columns, 0, height % 100, 200, 0, codes) == columns.count
                version = branch.commit()
                assert version.root() != newest.root()
                published.append(version)
                if len(published) > 4:
                    published.pop(1).release()
                newest = version
        finally:
            finished.set()

    def read_first() -> None:
        rng = random.Random(1)
        root = first.root()
        while not finished.is_set():
            assert first.scan(b.HOLDINGS) == expected
            key, value = rng.choice(expected)
            assert core.state_verify(root, b.HOLDINGS, key, value, first.prove(b.HOLDINGS, key))
            assert first.count(b.REPLAY) == 0

    def read_newest() -> None:
        while not finished.is_set():
            version = published[-1]
            try:
                rows = version.scan(b.HOLDINGS)
                root = version.root()
                key, value = rows[len(rows) // 2]
                proof = version.prove(b.HOLDINGS, key)
                side = version.branch()
                side.delete_prefix(b.HOLDINGS, b"")
                assert side.table_root(b.HOLDINGS) == bytes(32)
                side.drop()
            except StateReleased:  # the writer was quicker
                continue
            assert sum(b.msgpack.unpackb(value)[1] for _, value in rows) == 40 * 10_000
            assert core.state_verify(root, b.HOLDINGS, key, value, proof)

    in_threads(write, read_first, read_newest)
    assert first.scan(b.HOLDINGS) == expected
    assert first.root() == b.naive_state_root(
        {
            b.HOLDINGS: dict(expected),
            b.ACCOUNTS: dict(first.scan(b.ACCOUNTS)),
            b.ASSETS: dict(first.scan(b.ASSETS)),
        }
    )


def test_versions_are_released_on_many_threads(core: ModuleType) -> None:
    """Three threads branch from one version, commit and release; all of them give back the same shared nodes."""
    branch = core.empty_state({2: 4}).branch()
    for i in range(300):
        branch.put(2, i.to_bytes(4, "little"), b"value")
    version = branch.commit()
    roots = set()

    def churn() -> None:
        for i in range(rounds_for(core, 300)):
            branch = version.branch()
            branch.put(2, (i % 300).to_bytes(4, "little"), b"other")
            branch.delete(2, (7 * i % 300).to_bytes(4, "little"))
            child = branch.commit()
            grandchild = child.branch()
            child.release()
            grandchild.put(2, (i % 300).to_bytes(4, "little"), b"value")
            grandchild.put(2, (7 * i % 300).to_bytes(4, "little"), b"value")
            roots.add(grandchild.commit().root())

    in_threads(churn, churn, churn)
    assert roots == {version.root()}


def test_a_branch_torn_at_by_two_threads_refuses_one_and_stays_whole(core: ModuleType) -> None:
    branch = core.empty_state({2: 4}).branch()
    refusals = []

    def tear(offset: int) -> Any:
        def work() -> None:
            for i in range(rounds_for(core, 2000)):
                try:
                    branch.put(2, (2 * i + offset).to_bytes(4, "big"), b"value")
                    if i % 50 == 0:
                        branch.root()
                except BranchInUse:
                    refusals.append(i)

        return work

    in_threads(tear(0), tear(1))
    assert branch.count(2) == len(branch.scan(2, limit=10**6)) >= 2 * rounds_for(core, 2000) - len(refusals)
    assert branch.root() == b.naive_state_root({2: dict(branch.scan(2, limit=10**6))})
