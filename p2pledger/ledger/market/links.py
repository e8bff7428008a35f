"""Links: how units of an instrument move from one register to another, and that none is made or lost by it.

Each depository writes in its own register alone. What it lets in from another register, and out to it, stands in a
*standing link*, which both have signed: one instrument, one direction, a limit, an end. Under it an owner *crosses*
units by himself: they leave his holding in the one register and arrive in the other one, in the same transaction as
their sale if he likes. Neither depository signs again, and where no link stands neither can write in the other's
register.

    LINKS      (from, to, instrument)  the terms, and how many units ever crossed by it
    FLOWS      asset                   in and out of one register, over all links (``movement.py`` writes it)
    CROSSINGS  id                      one crossing: out of one register and into exactly one other

A link's *limit* is on what stands in the other register by it: what crossed less what came back by the link of the
opposite direction. Units that go home never meet it.

``check_registers`` recomputes from rows alone that each register adds up: opening + issued - redeemed + in - out, each
out with exactly one in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

from p2pledger import core
from p2pledger.ledger.books import Books
from p2pledger.ledger.market.buckets import FREE_SPOT
from p2pledger.ledger.market.instruments import holds_until, is_mirror
from p2pledger.ledger.market.movement import Cause, Movement, move
from p2pledger.ledger.market.parties import holder_of
from p2pledger.ledger.market.permissions import require
from p2pledger.ledger.queries import Finding, assets, rows
from p2pledger.ledger.rule import Place, Refused, Rule, require_amount, require_asset
from p2pledger.ledger.tables import Flow, Holding, Table, asset_of, fields_of, register_of
from p2pledger.primitives.codec import U64_MAX, encode
from p2pledger.primitives.forms import Operation
from p2pledger.primitives.market.links import AgreeLink, Cross, EndLink
from p2pledger.primitives.names import isin_is_valid
from p2pledger.primitives.reasons import Reason

__all__ = [
    "RULES",
    "Crossing",
    "Link",
    "RegisterLine",
    "check_registers",
    "link_key",
    "links_of",
    "register_lines",
]


@dataclass(frozen=True, slots=True)
class Link:
    """LINKS: the terms between two registers for one instrument in one direction.

    ``crossed``: how many units ever crossed by it, also under earlier terms. ``until_ms``: the last moment; 0 is
    without end. A link that was ended is kept, for what stands in the other register by it.
    """

    table: ClassVar[Table] = Table.LINKS

    limit: int
    until_ms: int
    is_open: bool
    crossed: int = 0

    def encode(self) -> bytes:
        return encode((1, self.limit, self.until_ms, self.is_open, self.crossed))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "LINKS", 4))


@dataclass(frozen=True, slots=True)
class Crossing:
    """CROSSINGS: units of an account that left one register and arrived in another."""

    table: ClassVar[Table] = Table.CROSSINGS

    account: bytes
    source: bytes
    target: bytes
    amount: int
    height: int
    time_ms: int

    def encode(self) -> bytes:
        return encode((1, self.account, self.source, self.target, self.amount, self.height, self.time_ms))

    @classmethod
    def decode(cls, row: bytes) -> Self:
        return cls(*fields_of(row, "CROSSINGS", 6))


def link_key(source: bytes, target: bytes, instrument: bytes) -> bytes:
    """The links from one register are neighbours."""
    return source + target + instrument


def _text(register: bytes) -> str:
    return register.rstrip(b"\0").decode("ascii", "replace")


def _depository(books: Books, register: bytes) -> bytes:
    row = books.register(register)
    if row is None:
        raise Refused(Reason.UNKNOWN_REGISTER)
    return row.depository


class AgreeLinkRule:
    """Lets units of an instrument move from one register to another, or changes the terms.

    who may     the depositories of the two registers, together
    signed by   the depository of source, then that of target
    needs       two registers; an ISIN; a limit; an end to come, or none
    changes     the link stands under these terms; what crossed before counts on
    refuses     (unknown_register), zero_amount, no_link (a register has no link to itself), bad_isin, wrong_time,
                not_permitted
    """

    def must_sign(self, books: Books, operation: AgreeLink) -> Iterator[bytes]:
        yield _depository(books, operation.source)
        yield _depository(books, operation.target)

    def execute(self, books: Books, operation: AgreeLink, place: Place) -> None:
        source, target, instrument = operation.source, operation.target, operation.instrument
        require_amount(operation.limit)
        if source == target:
            raise Refused(Reason.NO_LINK, "a link joins two registers")
        # Money has no ISIN: it reaches other banks by payments, through reserves.
        if not isin_is_valid(instrument.decode("ascii", "replace")):
            raise Refused(Reason.BAD_ISIN)
        if not holds_until(operation.until_ms, place.time_ms):
            raise Refused(Reason.WRONG_TIME, "a link ends at a moment to come")
        for register in (source, target):
            actor = _depository(books, register)
            require(books, place, actor, operation.code, register=register, amount=operation.limit)
        key = link_key(source, target, instrument)
        present = books.row(Link, key)
        crossed = 0 if present is None else present.crossed
        books.put(Link, key, Link(operation.limit, operation.until_ms, True, crossed))


class EndLinkRule:
    """Ends a link for new crossings. What stands in the other register stays there, and may go home by its own link.

    who may     the depository of either register, alone
    signed by   depository
    needs       a link that stands
    changes     nothing crosses by it any more
    refuses     (unknown_register), not_permitted, no_link
    """

    def must_sign(self, books: Books, operation: EndLink) -> Iterator[bytes]:
        yield operation.depository

    def execute(self, books: Books, operation: EndLink, place: Place) -> None:
        source, target, depository = operation.source, operation.target, operation.depository
        own = target if _depository(books, target) == depository else source
        _depository(books, source)
        require(books, place, depository, operation.code, register=own)
        key = link_key(source, target, operation.instrument)
        present = books.row(Link, key)
        if present is None or not present.is_open:
            raise Refused(Reason.NO_LINK, _link_text(source, target))
        books.put(Link, key, replace(present, is_open=False))


class CrossRule:
    """Moves free units of an account to the same account in another register.

    who may     the owner, under a standing link for this instrument and direction
    signed by   account
    needs       the asset in both registers, in the same units and of the same issuer, neither of them a mirror; a link
                that stands; room below its limit; the amount free in the account
    changes     free in the one register shrinks and in the other one grows; out of the one and in of the other grow;
                the crossing is noted
    refuses     zero_amount, unknown_asset, no_link, is_mirror, above_link_limit, identifier_used, not_permitted,
                insufficient_free, overflow, the guards of both assets
    """

    def must_sign(self, books: Books, operation: Cross) -> Iterator[bytes]:
        yield operation.account

    def execute(self, books: Books, operation: Cross, place: Place) -> None:
        account, asset, target, amount = operation.account, operation.asset, operation.target, operation.amount
        require_amount(amount)
        here, there = require_asset(books, asset), require_asset(books, target)
        source_register, target_register, instrument = register_of(asset), operation.register, asset[:12]
        key = link_key(source_register, target_register, instrument)
        link = books.row(Link, key)
        if link is None or not link.is_open or not holds_until(link.until_ms, place.time_ms):
            raise Refused(Reason.NO_LINK, _link_text(source_register, target_register))
        if (here.kind, here.decimals) != (there.kind, there.decimals):
            raise Refused(Reason.NO_LINK, "the registers count in different units")
        if holder_of(books, here.issuer) != holder_of(books, there.issuer):
            # Else who issues in the one register would make units of another's instrument in the other one.
            raise Refused(Reason.NO_LINK, "the registers name different issuers")
        if is_mirror(books, asset) or is_mirror(books, target):
            raise Refused(Reason.IS_MIRROR, f"a mirror of {asset[:12].decode('ascii', 'replace')}")
        back = books.row(Link, link_key(target_register, source_register, instrument))
        came_back = 0 if back is None else back.crossed
        if link.crossed + amount > min(U64_MAX, link.limit + came_back):
            raise Refused(Reason.ABOVE_LINK_LIMIT, _link_text(source_register, target_register))
        if books.row(Crossing, operation.id) is not None:
            raise Refused(Reason.IDENTIFIER_USED)
        for kept in (asset, target):
            require(books, place, account, operation.code, asset=kept, amount=amount)
        code = operation.code
        move(books, place, Movement(asset, account, FREE_SPOT, None, FREE_SPOT, amount, Cause.DEPARTURE, code))
        move(books, place, Movement(target, None, FREE_SPOT, account, FREE_SPOT, amount, Cause.ARRIVAL, code))
        books.put(Link, key, replace(link, crossed=link.crossed + amount))
        crossing = Crossing(account, asset, target, amount, place.height, place.time_ms)
        books.put(Crossing, operation.id, crossing)


def _link_text(source: bytes, target: bytes) -> str:
    return f"link {_text(source)} to {_text(target)}"


RULES: Final[Mapping[type[Operation], Rule[Any]]] = MappingProxyType(
    {AgreeLink: AgreeLinkRule(), EndLink: EndLinkRule(), Cross: CrossRule()}
)
"""The rules of links and crossings."""


def links_of(version: core.Version, source: bytes = b"") -> Iterator[tuple[bytes, Link]]:
    """(key, terms) of all links, or of those from one register, in order."""
    return ((key, Link.decode(row)) for key, row in rows(version, Table.LINKS, source))


@dataclass(frozen=True, slots=True)
class RegisterLine:
    """One asset in its register: what was there at first, what changed, and what is there now.

    It adds up if ``closing`` is ``expected``.
    """

    asset: bytes
    opening: int
    issued: int
    redeemed: int
    arrived: int
    departed: int
    closing: int

    @property
    def expected(self) -> int:
        return self.opening + self.issued - self.redeemed + self.arrived - self.departed


def register_lines(version: core.Version, since: core.Version | None = None) -> list[RegisterLine]:
    """The lines of all registers, by asset: from the beginning of the ledger, or between two of its versions."""
    before = {} if since is None else {line.asset: line for line in register_lines(since)}
    held: defaultdict[bytes, int] = defaultdict(int)
    for key, row in rows(version, Table.HOLDINGS):
        held[asset_of(key)] += Holding.decode(row).total
    flows = {asset: Flow.decode(row) for asset, row in rows(version, Table.FLOWS)}
    lines = []
    for asset, entry in assets(version):
        flow, old = flows.get(asset, Flow()), before.get(asset)
        line = RegisterLine(asset, 0, entry.issued, entry.redeemed, flow.arrived, flow.departed, held.pop(asset, 0))
        if old is not None:
            line = RegisterLine(
                asset,
                old.closing,
                line.issued - old.issued,
                line.redeemed - old.redeemed,
                line.arrived - old.arrived,
                line.departed - old.departed,
                line.closing,
            )
        lines.append(line)
    lines += [RegisterLine(asset, 0, 0, 0, 0, 0, total) for asset, total in held.items()]
    return lines


def check_registers(version: core.Version, since: core.Version | None = None) -> list[Finding]:
    """Whether every register adds up, from rows alone; an empty list means that it does.

    For each asset, opening + issued - redeemed + in - out is what is held; in and out are the sums over the crossings,
    each of which left one register and arrived in one other of the same instrument; each link has let through what the
    crossings say. It reads every row: for checks, not for clients.
    """
    findings = [
        Finding(line.asset, None, "opening + issued - redeemed + in - out is not held", line.expected, line.closing)
        for line in register_lines(version, since)
        if line.expected != line.closing
    ]
    arrived: defaultdict[bytes, int] = defaultdict(int)
    departed: defaultdict[bytes, int] = defaultdict(int)
    crossed: defaultdict[bytes, int] = defaultdict(int)
    for _, row in rows(version, Table.CROSSINGS):
        crossing = Crossing.decode(row)
        source, target, amount = crossing.source, crossing.target, crossing.amount
        if source[:12] != target[:12] or source == target:
            what = "a crossing does not join two registers of one instrument"
            findings.append(Finding(source, crossing.account, what, amount, 0))
        departed[source] += amount
        arrived[target] += amount
        crossed[link_key(register_of(source), register_of(target), source[:12])] += amount
    flows = {asset: Flow.decode(row) for asset, row in rows(version, Table.FLOWS)}
    for asset in sorted(flows.keys() | arrived.keys() | departed.keys()):
        flow = flows.get(asset, Flow())
        if flow.arrived != arrived[asset]:
            findings.append(Finding(asset, None, "in is not the sum of its crossings", arrived[asset], flow.arrived))
        if flow.departed != departed[asset]:
            findings.append(Finding(asset, None, "out is not the sum of its crossings", departed[asset], flow.departed))
    links = dict(links_of(version))
    for key in sorted(links.keys() | crossed.keys()):
        link = links.get(key)
        if link is None or link.crossed != crossed[key]:
            asset = key[8:] + key[:4]
            what = f"what crossed by the {_link_text(key[:4], key[4:8])} is not the sum of its crossings"
            findings.append(Finding(asset, None, what, crossed[key], 0 if link is None else link.crossed))
    return findings
