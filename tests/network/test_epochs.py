"""Validators that change while the network runs: the new ones take over at the boundary, the old ones serve on."""

from __future__ import annotations

import pytest

from p2pledger.ledger.tables import Table
from p2pledger.network.effects import OBSERVER, VALIDATOR, Identity
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.messages import VoteMessage
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import SetValidators, SignedTransaction, approval_message
from p2pledger.primitives.validators import Validator
from p2pledger.primitives.votes import Vote, VoteKind
from tests.network.small_network import NODE_KEYS, SmallNetwork, genesis_of

EPOCH_BLOCKS = 6


class ChangingNetwork(SmallNetwork):
    """Five nodes, of which the first four are validators at first; the fifth only observes until it is seated."""

    def __post_init__(self) -> None:
        self.node_count = 5
        super().__post_init__()

    @property
    def size(self) -> int:
        return self.node_count

    def seat(self, *numbers: int) -> bytes:
        """Hand in the validators of the epoch after the next, signed by a quorum of the present ones; the id."""
        node = self.peers[0].node
        seats = tuple(
            sorted((Validator(NODE_KEYS[at].public_key, 1, f"v{at}") for at in numbers), key=lambda seat: seat.key)
        )
        epoch = node.epochs.after(node.final_height) + 2
        message = approval_message(self.genesis.network_id, epoch, seats)
        present = node.validators
        signers = [key for key in NODE_KEYS if present.signer_of(key.public_key) is not None]
        approvals = tuple(sorted((key.public_key, key.sign(message)) for key in signers[: present.quorum]))
        order = self.transaction(SetValidators(epoch, seats, approvals))
        self.submit(0, order)
        return SignedTransaction.decode(order).id


@pytest.fixture
def network() -> ChangingNetwork:
    network = ChangingNetwork(genesis_of(4, Parameters(epoch_blocks=EPOCH_BLOCKS)))
    network.found()
    return network


def epochs(network: SmallNetwork) -> list[int]:
    return [peer.node.validators.epoch for peer in network.peers]


def trade_is_settled(network: SmallNetwork, number: int) -> None:
    network.heard.clear()
    trade = network.transfer()
    network.submit(number, trade)
    network.run(3_000)
    assert network.settled() == {SignedTransaction.decode(trade).id: b"\0\0\0\0"}


def test_epochs_pass_and_nothing_changes_if_nobody_wants_a_change(network: ChangingNetwork) -> None:
    for number in range(12):
        trade_is_settled(network, number % 4)
    assert min(epochs(network)) >= 3
    assert len(network.roots()) == 1
    assert not network.ended
    assert network.is_quiet


def test_a_joiner_votes_and_a_leaver_serves_on_without_a_restart(network: ChangingNetwork) -> None:
    identifier = network.seat(1, 2, 3, 4)
    network.run(5_000)
    assert network.settled()[identifier] == b"\0\0\0\0"
    # Empty blocks were made up to the boundary, and then the network rests.
    assert epochs(network) == [2] * 5
    assert network.is_quiet
    for peer in network.peers:
        assert peer.node.validators.signer_of(NODE_KEYS[4].public_key) is not None
        assert peer.node.validators.signer_of(NODE_KEYS[0].public_key) is None
    assert network.peers[4].node._engine.votes  # type: ignore[union-attr]
    assert not network.peers[0].node._engine.votes  # type: ignore[union-attr]
    assert network.peers[1].admit(Identity(NODE_KEYS[0].public_key, VALIDATOR, "")) is None, "for one epoch more"
    for number in (1, 4, 2):
        trade_is_settled(network, number)
    # Who has no seat cannot promise that its batches are ordered.
    network.heard.clear()
    network.submit(0, network.transfer())
    network.run(100)
    assert network.admitted() == [Reason.NOT_READY]
    assert len(network.roots()) == 1
    assert not network.halted


def test_a_node_that_slept_over_two_epochs_checks_each_piece_with_its_own_validators(network: ChangingNetwork) -> None:
    network.crash(3)
    network.seat(1, 2, 3, 4)
    network.run(8_000)
    for number in (1, 2, 4):
        trade_is_settled(network, number)
    while min(epochs(network)[:3]) < 4:
        trade_is_settled(network, 1)
    network.restart(3)
    network.run(10_000)
    assert len(set(network.heights())) == 1
    assert len(network.roots()) == 1
    network.restart(3, empty=True)
    network.run(10_000)
    assert len(set(network.heights())) == 1
    assert not network.ended


def test_all_nodes_restart_in_a_later_epoch(network: ChangingNetwork) -> None:
    network.seat(1, 2, 3, 4)
    network.run(5_000)
    for number in range(5):
        network.crash(number)
    for number in range(5):
        network.restart(number)
    network.run(1_000)
    assert epochs(network) == [2] * 5
    for number in (1, 4):
        trade_is_settled(network, number)
    assert len(network.roots()) == 1


def test_who_votes_twice_is_reported_and_has_no_seat_any_more(network: ChangingNetwork) -> None:
    culprit = NODE_KEYS[3]
    node = network.peers[0].node
    signer, view = node.validators.signer_of(culprit.public_key), node.view + 1
    assert signer is not None
    votes = [
        Vote.make(node.network_id, node.validators.epoch, view, VoteKind.NOTARISE, bytes([at]) * 32, signer, culprit)
        for at in (1, 2)
    ]
    for vote in votes:
        network.receive(0, 3, VoteMessage(vote.encode()).encode())
    for number in (0, 1, 2, 0, 1):
        trade_is_settled(network, number)
    version = network.peers[1].node.final_version
    assert [key[:32] for key, _ in version.scan(Table.EVIDENCE)] == [culprit.public_key]
    network.run(5_000)
    assert len(set(epochs(network))) == 1
    assert network.peers[1].node.validators.signer_of(culprit.public_key) is None
    trade_is_settled(network, 1)


def test_strangers_stay_strangers(network: ChangingNetwork) -> None:
    peer = network.peers[0]
    stranger = Keypair.from_seed(b"x" * 32)
    assert peer.admit(Identity(stranger.public_key, VALIDATOR, "")) is not None
    assert peer.admit(Identity(stranger.public_key, OBSERVER, "")) is not None
