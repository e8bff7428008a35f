"""Views of the market: pure functions over one version of the state, so each answer is one consistent read.

A view gets its arguments as values from the wire and gives a *statement* (``primitives/statements.py``). Nothing here
changes anything, and nothing here is part of the protocol's rules: two nodes with the same state answer alike.

Most of what stands on the ledger every member may read. Two views look through accounts to the people behind them, and
answer only those whom ``custody.py`` entitles: the reader names an account of his, the key of his session must belong
to its policy, and the answer names the entitlement under which it was given. An investor over all registers is shown as
far as the entitlement of the reader goes, account by account and asset by asset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Final

from p2pledger import core
from p2pledger.ledger import queries
from p2pledger.ledger.books import Books
from p2pledger.ledger.market import permissions
from p2pledger.ledger.market.buckets import Bucket, encumbrances_of, locked_by
from p2pledger.ledger.market.custody import (
    LOOK_THROUGH,
    Beneficiary,
    allocated,
    entitlement,
    is_omnibus,
    look_through,
)
from p2pledger.ledger.market.due import DueItem, DueKind
from p2pledger.ledger.market.escrow import EscrowRow
from p2pledger.ledger.market.instructions import (
    AffirmationRow,
    InstructionRow,
    Matched,
    Moment,
    Processing,
    affirmation_key,
    legs_of,
    participants_of,
)
from p2pledger.ledger.market.instruments import is_mirror
from p2pledger.ledger.market.money import Attestation, Money, supply_of_money
from p2pledger.ledger.market.offers import OfferRow
from p2pledger.ledger.market.orders import OrderRow, holds_on, name_of, orders_over
from p2pledger.ledger.market.parties import Owner, accounts_of, holder_of, party_named, party_of
from p2pledger.ledger.market.payments import Payment, PaymentStatus, waiting_amount
from p2pledger.ledger.market.settlement import simulate_settlement
from p2pledger.ledger.market.venues import Venue
from p2pledger.ledger.operations import RULES
from p2pledger.ledger.rule import Place, Refused
from p2pledger.ledger.tables import NOBODY, Asset, Party, Table, register_of
from p2pledger.primitives.codec import U64_MAX, Fields, Value, decode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.forms import operation_name
from p2pledger.primitives.market.money import MoneyKind
from p2pledger.primitives.names import AssetKind
from p2pledger.primitives.statements import (
    Beneficiaries,
    BucketLine,
    CurrencyLine,
    Decision,
    Directory,
    DirectoryLine,
    Forecast,
    HeldLine,
    InstructionLine,
    InstructionList,
    InstructionStatement,
    Investor,
    InvestorLine,
    LegLine,
    MomentLine,
    MoneyLine,
    MoneySupply,
    OrderLine,
    OrderList,
    ParticipantLine,
    PositionLine,
    Positions,
    Record,
    ShareLine,
    Signers,
    TaskLine,
    Tasks,
    VenueAsset,
    VenueReport,
    WeighedLine,
    pack,
)
from p2pledger.primitives.transactions import OPERATIONS

__all__ = ["VIEWS", "NoView", "view"]

_PAGE: Final = 1_000
_MOST_SIGNED: Final = 256
_MOST_OPERATION_BYTES: Final = 65_536


class NoView(Exception):
    """There is no answer: a code for programs, a sentence for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


def view(version: core.Version, place: Place, reader: bytes, name: str, arguments: tuple[Value, ...]) -> bytes:
    """The bytes of a statement. ``place`` says the height and the block time of the version, ``reader`` is the public
    key of who asks. NoView where there is no answer; PeerFault for arguments of another form."""
    if name not in VIEWS:
        raise NoView("unknown_view", f"there is no view {name!r}; known are: {', '.join(VIEWS)}")
    count, respond = VIEWS[name]
    fields = Fields(arguments, what=f"view {name}", count=count)
    return pack(respond(_Reading(version, place, reader), fields))


def _optional(fields: Fields, name: str, width: int = 32) -> bytes:
    """Bytes of this width, or none."""
    value = fields.binary(name, most=width)
    if value and len(value) != width:
        raise PeerFault(f"{name} has {len(value)} bytes, not {width} or none", code="malformed")
    return value


class _Reading:
    """What a view reads from."""

    def __init__(self, version: core.Version, place: Place, reader: bytes) -> None:
        self.version, self.place, self.reader = version, place, reader
        self.books = Books(version)
        self._decimals: dict[bytes, int] = {}

    def decimals(self, asset: bytes) -> int:
        if asset not in self._decimals:
            row = self.books.asset(asset)
            self._decimals[asset] = 0 if row is None else row.decimals
        return self._decimals[asset]

    def name(self, party: bytes | None) -> str:
        """The name of a party; empty for accounts of nobody."""
        row = None if party is None else party_named(self.books, party)
        return "" if row is None else row.name

    def require_account(self, account: bytes) -> None:
        if self.books.account(account) is None:
            raise NoView("unknown_account", f"there is no account {account.hex()}")

    def accounts(self, subject: bytes) -> list[bytes]:
        """The accounts of a party; of an account that is no party, itself."""
        self.require_account(subject)
        return list(accounts_of(self.books, subject)) or [subject]

    def require_reader(self, account: bytes) -> None:
        """NoView unless the key of the session belongs to the account as which somebody wants to read.

        One reads as a party, or as an account of nobody; not as an account of a party's that a custodian may have the
        key of: he would see through it what the party has with others.
        """
        row = self.books.account(account)
        if row is None or self.reader not in (key for key, _ in row.policy.keys):
            raise NoView("not_entitled", "the key of this session does not act for the account that is named as reader")
        if holder_of(self.books, account) != account:
            raise NoView("not_entitled", "the account that is named as reader is a party's: one reads as the party")


# --- holdings ---------------------------------------------------------------------------------------------------------


def _positions(read: _Reading, fields: Fields) -> Positions:
    """Every holding of an account, or of all accounts of a party, taken apart by bucket."""
    subject = fields.binary("subject", 32)
    lines = []
    for account in read.accounts(subject):
        for line in queries.holdings_of(read.version, account):
            buckets = [] if not line.holding.free else [BucketLine("free", b"", "", line.holding.free)]
            for spot, amount in (*locked_by(read.books, line.asset, account),
                                 *encumbrances_of(read.books, line.asset, account)):  # fmt: skip
                what = _reference_kind(read.books, spot.bucket, spot.reference)
                buckets.append(BucketLine(spot.bucket.name.lower(), spot.reference, what, amount))
            held = holds_on(read.books, read.place, line.asset, account)
            lines.append(
                PositionLine(
                    account,
                    line.asset,
                    read.decimals(line.asset),
                    line.holding.total,
                    tuple(buckets),
                    orders_over(read.books, line.asset, account),
                    tuple(
                        HeldLine(each.order, each.spot.bucket.name.lower(), each.spot.reference, each.amount,
                                 each.outcome.words)
                        for each in held
                    ),
                )
            )  # fmt: skip
    return Positions(subject, read.name(party_of(read.books, subject)), tuple(lines))


def _reference_kind(books: Books, bucket: Bucket, reference: bytes) -> str:
    """What a reference is, for people."""
    if bucket is Bucket.ESCROWED and books.row(OfferRow, reference) is not None:
        return "offer"
    kinds = {Bucket.LOCKED: "controller", Bucket.SETTLING: "instruction", Bucket.ESCROWED: "escrow"}
    return kinds.get(bucket, "payment")


def _investor(read: _Reading, fields: Fields) -> Investor:
    """A party over all registers: what stands in its own accounts, and its shares in the omnibus accounts of others."""
    reader, party = fields.binary("reader", 32), fields.binary("party", 32)
    read.require_account(party)
    read.require_reader(reader)
    is_himself = holder_of(read.books, reader) == party
    seen_as: dict[str, None] = {}
    sums: dict[bytes, tuple[int, int, int]] = {}

    def add(asset: bytes, account: bytes, free: int, encumbered: int, held: int) -> None:
        entitled = "himself" if is_himself else entitlement(read.books, reader, account, asset)
        if entitled:
            seen_as[entitled] = None
            before = sums.get(asset, (0, 0, 0))
            sums[asset] = before[0] + free, before[1] + encumbered, before[2] + held

    for account in read.accounts(party):
        for line in queries.holdings_of(read.version, account):
            # What an omnibus account of his holds for others is not his.
            others = allocated(read.books, account, line.asset) if is_omnibus(read.books, account) else 0
            add(line.asset, account, line.holding.free - others, line.holding.locked, 0)
    for key, share in read.books.rows(Beneficiary):
        if key[48:] == party != NOBODY:
            add(key[32:48], key[:32], share.amount, 0, share.amount)
    if not seen_as and not is_himself:
        raise NoView("not_entitled", f"{LOOK_THROUGH}: nothing of this investor is within the reader's scope")
    lines = tuple(
        InvestorLine(
            asset[:12], register_of(asset), asset, read.decimals(asset), free, encumbered, held,
            is_mirror(read.books, asset),
        )
        for asset, (free, encumbered, held) in sorted(sums.items())
    )  # fmt: skip
    return Investor(party, read.name(party), "; ".join(seen_as) or "himself", lines)


def _look_through(read: _Reading, fields: Fields) -> Beneficiaries:
    """Whose units are in an account: of everybody for those entitled, of himself for a beneficiary."""
    reader, account, asset = fields.binary("reader", 32), fields.binary("account", 32), fields.binary("asset", 16)
    read.require_account(account)
    read.require_reader(reader)
    try:
        shares = look_through(read.books, reader, account, asset)
    except Refused as refusal:
        raise NoView("not_entitled", refusal.rule or str(refusal)) from None
    seen_as = entitlement(read.books, reader, account, asset)
    total = read.books.holding(asset, account).total if seen_as else sum(amount for _, amount in shares)
    return Beneficiaries(
        account,
        asset,
        read.decimals(asset),
        total,
        seen_as or "beneficiaries see their own share",
        tuple(ShareLine(party, read.name(party), amount) for party, amount in shares),
    )


# --- instructions -----------------------------------------------------------------------------------------------------


def _line(identifier: bytes, row: InstructionRow) -> InstructionLine:
    return InstructionLine(
        identifier,
        row.by,
        row.counterparty,
        row.reference,
        row.processing.name.lower(),
        row.matched.name.lower(),
        row.settlement.name.lower(),
        str(row.reason),
        row.rule,
        row.settle_day,
        row.due_ms,
    )


def _instruction(read: _Reading, fields: Fields) -> InstructionStatement:
    identifier = fields.binary("instruction", 32)
    row = _require_instruction(read.books, identifier)
    legs = legs_of(read.books, identifier)
    principal = identifier if row.is_principal else row.pair
    moments: tuple[tuple[str, Moment], ...] = (
        ("entry", row.entry), ("irrevocable", row.irrevocable), ("final", row.final),
    )  # fmt: skip
    orders = {
        order: None for leg in legs for account in (leg.giver, leg.taker)
        for order in orders_over(read.books, leg.asset, account)
    }  # fmt: skip
    return InstructionStatement(
        _line(identifier, row),
        row.origin.name.lower(),
        row.calendar,
        row.trade_day,
        row.pair,
        row.expires_ms,
        row.rules_version,
        tuple(MomentLine(name, moment.height, moment.time_ms) for name, moment in moments),
        tuple(
            ParticipantLine(account, read.name(party_of(read.books, account)), said.affirmed, said.held, said.cancels)
            for account, said in participants_of(read.books, principal)
        ),
        tuple(orders),
        row.leg_count,
        row.legs_digest,
        tuple(LegLine(leg.giver, leg.taker, leg.asset, read.decimals(leg.asset), leg.amount) for leg in legs),
    )


def _forecast(read: _Reading, fields: Fields) -> Forecast:
    """What settling at its time gives: when the ledger tries it next, not before its day, and not in the past."""
    identifier = fields.binary("instruction", 32)
    row = _require_instruction(read.books, identifier)
    principal = row if row.is_principal else _require_instruction(read.books, row.pair)
    is_tried = principal.due_kind in (DueKind.SETTLE, DueKind.RECYCLE)
    time_ms = max(read.place.time_ms + 1, principal.due_ms if is_tried else 0)
    found = simulate_settlement(
        read.version, identifier, read.place.spec, height=read.place.height + 1, time_ms=time_ms
    )
    return Forecast(identifier, row.is_locked, found.time_ms, int(found.reason), found.rule)


def _require_instruction(books: Books, identifier: bytes) -> InstructionRow:
    row = books.row(InstructionRow, identifier)
    if row is None:
        raise NoView("unknown_instruction", f"there is no instruction {identifier.hex()}")
    return row


def _instructions(read: _Reading, fields: Fields) -> InstructionList:
    """Instructions by identifier behind ``after``: all, or those in which a party takes part."""
    party, after = _optional(fields, "party"), _optional(fields, "after")
    limit = fields.integer("limit", most=_PAGE)
    accounts = read.accounts(party) if party else []
    lines: list[InstructionLine] = []
    for key, row in read.books.rows(InstructionRow, after=after or None):
        if party and not _takes_part(read.books, key, row, accounts):
            continue
        if len(lines) == limit:
            return InstructionList(tuple(lines), lines[-1].id if lines else b"")
        lines.append(_line(key, row))
    return InstructionList(tuple(lines), b"")


def _takes_part(books: Books, identifier: bytes, row: InstructionRow, accounts: list[bytes]) -> bool:
    if row.by in accounts or row.counterparty in accounts:
        return True
    keys = (affirmation_key(identifier, account) for account in accounts)
    return any(books.row(AffirmationRow, key) is not None for key in keys)


def _tasks(read: _Reading, fields: Fields) -> Tasks:
    """What waits for a party. Whatever is open has an item in the queue of due work: that is where this looks."""
    party = fields.binary("party", 32)
    accounts = set(read.accounts(party))
    lines: list[TaskLine] = []
    for key, _ in queries.rows(read.version, Table.DUE):
        item = DueItem.of(key)
        if item.kind in (DueKind.SETTLE, DueKind.RECYCLE, DueKind.INSTRUCTION_EXPIRY):
            lines += _instruction_tasks(read.books, item.reference, accounts)
        elif item.kind is DueKind.ESCROW_EXPIRY:
            lines += _escrow_tasks(read.books, item.reference, accounts)
        elif item.kind is DueKind.PAYMENT_RETRY:
            lines += _payment_tasks(read.books, item.reference, accounts)
    lines.sort(key=lambda line: (line.deadline_ms or U64_MAX, line.reference, line.what, line.account))
    return Tasks(party, read.name(party), read.place.time_ms, tuple(lines))


def _instruction_tasks(books: Books, identifier: bytes, accounts: set[bytes]) -> Iterator[TaskLine]:
    row = books.row(InstructionRow, identifier)
    if row is None or row.is_locked or not row.is_open:
        return
    deadline_ms = row.expires_ms or row.due_ms
    about = f"instruction {row.reference or identifier.hex()[:8]}"
    if row.legs_there < row.leg_count:
        missing = f"{row.leg_count - row.legs_there} of {row.leg_count} legs"
        if row.by in accounts:
            yield TaskLine("add_legs", identifier, row.by, deadline_ms, f"{about} lacks {missing}")
        return
    for account, said in participants_of(books, identifier):
        if account not in accounts:
            continue
        if not said.affirmed:
            yield TaskLine("affirm", identifier, account, deadline_ms, f"{about} waits to be affirmed")
        if said.held:
            yield TaskLine("set_hold", identifier, account, deadline_ms, f"{about} is held back by you")
        if row.cancels and not said.cancels and row.matched is Matched.MATCHED:
            yield TaskLine("cancel", identifier, account, deadline_ms, f"{about} is asked to be cancelled")


def _escrow_tasks(books: Books, identifier: bytes, accounts: set[bytes]) -> Iterator[TaskLine]:
    row = books.row(EscrowRow, identifier)
    if row is None:
        return
    for account in sorted(accounts):
        if account in row.signers or account == row.beneficiary:
            what = f"escrow {identifier.hex()[:8]} can be fulfilled, when its conditions are met"
            yield TaskLine("fulfil_escrow", identifier, account, row.expires_ms, what)


def _payment_tasks(books: Books, identifier: bytes, accounts: set[bytes]) -> Iterator[TaskLine]:
    row = books.row(Payment, identifier)
    if row is None or row.status is not PaymentStatus.WAITING:
        return
    bank = books.asset(row.source_asset)
    concerned = {row.payer} if bank is None else {row.payer, bank.issuer}
    for account in sorted(accounts & concerned):
        what = f"payment {identifier.hex()[:8]} waits for reserves of the payer's bank"
        yield TaskLine("release_payment", identifier, account, row.expires_ms, what)


# --- money, venues, orders, permissions -------------------------------------------------------------------------------


def _money_supply(read: _Reading, fields: Fields) -> MoneySupply:
    """All money by asset, and the totals of each currency. Mirrors are shown, and count in no total."""
    lines, currencies = [], dict[bytes, int]()
    for asset, row in read.books.rows(Asset):
        if row.kind is not AssetKind.MONEY:
            continue
        currencies.setdefault(asset[:12], row.decimals)
        money, attested = read.books.row(Money, asset), read.books.row(Attestation, asset)
        reserves = 0
        if money is not None and money.kind is MoneyKind.BANK:
            reserves = read.books.holding(money.reserve_asset, money.reserve_account).total
        lines.append(
            MoneyLine(
                asset,
                row.decimals,
                "other" if money is None else money.kind.name.lower(),
                row.issuer,
                read.name(party_of(read.books, row.issuer)),
                row.issued,
                row.redeemed,
                row.circulating,
                0 if attested is None else attested.value,
                0 if attested is None else attested.as_of_ms,
                reserves,
                waiting_amount(read.books, asset),
                money is not None and bool(money.quarantined_ms),
                not is_mirror(read.books, asset),
            )
        )
    totals = []
    for instrument, decimals in currencies.items():
        supply = supply_of_money(read.version, instrument.rstrip(b"\0").decode())
        totals.append(
            CurrencyLine(
                supply.currency,
                decimals,
                # Sums over several assets can exceed what one asset can have, and what a statement can say.
                min(U64_MAX, supply.base),
                min(U64_MAX, supply.reserves),
                min(U64_MAX, supply.bank_money),
                min(U64_MAX, supply.held_by_public),
                supply.only_authorised,
            )
        )
    return MoneySupply(tuple(totals), tuple(lines))


def _venue_report(read: _Reading, fields: Fields) -> VenueReport:
    """What became of a venue's instructions. ``after`` and ``limit`` are for the lines; the counts are of all."""
    venue, after = fields.binary("venue", 32), _optional(fields, "after")
    limit = fields.integer("limit", most=_PAGE)
    accounts = set(read.accounts(venue))
    counts = dict.fromkeys(("settled", "failing", "pending", "cancelled"), 0)
    lines: list[InstructionLine] = []
    for key, row in read.books.rows(InstructionRow):
        if row.by not in accounts:
            continue
        ended = row.processing in (Processing.CANCELLED, Processing.REJECTED)
        counts["cancelled" if ended else row.settlement.name.lower()] += 1
        if key > after and len(lines) < limit:
            lines.append(_line(key, row))
    assets = tuple(VenueAsset(key[:16], row.on) for key, row in read.books.rows(Venue) if key[16:] in accounts)
    return VenueReport(venue, read.name(venue), assets, **counts, lines=tuple(lines))


def _orders(read: _Reading, fields: Fields) -> OrderList:
    """Orders of authority by identifier, a page of them behind ``after``."""
    after = _optional(fields, "after")
    lines: list[OrderLine] = []
    for key, row in read.books.rows(OrderRow, after=after or None):
        if len(lines) == _PAGE:
            break
        lines.append(_order_line(key, row))
    return OrderList(tuple(lines))


def _order_line(identifier: bytes, row: OrderRow) -> OrderLine:
    return OrderLine(
        identifier,
        name_of(identifier),
        row.authority,
        row.approver,
        row.power.name.lower(),
        row.status.name.lower(),
        row.party,
        row.account,
        row.asset,
        row.quantity,
        row.expires_ms,
        len(row.appeals),
        row.document,
    )


def _explain(read: _Reading, fields: Fields) -> Decision:
    """What ``permissions.require`` would decide, and by which rule."""
    who, code = fields.binary("who", 32), fields.integer("operation", most=255)
    asset, amount = _optional(fields, "asset", 16), fields.integer("amount")
    if code not in OPERATIONS:
        raise NoView("bad_arguments", f"there is no operation {code}")
    read.require_account(who)
    found = permissions.explain(read.books, read.place, who, code, asset=asset or None, amount=amount)
    return Decision(
        who,
        found.party or b"",
        read.name(found.party),
        found.roles,
        operation_name(OPERATIONS[code]),
        found.allowed,
        found.rule,
        found.why,
        found.article,
        tuple(WeighedLine(item.name, item.effect.name.lower(), item.why_not) for item in found.weighed),
    )


# --- for programs -----------------------------------------------------------------------------------------------------


def _directory(read: _Reading, fields: Fields) -> Directory:
    """Parties with their names, and the accounts that were registered for them, in the order of accounts."""
    after = _optional(fields, "after")
    lines: dict[bytes, DirectoryLine] = {}
    for key, party in read.books.rows(Party, after=after or None):
        if len(lines) == _PAGE:
            break
        lines[key] = DirectoryLine(key, party.name, party.roles, party.lei, party.country, key)
    last = max(lines) if len(lines) == _PAGE else b"\xff" * 32
    for key, row in read.books.rows(Owner, after=after or None):
        if key > last or len(lines) == 2 * _PAGE:
            break
        lines.setdefault(key, DirectoryLine(key, "", (), "", "", row.owner))
    ordered = [lines[key] for key in sorted(lines)][:_PAGE]
    return Directory(tuple(ordered), ordered[-1].account if len(ordered) == _PAGE else b"")


def _signers(read: _Reading, fields: Fields) -> Signers:
    """Who must sign operations, as their rules say on this state. What cannot be said yet is left out."""
    accounts: dict[bytes, None] = {}
    for data in fields.binaries("operations", most=_MOST_SIGNED):
        values = decode(data, limit_bytes=_MOST_OPERATION_BYTES, what="operation")
        code = values[0] if type(values) is tuple and values and type(values[0]) is int else -1
        if code not in OPERATIONS:
            raise PeerFault("there is no such operation", code="unknown_operation")
        kind = OPERATIONS[code]
        operation = kind.read(Fields(values, what=operation_name(kind), count=1 + len(kind.form), version=code))
        try:
            accounts.update(dict.fromkeys(RULES[kind].must_sign(read.books, operation)))
        except Refused:
            continue
    return Signers(tuple(accounts))


VIEWS: Final = MappingProxyType[str, tuple[int, Callable[[_Reading, Fields], Record]]](
    {
        "positions": (1, _positions),
        "investor": (2, _investor),
        "look_through": (3, _look_through),
        "instruction": (1, _instruction),
        "instructions": (3, _instructions),
        "forecast": (1, _forecast),
        "tasks": (1, _tasks),
        "money_supply": (0, _money_supply),
        "venue_report": (3, _venue_report),
        "orders": (1, _orders),
        "explain": (4, _explain),
        "directory": (1, _directory),
        "signers": (1, _signers),
    }
)
"""name -> (number of arguments, the function)."""
