"""However records are grouped, the rows are those of one record after the other."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from p2pledger.primitives.records import BatchRecord, BlockRecord, FinalRecord, ForgetRecord, Record
from p2pledger.storage.errors import DamagedStore
from tests.storage.workload import GENESIS, Chain, block_record, make_batch, make_block, open_store

TABLES = ("batches", "blocks", "certificates", "finals", "receipts", "open_batches", "open_blocks", "meta")


def rows(directory: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of a closed store; sorted, because open rows that come and go may leave others in another order."""
    with closing(sqlite3.connect(directory / "chain.db")) as database:
        return {table: sorted(database.execute(f"SELECT * FROM {table}").fetchall()) for table in TABLES}


def written(directory: Path, groups: list[list[Record]]) -> dict[str, list[tuple[object, ...]]]:
    with open_store(directory) as store:
        for group in groups:
            store.commit(group)
        assert list(store.verify()) == []
    return rows(directory)


def history(chance: random.Random) -> list[Record]:
    """A chain, with batches that are let go, some of them to come back, and much of it told twice."""
    chain = Chain(900)
    records: list[Record] = []
    strays = [make_batch(1_000 + index, 100 + index) for index in range(40)]
    for _ in range(20):
        records += chain.group()
        records += chance.sample(strays, 3)
        records += [known for known in chance.sample(records, 6) if not isinstance(known, ForgetRecord)]
        if not chance.randrange(3):
            batches = tuple(known.digest for known in records if isinstance(known, BatchRecord))
            records.append(ForgetRecord(tuple(chance.sample(batches, 5)), chain.blocks[-1].header.view))
    return records


@pytest.mark.parametrize("seed", range(4))
def test_grouping_changes_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    records = history(chance)
    cuts = sorted(chance.sample(range(1, len(records)), 25))
    groups = [records[start:end] for start, end in zip([0, *cuts], [*cuts, len(records)], strict=True)]
    singly = written(tmp_path / "singly", [[record] for record in records])
    assert written(tmp_path / "groups", groups) == singly
    assert written(tmp_path / "whole", [records]) == singly


def test_a_restart_between_groups_changes_nothing(tmp_path: Path) -> None:
    """What the writer remembers of its own writing it reads when it has not written it itself."""
    records = history(random.Random(9))
    for start in range(0, len(records), 40):
        with open_store(tmp_path / "restarted") as store:
            store.commit(records[start : start + 40])
    assert rows(tmp_path / "restarted") == written(tmp_path / "whole", [records])


def test_a_group_that_was_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither rows nor the memory of rows: what it would have stored is still missing for the next group."""
    batch = make_batch(1, 50)
    block = make_block(1, 1, GENESIS, (batch.digest,))
    with open_store(tmp_path) as store:
        with pytest.raises(AssertionError, match="is called final at"):
            store.commit([batch, block_record(block), FinalRecord(1, block.id), FinalRecord(1, GENESIS)])
        assert store.batch(batch.digest) is None
        assert store.block(block.id) is None
        with pytest.raises(AssertionError, match="is not stored"):
            store.commit([FinalRecord(1, block.id)])
        with pytest.raises(AssertionError, match=r"batch .* is not stored"):
            store.commit([block_record(block), FinalRecord(1, block.id)])
        store.commit([batch, block_record(block), FinalRecord(1, block.id)])
        assert store.load().height == 1


def test_two_final_blocks_of_one_group_may_order_the_same_batch(tmp_path: Path) -> None:
    """That no chain does so is for others to say: here it is stored, in one group as in five."""
    batch = make_batch(1, 50)
    lower = make_block(1, 1, GENESIS, (batch.digest,))
    upper = make_block(2, 2, lower.id, (batch.digest,))
    records = [batch, block_record(lower), FinalRecord(1, lower.id), block_record(upper), FinalRecord(2, upper.id)]
    assert written(tmp_path / "whole", [records]) == written(tmp_path / "singly", [[record] for record in records])


def test_a_block_of_other_bytes_is_not_called_final(tmp_path: Path) -> None:
    block, other = make_block(1, 1, GENESIS, ()), make_block(1, 2, GENESIS, ())
    wrong = BlockRecord(block.id, 1, 1, GENESIS, other.encode())
    with open_store(tmp_path) as store, pytest.raises(DamagedStore, match="its bytes are those of another block"):
        store.commit([wrong, FinalRecord(1, block.id)])
