"""Clients that want to hear of their transactions before these are final.

A session that *follows* is told, beside the one *settled* at the end, what the chain that the node follows says of its
transactions so far:

    pending      executed in a block of that chain, with this outcome
    reverted     the chain with that block is no longer followed; the transaction waits for its next chance
    confirmed    the policies of all assets that it touches are met: so many blocks stand above it

The newest word counts. *Pending* may come again, at another height and with another outcome, and takes back what was
said before, *confirmed* too. Each word is said once for each time that it becomes true, and none after *settled*.

A policy is a row of table FINALITY in the state after the block. An asset without one is only to be relied on when it
is final, and so is a transaction that touches no asset: nobody is told *confirmed* about those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from p2pledger.ledger.tables import FinalityRow, Table
from p2pledger.node.batches import BatchPool, HeldBatch
from p2pledger.node.chain import Chain, Entry
from p2pledger.node.desk import Desk, executed_earlier
from p2pledger.node.effects import Tell
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.messages import ProgressStatus
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.transactions import SignedTransaction

__all__ = ["Followers"]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one client was told about one transaction of a block; ``needed`` blocks above it confirm it."""

    client: int
    id: bytes
    code: bytes
    needed: int | None
    rule: str = ""


class Followers:
    """The following sessions of one node, and what they were told of the blocks that are not final."""

    def __init__(self, parameters: Parameters, desk: Desk, pool: BatchPool, chain: Chain) -> None:
        self._limit_bytes = parameters.max_transaction_bytes
        self._desk = desk
        self._pool = pool
        self._chain = chain
        self._clients: set[int] = set()
        self._told: dict[bytes, list[_Outcome]] = {}
        """By block: outcomes told as pending or confirmed and not taken back."""
        self._unconfirmed: dict[bytes, list[_Outcome]] = {}
        """Of those, by block, the ones that can be confirmed and are not yet."""

    def follow(self, client: int, *, wanted: bool) -> None:
        """From now on."""
        if wanted:
            self._clients.add(client)
        else:
            self._clients.discard(client)

    def close(self, client: int) -> None:
        self._clients.discard(client)

    def moved(self, left: list[Entry], joined: list[Entry], head: Entry) -> list[Tell]:
        """The chain that is followed lost some blocks (newest first) and got others (oldest first), executed ones."""
        if not self._clients:
            self._told.clear()
            self._unconfirmed.clear()
            return []
        tells: list[Tell] = []
        again = {(outcome.client, outcome.id) for entry in joined for outcome in self._join(entry)}
        for entry in left:
            self._unconfirmed.pop(entry.block.id, None)
            gone = [told for told in self._told.pop(entry.block.id, []) if (told.client, told.id) not in again]
            tells += self._tell(ProgressStatus.REVERTED, entry, gone)
        for entry in joined:
            tells += self._tell(ProgressStatus.PENDING, entry, self._told.get(entry.block.id, []))
        return tells + self._confirm(head)

    def final(self, entry: Entry) -> None:
        """The block is final, its transactions are settled: there is no more to say."""
        self._told.pop(entry.block.id, None)
        self._unconfirmed.pop(entry.block.id, None)

    def _join(self, entry: Entry) -> list[_Outcome]:
        """What there is to say about a block, remembered."""
        outcomes: list[_Outcome] = []
        result = entry.outcome
        assert result is not None
        at = 0
        for digest in entry.block.digests:
            held = self._pool.open[digest]
            count = held.columns.count
            codes = result.codes[4 * at : 4 * (at + count)]
            at += count
            wanted = self._desk.interested(held, self._clients)
            if wanted:
                outcomes += self._outcomes(held, codes, wanted, entry, result.rules_of(at - count, count))
        if outcomes:
            self._told[entry.block.id] = outcomes
            waiting = [outcome for outcome in outcomes if outcome.needed is not None]
            if waiting:
                self._unconfirmed[entry.block.id] = waiting
        return outcomes

    def _outcomes(
        self,
        held: HeldBatch,
        codes: bytes,
        wanted: Iterable[tuple[int, int]],
        entry: Entry,
        rules: Mapping[int, str],
    ) -> list[_Outcome]:
        assert entry.outcome is not None
        earlier = executed_earlier(held.columns, codes, entry)
        has_policies = entry.outcome.version.count(Table.FINALITY) > 0
        needs: dict[int, int | None] = {}
        outcomes = []
        for client, index in wanted:
            row = earlier.get(index)
            code, rule = codes[4 * index : 4 * index + 4], rules.get(index, "")
            if row is not None:  # It reached the ledger twice, and its outcome is the first.
                code, rule = row.code.to_bytes(2, "big") + row.operation.to_bytes(2, "big"), row.rule
            if index not in needs:
                needs[index] = self._needed(held.columns.transaction(index), entry) if has_policies else None
            identifier = held.columns.ids[32 * index : 32 * index + 32]
            outcomes.append(_Outcome(client, identifier, code, needs[index], rule))
        return outcomes

    def _needed(self, signed: bytes, entry: Entry) -> int | None:
        """How many blocks above it the holders of all assets that a transaction touches want; None: finality."""
        assert entry.outcome is not None
        try:
            operations = SignedTransaction.decode(signed, limit_bytes=self._limit_bytes).transaction.operations
        except PeerFault:
            return None
        most = 0
        for operation in operations:
            asset = getattr(operation, "asset", None)
            row = None if asset is None else entry.outcome.version.get(Table.FINALITY, asset)
            if row is None:
                return None
            most = max(most, FinalityRow.decode(row).confirmations)
        return most or None

    def _confirm(self, head: Entry) -> list[Tell]:
        """What has become confirmed by the blocks up to this head."""
        tells: list[Tell] = []
        ancestors: dict[bytes, Entry] | None = None
        for block_id, waiting in list(self._unconfirmed.items()):
            if ancestors is None:
                ancestors = {entry.block.id: entry for entry in self._chain.ancestry(head)}
            entry = ancestors.get(block_id)
            if entry is None:
                continue
            above = head.block.height - entry.block.height
            ready = [outcome for outcome in waiting if outcome.needed is not None and outcome.needed <= above]
            if ready:
                left = [outcome for outcome in waiting if outcome not in ready]
                if left:
                    self._unconfirmed[block_id] = left
                else:
                    del self._unconfirmed[block_id]
                tells += self._tell(ProgressStatus.CONFIRMED, entry, ready)
        return tells

    def _tell(self, status: ProgressStatus, entry: Entry, outcomes: list[_Outcome]) -> list[Tell]:
        """One message for each client that still listens."""
        by_client: dict[int, list[_Outcome]] = {}
        for outcome in outcomes:
            if outcome.client in self._clients:
                by_client.setdefault(outcome.client, []).append(outcome)
        header = entry.block.header
        return [
            Tell(
                client,
                status,
                header.height,
                header.time_ms,
                b"".join([outcome.id for outcome in told]),
                b"".join([outcome.code for outcome in told]),
                tuple((at, outcome.rule) for at, outcome in enumerate(told) if outcome.rule),
            )
            for client, told in by_client.items()
        ]
