"""Receipts: what became of a transaction, one for each (docs/protocol.md, section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2pledger.primitives.codec import Fields, decode, encode
from p2pledger.primitives.reasons import WHOLE_TRANSACTION, Reason, sentence_of

__all__ = ["Receipt"]

_MAX_RECEIPT_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Receipt:
    """``code`` 0 is success. ``operation`` is the index of the one that failed, 65535 for the whole transaction."""

    id: bytes
    code: int
    operation: int = 0

    @property
    def succeeded(self) -> bool:
        return self.code == Reason.OK

    @property
    def reason(self) -> Reason:
        return Reason(self.code)

    @property
    def sentence(self) -> str:
        """For people: what happened, and in which operation (counted from 1)."""
        sentence = sentence_of(self.code)
        if self.succeeded or self.operation == WHOLE_TRANSACTION:
            return sentence
        return f"Operation {self.operation + 1}: {sentence}"

    def encode(self) -> bytes:
        """The leaf of this receipt under ``parent_receipts_root``."""
        return encode((1, self.id, self.code, self.operation))

    @classmethod
    def decode(cls, data: bytes) -> Receipt:
        """PeerFault for bad form."""
        values = decode(data, limit_bytes=_MAX_RECEIPT_BYTES, what="receipt")
        fields = Fields(values, what="receipt", count=4, version=1)
        return cls(fields.binary("id", 32), fields.integer("code", most=65535), fields.integer("operation", most=65535))
