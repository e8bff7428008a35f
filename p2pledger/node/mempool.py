"""Transactions that clients gave this node and that are not in a batch yet.

Bounded by bytes, for all and for each client: what it cannot keep it refuses with *busy*, before it promises anything.
Every transaction in here has been scanned and its signatures checked, for a batch with one bad signature would be
refused whole by everybody.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from p2pledger import core
from p2pledger.node.batches import Segment, limits_of
from p2pledger.primitives.parameters import BATCH_OVERHEAD_BYTES, Parameters
from p2pledger.primitives.reasons import Reason

__all__ = ["CAPACITY_BYTES", "Candidate", "Mempool", "check_transactions"]

CAPACITY_BYTES: Final = 16 * 1024 * 1024
CLIENT_SHARE: Final = 2
"""One client may fill at most this part (a half) of the mempool."""

_CODES: Final = {"wrong_network": Reason.WRONG_NETWORK, "too_large": Reason.TOO_LARGE, "too_many": Reason.TOO_LARGE}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A submitted transaction: its bytes, id, how long it is valid, and its number of signatures."""

    data: bytes
    id: bytes
    valid_until: int
    signatures: int


def check_transactions(
    transactions: tuple[bytes, ...], network_id: bytes, parameters: Parameters
) -> list[Candidate | Reason]:
    """Each transaction alone: a candidate, or why it is refused. Pure; microseconds a signature when compiled."""
    columns, refused = core.scan_transactions(transactions, network_id, limits_of(parameters))
    verdict = core.verify_columns(columns)
    results: list[Candidate | Reason] = []
    reasons = {index: _CODES.get(code, Reason.MALFORMED) for index, code in refused}
    good = 0
    for index, data in enumerate(transactions):
        if index in reasons:
            results.append(reasons[index])
            continue
        if verdict.flags[good]:
            identifier = columns.ids[32 * good : 32 * good + 32]
            count = len(columns.signers(good)) // 32
            results.append(Candidate(data, identifier, columns.valid_until(good), count))
        else:
            results.append(Reason.BAD_SIGNATURE)
        good += 1
    return results


@dataclass(slots=True)
class Mempool:
    """A queue of candidates by client, in order of arrival."""

    parameters: Parameters
    size_bytes: int = 0
    oldest_ms: int | None = None
    _queue: deque[tuple[int, Candidate]] = field(default_factory=deque)
    _by_client: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._queue)

    def has_room(self, client: int, size_bytes: int) -> bool:
        share = self._by_client.get(client, 0) + size_bytes
        return self.size_bytes + size_bytes <= CAPACITY_BYTES and share * CLIENT_SHARE <= CAPACITY_BYTES

    def add(self, client: int, candidate: Candidate, now_ms: int) -> None:
        size_bytes = len(candidate.data)
        self._queue.append((client, candidate))
        self.size_bytes += size_bytes
        self._by_client[client] = self._by_client.get(client, 0) + size_bytes
        if self.oldest_ms is None:
            self.oldest_ms = now_ms

    @property
    def fills_batch(self) -> bool:
        """Whether a whole batch is waiting."""
        return self.size_bytes + BATCH_OVERHEAD_BYTES >= self.parameters.max_batch_bytes

    def take_batch(self, now_ms: int) -> tuple[list[bytes], tuple[Segment, ...]]:
        """The transactions of the next batch, within its limits, and which client each came from."""
        room = self.parameters.max_batch_bytes - BATCH_OVERHEAD_BYTES
        signatures = self.parameters.max_batch_signatures
        transactions: list[bytes] = []
        segments: list[Segment] = []
        while self._queue:
            client, candidate = self._queue[0]
            if len(candidate.data) > room or candidate.signatures > signatures:
                break
            self._queue.popleft()
            room -= len(candidate.data)
            signatures -= candidate.signatures
            self.size_bytes -= len(candidate.data)
            left = self._by_client[client] - len(candidate.data)
            if left:
                self._by_client[client] = left
            else:
                del self._by_client[client]
            at = len(transactions)
            if segments and segments[-1].client == client:
                segments[-1] = Segment(client, segments[-1].start, at + 1)
            else:
                segments.append(Segment(client, at, at + 1))
            transactions.append(candidate.data)
        self.oldest_ms = now_ms if self._queue else None
        return transactions, tuple(segments)
