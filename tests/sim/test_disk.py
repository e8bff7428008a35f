"""The simulated disk keeps what the store promises, and no more."""

from __future__ import annotations

import random

import pytest

from p2pledger.primitives.codec import encode
from p2pledger.primitives.records import (
    BatchRecord,
    BlockRecord,
    CertificateRecord,
    FinalRecord,
    ForgetRecord,
    ReceiptsRecord,
    Record,
    VoteRecord,
)
from p2pledger.sim.disk import Disk


def name(number: int) -> bytes:
    return number.to_bytes(32, "big")


def block(number: int, height: int, parent: int, *digests: int) -> BlockRecord:
    return BlockRecord(name(number), height, height, name(parent), encode((("header",), tuple(map(name, digests)))))


def vote(view: int, target: int, kind: int = 1) -> VoteRecord:
    return VoteRecord(0, view, kind, name(target), b"vote %d %d %d" % (view, target, kind))


def written(*records: Record) -> Disk:
    disk = Disk()
    disk.write(records)
    disk.begin_sync()
    disk.end_sync()
    return disk


def test_a_disk_that_never_ran_remembers_nothing() -> None:
    assert Disk().recovery() is None


def test_records_are_readable_when_they_are_durable_and_not_before() -> None:
    disk = Disk()
    disk.write([BatchRecord(name(7), name(1), 1, b"batch")])
    assert disk.has_waiting
    assert disk.batch(name(7)) is None
    disk.begin_sync()
    assert disk.is_syncing
    assert disk.batch(name(7)) is None
    assert disk.end_sync() == 1
    assert disk.batch(name(7)) == b"batch"


def test_a_crash_leaves_whole_transactions() -> None:
    """The group is two transactions, the chain first: a vote is never there without its block."""
    fates = set()
    for seed in range(60):
        disk = Disk()
        disk.write([block(1, 1, 0), vote(1, 1)])
        disk.begin_sync()
        disk.write([vote(2, 2)])
        fate = disk.crash(random.Random(seed))
        recovery = disk.recovery()
        assert recovery is not None
        assert not disk.has_waiting, "what waited for the next group is lost"
        has_block, has_vote = bool(recovery.blocks), bool(recovery.votes)
        assert (has_block, has_vote) == (not fate.startswith("chain"), fate == "whole"), fate
        fates.add(" ".join(fate.split()[:2]).rstrip(","))
    assert {"whole", "chain lost", "chain torn", "chain reordered", "votes lost", "votes torn"} <= fates


def test_recovery_follows_the_rules_of_the_store() -> None:
    disk = written(
        BatchRecord(name(7), name(1), 1, b"final batch"),
        BatchRecord(name(8), name(1), 2, b"open batch"),
        block(1, 1, 0, 7),
        block(2, 2, 1),
        block(3, 3, 2),
        CertificateRecord(3, 0, 1, name(1), b"first finalisation"),
        CertificateRecord(1, 0, 1, name(1), b"old notarisation"),
        CertificateRecord(1, 0, 3, name(3), b"notarisation"),
        vote(1, 1),
        vote(2, 2),
        vote(3, 3),
        FinalRecord(1, name(1)),
        FinalRecord(2, name(2)),
        ReceiptsRecord(1, name(1), b"\0\0\0\0"),
    )
    recovery = disk.recovery()
    assert recovery is not None
    assert (recovery.final_height, recovery.final_block) == (2, name(2))
    assert recovery.votes == (vote(2, 2).data, vote(3, 3).data)
    assert recovery.certificates == (b"first finalisation", b"notarisation")
    assert recovery.blocks == (block(3, 3, 2).data,)
    assert recovery.batches == (b"open batch",)
    assert recovery.may_vote
    assert disk.final_block(1) == block(1, 1, 0, 7).data
    assert disk.final_block(3) is None
    assert disk.finalisation(1) == b"first finalisation"
    assert disk.finalisation(2) is None
    assert disk.receipts(1) == b"\0\0\0\0"
    assert not disk.breaches


def test_forgetting_spares_what_is_final() -> None:
    disk = written(
        BatchRecord(name(7), name(1), 1, b"final"),
        BatchRecord(name(8), name(1), 2, b"open"),
        block(1, 1, 0, 7),
        block(2, 1, 0),
        CertificateRecord(1, 0, 1, name(2), b"notarisation"),
        CertificateRecord(3, 0, 1, name(1), b"finalisation"),
        FinalRecord(1, name(1)),
        ForgetRecord((name(7), name(8)), 2),
    )
    assert disk.batch(name(7)) == b"final"
    assert disk.batch(name(8)) is None
    assert disk.block(name(1)) is not None
    assert disk.block(name(2)) is None
    assert disk.finalisation(1) == b"finalisation"
    recovery = disk.recovery()
    assert recovery is not None
    assert recovery.certificates == (b"finalisation",)


@pytest.mark.parametrize(
    ("records", "breach"),
    [
        ([vote(1, 1), vote(1, 2)], "a second vote of kind 1 in view 1"),
        ([FinalRecord(1, name(1))], "the final block of height 1 is not stored"),
        ([block(1, 1, 0, 7), FinalRecord(1, name(1))], "a batch of the final block of height 1 is not stored"),
        ([block(2, 2, 1), FinalRecord(2, name(2))], "height 2 is called final after height 0"),
        (
            [block(1, 1, 0), block(2, 1, 0), FinalRecord(1, name(1)), FinalRecord(1, name(2))],
            "a second block is called final at height 1",
        ),
        (
            [block(1, 1, 0), block(2, 2, 9), FinalRecord(1, name(1)), FinalRecord(2, name(2))],
            "the final block of height 2 does not follow the one below",
        ),
    ],
)
def test_what_the_store_would_refuse_is_noted(records: list[Record], breach: str) -> None:
    assert any(breach in found for found in written(*records).breaches)


def test_a_wiped_disk_may_not_vote() -> None:
    disk = written(vote(1, 1))
    disk.wipe()
    recovery = disk.recovery()
    assert recovery is not None
    assert not recovery.may_vote
    assert not recovery.votes


def test_the_planted_fault_forgets_votes() -> None:
    disk = Disk(forgets_votes=True)
    disk.write([vote(1, 1)])
    disk.begin_sync()
    disk.end_sync()
    assert disk.has_vote(vote(1, 1).data)
    disk.crash(random.Random(0))
    assert not disk.has_vote(vote(1, 1).data)
