"""Who may write which block, worked out a second time from docs/protocol.md, sections 7.1 and 8.1, and nothing else.

Each class keeps the rows of one engine in plain numbers, says whether a block is by somebody who may produce it, and
follows it. Nothing is shared with the ledger or the engines, so one mistake would have to be made twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import Any, Protocol

import msgpack

__all__ = ["Delegation", "Election", "Stakes", "Turns", "View", "Work", "contradiction"]

ALL_HASHES = 2**256


def pack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def digest(*parts: bytes) -> bytes:
    return sha256(b"".join(parts)).digest()


def wide(number: int, size_bytes: int = 8) -> bytes:
    return number.to_bytes(size_bytes, "big")


@dataclass(frozen=True, slots=True)
class View:
    """What an election reads of the books before a block."""

    stakes: dict[bytes, tuple[bytes, int, int, bytes]]
    """stake -> (account, amount, since_height, key)"""
    reported: frozenset[bytes]
    authorities: tuple[tuple[bytes, int, str], ...]


class Election(Protocol):
    """The rows of one engine."""

    def rows(self) -> list[tuple[bytes, bytes]]:
        """Beside row 0 of table ENGINE."""
        ...

    def fault(self, header: Any, view: View) -> str | None:
        """What is wrong with the producer of this block, in words."""
        ...

    def follow(self, header: Any, view: View) -> None:
        """Keeps the rows for this block."""
        ...


def lwma(window: list[tuple[int, int]], interval: int, size: int) -> int:
    """The formula of section 7.1, with every imaginary block written out."""
    intervals = [interval] * (size - len(window) + 1)
    difficulties = [window[0][1]] * len(intervals)
    for (before, _), (after, difficulty) in pairwise(window):
        intervals.append(sorted((1, after - before, 6 * interval))[1])
        difficulties.append(difficulty)
    weighted = sum(weight * each for weight, each in enumerate(intervals, 1))
    floor = size * size * interval
    while floor % 20:
        floor += 1
    return max(1, (sum(difficulties) * interval * (size + 1) * 99) // (200 * max(weighted, floor // 20)))


@dataclass(slots=True)
class Turns:
    """simplex (whose leaders follow from the view) and poa: nothing is kept."""

    engine: str

    def rows(self) -> list[tuple[bytes, bytes]]:
        return []

    def fault(self, header: Any, view: View) -> str | None:
        seated = {key for key, _, _ in view.authorities}
        if self.engine == "poa" and header[7] not in (seated - view.reported or seated):
            return "is by nobody who has authority"
        return None

    def follow(self, header: Any, view: View) -> None:
        return


@dataclass(slots=True)
class Work:
    """pow."""

    interval_ms: int
    size: int
    window: list[tuple[int, int]]

    def rows(self) -> list[tuple[bytes, bytes]]:
        return [(wide(1), pack([1, self.window]))]

    def _difficulty(self) -> int:
        return min(2**64 - 1, lwma(self.window, self.interval_ms, self.size))

    def fault(self, header: Any, view: View) -> str | None:
        work = int.from_bytes(digest(digest(pack(header))), "big")
        return "is not worth its difficulty" if work > ALL_HASHES // self._difficulty() - 1 else None

    def follow(self, header: Any, view: View) -> None:
        self.window.append((header[6], self._difficulty()))
        del self.window[: -self.size - 1]


@dataclass(slots=True)
class Stakes:
    """pos."""

    size: int
    depth: int
    cap: int
    window: list[tuple[int, int]]
    modifiers: list[bytes]

    def rows(self) -> list[tuple[bytes, bytes]]:
        window = [(slot, wide(difficulty, 32)) for slot, difficulty in self.window]
        return [(wide(1), pack([1, window])), (wide(2), pack([1, self.modifiers]))]

    def _difficulty(self) -> int:
        return min(ALL_HASHES - 1, lwma(self.window, 4, self.size))

    def _kernel(self, header: Any) -> bytes:
        return digest(b"p2pl.kn1", self.modifiers[0], header[13], wide(header[3]))

    def fault(self, header: Any, view: View) -> str | None:
        if header[13] not in view.stakes or view.stakes[header[13]][3] != header[7]:
            return "is produced with no stake of its producer"
        _, amount, since, _ = view.stakes[header[13]]
        age = amount * min(header[4] - since, self.cap)
        target = (ALL_HASHES // self._difficulty() - 1) * age
        return "has a kernel that does not win" if int.from_bytes(self._kernel(header), "big") > target else None

    def follow(self, header: Any, view: View) -> None:
        kernel, difficulty = self._kernel(header), self._difficulty()
        self.window.append((header[3], difficulty))
        del self.window[: -self.size - 1]
        self.modifiers.append(digest(b"p2pl.md1", self.modifiers[-1], kernel))
        del self.modifiers[: -self.depth]
        account, amount, _, key = view.stakes[header[13]]
        view.stakes[header[13]] = (account, amount, header[4], key)


@dataclass(slots=True)
class Delegation:
    """dpos, slot after slot."""

    width: int
    rounds: int
    seed: bytes
    slot: int = 0
    epoch: int = 0
    records: dict[bytes, list[int]] = field(default_factory=dict)
    """delegate -> [made, missed, withheld]"""
    commitments: dict[tuple[int, bytes], bytes] = field(default_factory=dict)
    opened: dict[bytes, bytes] = field(default_factory=dict)
    past: tuple[int, list[tuple[Any, ...]]] = (0, [])

    def rows(self) -> list[tuple[bytes, bytes]]:
        serving = [(key, *record) for key, record in sorted(self.records.items())]
        commitments = [(*place, commitment) for place, commitment in sorted(self.commitments.items())]
        values: list[list[Any]] = [
            [1, self.slot, self.seed],
            [1, self.epoch, serving],
            [1, commitments],
            [1, sorted(self.opened.items())],
            [1, *self.past],
        ]
        return [(wide(number), pack(value)) for number, value in enumerate(values, 1)]

    def elect(self, view: View) -> None:
        """Sets the delegates, with empty records."""
        votes: dict[bytes, int] = {}
        for _, amount, _, key in view.stakes.values():
            votes[key] = votes.get(key, 0) + amount
        blamed = [(-withheld, -missed, key) for key, (made, missed, withheld) in self.records.items()
                  if withheld or missed > made]  # fmt: skip
        spare = (len(self.records) - 1) // 3 or 1
        worst = {key for _, _, key in sorted(blamed)[:spare]}

        def rank(key: bytes) -> tuple[bool, int, bytes]:
            return key in worst, -votes.get(key, 0), key

        best = sorted(votes.keys() - view.reported, key=rank)[: self.width]
        if self.records and best:
            # One after the other goes and comes, as long as the delegates before can spare one more.
            seats = self.records.keys() - view.reported
            may_go, may_come = spare - len(self.records.keys() & view.reported), spare
            while may_go > 0 and (losers := sorted(seats - set(best), key=rank)):
                seats.remove(losers[-1])
                may_go -= 1
            for key in best:
                if key not in seats and may_come and len(seats) < self.width:
                    seats.add(key)
                    may_come -= 1
            best = list(seats)
        self.records = {key: [0, 0, 0] for key in best or self.records}

    def _owner(self, slot: int, seed: bytes) -> bytes:
        turn, place = divmod(slot, self.width)
        order = sorted(self.records)
        stream = b""
        at = 0
        for last in reversed(range(1, len(order))):
            while True:
                if len(stream) < 8 * at + 8:
                    stream += digest(seed, wide(turn), wide(at // 4))
                word = int.from_bytes(stream[8 * at : 8 * at + 8], "big")
                at += 1
                if word < 2**64 // (last + 1) * (last + 1):
                    break
            chosen = word % (last + 1)
            order[chosen], order[last] = order[last], order[chosen]
        return order[place % len(order)]

    def _walk(self, slot: int, view: View) -> Delegation:
        """As it stands in ``slot``, before the block there: everything that silence has done since the newest block."""
        now = Delegation(
            self.width,
            self.rounds,
            self.seed,
            self.slot,
            self.epoch,
            {key: [*record] for key, record in self.records.items()},
            {**self.commitments},
            {**self.opened},
            self.past,
        )
        turn, at, elected = self.slot // self.width, self.slot + 1, False
        while at <= slot:
            if at // self.width > turn and now.seed == self.seed:
                for (made_in, key), _ in self.commitments.items():
                    if made_in == turn - 2 and key in now.records:
                        now.records[key][2] += 1
                now.seed = digest(b"p2pl.sd1", self.seed, *(secret for _, secret in sorted(self.opened.items())))
                now.opened = {}
            epoch = at // (self.width * self.rounds)
            if epoch > now.epoch:
                if not elected:
                    now.past = (now.epoch, [(key, *record) for key, record in sorted(now.records.items())])
                    now.elect(view)
                    elected = True
                now.records = {key: [0, 0, 0] for key in now.records}
                now.epoch = epoch
                # Nobody's counters outlive an epoch without a block, so it need not be walked through.
                at = max(at, slot // (self.width * self.rounds) * self.width * self.rounds)
                now.epoch = at // (self.width * self.rounds)
            if at < slot:
                now.records[now._owner(at, now.seed)][1] += 1
            at += 1
        return now

    def fault(self, header: Any, view: View) -> str | None:
        if header[3] <= self.slot:
            return "is in no later slot than its parent"
        now = self._walk(header[3], view)
        if now._owner(header[3], now.seed) != header[7]:
            return "is in a slot of another delegate"
        due = self.commitments.get((header[3] // self.width - 2, header[7]))
        secret = msgpack.unpackb(header[13])[2]
        if (digest(b"p2pl.cm1", secret) if secret else None) != due:
            return "does not open what its delegate has committed to"
        return None

    def follow(self, header: Any, view: View) -> None:
        slot, key = header[3], header[7]
        now = self._walk(slot, view)
        _, commitment, secret = msgpack.unpackb(header[13])
        turn = slot // self.width
        now.records[key][0] += 1
        if secret:
            now.opened[key] = secret
            del now.commitments[turn - 2, key]
        now.commitments.setdefault((turn, key), commitment)
        self.commitments = {place: value for place, value in now.commitments.items() if place[0] >= turn - 2}
        self.slot, self.epoch, self.seed, self.records = slot, now.epoch, now.seed, now.records
        self.opened, self.past = now.opened, now.past


# Evidence, section 8.1


def contradiction(
    network: bytes,
    first: bytes,
    second: bytes,
    seat: Callable[[int, int], bytes | None],
    is_signed: Callable[[bytes, bytes, bytes], bool],
) -> tuple[bytes, int, int, int] | None:
    """(key, epoch, kind, view) of whom two statements convict, or None. ``seat`` names (epoch, signer)'s key."""
    try:
        one, other = (_statement(data) for data in (first, second))
    except (ValueError, TypeError, IndexError):
        return None
    if len(one) != len(other):
        return None
    if len(one) == 7:
        (_, epoch, view, kind, block, signer, seal), (_, epoch_2, view_2, kind_2, block_2, signer_2, seal_2) = (
            one,
            other,
        )
        if (epoch, view, signer) != (epoch_2, view_2, signer_2):
            return None
        if not ((kind == kind_2 and block != block_2) or {kind, kind_2} == {2, 3}):
            return None
        key = seat(epoch, signer)
        words = [b"p2pl.vo1" + pack([network, epoch, view, *rest]) for rest in ((kind, block), (kind_2, block_2))]
        if key is None or not (is_signed(key, seal, words[0]) and is_signed(key, seal_2, words[1])):
            return None
        return key, epoch, 1, view
    (header, seal), (rival, seal_2) = one, other
    names = [digest(b"p2pl.bl1", pack(each)) for each in (header, rival)]
    if names[0] == names[1] or header[7] != rival[7] or {header[1], rival[1]} != {network}:
        return None
    if header[3] != rival[3] and not set(_confirmed(header)) & set(_confirmed(rival)):
        return None
    if not (
        is_signed(header[7], seal, b"p2pl.se1" + names[0]) and is_signed(header[7], seal_2, b"p2pl.se1" + names[1])
    ):
        return None
    return header[7], header[2], 3, header[3]


def _confirmed(header: Any) -> range:
    try:
        proof = msgpack.unpackb(header[13], use_list=False)
    except (ValueError, msgpack.UnpackException):
        return range(0)
    if type(proof) is not tuple or len(proof) not in (1, 3) or type(proof[0]) is not int or pack(proof) != header[13]:
        return range(0)
    return range(proof[0], header[4] + 1)


def _statement(data: bytes) -> Any:
    """The fields of a vote (7), or a header and its seal (2). ValueError and its like for anything else."""
    if len(data) > 1024:
        raise ValueError("a statement is too long")
    try:
        value = msgpack.unpackb(data, use_list=False)
    except msgpack.UnpackException as error:
        raise ValueError(str(error)) from None
    if pack(value) != data:
        raise ValueError("a statement is not canonical")
    if len(value) == 7:
        version, epoch, view, kind, block, signer, seal = value
        numbers, wide_fields = [version, epoch, view, kind, signer], [(block, 32), (seal, 64)]
        well_formed = version == 1 and kind in (1, 2, 3) and (kind == 2) == (block == bytes(32)) and signer <= 2**16
    else:
        header, seal = value
        version, network, epoch, view, height, parent, time_ms, proposer, *roots, protocol, proof = header
        numbers = [version, epoch, view, height, time_ms, protocol]
        wide_fields = [(network, 8), (parent, 32), (proposer, 32), *((root, 32) for root in roots), (seal, 64)]
        well_formed = version == protocol == 1 and len(roots) == 4 and type(proof) is bytes and len(proof) <= 512
    if not well_formed or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("a statement of another form")
    if any(type(item) is not bytes or len(item) != width for item, width in wide_fields):
        raise ValueError("a statement of another form")
    return value
