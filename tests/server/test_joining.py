"""A validator that joins a running network of real nodes: it observes, gets a seat, and votes, without a restart."""

from __future__ import annotations

from pathlib import Path

import trio

from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.transactions import SetValidators, approval_message
from p2pledger.primitives.validators import Validator
from tests.server.small_node import (
    PATIENCE_S,
    connect,
    genesis_of,
    log_of,
    make_directory,
    node_key,
    open_books,
    running,
    signed,
)


async def test_a_joiner_is_let_in_by_the_state_and_votes_from_the_boundary_on(tmp_path: Path) -> None:
    genesis = genesis_of(3, parameters=Parameters(epoch_blocks=5))
    configs = [make_directory(tmp_path, genesis, index) for index in range(4)]
    async with running(*configs) as servers:
        for server in servers[:3]:
            await server.wait_ready()
        assert not servers[3].votes
        async with connect(servers[0], genesis) as client:
            await open_books(client, genesis)
            height = (await client.status()).final_height
            epoch = height // 5 + 2
            keys = [node_key(index) for index in range(4)]
            seats = tuple(
                sorted(
                    (Validator(key.public_key, 1, f"node-{index}") for index, key in enumerate(keys)),
                    key=lambda seat: seat.key,
                )
            )
            message = approval_message(genesis.network_id, epoch, seats)
            approvals = tuple(sorted((key.public_key, key.sign(message)) for key in keys[:3]))
            identifier, data = signed(genesis, 50, SetValidators(epoch, seats, approvals))
            assert (await client.submit([data])).codes == (0,)
            settled = await client.wait_settled([identifier], PATIENCE_S)
            assert settled[identifier].code == 0
            while (await client.status()).final_height < 5 * epoch:
                await trio.lowlevel.checkpoint()
            newest = (await client.status()).final_height
        # It was a stranger; now the state knows it, and it catches up.
        while servers[3].stats().height < newest:
            await trio.lowlevel.checkpoint()
    epochs = [line for line in log_of(configs[3]) if line["event"] == "epoch"]
    assert epochs[-1]["votes"] == "true"
    assert epochs[-1]["validators"] == 4
    refusals = [line["code"] for line in log_of(configs[0]) if line["event"] == "session_refused"]
    assert set(refusals) <= {"stranger", "duplicate_session"}
