"""The rules of a peer, one by one, in a small and friendly network."""

from __future__ import annotations

import pytest

from p2pledger import core
from p2pledger.ledger.proofs import verify
from p2pledger.ledger.tables import Holding, Table
from p2pledger.network.effects import CLIENT, OBSERVER, VALIDATOR, Identity, SessionClosed
from p2pledger.node import mempool
from p2pledger.primitives.blocks import Block, sign_batch
from p2pledger.primitives.codec import encode
from p2pledger.primitives.market.offers import PlaceOffer
from p2pledger.primitives.messages import (
    BatchMessage,
    Chain,
    Progress,
    Settled,
    Status,
    Submit,
    Submitted,
    VoteMessage,
    WantBatches,
    WantChain,
)
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import SignedTransaction, Transfer
from p2pledger.primitives.votes import Certificate, Vote, VoteKind
from tests.network.small_network import (
    ACCOUNTS,
    CASH,
    CLIENT_KEY,
    CLIENT_SESSION,
    NODE_KEYS,
    SHARE,
    START_MS,
    SmallNetwork,
    genesis_of,
)


@pytest.fixture
def network() -> SmallNetwork:
    network = SmallNetwork()
    network.found()
    return network


def identifier(transaction: bytes) -> bytes:
    return SignedTransaction.decode(transaction).id


# --- the ordinary day -----------------------------------------------------------------------------------------------


def test_a_trade_is_final_everywhere_after_three_delays_and_then_all_is_quiet(network: SmallNetwork) -> None:
    began_ms = network.now_ms
    trade = network.transfer(5)
    network.submit(1, trade)
    network.run(500)
    assert network.settled() == {identifier(trade): b"\0\0\0\0"}
    [told_ms] = [at for at, _, message in network.heard if getattr(message, "ids", b"") == identifier(trade)]
    # One delay for the batch, three for proposal, notarise and finalise.
    assert told_ms - began_ms <= 4
    assert len(network.roots()) == 1
    assert network.is_quiet


def test_an_idle_hour_costs_nothing_and_the_next_trade_is_as_fast(network: SmallNetwork) -> None:
    heights, sent = network.heights(), network.sent
    network.run(3_600_000)
    assert (network.heights(), network.sent) == (heights, sent)
    test_a_trade_is_final_everywhere_after_three_delays_and_then_all_is_quiet(network)


def test_a_block_with_trades_is_followed_by_one_empty_block(network: SmallNetwork) -> None:
    before = network.heights()[0]
    network.submit(0, network.transfer())
    network.run(500)
    assert network.heights() == [before + 2] * 4
    blocks = [Block.decode(network.disks[0].final_block(before + step) or b"") for step in (1, 2)]
    assert [len(block.digests) for block in blocks] == [1, 0]


def test_many_nodes_take_submissions_at_once_and_none_is_lost(network: SmallNetwork) -> None:
    trades = [network.transfer() for _ in range(200)]
    for at, trade in enumerate(trades):
        network.submit(at % 4, trade)
    network.run(3_000)
    assert network.settled() == {identifier(trade): b"\0\0\0\0" for trade in trades}
    assert len(network.roots()) == 1


def test_one_validator_alone_is_a_network() -> None:
    network = SmallNetwork(genesis_of(validators=1))
    network.found()
    network.submit(0, network.transfer())
    network.run(500)
    assert list(network.settled().values()) == [b"\0\0\0\0"]


# --- what clients are told ------------------------------------------------------------------------------------------


def test_each_bad_transaction_is_refused_at_the_edge_with_its_own_reason(network: SmallNetwork) -> None:
    good = network.transfer()
    tampered = bytearray(good)
    tampered[-1] ^= 1
    foreign = SmallNetwork(genesis_of(validators=3)).transfer()
    network.submit(
        0,
        good,
        bytes(tampered),
        foreign,
        b"\x92\x00\x00",
        network.transaction(valid_for=0),
        network.transfer()[:-3],
    )
    network.run(500)
    codes = [Reason(code) for code in network.admitted()]
    assert codes == [
        Reason.OK,
        Reason.BAD_SIGNATURE,
        Reason.WRONG_NETWORK,
        Reason.MALFORMED,
        Reason.MALFORMED,
        Reason.MALFORMED,
    ]


def test_expired_and_far_ahead_are_refused_at_the_edge(network: SmallNetwork) -> None:
    operation = Transfer(ACCOUNTS["A"], ACCOUNTS["B"], SHARE, 1)
    network.submit(0, network.transaction(operation, valid_for=0), network.transaction(operation, valid_for=20_000))
    network.run(100)
    assert network.admitted() == [Reason.EXPIRED, Reason.TOO_FAR_AHEAD]


def test_the_same_transaction_again_is_told_its_first_outcome(network: SmallNetwork) -> None:
    trade = network.transfer()
    network.submit(0, trade)
    network.run(500)
    network.heard.clear()
    network.submit(2, trade)
    network.run(500)
    assert network.admitted() == [Reason.DUPLICATE]
    assert network.settled() == {identifier(trade): b"\0\0\0\0"}


def test_the_same_transaction_at_two_nodes_at_once_executes_once(network: SmallNetwork) -> None:
    trade = network.transfer(10)
    network.submit(0, trade)
    network.submit(1, trade)
    network.run(500)
    outcomes = [(message.ids, message.codes) for _, _, message in network.heard if hasattr(message, "ids")]
    assert outcomes == [(identifier(trade), b"\0\0\0\0")] * 2
    held = network.query(3, "holdings", ACCOUNTS["B"]).result[1]
    assert held == ((SHARE, 10, 0),)


def test_a_refused_trade_has_a_receipt_with_its_reason(network: SmallNetwork) -> None:
    trade = network.transfer(1_001)
    network.submit(0, trade)
    network.run(500)
    code, operation = Reason.INSUFFICIENT_FREE, 0
    assert network.settled() == {identifier(trade): code.to_bytes(2, "big") + operation.to_bytes(2, "big")}


def test_a_full_mempool_says_busy_and_when_to_come_back_and_keeps_its_promises(
    network: SmallNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mempool, "CAPACITY_BYTES", 100_000)
    trades = [network.transfer() for _ in range(400)]
    for at in range(0, 400, 50):
        network.submit(0, *trades[at : at + 50])
    network.run(1_000)
    answers = [message for _, _, message in network.heard if isinstance(message, Submitted)]
    assert 0 < network.admitted().count(Reason.OK) < 400
    assert {Reason(code) for answer in answers for code in answer.codes} == {Reason.OK, Reason.BUSY}
    assert all(answer.retry_after_ms > 0 for answer in answers if Reason.BUSY in answer.codes)
    assert len(network.settled()) == network.admitted().count(Reason.OK)


# --- failures -------------------------------------------------------------------------------------------------------


def test_three_of_four_go_on_and_the_fourth_catches_up(network: SmallNetwork) -> None:
    network.crash(3)
    trades = []
    for at in range(40):
        trades.append(network.transfer())
        network.submit(at % 3, trades[-1])
        network.run(150)
    network.run(5_000)
    assert set(network.settled()) == set(map(identifier, trades))
    network.restart(3)
    network.run(5_000)
    assert len(set(network.heights())) == 1
    assert len(network.roots()) == 1


def test_a_new_node_with_an_empty_disk_catches_up_and_has_the_same_root(network: SmallNetwork) -> None:
    network.crash(2)
    for _ in range(30):
        network.submit(0, network.transfer())
        network.run(100)
    network.run(3_000)
    network.restart(2, empty=True)
    network.run(5_000)
    assert len(set(network.heights())) == 1
    assert len(network.roots()) == 1


def test_all_four_stop_and_start_again_with_the_same_books(network: SmallNetwork) -> None:
    network.submit(0, network.transfer(7))
    network.run(500)
    heights, [root] = network.heights(), network.roots()
    for number in range(4):
        network.crash(number)
    for number in range(4):
        network.restart(number)
    network.run(1_000)
    assert network.heights() == heights
    assert network.roots() == {root}
    network.submit(1, network.transfer(7))
    network.run(2_000)
    assert network.query(2, "holdings", ACCOUNTS["B"]).result[1] == ((SHARE, 14, 0),)


def test_a_batch_that_only_one_node_holds_is_ordered_all_the_same(network: SmallNetwork) -> None:
    """Its maker's stream is lost, then the maker comes back to its peers: nothing moves until it streams again."""
    network.cut = {frozenset((0, other)) for other in (1, 2, 3)}
    trade = network.transfer()
    network.submit(0, trade)
    network.run(200)
    network.cut = set()
    network.run(20_000)
    assert network.settled() == {identifier(trade): b"\0\0\0\0"}


def test_one_liar_about_its_height_makes_nobody_wait(network: SmallNetwork) -> None:
    """More than f of the weight has to claim a height before it is believed."""
    network.receive(0, 1, Status(10**6, bytes(32), 10**6).encode())
    assert not network.peers[0].catching_up
    network.receive(0, 2, Status(10**6, bytes(32), 10**6).encode())
    assert network.peers[0].catching_up


def test_a_node_that_was_away_for_long_catches_up_from_below_and_keeps_no_old_blocks(network: SmallNetwork) -> None:
    network.crash(3)
    for _ in range(150):
        network.submit(0, network.transfer())
        network.run(60)
    network.run(3_000)
    network.restart(3)
    network.run(100)
    network.submit(1, network.transfer())
    network.run(10_000)
    assert len(set(network.heights())) == 1
    assert len(network.roots()) == 1
    assert network.peers[3].node._engine.final.height == network.heights()[3]
    assert len(network.peers[3].node.chain) == 1


def test_a_client_that_leaves_is_not_told_and_nothing_breaks(network: SmallNetwork) -> None:
    network.submit(0, network.transfer())
    network.step(0, SessionClosed(CLIENT_SESSION))
    network.run(500)
    assert not network.settled()
    assert len(network.roots()) == 1


# --- strangers and villains -----------------------------------------------------------------------------------------


def test_only_members_are_admitted(network: SmallNetwork) -> None:
    peer = network.peers[0]
    stranger = bytes(32)
    assert peer.admit(Identity(NODE_KEYS[1].public_key, VALIDATOR, "")) is None
    assert peer.admit(Identity(CLIENT_KEY.public_key, CLIENT, "")) is None
    assert peer.admit(Identity(CLIENT_KEY.public_key, OBSERVER, "")) is None, "a member may run a node that observes"
    for identity, code in (
        (Identity(stranger, VALIDATOR, ""), "not_a_validator"),
        (Identity(CLIENT_KEY.public_key, VALIDATOR, ""), "not_a_validator"),
        (Identity(stranger, OBSERVER, ""), "stranger"),
        (Identity(stranger, CLIENT, ""), "stranger"),
        (Identity(NODE_KEYS[0].public_key, VALIDATOR, ""), "self"),
    ):
        refusal = peer.admit(identity)
        assert refusal is not None
        assert refusal[0] == code


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "malformed"),
        (b"\xc1", "malformed"),
        (encode((99, 1)), "unknown_message"),
        (encode((13, b"\x90")), "malformed"),
        (encode((12, b"", b"")), "malformed"),
        (encode((20, (), b"\x01")), "malformed"),
        (encode((31, 1, (), 0)), "wrong_role"),
        (b"\x92\x0d\xc4\x00\x00", "malformed"),
    ],
)
def test_a_validator_that_sends_malformed_bytes_is_let_go_with_the_reason(
    network: SmallNetwork, payload: bytes, code: str
) -> None:
    network.receive(0, 1, payload)
    [(number, ended)] = network.ended
    assert (number, ended.session, ended.code) == (0, 1, code)
    assert ended.sentence


def test_a_client_may_not_speak_as_a_validator(network: SmallNetwork) -> None:
    network.receive(0, CLIENT_SESSION, WantChain(1, 10).encode())
    assert [ended.code for _, ended in network.ended] == ["wrong_role"]


def test_a_batch_with_one_bad_signature_is_refused_whole_and_its_sender_named(network: SmallNetwork) -> None:
    bad = bytearray(network.transfer())
    bad[-1] ^= 1
    maker = NODE_KEYS[1]
    batch = core.encode_batch(network.genesis.network_id, maker.public_key, 0, 1, [network.transfer(), bytes(bad)])
    network.receive(0, 1, BatchMessage(sign_batch(batch, maker)).encode())
    network.run(100)
    assert [(number, ended.session, ended.code) for number, ended in network.ended] == [(0, 1, "bad_signature")]
    assert any(log.event == "bad_signature" for number, log in network.logs if number == 0)
    assert not network.peers[0].node.pool.open


def test_a_vote_with_a_bad_signature_ends_the_session(network: SmallNetwork) -> None:
    view = network.peers[0].node.view
    validators = network.genesis.validator_set
    votes = []
    for at in (1, 2, 3):
        signer = validators.signer_of(NODE_KEYS[at].public_key)
        assert signer is not None
        votes.append(Vote(0, view, VoteKind.NULLIFY, bytes(32), signer, bytes(64)))
    for at, vote in zip((1, 2, 3), votes, strict=True):
        network.receive(0, at, VoteMessage(vote.encode()).encode())
    network.run(10)
    assert {ended.code for _, ended in network.ended} == {"bad_signature"}


def test_a_chain_without_its_certificate_is_refused(network: SmallNetwork) -> None:
    disk = network.disks[0]
    blocks = tuple(disk.final_block(height) or b"" for height in (1, 2))
    good = Certificate.decode(disk.finalisation(2) or b"")
    forged = Certificate(good.epoch, good.view, good.kind, good.block, ((0, bytes(64)), (1, bytes(64)), (2, bytes(64))))
    wrong_end = Certificate.decode(disk.finalisation(1) or b"")
    for certificate in (forged, wrong_end):
        network.receive(1, 0, Chain(blocks, certificate.encode()).encode())
        network.step(1, SessionClosed(0))
    assert [ended.code for number, ended in network.ended if number == 1][:1] == ["bad_certificate"]


def test_a_block_that_names_a_batch_nobody_holds_gets_no_votes_and_time_passes(network: SmallNetwork) -> None:
    """The leader's next proposal is made, and trades go on."""
    before = network.heights()[0]
    network.receive(0, 1, WantBatches((bytes(32),)).encode())
    network.run(10)
    network.submit(0, network.transfer())
    network.run(3_000)
    assert network.heights()[0] > before


# --- questions ------------------------------------------------------------------------------------------------------


def test_questions_about_the_books(network: SmallNetwork) -> None:
    assert network.query(0, "holdings", ACCOUNTS["A"]).result[1] == ((CASH, 1_000_000, 0), (SHARE, 1_000, 0))
    height, lines = network.query(1, "holders", SHARE, b"", 10).result
    assert (height, lines) == (network.heights()[1], ((ACCOUNTS["A"], 1_000, 0),))
    _, name, roles, _ = network.query(0, "party", ACCOUNTS["CSDC"]).result
    assert (name, roles) == ("CSDC", ())
    assets = network.query(0, "assets", b"", 10).result[1]
    assert [(asset[0], asset[4], asset[5]) for asset in assets] == [(CASH, 1_000_000, 0), (SHARE, 1_000, 0)]
    _, _, lines, findings = network.query(0, "supply").result
    assert lines == ((CASH, 1_000_000, 0, 1_000_000, 0, 0), (SHARE, 1_000, 0, 1_000, 0, 0))
    assert findings == ()
    status = network.query(2, "status").result
    assert status[:2] == ("v2", network.heights()[2])


def test_a_block_its_batches_and_its_outcome_can_be_read(network: SmallNetwork) -> None:
    data, certificate, codes = network.query(0, "block", 1).result
    block = Block.decode(data)
    assert Certificate.decode(certificate).block == block.id
    assert codes == b"\0\0\0\0"
    [batch] = network.query(0, "batch", block.digests[0]).result
    assert core.batch_digest(batch[1:-66]) == block.digests[0]


def test_simulate_says_what_execution_will(network: SmallNetwork) -> None:
    for amount, reason in ((1_000, Reason.OK), (1_001, Reason.INSUFFICIENT_FREE)):
        answer = network.query(0, "simulate", network.transfer(amount))
        code, operation, height, _, state_height, root, rule = answer.result
        assert (code, operation, rule) == (reason, 0, "")
        assert (height, state_height) == (network.heights()[0] + 1, network.heights()[0])
        assert root == network.peers[0].node.final_outcome.state_root


def test_a_row_comes_with_a_proof_that_an_outsider_can_check(network: SmallNetwork) -> None:
    key = SHARE + ACCOUNTS["A"]
    _, value, proof, block, finalisation = network.query(0, "row", int(Table.HOLDINGS), key).result
    certificate = Certificate.decode(finalisation)
    header = Block.decode(block).header
    assert certificate.block == header.id
    assert certificate.is_valid(network.genesis.network_id, network.genesis.validator_set)
    assert verify(header.parent_state_root, proof) == (Table.HOLDINGS, key, value)
    assert Holding.decode(value).free == 1_000


@pytest.mark.parametrize(
    ("kind", "arguments", "code"),
    [
        ("nonsense", (), "unknown_query"),
        ("holdings", (), "bad_arguments"),
        ("holdings", (b"short",), "bad_arguments"),
        ("holdings", (bytes(32),), "unknown_account"),
        ("block", (10**9,), "unknown_height"),
        ("batch", (bytes(32),), "unknown_batch"),
        ("row", (3, b"short"), "bad_arguments"),
        ("row", (63, b""), "bad_arguments"),
        ("simulate", (b"nonsense",), "bad_arguments"),
        ("lookup", (((1,),),), "bad_arguments"),
    ],
)
def test_bad_questions_get_a_code_and_a_sentence(
    network: SmallNetwork, kind: str, arguments: tuple[object, ...], code: str
) -> None:
    answer = network.query(0, kind, *arguments)
    assert answer.code == code
    assert isinstance(answer.result[0], str)
    assert not network.ended


def test_a_submission_is_answered_in_order_even_when_empty(network: SmallNetwork) -> None:
    network.receive(0, CLIENT_SESSION, Submit(11, ()).encode())
    network.run(10)
    assert network.admitted() == []
    assert not network.ended


def test_the_rule_that_refuses_is_told_with_the_outcome_wherever_one_asks(network: SmallNetwork) -> None:
    network.follow(0)
    late = PlaceOffer(ACCOUNTS["A"], bytes(16), SHARE, 10, CASH, 50, 1, START_MS, b"")
    fine, refused = network.transfer(1), network.transaction(late)
    assert network.query(0, "simulate", refused).result[-1] == "expiry of the offer"
    network.submit(0, fine, refused)
    network.run(500)
    told = [message for _, _, message in network.heard if isinstance(message, Progress | Settled)]
    assert [message.rules for message in told] == [((1, "expiry of the offer"),)] * 2
    assert [message.codes[6:] for message in told] == [b"\0\0"] * 2
    signed = SignedTransaction.decode(refused)
    for number in range(4):
        _, [line] = network.query(number, "lookup", ((signed.transaction.valid_until, signed.id),)).result
        assert line[3] == "expiry of the offer"  # type: ignore[index]
    network.heard.clear()
    network.submit(2, refused)
    network.run(500)
    [again] = [message for _, _, message in network.heard if isinstance(message, Settled)]
    assert again.rules == ((0, "expiry of the offer"),), "it is remembered with the receipt"
