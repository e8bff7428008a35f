"""A busy account: a central counterparty that stands in every trade of a market, and is never in its own way.

Fifty members trade with it 20,000 times, each trade one transaction of two transfers (bonds against money) that both
have signed. No account has a counter that could be taken twice, and no row a version that could be out of date: trades
touch the same two holdings 20,000 times, and each gets its receipt as if it were alone.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

from p2pledger import core
from p2pledger.ledger.chainspec import Chainspec
from p2pledger.ledger.genesis_state import genesis_state
from p2pledger.ledger.queries import check_conservation, holding_of
from p2pledger.ledger.transition import execute_block
from p2pledger.primitives.blocks import Header, sign_batch
from p2pledger.primitives.genesis import Genesis, Member, Register
from p2pledger.primitives.names import AssetKind, account_named, asset_id
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import Define, Issue, Operation, Transaction, delivery_versus_payment
from p2pledger.primitives.validators import Validator
from tests.ledger.small_market import header, key

TRADES = 20_000
MEMBERS = tuple(f"member {number}" for number in range(50))
EACH = TRADES // len(MEMBERS)
HOUSE = "central counterparty"
BOND, CASH = asset_id("DE0005140008@CSDC"), asset_id("CNY@ICBC")
STOCK, PURSE = 1_000_000, 1_000_000_000
PARAMETERS = Parameters()
GENESIS = Genesis(
    name="a busy market",
    time_ms=1_772_409_600_000,
    validators=(Validator(key("csdc").public_key, 1, "csdc"),),
    members=tuple(
        Member(name, Policy.of(key(name).public_key), ()) for name in ("csdc", "icbc", "issuer", HOUSE, *MEMBERS)
    ),
    registers=(Register("CSDC", "csdc", "bonds"), Register("ICBC", "icbc", "money")),
    parameters=replace(PARAMETERS, max_operations=512),
).check()
SPEC = Chainspec.of(GENESIS)
LIMITS = core.Limits(100_000, 512, 16, PARAMETERS.max_transaction_bytes, PARAMETERS.max_batch_signatures)


def signed(operations: tuple[Operation, ...], *signers: str) -> bytes:
    salt = hashlib.sha256(repr(operations).encode()).digest()[:16]
    body = Transaction(SPEC.network_id, 100, salt, account_named(signers[0]), operations, 0)
    return body.sign([key(name) for name in signers])


def columns(maker: str, transactions: list[bytes]) -> core.Columns:
    """The batch of one submitter, through the real scan."""
    plain = core.encode_batch(SPEC.network_id, key(maker).public_key, 0, 0, transactions)
    batch = sign_batch(plain, key(maker))
    assert len(batch) <= PARAMETERS.max_batch_bytes
    return core.scan_batch(batch, SPEC.network_id, LIMITS)


def founded() -> core.Version:
    """Everybody has bonds and money, the house more of both."""
    holders = (HOUSE, *MEMBERS)
    define = (
        Define(BOND, int(AssetKind.SECURITY), 0, account_named("issuer"), "Bond"),
        Define(CASH, int(AssetKind.MONEY), 2, account_named("icbc"), "Yuan"),
    )
    issue = (
        *(Issue(BOND, account_named(name), STOCK) for name in holders),
        *(Issue(CASH, account_named(name), PURSE) for name in holders),
    )
    transactions = [signed(define, "csdc", "issuer", "icbc"), signed(issue, "issuer", "icbc")]
    outcome = execute_block(genesis_state(GENESIS), [columns("csdc", transactions)], header=at(1), spec=SPEC)
    assert {receipt.reason for receipt in outcome.receipts()} == {Reason.OK}
    return outcome.version


def at(height: int) -> Header:
    return header(height, GENESIS.time_ms + 1_000 * height, network_id=SPEC.network_id)


def test_twenty_thousand_trades_of_fifty_members_with_one_counterparty() -> None:
    chance = random.Random(5)
    house = account_named(HOUSE)
    bonds, money = dict.fromkeys(MEMBERS, STOCK), dict.fromkeys(MEMBERS, PURSE)
    batches = []
    for name in MEMBERS:
        member, trades = account_named(name), []
        for number in range(EACH):
            quantity, price = chance.randrange(1, 100), 10_000 * number + chance.randrange(1, 10_000)
            sells = chance.random() < 0.5
            seller, buyer = (member, house) if sells else (house, member)
            bonds[name] += -quantity if sells else quantity
            money[name] += price if sells else -price
            legs = delivery_versus_payment(
                seller=seller, buyer=buyer, security=BOND, quantity=quantity, money=CASH, price=price
            )
            trades.append(signed(tuple(legs), name, HOUSE))
        batches.append(columns(name, trades))

    start, ends = founded(), []
    for order in range(2):  # in whichever order the submitters come, the books end the same
        chance.shuffle(batches)
        version, reasons = start, []
        for height in range(2, 7):
            some = batches[10 * (height - 2) : 10 * (height - 1)]
            outcome = execute_block(version, some, header=at(height), spec=SPEC)
            version = outcome.version
            reasons += [receipt.reason for receipt in outcome.receipts()]
        assert len(reasons) == TRADES, order
        assert set(reasons) == {Reason.OK}
        ends.append(version)

    for version in ends:
        assert check_conservation(version) == []
        for name in MEMBERS:
            assert holding_of(version, BOND, account_named(name)).free == bonds[name]
            assert holding_of(version, CASH, account_named(name)).free == money[name]
        spare = len(MEMBERS) * STOCK - sum(bonds.values())
        assert holding_of(version, BOND, house).free == STOCK + spare
