"""A small market for the tests of the ledger: two depositories, a cash bank, an issuer, and people who trade.

Everything is made from names, so equal tests see equal bytes. Transactions are really signed, go into really signed
batches, and come back from the core's scan, as in a node.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import ModuleType
from typing import Any

from p2pledger import _reference, core
from p2pledger.ledger.chainspec import Chainspec
from p2pledger.ledger.genesis_state import genesis_state
from p2pledger.ledger.queries import rows
from p2pledger.ledger.receipts import Receipt
from p2pledger.ledger.tables import KEY_WIDTHS, Table
from p2pledger.ledger.transition import Outcome, execute_block, execute_block_in_python
from p2pledger.primitives.blocks import Header, sign_batch
from p2pledger.primitives.genesis import Genesis, Member, Register
from p2pledger.primitives.hashing import ZERO_HASH
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.names import AssetKind, account_named, asset_id
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import Define, Issue, Operation, Transaction
from p2pledger.primitives.validators import Validator

NAMES = ("csdc", "ccdc", "bank", "issuer", "alice", "bob", "carol", "dave")
FUND_KEYS = ("fund-1", "fund-2", "fund-3")

BOND = asset_id("DE0005140008@CSDC")
BOND_ACROSS = asset_id("DE0005140008@CCDC")
CASH = asset_id("CNY@BANK")
UNKNOWN_ASSET = asset_id("US0378331005@CSDC")
STRANGER = account_named("somebody whom nobody has named")

PARAMETERS = Parameters(replay_window=100, max_operations=32)


def implementations() -> list[ModuleType]:
    """The reference always; the compiled core where it was built."""
    try:
        from p2pledger import _core
    except ImportError:
        return [_reference]
    return [_reference, _core]


@cache
def key(name: str) -> Keypair:
    return Keypair.from_seed(hashlib.sha256(b"key of " + name.encode()).digest())


def account(name: str) -> bytes:
    return account_named(name)


@cache
def genesis() -> Genesis:
    fund = Policy(3, tuple(sorted(zip([key(name).public_key for name in FUND_KEYS], (2, 1, 1), strict=True))))
    return Genesis(
        name="test market",
        time_ms=1_500_000_000_000,
        validators=(Validator(key("csdc").public_key, 1, "csdc"),),
        members=(*(Member(name, Policy.of(key(name).public_key), ROLES.get(name, ())) for name in NAMES),
                 Member("fund", fund, ("investor",))),
        registers=(
            Register("CSDC", "csdc", "the register of CSDC"),
            Register("CCDC", "ccdc", "the register of CCDC"),
            Register("BANK", "bank", "cash at the bank"),
        ),
        parameters=PARAMETERS,
    ).check()  # fmt: skip


ROLES = {"csdc": ("depository",), "ccdc": ("depository",), "bank": ("bank", "central_bank"), "issuer": ("issuer",)}

LIMITS = core.Limits(
    max_transactions=100_000,
    max_operations=PARAMETERS.max_operations,
    max_signatures=PARAMETERS.max_signatures,
    max_transaction_bytes=PARAMETERS.max_transaction_bytes,
    max_batch_signatures=PARAMETERS.max_batch_signatures,
)


SPEC = Chainspec.of(genesis())


def header(height: int, time_ms: int | None = None, **changes: Any) -> Header:
    """A header of which execution reads height, time and proposer, and, under some engines, slot and proof."""
    time_ms = 1_000 * height if time_ms is None else time_ms
    fields: dict[str, Any] = {
        "network_id": SPEC.network_id,
        "epoch": 0,
        "view": height,
        "height": height,
        "parent": ZERO_HASH,
        "time_ms": time_ms,
        "proposer": key("csdc").public_key,
        "batches_root": ZERO_HASH,
        "parent_state_root": ZERO_HASH,
        "parent_receipts_root": ZERO_HASH,
        "validators_hash": ZERO_HASH,
    }
    return Header(**{**fields, **changes})


def signed(
    operations: Iterable[Operation] | Operation,
    *signers: str,
    salt: object = 0,
    valid_until: int = 50,
    payer: str | None = None,
    max_fee: int = 0,
) -> bytes:
    """A signed transaction. The first signer pays unless another ``payer`` is named."""
    listed = (operations,) if isinstance(operations, Operation) else tuple(operations)
    payer = payer or signers[0]
    salted = hashlib.sha256(repr(salt).encode()).digest()[:16]
    body = Transaction(genesis().network_id, valid_until, salted, account(payer), listed, max_fee)
    return body.sign([key(name) for name in signers])


def batch(transactions: Sequence[bytes], *, sequence: int = 0, scanner: ModuleType | None = None) -> core.Columns:
    """The columns of a signed batch of one maker, through the real scan."""
    maker = key("csdc")
    plain = core.encode_batch(genesis().network_id, maker.public_key, 0, sequence, transactions)
    return (scanner or core).scan_batch(sign_batch(plain, maker), genesis().network_id, LIMITS)


def copy_into(implementation: ModuleType, version: core.Version) -> core.Version:
    """The same state in one of the two cores."""
    branch = implementation.empty_state(KEY_WIDTHS).branch()
    for table in Table:
        for row_key, row in rows(version, table):
            branch.put(table, row_key, row)
    return branch.commit()


def altered(version: core.Version, table: Table, row_key: bytes, row: bytes | None) -> core.Version:
    """A state in which one row was written by hand."""
    branch = version.branch()
    if row is None:
        branch.delete(table, row_key)
    else:
        branch.put(table, row_key, row)
    return branch.commit()


@dataclass
class Market:
    """A chain of states, one block after the other, each executed twice: in bulk and in Python. They must agree."""

    version: core.Version = field(default_factory=lambda: genesis_state(genesis()))
    height: int = 0
    scanner: ModuleType | None = None

    def block(self, *transactions: bytes, fee: int = 0) -> list[Receipt]:
        """Executes one batch in a block of its own and returns its receipts."""
        return list(self.outcome([transactions] if transactions else [], fee=fee).receipts())

    def outcome(self, batches: Sequence[Sequence[bytes]], *, fee: int = 0, height: int | None = None) -> Outcome:
        height = self.height + 1 if height is None else height
        columns = [batch(items, sequence=at, scanner=self.scanner) for at, items in enumerate(batches)]
        spec = replace(SPEC, parameters=replace(PARAMETERS, least_fee=fee))
        result = execute_block(self.version, columns, header=header(height), spec=spec)
        witness = execute_block_in_python(self.version, columns, header=header(height), spec=spec)
        assert result.codes == witness.codes
        assert result.state_root == witness.state_root
        assert result.receipts_root == witness.receipts_root
        self.version, self.height = result.version, height
        return result

    def reasons(self, *transactions: bytes, fee: int = 0) -> list[tuple[str, int]]:
        return [(receipt.reason.title, receipt.operation) for receipt in self.block(*transactions, fee=fee)]

    def alter(self, table: Table, row_key: bytes, row: bytes | None) -> None:
        self.version = altered(self.version, table, row_key, row)


def founded(implementation: ModuleType | None = None) -> Market:
    """The market after its first block: a bond in two registers, money, and something in everybody's hands."""
    market = Market()
    if implementation is not None:
        market = Market(copy_into(implementation, market.version), scanner=implementation)
    security, money = int(AssetKind.SECURITY), int(AssetKind.MONEY)
    receipts = market.block(
        signed(Define(BOND, security, 0, account("issuer"), "Bond"), "csdc", "issuer"),
        signed(Define(BOND_ACROSS, security, 0, account("issuer"), "Bond"), "ccdc", "issuer"),
        signed(Define(CASH, money, 2, account("bank"), "Yuan"), "bank"),
        *(signed(Issue(BOND, account(name), 1_000), "issuer", salt=name) for name in ("alice", "bob", "fund")),
        *(signed(Issue(CASH, account(name), 50_000), "bank", salt=name) for name in ("alice", "bob", "carol")),
    )
    assert [receipt.reason for receipt in receipts] == [Reason.OK] * len(receipts)
    return market
