"""What the peer has asked to be stored it can read back at once, and the same from the disk afterwards."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pledger import core
from p2pledger.primitives.blocks import Block, Header
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.records import (
    BatchRecord,
    BlockRecord,
    CertificateRecord,
    FinalRecord,
    ForgetRecord,
    ReceiptsRecord,
    Record,
)
from p2pledger.primitives.votes import VoteKind
from p2pledger.server.archive import StoreArchive, recovery_of
from p2pledger.storage.store import Store

NETWORK, KEY = bytes(8), bytes(32)


def block_at(height: int, parent: bytes) -> Block:
    header = Header(
        network_id=NETWORK,
        epoch=0,
        view=height,
        height=height,
        parent=parent,
        time_ms=height,
        proposer=KEY,
        batches_root=core.merkle_root([]),
        parent_state_root=ZERO_HASH,
        parent_receipts_root=ZERO_HASH,
        validators_hash=ZERO_HASH,
    )
    return Block(header, ())


FIRST = block_at(1, bytes(32))
SECOND = block_at(2, FIRST.id)
RECORDS: tuple[Record, ...] = (
    BlockRecord(FIRST.id, 1, 1, FIRST.header.parent, FIRST.encode()),
    FinalRecord(1, FIRST.id),
    ReceiptsRecord(1, FIRST.id, b"code"),
    CertificateRecord(int(VoteKind.NOTARISE), 0, 1, FIRST.id, b"a notarisation"),
    CertificateRecord(int(VoteKind.FINALISE), 0, 1, FIRST.id, b"a finalisation"),
    BlockRecord(SECOND.id, 2, 2, FIRST.id, SECOND.encode()),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path, network_id=NETWORK, node_key=KEY, name="test", fresh=True) as store:
        yield store


def everything(archive: StoreArchive) -> list[object]:
    return [
        archive.block(FIRST.id),
        archive.block(SECOND.id),
        archive.final_block(1),
        archive.final_block(2),
        archive.finalisation(1),
        archive.finalisation(2),
        archive.receipts(1),
        archive.batch(bytes(32)),
    ]


def test_records_can_be_read_before_during_and_after_their_commit(store: Store) -> None:
    archive = StoreArchive(store)
    assert everything(archive) == [None] * 8
    archive.hold(RECORDS)
    held = everything(archive)
    assert held == [FIRST.encode(), SECOND.encode(), FIRST.encode(), None, b"a finalisation", None, b"code", None]
    store.commit(RECORDS)
    assert everything(archive) == held
    archive.release(RECORDS)
    assert archive._pending == {}
    assert everything(archive) == held


def test_a_finalisation_that_came_after_its_block_was_stored_is_found(store: Store) -> None:
    archive = StoreArchive(store)
    store.commit(RECORDS[:3])
    assert archive.finalisation(1) is None
    archive.hold(RECORDS[4:5])
    assert archive.finalisation(1) == b"a finalisation"


def test_a_record_that_was_handed_over_again_stays_until_its_own_commit(store: Store) -> None:
    archive = StoreArchive(store)
    again = ReceiptsRecord(1, FIRST.id, b"more")
    archive.hold(RECORDS[2:3])
    archive.hold([again])
    archive.release(RECORDS[2:3])
    assert archive.receipts(1) == b"more"
    archive.release([again])
    assert archive.receipts(1) is None


def test_what_is_to_be_forgotten_is_gone_at_once(store: Store) -> None:
    """A node that has dropped a batch must not take it for one that was ordered long ago when a block names it."""
    archive, digest = StoreArchive(store), bytes(32)
    held, forgotten = BatchRecord(digest, KEY, 1, b"a batch"), ForgetRecord((digest,), 0)
    archive.hold([held])
    store.commit([held])
    archive.release([held])
    assert archive.batch(digest) == b"a batch"
    archive.hold([forgotten])
    assert archive.batch(digest) is None
    archive.hold([held])
    assert archive.batch(digest) == b"a batch", "it came again"
    store.commit([forgotten, held])
    archive.release([forgotten])
    archive.release([held])
    assert archive.batch(digest) == b"a batch"


def test_the_recovery_is_what_the_store_remembers(store: Store) -> None:
    store.commit(RECORDS)
    recovery = recovery_of(store)
    assert (recovery.final_height, recovery.final_block) == (1, FIRST.id)
    assert recovery.blocks == (SECOND.encode(),)
    assert b"a finalisation" in recovery.certificates
    assert recovery.may_vote
    assert recovery.state is None
