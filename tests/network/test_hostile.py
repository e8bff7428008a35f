"""What one hostile or broken validator or client may cost the others: nothing that lasts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pledger import core
from p2pledger.network import peer as peer_module
from p2pledger.network.effects import Effect, Event, Received, Send, SetTimer
from p2pledger.network.peer import Peer
from p2pledger.node import node as node_module
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.messages import (
    BatchMessage,
    Chain,
    ProposalMessage,
    Settled,
    Status,
    Submit,
    Submitted,
    WantChain,
    decode_message,
)
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import SignedTransaction
from p2pledger.primitives.votes import Vote, VoteKind
from tests.network.small_network import CLIENT_SESSION, NODE_KEYS, SmallNetwork, genesis_of


@pytest.fixture
def network() -> SmallNetwork:
    network = SmallNetwork()
    network.found()
    return network


def test_proposals_that_nobody_can_vote_for_take_no_place_in_the_chain(network: SmallNetwork) -> None:
    """Blocks of past and of far views, each another one: no offence by itself, but nothing to remember either."""
    node = network.peers[0].node
    network.submit(0, network.transfer())
    network.run(500)
    known = len(node.chain)
    digests = tuple(number.to_bytes(32, "big") for number in range(100))
    for number in range(200):
        view = 1 if number % 2 else node.view + 1_000_000
        header = replace(
            node.final_block.header,
            view=view,
            height=node.final_height + 1 + number,
            parent=number.to_bytes(32, "big"),
            batches_root=core.merkle_root(digests),
        )
        signer = node.validators.signer_of(NODE_KEYS[3].public_key)
        assert signer is not None
        vote = Vote.make(node.network_id, 0, view, VoteKind.NOTARISE, header.id, signer, NODE_KEYS[3])
        network.receive(0, 3, ProposalMessage(Block(header, digests).encode(), vote.encode()).encode())
    assert len(node.chain) == known
    trade = network.transfer()
    network.submit(0, trade)
    network.run(500)
    assert len(network.settled()) == 2
    assert ZERO_HASH not in network.roots()


def test_the_disk_is_asked_once_for_batches_that_do_not_exist(
    network: SmallNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader may name a thousand digests of nothing; every message while its view lasts looks at its block again."""
    node = network.peers[0].node
    header, at = node.final_block.header, node.view
    leader = next(key for key in NODE_KEYS if key.public_key == node.validators.members[at % 4].key)
    sender = NODE_KEYS.index(leader)
    victim = network.peers[(sender + 1) % 4]
    asked: list[bytes] = []
    monkeypatch.setattr(victim.node.archive, "batch", asked.append)
    digests = tuple(number.to_bytes(32, "big") for number in range(1_000))
    state_root, receipts_root = node.final_outcome.state_root, node.final_outcome.receipts_root
    block = Block(
        replace(
            header,
            view=at,
            height=header.height + 1,
            parent=header.id,
            time_ms=network.now_ms,
            proposer=leader.public_key,
            batches_root=core.merkle_root(digests),
            parent_state_root=state_root,
            parent_receipts_root=receipts_root,
        ),
        digests,
    )
    vote = Vote.make(node.network_id, 0, at, VoteKind.NOTARISE, block.id, at % 4, leader)
    network.receive((sender + 1) % 4, sender, ProposalMessage(block.encode(), vote.encode()).encode())
    assert len(asked) == 1_000
    for _ in range(10):
        network.receive((sender + 1) % 4, sender, Status(1, header.id, 1).encode())
        victim.node.tick(network.now_ms)
    assert len(asked) == 1_000
    monkeypatch.undo()
    network.submit((sender + 2) % 4, network.transfer())
    network.run(5_000)
    assert len(network.settled()) == 1
    assert not victim.node._proposals._absent


class AheadOfTime:
    """A peer whose clock is ahead."""

    def __init__(self, peer: Peer, ahead_ms: int) -> None:
        self.peer, self.ahead_ms = peer, ahead_ms

    def __getattr__(self, name: str) -> object:
        return getattr(self.peer, name)

    def step(self, event: Event, now_ms: int, *, more: bool = False) -> list[Effect]:
        return [
            SetTimer(effect.at_ms - self.ahead_ms) if isinstance(effect, SetTimer) and effect.at_ms else effect
            for effect in self.peer.step(event, now_ms + self.ahead_ms, more=more)
        ]


def test_a_clock_that_is_ahead_within_the_drift_slows_nobody_down(network: SmallNetwork) -> None:
    network.peers[2] = AheadOfTime(network.peers[2], 1_900)  # type: ignore[call-overload]
    for _ in range(12):
        trade = network.transfer()
        network.submit(0, trade)
        network.run(150)
        network.settled()
        assert len(network.settled()) == 1, "a trade waited for somebody's clock"
        network.heard.clear()


def test_a_stale_batch_that_a_block_above_orders_is_not_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that was away holds batches of blocks that it has yet to catch up with."""
    monkeypatch.setattr(node_module, "_FORGET_EVERY", 1)
    network = SmallNetwork(genesis_of(parameters=Parameters(drop_after_heights=1, drop_after_ms=1)))
    network.found()
    network.crash(3)
    for _ in range(8):
        network.submit(0, network.transfer())
        network.run(200)
    network.cut = {frozenset((other, 3)) for other in range(3)}
    network.restart(3)
    behind = network.peers[3].final_height
    for data in network.disks[0].batches.values():
        network.receive(3, 0, BatchMessage(data).encode())
    network.run(10)
    network.cut.clear()
    final = network.peers[0].node.final_block
    network.receive(3, 0, Status(final.height, final.id, final.header.view).encode())
    network.run(2_000)
    assert network.peers[3].final_height == final.height >= behind + 8
    assert len(network.roots()) == 1


# --- clients --------------------------------------------------------------------------------------------------------


def test_nobody_is_kept_out_by_the_same_transaction_with_too_few_signatures(network: SmallNetwork) -> None:
    """Its id does not cover the signatures: whoever knows a trade could come first, without those that it needs."""
    good = network.transfer()
    bad = SignedTransaction.decode(good).transaction.sign([Keypair.from_seed(b"m" * 32)])
    network.submit(0, bad)
    network.submit(0, good)
    network.submit(0, good)
    network.run(500)
    assert network.admitted() == [Reason.OK, Reason.OK, Reason.ALREADY_PENDING]
    told = [message.codes[:2] for _, _, message in network.heard if isinstance(message, Settled)]
    assert told.count(int(Reason.UNAUTHORISED).to_bytes(2, "big")) == 1
    assert told.count(b"\0\0") == 2
    assert not network.peers[0].node._desk._pending
    assert not network.peers[0].node._desk._watchers


def test_submissions_without_content_are_bounded_as_well(network: SmallNetwork) -> None:
    """They wait for the check that is under way; each costs memory and time though it has no bytes."""
    peer = network.peers[0]
    peer.step(Received(CLIENT_SESSION, Submit(1, (network.transfer(),)).encode()), network.now_ms)
    empty = Received(CLIENT_SESSION, Submit(2, (b"",) * 4_096).encode())
    effects = [effect for _ in range(100) for effect in peer.step(empty, network.now_ms)]
    refusals = [decode_message(effect.payload) for effect in effects if isinstance(effect, Send)]
    assert refusals
    assert all(isinstance(refusal, Submitted) and set(refusal.codes) == {Reason.BUSY} for refusal in refusals)


def test_an_answer_that_fits_no_frame_is_refused_and_not_sent(
    network: SmallNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_module, "MAX_MESSAGE_BYTES", 100)
    answer = network.query(0, "supply")
    assert (answer.code, len(answer.result)) == ("too_large", 1)


def test_a_piece_of_the_chain_is_bounded_whatever_is_asked_for(
    network: SmallNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_module, "SYNC_BLOCKS", 2)
    effects = network.peers[0].step(Received(1, WantChain(1, 2**64 - 1).encode()), network.now_ms)
    [piece] = [
        message
        for effect in effects
        if isinstance(effect, Send) and isinstance(message := decode_message(effect.payload), Chain)
    ]
    assert len(piece.blocks) == 2
