"""The reader of write-ahead logs sees what SQLite sees, and tells an interrupted write from damage."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from p2pledger.storage.wal import WalTail, inspect_wal

FRAME_BYTES = 24 + 4096
COMMITS = 4


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of four transactions of at least two frames each, as a killed process leaves it."""
    live = sqlite3.connect(tmp_path / "live.db", isolation_level=None)
    live.execute("PRAGMA journal_mode = WAL")
    live.execute("CREATE TABLE numbers (number INTEGER, data BLOB)")
    live.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for number in range(COMMITS):
        live.execute("INSERT INTO numbers VALUES (?, zeroblob(9000))", (number,))
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"live.db{suffix}", tmp_path / f"killed.db{suffix}")
    live.close()
    return tmp_path / "killed.db-wal"


def commits(log: Path) -> int:
    """How many of the transactions SQLite itself recovers."""
    database = sqlite3.connect(log.with_name("killed.db"))
    try:
        [count] = database.execute("SELECT count(*) FROM numbers").fetchone()
    finally:
        database.close()
    return int(count)


def commit_places(log: Path) -> list[int]:
    """Frame numbers, from 1, that end a transaction."""
    data = log.read_bytes()
    frames = range((len(data) - 32) // FRAME_BYTES)
    return [nth + 1 for nth in frames if any(data[32 + nth * FRAME_BYTES + 4 : 32 + nth * FRAME_BYTES + 8])]


def test_a_whole_log_has_no_loss(log: Path) -> None:
    assert len(commit_places(log)) == COMMITS
    assert inspect_wal(log) == WalTail(commit_places(log)[-1], 0, 0)
    assert commits(log) == COMMITS


def test_a_missing_and_an_empty_log_are_whole(tmp_path: Path) -> None:
    assert inspect_wal(tmp_path / "none") == WalTail(0, 0, 0)
    (tmp_path / "empty").touch()
    assert inspect_wal(tmp_path / "empty") == WalTail(0, 0, 0)


@pytest.mark.parametrize("cut", range(1, 3 * FRAME_BYTES, 1021))
def test_a_torn_tail_is_an_interrupted_write_or_the_end_of_one(log: Path, cut: int) -> None:
    """What we count as committed is what SQLite recovers, wherever the file ends."""
    places = commit_places(log)
    data = log.read_bytes()[:-cut]
    log.write_bytes(data)
    tail = inspect_wal(log)
    left = [place for place in places if 32 + place * FRAME_BYTES <= len(data)]
    assert tail.committed_frames == left[-1]
    assert not tail.is_damaged
    assert tail.is_interrupted == (len(data) - 32 - left[-1] * FRAME_BYTES >= 24)
    assert commits(log) == len(left)


@pytest.mark.parametrize("transaction", range(COMMITS))
def test_a_changed_byte_is_damage_unless_it_may_be_the_last_write(log: Path, transaction: int) -> None:
    first_frame = ([0, *commit_places(log)])[transaction]
    data = bytearray(log.read_bytes())
    data[32 + first_frame * FRAME_BYTES + 2000] ^= 1
    log.write_bytes(data)
    tail = inspect_wal(log)
    assert tail.committed_frames == first_frame
    assert tail.is_damaged == (transaction < COMMITS - 1)
    assert tail.is_interrupted == (transaction == COMMITS - 1)
    assert commits(log) == transaction, "SQLite drops all that follows, and says nothing"


def test_a_changed_header_is_damage(log: Path) -> None:
    data = bytearray(log.read_bytes())
    data[17] ^= 1
    log.write_bytes(data)
    assert inspect_wal(log).is_damaged
    assert commits(log) == 0


def test_frames_of_an_older_use_of_the_log_do_not_count(tmp_path: Path) -> None:
    live = sqlite3.connect(tmp_path / "live.db", isolation_level=None)
    live.execute("PRAGMA journal_mode = WAL")
    live.execute("CREATE TABLE numbers (number INTEGER, data BLOB)")
    for number in range(5):
        live.execute("INSERT INTO numbers VALUES (?, zeroblob(9000))", (number,))
    live.execute("PRAGMA wal_checkpoint(PASSIVE)")
    live.execute("INSERT INTO numbers VALUES (5, NULL)")  # begins the log anew; longer remains stay behind it
    shutil.copy(tmp_path / "live.db-wal", tmp_path / "copy-wal")
    live.close()
    tail = inspect_wal(tmp_path / "copy-wal")
    assert (tmp_path / "copy-wal").stat().st_size > 32 + FRAME_BYTES * (tail.committed_frames + 4)
    assert (tail.lost_frames, tail.lost_commits) == (0, 0)
    assert 1 <= tail.committed_frames <= 2
