"""A client of one node: submits transactions, hears their final outcomes, asks questions.

    async with Client.connect("127.0.0.1", port, genesis, keypair) as client:
        outcome = await client.transact([Transfer(alice, bob, asset, 5)], alice, [keypair])

        submitted = await client.submit([transaction])
        outcomes = await client.wait_settled([transaction_id], timeout_s=5)
        holdings = await client.holdings(account)

A client believes the node that it talks to: it checks that this is a validator of the genesis, nothing more. Who wants
proof asks for a ``row`` or a ``block`` and checks the certificates.

Outcomes of the newest transactions are remembered (65,536 of them), so ``wait_settled`` may be called after they came.

Where finality takes its time, ``follow`` tells what is known before:

    async for news in await client.follow():
        ...  # ProgressStatus.PENDING, REVERTED, PENDING, CONFIRMED, and at last settled
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Generic, Self, TypeVar

import trio

from p2pledger.network.certificates import NodeCertificate
from p2pledger.network.transport import (
    CLIENT,
    CannotConnect,
    Counters,
    Identity,
    LocalEnd,
    Refused,
    Session,
    connect,
    open_session,
)
from p2pledger.primitives.codec import Fields, Value
from p2pledger.primitives.errors import InvalidInput, P2PLedgerError, PeerFault
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.messages import (
    MAX_MESSAGE_BYTES,
    Answer,
    Follow,
    Progress,
    ProgressStatus,
    Query,
    Settled,
    Submit,
    Submitted,
    decode_message,
)
from p2pledger.primitives.reasons import MOST_RULE_BYTES, WHOLE_TRANSACTION, Reason
from p2pledger.primitives.statements import (
    Beneficiaries,
    Decision,
    Directory,
    Forecast,
    InstructionList,
    InstructionStatement,
    Investor,
    MoneySupply,
    OrderList,
    Positions,
    Signers,
    Tasks,
    VenueReport,
    unpack,
)
from p2pledger.primitives.transactions import Operation, Transaction

__all__ = [
    "AssetLine",
    "AssetsAnswer",
    "BlockAnswer",
    "CannotConnect",
    "Client",
    "ConnectionLost",
    "ForkLine",
    "HeadAnswer",
    "HolderLine",
    "HoldersAnswer",
    "HoldingLine",
    "HoldingsAnswer",
    "LookupAnswer",
    "LookupLine",
    "News",
    "NodeRefused",
    "NodeStatus",
    "Outcome",
    "PartyAnswer",
    "ProgressStatus",
    "Progressions",
    "ProofsAnswer",
    "RequestFailed",
    "RowAnswer",
    "RowsAnswer",
    "Settlements",
    "SimulationAnswer",
    "Submission",
    "SupplyAnswer",
    "SupplyLine",
    "TimedOut",
    "Viewed",
]

_T = TypeVar("_T")
MAX_SUBMITTED: Final = 4_096
"""Transactions in one submission."""
_REMEMBERED: Final = 65_536
_VALID_HEIGHTS: Final = 1_000
_RETRY_MS: Final = 20
_SUBMIT_BYTES: Final = MAX_MESSAGE_BYTES - 65_536
_BACKLOG: Final = 4_096
_QUEUED_BYTES: Final = 4 * 1_048_576
"""Submissions wait while more is queued: a node that takes them slowly must not cost the session."""


class NodeRefused(P2PLedgerError):
    """The node does not want this client. ``code`` is its own."""

    code = "refused"
    exit_code = 4


class ConnectionLost(P2PLedgerError):
    """The session ended. What was submitted may or may not become final: connect again and look it up."""

    code = "connection_lost"
    exit_code = 4


class TimedOut(P2PLedgerError):
    """Nothing was heard in time. Nothing is known of the outcome."""

    code = "timeout"
    exit_code = 5


class RequestFailed(InvalidInput):
    """The node answered with a code: unknown_account, bad_arguments, not_ready, ..."""

    code = "request_failed"


# --- what a node answers --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submission:
    """One code per transaction: 0 = kept and on its way. ``retry_after_ms`` goes with *busy*."""

    codes: tuple[int, ...]
    retry_after_ms: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a transaction: final at this height and block time, with this code at this operation.

    ``rule`` names what refused it, where a rule of the market did: a permission, an order, a calendar.
    """

    id: bytes
    height: int
    time_ms: int
    code: int
    operation: int
    rule: str = ""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    name: str
    final_height: int
    final_block: bytes
    view: int
    state_height: int
    state_root: bytes
    mempool_bytes: int
    held_batches: int
    peers: int
    catching_up: bool
    core: str
    transactions_final: int
    engine: str
    profile: str
    head_height: int
    head: bytes
    head_weight: int
    forks: int
    batches_dropped: int
    given_up: int
    questions_refused: int
    offences: int


@dataclass(frozen=True, slots=True)
class News:
    """What became of a transaction so far. ``status`` None: it is settled, once and for all.

    Until then the newest word counts: a block can be left for another one (docs/protocol.md, section 10).
    """

    status: ProgressStatus | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class HeadAnswer:
    """The chain that the node follows: its newest executed block, its weight, and why this one."""

    height: int
    block: bytes
    weight: int
    final_height: int
    final_block: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class ForkLine:
    """A reorganisation: the node left ``depth`` blocks up to ``old`` for others up to ``new``, at ``height``, and these
    transactions fell out (at most 512 of them)."""

    height: int
    old: bytes
    new: bytes
    ancestor: bytes
    reason: str
    reverted: tuple[bytes, ...]
    depth: int


@dataclass(frozen=True, slots=True)
class HoldingLine:
    asset: bytes
    free: int
    locked: int


@dataclass(frozen=True, slots=True)
class HolderLine:
    account: bytes
    free: int
    locked: int


@dataclass(frozen=True, slots=True)
class AssetLine:
    asset: bytes
    kind: int
    decimals: int
    issuer: bytes
    issued: int
    redeemed: int
    name: str


@dataclass(frozen=True, slots=True)
class HoldingsAnswer:
    """What an account holds after the block of ``height``; likewise the others."""

    height: int
    lines: tuple[HoldingLine, ...]


@dataclass(frozen=True, slots=True)
class HoldersAnswer:
    height: int
    lines: tuple[HolderLine, ...]


@dataclass(frozen=True, slots=True)
class AssetsAnswer:
    height: int
    lines: tuple[AssetLine, ...]


@dataclass(frozen=True, slots=True)
class PartyAnswer:
    """``policy`` is [threshold, [[key, weight], ...], version]."""

    height: int
    name: str
    roles: tuple[str, ...]
    policy: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class BlockAnswer:
    """Canonical bytes. ``finalisation`` is empty where only a later block has one; ``codes`` 4 bytes a transaction."""

    block: bytes
    finalisation: bytes
    codes: bytes


@dataclass(frozen=True, slots=True)
class LookupLine:
    height: int
    code: int
    operation: int
    rule: str = ""


@dataclass(frozen=True, slots=True)
class LookupAnswer:
    """One line per question; None where no such transaction is remembered."""

    height: int
    lines: tuple[LookupLine | None, ...]


@dataclass(frozen=True, slots=True)
class SimulationAnswer:
    """The receipt that the transaction would get at ``height`` and ``time_ms`` on the state named."""

    code: int
    operation: int
    height: int
    time_ms: int
    state_height: int
    state_root: bytes
    rule: str = ""
    """Names what would refuse it, where a rule of the market does."""


@dataclass(frozen=True, slots=True)
class RowAnswer:
    """A row and what proves it: ``proof`` under the state root that ``block`` certifies, which ``finalisation`` makes
    final. Bytes as in docs/protocol.md, sections 6 to 8."""

    height: int
    value: bytes | None
    proof: bytes
    block: bytes
    finalisation: bytes


@dataclass(frozen=True, slots=True)
class ProofsAnswer:
    """Proofs of several rows under one root, with the header that certifies it and that header's finalisation."""

    height: int
    proofs: tuple[bytes, ...]
    block: bytes
    finalisation: bytes


@dataclass(frozen=True, slots=True)
class Viewed(Generic[_T]):
    """A statement about the state after the block of ``height``, whose root it was read under."""

    height: int
    state_root: bytes
    statement: _T


@dataclass(frozen=True, slots=True)
class RowsAnswer:
    """(key, row) of a table as stored, after the block of ``height``."""

    height: int
    lines: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class SupplyLine:
    """``free`` and ``locked`` are sums over all holdings, ``locks`` over the rows that say what is locked for whom."""

    asset: bytes
    issued: int
    redeemed: int
    free: int
    locked: int
    locks: int


@dataclass(frozen=True, slots=True)
class SupplyAnswer:
    """``findings`` say what does not add up; none is how it must be."""

    height: int
    state_root: bytes
    lines: tuple[SupplyLine, ...]
    findings: tuple[str, ...]


# --- the client -----------------------------------------------------------------------------------------------------


class _Stream(Generic[_T]):
    """What a node tells, as it comes. Ends with ConnectionLost.

    Whoever lets 4,096 messages lie loses the rest, and is told: P2PLedgerError ``settlements_overflow``.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._send, self._receive = trio.open_memory_channel[tuple[_T, ...]](_BACKLOG)
        self._overflowed = False

    def put(self, told: tuple[_T, ...]) -> None:
        try:
            self._send.send_nowait(told)
        except trio.WouldBlock:
            self._overflowed = True
            self.end()
        except trio.ClosedResourceError:
            pass  # It overflowed before.

    def end(self) -> None:
        self._send.close()

    def close(self) -> None:
        """No more is wanted."""
        self._client.forget(self)
        self._send.close()
        self._receive.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[_T, ...]:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            if self._overflowed:
                raise P2PLedgerError(
                    f"more than {_BACKLOG} settlements were waiting", code="settlements_overflow"
                ) from None
            raise self._client.lost() from None
        except trio.ClosedResourceError:
            raise StopAsyncIteration from None


class Settlements(_Stream[Outcome]):
    """Final outcomes: ``async for outcomes in client.settlements()``, one tuple for each message."""


class Progressions(_Stream[News]):
    """Everything about the own transactions: ``async for news in await client.follow()``, one tuple a message."""


@dataclass(slots=True)
class _Question:
    """A request that waits for its answer."""

    done: trio.Event
    answer: Submitted | Answer | None = None


class Client:
    """One session with one node. Any number of tasks of one Trio run may use it at the same time."""

    def __init__(self, session: Session, genesis: Genesis) -> None:
        """Use ``connect``."""
        self._session = session
        self._genesis = genesis
        self._requests = count(1)
        self._questions: dict[int, _Question] = {}
        self._outcomes: OrderedDict[bytes, Outcome] = OrderedDict()
        self._news = trio.Event()
        self._listeners: list[Settlements] = []
        self._followers: list[Progressions] = []
        self._is_lost = False
        self._viewing = trio.Lock()

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        host: str,
        port: int,
        genesis: Genesis,
        keypair: Keypair,
        *,
        name: str = "client",
        node_key: bytes | None = None,
    ) -> AsyncIterator[Self]:
        """A session with the node at an address; ``node_key`` insists on one.

        CannotConnect if nobody is there, NodeRefused if one side does not want the other. Errors of the body come out
        as they are, not in groups.
        """
        validators = {seat.key for seat in genesis.validator_set.members} | {stake.key for stake in genesis.stakes}
        is_open = genesis.profile == "public"

        def admit(identity: Identity) -> tuple[str, str] | None:
            # In a public network any node will do; under simplex validators may have changed since the genesis, and
            # who wants one in particular names it.
            known = identity.node_key in validators or is_open or node_key == identity.node_key
            return None if known else ("unknown_node", "the node at this address is no validator of the genesis")

        where = f"{host}:{port}"
        raw = await connect((host, port))
        try:
            session = await open_session(
                raw,
                LocalEnd(genesis.hash, keypair, CLIENT, name),
                NodeCertificate.fresh(),
                is_server=False,
                admit=admit,
                expected_key=node_key,
            )
        except (Refused, PeerFault) as error:
            raise NodeRefused(error.what, where=where, hint=_HINTS.get(error.code, ""), code=error.code) from None
        client = cls(session, genesis)
        failure: BaseException | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client._run)
            try:
                yield client
            except BaseException as error:  # Raised again below, outside of the nursery, which would wrap it.
                failure = error
            session.end("closed", "the client is done")
        if failure is not None:
            raise failure

    @property
    def node(self) -> Identity:
        """The node at the other end."""
        return self._session.identity

    @property
    def counters(self) -> Counters:
        return self._session.counters

    # --- transactions -------------------------------------------------------------------------------------------------

    async def submit(self, transactions: Sequence[bytes]) -> Submission:
        """Hand signed transactions to the node, in as few messages as they fit. One code for each, in their order.

        ConnectionLost leaves it open which of them the node has taken; to submit them again does no harm.
        """
        groups = _groups(transactions)
        questions = []
        for group in groups:
            await self._session.wait_queued_below(_QUEUED_BYTES)
            questions.append(self._ask(Submit, group))
        codes: list[int] = []
        retry_after_ms = 0
        for question, group in zip(questions, groups, strict=True):
            answer = await self._answer(question)
            if not isinstance(answer, Submitted) or len(answer.codes) != len(group):
                raise self._broken("a submission was answered with something else")
            codes += answer.codes
            retry_after_ms = max(retry_after_ms, answer.retry_after_ms)
        return Submission(tuple(codes), retry_after_ms)

    async def transact(
        self, operations: Sequence[Operation], payer: bytes, keypairs: Iterable[Keypair], *, timeout_s: float = 60.0
    ) -> Outcome:
        """One transaction of these operations, all or nothing, made, signed, sent, and waited for until it is final.

        ``payer`` is the account that pays the fee, and signs like those whom the operations need (``signers`` tells
        who). A node that is busy is asked again. An outcome of height 0 was refused by the node itself. TimedOut leaves
        it open what becomes of it.
        """
        parameters = self._genesis.parameters
        transaction = Transaction(
            self._genesis.network_id,
            (await self.status()).final_height + min(_VALID_HEIGHTS, parameters.replay_window),
            os.urandom(16),
            payer,
            tuple(operations),
            parameters.least_fee * len(operations),
        )
        data = transaction.sign(keypairs)
        with trio.move_on_after(timeout_s):
            while True:
                submission = await self.submit([data])
                [code] = submission.codes
                if code not in (Reason.BUSY, Reason.NOT_READY):
                    break
                await trio.sleep(max(submission.retry_after_ms, _RETRY_MS) / 1_000)
            if code not in (Reason.OK, Reason.ALREADY_PENDING, Reason.DUPLICATE):
                return Outcome(transaction.id, 0, 0, code, WHOLE_TRANSACTION)
            return (await self.wait_settled([transaction.id], timeout_s))[transaction.id]
        raise TimedOut(
            f"transaction {transaction.id.hex()} was not final within {timeout_s:g} s",
            hint=f"It may still become final: look it up, valid until height {transaction.valid_until}",
        )

    def settlements(self) -> Settlements:
        """Outcomes from now on of what this client submits."""
        settlements = Settlements(self)
        if self._is_lost:
            settlements.end()
        else:
            self._listeners.append(settlements)
        return settlements

    async def follow(self) -> Progressions:
        """What becomes of the transactions that this client submits from now on, also before they are final."""
        progressions = Progressions(self)
        if self._is_lost:
            progressions.end()
            return progressions
        if not self._followers:
            await self._session.wait_queued_below(_QUEUED_BYTES)
            self._session.send(Follow(True).encode())
        self._followers.append(progressions)
        return progressions

    async def wait_settled(self, ids: Iterable[bytes], timeout_s: float) -> Mapping[bytes, Outcome]:
        """The outcomes of these transactions, by id, when all are final. TimedOut names how many are not."""
        missing = set(ids)
        found: dict[bytes, Outcome] = {}
        with trio.move_on_after(timeout_s):
            while True:
                for key in [key for key in missing if key in self._outcomes]:
                    found[key] = self._outcomes[key]
                    missing.remove(key)
                if not missing:
                    return found
                if self._is_lost:
                    raise self.lost()
                await self._news.wait()
        raise TimedOut(
            f"{len(missing)} of {len(missing) + len(found)} transactions were not final within {timeout_s:g} s",
            hint="They may still become final: look them up",
        )

    # --- questions ----------------------------------------------------------------------------------------------------

    async def query(self, kind: str, *arguments: Value) -> tuple[Value, ...]:
        """The raw result of a query (docs/protocol.md, section 10). RequestFailed with the node's code and sentence."""
        answer = await self._answer(self._ask(Query, kind, arguments))
        if not isinstance(answer, Answer):
            raise self._broken("a query was answered with something else")
        if answer.code:
            sentence = answer.result[0] if answer.result and type(answer.result[0]) is str else f"query {kind} failed"
            raise RequestFailed(sentence, code=answer.code)
        return answer.result

    async def _fields(self, count: int, kind: str, *arguments: Value) -> Fields:
        return Fields(await self.query(kind, *arguments), what=f"answer to {kind}", count=count)

    async def status(self) -> NodeStatus:
        """Where the node stands."""
        fields = await self._fields(22, "status")
        return NodeStatus(
            fields.text("name", most=64),
            fields.integer("final_height"),
            fields.binary("final_block", 32),
            fields.integer("view"),
            fields.integer("state_height"),
            fields.binary("state_root", 32),
            fields.integer("mempool_bytes"),
            fields.integer("held_batches"),
            fields.integer("peers"),
            fields.boolean("catching_up"),
            fields.text("core", most=1_024),
            fields.integer("transactions_final"),
            fields.text("engine", most=32),
            fields.text("profile", most=32),
            fields.integer("head_height"),
            fields.binary("head", 32),
            _weight(fields.text("head_weight", most=128)),
            fields.integer("forks"),
            fields.integer("batches_dropped"),
            fields.integer("given_up"),
            fields.integer("questions_refused"),
            fields.integer("offences"),
        )

    async def holdings(self, account: bytes) -> HoldingsAnswer:
        """What an account (32 bytes) holds."""
        fields = await self._fields(2, "holdings", account)
        height = fields.integer("height")
        return HoldingsAnswer(
            height,
            tuple(
                HoldingLine(row.binary("asset", 16), row.integer("free"), row.integer("locked"))
                for row in _rows(fields, "holding", 3)
            ),
        )

    async def holders(self, asset: bytes, *, after: bytes = b"", limit: int = 1_000) -> HoldersAnswer:
        """Who holds an asset (16 bytes), ordered by account; ``after`` the last account of the page before."""
        fields = await self._fields(2, "holders", asset, after, limit)
        height = fields.integer("height")
        return HoldersAnswer(
            height,
            tuple(
                HolderLine(row.binary("account", 32), row.integer("free"), row.integer("locked"))
                for row in _rows(fields, "holder", 3)
            ),
        )

    async def assets(self, *, after: bytes = b"", limit: int = 1_000) -> AssetsAnswer:
        """All assets, ordered by identifier; ``after`` the last one of the page before."""
        fields = await self._fields(2, "assets", after, limit)
        height = fields.integer("height")
        return AssetsAnswer(
            height,
            tuple(
                AssetLine(
                    row.binary("asset", 16),
                    row.integer("kind"),
                    row.integer("decimals"),
                    row.binary("issuer", 32),
                    row.integer("issued"),
                    row.integer("redeemed"),
                    row.text("name", most=1_024),
                )
                for row in _rows(fields, "asset", 7)
            ),
        )

    async def party(self, account: bytes) -> PartyAnswer:
        """Who stands behind an account."""
        fields = await self._fields(4, "party", account)
        height, name, roles = fields.integer("height"), fields.text("name", most=1_024), fields.array("roles", most=64)
        return PartyAnswer(height, name, tuple(str(role) for role in roles), fields.array("policy", most=3))

    async def block(self, height: int) -> BlockAnswer:
        """The final block of a height."""
        fields = await self._fields(3, "block", height)
        return BlockAnswer(fields.binary("block"), fields.binary("finalisation"), fields.binary("codes"))

    async def batch(self, digest: bytes) -> bytes:
        """A signed batch by its digest."""
        return (await self._fields(1, "batch", digest)).binary("batch")

    async def lookup(self, transactions: Sequence[tuple[int, bytes]]) -> LookupAnswer:
        """What is remembered of transactions, given as (valid_until, id), at most 4,096."""
        fields = await self._fields(2, "lookup", tuple(tuple(pair) for pair in transactions))
        height = fields.integer("height")
        lines: list[LookupLine | None] = []
        for row in fields.array("lines", most=len(transactions)):
            if row is None:
                lines.append(None)
            else:
                line = Fields(row, what="lookup", count=4)
                height_of, code, operation = line.integer("height"), line.integer("code"), line.integer("operation")
                lines.append(LookupLine(height_of, code, operation, line.text("rule", most=MOST_RULE_BYTES)))
        return LookupAnswer(height, tuple(lines))

    async def simulate(self, transaction: bytes) -> SimulationAnswer:
        """What a signed transaction would come to if it were executed next. Nothing is kept."""
        fields = await self._fields(7, "simulate", transaction)
        return SimulationAnswer(
            fields.integer("code"),
            fields.integer("operation"),
            fields.integer("height"),
            fields.integer("time_ms"),
            fields.integer("state_height"),
            fields.binary("state_root", 32),
            fields.text("rule", most=MOST_RULE_BYTES),
        )

    async def row(self, table: int, key: bytes) -> RowAnswer:
        """A row of the newest certified state, or its absence, with the proof."""
        match await self.query("row", int(table), key):
            case (int(height), (bytes() | None) as value, bytes(proof), bytes(block), bytes(finalisation)):
                return RowAnswer(height, value, proof, block, finalisation)
        raise self._broken("a query for a row was answered with something else")

    async def rows(self, table: int, *, after: bytes = b"", limit: int = 1_000) -> RowsAnswer:
        """Rows of a table of the final state, by key; ``after`` the last key of the page before. Without proof."""
        fields = await self._fields(2, "rows", int(table), after, limit)
        height, lines = fields.integer("height"), []
        for row in _rows(fields, "row", 2):
            lines.append((row.binary("key", most=128), row.binary("value")))
        return RowsAnswer(height, tuple(lines))

    async def proofs(self, rows: Sequence[tuple[int, bytes]]) -> ProofsAnswer:
        """Proofs of up to 16 rows (table, key), each present or absent, all in the newest certified state."""
        fields = await self._fields(4, "proofs", tuple((int(table), key) for table, key in rows))
        height, proofs = fields.integer("height"), fields.binaries("proofs", most=len(rows))
        if len(proofs) != len(rows):
            raise self._broken(f"a query for {len(rows)} proofs was answered with {len(proofs)}")
        return ProofsAnswer(height, proofs, fields.binary("block"), fields.binary("finalisation"))

    # --- views of the market, each one consistent read ----------------------------------------------------------------

    async def view(self, kind: type[_T], name: str, *arguments: Value) -> Viewed[_T]:
        """The statement of this kind that the view ``name`` gives. RequestFailed with the node's code and sentence.

        A node works out one view at a time for each client: tasks that ask at once wait for each other.
        """
        async with self._viewing:
            fields = await self._fields(3, "view", name, arguments)
        height, root = fields.integer("height"), fields.binary("state_root", 32)
        return Viewed(height, root, unpack(kind, fields.binary("statement")))

    async def positions(self, subject: bytes) -> Viewed[Positions]:
        """The holdings of an account, or of all accounts of a party, by bucket, with the orders that reach them."""
        return await self.view(Positions, "positions", subject)

    async def investor(self, reader: bytes, party: bytes) -> Viewed[Investor]:
        """An investor over all registers. ``reader`` is the account as which this client, by its key, may look."""
        return await self.view(Investor, "investor", reader, party)

    async def beneficiaries(self, reader: bytes, account: bytes, asset: bytes) -> Viewed[Beneficiaries]:
        """Who stands behind an omnibus holding, for those who may know it."""
        return await self.view(Beneficiaries, "look_through", reader, account, asset)

    async def instruction(self, identifier: bytes) -> Viewed[InstructionStatement]:
        """One instruction with its statuses, codes, moments and legs."""
        return await self.view(InstructionStatement, "instruction", identifier)

    async def instructions(
        self, party: bytes = b"", *, after: bytes = b"", limit: int = 100
    ) -> Viewed[InstructionList]:
        """Instructions by identifier: of a party (32 bytes), or all of them."""
        return await self.view(InstructionList, "instructions", party, after, limit)

    async def forecast(self, identifier: bytes) -> Viewed[Forecast]:
        """What settling an instruction at its time would give; of a locked one, what it will give, save an order."""
        return await self.view(Forecast, "forecast", identifier)

    async def tasks(self, party: bytes) -> Viewed[Tasks]:
        """What waits for a party: affirmations, holds, payments, with their deadlines."""
        return await self.view(Tasks, "tasks", party)

    async def money_supply(self) -> Viewed[MoneySupply]:
        """All money: issued, attested, circulating; mirrors are shown and do not count."""
        return await self.view(MoneySupply, "money_supply")

    async def venue_report(self, venue: bytes, *, after: bytes = b"", limit: int = 100) -> Viewed[VenueReport]:
        """What became of a venue's instructions: counts of all, and a page of lines."""
        return await self.view(VenueReport, "venue_report", venue, after, limit)

    async def orders(self, *, after: bytes = b"") -> Viewed[OrderList]:
        """The orders of authority by identifier, a page of up to 1,000."""
        return await self.view(OrderList, "orders", after)

    async def explain(self, who: bytes, operation: int, asset: bytes = b"", amount: int = 0) -> Viewed[Decision]:
        """Whether an account's party may do an operation (its code), and which rule says so."""
        return await self.view(Decision, "explain", who, operation, asset, amount)

    async def directory(self, *, after: bytes = b"") -> Viewed[Directory]:
        """Parties and their accounts, a page of them."""
        return await self.view(Directory, "directory", after)

    async def signers(self, operations: Sequence[bytes]) -> Viewed[Signers]:
        """Which accounts have to sign these operations (canonical arrays), as the state is now."""
        return await self.view(Signers, "signers", tuple(operations))

    async def head(self) -> HeadAnswer:
        """The chain that the node follows now, final or not."""
        fields = await self._fields(6, "head")
        return HeadAnswer(
            fields.integer("height"),
            fields.binary("block", 32),
            _weight(fields.text("weight", most=128)),
            fields.integer("final_height"),
            fields.binary("final_block", 32),
            fields.text("reason", most=1_024),
        )

    async def forks(self) -> tuple[ForkLine, ...]:
        """The last reorganisations of the node, newest last."""
        lines = []
        for line in await self.query("forks"):
            row = Fields(line, what="fork", count=7)
            lines.append(
                ForkLine(
                    row.integer("height"),
                    row.binary("old", 32),
                    row.binary("new", 32),
                    row.binary("ancestor", 32),
                    row.text("reason", most=1_024),
                    row.binaries("reverted", 32, most=4_096),
                    row.integer("depth"),
                )
            )
        return tuple(lines)

    async def supply(self) -> SupplyAnswer:
        """Issued, redeemed and held, for each asset, and what does not add up."""
        async with self._viewing:
            fields = await self._fields(4, "supply")
        height, root = fields.integer("height"), fields.binary("state_root", 32)
        lines = tuple(
            SupplyLine(
                row.binary("asset", 16),
                row.integer("issued"),
                row.integer("redeemed"),
                row.integer("free"),
                row.integer("locked"),
                row.integer("locks"),
            )
            for row in _rows(fields, "supply", 6)
        )
        findings = fields.array("findings", most=1_000_000)
        return SupplyAnswer(height, root, lines, tuple(str(finding) for finding in findings))

    # --- the session --------------------------------------------------------------------------------------------------

    def lost(self) -> ConnectionLost:
        """The error that says how the session ended."""
        ending = self._session.ending
        return ConnectionLost(
            f"the session with node {self.node.name} ended",
            where=self._session.address,
            why="" if ending is None else ending.sentence,
            hint="Connect again",
        )

    def forget(self, stream: _Stream[Any]) -> None:
        if stream in self._listeners:
            self._listeners.remove(stream)
        if stream in self._followers:
            self._followers.remove(stream)
            if not self._followers and not self._is_lost:
                self._session.send(Follow(False).encode())

    def _broken(self, sentence: str) -> PeerFault:
        self._session.end("malformed", sentence)
        return PeerFault(sentence, where=self._session.address, code="malformed")

    def _ask(self, kind: type[Submit] | type[Query], *values: Any) -> _Question:
        if self._is_lost:
            raise self.lost()
        request = next(self._requests)
        try:
            is_queued = self._session.send(kind(request, *values).encode())
        except ValueError as error:
            raise InvalidInput("the request does not fit one message", why=str(error), code="too_large") from None
        if not is_queued:
            raise self.lost()
        question = self._questions[request] = _Question(trio.Event())
        return question

    async def _answer(self, question: _Question) -> Submitted | Answer:
        await question.done.wait()
        if question.answer is None:
            raise self.lost()
        return question.answer

    async def _run(self) -> None:
        try:
            await self._session.run(self._receive)
        finally:
            self._is_lost = True
            for question in self._questions.values():
                question.done.set()
            streams: list[_Stream[Any]] = [*self._listeners, *self._followers]
            for stream in streams:
                stream.end()
            self._news.set()

    async def _receive(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            try:
                message = decode_message(payload)
            except PeerFault as fault:
                self._session.end(fault.code, str(fault))
                return
            match message:
                case Submitted(request=request) | Answer(request=request):
                    question = self._questions.pop(request, None)
                    if question is not None:  # Else the node answers what nobody asked.
                        question.answer = message
                        question.done.set()
                case Settled():
                    self._settle(message)
                case Progress():
                    news = tuple(News(message.status, outcome) for outcome in _outcomes(message))
                    for progressions in self._followers:
                        progressions.put(news)
                case _:
                    self._session.end("malformed", f"a node sent {type(message).__name__} to a client")
                    return

    def _settle(self, message: Settled) -> None:
        outcomes = _outcomes(message)
        for outcome in outcomes:
            self._outcomes[outcome.id] = outcome
        while len(self._outcomes) > _REMEMBERED:
            self._outcomes.popitem(last=False)
        self._news.set()
        self._news = trio.Event()
        for settlements in self._listeners:
            settlements.put(outcomes)
        for progressions in self._followers:
            progressions.put(tuple(News(None, outcome) for outcome in outcomes))


_HINTS: Final = {
    "wrong_network": "The node belongs to another network than the genesis",
    "wrong_genesis": "The node belongs to another network than the genesis",
    "stranger": "Use the key of a member of the network",
    "unknown_node": "Is this the genesis of the node's network?",
}


def _outcomes(message: Settled | Progress) -> tuple[Outcome, ...]:
    rules = dict(message.rules)
    return tuple(
        Outcome(
            message.ids[32 * i : 32 * i + 32],
            message.height,
            message.time_ms,
            int.from_bytes(message.codes[4 * i : 4 * i + 2], "big"),
            int.from_bytes(message.codes[4 * i + 2 : 4 * i + 4], "big"),
            rules.get(i, ""),
        )
        for i in range(len(message.ids) // 32)
    )


def _weight(text: str) -> int:
    """A fork-choice weight, which may exceed what an integer of the codec holds."""
    if not text.isdecimal():
        raise PeerFault("a weight is not a number", code="malformed")
    return int(text)


def _rows(fields: Fields, what: str, count: int) -> list[Fields]:
    return [Fields(row, what=what, count=count) for row in fields.array("lines", most=1_000_000)]


def _groups(transactions: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """In their order, each group small enough for one message. InvalidInput for one that never fits."""
    groups: list[tuple[bytes, ...]] = []
    group: list[bytes] = []
    size_bytes = 0
    for transaction in transactions:
        if len(transaction) > _SUBMIT_BYTES:
            raise InvalidInput(f"a transaction of {len(transaction)} bytes fits no message", code="too_large")
        if group and (len(group) == MAX_SUBMITTED or size_bytes + len(transaction) > _SUBMIT_BYTES):
            groups.append(tuple(group))
            group, size_bytes = [], 0
        group.append(transaction)
        size_bytes += len(transaction) + 5
    if group:
        groups.append(tuple(group))
    return groups
