"""Nothing that was acknowledged is lost: not by kill -9, not by a power cut, not by a full disk.

SIGKILL does not test syncs, because the system keeps what was written. So a layer under SQLite records each write and
each sync, and a model of a disk says what a power cut could have left at any moment of that record.
"""

import random
import shutil
from pathlib import Path

import pytest

from p2pledger.storage.errors import DamagedStore
from p2pledger.storage.snapshots import Snapshots
from p2pledger.storage.store import Store, verify_directory
from tests.storage.power_cut import Arrived, Disk, Event, traced
from tests.storage.workload import (
    NETWORK,
    Chain,
    finish_child,
    missing,
    open_store,
    snapshot_rows,
    start_child,
)

POINTS = 150


def check(store: Store, acknowledged: int) -> list[str]:
    """What is wrong with a store that had acknowledged so many groups, and may have begun one more."""
    chain = Chain()
    faults = missing(store, [chain.group() for _ in range(acknowledged)])
    faults += map(str, store.verify())
    loaded = store.load()
    height = loaded.height
    if height not in (acknowledged, acknowledged + 1):
        faults.append(f"height {height} after {acknowledged} acknowledged groups")
    if loaded.vote_count > 3 * height:
        faults.append(f"{loaded.vote_count} votes at height {height}: some are younger than what they promise")
    return faults


def go_on(store: Store) -> None:
    """The next group can be written."""
    chain = Chain()
    height = store.load().height
    groups = [chain.group() for _ in range(height + 1)]
    for group in groups[-2:]:
        store.commit(group)
    assert store.load().height == height + 1


def test_kill_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(3)
    acknowledged = 0
    for _ in range(8):
        with start_child("commits", tmp_path / "node", 0) as child:
            assert child.stdout is not None
            # The kill comes while the child is busy with one of the groups after these.
            for _ in range(chance.randrange(1, 30)):
                acknowledged = int(child.stdout.readline())
            child.kill()
            acknowledged = int(([str(acknowledged), *child.stdout.read().decode().split("\n")[:-1]])[-1])
        with open_store(tmp_path / "node", fresh=False) as store:
            assert check(store, acknowledged) == []
            assert store.may_vote


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    scratch = tmp_path_factory.mktemp("trace")
    return traced("commits", scratch / "node", 30, scratch)


def test_the_record_of_writes_is_complete(trace: list[Event], tmp_path: Path) -> None:
    """Played to its end, it gives the very store that the child closed."""
    disk = Disk()
    for event in trace:
        disk.play(event)
    assert disk.acknowledged == 30
    disk.leave(tmp_path / "node", "everything", random.Random(0))
    with open_store(tmp_path / "node") as store:
        assert store.notes == ()
        assert check(store, 30) == []
    assert sum(event.operation == "S" and event.name == "votes.db-wal" for event in trace) >= 30
    assert any(event.operation == "W" and event.name == "chain.db" for event in trace), "no checkpoint was made"


@pytest.mark.parametrize("arrived", ["nothing", "some", "everything"])
def test_a_power_cut_at_any_moment_loses_nothing_that_was_acknowledged(
    trace: list[Event], tmp_path: Path, arrived: Arrived
) -> None:
    chance = random.Random(arrived)
    points = set(chance.sample(range(len(trace)), min(POINTS, len(trace)))) | set(range(0, 60, 3))
    disk = Disk()
    notes: set[str] = set()
    for point, event in enumerate(trace):
        disk.play(event)
        if point not in points:
            continue
        directory = tmp_path / "node"
        disk.leave(directory, arrived, chance)
        with open_store(directory) as store:
            assert check(store, disk.acknowledged) == [], (point, event.operation, event.name)
            assert store.may_vote
            notes.update(store.notes)
            go_on(store)
        shutil.rmtree(directory)
    assert bool(notes) == (arrived != "nothing"), "interrupted writes are reported"


def test_a_disk_that_forgets_syncs_is_noticed(trace: list[Event], tmp_path: Path) -> None:
    """The checks above can fail."""
    disk = Disk(lies=True)
    for event in trace:
        disk.play(event)
        if disk.acknowledged == 20:
            break
    disk.leave(tmp_path / "node", "nothing", random.Random(0))
    with open_store(tmp_path / "node") as store:
        assert check(store, disk.acknowledged) != []


def test_a_power_cut_leaves_a_whole_snapshot(tmp_path: Path) -> None:
    trace = traced("snapshots", tmp_path / "snapshots", 6, tmp_path)
    disk = Disk()
    chance = random.Random(4)
    arrivals: tuple[Arrived, ...] = ("nothing", "some", "some", "everything")
    for event in trace:
        disk.play(event)
        for arrived in arrivals:
            directory = tmp_path / "after"
            disk.leave(directory, arrived, chance)
            snapshots = Snapshots(directory, network_id=NETWORK)
            snapshot, notes = snapshots.newest()
            assert notes == (), "an unfinished one is not under the name of a snapshot"
            assert (0 if snapshot is None else snapshot.height) in (disk.acknowledged, disk.acknowledged + 1)
            if snapshot is not None:
                assert list(snapshot.rows()) == snapshot_rows(snapshot.height)
            shutil.rmtree(directory)
    assert disk.acknowledged == 6


def test_a_full_disk_stops_the_store_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    *acknowledged, first, second = finish_child(start_child("until_full", tmp_path / "node", 1_000_000))
    assert (first, second) == ("storage_failed", "storage_failed")
    assert len(acknowledged) >= 3
    with open_store(tmp_path / "node") as store:
        chain = Chain(60_000)
        groups = [chain.group() for _ in range(int(acknowledged[-1]) + 1)]
        assert missing(store, groups[:-1]) == []
        assert list(store.verify()) == []
        store.commit(groups[-1])


def test_no_room_from_the_start_is_said(tmp_path: Path) -> None:
    child = start_child("until_full", tmp_path / "node", 4096)
    _, _ = child.communicate()
    assert child.returncode != 0
    with open_store(tmp_path / "node") as store:
        assert store.may_vote, "the directory counts as new"


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A directory whose node died after seven groups, with everything still in the logs."""
    with start_child("commits_and_die", tmp_path / "node", 7) as child:
        child.wait()
    return tmp_path / "node"


@pytest.mark.parametrize("file", ["chain.db", "votes.db"])
def test_a_log_that_was_damaged_in_its_middle_is_refused(killed: Path, file: str) -> None:
    """SQLite would go back to before the damage without a word, and the node would forget what it voted."""
    log = killed / f"{file}-wal"
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    with pytest.raises(DamagedStore, match=rf"{file}-wal is damaged"):
        open_store(killed)
    assert [finding.file for finding in verify_directory(killed, name="verify")][:1] == [file]


@pytest.mark.parametrize("cut", [1, 3000, 4119])
@pytest.mark.parametrize("file", ["chain.db", "votes.db"])
def test_a_torn_tail_of_a_log_is_rolled_back_and_reported(killed: Path, file: str, cut: int) -> None:
    log = killed / f"{file}-wal"
    log.write_bytes(log.read_bytes()[:-cut])
    with open_store(killed) as store:
        assert [f"The last write to {file} was interrupted" in note for note in store.notes] == [True]
        assert list(store.verify()) == []
        loaded = store.load()
        assert (loaded.height, loaded.vote_count) == ((6, 21) if file == "chain.db" else (7, 18))
