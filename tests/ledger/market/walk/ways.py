"""An independent model of buckets: by which ways units may leave one, or come into one.

A *spot* is a bucket of a holding and the reference under which units lie there. The model knows no rule of the ledger;
it knows the closed list of ways below. For every block it reads from the rows before and after what each spot lost and
won, and adds up what the operations that succeeded, and the due work whose time had come, may have moved at most:

    from        by                                                            to
    free        transfer, take_offer (the price), a settlement not locked     the other side's free units
                lock, lock_instruction, place_offer, open_escrow, pay_across  locked, settling, escrowed, pending
                redeem, cross, pay_across (money, and reserves)               nowhere, the other register, the bank
                clawback and forced transfer                                  the order's target
    locked      release, by the controller that it names                      the owner's free units
                forced transfer                                               the target, under the same controller
    settling    settle, or its due work                                       the takers of its legs
    escrowed    take_offer, withdraw_offer, the offer's expiry; fulfil_,      the taker or beneficiary; the owner's free
                return_escrow, the escrow's expiry; clawback (offers) and     units; the order's target
                forced transfer
    pending     release_payment, cancel_payment, due work on its queue;       nowhere, the owner's free units; the
                clawback and forced transfer                                  order's target

What is not in this list is a trespass. An account may hold more of an asset only if one of these ways leads to it, or
an order that takes what comes in elsewhere names it as its target.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from p2pledger import core
from p2pledger.ledger.books import Books
from p2pledger.ledger.market.buckets import Bucket, Encumbrance
from p2pledger.ledger.market.due import DueItem, DueKind
from p2pledger.ledger.market.escrow import EscrowRow
from p2pledger.ledger.market.instructions import InstructionRow, LegRow
from p2pledger.ledger.market.money import Money
from p2pledger.ledger.market.offers import OfferRow
from p2pledger.ledger.market.orders import OrderRow
from p2pledger.ledger.market.parties import accounts_of
from p2pledger.ledger.market.payments import Payment, PaymentStatus, queue_of
from p2pledger.ledger.queries import rows
from p2pledger.ledger.tables import Holding, Lock, Table
from p2pledger.primitives.market import escrow, instructions, links, money, offers, orders
from p2pledger.primitives.market.orders import Power
from p2pledger.primitives.transactions import Issue, Operation, Redeem, Release, Transfer
from p2pledger.primitives.transactions import Lock as LockUnits

FREE, LOCKED, SETTLING, ESCROWED, PENDING = Bucket
Spot = tuple[bytes, bytes, Bucket, bytes]
"""Asset, account, bucket, reference."""


@dataclass(frozen=True, slots=True)
class Act:
    """An operation that succeeded."""

    operation: Operation


@dataclass
class Ways:
    """What may have happened: the most that each spot may have lost and won, and who may hold more of what."""

    out: Counter[Spot] = field(default_factory=Counter)
    into: Counter[Spot] = field(default_factory=Counter)
    gains: set[tuple[bytes, bytes]] = field(default_factory=set)

    def leave(self, asset: bytes, account: bytes, bucket: Bucket, amount: int, reference: bytes = b"") -> None:
        self.out[asset, account, bucket, reference] += amount

    def enter(self, asset: bytes, account: bytes, bucket: Bucket, amount: int, reference: bytes) -> None:
        self.into[asset, account, bucket, reference] += amount

    def set_aside(self, asset: bytes, account: bytes, bucket: Bucket, amount: int, reference: bytes) -> None:
        self.leave(asset, account, FREE, amount)
        self.enter(asset, account, bucket, amount, reference)


_free_of = lru_cache(maxsize=4_096)(lambda row: Holding.decode(row).free)
_locked_of = lru_cache(maxsize=4_096)(lambda row: Lock.decode(row).amount)
_encumbrance_of = lru_cache(maxsize=4_096)(Encumbrance.decode)


def spots(version: core.Version) -> dict[Spot, int]:
    """Where all units lie, from the rows. A holding without free units keeps its free spot, of zero."""
    found: dict[Spot, int] = {
        (row_key[:16], row_key[16:], FREE, b""): _free_of(row) for row_key, row in rows(version, Table.HOLDINGS)
    }
    for row_key, row in rows(version, Table.LOCKS):
        found[row_key[:16], row_key[16:48], LOCKED, row_key[48:]] = _locked_of(row)
    for row_key, row in rows(version, Table.ENCUMBRANCES):
        held = _encumbrance_of(row)
        found[row_key[:16], row_key[16:48], held.bucket, row_key[48:]] = held.amount
    return found


def trespasses(
    before: core.Version,
    after: core.Version,
    old: Mapping[Spot, int],
    new: Mapping[Spot, int],
    acts: Sequence[Act],
    due: Sequence[DueItem],
) -> tuple[int, list[str]]:
    """How many spots changed between two versions, of which these are the spots, and what of it happened on no way that
    there is, in sentences."""
    changes = {spot: new.get(spot, 0) - old.get(spot, 0) for spot in old.keys() | new.keys()}
    changes = {spot: change for spot, change in changes.items() if change}
    if not changes:
        return 0, []
    ways = _Walked(old, Books(before), Books(after), acts).ways(due)
    wrong = []
    held: Counter[tuple[bytes, bytes]] = Counter()
    for spot, change in changes.items():
        held[spot[0], spot[1]] += change
        name = f"{spot[2].name.lower()} {spot[0].decode('latin-1')} of {spot[1].hex()[:8]} under {spot[3].hex()[:8]}"
        if change < -ways.out[spot] and change < 0:
            wrong.append(f"{-change} left {name}, and at most {ways.out[spot]} may")
        if change > 0 and spot[2] is not FREE and change > ways.into[spot]:
            wrong.append(f"{change} came into {name}, and at most {ways.into[spot]} may")
    for (asset, account), change in held.items():
        if change > 0 and (asset, account) not in ways.gains and account not in _targets(before, after):
            wrong.append(f"{account.hex()[:8]} has {change} of {asset.decode('latin-1')} more, and no way leads there")
    return len(changes), wrong


def _targets(before: core.Version, after: core.Version) -> set[bytes]:
    """The targets of orders that take: they may pass on at once whatever comes in."""
    return {row.target for version in (before, after) for _, row in Books(version).rows(OrderRow) if row.takes}


@dataclass
class _Walked:
    """The rows on both sides of a block, and what was done in it."""

    spots: Mapping[Spot, int]
    before: Books
    after: Books
    acts: Sequence[Act]
    found: Ways = field(default_factory=Ways)

    def row(self, kind: Any, row_key: bytes) -> Any:
        """As it was before the block, or, if it came in it, as it is now."""
        row = self.before.row(kind, row_key)
        return self.after.row(kind, row_key) if row is None else row

    def ways(self, due: Sequence[DueItem]) -> Ways:
        for item in due:
            match item.kind:
                case DueKind.SETTLE | DueKind.RECYCLE:
                    self._settlement(item.reference)
                case DueKind.OFFER_EXPIRY:
                    self._offer_back(item.reference)
                case DueKind.ESCROW_EXPIRY:
                    self._escrow_out(item.reference)
                case DueKind.PAYMENT_RETRY:
                    self._queues(self.row(Payment, item.reference).source_asset)
        for act in self.acts:
            self._act(act.operation)
        return self.found

    def _act(self, act: Operation) -> None:
        ways = self.found
        match act:
            case Transfer():
                ways.leave(act.asset, act.source, FREE, act.amount)
                ways.gains.add((act.asset, act.target))
            case LockUnits():
                ways.set_aside(act.asset, act.account, LOCKED, act.amount, act.controller)
            case Release():
                ways.leave(act.asset, act.account, LOCKED, act.amount, act.controller)
            case Issue():
                ways.gains.add((act.asset, act.target))
            case Redeem():
                ways.leave(act.asset, act.source, FREE, act.amount)
            case instructions.LockInstruction():
                identifier = self._principal(act.instruction)
                for leg in self._legs(identifier):
                    ways.set_aside(leg.asset, leg.giver, SETTLING, leg.amount, identifier)
            case instructions.Settle():
                self._settlement(self._principal(act.instruction))
            case offers.PlaceOffer():
                ways.set_aside(act.gives, act.by, ESCROWED, act.gives_amount * act.lots, act.id)
            case offers.TakeOffer():
                offer = self._offer(act.offer)
                ways.leave(offer.takes, act.by, FREE, offer.takes_amount * act.lots)
                ways.leave(offer.gives, offer.by, ESCROWED, offer.gives_amount * act.lots, act.offer)
                ways.gains |= {(offer.takes, offer.by), (offer.gives, act.by)}
            case offers.WithdrawOffer():
                self._offer_back(act.offer)
            case escrow.OpenEscrow():
                ways.set_aside(act.asset, act.account, ESCROWED, act.amount, act.id)
            case escrow.FulfilEscrow() | escrow.ReturnEscrow():
                self._escrow_out(act.escrow, is_fulfilled=isinstance(act, escrow.FulfilEscrow))
            case money.PayAcross():
                ways.set_aside(act.source_asset, act.payer, PENDING, act.amount, act.id)
                self._paid(self.row(Payment, act.id))
            case money.ReleasePayment():
                self._queue(self.row(Payment, act.payment).source_asset)
            case money.CancelPayment():
                payment = self.row(Payment, act.payment)
                ways.leave(payment.source_asset, payment.payer, PENDING, payment.amount, act.payment)
            case links.Cross():
                ways.leave(act.asset, act.account, FREE, act.amount)
                ways.gains.add((act.target, act.account))
            case orders.Order(power=Power.CLAWBACK | Power.FORCED_TRANSFER):
                self._order(act)

    def _principal(self, identifier: bytes) -> bytes:
        row = self.row(InstructionRow, identifier)
        return identifier if row.is_principal else bytes(row.pair)

    def _legs(self, identifier: bytes) -> Iterator[LegRow]:
        return (row for _, row in self.after.rows(LegRow, identifier))

    def _settlement(self, identifier: bytes) -> None:
        """Of a locked instruction from what is set aside alone; of another from free units."""
        row = self.before.row(InstructionRow, identifier)
        was_locked = row is not None and row.is_locked
        locked_now = any(
            isinstance(act.operation, instructions.LockInstruction)
            and self._principal(act.operation.instruction) == identifier
            for act in self.acts
        )
        for leg in self._legs(identifier):
            if was_locked or locked_now:
                self.found.leave(leg.asset, leg.giver, SETTLING, leg.amount, identifier)
            else:
                self.found.leave(leg.asset, leg.giver, FREE, leg.amount)
            self.found.gains.add((leg.asset, leg.taker))

    def _offer(self, identifier: bytes) -> OfferRow:
        row = self.row(OfferRow, identifier)
        if row is not None:
            return row  # type: ignore[no-any-return]
        # It came and went in this block.
        for act in self.acts:
            made = act.operation
            if isinstance(made, offers.PlaceOffer) and made.id == identifier:
                return OfferRow(
                    made.by, made.gives, made.gives_amount, made.takes, made.takes_amount, made.lots,
                    made.expires_ms, made.taker, 0, 0,
                )  # fmt: skip
        raise AssertionError("an offer that nobody made was taken")

    def _offer_back(self, identifier: bytes) -> None:
        offer = self._offer(identifier)
        self.found.leave(offer.gives, offer.by, ESCROWED, offer.gives_amount * offer.lots, identifier)

    def _escrow_out(self, identifier: bytes, *, is_fulfilled: bool = False) -> None:
        row = self.row(EscrowRow, identifier)
        for owner, amount in row.parts:
            self.found.leave(row.asset, owner, ESCROWED, amount, identifier)
        if is_fulfilled:
            self.found.gains.add((row.asset, row.beneficiary))

    def _queues(self, asset: bytes) -> None:
        """A queue on which due work is done, and those that it wakes: reserves go from bank to bank in one block."""
        worked, woken = set(), {asset}
        while woken - worked:
            asset = min(woken - worked)
            worked.add(asset)
            woken |= self._queue(asset)

    def _queue(self, asset: bytes) -> set[bytes]:
        """All that waits in a queue may be made or returned; what leaves it does so whole, and waits no more. Returned:
        the money of the banks that got reserves."""
        reached = set()
        for identifier, _ in queue_of(self.before, asset):
            payment = self.before.row(Payment, identifier)
            now = self.after.row(Payment, identifier)
            assert payment is not None
            assert now is not None
            if now.status is not PaymentStatus.WAITING:
                self.found.leave(asset, payment.payer, PENDING, payment.amount, identifier)
                self._paid(now)
                if now.status is PaymentStatus.SETTLED:
                    reached.add(now.target_asset)
        return reached

    def _paid(self, payment: Payment) -> None:
        """Burnt here, reserves from bank to bank, minted there; nothing of it where it was not made."""
        if payment.status is not PaymentStatus.SETTLED:
            return
        source, target = self.row(Money, payment.source_asset), self.row(Money, payment.target_asset)
        self.found.leave(source.reserve_asset, source.reserve_account, FREE, payment.amount)
        self.found.gains |= {
            (source.reserve_asset, target.reserve_account),
            (payment.target_asset, payment.payee),
        }

    def _order(self, order: orders.Order) -> None:
        """All of a bucket in its scope that its power takes from: never what settles; of what is locked, and of
        escrows, a clawback takes nothing. What was set aside in the same block counts as well."""
        accounts = {order.account} if order.account else set(accounts_of(self.before, order.party))
        is_forced = order.power is Power.FORCED_TRANSFER
        for (asset, account, bucket, reference), amount in (Counter(self.spots) + self.found.into).items():
            if account not in accounts or order.asset not in (b"", asset) or bucket is SETTLING:
                continue
            is_right = bucket is LOCKED or (bucket is ESCROWED and self.row(EscrowRow, reference) is not None)
            if is_right and not is_forced:
                continue
            self.found.leave(asset, account, bucket, amount, reference)
            self.found.gains.add((asset, order.target))
            if is_right:
                self.found.enter(asset, order.target, bucket, amount, reference)
