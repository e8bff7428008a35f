"""The stage of the walks: two networks with the whole market on them, and what is looked at after every block.

Both networks have fees; one is kept by validators who vote (simplex), the other by stakes (pos), so that every
operation can succeed on one of them. Both begin with a market that is there already: parties, accounts in custody,
bonds in two registers, a mirror, money of a central bank and of two banks, a venue, calendars, a link. Versions never
change, so that all walks begin with the same two.

``Stage.block`` executes every block in the compiled core and in the reference core, each over a state of its own, and
looks whether

    both end with the same receipts, the same rules and the same root
    each transaction got the receipt that ``simulate`` had foretold on the state just before it
    what left each bucket, and what came into it, did so on a way that its rules know      (``ways.py``)
    what is locked settles as it was foretold when it was locked, unless an order of authority reaches it
    every asset adds up in every register, each out has its one in, native money adds up
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import takewhile

from p2pledger import _reference, core
from p2pledger.ledger.books import Books
from p2pledger.ledger.chainspec import Chainspec
from p2pledger.ledger.genesis_state import genesis_state
from p2pledger.ledger.market.due import DueItem, DueKind, next_due_ms
from p2pledger.ledger.market.instructions import InstructionRow, IsoReason, Settlement, legs_of, principal_of
from p2pledger.ledger.market.links import check_registers
from p2pledger.ledger.market.orders import orders_over
from p2pledger.ledger.market.settlement import simulate_settlement
from p2pledger.ledger.queries import check_conservation, check_native, rows
from p2pledger.ledger.receipts import Receipt
from p2pledger.ledger.tables import Table
from p2pledger.ledger.transition import Outcome, execute_block, simulate
from p2pledger.primitives.blocks import Header, sign_batch
from p2pledger.primitives.genesis import Genesis, Member, Money, Register, Stake
from p2pledger.primitives.market.calendars import Lateness
from p2pledger.primitives.market.instructions import LockInstruction
from p2pledger.primitives.market.instruments import Accredit, Describe, InstrumentStatus, Nature, SetStatus, SetVenue
from p2pledger.primitives.market.links import AgreeLink
from p2pledger.primitives.market.money import Attest, AuthoriseMoney, MoneyKind
from p2pledger.primitives.market.parties import AccountKind, Allocate, RegisterAccount, Tier, TrustIssuer
from p2pledger.primitives.names import AssetKind, account_opened, asset_id, stake_id
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import Define, Issue, Open, Operation, Transaction, Transfer
from p2pledger.primitives.validators import Validator
from tests.ledger.market.market_world import (
    BASE_CASH,
    BOND,
    BOND_ACROSS,
    CASH,
    DAY_MS,
    LIMITS,
    OTHER_CASH,
    ROLES,
    SHARE,
    START_MS,
    account,
)
from tests.ledger.market.trading import calendar
from tests.ledger.market.walk.ways import Act, Spot, spots, trespasses
from tests.ledger.small_market import copy_into, header, key

ENGINES = ("simplex", "pos")
NODES = ("node-0", "node-1", "node-2", "node-3")
SEATS = tuple(sorted((Validator(key(name).public_key, 1, name) for name in NODES), key=lambda seat: seat.key))
MIRROR = asset_id("US0378331005@CCDC")
COINS = asset_id("CNY@CSDC")
LEAST_FEE = 2
EPOCH_BLOCKS = 20
STAKED = 1_000_000

WITHOUT_MONEY = "pauper"
LOOSE = tuple(f"loose-{number}" for number in range(6))
"""Accounts that nobody owns at the beginning."""
CUSTODY = ("pool", "segregated")
"""The broker's omnibus account, and one of alice's at the broker."""
MANY = 257
"""Accounts of the party *giant*: more than one quantity can be held over."""


@dataclass(frozen=True)
class Foretold:
    """What was said of a transaction just before it was executed."""

    receipt: Receipt
    rule: str


@cache
def genesis(engine: str) -> Genesis:
    members = {**ROLES, "giant": ("investor",), "keeper": (), WITHOUT_MONEY: ("investor",)}
    return Genesis(
        name="test securities market",
        time_ms=START_MS,
        engine=engine,
        profile="public",
        validators=SEATS,
        members=tuple(Member(name, Policy.of(key(name).public_key), roles) for name, roles in members.items()),
        registers=tuple(
            Register(code, code.lower(), f"the register of {code}") for code in ("CSDC", "CCDC", "PBOC", "ICBC", "CMBC")
        ),
        parameters=Parameters(
            replay_window=100, max_operations=256, epoch_blocks=EPOCH_BLOCKS, least_fee=LEAST_FEE, due_per_block=40
        ),
        money=tuple(Money(account(name), 10_000_000) for name in members if name != WITHOUT_MONEY),
        stakes=tuple(Stake(account("keeper"), STAKED, seat.key) for seat in SEATS) if engine == "pos" else (),
    ).check()


@dataclass
class Stage:
    """A chain of states in two cores. ``acts`` counts what happened in it, for the table."""

    genesis: Genesis
    version: core.Version
    reference: core.Version
    spec: Chainspec
    height: int = 0
    now_ms: int = START_MS
    salt: int = 0
    blocks: int = 0
    checked: bool = True
    promised: dict[bytes, int] = field(default_factory=dict)
    """locked instructions -> height at which they were locked; each was foretold to settle"""
    kept: int = 0
    """locked instructions that settled as foretold"""
    moved: int = 0
    """buckets that something left, or came into"""
    worked: Counter[DueKind] = field(default_factory=Counter)
    """items of due work whose time had come, by kind"""
    spots: dict[Spot, int] = field(default_factory=dict)
    """where all units lie"""

    @classmethod
    def of(cls, engine: str) -> Stage:
        made = genesis(engine)
        version = genesis_state(made)
        return cls(made, version, copy_into(_reference, version), Chainspec.of(made))

    def again(self) -> Stage:
        """A stage in the same state, which goes its own way from here."""
        return replace(self, promised=dict(self.promised), blocks=0, kept=0, moved=0, worked=Counter())

    @property
    def books(self) -> Books:
        return Books(self.version)

    # Transactions

    def signed(
        self,
        operations: Sequence[Operation],
        signers: Sequence[str],
        payer: bytes,
        *,
        valid_for: int = 20,
        max_fee: int = 10_000,
    ) -> bytes:
        self.salt += 1
        body = Transaction(
            self.spec.network_id,
            max(0, self.height + 1 + valid_for),
            self.salt.to_bytes(16, "big"),
            payer,
            tuple(operations),
            max_fee,
        )
        return body.sign([key(name) for name in signers])

    # Blocks

    def header(self, time_ms: int) -> Header:
        height = self.height + 1
        fields: dict[str, object] = {"proposer": SEATS[height % len(SEATS)].key, "network_id": self.spec.network_id}
        if self.spec.engine == "simplex":
            fields["epoch"] = self.spec.epoch_of(height)
        else:
            fields["proof"] = stake_id(account("keeper"), (height % len(SEATS)).to_bytes(16, "big"))
        return header(height, time_ms, **fields)

    def block(self, transactions: Sequence[tuple[bytes, Sequence[Operation]]], time_ms: int) -> Outcome:
        """Executes a block of (signed bytes, the operations in them), and looks at everything."""
        at = self.header(time_ms)
        batches = [self._batch(number, signed) for number, (signed, _) in enumerate(transactions)]
        columns = [core.scan_batch(batch, self.spec.network_id, LIMITS) for batch in batches]
        foretold = self._foretold([signed for signed, _ in transactions], columns, at) if self.checked else []
        outcome = execute_block(self.version, columns, header=at, spec=self.spec)
        if self.checked:
            plain = [_reference.scan_batch(batch, self.spec.network_id, LIMITS) for batch in batches]
            witness = execute_block(self.reference, plain, header=at, spec=self.spec)
            assert (outcome.codes, dict(outcome.rules)) == (witness.codes, dict(witness.rules))
            assert outcome.roots == witness.roots, "the cores differ"
            self.reference = witness.version
        before, self.version = self.version, outcome.version
        self.height, self.now_ms, self.blocks = at.height, time_ms, self.blocks + 1
        for index, said in enumerate(foretold):
            if said is not None:
                got = Foretold(outcome.receipt(index), outcome.rules.get(index, ""))
                assert said == got, "what was simulated is not what happened"
        if self.checked:
            acts = [
                Act(operation)
                for index, (_, operations) in enumerate(transactions)
                if outcome.receipt(index).succeeded
                for operation in operations
            ]
            self._look(before, acts)
        return outcome

    def _batch(self, number: int, signed: bytes) -> bytes:
        maker = key("csdc")
        return sign_batch(core.encode_batch(self.spec.network_id, maker.public_key, 0, number, [signed]), maker)

    def _foretold(
        self, transactions: Sequence[bytes], columns: Sequence[core.Columns], at: Header
    ) -> list[Foretold | None]:
        """What ``simulate`` says of each transaction on the state that those before it leave.

        None where due work is left over by the budget of the block: it would be done before the next transaction.
        """
        said: list[Foretold | None] = []
        for number, signed in enumerate(transactions):
            state = self.version
            if number:
                state = execute_block(state, columns[:number], header=at, spec=self.spec).version
                next_ms = next_due_ms(state)
                if next_ms is not None and next_ms <= at.time_ms:
                    said.append(None)
                    continue
            result = simulate(state, signed, height=at.height, time_ms=at.time_ms, spec=self.spec)
            said.append(Foretold(result.receipt, result.rule))
        return said

    # What must hold

    def _look(self, before: core.Version, acts: Sequence[Act]) -> None:
        queue = (DueItem.of(row_key) for row_key, _ in rows(before, Table.DUE))
        due = list(takewhile(lambda item: item.time_ms <= self.now_ms, queue))
        self.worked.update(item.kind for item in due)
        old, self.spots = self.spots, spots(self.version)
        changed, wrong = trespasses(before, self.version, old, self.spots, acts, due)
        assert wrong == [], wrong
        self.moved += changed
        self._look_at_promises(before, acts)
        if self.blocks % 5 == 0:
            self.add_up()

    def add_up(self) -> None:
        """Per asset and register, from rows alone."""
        assert check_conservation(self.version) == []
        assert check_registers(self.version) == []
        assert check_native(self.version) == []

    def _look_at_promises(self, before: core.Version, acts: Sequence[Act]) -> None:
        """Every locked instruction is foretold to settle at its date, and does, save an order of authority."""
        books, old = self.books, Books(before)
        for identifier in list(self.promised):
            row = books.row(InstructionRow, identifier)
            assert row is not None
            if row.settlement is Settlement.SETTLED:
                assert row.final.time_ms >= row.settle_from_ms
                self.promised.pop(identifier)
                self.kept += 1
                continue
            if _is_ordered(old, identifier) or _is_ordered(books, identifier):
                self.promised.pop(identifier)
                continue
            assert row.is_open, "what is locked was ended, and by no order"
            assert row.due_kind == DueKind.SETTLE, f"what is locked failed to settle: {row.reason} {row.rule}"
            assert row.reason in (IsoReason.FUTU, IsoReason.CYCL, IsoReason.NONE), row.reason
            assert self._forecast(identifier) is Reason.OK, "what is locked is not foretold to settle any more"
        for act in acts:
            if not isinstance(act.operation, LockInstruction):
                continue
            identifier, row = principal_of(books, act.operation.instruction)
            if row.is_open and not _is_ordered(books, identifier):
                assert self._forecast(identifier) is Reason.OK, "what was locked is not foretold to settle"
                self.promised[identifier] = self.height

    def _forecast(self, identifier: bytes) -> Reason:
        said = simulate_settlement(
            self.version, identifier, self.spec, height=self.height + 1, time_ms=self.now_ms + 1_000
        )
        return said.reason


def _is_ordered(books: Books, identifier: bytes) -> bool:
    return any(
        orders_over(books, leg.asset, side) for leg in legs_of(books, identifier) for side in (leg.giver, leg.taker)
    )


# The founding ---------------------------------------------------------------------------------------------------------


def opening(name: str) -> Open:
    """Alice opens an account that the key of ``name`` signs for."""
    salt = hashlib.sha256(name.encode()).digest()[:16]
    return Open(account("alice"), salt, Policy.of(key(name.split("/")[0]).public_key))


def opened(name: str) -> bytes:
    made = opening(name)
    return account_opened(made.opener, made.salt, made.policy.values())


def crowd() -> list[str]:
    """Names of the accounts of *giant*; its own key signs for all of them."""
    return [f"giant/{number}" for number in range(MANY)]


@cache
def founded(engine: str) -> Stage:
    """The market as every walk finds it. Nobody changes it: ``again`` gives a stage to walk on."""
    stage = Stage.of(engine)
    stage.checked = False
    security, money = AssetKind.SECURITY, AssetKind.MONEY
    bond, share, issuer = "Bond of the issuer", "Share of the issuer", account("issuer")
    csdc, ccdc, pboc = account("csdc"), account("ccdc"), account("pboc")

    def do(operations: Operation | Sequence[Operation], *signers: str) -> None:
        listed = (operations,) if isinstance(operations, Operation) else tuple(operations)
        signed = stage.signed(listed, signers, account(signers[0]), max_fee=LEAST_FEE * len(listed))
        outcome = stage.block([(signed, listed)], stage.now_ms + 1_000)
        assert outcome.receipt(0).succeeded, (listed[outcome.receipt(0).operation], outcome.receipt(0).reason)

    do(
        [
            Define(BOND, security, 0, issuer, bond),
            Define(SHARE, security, 0, issuer, share),
            Define(COINS, money, 2, account("broker"), "Coins of a broker"),
            Define(BOND_ACROSS, security, 0, issuer, bond),
            Define(MIRROR, security, 0, issuer, share),
            Define(BASE_CASH, money, 2, pboc, "Yuan at the central bank"),
            Define(CASH, money, 2, account("icbc"), "Yuan at ICBC"),
            Define(OTHER_CASH, money, 2, account("cmbc"), "Yuan at CMBC"),
        ],
        "csdc", "ccdc", "pboc", "icbc", "cmbc", "issuer", "broker",
    )  # fmt: skip
    do([opening(name) for name in (*LOOSE, *CUSTODY)], "alice")
    many = crowd()
    for part in (many[:130], many[130:]):
        do([opening(name) for name in part], "alice")
        do([RegisterAccount(opened(name), account("giant"), csdc, Tier.INVESTOR, AccountKind.OWN) for name in part],
           "giant", "csdc")  # fmt: skip
    pool, own = opened("pool"), opened("segregated")
    do(
        [
            RegisterAccount(pool, account("broker"), csdc, Tier.BROKER, AccountKind.OMNIBUS),
            RegisterAccount(own, account("alice"), account("broker"), Tier.INVESTOR, AccountKind.SEGREGATED, pool),
            Accredit(csdc, issuer, 0),
            Describe(csdc, BOND, Nature.NATIVE, "DBFTFB", "XSHG", "BOND", "CNY", 1_000_000, 1, 30_000, "CN"),
            Describe(ccdc, BOND_ACROSS, Nature.NATIVE, "DBFTFB", "", "BOND", "CNY", 1_000_000, 1, 30_000, "CN"),
            Describe(ccdc, MIRROR, Nature.MIRROR, "ESVUFR", "", "SHARE", "CNY", 0, 0, 0, "CN"),
            *(SetStatus(by, asset, InstrumentStatus.ACTIVE)
              for by, asset in ((csdc, BOND), (ccdc, BOND_ACROSS), (ccdc, MIRROR))),
            *(SetVenue(csdc, asset, account("sse"), True) for asset in (BOND, SHARE)),
            *(TrustIssuer(account("regulator"), topic, account("regulator"), True)
              for topic in ("country", "qualified")),
        ],
        "broker", "csdc", "ccdc", "alice", "pool", "segregated", "issuer", "regulator",
    )  # fmt: skip
    people = ("alice", "bob", "carol", "dave")
    do(
        [
            *(Issue(asset, account(name), 5_000) for asset in (BOND, BOND_ACROSS, SHARE) for name in people),
            Issue(MIRROR, account("alice"), 500),
            *(Issue(asset, account(name), 500_000) for asset in (CASH, OTHER_CASH) for name in people),
            *(Issue(BASE_CASH, account(name), 60_000) for name in ("icbc", "cmbc")),
            Issue(BASE_CASH, account("auditor"), 50_000_000),
            *(Issue(COINS, account(name), 10_000) for name in people),
        ],
        "issuer", "icbc", "cmbc", "pboc", "broker",
    )  # fmt: skip
    do([Transfer(account("alice"), pool, asset, 1_000) for asset in (BOND, SHARE)], "alice")
    do([Allocate(pool, b"", account("bob"), BOND, 200), Allocate(pool, b"", account("carol"), BOND, 100)], "broker")
    do(
        [
            AuthoriseMoney(pboc, BASE_CASH, MoneyKind.BASE),
            *(
                AuthoriseMoney(pboc, asset, MoneyKind.BANK, BASE_CASH, account(bank), account("auditor"), 2 * DAY_MS)
                for asset, bank in ((CASH, "icbc"), (OTHER_CASH, "cmbc"))
            ),
        ],
        "pboc", "icbc", "cmbc",
    )  # fmt: skip
    do([Attest(asset, 4_000_000, stage.now_ms, bytes(32)) for asset in (CASH, OTHER_CASH)], "auditor")
    do([calendar("A"), calendar("B", utc_offset_minutes=600, late=Lateness.MOVE)], "operator")
    do([AgreeLink(b"CSDC", b"CCDC", BOND[:12], 100_000), AgreeLink(b"CCDC", b"CSDC", BOND[:12], 100_000)],
       "csdc", "ccdc")  # fmt: skip
    stage.checked, stage.reference, stage.spots = True, copy_into(_reference, stage.version), spots(stage.version)
    stage.add_up()
    return stage
