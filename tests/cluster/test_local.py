"""A consortium of real processes: it starts, survives a kill, goes on where it stopped, and leaves no orphan."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from p2pledger.api.client import CannotConnect, Client
from p2pledger.cluster.directory import STATE_FILE, ClusterState, ProcessIdentity
from p2pledger.cluster.local import Cluster
from p2pledger.cluster.processes import NodeFailed, NodeProcess
from p2pledger.cluster.settle import settle
from p2pledger.primitives.errors import BadConfiguration, InvalidInput
from p2pledger.primitives.names import asset_id
from p2pledger.primitives.transactions import Transaction, delivery_versus_payment
from p2pledger.storage.lock import DirectoryLock

SHARE, MONEY = "CNE100000007@CSDC", "CNY@ICBC"


def wait_ended(pids: list[int], within_s: float = 30) -> None:
    """Until the kernel has let go of all these processes; they need not be our children."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([descriptor], [], [], within_s)[0], f"process {pid} lives on"
        finally:
            os.close(descriptor)


async def trade(cluster: Cluster, client: Client, quantity: int) -> int:
    """broker-1 sells shares to broker-2; the height at which it became final."""
    consortium = cluster.consortium
    transaction = Transaction(
        cluster.genesis.network_id,
        (await client.status()).final_height + 100,
        os.urandom(16),
        consortium.account("broker-2"),
        tuple(
            delivery_versus_payment(
                seller=consortium.account("broker-1"),
                buyer=consortium.account("broker-2"),
                security=asset_id(SHARE),
                quantity=quantity,
                money=asset_id(MONEY),
                price=100 * quantity,
            )
        ),
    )
    data = transaction.sign([consortium.keypair("broker-1"), consortium.keypair("broker-2")])
    [outcome] = await settle(client, [data], timeout_s=30)
    assert outcome.code == 0
    return outcome.height


async def held(client: Client, cluster: Cluster, member: str) -> int:
    answer = await client.holdings(cluster.consortium.account(member))
    return next(line.free for line in answer.lines if line.asset == asset_id(SHARE))


async def wait_one_state(cluster: Cluster) -> tuple[int, bytes]:
    """The height and the root at which all nodes stand when they have come to rest."""
    with trio.fail_after(30):
        while True:
            standing = set()
            for node in cluster.nodes:
                async with cluster.connect("broker-1", node) as client:
                    status = await client.status()
                    standing.add((status.final_height, status.state_root, status.held_batches))
            if len(standing) == 1 and (one := standing.pop())[2] == 0:
                return one[0], one[1]


async def test_a_cluster_settles_survives_a_kill_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    async with Cluster(seed=7, directory=tmp_path) as cluster:
        assert cluster.nodes == ("CCDC", "CSDC", "VENUE-A", "VENUE-B")
        client = await cluster.client("broker-1")
        assert await held(client, cluster, "broker-1") == 1_000_000
        await trade(cluster, client, 100)

        await cluster.kill("VENUE-B")
        assert [node.state for node in cluster.ps()] == ["running", "running", "running", "killed"]
        with pytest.raises(CannotConnect, match="VENUE-B is not running"):
            cluster.address("VENUE-B")
        await trade(cluster, client, 20)
        await cluster.restart("VENUE-B")
        await trade(cluster, client, 3)
        height, root = await wait_one_state(cluster)
        assert await held(client, cluster, "broker-2") == 1_000_123

        for node in cluster.ps():
            assert node.is_alive
        pids = [node.process.pid for node in cluster.ps() if node.process is not None]

        with pytest.raises(InvalidInput, match="in use by a running cluster") as caught:
            async with Cluster(directory=tmp_path):
                pass
        assert str(tmp_path) in str(caught.value)
    wait_ended(pids)

    with pytest.raises(BadConfiguration, match="not made from seed 8"):
        async with Cluster(seed=8, directory=tmp_path):
            pass
    with pytest.raises(BadConfiguration, match="has the validators"):
        async with Cluster(7, directory=tmp_path):
            pass
    async with Cluster(directory=tmp_path) as cluster:
        assert await wait_one_state(cluster) == (height, root)
        async with cluster.connect("broker-2") as client:
            assert await held(client, cluster, "broker-1") == 1_000_000 - 123


async def test_a_misspelt_name_comes_with_a_suggestion_and_errors_stay_single(tmp_path: Path) -> None:
    """One validator, because this is about the face of the class, not about consensus."""
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with Cluster(1, seed=7, directory=tmp_path, opening=False) as cluster:
            with pytest.raises(InvalidInput, match="Did you mean CCDC"):
                cluster.node("CCCD")
            with pytest.raises(InvalidInput, match="Did you mean broker-1"):
                await cluster.client("brokr-1")
            pids = [node.process.pid for node in cluster.ps() if node.process is not None]
            stats = await cluster.node("CCDC").stats()
            assert stats.cpu_s > 0
            raise ZeroDivisionError
    wait_ended(pids)
    state = ClusterState.load(tmp_path)
    assert state is not None
    assert [node.state for node in state.nodes] == ["stopped"]


PARENT = """
import sys, trio
from p2pledger.cluster.local import Cluster

async def main():
    async with Cluster(2, seed=7, directory=sys.argv[1], opening=False) as cluster:
        print("up", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


def test_no_node_survives_its_parent(tmp_path: Path) -> None:
    """The parent gets no chance to stop anything: SIGKILL."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "up\n"
    state = ClusterState.load(tmp_path)
    assert state is not None
    nodes = [node.process for node in state.nodes if node.process is not None]
    assert len(nodes) == 2
    assert all(node.is_alive for node in nodes)
    parent.kill()
    parent.communicate()
    wait_ended([node.pid for node in nodes])
    assert not state.supervisor.is_alive
    assert state.leftovers == ()


async def test_a_second_interruption_kills_what_was_asked_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trio raises Ctrl-C wherever its main task waits, shielded or not: here while the nodes are being stopped."""

    async def interrupted(node: NodeProcess) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(NodeProcess, "stop", interrupted)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with Cluster(1, seed=7, directory=tmp_path, opening=False):
            pass
    assert caught.group_contains(KeyboardInterrupt)
    state = ClusterState.load(tmp_path)
    assert state is not None
    assert [(node.state, node.process) for node in state.nodes] == [("killed", None)]
    DirectoryLock(tmp_path, "the next one").release()


async def test_a_leftover_node_is_named(tmp_path: Path) -> None:
    """A process that outlived its parent, against all care, is named before anything is started over it."""
    async with Cluster(1, seed=7, directory=tmp_path, opening=False):
        pass
    state = ClusterState.load(tmp_path)
    assert state is not None
    this = ProcessIdentity.of(os.getpid())
    assert this is not None
    [node] = state.nodes
    left = ClusterState(
        state.network,
        state.seed,
        ProcessIdentity(this.pid, this.started + 1),
        (type(node)(node.name, node.key, "running", 1, this, node.log),),
    )
    left.save(tmp_path)
    with pytest.raises(InvalidInput, match=rf"CCDC \(process {this.pid}\)"):
        async with Cluster(directory=tmp_path):
            pass


async def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    async with Cluster(1, seed=7, directory=tmp_path, opening=False):
        pass
    (tmp_path / "nodes" / "CCDC" / "votes.db").write_bytes(b"this is no database" * 1_000)
    with pytest.raises(Exception, match=r"votes\.db") as caught:
        async with Cluster(directory=tmp_path):
            pass
    assert getattr(caught.value, "code", "") == "node_failed"


async def test_one_damaged_node_does_not_keep_the_others_from_running(tmp_path: Path) -> None:
    async with Cluster(seed=7, directory=tmp_path):
        pass
    nodes = tmp_path / "nodes"
    key = (nodes / "CSDC" / "node.key").read_bytes()
    (nodes / "CSDC" / "node.key").unlink()
    async with Cluster(directory=tmp_path) as cluster:
        csdc = cluster.ps()[1]
        assert (csdc.name, csdc.state, csdc.process) == ("CSDC", "failed", None)
        assert "node key cannot be read" in csdc.failure
        assert [node.votes for node in cluster.ps()] == [True, None, True, True]
        state = ClusterState.load(tmp_path)
        assert state is not None
        assert state.nodes == cluster.ps()
        async with cluster.connect("broker-1") as client:
            await trade(cluster, client, 1)
        with pytest.raises(BadConfiguration, match="node key cannot be read"):
            await cluster.restart("CSDC")
        (nodes / "CSDC" / "node.key").write_bytes(key)
        (nodes / "CSDC" / "node.key").chmod(0o600)
        await cluster.restart("CSDC")
        assert (cluster.ps()[1].state, cluster.ps()[1].failure) == ("running", "")

    # One has lost its votes, one its blocks; the third that is damaged is one too many.
    for file in nodes.glob("VENUE-A/votes.db*"):
        file.unlink()
    (nodes / "VENUE-B" / "chain.db").write_bytes(b"this is no database" * 1_000)
    async with Cluster(directory=tmp_path) as cluster:
        assert [(node.state, node.votes) for node in cluster.ps()[2:]] == [("running", False), ("failed", None)]
        assert "chain.db" in cluster.ps()[3].failure
    (nodes / "CSDC" / "node.key").unlink()
    with pytest.raises(NodeFailed, match="CSDC, VENUE-B failed: fewer than a quorum"):
        async with Cluster(directory=tmp_path):
            pass


async def test_a_node_that_dies_while_the_ledger_is_opened_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is what does it; here the node is killed, and its log told before what a full disk makes it tell."""

    async def dies(cluster: Cluster, *arguments: object) -> None:
        node = cluster.node("CCDC")
        with node.log.open("a") as log:
            log.write('{"level": "critical", "event": "stopped", "sentence": "the disk is full"}\n')
        assert node.identity is not None
        node.identity.kill()
        await trio.sleep_forever()

    monkeypatch.setattr(Cluster, "open_ledger", dies)
    with pytest.raises(NodeFailed, match="the disk is full") as caught:
        async with Cluster(1, seed=7, directory=tmp_path):
            pass
    assert "cluster down --purge" in caught.value.hint


def test_signals_reach_the_right_process() -> None:
    """The identity of a process is checked before it is signalled."""
    this = ProcessIdentity.of(os.getpid())
    assert this is not None
    assert ProcessIdentity(this.pid, this.started + 1).kill(signal.SIGKILL) is False


async def test_a_disk_that_takes_nothing_any_more_ends_a_cluster_with_its_own_error(tmp_path: Path) -> None:
    net = tmp_path / "net"
    pids = []

    async def run() -> None:
        async with Cluster(1, seed=3, directory=net, opening=False) as cluster:
            pids.extend(node.process.pid for node in cluster.ps() if node.process is not None)
            (net / f"{STATE_FILE}.partial").mkdir()  # as good as a full disk: it cannot be written

    with pytest.raises(IsADirectoryError):
        await run()
    assert len(pids) == 1
    wait_ended(pids)
    DirectoryLock(net, "the next").release()
