"""Orders of authority: what of them stands, over whom, and which units they hold.

An order has a *scope*: a party with all of its accounts, one account, or everybody; and of these one asset, or every
asset. ORDERS keeps the order as it was made. What of it still has an effect stands in ORDERS_OVER, under the subject
(party, account, or zeros for everybody) and the asset (zeros for every asset), in up to three parts:

    holds      units that stay where they are: of the freezes, and of proceeds that a clawback attached to
    takes      units yet to come that go to the order's target as soon as they are free
    attached   units in a certain spot that an order waits for: what comes back out of it is taken

An order that catches later credits has one row over its subject, whatever that holds, and so an account that a party
gets later inherits it. One that does not is spread, when it is made, over the holdings that are there; it knows the
*base*, how much was in the holding, and never holds more than is left of that. An order whose rows are all gone is
executed; a release, or the end of its time, takes them away.

**Which units are held** is not written down but follows from the rows, each time somebody asks (``holds_on``). Orders
are served one after another: the smaller base first, then those without a base; among equals those over one account
before those over a party, for these can go to its other accounts; then by age. Each takes its quantity from the units
that orders before it have left, bucket by bucket in the order that it names. Therefore

* quantities add up: two freezes of 100 hold 200, because each secures a claim of its own; a freeze of everything
  overlaps with all others, because there is nothing beside everything;
* what is lifted leaves the others as if it had never been, and the one behind moves up to the units before it;
* the result does not depend on the sequence in which orders with like buckets came, nor in which they are lifted.

Whether a held unit may still leave its spot is the table's answer (``powers.py``) for its bucket.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, ClassVar, Final, Self

from p2pledger.ledger.books import Books
from p2pledger.ledger.market.buckets import FREE_SPOT, Spot, amount_in, encumbrances_of, locked_by
from p2pledger.ledger.market.due import DueKind, unschedule
from p2pledger.ledger.market.flags import set_account_flag, set_asset_flag
from p2pledger.ledger.market.parties import MOST_ACCOUNTS, accounts_of, party_of
from p2pledger.ledger.market.powers import TABLE, Outcome
from p2pledger.ledger.rule import Place, Refused
from p2pledger.ledger.tables import NOBODY, AccountFlag, AssetFlag, Table, fields_of
from p2pledger.primitives.codec import U64_MAX, Value, encode
from p2pledger.primitives.market.buckets import Bucket
from p2pledger.primitives.market.orders import Power
from p2pledger.primitives.reasons import Reason

__all__ = [
    "EVERYTHING",
    "EVERY_ASSET",
    "AppealRow",
    "Attachment",
    "Effect",
    "Held",
    "OrderOver",
    "OrderRow",
    "OrderStatus",
    "accounts_under",
    "attached_to",
    "attachments_of",
    "change_over",
    "end_order",
    "holds_on",
    "name_of",
    "orders_over",
    "over_key",
    "refresh_account",
    "spots_of",
    "takes_of",
]

EVERYTHING: Final = U64_MAX
"""A quantity, or a base, without end."""

EVERY_ASSET: Final = bytes(16)
"""No asset: where an order is about all of them."""


class OrderStatus(IntEnum):
    """What has become of an order. The numbers stand in rows of ORDERS."""

    STANDING = 0
    EXECUTED = 1
    LIFTED = 2
    EXPIRED = 3


@dataclass(frozen=True, slots=True)
class Effect:
    """What an order did to units when it was made: one outcome of the table, for one bucket of one holding."""

    account: bytes
    asset: bytes
    bucket: Bucket
    outcome: Outcome
    amount: int


@dataclass(frozen=True, slots=True)
class AppealRow:
    """An appeal: by whom, on which document, when."""

    party: bytes
    document: bytes
    height: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class OrderRow:
    """ORDERS: an order as it was made, and what has become of it.

    ``party``, ``account``, ``asset``, ``target`` and ``lifts`` are empty where none is named. ``over`` names the rows
    of ORDERS_OVER: (subject, asset). ``effects`` says what was taken or attached when the order was made; what a freeze
    holds is not written down (``holds_on``). ``ended_ms`` is 0 while it stands.
    """

    table: ClassVar[Table] = Table.ORDERS

    power: Power
    authority: bytes
    approver: bytes
    party: bytes
    account: bytes
    asset: bytes
    quantity: int
    document: bytes
    entered_height: int
    entered_ms: int
    expires_ms: int
    appeal_until_ms: int
    consumes: tuple[Bucket, ...]
    catches_later: bool
    target: bytes
    lifts: bytes
    status: OrderStatus = OrderStatus.STANDING
    ended_height: int = 0
    ended_ms: int = 0
    over: tuple[tuple[bytes, bytes], ...] = ()
    effects: tuple[Effect, ...] = ()
    appeals: tuple[AppealRow, ...] = ()

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """The buckets that it reaches, in the order in which it consumes them."""
        return self.consumes or tuple(Bucket)

    @property
    def takes(self) -> bool:
        """Whether it gives units to a target."""
        return self.power in (Power.CLAWBACK, Power.FORCED_TRANSFER)

    def stands_at(self, time_ms: int) -> bool:
        return self.status is OrderStatus.STANDING and not (self.expires_ms and time_ms > self.expires_ms)

    def encode(self) -> bytes:
        head = (
            int(self.power), self.authority, self.approver, self.party, self.account, self.asset, self.quantity,
            self.document, self.entered_height, self.entered_ms, self.expires_ms, self.appeal_until_ms,
            [int(bucket) for bucket in self.consumes], self.catches_later, self.target, self.lifts, int(self.status),
            self.ended_height, self.ended_ms,
        )  # fmt: skip
        effects = [
            (line.account, line.asset, int(line.bucket), int(line.outcome), line.amount) for line in self.effects
        ]
        appeals = [(line.party, line.document, line.height, line.time_ms) for line in self.appeals]
        return encode((1, *head, self.over, effects, appeals))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        values: list[Any] = list(fields_of(row, "ORDERS", 22))
        values[0], values[16] = Power(values[0]), OrderStatus(values[16])
        values[12] = tuple(Bucket(bucket) for bucket in values[12])
        values[20] = tuple(Effect(at, of, Bucket(bucket), Outcome(end), n) for at, of, bucket, end, n in values[20])
        values[21] = tuple(AppealRow(*line) for line in values[21])
        return cls(*values)


@dataclass(frozen=True, slots=True)
class Attachment:
    """Units in a spot that an order waits for: ``amount`` of the ``reserved`` that lay there when it was made."""

    spot: Spot
    amount: int
    reserved: int


@dataclass(frozen=True, slots=True)
class OrderOver:
    """ORDERS_OVER: what an order has over a subject and an asset. A row that says nothing is not kept.

    ``holds``, ``base``, ``takes`` and ``attached`` are about the account that the subject is. ``all_hold`` and
    ``all_take`` are about all accounts of the party that the subject is; of the subject zeros, about everybody.
    """

    table: ClassVar[Table] = Table.ORDERS_OVER

    holds: int = 0
    base: int = EVERYTHING
    takes: int = 0
    all_hold: int = 0
    all_take: int = 0
    attached: tuple[Attachment, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.holds or self.takes or self.all_hold or self.all_take or self.attached)

    @property
    def reaches_account(self) -> bool:
        """Whether it says something about the account that the subject is."""
        return bool(self.holds or self.takes or self.attached)

    @property
    def reaches_all(self) -> bool:
        """Whether it says something about all accounts of the subject."""
        return bool(self.all_hold or self.all_take)

    def encode(self) -> bytes:
        attached: list[Value] = [
            (int(item.spot.bucket), item.spot.reference, item.amount, item.reserved) for item in self.attached
        ]
        return encode((1, self.holds, self.base, self.takes, self.all_hold, self.all_take, attached))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        holds, base, takes, all_hold, all_take, attached = fields_of(row, "ORDERS_OVER", 6)
        rows = [(Spot(Bucket(bucket), reference), amount, of) for bucket, reference, amount, of in attached]
        return cls(holds, base, takes, all_hold, all_take, tuple(Attachment(*item) for item in rows))


def over_key(subject: bytes, asset: bytes, order: bytes) -> bytes:
    """What lies over one subject is together."""
    return subject + asset + order


def name_of(order: bytes) -> str:
    """How refusals name an order: `order` and the first eight digits of its identifier."""
    return f"order {order.hex()[:8]}"


# What there is --------------------------------------------------------------------------------------------------------


def spots_of(books: Books, asset: bytes, account: bytes) -> list[tuple[Spot, int]]:
    """Where the units of a holding lie, by bucket, then by reference; no spot is empty."""
    free = books.holding(asset, account).free
    spots = [*locked_by(books, asset, account), *encumbrances_of(books, asset, account)]
    spots.sort(key=lambda spot: (spot[0].bucket, spot[0].reference))
    return [(FREE_SPOT, free), *spots] if free else spots


def accounts_under(books: Books, party: bytes) -> list[bytes]:
    """All accounts of a party. ``order_too_wide`` where they are more than one order can reach."""
    accounts = []
    for account in accounts_of(books, party):
        accounts.append(account)
        if len(accounts) > MOST_ACCOUNTS:
            raise Refused(Reason.ORDER_TOO_WIDE)
    return accounts


def _rows_over(books: Books, asset: bytes, account: bytes) -> Iterator[tuple[bytes, bytes, bytes, OrderOver]]:
    """(order, subject, asset of the key, row) of all that lies over a holding: its account, its party, everybody."""
    party = party_of(books, account)
    for subject in dict.fromkeys((account, NOBODY if party is None else party, NOBODY)):
        for named in (asset, EVERY_ASSET):
            for key, row in books.rows(OrderOver, subject + named):
                if row.reaches_all or subject == account:
                    yield key[48:], subject, named, row


def orders_over(books: Books, asset: bytes, account: bytes) -> tuple[bytes, ...]:
    """The orders that reach a holding in whatever way, by identifier."""
    return tuple(sorted({order for order, _, _, _ in _rows_over(books, asset, account)}))


# Which units are held -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Held:
    """Units in a spot that an order holds, and what the table says of them there."""

    order: bytes
    spot: Spot
    amount: int
    outcome: Outcome

    @property
    def stay(self) -> bool:
        """Whether they cannot leave the spot but to the owner's free units."""
        return self.outcome is Outcome.EFFECTIVE_NOW


@dataclass(frozen=True, slots=True)
class _Hold:
    """A quantity that an order wants held, over these accounts."""

    identifier: bytes
    order: OrderRow
    accounts: tuple[bytes, ...]
    is_wide: bool
    quantity: int
    base: int

    @property
    def turn(self) -> tuple[int, bool, int, bytes]:
        return self.base, self.is_wide, self.order.entered_height, self.identifier


class _Spots:
    """The spots of a holding, each bucket read when it is first looked at: most orders end in the free units.

    Somebody may have many thousands of locks and escrows, and who is under an order may go on making them.
    """

    def __init__(self, books: Books, asset: bytes, account: bytes) -> None:
        self._books, self._asset, self._account = books, asset, account
        self._others: dict[Bucket, list[tuple[Spot, int]]] | None = None
        self._read: dict[Bucket, list[tuple[Spot, int]]] = {}

    def in_bucket(self, bucket: Bucket) -> list[tuple[Spot, int]]:
        """As ``spots_of``, for one bucket."""
        if bucket not in self._read:
            self._read[bucket] = self._look(bucket)
        return self._read[bucket]

    def _look(self, bucket: Bucket) -> list[tuple[Spot, int]]:
        books, asset, account = self._books, self._asset, self._account
        if bucket is Bucket.FREE:
            free = books.holding(asset, account).free
            return [(FREE_SPOT, free)] if free else []
        if bucket is Bucket.LOCKED:
            return list(locked_by(books, asset, account))
        if self._others is None:
            self._others = {}
            for spot, amount in encumbrances_of(books, asset, account):
                self._others.setdefault(spot.bucket, []).append((spot, amount))
        return self._others.get(bucket, [])


def holds_on(books: Books, place: Place, asset: bytes, account: bytes, only: Spot | None = None) -> list[Held]:
    """The units of a holding that orders hold at this time, spot by spot in the order in which orders were served.

    With ``only`` those in this spot; then no more is looked at than that needs.
    """
    over = list(_rows_over(books, asset, account))
    if not any(row.holds or row.all_hold for _, _, _, row in over):
        return []
    accounts = [account]
    if any(0 < row.all_hold < EVERYTHING for _, _, _, row in over):
        # A quantity over a party is one over all of its accounts together: they are looked at together.
        party = party_of(books, account)
        assert party is not None, "the state is broken: an order over a party reaches an account of nobody"
        accounts = list(accounts_of(books, party))
        known = {(order, subject, named) for order, subject, named, _ in over}
        for other in accounts:
            if other != account:
                more = _rows_over(books, asset, other)
                over += [item for item in more if item[:3] not in known and item[1] == other]
    spots = {each: _Spots(books, asset, each) for each in accounts}
    taken: dict[tuple[bytes, Spot], int] = {}
    held_of = dict.fromkeys(accounts, 0)
    left_only = None if only is None else amount_in(books, asset, account, only)
    exhausted: set[tuple[bytes, Bucket]] = set()
    result: list[Held] = []

    def hold_in(hold: _Hold, each: bytes, spot: Spot, amount: int, wanted: int, outcome: Outcome) -> int:
        nonlocal left_only
        part = min(wanted, amount - taken.get((each, spot), 0))
        if part:
            taken[each, spot] = taken.get((each, spot), 0) + part
            held_of[each] += part
            if each == account and only in (None, spot):
                result.append(Held(hold.identifier, spot, part, outcome))
                left_only = None if left_only is None else left_only - part
        return part

    for hold in sorted(_holds(books, place, over, tuple(accounts)), key=lambda hold: hold.turn):
        if left_only == 0:
            break
        wanted = hold.quantity
        if hold.base < EVERYTHING:
            wanted = min(wanted, max(0, hold.base - sum(held_of[each] for each in hold.accounts)))
        # Of an order that takes, only proceeds are held, and they are where they came in.
        buckets = (Bucket.FREE,) if hold.order.takes else hold.order.buckets
        power = Power.PARTIAL_FREEZE if hold.order.takes else hold.order.power
        buckets = tuple(bucket for bucket in buckets if TABLE[bucket, power] is not Outcome.REFUSED)
        if only is not None and wanted == EVERYTHING:
            # It holds all that is left in its buckets, however much that is. Those behind it have no base, so that
            # they need not know how much.
            if only.bucket in buckets and account in hold.accounts:
                there = amount_in(books, asset, account, only)
                hold_in(hold, account, only, there, wanted, TABLE[only.bucket, power])
            exhausted.update((each, bucket) for each in hold.accounts for bucket in buckets)
            continue
        for bucket in buckets:
            for each in hold.accounts:
                if not wanted or left_only == 0:
                    break
                if (each, bucket) in exhausted:
                    continue
                for spot, amount in spots[each].in_bucket(bucket):
                    wanted -= hold_in(hold, each, spot, amount, wanted, TABLE[bucket, power])
                    if not wanted or left_only == 0:
                        break
    return result


def _holds(
    books: Books, place: Place, over: Iterable[tuple[bytes, bytes, bytes, OrderOver]], accounts: tuple[bytes, ...]
) -> Iterator[_Hold]:
    for identifier, subject, _, row in over:
        if not (row.holds or row.all_hold):
            continue
        order = books.row(OrderRow, identifier)
        assert order is not None, "the state is broken: what lies over a holding is no order"
        if not order.stands_at(place.time_ms):
            continue
        if row.holds and subject in accounts:
            yield _Hold(identifier, order, (subject,), False, row.holds, row.base)
        if row.all_hold:
            yield _Hold(identifier, order, accounts, True, row.all_hold, EVERYTHING)


# What is to be taken --------------------------------------------------------------------------------------------------


def attachments_of(
    books: Books, place: Place, account: bytes, asset: bytes = b""
) -> list[tuple[bytes, bytes, OrderRow, OrderOver]]:
    """(order, asset, its row, what it has) of the orders that wait for units in encumbrances of an account, by age."""
    found = []
    for key, row in books.rows(OrderOver, account + asset):
        if row.attached:
            order = books.row(OrderRow, key[48:])
            assert order is not None, "the state is broken: what lies over a holding is no order"
            if order.stands_at(place.time_ms):
                found.append((key[48:], key[32:48], order, row))
    return sorted(found, key=lambda item: (item[2].entered_height, item[0]))


def attached_to(books: Books, asset: bytes, account: bytes) -> dict[Spot, int]:
    """How many of the units in each spot of a holding orders wait for already; no entry where there are none."""
    attached: dict[Spot, int] = {}
    for _, row in books.rows(OrderOver, account + asset):
        for item in row.attached:
            attached[item.spot] = attached.get(item.spot, 0) + item.amount
    return attached


def takes_of(
    books: Books, place: Place, asset: bytes, account: bytes
) -> list[tuple[bytes, bytes, bytes, OrderRow, OrderOver]]:
    """(order, subject, asset of the key, its row, what it has) of the orders that take what comes in, by age."""
    found = []
    for identifier, subject, named, row in _rows_over(books, asset, account):
        if row.all_take or (row.takes and subject == account):
            order = books.row(OrderRow, identifier)
            assert order is not None, "the state is broken: what lies over a holding is no order"
            if order.stands_at(place.time_ms):
                found.append((identifier, subject, named, order, row))
    return sorted(found, key=lambda item: (item[3].entered_height, item[0]))


# Changing it ----------------------------------------------------------------------------------------------------------


def change_over(books: Books, place: Place, identifier: bytes, subject: bytes, asset: bytes, row: OrderOver) -> None:
    """Writes what an order has over a subject from now on, and keeps flags and the order's own list in step.

    An order that takes and has nothing left to wait for is executed.
    """
    order = books.row(OrderRow, identifier)
    assert order is not None, "the state is broken: what lies over a holding is no order"
    key = over_key(subject, asset, identifier)
    before = books.row(OrderOver, key) or OrderOver()
    there = (subject, asset) in order.over
    if row.is_empty:
        books.put(OrderOver, key, None)
        if there:
            order = replace(order, over=tuple(item for item in order.over if item != (subject, asset)))
            if order.takes and not order.over and order.status is OrderStatus.STANDING:
                order = _ended(books, place, identifier, order, OrderStatus.EXECUTED)
            books.put(OrderRow, identifier, order)
    else:
        books.put(OrderOver, key, row)
        if not there:
            books.put(OrderRow, identifier, replace(order, over=(*order.over, (subject, asset))))
    if before.reaches_all != row.reaches_all:
        _refresh_all(books, subject, asset)
    elif before.reaches_account != row.reaches_account:
        refresh_account(books, subject)


def end_order(books: Books, place: Place, identifier: bytes, order: OrderRow, status: OrderStatus) -> None:
    """Takes away all that is left of an order."""
    books.put(OrderRow, identifier, replace(_ended(books, place, identifier, order, status), over=()))
    wide, narrow = [], {}
    for subject, asset in order.over:
        key = over_key(subject, asset, identifier)
        row = books.row(OrderOver, key)
        if row is not None and row.reaches_all:
            wide.append((subject, asset))
        else:
            narrow[subject] = True
        books.put(OrderOver, key, None)
    for subject, asset in wide:
        _refresh_all(books, subject, asset)
    for subject in narrow:
        refresh_account(books, subject)


def _ended(books: Books, place: Place, identifier: bytes, order: OrderRow, status: OrderStatus) -> OrderRow:
    if order.expires_ms:
        unschedule(books, min(order.expires_ms + 1, U64_MAX), DueKind.ORDER_EXPIRY, identifier)
    return replace(order, status=status, ended_height=place.height, ended_ms=place.time_ms)


def _refresh_all(books: Books, subject: bytes, asset: bytes) -> None:
    """Sets or clears the flags of all accounts of a party, or of an asset that an order is about for everybody."""
    if subject == NOBODY:
        reached = any(True for _ in books.rows(OrderOver, NOBODY + asset))
        set_asset_flag(books, asset, AssetFlag.ORDERED, reached)
        return
    for account in list(accounts_of(books, subject)):
        refresh_account(books, account)


def refresh_account(books: Books, account: bytes) -> None:
    """Sets or clears an account's flag by what lies over it and its party: after orders change, and owners do."""
    reached = any(row.reaches_account for _, row in books.rows(OrderOver, account))
    party = party_of(books, account)
    if party is not None and not reached:
        reached = any(row.reaches_all for _, row in books.rows(OrderOver, party))
    set_account_flag(books, account, AccountFlag.ORDERED, reached)
