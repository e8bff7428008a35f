"""Who uses a cluster's directory: process ids that cannot be confused, and a state file that survives crashes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2pledger.cluster.directory import (
    ClusterState,
    NodeState,
    ProcessIdentity,
    is_cluster,
    refuse_foreign,
    usage_of,
)
from p2pledger.primitives.errors import BadConfiguration


def this_process() -> ProcessIdentity:
    identity = ProcessIdentity.of(os.getpid())
    assert identity is not None
    return identity


def a_dead_process() -> ProcessIdentity:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = ProcessIdentity.of(process.pid)
    assert identity is not None
    assert identity.is_alive
    assert identity.kill()
    process.communicate()
    return identity


def test_a_process_is_known_by_its_id_and_its_start() -> None:
    this = this_process()
    assert this.is_alive
    assert not ProcessIdentity(this.pid, this.started + 1).is_alive
    assert not ProcessIdentity(this.pid, this.started + 1).kill()


def test_a_dead_process_is_not_alive_and_cannot_be_killed_again() -> None:
    dead = a_dead_process()
    assert not dead.is_alive
    assert not dead.kill()
    assert ProcessIdentity.of(dead.pid) is None
    assert usage_of(dead.pid).rss_mib == 0


def test_use_of_the_machine_is_read_from_the_kernel() -> None:
    usage = usage_of(os.getpid())
    assert usage.cpu_s > 0
    assert usage.rss_mib > 1


def state_of(supervisor: ProcessIdentity, node: ProcessIdentity | None) -> ClusterState:
    return ClusterState("ab" * 8, 7, supervisor, (NodeState("CSDC", "cd" * 32, "running", 5000, node, "node.log"),))


def test_the_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    state = state_of(this_process(), None)
    state.save(tmp_path)
    assert ClusterState.load(tmp_path) == state
    assert not list(tmp_path.glob("*.partial"))


def test_no_state_is_none(tmp_path: Path) -> None:
    assert ClusterState.load(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "p2pledger.cluster/2"}', "null"])
def test_a_foreign_state_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.json").write_text(text)
    with pytest.raises(BadConfiguration, match="cluster"):
        ClusterState.load(tmp_path)


def test_what_a_dead_supervisor_left_behind_is_named() -> None:
    dead = a_dead_process()
    assert [node.name for node in state_of(dead, this_process()).leftovers] == ["CSDC"]
    assert state_of(dead, dead).leftovers == ()
    assert state_of(this_process(), this_process()).leftovers == ()


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    refuse_foreign(tmp_path)
    refuse_foreign(tmp_path / "new")
    (tmp_path / "supervisor.log").touch()
    refuse_foreign(tmp_path)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(BadConfiguration, match=r"thesis\.tex"):
        refuse_foreign(tmp_path)
    with pytest.raises(BadConfiguration, match="not a directory"):
        refuse_foreign(tmp_path / "thesis.tex")
    (tmp_path / "genesis.bin").touch()
    refuse_foreign(tmp_path)
    assert is_cluster(tmp_path)
