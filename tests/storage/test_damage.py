"""One changed byte of stored data is found, named, and never used."""

import random
import sqlite3
from pathlib import Path

import pytest

from p2pledger.primitives.errors import P2PLedgerError
from p2pledger.storage.errors import DamagedStore, DirectoryInUse, UnknownFormat
from p2pledger.storage.store import verify_directory
from p2pledger.storage.tables import BLOCKS
from tests.storage.workload import NULLIFY, Chain, open_store, vote


def filled(directory: Path, count: int = 40) -> Chain:
    """More final blocks than are read at start, so that old damage is left for reading and for verify."""
    chain = Chain(3000)
    with open_store(directory) as store:
        for _ in range(count):
            store.commit(chain.group())
    return chain


def change(directory: Path, file: str, sql: str, *values: object) -> None:
    """What a fault below SQLite does, done through SQLite: it leaves the pages well-formed."""
    database = sqlite3.connect(directory / file)
    changed = database.execute(sql, values).rowcount
    database.commit()
    database.close()
    assert changed == 1


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :]


def flip_block(directory: Path, chain: Chain, height: int, place: int) -> None:
    block = chain.blocks[height - 1]
    change(directory, "chain.db", "UPDATE blocks SET data = ? WHERE id = ?", flipped(block.encode(), place), block.id)


def test_a_changed_byte_of_a_block_is_found_and_the_block_named(tmp_path: Path) -> None:
    chain = filled(tmp_path)
    for height, place in ((3, 0), (4, 100), (5, 250)):
        flip_block(tmp_path, chain, height, place)
    findings = list(verify_directory(tmp_path, name="verify"))
    assert [(finding.table, finding.row) for finding in findings] == [
        ("blocks", f"block {chain.blocks[height - 1].id.hex()} at height {height}") for height in (3, 4, 5)
    ]
    assert "checksum" in str(findings[0])
    with open_store(tmp_path) as store:  # too old to be read at start
        assert list(store.verify()) == findings
        with pytest.raises(DamagedStore, match=f"block {chain.blocks[3].id.hex()} is damaged"):
            store.block(chain.blocks[3].id)
        with pytest.raises(DamagedStore, match="is damaged"):
            list(store.blocks(1, 40))
        assert [block.height for block in store.blocks(6, 8)] == [6, 7, 8]


def test_a_forged_checksum_does_not_hide_a_changed_block(tmp_path: Path) -> None:
    """A block's bytes hash to its id, and verify asks."""
    chain = filled(tmp_path, 3)
    database = sqlite3.connect(tmp_path / "chain.db")
    row = list(database.execute(BLOCKS.select + "WHERE id = ?", (chain.blocks[1].id,)).fetchone()[:-1])
    row[-1] = flipped(row[-1], row[-1].index(chain.blocks[1].header.parent_state_root))
    database.execute(BLOCKS.replace, BLOCKS.seal(*row))
    database.commit()
    database.close()
    assert [finding.what for finding in verify_directory(tmp_path, name="verify")] == [
        "its bytes are those of another block"
    ]


def test_damage_to_a_new_block_is_refused_at_start_with_the_way_out(tmp_path: Path) -> None:
    chain = filled(tmp_path)
    flip_block(tmp_path, chain, 38, 60)
    with pytest.raises(DamagedStore) as caught:
        open_store(tmp_path)
    assert chain.blocks[37].id.hex() in caught.value.what
    assert caught.value.where == "chain.db, table blocks"
    assert "The votes are intact: delete chain.db" in caught.value.hint
    for file in ("chain.db", "chain.db-wal", "chain.db-shm"):
        (tmp_path / file).unlink(missing_ok=True)
    with open_store(tmp_path) as store:
        assert store.may_vote
        assert store.load().vote_count == 120


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("DELETE FROM finals WHERE height = 7", "final block at height 8 is damaged"),
        ("UPDATE finals SET parent = zeroblob(32) WHERE height = 9", "final block at height 9 is damaged"),
        ("UPDATE finals SET block = zeroblob(32) WHERE height = 5", "final block at height 6 is damaged"),
        ("DELETE FROM finals WHERE height = 1", "does not begin where it began"),
        ("DELETE FROM meta WHERE name = 'base'", "does not begin where it began"),
        ("UPDATE meta SET value = x'00' WHERE name = 'base'", "entry base is damaged"),
        ("UPDATE meta SET value = x'00' WHERE name = 'network_id'", "entry network_id is damaged"),
        ("DELETE FROM blocks WHERE id = (SELECT block FROM finals WHERE height = 2)", "final height 2 is missing"),
        ("UPDATE finals SET checksum = zeroblob(8) WHERE height = 40", "final block at height 40 is damaged"),
    ],
)
def test_a_broken_chain_of_final_blocks_is_refused_at_start(tmp_path: Path, sql: str, sentence: str) -> None:
    filled(tmp_path)
    change(tmp_path, "chain.db", sql)
    with pytest.raises(DamagedStore, match=sentence):
        open_store(tmp_path)
    assert list(verify_directory(tmp_path, name="verify")) != []


def test_a_changed_or_missing_batch_is_named(tmp_path: Path) -> None:
    chain = filled(tmp_path)
    orderer = next(block for block in chain.blocks[:20] if block.digests)
    old = orderer.digests[0]
    new = next(block.digests[0] for block in reversed(chain.blocks) if block.digests)
    change(tmp_path, "chain.db", "UPDATE batches SET data = zeroblob(length(data)) WHERE digest = ?", old)
    with open_store(tmp_path) as store:
        with pytest.raises(DamagedStore, match=f"batch {old.hex()} is damaged"):
            store.batch(old)
        named = f"batch {old.hex()}, ordered by block {orderer.id.hex()} at height {orderer.height}"
        assert [finding.row for finding in store.verify()] == [named]
    change(tmp_path, "chain.db", "DELETE FROM batches WHERE digest = ?", new)
    with pytest.raises(DamagedStore, match=f"batch {new.hex()} of final block"):
        open_store(tmp_path)
    assert f"batch {new.hex()}" in [finding.row for finding in verify_directory(tmp_path, name="verify")]


def test_rows_that_changed_places_are_found(tmp_path: Path) -> None:
    """The checksum covers the key: two whole rows with exchanged data are both damaged."""
    filled(tmp_path, 5)
    database = sqlite3.connect(tmp_path / "chain.db")
    rows = database.execute("SELECT height, codes, checksum FROM receipts WHERE height IN (1, 2)").fetchall()
    for (height, _, _), (_, codes, checksum) in zip(rows, reversed(rows), strict=True):
        database.execute("UPDATE receipts SET codes = ?, checksum = ? WHERE height = ?", (codes, checksum, height))
    database.commit()
    database.close()
    assert [finding.row for finding in verify_directory(tmp_path, name="verify")] == [
        "receipts of height 1",
        "receipts of height 2",
    ]


def test_a_damaged_vote_is_refused_at_start_and_the_node_is_told_to_observe(tmp_path: Path) -> None:
    filled(tmp_path, 5)
    change(tmp_path, "votes.db", "UPDATE votes SET block = zeroblob(32) WHERE rowid = 5")
    with pytest.raises(DamagedStore) as caught:
        open_store(tmp_path)
    assert caught.value.where == "votes.db, table votes"
    assert "observer" in caught.value.hint


def test_strays_in_the_lists_of_open_things_are_found(tmp_path: Path) -> None:
    filled(tmp_path, 4)
    change(tmp_path, "chain.db", "DELETE FROM open_blocks WHERE rowid = (SELECT min(rowid) FROM open_blocks)")
    [finding] = verify_directory(tmp_path, name="verify")
    assert finding.what == "it is neither final nor listed as open"


@pytest.mark.parametrize("seed", range(30))
def test_a_changed_byte_anywhere_in_a_file_never_passes_as_data(tmp_path: Path, seed: int) -> None:
    """Refused at start, or found by verify, or it hit bytes that mean nothing; what is read is always right."""
    filled(tmp_path, 20)
    chain = Chain(3000)
    groups = [chain.group() for _ in range(20)]
    chance = random.Random(seed)
    path = tmp_path / ("votes.db" if seed % 3 == 0 else "chain.db")
    data = bytearray(path.read_bytes())
    # Pages 1 to n alike; a whole sector goes as often as a single bit.
    place = chance.randrange(len(data))
    if seed % 2:
        data[place] ^= 1 << chance.randrange(8)
    else:
        data[place : place + 64] = chance.randbytes(len(data[place : place + 64]))
    path.write_bytes(data)
    try:
        with open_store(tmp_path, fresh=False) as store:
            findings = list(store.verify())
            if findings or not store.may_vote:
                return
            assert store.load().vote_count == 60
            for block in chain.blocks:
                stored = store.block_at(block.height)
                assert stored is not None
                assert stored.data == block.encode()
            for record in groups[7]:
                if hasattr(record, "digest"):
                    assert store.batch(record.digest) == record.data
    except (DamagedStore, UnknownFormat):
        # In the other direction: what is refused at start is also found by verify, or refused there too.
        try:
            assert list(verify_directory(tmp_path, name="verify")) != []
        except UnknownFormat:
            pass


def test_a_walk_over_rows_out_of_order_ends(tmp_path: Path) -> None:
    """A key that was changed in the pages may point the walk back to where it was; it must not go round for ever."""
    filled(tmp_path, 3)
    database = sqlite3.connect(tmp_path / "votes.db")
    [page_number] = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'votes'").fetchone()
    database.close()
    data = bytearray((tmp_path / "votes.db").read_bytes())
    page = (page_number - 1) * 4096
    # The last cell's pointer is exchanged with the first one's (file format, section 1.6): rowid 9 comes first.
    first, last = page + 8, page + 8 + 2 * 8
    data[first : first + 2], data[last : last + 2] = data[last : last + 2], data[first : first + 2]
    (tmp_path / "votes.db").write_bytes(data)
    findings = [str(finding) for finding in verify_directory(tmp_path, name="verify")]
    assert any("out of order" in finding for finding in findings)
    with pytest.raises(DamagedStore, match=r"votes\.db is damaged"):
        open_store(tmp_path)


def test_a_block_named_by_verify_lies_on_the_damaged_page(tmp_path: Path) -> None:
    """The same one floor lower: a byte of the raw file inside a known block's bytes."""
    chain = filled(tmp_path)
    block = chain.blocks[9]
    data = bytearray((tmp_path / "chain.db").read_bytes())
    place = data.index(block.header.parent_state_root)
    data[place] ^= 1
    (tmp_path / "chain.db").write_bytes(data)
    assert [finding.row for finding in verify_directory(tmp_path, name="verify")] == [
        f"block {block.id.hex()} at height 10"
    ]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    filled(tmp_path, 2)
    (tmp_path / "chain.db").write_bytes(b"no database at all " * 500)
    with pytest.raises(DamagedStore, match=r"chain\.db is damaged"):
        open_store(tmp_path)
    assert [finding.file for finding in verify_directory(tmp_path, name="verify")] == ["chain.db"]


def test_verify_of_a_whole_directory_finds_nothing_and_of_a_running_one_is_refused(tmp_path: Path) -> None:
    filled(tmp_path, 5)
    assert list(verify_directory(tmp_path, name="verify")) == []
    with open_store(tmp_path) as store:
        store.commit([vote(NULLIFY, 99, bytes(32))])
        with pytest.raises(DirectoryInUse, match="node-1"):
            list(verify_directory(tmp_path, name="verify"))
    with pytest.raises(P2PLedgerError):
        list(verify_directory(tmp_path / "nowhere", name="verify"))


def test_a_schema_that_is_no_text_any_more_is_damage(tmp_path: Path) -> None:
    """SQLite quotes it in its message, and Python fails to decode that message."""
    filled(tmp_path, 2)
    path = tmp_path / "votes.db"
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE votes (view", b"CREATE TABLE votes (\xff\xfe\xff\xfe"))
    with pytest.raises(DamagedStore, match=r"votes\.db is damaged"):
        open_store(tmp_path)
    assert "votes.db" in [finding.file for finding in verify_directory(tmp_path, name="verify")]
