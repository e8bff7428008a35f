"""Delegated stake: holders of native money elect delegates, who write the blocks in an order that nobody could foresee.

D. Larimer, "Delegated Proof-of-Stake (DPOS)", BitShares, 2014, for the election; commit and reveal for the order.

**Slots.** Slot s begins ``s * slot_ms`` after the genesis and belongs to one delegate. N = ``delegates`` slots are a
round: slot s is place ``s mod N`` in round ``s div N``. ``epoch_rounds`` rounds are an epoch.

**Election.** The delegates of an epoch are the N keys with the most stake behind them in the state below its first
block (ties by key), those on record in EVIDENCE left out, and those *suspended* put last. If they are fewer than N,
the order of a round is repeated until the round is full. If nobody stands for election the old delegates stay.

**Who may be replaced at once.** What the delegates of one epoch have built gets final only with a quorum of them, and
whoever is voted out builds no more. So of n delegates at most (n - 1) div 3, but at least one, go in an epoch, those
with the fewest votes first, and as many come, those with the most votes first; the others wait for the next epoch.
Those on record go at once and count among them. Fewer than four delegates cannot spare anybody: with two or three of
them a change stops finality unless the one who goes comes back, so a network should have four or more.

**Order.** In each round the delegates are shuffled anew (Fisher and Yates; R. Durstenfeld, Algorithm 235, CACM 7,
1964), driven by the words of ``SHA-256(seed || round || counter)``, of which those are drawn again that would favour
some places. With its first block in round r a delegate commits to a secret, and must reveal what it committed to in
round r - 2: all commitments of a round were made before any secret of it was revealed. At the end of a round that has
blocks

    seed' = H("p2pl.sd1" || seed || the secrets revealed in the round, in the order of their delegates' keys)

and where a round has none the seed stays. As long as one honest delegate has not revealed, nobody can know the next
order. Who reveals last may look at both orders and keep silent instead: one bit, and it costs him his block, his
reward, and the next epoch: *withheld* counts the commitments that were not opened in a round with blocks, and one of
them suspends.

**Absence.** Slots without a block, between a block and its parent, are counted as missed by those to whom they
belonged. Who misses more than half of his slots in an epoch, or withholds a secret, may be suspended for the next: of
n delegates at most (n - 1) div 3, but at least one, those who withheld and missed most first. If more were silent,
then it was the network that failed, and a halt must not hand the ledger to candidates for whom hardly anybody votes.
If there are no others to take their place, the suspended serve all the same: somebody must.

ENGINE rows:

    1  [1, slot, seed (32)]                                       of the newest block, and the seed of its round
    2  [1, epoch, [[key, made, missed, withheld], ...]]           who serves, by key, and what he did in this epoch
    3  [1, [[round, key, commitment (32)], ...]]                  not opened yet, by round and key
    4  [1, [[key, secret (32)], ...]]                             revealed in the round of the newest block, by key
    5  [1, epoch, [[key, made, missed, withheld], ...]]           row 2 as it was at the end of the last epoch
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final

from p2pledger import core
from p2pledger.ledger.books import Readable, is_reported, read_row
from p2pledger.ledger.chainspec import Chainspec
from p2pledger.ledger.tables import Staked, Table, engine_key
from p2pledger.primitives.blocks import MAX_PROOF_BYTES, Header
from p2pledger.primitives.codec import Fields, decode, encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.hashing import COMMITMENT_TAG, SEED_TAG, tagged_hash
from p2pledger.primitives.parameters import Parameters

__all__ = ["Delegate", "Schedule", "found", "last_epoch", "open_block", "replaceable", "shuffled", "suspended"]

_NEWEST: Final = engine_key(1)
_SERVING: Final = engine_key(2)
_COMMITMENTS: Final = engine_key(3)
_REVEALED: Final = engine_key(4)
_LAST_EPOCH: Final = engine_key(5)
_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Delegate:
    """A delegate's key, and in one epoch the blocks that it made, the slots that it missed, the secrets it withheld."""

    key: bytes
    made: int = 0
    missed: int = 0
    withheld: int = 0

    @property
    def is_faulty(self) -> bool:
        """Whether this record is reason enough to suspend it."""
        return self.withheld > 0 or 2 * self.missed > self.made + self.missed


def replaceable(count: int) -> int:
    """How many of so many delegates one epoch may take away, or bring in: whom a quorum can spare, but at least one."""
    return max(1, (count - 1) // 3)


def suspended(records: Sequence[Delegate]) -> tuple[bytes, ...]:
    """The keys that are put last in the election after an epoch with these records, the worst first."""
    faulty = sorted(
        (delegate for delegate in records if delegate.is_faulty),
        key=lambda delegate: (-delegate.withheld, -delegate.missed, delegate.key),
    )
    return tuple(delegate.key for delegate in faulty[: replaceable(len(records))])


def shuffled(keys: Sequence[bytes], seed: bytes, round_number: int) -> tuple[bytes, ...]:
    """The keys in the order of a round: every order is as likely as any other."""
    order, words = list(keys), _words(seed + round_number.to_bytes(8, "big"))
    for last in range(len(order) - 1, 0, -1):
        choices = last + 1
        fair = 2**64 - 2**64 % choices
        word = next(word for word in words if word < fair)
        at = word % choices
        order[at], order[last] = order[last], order[at]
    return tuple(order)


def _words(start: bytes) -> Iterator[int]:
    """Numbers of 64 bits without end: four from each hash."""
    counter = 0
    while True:
        block = hashlib.sha256(start + counter.to_bytes(8, "big")).digest()
        for at in range(0, 32, 8):
            yield int.from_bytes(block[at : at + 8], "big")
        counter += 1


@dataclass(frozen=True)
class Schedule:
    """Whose turn it is above a state. It goes on reading the state when it is asked about a later epoch."""

    slot: int
    """Of the newest block."""
    seed: bytes
    epoch: int
    delegates: tuple[Delegate, ...]
    """Who serves in ``epoch``, by key, with what they did in it."""
    commitments: tuple[tuple[int, bytes, bytes], ...]
    """(round, key, commitment), not opened yet."""
    revealed: tuple[tuple[bytes, bytes], ...]
    """(key, secret), opened in the round of ``slot``."""
    parameters: Parameters
    _state: Readable = field(repr=False, compare=False)
    _elected: list[bytes] = field(default_factory=list, repr=False, compare=False)
    _orders: dict[int, tuple[bytes, ...]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def read(cls, state: Readable, parameters: Parameters) -> Schedule:
        slot, seed = read_row(state, Table.ENGINE, _NEWEST, 2)
        epoch, serving = read_row(state, Table.ENGINE, _SERVING, 2)
        (commitments,) = read_row(state, Table.ENGINE, _COMMITMENTS, 1)
        (revealed,) = read_row(state, Table.ENGINE, _REVEALED, 1)
        delegates = tuple(Delegate(*entry) for entry in serving)
        return cls(slot, seed, epoch, delegates, commitments, revealed, parameters, state)

    @property
    def round(self) -> int:
        """Of the newest block."""
        return self.slot // self.parameters.delegates

    @property
    def next_seed(self) -> bytes:
        """The seed of the rounds after this one, if no block in this round follows."""
        return tagged_hash(SEED_TAG, self.seed + b"".join(secret for _, secret in self.revealed))

    def epoch_of(self, slot: int) -> int:
        return slot // self.parameters.delegates // self.parameters.epoch_rounds

    def serving(self, slot: int) -> tuple[bytes, ...]:
        """The keys, in order, that serve in the epoch of a slot, if the next block is there."""
        epoch = self.epoch_of(slot)
        if epoch <= self.epoch:
            return tuple(delegate.key for delegate in self.delegates)
        if not self._elected:  # The same for all later epochs: no block in between changes the votes or the record.
            self._elected.extend(_elected(self._state, self.ended(), self.parameters.delegates))
        return tuple(self._elected)

    def ended(self) -> tuple[Delegate, ...]:
        """The records of this epoch, if the next block is in a later one: the rest of its slots are missed."""
        end = (self.epoch + 1) * self.parameters.epoch_rounds * self.parameters.delegates
        return self._with_silence(end, is_over=True)

    def before_block(self, slot: int) -> tuple[Delegate, ...]:
        """The records of this epoch, if the next block is in it, in this slot."""
        return self._with_silence(slot, is_over=slot // self.parameters.delegates > self.round)

    def _with_silence(self, end: int, *, is_over: bool) -> tuple[Delegate, ...]:
        """The records with the slots up to ``end`` missed and, if the round is over, its unopened commitments."""
        records = {delegate.key: delegate for delegate in self.delegates}
        for gap in range(self.slot + 1, end):
            owner = self.producer(gap)
            records[owner] = replace(records[owner], missed=records[owner].missed + 1)
        for made_in, owner, _ in self.commitments:
            if is_over and made_in == self.round - 2 and owner in records:
                records[owner] = replace(records[owner], withheld=records[owner].withheld + 1)
        return tuple(records.values())

    def order(self, round_number: int) -> tuple[bytes, ...]:
        """The delegates in the order of a round, this one or a later one."""
        if round_number not in self._orders:
            keys = self.serving(round_number * self.parameters.delegates)
            seed = self.seed if round_number <= self.round else self.next_seed
            self._orders[round_number] = shuffled(keys, seed, round_number)
        return self._orders[round_number]

    def producer(self, slot: int) -> bytes:
        """The delegate to whom a slot belongs, in the round of the newest block or later."""
        round_number, place = divmod(slot, self.parameters.delegates)
        order = self.order(round_number)
        return order[place % len(order)]

    def reveal_due(self, key: bytes, slot: int) -> bytes | None:
        """The commitment that a delegate must open with its block in this slot, if it owes one there."""
        round_number = slot // self.parameters.delegates
        for made_in, owner, commitment in self.commitments:
            if (made_in, owner) == (round_number - 2, key):
                return commitment
        return None


def last_epoch(state: Readable) -> tuple[int, tuple[Delegate, ...]]:
    """The last epoch that is over, and what its delegates did in it."""
    epoch, records = read_row(state, Table.ENGINE, _LAST_EPOCH, 2)
    return epoch, tuple(Delegate(*entry) for entry in records)


def found(branch: core.Branch, genesis: Genesis) -> None:
    keys = _elected(branch, (), genesis.parameters.delegates)
    branch.put(Table.ENGINE, _NEWEST, encode((1, 0, tagged_hash(SEED_TAG, genesis.hash))))
    branch.put(Table.ENGINE, _COMMITMENTS, encode((1, ())))
    branch.put(Table.ENGINE, _REVEALED, encode((1, ())))
    _put_records(branch, _SERVING, 0, tuple(Delegate(key) for key in keys))
    _put_records(branch, _LAST_EPOCH, 0, ())


def open_block(branch: core.Branch, header: Header, spec: Chainspec) -> None:
    """PeerFault ``malformed``, ``bad_slot``, ``wrong_order`` or ``bad_reveal`` for a block that cannot stand here."""
    before, slot, key = Schedule.read(branch, spec.parameters), header.view, header.proposer
    values = decode(header.proof, limit_bytes=MAX_PROOF_BYTES, what="proof")
    proof = Fields(values, what="proof", count=3)
    proof.integer("confirm_from")
    commitment, reveal = proof.binary("commitment", 32), proof.binary("reveal", most=32)
    if slot <= before.slot:
        raise PeerFault(f"slot {slot} is not after that of the parent", code="bad_slot")
    if before.producer(slot) != key:
        raise PeerFault(f"slot {slot} belongs to another delegate", code="wrong_order")
    due = before.reveal_due(key, slot)
    opened = tagged_hash(COMMITMENT_TAG, reveal) if reveal else None
    if opened != due or len(reveal) not in (0, 32):
        raise PeerFault("a block must open the commitment that its delegate owes, and no other", code="bad_reveal")

    # A round that is over: its secrets make the seed; what was not opened in it never will be.
    round_number, epoch = slot // spec.parameters.delegates, before.epoch_of(slot)
    seed, revealed, commitments = before.seed, dict(before.revealed), list(before.commitments)
    if round_number > before.round:
        seed, revealed = before.next_seed, {}
        commitments = [entry for entry in commitments if entry[0] >= round_number - 2]

    # An epoch that is over: its record is kept, and others may serve.
    if epoch > before.epoch:
        _put_records(branch, _LAST_EPOCH, before.epoch, before.ended())
        records = {owner: Delegate(owner) for owner in before.serving(slot)}
        first = epoch * spec.parameters.epoch_rounds * spec.parameters.delegates
        for gap in range(first, slot):
            owner = before.producer(gap)
            records[owner] = replace(records[owner], missed=records[owner].missed + 1)
    else:
        records = {delegate.key: delegate for delegate in before.before_block(slot)}

    # This block.
    records[key] = replace(records[key], made=records[key].made + 1)
    if due is not None:
        revealed[key] = reveal
        commitments.remove((round_number - 2, key, due))
    if not any((made_in, owner) == (round_number, key) for made_in, owner, _ in commitments):
        commitments.append((round_number, key, commitment))
    branch.put(Table.ENGINE, _NEWEST, encode((1, slot, seed)))
    branch.put(Table.ENGINE, _COMMITMENTS, encode((1, sorted(commitments))))
    branch.put(Table.ENGINE, _REVEALED, encode((1, sorted(revealed.items()))))
    _put_records(branch, _SERVING, epoch, tuple(records.values()))


def _elected(state: Readable, records: Sequence[Delegate], count: int) -> tuple[bytes, ...]:
    """The keys, in order, of those who serve next, after an epoch with these records."""
    last = set(suspended(records))
    ranking: list[tuple[bool, int, bytes]] = []
    after: bytes | None = None
    while page := state.scan(Table.STAKED, after=after, limit=_PAGE):
        ranking += [(key in last, -Staked.decode(row).amount, key) for key, row in page]
        after = page[-1][0]
    best = list(islice((key for _, _, key in sorted(ranking) if not is_reported(state, key)), count))
    if not records or not best:
        return tuple(sorted(best)) or tuple(sorted(delegate.key for delegate in records))

    # No more may come or go than a quorum of those before can spare; who is on record goes in any case.
    most = replaceable(len(records))
    votes = {key: amount for _, amount, key in ranking}
    serving = [delegate.key for delegate in records if not is_reported(state, delegate.key)]
    outvoted = sorted(set(serving).difference(best), key=lambda key: (key in last, votes.get(key, 0), key))
    spared = max(0, len(outvoted) - max(0, most - (len(records) - len(serving))))
    staying = set(serving).difference(outvoted[spared:])
    newcomers = [key for key in best if key not in staying][: min(most, count - len(staying))]
    return tuple(sorted([*staying, *newcomers])) or tuple(sorted(delegate.key for delegate in records))


def _put_records(branch: core.Branch, number: bytes, epoch: int, records: Sequence[Delegate]) -> None:
    rows = [(entry.key, entry.made, entry.missed, entry.withheld) for entry in sorted(records, key=lambda one: one.key)]
    branch.put(Table.ENGINE, number, encode((1, epoch, rows)))
