"""Clusters of other engines than the usual one, and validators that change while trades go on."""

import os
from pathlib import Path

import pytest
import trio

from p2pledger.api.client import Client
from p2pledger.cluster.local import Cluster
from p2pledger.cluster.settle import settle
from p2pledger.ledger.tables import Table
from p2pledger.primitives.errors import BadConfiguration
from p2pledger.primitives.names import asset_id
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.transactions import Operation, SetValidators, Transaction, Transfer

SHARE = asset_id("CNE100000007@CSDC")
EPOCH_BLOCKS = 40


async def send(cluster: Cluster, client: Client, operation: Operation) -> int:
    """The height at which it became final."""
    status = await client.status()
    transaction = Transaction(
        cluster.genesis.network_id,
        status.final_height + 500,
        os.urandom(16),
        cluster.consortium.account("broker-1"),
        (operation,),
    )
    [outcome] = await settle(client, [transaction.sign([cluster.consortium.keypair("broker-1")])], timeout_s=60)
    assert outcome.code == 0
    return outcome.height


async def test_an_engine_is_for_life(tmp_path: Path) -> None:
    async with Cluster(1, seed=7, directory=tmp_path, profile="private") as cluster:
        assert cluster.genesis.engine == "poa"
    for options, sentence in (
        ({"engine": "pow"}, "has engine poa, not pow"),
        ({"profile": "public"}, "has profile private, not public"),
    ):
        with pytest.raises(BadConfiguration, match=sentence) as refused:
            async with Cluster(directory=tmp_path, **options):
                raise AssertionError("it began")
        assert refused.value.code == "conflicting_options"
    async with Cluster(directory=tmp_path, engine="poa", profile="private") as cluster, cluster.connect() as client:
        assert (await client.status()).final_height > 0


async def test_validators_hand_over_to_others_while_trades_go_on() -> None:
    async with Cluster(4, seed=7, parameters=Parameters(epoch_blocks=EPOCH_BLOCKS)) as cluster:
        consortium = cluster.consortium
        seats = [seat for seat in cluster.genesis.validators if seat.name != "VENUE-B"]
        approvers = [consortium.node_keys[name] for name in ("CCDC", "CSDC", "VENUE-A")]
        change = SetValidators.approved(cluster.genesis.network_id, 2, seats, approvers)
        async with cluster.connect("broker-1") as client:
            assert await send(cluster, client, change) <= EPOCH_BLOCKS
            assert len((await client.rows(int(Table.VALIDATORS))).lines) == 2
            # A change that waits is reason enough for blocks: the boundary comes without any trade.
            with trio.fail_after(60):
                while (await client.status()).final_height < 2 * EPOCH_BLOCKS:
                    pass  # each question takes its time
            # The one who left is not missed, nor asked.
            await cluster.kill("VENUE-B")
            one, other = consortium.account("broker-1"), consortium.account("broker-2")
            assert await send(cluster, client, Transfer(one, other, SHARE, 5)) > 2 * EPOCH_BLOCKS
