"""What is committed comes back, what must not be committed is refused, and the directory has one owner."""

import sqlite3
import threading
from pathlib import Path

import pytest

from p2pledger.primitives.records import SEAL_KIND, FinalRecord, ForgetRecord, ReceiptsRecord, Record
from p2pledger.storage.errors import DirectoryInUse, StorageFailed, UnknownFormat, WrongStore
from p2pledger.storage.store import Store
from tests.storage.workload import (
    FINALISE,
    GENESIS,
    NODE,
    NOTARISE,
    NULLIFY,
    Chain,
    block_record,
    certificate,
    make_batch,
    make_block,
    missing,
    open_store,
    start_child,
    vote,
)


def filled(directory: Path, count: int) -> tuple[Chain, list[list[Record]]]:
    chain = Chain()
    groups = [chain.group() for _ in range(count)]
    with open_store(directory) as store:
        for group in groups:
            store.commit(group)
    return chain, groups


def test_a_new_directory_is_the_genesis_case(tmp_path: Path) -> None:
    with open_store(tmp_path / "deep" / "node") as store:
        assert store.notes == ()
        assert store.may_vote
        loaded = store.load()
    assert (loaded.height, loaded.block, loaded.view, loaded.vote_count) == (0, b"", 0, 0)
    assert loaded.votes == loaded.certificates == loaded.blocks == loaded.batches == ()


def test_the_newest_seal_comes_back_however_far_the_chain_went_on_without_it(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.commit([vote(SEAL_KIND, 3, b"a" * 32), vote(SEAL_KIND, 5, b"b" * 32)])
    chain, _ = filled(tmp_path, 12)
    assert chain.blocks[-1].header.view > 5
    with open_store(tmp_path, fresh=False) as store:
        loaded = store.load()
    assert loaded.votes[0] == vote(SEAL_KIND, 5, b"b" * 32)
    assert all(record.kind != SEAL_KIND for record in loaded.votes[1:])


def test_what_was_committed_comes_back_after_a_restart(tmp_path: Path) -> None:
    chain, groups = filled(tmp_path, 12)
    with open_store(tmp_path, fresh=False) as store:
        assert store.notes == ()
        assert store.may_vote
        assert missing(store, groups) == []
        assert list(store.verify()) == []
        loaded = store.load()
    newest = chain.blocks[-1]
    assert (loaded.height, loaded.block, loaded.view) == (12, newest.id, newest.header.view)
    assert loaded.vote_count == 36
    assert loaded.votes == (vote(NOTARISE, 24, newest.id), vote(FINALISE, 24, newest.id))
    assert loaded.certificates == (certificate(NOTARISE, 24, newest.id), certificate(FINALISE, 24, newest.id))


def test_final_blocks_come_in_order_with_the_certificates_they_have(tmp_path: Path) -> None:
    """Finalising a block finalises its ancestors, so only some heights have a certificate of their own."""
    blocks = []
    parent = GENESIS
    for height in range(1, 151):
        blocks.append(make_block(height, height, parent, ()))
        parent = blocks[-1].id
    with open_store(tmp_path) as store:
        records: list[Record] = [block_record(block) for block in blocks]
        records += [certificate(FINALISE, height, blocks[height - 1].id) for height in (50, 150)]
        records += [FinalRecord(block.height, block.id) for block in blocks]
        store.commit(records)
        stored = list(store.blocks(1, 1000))
        assert [block.height for block in stored] == list(range(1, 151))
        assert [block.id for block in stored] == [block.id for block in blocks]
        assert [block.data for block in stored] == [block.encode() for block in blocks]
        assert [block.height for block in stored if block.certificate is not None] == [50, 150]
        assert [block.height for block in store.blocks(64, 66)] == [64, 65, 66]
        assert list(store.blocks(151, 300)) == list(store.blocks(9, 8)) == []
        assert store.block_at(150) == stored[-1]
        assert store.block_at(151) is None


def test_a_chain_may_begin_above_height_one(tmp_path: Path) -> None:
    """A node that started from a snapshot never had the blocks below it."""
    block = make_block(500, 900, b"\x33" * 32, ())
    with open_store(tmp_path) as store:
        store.commit([block_record(block), FinalRecord(500, block.id)])
    with open_store(tmp_path) as store:
        assert store.load().height == 500
        assert list(store.blocks(1, 1000)) == []
        assert [stored.height for stored in store.blocks(500, 1000)] == [500]


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert store.block(bytes(32)) is store.block_at(1) is store.batch(bytes(32)) is store.receipts(1) is None
        assert store.certificate(FINALISE, block=bytes(32)) is store.certificate(NULLIFY, view=3) is None


def test_certificates_are_found_by_block_and_by_view(tmp_path: Path) -> None:
    nullification, notarisation = certificate(NULLIFY, 7, bytes(32)), certificate(NOTARISE, 7, NODE)
    with open_store(tmp_path) as store:
        store.commit([nullification, notarisation, certificate(NULLIFY, 6, bytes(32))])
        assert store.certificate(NULLIFY, view=7) == nullification
        assert store.certificate(NULLIFY, block=bytes(32)) == nullification
        assert store.certificate(NOTARISE, block=NODE) == notarisation
        assert store.certificate(FINALISE, view=7) is None


def test_unordered_batches_and_open_blocks_are_loaded(tmp_path: Path) -> None:
    ordered, waiting = make_batch(1, 5000), make_batch(2, 300)
    block = make_block(1, 1, GENESIS, (ordered.digest,))
    following = make_block(2, 2, block.id, ())
    with open_store(tmp_path) as store:
        store.commit([ordered, waiting, block_record(block), block_record(following)])
        assert store.load().batches == (ordered, waiting)
        assert store.load().blocks == (block_record(block), block_record(following))
        store.commit([FinalRecord(1, block.id)])
        assert store.load().batches == (waiting,)
        assert store.load().blocks == (block_record(following),)


def test_a_batch_that_arrives_again_after_it_was_ordered_does_not_become_open(tmp_path: Path) -> None:
    batch = make_batch(1, 5000)
    block = make_block(1, 1, GENESIS, (batch.digest,))
    with open_store(tmp_path) as store:
        store.commit([batch, block_record(block), FinalRecord(1, block.id)])
        store.commit([batch, block_record(block), FinalRecord(1, block.id)])
        assert store.load().batches == store.load().blocks == ()
        assert list(store.verify()) == []


def test_forgetting_spares_what_is_final(tmp_path: Path) -> None:
    ordered, waiting, dropped = make_batch(1, 100), make_batch(2, 100), make_batch(3, 100)
    final = make_block(1, 1, GENESIS, (ordered.digest,))
    old, young = make_block(2, 2, final.id, ()), make_block(2, 9, final.id, ())
    with open_store(tmp_path) as store:
        store.commit([ordered, waiting, dropped, *(block_record(block) for block in (final, old, young))])
        store.commit([FinalRecord(1, final.id)])
        # The finalisation of view 3 is of a block that has not arrived; it is final nevertheless.
        for kind, view, block_id in (
            (FINALISE, 1, final.id), (NOTARISE, 1, final.id), (NULLIFY, 2, bytes(32)), (FINALISE, 3, NODE),
            (NOTARISE, 9, young.id),
        ):  # fmt: skip
            store.commit([certificate(kind, view, block_id)])
        store.commit([ForgetRecord((dropped.digest, ordered.digest, bytes(32)), 9)])
        assert store.batch(dropped.digest) is None
        assert store.batch(ordered.digest) == ordered.data
        assert store.batch(waiting.digest) == waiting.data
        assert store.block(old.id) is None
        assert store.block(final.id) is not None
        assert store.load().blocks == (block_record(young),)
        kept = [(row.kind, row.view) for row in store.load().certificates]
        assert kept == [(FINALISE, 1), (FINALISE, 3), (NOTARISE, 9)]
        assert list(store.verify()) == []


def test_numbers_of_a_peers_choosing_may_be_as_large_as_the_format_allows(tmp_path: Path) -> None:
    """SQLite's integers are signed: a maker that counts from 2^64 - 1 must not stop a node."""
    batch = make_batch(2**64 - 1, 10)
    block = make_block(2**64 - 1, 2**64 - 1, GENESIS, ())
    with open_store(tmp_path) as store:
        store.commit([batch, block_record(block), certificate(NOTARISE, 2**64 - 1, block.id)])
        assert store.load().batches == (batch,)
        assert store.load().blocks == (block_record(block),)
        assert store.certificate(NOTARISE, view=2**64 - 1) == certificate(NOTARISE, 2**64 - 1, block.id)


def test_receipts_may_be_computed_again(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.commit([ReceiptsRecord(1, NODE, b"\0\0\0\0"), ReceiptsRecord(1, NODE, b"\0\1\0\0")])
        assert store.receipts(1) == ReceiptsRecord(1, NODE, b"\0\1\0\0")


# Broken invariants: the group is refused whole.


def test_a_vote_cannot_be_contradicted(tmp_path: Path) -> None:
    batch = make_batch(1, 10)
    with open_store(tmp_path) as store:
        store.commit([vote(NOTARISE, 5, NODE)])
        store.commit([vote(NOTARISE, 5, NODE), vote(NULLIFY, 5, bytes(32))])
        with pytest.raises(AssertionError, match="this node has voted for"):
            store.commit([batch, vote(NOTARISE, 5, GENESIS)])
        with pytest.raises(AssertionError, match="this node has voted for"):
            store.commit([batch, vote(NOTARISE, 6, NODE), vote(NOTARISE, 6, GENESIS)])
        assert store.batch(batch.digest) is None
        assert store.load().vote_count == 2


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("unknown block", "is not stored"),
        ("missing batch", "is not stored"),
        ("gap", "is called final after height 1"),
        ("other parent", "does not follow"),
        ("second block at a height", "is called final at 1, not"),
        ("wrong height", "of height 3 is final at 2"),
    ],
)
def test_final_blocks_form_one_chain(tmp_path: Path, wrong: str, sentence: str) -> None:
    first = make_block(1, 1, GENESIS, ())
    blocks = {
        "missing batch": make_block(2, 2, first.id, (NODE,)),
        "gap": make_block(3, 3, first.id, ()),
        "other parent": make_block(2, 2, GENESIS, ()),
        "second block at a height": make_block(1, 2, GENESIS, ()),
        "wrong height": make_block(3, 3, first.id, ()),
    }
    block = blocks.get(wrong)
    height = {"gap": 3, "second block at a height": 1}.get(wrong, 2)
    with open_store(tmp_path) as store:
        store.commit([block_record(first), FinalRecord(1, first.id)])
        group: list[Record] = [make_batch(1, 10), FinalRecord(height, NODE if block is None else block.id)]
        if block is not None:
            group.insert(0, block_record(block))
        with pytest.raises(AssertionError, match=sentence):
            store.commit(group)
        assert store.load().height == 1
        assert store.load().batches == store.load().blocks == ()


# One owner


def test_a_directory_in_use_names_its_holder(tmp_path: Path) -> None:
    with start_child("hold", tmp_path, 0) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        process_id = int(child.stdout.readline())
        with pytest.raises(DirectoryInUse, match=rf"in use by node-1 \(process {process_id}\)"):
            open_store(tmp_path)
        child.stdin.close()
        child.wait()
    open_store(tmp_path).close()


def test_a_directory_is_held_once_inside_a_process_too(tmp_path: Path) -> None:
    with open_store(tmp_path), pytest.raises(DirectoryInUse):
        open_store(tmp_path)
    store = open_store(tmp_path)
    store.close()
    store.close()
    with pytest.raises(StorageFailed, match="closed"):
        store.commit([vote(NULLIFY, 1, bytes(32))])


def test_another_network_and_another_node_are_refused_by_name(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    with pytest.raises(WrongStore, match="network 6e6574776f726b31: this is network 7878787878787878"):
        open_store(tmp_path, network_id=b"x" * 8)
    with pytest.raises(WrongStore, match=f"belongs to node {NODE.hex()}"):
        open_store(tmp_path, node_key=GENESIS)
    open_store(tmp_path).close()


@pytest.mark.parametrize("file", ["chain.db", "votes.db"])
def test_unknown_formats_are_refused_by_name(tmp_path: Path, file: str) -> None:
    open_store(tmp_path).close()
    with sqlite3.connect(tmp_path / file) as database:
        database.execute("PRAGMA user_version = 7")
    database.close()
    with pytest.raises(UnknownFormat, match=f"{file} has format version 7; 1 is known here"):
        open_store(tmp_path)
    with sqlite3.connect(tmp_path / file) as database:
        database.execute("PRAGMA application_id = 1234")
    database.close()
    with pytest.raises(UnknownFormat, match=f"{file} was not written by p2pledger"):
        open_store(tmp_path)


def test_nothing_is_written_beside_a_file_that_is_not_ours(tmp_path: Path) -> None:
    """A lost vote log must not be replaced by one of another network, nor a stranger's file be touched."""
    filled(tmp_path, 2)
    (tmp_path / "votes.db").unlink()
    with pytest.raises(WrongStore):
        open_store(tmp_path, network_id=b"network2")
    assert not (tmp_path / "votes.db").exists()
    with sqlite3.connect(tmp_path / "votes.db") as database:
        database.execute("CREATE TABLE recipes (cake TEXT)")
    database.close()
    before = (tmp_path / "votes.db").read_bytes()
    with pytest.raises(UnknownFormat):
        open_store(tmp_path)
    assert (tmp_path / "votes.db").read_bytes() == before


# Who may vote


def test_without_its_vote_log_a_node_observes_from_then_on(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    (tmp_path / "votes.db").unlink()
    with open_store(tmp_path, fresh=True) as store:
        assert not store.may_vote
        assert "votes.db is missing" in store.notes[0]
        assert store.load().height == 3
    with open_store(tmp_path, fresh=True) as store:
        assert not store.may_vote
        assert "observes" in store.notes[0]


def test_an_emptied_vote_log_is_a_missing_one(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    (tmp_path / "votes.db").write_bytes(b"")
    with open_store(tmp_path, fresh=True) as store:
        assert not store.may_vote


def test_a_key_not_declared_fresh_may_not_vote_from_an_empty_directory(tmp_path: Path) -> None:
    with open_store(tmp_path, fresh=False) as store:
        assert not store.may_vote
    with open_store(tmp_path, fresh=True) as store:
        assert not store.may_vote


def test_the_block_log_may_be_deleted_and_the_votes_stay(tmp_path: Path) -> None:
    chain, _ = filled(tmp_path, 3)
    (tmp_path / "chain.db").unlink()
    (tmp_path / "chain.db-wal").write_bytes(b"left behind")
    with open_store(tmp_path, fresh=False) as store:
        assert store.may_vote
        assert "the votes are kept" in store.notes[0]
        assert store.load().height == 0
        assert len(store.load().votes) == 9
        with pytest.raises(AssertionError):
            store.commit([vote(NOTARISE, chain.blocks[0].header.view, GENESIS)])


def test_a_directory_whose_creation_was_cut_short_is_new(tmp_path: Path) -> None:
    (tmp_path / "votes.db").write_bytes(b"")
    with open_store(tmp_path, fresh=True) as store:
        assert store.may_vote
    (tmp_path / "chain.db").unlink()  # as if the power went between the two files
    with open_store(tmp_path, fresh=True) as store:
        assert store.may_vote


# Threads


def test_other_threads_read_while_one_commits(tmp_path: Path) -> None:
    chain = Chain()
    groups = [chain.group() for _ in range(30)]
    seen: list[int] = []
    faults: list[BaseException] = []
    done = threading.Event()

    def read(store: Store) -> None:
        try:
            while not done.is_set():
                loaded = store.load()
                assert [block.height for block in store.blocks(1, loaded.height)] == list(range(1, loaded.height + 1))
                seen.append(loaded.height)
        except BaseException as error:  # told by the main thread
            faults.append(error)

    with open_store(tmp_path) as store:
        readers = [threading.Thread(target=read, args=(store,)) for _ in range(2)]
        for reader in readers:
            reader.start()
        for group in groups:
            store.commit(group)
        done.set()
        for reader in readers:
            reader.join()
        assert faults == []
        assert store.load().height == 30
    assert sorted(seen)[-1] <= 30
