"""Due work in small networks: a network at rest makes a block when a time has come, and rests again.

What is due here is the expiry of a standing offer: its units come back to who made it.
"""

from dataclasses import replace

import pytest

from p2pledger.ledger.books import Books
from p2pledger.ledger.market import agenda
from p2pledger.ledger.market.due import DueKind
from p2pledger.ledger.market.offers import OfferRow
from p2pledger.ledger.queries import check_conservation, holding_of
from p2pledger.ledger.rule import Place, Refused
from p2pledger.ledger.tables import Holding
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.market.offers import PlaceOffer, WithdrawOffer
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.reasons import Reason
from tests.network.small_network import ACCOUNTS, CASH, SHARE, SmallNetwork, chain_genesis, genesis_of

RESTING = ["simplex", "poa"]
"""The engines that rest; under the others blocks come anyway."""
REST_MS = 20_000


def network_of(engine: str, **parameters: int) -> SmallNetwork:
    if engine == "simplex":
        return SmallNetwork(genesis_of(parameters=Parameters(**parameters)))
    return SmallNetwork(chain_genesis(engine, **parameters))


def offer(network: SmallNetwork, expires_ms: int, salt: int = 0) -> PlaceOffer:
    return PlaceOffer(ACCOUNTS["A"], salt.to_bytes(16, "big"), SHARE, 10, CASH, 50, 1, expires_ms, b"")


def place(network: SmallNetwork, *offers: PlaceOffer | WithdrawOffer, patience_ms: int = 3_000) -> None:
    """They are final, and the network is at rest again."""
    network.submit(0, network.transaction(*offers))
    network.run(patience_ms)
    assert set(network.settled().values()) == {b"\0\0\0\0"}
    network.heard.clear()


def offers_left(network: SmallNetwork, number: int = 0) -> int:
    return network.peers[number].node.final_version.count(OfferRow.table)


def times(network: SmallNetwork, number: int = 0) -> dict[int, int]:
    """Height -> time of the final blocks."""
    disk, peer = network.disks[number], network.peers[number]
    found = {}
    for height in range(1, peer.final_height + 1):
        data = disk.final_block(height)
        assert data is not None
        found[height] = Block.decode(data).header.time_ms
    return found


@pytest.mark.parametrize("engine", RESTING)
def test_a_network_at_rest_wakes_for_what_is_due_and_rests_again(engine: str) -> None:
    network = network_of(engine)
    network.found()
    expires_ms = network.now_ms + 60_000
    place(network, offer(network, expires_ms))
    height, sent = network.heights()[0], network.sent
    head_height = network.peers[0].node.head.entry.block.height
    network.run(expires_ms - network.now_ms - 1)
    assert network.heights() == [height] * 4, "nothing happens before the time has come"
    assert network.sent == sent
    network.run(3_000)
    assert offers_left(network) == 0
    grown = network.heights()[0] - height
    assert len(set(network.heights())) == 1
    assert 2 <= grown <= 6, "a block for what is due, and what it takes to prove its roots"
    assert len(network.roots()) == 1
    assert times(network)[head_height] < expires_ms < times(network)[head_height + 1]
    version = network.peers[0].node.final_version
    assert holding_of(version, SHARE, ACCOUNTS["A"]) == Holding(1_000, 0)
    assert check_conservation(version) == []
    sent = network.sent
    network.run(REST_MS)
    assert network.heights() == [height + grown] * 4
    assert network.sent == sent
    assert network.is_quiet


@pytest.mark.parametrize("engine", ["pow", "pos", "dpos"])
def test_where_blocks_come_anyway_what_is_due_is_done_in_the_next(engine: str) -> None:
    network = network_of(engine)
    network.found()
    expires_ms = network.now_ms + 3_000
    network.submit(0, network.transaction(offer(network, expires_ms)))
    network.run(expires_ms - network.now_ms)
    assert offers_left(network) == 1
    network.run(4_000)
    assert offers_left(network) == 0


@pytest.mark.parametrize("engine", RESTING)
def test_what_exceeds_the_budget_is_done_in_the_blocks_after(engine: str) -> None:
    network = network_of(engine, due_per_block=2)
    network.found()
    expires_ms = network.now_ms + 30_000
    place(network, *(offer(network, expires_ms, salt) for salt in range(7)))
    height = network.heights()[0]
    network.run(expires_ms - network.now_ms + 5_000)
    assert offers_left(network) == 0
    assert network.heights()[0] >= height + 5, "two in each of three blocks, one in the fourth, and one for the roots"
    network.run(REST_MS)
    assert network.is_quiet


@pytest.mark.parametrize("engine", RESTING)
def test_nodes_that_stood_still_while_the_time_came_do_it_when_they_are_back(engine: str) -> None:
    network = network_of(engine)
    network.found()
    expires_ms = network.now_ms + 10_000
    place(network, offer(network, expires_ms))
    for number in range(4):
        network.crash(number)
    network.run(60_000)
    for number in range(4):
        network.restart(number)
    network.run(10_000)
    assert [offers_left(network, number) for number in range(4)] == [0] * 4
    assert len(network.roots()) == 1
    network.run(REST_MS)
    assert network.is_quiet


@pytest.mark.parametrize("engine", RESTING)
def test_a_node_that_was_away_catches_up_over_what_was_due(engine: str) -> None:
    network = network_of(engine)
    network.found()
    expires_ms = network.now_ms + 10_000
    place(network, offer(network, expires_ms), offer(network, expires_ms + 15_000, 1))
    network.crash(3)
    network.run(20_000)
    assert offers_left(network, 0) == 1
    network.restart(3)
    network.run(1_000)
    assert offers_left(network, 3) == 1
    network.run(20_000)
    assert [offers_left(network, number) for number in range(4)] == [0] * 4
    assert len(network.roots()) == 1
    network.run(REST_MS)
    assert network.is_quiet


def test_a_dead_leader_does_not_stop_what_is_due() -> None:
    network = network_of("simplex")
    network.found()
    expires_ms = network.now_ms + 10_000
    place(network, offer(network, expires_ms))
    leader = network.peers[0].node.view % 4
    network.crash(leader)
    network.run(30_000)
    alive = [number for number in range(4) if number != leader]
    assert [offers_left(network, number) for number in alive] == [0] * 3
    network.run(60_000)
    assert network.is_quiet


def test_what_is_due_at_the_end_of_an_epoch_waits_for_nobody() -> None:
    """Epochs of six blocks: offers expire before, at and after their ends, and each network is at rest in between."""
    network = network_of("simplex", epoch_blocks=6)
    network.found()
    first_ms = network.now_ms + 10_000
    times_ms = [first_ms + 4_000 * number for number in range(9)]
    place(network, *(offer(network, time_ms, number) for number, time_ms in enumerate(times_ms)))
    for number, time_ms in enumerate(times_ms):
        network.run(time_ms - network.now_ms)
        assert offers_left(network) == len(times_ms) - number
        network.run(3_500)
        assert offers_left(network) == len(times_ms) - number - 1
        assert len(network.roots()) == len(set(network.heights())) == 1
    assert network.peers[0].node.validators.epoch >= 3
    assert not network.halted
    network.run(REST_MS)
    assert network.is_quiet


@pytest.mark.parametrize("engine", RESTING)
def test_a_lone_node_does_what_is_due(engine: str) -> None:
    genesis = genesis_of(1) if engine == "simplex" else chain_genesis(engine, 1)
    network = SmallNetwork(genesis)
    network.found()
    expires_ms = network.now_ms + 10_000
    place(network, offer(network, expires_ms))
    network.run(expires_ms - network.now_ms)
    assert offers_left(network) == 1
    network.run(3_000)
    assert offers_left(network) == 0
    network.run(REST_MS)
    assert network.is_quiet


def test_a_network_without_a_quorum_tries_at_a_bounded_rate_and_goes_on_with_one() -> None:
    network = network_of("simplex")
    network.found()
    expires_ms = network.now_ms + 5_000
    place(network, offer(network, expires_ms))
    network.crash(2)
    network.crash(3)
    network.run(expires_ms - network.now_ms)
    sent = network.sent
    network.run(600_000)
    assert offers_left(network) == 1
    assert network.sent - sent < 600 * 10, "ten frames a second between two nodes is no busy loop"
    network.restart(2)
    network.run(60_000)
    assert offers_left(network) == 0
    network.run(60_000)
    assert network.is_quiet


def test_offers_that_are_taken_wake_nobody() -> None:
    network = network_of("simplex")
    network.found()
    expires_ms = network.now_ms + 20_000
    standing = offer(network, expires_ms)
    place(network, standing)
    place(network, WithdrawOffer(standing.id, ACCOUNTS["A"]))
    height = network.heights()[0]
    assert network.is_quiet
    network.run(60_000)
    assert network.heights() == [height] * 4


def test_due_work_that_refuses_is_said_in_the_log_of_every_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """No handler does: this one is planted. The queue goes on, and the nodes agree."""

    def refuse(books: Books, place: Place, reference: bytes) -> int:
        raise Refused(Reason.OVERFLOW)

    network = network_of("simplex")
    network.found()
    expires_ms = network.now_ms + 10_000
    standing = offer(network, expires_ms)
    place(network, standing)
    monkeypatch.setattr(agenda, "HANDLERS", {DueKind.OFFER_EXPIRY: refuse})
    network.run(15_000)
    said = [(number, dict(log.fields)) for number, log in network.logs if log.event == "due_work_refused"]
    assert [number for number, _ in sorted(said, key=lambda each: each[0])] == [0, 1, 2, 3]
    assert all((fields["kind"], fields["reference"]) == ("offer_expiry", standing.id.hex()) for _, fields in said)
    assert offers_left(network) == 1
    assert len(network.roots()) == 1
    assert network.is_quiet


@pytest.mark.parametrize("from_snapshot", [False, True])
def test_the_block_after_due_work_comes_although_all_stopped_before_it(from_snapshot: bool) -> None:
    """Its header carries the roots of what was done. A snapshot does not say what the block of its height did."""
    network = network_of("simplex")
    network.found()
    expires_ms = network.now_ms + 10_000
    place(network, offer(network, expires_ms))
    while not all(offers_left(network, number) == 0 for number in range(4)):
        network.run(1)
    height, root = network.heights()[0], network.peers[0].node.final_outcome.state_root
    assert network.heights() == [height] * 4
    for number in range(4):
        network.crash(number)
    for number in range(4):
        disk = network.disks[number]
        recovery = disk.recovery()
        if from_snapshot:
            state = network.peers[number].node.final_version
            recovery = replace(recovery, state=state, state_height=height)
        network.restart(number, recovery=recovery)
    network.run(10_000)
    assert network.heights() == [height + 1] * 4
    newest = network.peers[0].node.final_block
    assert (newest.digests, newest.header.parent_state_root) == ((), root)
    network.run(REST_MS)
    assert network.is_quiet
