"""A snapshot is read whole or not at all, and a bad one gives way to an older one."""

import random
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from p2pledger.storage.errors import DamagedStore, SnapshotFailed, UnknownFormat, WrongStore
from p2pledger.storage.snapshots import Snapshot, Snapshots
from tests.storage.workload import GENESIS, NETWORK, NODE, finish_child, snapshot_rows, start_child


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots(tmp_path / "snapshots", network_id=NETWORK)


def written(snapshots: Snapshots, *heights: int) -> None:
    for height in heights:
        snapshots.write(height, NODE, GENESIS, snapshot_rows(height))


def test_what_was_written_is_read(snapshots: Snapshots) -> None:
    path = snapshots.write(12, NODE, GENESIS, iter(snapshot_rows(12)))
    snapshot, notes = snapshots.newest()
    assert snapshot == Snapshot(path, 12, NODE, GENESIS, 4)
    assert list(snapshot.rows()) == snapshot_rows(12)
    assert notes == ()


def test_the_format_is_the_one_in_the_docstring(snapshots: Snapshots) -> None:
    def short(data: bytes) -> bytes:
        return sha256(data).digest()[:8]

    path = snapshots.write(3, NODE, GENESIS, [b"abc", b"defg"])
    form = b"p2plsnap" + bytes([0, 0, 0, 1])
    header = NETWORK + (3).to_bytes(8, "big") + NODE + GENESIS
    expected = form + short(form) + header + short(header)
    expected += bytes([0, 0, 0, 3]) + short(b"abc") + b"abc" + bytes([0, 0, 0, 4]) + short(b"defg") + b"defg"
    expected += bytes(4) + (2).to_bytes(8, "big")
    assert path.read_bytes() == expected + sha256(expected).digest()


def test_an_empty_state_and_an_empty_directory(snapshots: Snapshots) -> None:
    assert snapshots.newest() == (None, ())
    snapshots.write(0, NODE, GENESIS, [])
    snapshot, _ = snapshots.newest()
    assert snapshot is not None
    assert list(snapshot.rows()) == []


def test_the_newest_two_stay(snapshots: Snapshots) -> None:
    written(snapshots, 9, 10, 100)
    assert [path.name for path in snapshots.paths()] == [
        "00000000000000000100.snapshot",
        "00000000000000000010.snapshot",
    ]


def test_one_that_is_ahead_of_the_block_log_can_be_left_out(snapshots: Snapshots) -> None:
    written(snapshots, 10, 20)
    snapshot, notes = snapshots.newest(at_most_height=19)
    assert snapshot is not None
    assert (snapshot.height, notes) == (10, ())
    assert snapshots.newest(at_most_height=9) == (None, ())


def test_a_snapshot_torn_anywhere_falls_back_to_the_older_one(snapshots: Snapshots) -> None:
    written(snapshots, 1, 2)
    path = snapshots.paths()[0]
    data = path.read_bytes()
    chance = random.Random(1)
    edges = {0, 1, 11, 12, 20, 107, len(data) - 32, len(data) - 1}
    for cut in edges | {chance.randrange(len(data)) for _ in range(80)}:
        path.write_bytes(data[:cut])
        snapshot, notes = snapshots.newest()
        assert snapshot is not None, cut
        assert snapshot.height == 1
        assert len(notes) == 1
        assert path.name in notes[0]
        assert "passed over" in notes[0]


def test_a_changed_byte_anywhere_falls_back_to_the_older_one(snapshots: Snapshots) -> None:
    written(snapshots, 1, 2)
    path = snapshots.paths()[0]
    data = path.read_bytes()
    chance = random.Random(2)
    for place in {*range(140), *(chance.randrange(len(data)) for _ in range(100)), *range(len(data) - 44, len(data))}:
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :])
        snapshot, notes = snapshots.newest()
        assert snapshot is not None, place
        assert (snapshot.height, len(notes)) == (1, 1)
    path.write_bytes(data + b"\0")
    assert "does not end with its checksum" in snapshots.newest()[1][0]


def test_when_all_are_damaged_there_is_none(snapshots: Snapshots) -> None:
    written(snapshots, 1, 2)
    for path in snapshots.paths():
        path.write_bytes(path.read_bytes()[:-5])
    snapshot, notes = snapshots.newest()
    assert snapshot is None
    assert len(notes) == 2


def test_whole_chunks_that_were_taken_out_or_exchanged_are_found(snapshots: Snapshots) -> None:
    first, second = snapshot_rows(1)[:2]
    path = snapshots.write(1, NODE, GENESIS, [first, second])
    data = path.read_bytes()
    start = len(data) - 32 - 12 - len(first) - len(second) - 24
    middle = start + 12 + len(first)
    end = middle + 12 + len(second)
    path.write_bytes(data[:start] + data[middle:end] + data[start:middle] + data[end:])
    assert "the checksum of the whole" in snapshots.newest()[1][0]
    path.write_bytes(data[:start] + data[middle:])
    assert "1 chunks instead of 2" in snapshots.newest()[1][0]


def test_a_chunk_that_claims_too_much_is_not_allocated(snapshots: Snapshots) -> None:
    path = snapshots.write(1, NODE, GENESIS, [b"abc"])
    data = path.read_bytes()
    place = data.index(b"\0\0\0\3" + sha256(b"abc").digest()[:8])
    path.write_bytes(data[:place] + b"\xff\xff\xff\xff" + data[place + 4 :])
    assert "claims 4294967295 bytes" in snapshots.newest()[1][0]


def test_an_unknown_version_and_another_network_are_refused_by_name(snapshots: Snapshots) -> None:
    written(snapshots, 1, 2)
    with pytest.raises(WrongStore, match="belongs to network 6e6574776f726b31"):
        Snapshots(snapshots.directory, network_id=b"network2").newest()
    path = snapshots.paths()[0]
    form = b"p2plsnap" + bytes([0, 0, 0, 9])
    path.write_bytes(form + sha256(form).digest()[:8] + b"whatever version nine has here")
    with pytest.raises(UnknownFormat, match=f"{path.stem}.snapshot has format version 9; 1 is known here"):
        snapshots.newest()


def test_a_file_under_the_name_of_another_height_is_not_used(snapshots: Snapshots) -> None:
    written(snapshots, 1)
    snapshots.paths()[0].rename(snapshots.directory / "00000000000000000005.snapshot")
    snapshot, notes = snapshots.newest()
    assert snapshot is None
    assert "it is the snapshot of height 1" in notes[0]


def test_damage_after_the_check_is_found_while_reading(snapshots: Snapshots) -> None:
    written(snapshots, 1)
    snapshot, _ = snapshots.newest()
    assert snapshot is not None
    data = bytearray(snapshot.path.read_bytes())
    data[len(data) // 2] ^= 1
    snapshot.path.write_bytes(data)
    with pytest.raises(DamagedStore):
        list(snapshot.rows())
    snapshot.path.unlink()
    with pytest.raises(DamagedStore):
        list(snapshot.rows())


def test_an_export_that_fails_leaves_no_trace(snapshots: Snapshots) -> None:
    def rows() -> Iterator[bytes]:
        yield b"first"
        raise RuntimeError("the state was let go")

    written(snapshots, 1)
    with pytest.raises(RuntimeError):
        snapshots.write(2, NODE, GENESIS, rows())
    assert [path.name for path in snapshots.directory.iterdir()] == ["00000000000000000001.snapshot"]


def test_what_a_crash_left_unfinished_is_no_snapshot_and_is_cleared_away(snapshots: Snapshots) -> None:
    written(snapshots, 1)
    (snapshots.directory / "00000000000000000002.unfinished").write_bytes(b"half")
    snapshot, notes = snapshots.newest()
    assert snapshot is not None
    assert (snapshot.height, notes) == (1, ())
    written(snapshots, 2)
    assert len(list(snapshots.directory.iterdir())) == 2


def test_a_full_disk_leaves_the_older_ones(snapshots: Snapshots) -> None:
    written(snapshots, 1, 2)
    said = finish_child(start_child("snapshot_until_full", snapshots.directory, 50_000))
    assert said == ["snapshot_failed"]
    assert len(list(snapshots.directory.iterdir())) == 2
    snapshot, notes = snapshots.newest()
    assert snapshot is not None
    assert (snapshot.height, notes) == (2, ())


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SnapshotFailed, match="height 1 cannot be written"):
        Snapshots(tmp_path / "file", network_id=NETWORK).write(1, NODE, GENESIS, [b"x"])
