"""The store as a node sees it: what is durable, and what is on its way there.

A commit takes milliseconds, and the peer goes on meanwhile. What it has already asked to be stored it must be able to
read back, as if the disk were immediate; so records stay here from the moment they are handed over until their commit
has returned. Nothing that is sent relies on them earlier than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from p2pledger.node.archive import Recovery
from p2pledger.primitives.records import (
    BatchRecord,
    BlockRecord,
    CertificateRecord,
    FinalRecord,
    ForgetRecord,
    ReceiptsRecord,
    Record,
)
from p2pledger.primitives.votes import VoteKind
from p2pledger.storage.store import Store

__all__ = ["StoreArchive", "recovery_of"]


_FORGOTTEN: Final = b""
"""No batch is empty: this one is to be forgotten."""


class StoreArchive:
    """``Archive`` over a ``Store``. NodeStopped (DamagedStore) when a row cannot be read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pending: dict[tuple[str, Any], tuple[Record, bytes]] = {}

    def hold(self, records: Iterable[Record]) -> None:
        """These are handed over to the disk."""
        pending = self._pending
        for record in records:
            for key, value in _readable(record):
                pending[key] = record, value

    def release(self, records: Iterable[Record]) -> None:
        """These are durable."""
        pending = self._pending
        for record in records:
            for key, _ in _readable(record):
                held = pending.get(key)
                if held is not None and held[0] is record:
                    del pending[key]

    def _held(self, kind: str, key: Any) -> bytes | None:
        found = self._pending.get((kind, key))
        return None if found is None else found[1]

    def batch(self, digest: bytes) -> bytes | None:
        held = self._held("batch", digest)
        return self._store.batch(digest) if held is None else held or None

    def block(self, block_id: bytes) -> bytes | None:
        held = self._held("block", block_id)
        if held is not None:
            return held
        stored = self._store.block(block_id)
        return None if stored is None else stored.data

    def final_block(self, height: int) -> bytes | None:
        block_id = self._held("final", height)
        if block_id is not None:
            return self.block(block_id)
        stored = self._store.block_at(height)
        return None if stored is None else stored.data

    def finalisation(self, height: int) -> bytes | None:
        block_id = self._held("final", height)
        if block_id is None:
            stored = self._store.block_at(height)
            if stored is None:
                return None
            if stored.certificate is not None:
                return stored.certificate.data
            block_id = stored.id
        held = self._held("finalisation", block_id)
        if held is not None:
            return held
        certificate = self._store.certificate(VoteKind.FINALISE, block=block_id)
        return None if certificate is None else certificate.data

    def receipts(self, height: int) -> bytes | None:
        held = self._held("receipts", height)
        if held is not None:
            return held
        stored = self._store.receipts(height)
        return None if stored is None else stored.codes


def _readable(record: Record) -> Sequence[tuple[tuple[str, Any], bytes]]:
    """What of a record can be asked for, by kind and key. Asked twice for each record, so the frequent come first."""
    if isinstance(record, BatchRecord):
        return ((("batch", record.digest), record.data),)
    if isinstance(record, CertificateRecord):
        return ((("finalisation", record.block), record.data),) if record.kind == VoteKind.FINALISE else ()
    if isinstance(record, BlockRecord):
        return ((("block", record.id), record.data),)
    if isinstance(record, FinalRecord):
        return ((("final", record.height), record.block),)
    if isinstance(record, ReceiptsRecord):
        return ((("receipts", record.height), record.codes),)
    if isinstance(record, ForgetRecord):
        return [(("batch", digest), _FORGOTTEN) for digest in record.batches]
    return ()


def recovery_of(store: Store) -> Recovery:
    """What the store remembers, without a snapshot."""
    recovered = store.load()
    return Recovery(
        votes=tuple(vote.data for vote in recovered.votes),
        certificates=tuple(certificate.data for certificate in recovered.certificates),
        blocks=tuple(block.data for block in recovered.blocks),
        batches=tuple(batch.data for batch in recovered.batches),
        final_height=recovered.height,
        final_block=recovered.block,
        may_vote=store.may_vote,
    )
