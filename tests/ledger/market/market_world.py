"""A market for the tests of its rules: two depositories, banks, a venue, brokers and investors, and a clock of blocks.

``World`` executes every block twice, in bulk and in Python, checks that the books add up after it, and compares what
``simulate`` said of a transaction with what became of it. A test reads as a story:

    world = World()
    world.do(Transfer(account("alice"), account("bob"), BOND, 1), "alice")
    world.refuse("insufficient_free", Transfer(account("alice"), account("bob"), BOND, 10**9), "alice")
    world.wait_until(world.now_ms + DAY_MS)      # an empty block of that time: due work runs

Everybody in ``ROLES`` is a party of the genesis with the roles named there, and holds the key of his name;
``key(name)`` makes the key of anybody, ``account(name)`` the account of a member.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TypeVar

from p2pledger import core
from p2pledger.ledger.books import Books, Row
from p2pledger.ledger.chainspec import Chainspec
from p2pledger.ledger.genesis_state import genesis_state
from p2pledger.ledger.queries import check_conservation
from p2pledger.ledger.receipts import Receipt
from p2pledger.ledger.rule import Place
from p2pledger.ledger.tables import Holding, Table
from p2pledger.ledger.transition import Outcome, execute_block, execute_block_in_python, simulate
from p2pledger.primitives.blocks import sign_batch
from p2pledger.primitives.genesis import Genesis, Member, Register
from p2pledger.primitives.market.money import Attest, AuthoriseMoney, MoneyKind
from p2pledger.primitives.names import AssetKind, account_named, account_opened, asset_id
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.transactions import Define, Issue, Open, Operation, Transaction
from p2pledger.primitives.validators import Validator
from tests.ledger.small_market import header, key

ROLES = {
    "operator": ("operator",),
    "csdc": ("depository",),
    "ccdc": ("depository",),
    "pboc": ("central_bank", "bank"),
    "icbc": ("bank",),
    "cmbc": ("bank",),
    "sse": ("venue",),
    "issuer": ("issuer",),
    "broker": ("broker",),
    "dealer": ("broker",),
    "regulator": ("regulator",),
    "court": ("regulator",),
    "auditor": ("auditor",),
    "alice": ("investor",),
    "bob": ("investor",),
    "carol": ("investor",),
    "dave": ("investor",),
}

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
START_MS = 1_772_409_600_000
"""2026-03-02, a Monday, at midnight UTC."""

BOND = asset_id("DE0005140008@CSDC")
BOND_ACROSS = asset_id("DE0005140008@CCDC")
SHARE = asset_id("US0378331005@CSDC")
CASH = asset_id("CNY@ICBC")
OTHER_CASH = asset_id("CNY@CMBC")
BASE_CASH = asset_id("CNY@PBOC")

PARAMETERS = Parameters(replay_window=1_000_000, max_operations=256)

LIMITS = core.Limits(
    max_transactions=100_000,
    max_operations=PARAMETERS.max_operations,
    max_signatures=PARAMETERS.max_signatures,
    max_transaction_bytes=PARAMETERS.max_transaction_bytes,
    max_batch_signatures=PARAMETERS.max_batch_signatures,
)

RowT = TypeVar("RowT", bound=Row)


def account(name: str) -> bytes:
    return account_named(name)


def _opening(opener: str, name: str) -> Open:
    return Open(account(opener), hashlib.sha256(name.encode()).digest()[:16], Policy.of(key(name).public_key))


def opened(opener: str, name: str) -> bytes:
    """The identifier of the account that ``World.open`` opens."""
    operation = _opening(opener, name)
    return account_opened(operation.opener, operation.salt, operation.policy.values())


@cache
def genesis(**parameters: int) -> Genesis:
    return Genesis(
        name="test securities market",
        time_ms=START_MS,
        validators=(Validator(key("csdc").public_key, 1, "csdc"),),
        members=tuple(Member(name, Policy.of(key(name).public_key), roles) for name, roles in ROLES.items()),
        registers=(
            Register("CSDC", "csdc", "the register of CSDC"),
            Register("CCDC", "ccdc", "the register of CCDC"),
            Register("PBOC", "pboc", "reserves at the central bank"),
            Register("ICBC", "icbc", "cash at ICBC"),
            Register("CMBC", "cmbc", "cash at CMBC"),
        ),
        parameters=replace(PARAMETERS, **parameters),
    ).check()


@dataclass
class World:
    """A chain of states. ``now_ms`` is the time of the newest block; the next one comes a second later, unless told."""

    genesis: Genesis = field(default_factory=genesis)
    height: int = 0
    now_ms: int = START_MS
    salt: int = 0
    version: core.Version = field(init=False)
    spec: Chainspec = field(init=False)
    checked: bool = True
    """whether the books are added up after each block"""
    due_may_refuse: bool = False
    """handlers of due work never refuse, and each block is held against that"""

    def __post_init__(self) -> None:
        self.version, self.spec = genesis_state(self.genesis), Chainspec.of(self.genesis)

    # Transactions

    def signed(self, operations: Operation | Sequence[Operation], *signers: str, payer: str | None = None) -> bytes:
        """A transaction of its own salt. The first signer pays, unless another payer is named."""
        self.salt += 1
        listed = (operations,) if isinstance(operations, Operation) else tuple(operations)
        body = Transaction(
            self.spec.network_id,
            self.height + 1_000,
            self.salt.to_bytes(16, "big"),
            account(payer or signers[0]),
            listed,
            0,
        )
        return body.sign([key(name) for name in signers])

    # Blocks

    def block(self, *transactions: bytes, at_ms: int | None = None) -> list[Receipt]:
        """Executes a block of these transactions, a second after the last one unless ``at_ms`` says when."""
        return list(self.outcome(transactions, at_ms=at_ms).receipts())

    def outcome(self, transactions: Iterable[bytes], *, at_ms: int | None = None) -> Outcome:
        listed, maker = list(transactions), key("csdc")
        columns = []
        if listed:
            plain = core.encode_batch(self.spec.network_id, maker.public_key, 0, self.height, listed)
            columns = [core.scan_batch(sign_batch(plain, maker), self.spec.network_id, LIMITS)]
        self.height, self.now_ms = self.height + 1, self.now_ms + 1_000 if at_ms is None else at_ms
        at = header(self.height, self.now_ms, network_id=self.spec.network_id)
        result = execute_block(self.version, columns, header=at, spec=self.spec)
        witness = execute_block_in_python(self.version, columns, header=at, spec=self.spec)
        assert (result.codes, result.roots, result.rules) == (witness.codes, witness.roots, witness.rules)
        assert self.due_may_refuse or not result.due.dropped, result.due.dropped
        self.version = result.version
        if self.checked:
            assert check_conservation(self.version) == []
        return result

    def wait_until(self, time_ms: int) -> Outcome:
        """An empty block of that time."""
        return self.outcome((), at_ms=time_ms)

    def judged(
        self, operations: Operation | Sequence[Operation], *signers: str, at_ms: int | None = None
    ) -> tuple[str, int, str]:
        """(title of the reason, index of the operation, name of the rule) of a transaction, simulated, then executed.

        One that is refused leaves the state that an empty block leaves, but for REPLAY, which remembers it.
        """
        signed = self.signed(operations, *signers)
        time_ms = self.now_ms + 1_000 if at_ms is None else at_ms
        said = simulate(self.version, signed, height=self.height + 1, time_ms=time_ms, spec=self.spec)
        before = self.version
        outcome = self.outcome([signed], at_ms=at_ms)
        receipt, rule = outcome.receipt(0), outcome.rules.get(0, "")
        assert (said.receipt, said.rule) == (receipt, rule), "what was simulated is not what happened"
        if not receipt.succeeded:
            at = header(self.height, self.now_ms, network_id=self.spec.network_id)
            empty = execute_block(before, [], header=at, spec=self.spec).version
            traces = [table.name for table in Table if empty.table_root(table) != self.version.table_root(table)]
            assert traces in ([], ["REPLAY"]), "a refusal left a trace"
        return receipt.reason.title, receipt.operation, rule

    def do(self, operations: Operation | Sequence[Operation], *signers: str, at_ms: int | None = None) -> None:
        """One transaction in a block of its own, which must succeed."""
        judged = self.judged(operations, *signers, at_ms=at_ms)
        assert judged == ("ok", 0, ""), judged

    def refuse(
        self,
        reason: str,
        operations: Operation | Sequence[Operation],
        *signers: str,
        rule: str | None = None,
        at_ms: int | None = None,
    ) -> str:
        """One transaction in a block of its own, which must be refused so; returns the name of the rule."""
        title, _, named = self.judged(operations, *signers, at_ms=at_ms)
        assert title == reason, f"{title} ({named})"
        assert rule is None or rule == named, named
        return named

    def open(self, opener: str, name: str) -> bytes:
        """Opens an account that the key of ``name`` signs for; returns its identifier."""
        self.do(_opening(opener, name), opener)
        return opened(opener, name)

    # Reading

    @property
    def books(self) -> Books:
        """The books over the newest state. What is written into them goes nowhere."""
        return Books(self.version)

    @property
    def place(self) -> Place:
        """Where the next transaction would be executed."""
        return Place(self.height + 1, self.now_ms + 1_000, self.spec)

    def row(self, kind: type[RowT], row_key: bytes) -> RowT | None:
        return self.books.row(kind, row_key)

    def holding(self, name: str, asset: bytes) -> Holding:
        return self.books.holding(asset, account(name))

    def free(self, name: str, asset: bytes) -> int:
        return self.holding(name, asset).free


def founded(**parameters: int) -> World:
    """A world with a bond in two registers, a share and three kinds of money, and something in people's hands."""
    world = World(genesis(**parameters))
    security, money = int(AssetKind.SECURITY), int(AssetKind.MONEY)
    for operation, signers in (
        (Define(BOND, security, 0, account("issuer"), "Bond of the issuer"), ("csdc", "issuer")),
        (Define(BOND_ACROSS, security, 0, account("issuer"), "Bond of the issuer"), ("ccdc", "issuer")),
        (Define(SHARE, security, 0, account("issuer"), "Share of the issuer"), ("csdc", "issuer")),
        (Define(BASE_CASH, money, 2, account("pboc"), "Yuan at the central bank"), ("pboc",)),
        (Define(CASH, money, 2, account("icbc"), "Yuan at ICBC"), ("icbc",)),
        (Define(OTHER_CASH, money, 2, account("cmbc"), "Yuan at CMBC"), ("cmbc",)),
        *((Issue(BOND, account(name), 1_000), ("issuer",)) for name in ("alice", "bob")),
        *((Issue(SHARE, account(name), 1_000), ("issuer",)) for name in ("alice", "carol")),
        *((Issue(CASH, account(name), 50_000), ("icbc",)) for name in ("alice", "bob", "carol")),
        (Issue(OTHER_CASH, account("dave"), 50_000), ("cmbc",)),
        *((Issue(BASE_CASH, account(name), 100_000), ("pboc",)) for name in ("icbc", "cmbc")),
    ):
        world.do(operation, *signers)
    return world


def with_money(world: World, *, attested: int = 1_000_000) -> World:
    """The three kinds of money are authorised: PBOC's as base money, in which ICBC and CMBC hold their reserves.

    What stands behind the banks' money is attested as of now, and gets old in an hour.
    """
    world.do(AuthoriseMoney(account("pboc"), BASE_CASH, MoneyKind.BASE), "pboc")
    for bank, asset in (("icbc", CASH), ("cmbc", OTHER_CASH)):
        world.do(
            AuthoriseMoney(
                account("pboc"), asset, MoneyKind.BANK, BASE_CASH, account(bank), account("auditor"), HOUR_MS
            ),
            "pboc",
            bank,
        )
        world.do(Attest(asset, attested, world.now_ms, bytes(32)), "auditor")
    return world
