"""Standing offers: something for something, with whoever takes it, at once.

All that an offer gives is set aside when it is placed (bucket ESCROWED, under the offer's identifier): it cannot be
promised twice, and whoever takes it can rely on it. Taking moves both sides in one operation, or neither; guards are
asked then, for both sides. What nobody takes goes back when it is withdrawn or has expired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

from p2pledger.ledger.books import Books
from p2pledger.ledger.market import permissions
from p2pledger.ledger.market.buckets import FREE_SPOT, Bucket, Spot
from p2pledger.ledger.market.due import DueKind, schedule, unschedule
from p2pledger.ledger.market.instructions import same_party
from p2pledger.ledger.market.movement import Cause, Movement, move
from p2pledger.ledger.rule import Place, Refused, Rule, require_account, require_amount, require_asset, require_room
from p2pledger.ledger.tables import Table, fields_of
from p2pledger.primitives.codec import U64_MAX, encode
from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.offers import PlaceOffer, TakeOffer, WithdrawOffer
from p2pledger.primitives.reasons import Reason

__all__ = ["RULES", "OfferRow", "end_offer", "expire_offer"]


@dataclass(frozen=True, slots=True)
class OfferRow:
    """OFFERS: amounts are those of one lot; ``lots`` are left. An offer without lots is not kept."""

    table: ClassVar[Table] = Table.OFFERS

    by: bytes
    gives: bytes
    gives_amount: int
    takes: bytes
    takes_amount: int
    lots: int
    expires_ms: int
    taker: bytes
    placed_height: int
    placed_ms: int

    def encode(self) -> bytes:
        return encode(
            (
                1,
                self.by,
                self.gives,
                self.gives_amount,
                self.takes,
                self.takes_amount,
                self.lots,
                self.expires_ms,
                self.taker,
                self.placed_height,
                self.placed_ms,
            )
        )

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "OFFERS", 10))


def _require_offer(books: Books, identifier: bytes) -> OfferRow:
    row = books.row(OfferRow, identifier)
    if row is None:
        raise Refused(Reason.UNKNOWN_OFFER)
    return row


class PlaceOfferRule:
    """Offers lots of one asset for another; all that is given is set aside at once.

    who may     everybody for an account of his own
    signed by   by
    needs       an unused salt; two assets; an expiry to come; all that is given among the free units
    changes     what is given moves from free to escrowed; the offer, and its expiry in the queue
    refuses     overflow, not_permitted, identifier_used, zero_amount, unknown_asset, unknown_account, self_trade,
                late, insufficient_free, the guards
    """

    def must_sign(self, books: Books, operation: PlaceOffer) -> Iterator[bytes]:
        yield operation.by

    def execute(self, books: Books, operation: PlaceOffer, place: Place) -> None:
        require_room(0, operation.gives_amount * operation.lots)
        given = operation.gives_amount * operation.lots
        permissions.require(books, place, operation.by, operation.code, asset=operation.gives, amount=given)
        identifier = operation.id
        if books.row(OfferRow, identifier) is not None:
            raise Refused(Reason.IDENTIFIER_USED)
        require_amount(operation.gives_amount)
        require_amount(operation.takes_amount)
        require_room(0, operation.takes_amount * operation.lots)
        require_asset(books, operation.takes)
        if operation.gives == operation.takes:
            raise Refused(Reason.SELF_TRADE)
        if operation.taker:
            require_account(books, operation.taker)
            if same_party(books, operation.by, operation.taker):
                raise Refused(Reason.SELF_TRADE)
        if place.time_ms > operation.expires_ms:
            raise Refused(Reason.LATE, "expiry of the offer")
        spot = Spot(Bucket.ESCROWED, identifier)
        move(
            books,
            place,
            Movement(operation.gives, operation.by, FREE_SPOT, operation.by, spot, given, Cause.OWNER, operation.code),
        )
        row = OfferRow(
            operation.by,
            operation.gives,
            operation.gives_amount,
            operation.takes,
            operation.takes_amount,
            operation.lots,
            operation.expires_ms,
            operation.taker,
            place.height,
            place.time_ms,
        )
        books.put(OfferRow, identifier, row)
        schedule(books, _expiry_ms(row), DueKind.OFFER_EXPIRY, identifier)


def _expiry_ms(row: OfferRow) -> int:
    return min(row.expires_ms + 1, U64_MAX)


class TakeOfferRule:
    """Takes lots of an offer: both sides change hands at once, or neither.

    who may     everybody for an account of his own; the one whom the offer names, if it names one
    signed by   by
    needs       an offer that has not expired, of another party, with so many lots left; the price among the free units
    changes     the price to who made the offer, what it gives to who takes it; fewer lots, or no offer any more
    refuses     unknown_offer, not_permitted, late, not_a_participant, self_trade, insufficient_encumbered,
                insufficient_free, the guards
    """

    def must_sign(self, books: Books, operation: TakeOffer) -> Iterator[bytes]:
        yield operation.by

    def execute(self, books: Books, operation: TakeOffer, place: Place) -> None:
        row = _require_offer(books, operation.offer)
        # Lots that are not there are judged below; more than 64 bits of them are not there either.
        price = min(row.takes_amount * operation.lots, U64_MAX)
        permissions.require(books, place, operation.by, operation.code, asset=row.takes, amount=price)
        if place.time_ms > row.expires_ms:
            raise Refused(Reason.LATE, "expiry of the offer")
        if row.taker and operation.by != row.taker:
            raise Refused(Reason.NOT_A_PARTICIPANT)
        if same_party(books, operation.by, row.by):
            raise Refused(Reason.SELF_TRADE)
        if operation.lots > row.lots:
            raise Refused(Reason.INSUFFICIENT_ENCUMBERED, f"{row.lots} lots are left")
        given = row.gives_amount * operation.lots
        spot, code = Spot(Bucket.ESCROWED, operation.offer), operation.code
        move(books, place, Movement(row.takes, operation.by, FREE_SPOT, row.by, FREE_SPOT, price, Cause.OWNER, code))
        move(books, place, Movement(row.gives, row.by, spot, operation.by, FREE_SPOT, given, Cause.OWNER, code))
        if operation.lots < row.lots:
            books.put(OfferRow, operation.offer, replace(row, lots=row.lots - operation.lots))
        else:
            books.put(OfferRow, operation.offer, None)
            unschedule(books, _expiry_ms(row), DueKind.OFFER_EXPIRY, operation.offer)


class WithdrawOfferRule:
    """Takes back what of an offer nobody has taken.

    who may     who made the offer
    signed by   by
    needs       the offer
    changes     what is left moves from escrowed to free; there is no offer any more
    refuses     not_permitted, unknown_offer, not_a_participant
    """

    def must_sign(self, books: Books, operation: WithdrawOffer) -> Iterator[bytes]:
        yield operation.by

    def execute(self, books: Books, operation: WithdrawOffer, place: Place) -> None:
        permissions.require(books, place, operation.by, operation.code)
        row = _require_offer(books, operation.offer)
        if operation.by != row.by:
            raise Refused(Reason.NOT_A_PARTICIPANT)
        end_offer(books, place, operation.offer, row, operation.code)


def end_offer(books: Books, place: Place, identifier: bytes, row: OfferRow, operation: int) -> None:
    """What is left of an offer goes back to its maker's free units."""
    spot, left = Spot(Bucket.ESCROWED, identifier), row.gives_amount * row.lots
    move(books, place, Movement(row.gives, row.by, spot, row.by, FREE_SPOT, left, Cause.RETURN, operation))
    books.put(OfferRow, identifier, None)
    unschedule(books, _expiry_ms(row), DueKind.OFFER_EXPIRY, identifier)


def expire_offer(books: Books, place: Place, reference: bytes) -> int:
    """Due work: an offer that has expired is given back. No order of authority forbids a return to its owner."""
    row = books.row(OfferRow, reference)
    if row is not None:
        end_offer(books, place, reference, row, 0)
    return 1


RULES: Final[Mapping[type[Operation], Rule[Any]]] = MappingProxyType(
    {PlaceOffer: PlaceOfferRule(), TakeOffer: TakeOfferRule(), WithdrawOffer: WithdrawOfferRule()}
)
