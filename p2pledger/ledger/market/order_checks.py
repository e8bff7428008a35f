"""Whether orders and escrows agree with themselves and with the rows they are about: for checks, not for clients."""

from __future__ import annotations

from p2pledger import core
from p2pledger.ledger.books import Books
from p2pledger.ledger.market.buckets import Encumbrance, Spot, amount_in
from p2pledger.ledger.market.escrow import EscrowRow, EscrowStatus
from p2pledger.ledger.market.offers import OfferRow
from p2pledger.ledger.market.orders import EVERY_ASSET, OrderOver, OrderRow, OrderStatus, name_of
from p2pledger.ledger.market.parties import party_of
from p2pledger.ledger.queries import rows
from p2pledger.ledger.tables import NOBODY, Account, AccountFlag, Asset, AssetFlag, Table
from p2pledger.primitives.market.buckets import Bucket

__all__ = ["check_escrows", "check_orders"]


def check_orders(version: core.Version) -> list[str]:
    """What is wrong with the orders, in sentences; an empty list means that nothing is.

    Each row of ORDERS_OVER is one that a standing order lists, and each that is listed is there; no more units are
    waited for in a spot than lie there; accounts and assets are flagged exactly where an order reaches them.
    """
    books = Books(version)
    findings: list[str] = []
    over = dict(books.rows(OrderOver))
    listed = set()
    for identifier, order in books.rows(OrderRow):
        if order.over and order.status is not OrderStatus.STANDING:
            findings.append(f"{name_of(identifier)} has ended and still reaches something")
        listed |= {subject + asset + identifier for subject, asset in order.over}
    if listed != set(over):
        findings.append(
            f"{len(listed ^ set(over))} rows lie over something without being listed, or the other way round"
        )

    waited: dict[tuple[bytes, bytes, Spot], int] = {}
    for key, row in over.items():
        account, asset = key[:32], key[32:48]
        for item in row.attached:
            # For any asset an order waits for proceeds alone; and what it waits for in a settlement may have settled.
            if asset != EVERY_ASSET and item.spot.bucket is not Bucket.SETTLING:
                place = (account, asset, item.spot)
                waited[place] = waited.get(place, 0) + item.amount
    for (account, asset, spot), amount in waited.items():
        if amount > amount_in(books, asset, account, spot):
            findings.append(f"orders wait for {amount} units in a spot of {account.hex()} that has fewer")

    own = {key[:32] for key, row in over.items() if row.reaches_account}
    wide = {key[:32] for key, row in over.items() if row.reaches_all}
    everybody = {key[32:48] for key, row in over.items() if key[:32] == NOBODY}
    for account, data in rows(version, Table.ACCOUNTS):
        reached = account in own or party_of(books, account) in wide
        if bool(Account.decode(data).flags & AccountFlag.ORDERED) != reached:
            findings.append(f"account {account.hex()} is {'not ' if reached else ''}flagged")
    for asset, data in rows(version, Table.ASSETS):
        if bool(Asset.decode(data).flags & AssetFlag.ORDERED) != (asset in everybody):
            findings.append(f"asset {asset.hex()} is {'not ' if asset in everybody else ''}flagged")
    return findings


def check_escrows(version: core.Version) -> list[str]:
    """What is wrong with the escrows, in sentences; an empty list means that nothing is.

    Their parts are what is escrowed for them, account by account; all else that is escrowed is an offer's.
    """
    books = Books(version)
    findings: list[str] = []
    escrowed: dict[bytes, dict[tuple[bytes, bytes], int]] = {}
    for key, row in books.rows(Encumbrance):
        if row.bucket is Bucket.ESCROWED:
            escrowed.setdefault(key[48:], {})[key[:16], key[16:48]] = row.amount
    for identifier, escrow in books.rows(EscrowRow):
        parts = {(escrow.asset, account): amount for account, amount in escrow.parts}
        if escrowed.pop(identifier, {}) != parts or bool(parts) != (escrow.status is EscrowStatus.OPEN):
            findings.append(f"escrow {identifier.hex()} is not what is set aside for it")
        if parts and sum(parts.values()) != escrow.amount:
            findings.append(f"the parts of escrow {identifier.hex()} do not make it up")
    for identifier in escrowed:
        if books.row(OfferRow, identifier) is None:
            findings.append(f"units are escrowed for {identifier.hex()}, which is neither escrow nor offer")
    return findings
