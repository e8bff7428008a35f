"""Standing offers: "one share for 13,000 in cash", settled at once with whoever takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from p2pledger.primitives.forms import Account, Amount, AssetName, Form, Number, Operation, Reference, Salt, TimeMs
from p2pledger.primitives.names import object_id

__all__ = ["OFFER_OPERATIONS", "PlaceOffer", "TakeOffer", "WithdrawOffer"]


@dataclass(frozen=True, slots=True)
class PlaceOffer(Operation):
    """Offers lots of one asset for another; all that is given is set aside at once."""

    code: ClassVar[int] = 57
    form: ClassVar[Form] = (
        Account("by"),
        Salt("salt"),
        AssetName("gives"),
        Amount("gives_amount"),
        AssetName("takes"),
        Amount("takes_amount"),
        Number("lots", least=1),
        TimeMs("expires_ms"),
        Account("taker", optional=True),
    )
    by: bytes
    salt: bytes
    gives: bytes
    gives_amount: int
    """Of each lot."""
    takes: bytes
    takes_amount: int
    """Of each lot."""
    lots: int
    expires_ms: int
    """The last millisecond at which it can be taken."""
    taker: bytes
    """Who alone may take it; empty: whoever comes first."""

    @property
    def id(self) -> bytes:
        """The identifier of the offer that it makes."""
        return object_id(self.code, self.by, self.salt)


@dataclass(frozen=True, slots=True)
class TakeOffer(Operation):
    """Takes lots of an offer: both sides change hands at once, or neither."""

    code: ClassVar[int] = 58
    form: ClassVar[Form] = (Reference("offer"), Account("by"), Number("lots", least=1))
    offer: bytes
    by: bytes
    lots: int


@dataclass(frozen=True, slots=True)
class WithdrawOffer(Operation):
    """Takes back what of an offer nobody has taken."""

    code: ClassVar[int] = 59
    form: ClassVar[Form] = (Reference("offer"), Account("by"))
    offer: bytes
    by: bytes


OFFER_OPERATIONS: Final = (PlaceOffer, TakeOffer, WithdrawOffer)
