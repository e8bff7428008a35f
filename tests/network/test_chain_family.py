"""Peers of the chain family, every engine: trades, partitions, restarts, latecomers; and what bad blocks cost whom."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from p2pledger import core
from p2pledger.ledger.elections import poa
from p2pledger.ledger.queries import check_conservation
from p2pledger.ledger.tables import Table
from p2pledger.network import peer as peer_module
from p2pledger.network.conduct import LIMIT_POINTS
from p2pledger.network.effects import CLIENT, OBSERVER, VALIDATOR, Effect, Event, Identity, Persist, Received, Send
from p2pledger.network.peer import Peer
from p2pledger.primitives.blocks import Block, sign_batch
from p2pledger.primitives.codec import encode
from p2pledger.primitives.genesis import Genesis, Money
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.messages import (
    BatchMessage,
    BlockMessage,
    Branch,
    Chain,
    Message,
    Status,
    VoteMessage,
    WantBranch,
    decode_message,
)
from p2pledger.primitives.names import account_of_key
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.records import VoteRecord
from p2pledger.primitives.transactions import Pay, SignedTransaction, Transaction
from tests.network.small_network import (
    ACCOUNTS,
    CLIENT_KEY,
    NODE_KEYS,
    SHARE,
    SmallNetwork,
    chain_genesis,
    genesis_of,
)

ENGINES = ("pow", "pos", "dpos", "poa")
ROUND_MS = 3_000


def identifier(transaction: bytes) -> bytes:
    return SignedTransaction.decode(transaction).id


def founded(engine: str, validators: int = 4, **changes: int) -> SmallNetwork:
    network = SmallNetwork(chain_genesis(engine, validators, **changes))
    network.found()
    return network


def head_of(network: SmallNetwork, number: int) -> Block:
    return network.peers[number].node.head.entry.block


def wait_until_heads_are_alike(network: SmallNetwork) -> None:
    for _ in range(400):
        if (
            len({head_of(network, number).id for number in range(len(network.peers)) if number not in network.down})
            == 1
        ):
            return
        network.run(25)
    raise AssertionError("the nodes do not come together")


def shares_of(network: SmallNetwork, number: int, name: str) -> int:
    answer = network.query(number, "holdings", ACCOUNTS[name])
    return {line[0]: line[1] for line in answer.result[1]}.get(SHARE, 0)  # type: ignore[union-attr, index, misc]


# --- the ordinary day -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_trades_handed_to_all_nodes_are_settled_once_and_all_nodes_agree(engine: str) -> None:
    network = founded(engine)
    trades = [network.transfer() for _ in range(40)]
    for at, trade in enumerate(trades):
        network.submit(at % 4, trade)
        network.run(20)
    network.run(2 * ROUND_MS)
    assert network.settled() == {identifier(trade): b"\0\0\0\0" for trade in trades}
    wait_until_heads_are_alike(network)
    assert {shares_of(network, number, "B") for number in range(4)} == {40}
    assert not network.halted
    assert not network.ended


def test_authorities_rest_when_all_is_final() -> None:
    network = founded("poa")
    network.run(ROUND_MS)
    assert network.is_quiet
    heights = network.heights()
    network.run(3_600_000)
    assert network.heights() == heights
    trade = network.transfer()
    network.submit(2, trade)
    network.run(ROUND_MS)
    assert list(network.settled()) == [identifier(trade)]


def test_one_authority_is_a_central_register_and_final_at_once() -> None:
    network = founded("poa", validators=1)
    trade = network.transfer()
    network.submit(0, trade)
    network.run(300)
    assert network.settled() == {identifier(trade): b"\0\0\0\0"}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_restart_goes_on_from_the_disk_and_a_wiped_one_syncs_without_certificates(engine: str) -> None:
    network = founded(engine)
    network.submit(0, network.transfer(3))
    network.run(ROUND_MS)
    network.crash(3)
    network.submit(0, network.transfer(4))
    network.run(2 * ROUND_MS)
    network.restart(3)
    network.run(ROUND_MS)
    wait_until_heads_are_alike(network)
    assert shares_of(network, 3, "B") == 7
    network.crash(2)
    network.restart(2, empty=True)
    network.run(ROUND_MS)
    wait_until_heads_are_alike(network)
    assert shares_of(network, 2, "B") == 7
    assert not network.halted
    assert not network.peers[2].catching_up


@pytest.mark.parametrize("engine", ["pow", "pos"])
def test_two_parts_that_made_chains_of_their_own_come_together_and_no_trade_is_lost(engine: str) -> None:
    """The lone node follows the heavier chain of the three; what it had told its client is taken back and redone."""
    network = founded(engine, finality_depth=16)
    network.run(500)
    network.follow(0)
    network.cut = {frozenset((0, other)) for other in (1, 2, 3)}
    lonely, others = network.transfer(5), network.transfer(7)
    network.submit(0, lonely)
    network.submit(1, others)
    for _ in range(20):
        network.run(100)
        is_heavier = network.peers[1].node.head_weight > network.peers[0].node.head_weight
        if is_heavier and network.story(0, identifier(lonely)):
            break
    assert network.story(0, identifier(lonely))[0][0] == "pending"
    network.cut = set()
    network.run(ROUND_MS)
    wait_until_heads_are_alike(network)
    words = [word for word, _ in network.story(0, identifier(lonely))]
    assert words[:2] == ["pending", "reverted"]
    assert words[-1] in ("pending", "settled")
    assert words.count("settled") <= 1
    forks = network.query(0, "forks").result
    assert any(identifier(lonely) in fork[5] for fork in forks)  # type: ignore[union-attr, index, operator, misc]
    head = network.peers[0].node.head.entry.outcome
    assert head is not None
    assert check_conservation(head.version) == []
    assert not network.halted


def test_two_parts_that_were_apart_for_longer_than_finality_stop_with_the_alarm() -> None:
    network = founded("pow", finality_depth=4)
    network.cut = {frozenset((one, other)) for one in (0, 1) for other in (2, 3)}
    network.run(ROUND_MS)
    network.cut = set()
    network.run(ROUND_MS)
    assert network.halted
    assert {halt.code for _, halt in network.halted} == {"finality_violated"}


# --- bad blocks -----------------------------------------------------------------------------------------------------


def template(network: SmallNetwork, **changes: object) -> Block:
    """A copy of node 0's head with something wrong, sealed by authority 1."""
    block = head_of(network, 0)
    return Block(replace(block.header, proposer=NODE_KEYS[1].public_key, **changes), block.digests)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"height": 0}, "wrong_height"),
        ({"network_id": b"elsewher"}, "wrong_network"),
        ({"validators_hash": bytes(32)}, "wrong_constants"),
        ({"epoch": 1}, "wrong_constants"),
        ({"view": 1}, "slot_mismatch"),
        ({"proof": b"?"}, "malformed_proof"),
    ],
)
def test_a_block_of_bad_form_is_refused_with_its_own_reason_and_nothing_is_stored(
    changes: dict[str, object], code: str
) -> None:
    network = founded("poa")
    block = template(network, **changes).sealed(NODE_KEYS[1])
    records, known = len(network.disks[0].records), len(network.peers[0].node.chain)
    network.receive(0, 2, BlockMessage(block.encode()).encode())
    offences = [dict(log.fields)["code"] for _, log in network.logs if log.event == "offence"]
    assert offences == [code]
    assert (len(network.disks[0].records), len(network.peers[0].node.chain)) == (records, known)
    assert not network.ended, "one offence may be bad luck"


def test_a_bad_seal_and_wrong_content_are_refused_as_well() -> None:
    network = founded("poa")
    unsealed = Block(head_of(network, 0).header, head_of(network, 0).digests, bytes(64))
    changed = Block(replace(unsealed.header, time_ms=unsealed.header.time_ms + 1), unsealed.digests, bytes(64))
    network.receive(0, 2, BlockMessage(changed.encode()).encode())
    # Its proposer is right and in turn, what it says of the parent's state is not.
    parent = head_of(network, 0)
    slot = parent.header.view + 40
    authorities = network.genesis.validator_set
    key = authorities.members[authorities.leader(slot)].key
    keypair = next(pair for pair in NODE_KEYS if pair.public_key == key)
    network.now_ms = network.genesis.time_ms + 100 * slot + 10
    wrong = Block(
        replace(
            parent.header,
            view=slot,
            time_ms=network.now_ms,
            height=parent.height + 1,
            parent=parent.id,
            proposer=key,
            parent_state_root=b"?" * 32,
            batches_root=core.merkle_root([]),
            proof=b"\x91" + bytes([parent.height + 1]),
        ),
        (),
    ).sealed(keypair)
    network.receive(0, 2, BlockMessage(wrong.encode()).encode())
    offences = [dict(log.fields)["code"] for _, log in network.logs if log.event == "offence"]
    assert offences == ["bad_seal", "bad_content"]
    refused = [dict(log.fields)["reason"] for _, log in network.logs if log.event == "block_refused"]
    assert refused == ["foreign_state_root"]


def test_who_goes_on_sending_bad_blocks_is_let_go_and_offences_fade() -> None:
    network = founded("poa")
    for number in range(4):
        block = template(network, height=0, view=number).sealed(NODE_KEYS[1])
        assert not network.ended
        network.receive(0, 2, BlockMessage(block.encode()).encode())
    [(number, ending)] = network.ended
    assert (number, ending.session, ending.code) == (0, 2, "wrong_height")
    conduct = network.peers[0]._conduct
    assert conduct.points(NODE_KEYS[2].public_key, network.now_ms) == LIMIT_POINTS
    assert conduct.points(NODE_KEYS[2].public_key, network.now_ms + 200_000) == 0


def test_blocks_that_lead_nowhere_do_not_fill_the_memory() -> None:
    network = founded("poa")
    node = network.peers[0].node
    known = len(node.chain)
    for number in range(300):
        block = template(network, parent=number.to_bytes(32, "big"), height=2 + number).sealed(NODE_KEYS[1])
        network.receive(0, 2, BlockMessage(block.encode()).encode())
    assert len(node.chain) == known
    assert node._engine.size < 400  # type: ignore[union-attr]


# --- branches and sync ----------------------------------------------------------------------------------------------


def sent_to(network: SmallNetwork, number: int, session: int, message: Message) -> list[Message]:
    """What node ``number`` answers session ``session`` at once."""
    effects = network.peers[number].step(Received(session, message.encode()), network.now_ms)
    return [decode_message(effect.payload) for effect in effects if isinstance(effect, Send)]


def test_a_branch_is_served_newest_first_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_module, "BRANCH_BLOCKS", 16)
    network = founded("dpos")
    head = head_of(network, 0)
    [answer] = sent_to(network, 0, 1, WantBranch(head.id, 1_000_000))
    assert isinstance(answer, Branch)
    blocks = [Block.decode(data) for data in answer.blocks]
    assert len(blocks) == 16
    assert blocks[0].id == head.id
    assert all(blocks[at].header.parent == blocks[at + 1].id for at in range(15))
    [answer] = sent_to(network, 0, 1, WantBranch(b"?" * 32, 10))
    assert answer == Branch(())


def test_who_asks_for_more_than_its_share_gets_no_answer_until_time_has_passed() -> None:
    network = founded("dpos")
    head = head_of(network, 0)
    answers = [len(sent_to(network, 0, 1, WantBranch(head.id, 128))) for _ in range(40)]
    assert answers == [1] * 32 + [0] * 8
    assert network.peers[0].status().questions_refused == 8
    network.now_ms += 1_000
    assert len(sent_to(network, 0, 1, WantBranch(head.id, 128))) == 1
    # The others are served as before.
    assert len(sent_to(network, 0, 2, WantBranch(head.id, 128))) == 1


def test_a_branch_that_nobody_asked_for_ends_the_session() -> None:
    network = founded("poa")
    network.receive(0, 1, Branch((head_of(network, 1).encode(),)).encode())
    assert [ending.code for _, ending in network.ended] == ["bad_branch"]


def test_a_branch_of_another_block_than_the_one_that_was_asked_for_ends_the_session() -> None:
    network = founded("poa")
    stranger = template(network, parent=b"p" * 32, height=500).sealed(NODE_KEYS[1])
    network.receive(0, 1, BlockMessage(stranger.encode()).encode())  # asks for the parent
    assert not network.ended
    network.receive(0, 1, Branch((head_of(network, 1).encode(),)).encode())
    assert [ending.code for _, ending in network.ended] == ["bad_branch"]


def test_a_liar_about_its_height_is_believed_until_it_has_to_show_it() -> None:
    network = founded("pow")
    network.receive(0, 1, Status(10**6, bytes(32), 10**6).encode())
    assert network.peers[0].catching_up
    network.run(10_000)
    assert not network.peers[0].catching_up
    assert not network.halted


def test_votes_and_certificates_have_no_place_here() -> None:
    network = founded("poa")
    network.receive(0, 1, VoteMessage(b"").encode())
    assert [ending.code for _, ending in network.ended] == ["wrong_role"]
    network.receive(0, 2, Chain((head_of(network, 1).encode(),), b"?").encode())
    assert [ending.code for _, ending in network.ended] == ["wrong_role", "bad_chain"]


# --- profiles -------------------------------------------------------------------------------------------------------

STRANGER = Keypair.from_seed(b"s" * 32)


def public_genesis(**changes: int) -> Genesis:
    settings = {"slot_ms": 100, "finality_depth": 6, "initial_difficulty": 512, "least_fee": 10, "block_reward": 50}
    money = (Money(ACCOUNTS["A"], 1_000_000), Money(ACCOUNTS["CSDC"], 1_000), Money(ACCOUNTS["BANK"], 1_000))
    return genesis_of(4, Parameters(**{**settings, **changes}), engine="pow", profile="public", money=money)


def test_in_a_public_network_anybody_may_come_until_it_has_offended_too_often() -> None:
    network = SmallNetwork(public_genesis())
    peer = network.peers[0]
    for role in (VALIDATOR, OBSERVER, CLIENT):
        assert peer.admit(Identity(STRANGER.public_key, role, "")) is None
    network.receive(0, 1, b"\xc1")
    refusal = peer.admit(Identity(NODE_KEYS[1].public_key, VALIDATOR, ""))
    assert refusal is not None
    assert refusal[0] == "shunned"
    network.now_ms += 200_000
    network.run(1)
    assert peer.admit(Identity(NODE_KEYS[1].public_key, VALIDATOR, "")) is None


@pytest.mark.parametrize("profile", ["private", "consortium"])
def test_elsewhere_only_known_keys_are_let_in(profile: str) -> None:
    network = SmallNetwork(genesis_of(4, Parameters(slot_ms=100), engine="poa", profile=profile))
    peer = network.peers[0]
    for role, code in ((VALIDATOR, "not_a_validator"), (OBSERVER, "stranger"), (CLIENT, "stranger")):
        refusal = peer.admit(Identity(STRANGER.public_key, role, ""))
        assert refusal is not None
        assert refusal[0] == code
    for role in (OBSERVER, CLIENT):
        assert peer.admit(Identity(CLIENT_KEY.public_key, role, "")) is None
    assert peer.admit(Identity(NODE_KEYS[1].public_key, VALIDATOR, "")) is None


def test_in_a_public_network_a_transaction_pays_its_fee_and_producers_are_rewarded() -> None:
    network = SmallNetwork(public_genesis())
    target = account_of_key(NODE_KEYS[3].public_key)
    body = Transaction(
        network.genesis.network_id, 900, bytes(16), ACCOUNTS["A"], (Pay(ACCOUNTS["A"], target, 500),), max_fee=10
    )
    free = Transaction(network.genesis.network_id, 900, bytes(16), ACCOUNTS["A"], (Pay(ACCOUNTS["A"], target, 1),))
    network.submit(0, body.sign([CLIENT_KEY]), free.sign([CLIENT_KEY]))
    network.run(2 * ROUND_MS)
    codes = {name: int.from_bytes(code[:2], "big") for name, code in network.settled().items()}
    assert codes == {body.id: Reason.OK, free.id: Reason.FEE_TOO_LOW}


def test_all_strangers_together_have_bounded_lanes() -> None:
    network = SmallNetwork(public_genesis(lane_bytes=300_000))
    trade = network.transfer()
    sizes = []
    for number in range(60):
        maker = Keypair.from_seed(number.to_bytes(32, "big"))
        batch = core.encode_batch(network.genesis.network_id, maker.public_key, 0, 1, [trade] * 400)
        network.receive(0, 1, BatchMessage(sign_batch(batch, maker)).encode())
        network.run(0)
        sizes.append(network.peers[0].node.pool.open_bytes)
    assert max(sizes) <= 4 * 300_000
    assert network.peers[0].status().batches_dropped > 0


def test_what_a_producer_promises_is_handed_to_the_disk_before_its_block_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    step = Peer.step

    def noting(peer: Peer, event: Event, now_ms: int) -> list[Effect]:
        """A step, and a note of the order in which promises and own blocks come out of it."""
        effects = step(peer, event, now_ms)
        for effect in effects:
            if isinstance(effect, Persist) and any(isinstance(record, VoteRecord) for record in effect.records):
                seen.append("promise")
            elif isinstance(effect, Send):
                message = decode_message(effect.payload)
                own = peer.node.keypair.public_key
                is_own = isinstance(message, BlockMessage) and Block.decode(message.block).header.proposer == own
                if is_own and seen[-1:] != ["block"]:
                    seen.append("block")
        return effects

    network = founded("poa")
    monkeypatch.setattr(Peer, "step", noting)
    network.submit(0, network.transfer())
    network.run(ROUND_MS)
    assert seen.count("promise") >= 4
    assert all(before == "promise" for before, after in pairwise(seen) if after == "block")


def test_an_authority_that_seals_two_blocks_for_one_slot_is_reported_and_has_no_turn_any_more() -> None:
    network = founded("poa")
    entry = network.peers[0].node.head.entry
    assert entry.outcome is not None
    authorities = network.genesis.validator_set
    slot = entry.block.header.view + 8
    key = authorities.members[authorities.leader(slot)].key
    culprit = next(number for number, pair in enumerate(NODE_KEYS) if pair.public_key == key)
    network.crash(culprit)
    network.now_ms = network.genesis.time_ms + 100 * slot + 50
    state_root, receipts_root = entry.outcome.roots
    for time_ms in (network.now_ms - 1, network.now_ms):
        header = replace(
            entry.block.header,
            view=slot,
            time_ms=time_ms,
            height=entry.block.height + 1,
            parent=entry.block.id,
            proposer=key,
            batches_root=core.merkle_root([]),
            parent_state_root=state_root,
            parent_receipts_root=receipts_root,
            proof=encode((entry.block.height + 2,)),
        )
        sealed = Block(header, ()).sealed(NODE_KEYS[culprit])
        for number in range(4):
            network.receive(number, (culprit + 2) % 4, BlockMessage(sealed.encode()).encode())
    network.run(3 * ROUND_MS)
    version = network.peers[0].node.final_version
    assert [row[:32] for row, _ in version.scan(Table.EVIDENCE)] == [key]
    assert [log.event for _, log in network.logs if log.event == "equivocation"]
    assert poa.authorities(version).signer_of(key) is None
    network.heard.clear()
    trade = network.transfer()
    network.submit((culprit + 1) % 4, trade)
    network.run(2 * ROUND_MS)
    assert network.settled() == {identifier(trade): b"\0\0\0\0"}
