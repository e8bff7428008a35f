"""Claims: what is known about a party, and the conditions for holding an asset that are judged by it.

A *claim* is a statement of one issuer about one subject and topic (that it is a qualified investor, that it is under
sanctions, its country), up to a moment. It counts while that moment has not passed at the time of the block, and while
the network trusts the issuer in this topic. Two topics are understood by the ledger itself: ``country`` names a country
as its value and goes before what the register of parties says; all others say yes by being there.

Conditions are judged when something new begins: a transfer, a lock of an instruction, an issue. What was promised
then is kept, whatever claims become of later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

from p2pledger.ledger.books import Books
from p2pledger.ledger.market.instruments import holds_until
from p2pledger.ledger.market.parties import holder_of, party_of
from p2pledger.ledger.market.permissions import require
from p2pledger.ledger.rule import Place, Refused, Rule, require_asset
from p2pledger.ledger.tables import Party, Table, fields_of
from p2pledger.primitives.codec import encode
from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.parties import IssueClaim, RevokeClaim, TrustIssuer, country_is_valid
from p2pledger.primitives.names import asset_text
from p2pledger.primitives.reasons import Reason

__all__ = [
    "COUNTRY",
    "RULES",
    "Claim",
    "HolderRules",
    "Trusted",
    "claim_of",
    "country_of",
    "judge",
    "rule_name",
    "topic_key",
]

COUNTRY: Final = "country"
"""The topic whose value is a country."""


@dataclass(frozen=True, slots=True)
class Claim:
    """CLAIMS: what an issuer says about a subject in one topic, since and up to when (0: without end)."""

    table: ClassVar[Table] = Table.CLAIMS

    value: str
    since_ms: int
    until_ms: int

    def encode(self) -> bytes:
        return encode((1, self.value, self.since_ms, self.until_ms))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "CLAIMS", 3))


@dataclass(frozen=True, slots=True)
class Trusted:
    """TRUSTED: whose claims about a topic count, and who said so. Without a row they count nothing."""

    table: ClassVar[Table] = Table.TRUSTED

    by: bytes

    def encode(self) -> bytes:
        return encode((1, self.by))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "TRUSTED", 1))


@dataclass(frozen=True, slots=True)
class HolderRules:
    """HOLDER_RULES: fields as in ``SetHolderRules``; ``version`` counts how often they were set."""

    table: ClassVar[Table] = Table.HOLDER_RULES

    version: int
    required: tuple[str, ...]
    refused: tuple[str, ...]
    countries: tuple[str, ...]
    most_holders: int
    most_share_ppm: int

    def encode(self) -> bytes:
        return encode(
            (
                1,
                self.version,
                self.required,
                self.refused,
                self.countries,
                self.most_holders,
                self.most_share_ppm,
            )
        )

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "HOLDER_RULES", 6))


def topic_key(topic: str) -> bytes:
    """The topic in UTF-8, filled up with zero bytes to 16."""
    data = topic.encode()
    assert len(data) <= 16, "a topic is too long"
    return data.ljust(16, b"\0")


def claim_of(books: Books, place: Place, subject: bytes, topic: str) -> Claim | None:
    """The claim about a topic that counts at the time of the block; the first by issuer, where several do."""
    key = topic_key(topic)
    for row_key, row in books.rows(Claim, subject + key):
        if holds_until(row.until_ms, place.time_ms) and books.row(Trusted, key + row_key[48:]) is not None:
            return row
    return None


def country_of(books: Books, place: Place, party: bytes) -> str:
    """Where a party is from: by a claim that counts, else as it was registered; empty where nobody knows."""
    claim = claim_of(books, place, party, COUNTRY)
    if claim is not None:
        return claim.value
    entry = books.row(Party, party)
    return "" if entry is None else entry.country


def rule_name(asset: bytes, condition: str = "") -> str:
    """How refusals name the rules about who holds an asset, and which of their conditions failed."""
    return f"holder rule of {asset_text(asset)}{f': {condition}' if condition else ''}"


def judge(books: Books, place: Place, asset: bytes, party: bytes) -> None:
    """Whether a party (or an account of nobody) may come to hold an asset; ``ineligible``, naming the condition.

    A topic that is refused also shuts out accounts of nobody. The issuer of the asset always may. Numbers of holders
    and shares are judged in ``holders.py``.
    """
    rules = books.row(HolderRules, asset)
    if rules is None or holder_of(books, require_asset(books, asset).issuer) == party:
        return
    for topic in rules.required:
        if claim_of(books, place, party, topic) is None:
            raise Refused(Reason.INELIGIBLE, rule=rule_name(asset, topic))
    # Of whom nobody knows who he is, nobody can know that he is not under sanctions: a fresh account is no way around.
    is_known = party_of(books, party) is not None
    for topic in rules.refused:
        if not is_known or claim_of(books, place, party, topic) is not None:
            raise Refused(Reason.INELIGIBLE, rule=rule_name(asset, f"not {topic}"))
    if rules.countries and country_of(books, place, party) not in rules.countries:
        raise Refused(Reason.INELIGIBLE, rule=rule_name(asset, COUNTRY))


class TrustIssuerRule:
    """Says whose claims about a topic count, or no longer.

    who may     a regulator, an operator or a depository
    signed by   by
    needs       the issuer is a party
    changes     the trust: it begins, or ends for all claims of the issuer about the topic, those made before too
    refuses     not_permitted, unknown_party, unknown_record (where there is no trust to end)
    """

    def must_sign(self, books: Books, operation: TrustIssuer) -> Iterator[bytes]:
        yield operation.by

    def execute(self, books: Books, operation: TrustIssuer, place: Place) -> None:
        require(books, place, operation.by, operation.code)
        if books.row(Party, operation.issuer) is None:
            raise Refused(Reason.UNKNOWN_PARTY)
        key = topic_key(operation.topic) + operation.issuer
        if not operation.on and books.row(Trusted, key) is None:
            raise Refused(Reason.UNKNOWN_RECORD, rule=f"trust in {operation.topic}")
        books.put(Trusted, key, Trusted(holder_of(books, operation.by)) if operation.on else None)


class IssueClaimRule:
    """States something about a party, or states it anew.

    who may     a party that is trusted in the topic
    signed by   issuer
    needs       the subject is a party or an account; a moment of expiry that has not passed, or none; about the topic
                country, a country as its value
    changes     the claim, from this block on
    refuses     not_permitted, unknown_account, bad_party
    """

    def must_sign(self, books: Books, operation: IssueClaim) -> Iterator[bytes]:
        yield operation.issuer

    def execute(self, books: Books, operation: IssueClaim, place: Place) -> None:
        require(books, place, operation.issuer, operation.code)
        key = topic_key(operation.topic)
        if books.row(Trusted, key + operation.issuer) is None:
            raise Refused(Reason.NOT_PERMITTED, rule=f"only those trusted in {operation.topic} state it")
        if books.account(operation.subject) is None:
            raise Refused(Reason.UNKNOWN_ACCOUNT)
        if operation.topic == COUNTRY and not country_is_valid(operation.value):
            raise Refused(Reason.BAD_PARTY, rule="country (ISO 3166-1 alpha-2)")
        if not holds_until(operation.until_ms, place.time_ms):
            raise Refused(Reason.BAD_PARTY, rule="until_ms has passed")
        row = Claim(operation.value, place.time_ms, operation.until_ms)
        books.put(Claim, operation.subject + key + operation.issuer, row)


class RevokeClaimRule:
    """Takes a claim back.

    who may     the party that made it, trusted or not
    signed by   issuer
    needs       a claim of the issuer about subject and topic
    changes     the claim goes
    refuses     not_permitted, unknown_record
    """

    def must_sign(self, books: Books, operation: RevokeClaim) -> Iterator[bytes]:
        yield operation.issuer

    def execute(self, books: Books, operation: RevokeClaim, place: Place) -> None:
        require(books, place, operation.issuer, operation.code)
        key = operation.subject + topic_key(operation.topic) + operation.issuer
        if books.row(Claim, key) is None:
            raise Refused(Reason.UNKNOWN_RECORD, rule=f"claim about {operation.topic}")
        books.put(Claim, key, None)


RULES: Final[Mapping[type[Operation], Rule[Any]]] = MappingProxyType(
    {TrustIssuer: TrustIssuerRule(), IssueClaim: IssueClaimRule(), RevokeClaim: RevokeClaimRule()}
)
