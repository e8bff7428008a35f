"""The desk: what clients hand in, and what they are told.

A submission waits until its form and signatures have been checked, then each of its transactions is admitted to the
mempool or refused with a reason. Whatever is admitted is answered once more, when it is final: to the session that
handed it in, and to those that handed in the very same bytes while it was under way.

Submissions are told apart by all their bytes, signatures included: the same order with fewer signatures is another
submission, so nobody can spoil a stranger's by handing it in first. A transaction that reached the ledger twice has one
outcome, the first, and that is what its clients are told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from p2pledger import core
from p2pledger.ledger.tables import ReplayRow, Table, replay_key
from p2pledger.node.archive import Archive
from p2pledger.node.batches import HeldBatch
from p2pledger.node.chain import Entry
from p2pledger.node.effects import Admitted, Settle
from p2pledger.node.mempool import Candidate, Mempool
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.messages import Rules
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.reasons import WHOLE_TRANSACTION, Reason

__all__ = ["NO_RULES", "Desk", "HandedIn", "executed_earlier", "rules_among"]

NO_RULES: Final[Mapping[int, str]] = MappingProxyType({})
_SUBMISSION_BYTES: Final = 64
"""What a submission, and each transaction in it, counts beside its bytes: also what is empty has to be judged."""


@dataclass(frozen=True, slots=True)
class HandedIn:
    """Submissions that are checked together: (client, request, number of transactions), and all the transactions."""

    submissions: tuple[tuple[int, int, int], ...]
    transactions: tuple[bytes, ...]


class Desk:
    """Clients of one node. ``root`` in the methods is the newest block that is final and executed."""

    def __init__(self, parameters: Parameters, archive: Archive) -> None:
        self.mempool = Mempool(parameters)
        self._parameters = parameters
        self._archive = archive
        self._waiting: list[tuple[int, int, tuple[bytes, ...]]] = []
        self._waiting_bytes = self._waiting_count = 0
        self._waiting_since_ms = 0
        self.is_checking = False
        """What was taken has not come back yet."""
        self._pending: set[bytes] = set()
        """Names of what is in the mempool, or in a batch of this node that is not final."""
        self._watchers: dict[bytes, list[int]] = {}

    # --- what comes in --------------------------------------------------------------------------------------------

    @property
    def waiting_since_ms(self) -> int | None:
        """Since when the first waits that is to be checked next; None while there is none, or a check is under way."""
        return self._waiting_since_ms if self._waiting and not self.is_checking else None

    @property
    def waiting_count(self) -> int:
        """How many transactions wait to be checked."""
        return self._waiting_count

    def hand_in(self, client: int, request: int, transactions: tuple[bytes, ...], now_ms: int) -> list[Admitted]:
        """Keep a submission until it is checked, or say *busy* at once."""
        size_bytes = _SUBMISSION_BYTES * (1 + len(transactions)) + sum(map(len, transactions))
        if not self.mempool.has_room(client, size_bytes + self._waiting_bytes):
            return [Admitted(client, request, (int(Reason.BUSY),) * len(transactions), self._retry_after_ms)]
        if not self._waiting:
            self._waiting_since_ms = now_ms
        self._waiting_bytes += size_bytes
        self._waiting_count += len(transactions)
        self._waiting.append((client, request, transactions))
        return []

    def take(self) -> HandedIn | None:
        """Everything that waits to be checked, unless a check is under way."""
        if self.is_checking or not self._waiting:
            return None
        waiting, self._waiting = self._waiting, []
        self._waiting_bytes = self._waiting_count = 0
        self.is_checking = True
        return HandedIn(
            tuple((client, request, len(transactions)) for client, request, transactions in waiting),
            tuple(data for _, _, transactions in waiting for data in transactions),
        )

    def admit(
        self, handed_in: HandedIn, results: list[Candidate | Reason], root: Entry, now_ms: int
    ) -> list[Admitted | Settle]:
        """What was checked goes into the mempool, or is refused; each submission gets its answer."""
        self.is_checking = False
        answers: list[Admitted | Settle] = []
        at = 0
        for client, request, count in handed_in.submissions:
            codes: list[int] = []
            executed: list[Settle] = []
            for result in results[at : at + count]:
                reason = result if isinstance(result, Reason) else self._judge(client, result, root, executed)
                if reason is Reason.OK:
                    assert isinstance(result, Candidate)
                    self.mempool.add(client, result, now_ms)
                    self._pending.add(_name_of(result.data))
                codes.append(int(reason))
            at += count
            retry_after_ms = self._retry_after_ms if Reason.BUSY in codes else 0
            answers += [Admitted(client, request, tuple(codes), retry_after_ms), *executed]
        return answers

    def _judge(self, client: int, candidate: Candidate, root: Entry, executed: list[Settle]) -> Reason:
        """What can be said of a checked transaction before it is ordered."""
        name = _name_of(candidate.data)
        if name in self._pending:
            watchers = self._watchers.setdefault(name, [])
            if client not in watchers:
                watchers.append(client)
            return Reason.ALREADY_PENDING
        height = root.block.height
        if candidate.valid_until <= height:
            return Reason.EXPIRED
        # A height of slack: the node may be a little behind those that will execute it.
        if candidate.valid_until > height + 1 + self._parameters.replay_window:
            return Reason.TOO_FAR_AHEAD
        row = _remembered(root, candidate.valid_until, candidate.id)
        if row is not None:
            executed.append(self._executed(client, candidate.id, row, root))
            return Reason.DUPLICATE
        return Reason.OK if self.mempool.has_room(client, len(candidate.data)) else Reason.BUSY

    @property
    def _retry_after_ms(self) -> int:
        return max(100, 4 * self._parameters.block_interval_ms)

    # --- what goes out --------------------------------------------------------------------------------------------

    def settle(self, held: HeldBatch, codes: bytes, root: Entry, rules: Mapping[int, str] = NO_RULES) -> list[Settle]:
        """Tell the clients of an own batch what became of it.

        ``codes`` are its receipts' in the block ``root``, ``rules`` the names of what refused some, by index in it.
        """
        ids, earlier = held.columns.ids, executed_earlier(held.columns, codes, root)
        height, time_ms = root.block.height, root.block.header.time_ms
        told: list[Settle] = []
        for segment in held.segments:
            fresh = [index for index in range(segment.start, segment.end) if index not in earlier] if earlier else None
            if fresh is None:
                cut_ids = ids[32 * segment.start : 32 * segment.end]
                cut_codes = codes[4 * segment.start : 4 * segment.end]
                cut_rules = rules_among(rules, range(segment.start, segment.end))
            else:
                cut_ids = b"".join(ids[32 * index : 32 * index + 32] for index in fresh)
                cut_codes = b"".join(codes[4 * index : 4 * index + 4] for index in fresh)
                cut_rules = rules_among(rules, fresh)
                for index in sorted(earlier.keys() & range(segment.start, segment.end)):
                    told.append(self._executed(segment.client, ids[32 * index :][:32], earlier[index], root))
            if cut_codes:
                told.append(Settle(segment.client, height, time_ms, cut_ids, cut_codes, cut_rules))
        names = _names_in(held.columns)
        self._pending.difference_update(names)
        if self._watchers:
            for index, name in enumerate(names):
                identifier = ids[32 * index : 32 * index + 32]
                for client in self._watchers.pop(name, ()):
                    if index in earlier:
                        told.append(self._executed(client, identifier, earlier[index], root))
                    else:
                        code = codes[4 * index : 4 * index + 4]
                        named = rules_among(rules, (index,))
                        told.append(Settle(client, height, time_ms, identifier, code, named))
        return told

    def expire(self, held: HeldBatch, root: Entry) -> list[Settle]:
        """Tell the clients of an own batch that nobody ordered, and that cannot be executed any more."""
        expired = Reason.EXPIRED.to_bytes(2, "big") + WHOLE_TRANSACTION.to_bytes(2, "big")
        return self.settle(held, expired * held.columns.count, root)

    def interested(self, held: HeldBatch, clients: Set[int]) -> list[tuple[int, int]]:
        """Which of these clients wait for which transactions of a batch: (client, index)."""
        found = [
            (segment.client, index)
            for segment in held.segments
            if segment.client in clients
            for index in range(segment.start, segment.end)
        ]
        if self._watchers:
            for index, name in enumerate(_names_in(held.columns)):
                found += [(client, index) for client in self._watchers.get(name, ()) if client in clients]
        return found

    def close(self, client: int) -> None:
        """A client's session has ended; nobody is left to be told."""
        for watchers in self._watchers.values():
            if client in watchers:
                watchers.remove(client)

    def _executed(self, client: int, identifier: bytes, row: ReplayRow, root: Entry) -> Settle:
        """What became of a transaction, and where: in a block that may be long past."""
        data = self._archive.final_block(row.height)
        header = root.block.header if data is None else Block.decode(data).header
        code = row.code.to_bytes(2, "big") + row.operation.to_bytes(2, "big")
        return Settle(client, row.height, header.time_ms, identifier, code, ((0, row.rule),) if row.rule else ())


def rules_among(rules: Mapping[int, str], indexes: Sequence[int]) -> Rules:
    """The names of rules for transactions that are told in this order: by their index in what is told."""
    if not rules:
        return ()
    return tuple((at, rules[index]) for at, index in enumerate(indexes) if index in rules)


def executed_earlier(columns: core.Columns, codes: bytes, root: Entry) -> dict[int, ReplayRow]:
    """By index, the first outcome of those transactions of a batch that had been executed before."""
    rows: dict[int, ReplayRow] = {}
    if Reason.DUPLICATE in codes[1::4]:
        for index in range(columns.count):
            if codes[4 * index : 4 * index + 2] == b"\x00\x03":
                row = _remembered(root, columns.valid_until(index), columns.ids[32 * index : 32 * index + 32])
                if row is not None:
                    rows[index] = row
    return rows


def _remembered(root: Entry, valid_until: int, identifier: bytes) -> ReplayRow | None:
    assert root.outcome is not None
    row = root.outcome.version.get(Table.REPLAY, replay_key(valid_until, identifier))
    return None if row is None else ReplayRow.decode(row)


def _name_of(signed: bytes) -> bytes:
    """What a submission is told apart by: the whole of it, signatures included.

    Its id is not enough. Whoever knows a transaction could submit it with too few signatures, and those who then bring
    all of them would be told that it is already on its way.
    """
    return sha256(signed).digest()


def _names_in(columns: core.Columns) -> list[bytes]:
    return [_name_of(columns.transaction(index)) for index in range(columns.count)]
