"""A client of a real node, and of nodes that misbehave."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2pledger.api.client import (
    CannotConnect,
    Client,
    ConnectionLost,
    NodeRefused,
    Outcome,
    RequestFailed,
    TimedOut,
)
from p2pledger.cluster.proofs import fetch_holding_proof
from p2pledger.ledger.holding_proof import check_holding
from p2pledger.ledger.tables import Table
from p2pledger.network.certificates import NodeCertificate
from p2pledger.network.effects import VALIDATOR, Event, Received
from p2pledger.network.handshake import LocalEnd
from p2pledger.network.transport import Sessions
from p2pledger.primitives.errors import InvalidInput, P2PLedgerError, PeerFault
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.messages import (
    Answer,
    Follow,
    Message,
    Progress,
    ProgressStatus,
    Query,
    Settled,
    Status,
    Submit,
    Submitted,
    decode_message,
)
from p2pledger.primitives.names import asset_id
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.statements import Positions
from p2pledger.primitives.transactions import Issue
from tests.server.small_node import (
    BANK,
    BANK_KEY,
    CASH,
    connect,
    genesis_of,
    make_directory,
    node_key,
    open_books,
    running,
    signed,
)

GENESIS = genesis_of(1)
Respond = Callable[[Message], list[Message]]


# --- a real node ----------------------------------------------------------------------------------------------------


async def test_a_client_trades_and_asks_everything_that_can_be_asked(tmp_path: Path) -> None:
    async with running(make_directory(tmp_path, GENESIS, 0)) as [server], connect(server, GENESIS) as client:
        await open_books(client, GENESIS)
        status = await client.status()
        assert status.name == "node-0"
        assert status.transactions_final == 2
        assert client.node.node_key == node_key(0).public_key

        holdings = await client.holdings(BANK)
        assert [(line.asset, line.free, line.locked) for line in holdings.lines] == [(CASH, 1_000_000, 0)]
        holders = await client.holders(CASH)
        assert [(line.account, line.free) for line in holders.lines] == [(BANK, 1_000_000)]
        assets = await client.assets()
        assert [(line.asset, line.issued, line.name) for line in assets.lines] == [(CASH, 1_000_000, "Renminbi")]
        party = await client.party(BANK)
        assert (party.name, party.roles) == ("bank", ("central_bank", "depository"))
        supply = await client.supply()
        assert [(line.asset, line.issued, line.free) for line in supply.lines] == [(CASH, 1_000_000, 1_000_000)]
        assert supply.findings == ()

        identifier, data = signed(GENESIS, 7, Issue(CASH, BANK, 2**64 - 1))
        simulated = await client.simulate(data)
        assert simulated.code == Reason.OVERFLOW
        assert (await client.lookup([(1_000, identifier)])).lines == (None,)
        assert (await client.submit([data, b"noise"])).codes == (0, int(Reason.MALFORMED))
        outcome = (await client.wait_settled([identifier], 20))[identifier]
        assert (outcome.code, outcome.operation) == (Reason.OVERFLOW, 0)
        [line] = (await client.lookup([(1_000, identifier)])).lines
        assert line is not None
        assert (line.height, line.code, line.operation) == (outcome.height, outcome.code, outcome.operation)

        block = await client.block(outcome.height)
        assert outcome.code.to_bytes(2, "big") + bytes(2) in block.codes
        row = await client.row(1, BANK)
        assert row.value is not None
        assert row.proof


async def test_questions_that_make_no_sense_are_answered_with_a_code(tmp_path: Path) -> None:
    async with running(make_directory(tmp_path, GENESIS, 0)) as [server], connect(server, GENESIS) as client:
        for question, code in (
            (client.holdings(bytes(32)), "unknown_account"),
            (client.block(99), "unknown_height"),
            (client.batch(bytes(32)), "unknown_batch"),
            (client.query("weather"), "unknown_query"),
            (client.query("holdings", 7), "bad_arguments"),
            (client.rows(Table.HOLDINGS, after=b"short"), "bad_arguments"),
            (client.holders(CASH, after=b"short"), "bad_arguments"),
            (client.assets(after=b"short"), "bad_arguments"),
        ):
            with pytest.raises(RequestFailed) as caught:
                await question
            assert caught.value.code == code
            assert caught.value.exit_code == 2


async def test_views_are_read_in_one_state_each_and_many_may_ask_at_once(tmp_path: Path) -> None:
    async with running(make_directory(tmp_path, GENESIS, 0)) as [server], connect(server, GENESIS) as client:
        await open_books(client, GENESIS)
        answers: list[object] = []

        async def ask(question: Awaitable[object]) -> None:
            answers.append(await question)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask, client.positions(BANK))
            nursery.start_soon(ask, client.supply())
            nursery.start_soon(ask, client.money_supply())
        assert len(answers) == 7
        viewed = await client.positions(BANK)
        status = await client.status()
        assert (viewed.height, viewed.state_root) == (status.final_height, status.state_root)
        assert [(line.asset, line.total, line.buckets[0].bucket) for line in viewed.statement.lines] == [
            (CASH, 1_000_000, "free")
        ]
        decision = (await client.explain(BANK, Issue.code, CASH, 5)).statement
        assert decision.is_allowed
        himself = (await client.investor(BANK, BANK)).statement
        assert [line.free for line in himself.lines] == [1_000_000]
        assert (await client.directory()).statement.lines[0].name == "bank"
        assert (await client.tasks(BANK)).statement.lines == ()
        for question, code in (
            (client.view(Positions, "weather"), "unknown_view"),
            (client.view(Positions, "positions", 7), "bad_arguments"),
            (client.rows(Table.BENEFICIARIES), "not_entitled"),
            (client.rows(Table.HOLDER_SUMS), "not_entitled"),
            (client.instruction(bytes(32)), "unknown_instruction"),
            (client.investor(bytes(32), BANK), "not_entitled"),
            (client.rows(Table.BENEFICIARIES), "not_entitled"),
            (client.row(Table.BENEFICIARIES, bytes(80)), "not_entitled"),
            (client.query("view", "positions"), "bad_arguments"),
        ):
            with pytest.raises(RequestFailed) as caught:
                await question
            assert caught.value.code == code


async def test_operations_are_signed_sent_and_waited_for_in_one_call(tmp_path: Path) -> None:
    async with running(make_directory(tmp_path, GENESIS, 0)) as [server], connect(server, GENESIS) as client:
        await open_books(client, GENESIS)
        done = await client.transact([Issue(CASH, BANK, 5), Issue(CASH, BANK, 6)], BANK, [BANK_KEY])
        assert (done.code, done.height > 0) == (0, True)
        refused = await client.transact([Issue(CASH, BANK, 2**64 - 1)], BANK, [BANK_KEY])
        assert (refused.code, refused.operation) == (Reason.OVERFLOW, 0)
        unsigned = await client.transact([Issue(CASH, BANK, 1)], BANK, [Keypair.from_seed(bytes(32))])
        assert unsigned.code == Reason.UNAUTHORISED
        huge = await client.transact([Issue(CASH, BANK, 1)] * 300, BANK, [BANK_KEY])
        assert (huge.code, huge.height) == (Reason.TOO_LARGE, 0)
        [line] = (await client.holdings(BANK)).lines
        assert line.free == 1_000_011


async def test_a_holding_is_proved_by_rows_of_one_state(tmp_path: Path) -> None:
    async with running(make_directory(tmp_path, GENESIS, 0)) as [server], connect(server, GENESIS) as client:
        await open_books(client, GENESIS)
        issued, _ = signed(GENESIS, 1, Issue(CASH, BANK, 1_000_000))
        [line] = (await client.lookup([(1_000, issued)])).lines
        assert line is not None
        data = await fetch_holding_proof(client, GENESIS, BANK, CASH, least_height=line.height)
        found = check_holding(data, GENESIS.hash)
        assert (found.free, found.is_unencumbered(1_000_000), found.is_unencumbered(1_000_001)) == (
            1_000_000,
            True,
            False,
        )
        with pytest.raises(PeerFault) as refused:
            await fetch_holding_proof(client, GENESIS, BANK, asset_id("USD@BANK"))
        assert refused.value.code == "unknown_holding"
        with pytest.raises(RequestFailed) as caught:
            await client.proofs([(Table.HOLDINGS, b"short")])
        assert caught.value.code == "bad_arguments"


async def test_a_stranger_is_refused_with_a_hint(tmp_path: Path) -> None:
    async with running(make_directory(tmp_path, GENESIS, 0)) as [server]:
        with pytest.raises(NodeRefused, match="Use the key of a member") as caught:
            async with connect(server, GENESIS, Keypair.from_seed(bytes(32))):
                pass
        assert caught.value.code == "stranger"
        assert caught.value.exit_code == 4


async def test_another_genesis_is_refused_with_a_hint(tmp_path: Path) -> None:
    other = genesis_of(1, name="other")
    async with running(make_directory(tmp_path, GENESIS, 0)) as [server]:
        with pytest.raises(NodeRefused, match="another network than the genesis"):
            async with connect(server, other):
                pass


async def test_nobody_there(tmp_path: Path) -> None:
    async with running(make_directory(tmp_path, GENESIS, 0)) as [server]:
        pass
    with pytest.raises(CannotConnect, match=r"Connection refused\. Is the node running\?") as caught:
        async with connect(server, GENESIS):
            pass
    assert caught.value.exit_code == 4


# --- nodes that misbehave -------------------------------------------------------------------------------------------


class FakeNode:
    """Answers every message of a client as the test says."""

    def __init__(self, respond: Respond, *, key: Keypair | None = None) -> None:
        self.heard: list[Message] = []
        self.port = 0
        self._respond = respond
        self.sessions = Sessions(
            LocalEnd(GENESIS.hash, key or node_key(0), VALIDATOR, "fake"),
            NodeCertificate.fresh(),
            admit=lambda identity: None,
            deliver=self._deliver,
            log=lambda level, event, fields: None,
        )

    async def _deliver(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Received):
                message = decode_message(event.payload)
                self.heard.append(message)
                for answer in self._respond(message):
                    self.sessions.send(event.session, answer.encode())

    def say(self, message: Message) -> None:
        self.sessions.send(1, message.encode())


@asynccontextmanager
async def client_of(node: FakeNode) -> AsyncIterator[Client]:
    async with trio.open_nursery() as nursery:
        node.port = await node.sessions.listen("127.0.0.1", 0)
        await nursery.start(node.sessions.run)
        try:
            async with Client.connect("127.0.0.1", node.port, GENESIS, BANK_KEY) as client:
                yield client
        finally:
            nursery.cancel_scope.cancel()


def silent(message: Message) -> list[Message]:
    return []


def keeps_all(message: Message) -> list[Message]:
    return [Submitted(message.request, (0,) * len(message.transactions), 0)] if isinstance(message, Submit) else []


def only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    [error] = group.exceptions
    return only(error) if isinstance(error, BaseExceptionGroup) else error


async def test_a_node_that_no_genesis_names_is_not_believed(mock_clock: MockClock) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        async with client_of(FakeNode(silent, key=node_key(9))):
            pass
    error = only(caught.value)
    assert isinstance(error, NodeRefused)
    assert error.code == "unknown_node"


async def test_many_transactions_travel_in_as_many_messages_as_they_need(mock_clock: MockClock) -> None:
    def respond(message: Message) -> list[Message]:
        assert isinstance(message, Submit)
        codes = tuple(int(Reason.BUSY) if data == b"busy" else 0 for data in message.transactions)
        return [Submitted(message.request, codes, 250 if any(codes) else 0)]

    node = FakeNode(respond)
    async with client_of(node) as client:
        transactions = [b"small"] * 5_000 + [bytes(60_000)] * 40 + [b"busy"]
        submission = await client.submit(transactions)
        assert submission.codes == (0,) * 5_040 + (int(Reason.BUSY),)
        assert submission.retry_after_ms == 250
        sent = [data for message in node.heard if isinstance(message, Submit) for data in message.transactions]
        assert sent == transactions
        assert len(node.heard) == 4
        assert (await client.submit([])).codes == ()


async def test_what_fits_no_message_is_refused_here(mock_clock: MockClock) -> None:
    async with client_of(FakeNode(silent)) as client:
        with pytest.raises(InvalidInput) as caught:
            await client.submit([bytes(2_000_000)])
        assert caught.value.code == "too_large"
        with pytest.raises(InvalidInput):
            await client.query("holdings", bytes(2_000_000))


async def test_settlements_come_to_all_who_listen_and_are_remembered(mock_clock: MockClock) -> None:
    node = FakeNode(keeps_all)
    first, second = b"1" * 32, b"2" * 32
    async with client_of(node) as client:
        settlements = client.settlements()
        await client.submit([b"x"])
        node.say(Settled(5, 1_000, first + second, bytes(4) + b"\x00\x08\x00\x01", ((1, "order 0011aabb"),)))
        expected = (Outcome(first, 5, 1_000, 0, 0), Outcome(second, 5, 1_000, 8, 1, "order 0011aabb"))
        assert await anext(settlements) == expected
        assert await client.wait_settled([second, first], 1) == {first: expected[0], second: expected[1]}
        settlements.close()
        with pytest.raises(StopAsyncIteration):
            await anext(settlements)


async def test_to_wait_in_vain_takes_as_long_as_was_said(mock_clock: MockClock) -> None:
    async with client_of(FakeNode(keeps_all)) as client:

        async def jump() -> None:
            await wait_all_tasks_blocked()
            mock_clock.jump(7)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(jump)
            with pytest.raises(TimedOut, match="1 of 1 transactions were not final within 5 s") as caught:
                await client.wait_settled([b"1" * 32], 5)
        assert caught.value.exit_code == 5


async def test_a_lost_session_wakes_everybody(mock_clock: MockClock) -> None:
    node = FakeNode(silent)
    lost: list[str] = []

    async with client_of(node) as client:
        settlements = client.settlements()

        async def submit() -> None:
            with pytest.raises(ConnectionLost):
                await client.submit([b"x"])
            lost.append("submit")

        async def ask() -> None:
            with pytest.raises(ConnectionLost):
                await client.status()
            lost.append("ask")

        async def listen() -> None:
            with pytest.raises(ConnectionLost):
                await anext(settlements)
            lost.append("listen")

        async def wait() -> None:
            with pytest.raises(ConnectionLost) as caught:
                await client.wait_settled([b"1" * 32], 60)
            assert caught.value.exit_code == 4
            lost.append("wait")

        async with trio.open_nursery() as nursery:
            for task in (submit, ask, listen, wait):
                nursery.start_soon(task)
            await wait_all_tasks_blocked(0.02)
            node.sessions.end(1, "stopped", "this node stops")
        assert sorted(lost) == ["ask", "listen", "submit", "wait"]
        with pytest.raises(ConnectionLost):
            await client.status()


@pytest.mark.parametrize(
    "answer",
    [
        lambda request: Submitted(request, (), 0),
        lambda request: Answer(request, "", ()),
        lambda request: Answer(request, "", (1, 2)),
        lambda request: Answer(request, "", (7, ((b"short", 1, 2),))),
    ],
    ids=["another kind", "nothing", "wrong types", "wrong width"],
)
async def test_answers_that_are_none_are_a_fault_of_the_node(
    mock_clock: MockClock, answer: Callable[[int], Message]
) -> None:
    def respond(message: Message) -> list[Message]:
        assert isinstance(message, Query)
        return [answer(message.request)]

    async with client_of(FakeNode(respond)) as client:
        with pytest.raises(PeerFault) as caught:
            await client.holdings(BANK)
        assert caught.value.code == "malformed"


async def test_messages_that_no_client_gets_end_the_session(mock_clock: MockClock) -> None:
    node = FakeNode(lambda message: [Status(1, bytes(32), 1)])
    async with client_of(node) as client:
        with pytest.raises(ConnectionLost, match="a node sent Status to a client"):
            await client.status()


async def test_a_follower_hears_every_word_and_nobody_else_does(mock_clock: MockClock) -> None:
    node = FakeNode(keeps_all)
    async with client_of(node) as client:
        news, settlements = await client.follow(), client.settlements()
        second = await client.follow()
        await client.submit([b"x"])
        for word in (Progress(word, 7, 1, b"1" * 32, b"\0\x0b\0\1") for word in ProgressStatus):
            node.say(word)
        node.say(Settled(9, 2, b"1" * 32, bytes(4)))
        told = [await anext(news) for _ in range(4)]
        assert [line.status for [line] in told] == [*ProgressStatus, None]
        assert told[0][0].outcome == Outcome(b"1" * 32, 7, 1, 11, 1)
        assert (await anext(settlements))[0].height == 9
        news.close()
        await wait_all_tasks_blocked()
        assert [message.wanted for message in node.heard if isinstance(message, Follow)] == [True]
        second.close()
        await wait_all_tasks_blocked(0.01)
    assert [message.wanted for message in node.heard if isinstance(message, Follow)] == [True, False]


async def test_who_does_not_listen_is_told_what_he_missed(mock_clock: MockClock) -> None:
    node = FakeNode(keeps_all)
    async with client_of(node) as client:
        settlements = client.settlements()
        await client.submit([b"x"])
        for height in range(4_097):
            node.say(Settled(height, 0, b"1" * 32, bytes(4)))
        while settlements._send.statistics().open_send_channels:
            await trio.lowlevel.checkpoint()
        seen = 0
        with pytest.raises(P2PLedgerError) as caught:  # noqa: PT012 - the loop is what raises
            async for _ in settlements:
                seen += 1
        assert seen == 4_096
        assert caught.value.code == "settlements_overflow"


async def test_errors_of_the_body_come_out_as_they_are(tmp_path: Path) -> None:
    async with running(make_directory(tmp_path, GENESIS, 0)) as [server]:
        with pytest.raises(ZeroDivisionError):
            async with connect(server, GENESIS):
                raise ZeroDivisionError
