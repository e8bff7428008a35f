"""Questions that a client may ask a node: all about the newest final state, each answered in one consistent read.

The kinds, their arguments and their results are listed in docs/protocol.md, section 10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from p2pledger import core
from p2pledger.ledger import queries as ledger
from p2pledger.ledger.chainspec import Chainspec
from p2pledger.ledger.market import views
from p2pledger.ledger.market.buckets import Encumbrance
from p2pledger.ledger.proofs import prove
from p2pledger.ledger.rule import Place
from p2pledger.ledger.tables import KEY_WIDTHS, Holding, Lock, Table, asset_of
from p2pledger.ledger.transition import simulate
from p2pledger.node.node import Node
from p2pledger.primitives.codec import Fields, Value
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.messages import Answer, Query
from p2pledger.primitives.names import asset_text

__all__ = ["HEAVY", "NodeStatus", "answer", "heavy_answer"]

_PAGE: Final = 1_000
_MAX_LOOKUPS: Final = 4_096
_MAX_PROOFS: Final = 16
_MAX_VIEW_ARGUMENTS: Final = 16
_ROW_US: Final = 15
_VIEW_US: Final = 500
_READ_BY_VIEWS: Final = (
    Table.ASSETS,
    Table.DUE,
    Table.OWNERS,
    Table.BENEFICIARIES,
    Table.INSTRUCTIONS,
    Table.ORDERS,
)
"""Tables that some view reads from end to end: about a microsecond a row, so that a great one keeps no node from its
work."""
_PRIVATE: Final = frozenset({Table.BENEFICIARIES, Table.HOLDER_SUMS})
"""Tables that are not handed out row by row: who stands behind an account is for those entitled to it; and what a party
holds in all, less what is in its own accounts, is its share behind those of others."""
HEAVY: Final = ("supply", "view")
"""Questions whose answers may read the whole state."""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """Where a node stands, for people and programs."""

    name: str
    final_height: int
    final_block: bytes
    view: int
    state_root: bytes
    mempool_bytes: int
    held_batches: int
    validators_connected: int
    clients_connected: int
    catching_up: bool
    transactions_final: int
    batches_dropped: int
    """Of makers whose lanes were full."""
    engine: str
    profile: str
    head_height: int
    head: bytes
    head_weight: int
    forks: int
    """Reorganisations since the node started."""
    given_up: int
    """Batches, blocks and branches that were wanted and are not any more, because nobody sent them."""
    questions_refused: int
    """Questions of other nodes that exceeded their share."""
    offences: int

    def values(self) -> tuple[Value, ...]:
        """The result of the query ``status``."""
        return (
            self.name,
            self.final_height,
            self.final_block,
            self.view,
            self.final_height,
            self.state_root,
            self.mempool_bytes,
            self.held_batches,
            self.validators_connected,
            self.catching_up,
            core.description(),
            self.transactions_final,
            self.engine,
            self.profile,
            self.head_height,
            self.head,
            str(self.head_weight),
            self.forks,
            self.batches_dropped,
            self.given_up,
            self.questions_refused,
            self.offences,
        )


class _NoAnswer(Exception):
    def __init__(self, code: str, sentence: str) -> None:
        self.code, self.sentence = code, sentence


def answer(query: Query, node: Node, status: NodeStatus) -> Answer:
    """The answer to one query. Bad questions get a code and a sentence, never an error."""
    try:
        if query.kind == "status":
            return Answer(query.request, "", status.values())
        question = _KINDS.get(query.kind)
        if question is None:
            raise _NoAnswer("unknown_query", f"there is no query {query.kind!r}; known are: {', '.join(_ALL)}")
        count, respond = question
        fields = Fields(query.arguments, what=f"query {query.kind}", count=count)
        return Answer(query.request, "", respond(node, fields))
    except _NoAnswer as refusal:
        return Answer(query.request, refusal.code, (refusal.sentence,))
    except PeerFault as fault:
        return Answer(query.request, "bad_arguments", (str(fault),))


def _holdings(node: Node, fields: Fields) -> tuple[Value, ...]:
    account = fields.binary("account", 32)
    if ledger.account_of(node.final_version, account) is None:
        raise _NoAnswer("unknown_account", f"there is no account {account.hex()}")
    lines = ledger.holdings_of(node.final_version, account)
    return node.final_height, tuple((line.asset, line.holding.free, line.holding.locked) for line in lines)


def _holders(node: Node, fields: Fields) -> tuple[Value, ...]:
    asset, after = fields.binary("asset", 16), _after(fields, 32)
    limit = fields.integer("limit", most=_PAGE)
    lines = ledger.holders_of(node.final_version, asset, after=after, limit=limit)
    return node.final_height, tuple((line.account, line.holding.free, line.holding.locked) for line in lines)


def _assets(node: Node, fields: Fields) -> tuple[Value, ...]:
    after, limit = _after(fields, 16), fields.integer("limit", most=_PAGE)
    found = node.final_version.scan(Table.ASSETS, after=after, limit=limit)
    rows = []
    for key, _ in found:
        row = ledger.asset_row(node.final_version, key)
        assert row is not None
        rows.append((key, int(row.kind), row.decimals, row.issuer, row.issued, row.redeemed, row.name))
    return node.final_height, tuple(rows)


def _party(node: Node, fields: Fields) -> tuple[Value, ...]:
    account = fields.binary("account", 32)
    row, party = ledger.account_of(node.final_version, account), ledger.party_of(node.final_version, account)
    if row is None:
        raise _NoAnswer("unknown_account", f"there is no account {account.hex()}")
    name, roles = ("", ()) if party is None else (party.name, party.roles)
    return node.final_height, name, tuple(roles), row.policy.values()


def _block(node: Node, fields: Fields) -> tuple[Value, ...]:
    height = fields.integer("height")
    if height == 0:
        return node.genesis.block.encode(), b"", b""
    if height > node.final_height:
        raise _NoAnswer("unknown_height", f"height {height} is not final here; the newest is {node.final_height}")
    if height == node.final_height:
        certificate = node.newest_finalisation
        own = certificate is not None and certificate.block == node.final_block.id
        proof = certificate.encode() if own and certificate is not None else b""
        return node.final_block.encode(), proof, node.final_outcome.codes or (node.archive.receipts(height) or b"")
    block = node.archive.final_block(height)
    if block is None:
        raise _NoAnswer("unknown_height", f"height {height} is not in the block log")
    return block, node.archive.finalisation(height) or b"", node.archive.receipts(height) or b""


def _batch(node: Node, fields: Fields) -> tuple[Value, ...]:
    digest = fields.binary("digest", 32)
    data = node.batch(digest)
    if data is None:
        raise _NoAnswer("unknown_batch", f"there is no batch {digest.hex()}")
    return (data,)


def _lookup(node: Node, fields: Fields) -> tuple[Value, ...]:
    found = []
    for pair in fields.array("transactions", most=_MAX_LOOKUPS):
        entry = Fields(pair, what="lookup", count=2)
        valid_until, identifier = entry.integer("valid_until"), entry.binary("id", 32)
        row = ledger.remembered(node.final_version, valid_until, identifier)
        found.append(None if row is None else (row.height, row.code, row.operation, row.rule))
    return node.final_height, tuple(found)


def _simulate(node: Node, fields: Fields) -> tuple[Value, ...]:
    """As executed next: on the newest final state, at the next height, at the earliest block time."""
    data = fields.binary("transaction")
    height, time_ms = node.final_height + 1, node.final_block.header.time_ms + 1
    result = simulate(node.final_version, data, height=height, time_ms=time_ms, spec=Chainspec.of(node.genesis))
    code, operation = result.receipt.code, result.receipt.operation
    return code, operation, height, time_ms, node.final_height, result.state_root, result.rule


def _row(node: Node, fields: Fields) -> tuple[Value, ...]:
    """A row of the newest *certified* state: with the header that carries its root, and the header's finalisation."""
    table, key = _place(fields)
    version, height, finalisation = _certified(node)
    return height, version.get(table, key), prove(version, table, key), node.final_block.encode(), finalisation


def _proofs(node: Node, fields: Fields) -> tuple[Value, ...]:
    """Proofs of several rows under one certified root: what a single ``row`` at a time cannot promise."""
    wanted = []
    for item in fields.array("rows", most=_MAX_PROOFS):
        wanted.append(_place(Fields(item, what="row to prove", count=2)))
    version, height, finalisation = _certified(node)
    return height, tuple(prove(version, *place) for place in wanted), node.final_block.encode(), finalisation


def _after(fields: Fields, width: int) -> bytes | None:
    """The key behind which a page begins: of this width, or empty for the first one."""
    after = fields.binary("after", most=width)
    if after and len(after) != width:
        raise _NoAnswer("bad_arguments", f"after has {len(after)} bytes, not {width} or none")
    return after or None


def _place(fields: Fields) -> tuple[int, bytes]:
    """A table and a key in it."""
    table, key = fields.integer("table", most=63), fields.binary("key", most=128)
    if KEY_WIDTHS.get(table) != len(key):
        raise _NoAnswer("bad_arguments", f"table {table} has no keys of {len(key)} bytes")
    _refuse_private(table)
    return table, key


def _refuse_private(table: int) -> None:
    if table in _PRIVATE:
        raise _NoAnswer("not_entitled", f"table {table} is read through the view look_through, by those entitled")


def _certified(node: Node) -> tuple[core.Version, int, bytes]:
    """The newest state whose root stands in a final header, its height, and that header's finalisation.

    In the chain family there is no finalisation: the blocks above the header are the proof.
    """
    certified, finalisation = node.certified, node.newest_finalisation
    is_proved = finalisation is not None and finalisation.block == node.final_block.id
    if certified is None or not (is_proved or node.genesis.engine != "simplex"):
        raise _NoAnswer("not_ready", "no certified state yet: there is one after the first block")
    outcome, height = certified
    return outcome.version, height, finalisation.encode() if is_proved and finalisation is not None else b""


def _rows(node: Node, fields: Fields) -> tuple[Value, ...]:
    """Rows of a table of the final state, by key, without proof."""
    table = fields.integer("table", most=63)
    if table not in KEY_WIDTHS:
        raise _NoAnswer("bad_arguments", f"there is no table {table}")
    _refuse_private(table)
    after, limit = _after(fields, KEY_WIDTHS[table]), fields.integer("limit", most=_PAGE)
    found = node.final_version.scan(table, after=after, limit=limit)
    return node.final_height, tuple(found)


def _head(node: Node, fields: Fields) -> tuple[Value, ...]:
    """The chain that is followed now. The weight does not fit an integer of the codec."""
    block = node.head.entry.block
    return block.height, block.id, str(node.head_weight), node.final_height, node.final_block.id, node.head.reason


def _forks(node: Node, fields: Fields) -> tuple[Value, ...]:
    """The last reorganisations, newest last."""
    return tuple(
        (fork.height, fork.old, fork.new, fork.ancestor, fork.reason, fork.reverted, fork.depth)
        for fork in node.head.forks
    )


def heavy_answer(query: Query, node: Node, reader: bytes) -> tuple[Callable[[], Answer], int]:
    """The work that answers a query of ``HEAVY``, pure over the pinned final state, and its cost in microseconds.

    ``reader`` is the public key of the session that asks: some views answer only those who are entitled to them.
    """
    height, version, root = node.final_height, node.final_version, node.final_outcome.state_root
    if query.kind == "view":
        place = Place(height, node.final_block.header.time_ms, Chainspec.of(node.genesis))

        def run() -> Answer:
            try:
                fields = Fields(query.arguments, what="query view", count=2)
                name, arguments = fields.text("name", most=64), fields.array("arguments", most=_MAX_VIEW_ARGUMENTS)
                return Answer(query.request, "", (height, root, views.view(version, place, reader, name, arguments)))
            except views.NoView as refusal:
                return Answer(query.request, refusal.code, (refusal.sentence,))
            except PeerFault as fault:
                return Answer(query.request, "bad_arguments", (str(fault),))

        return run, _VIEW_US + sum(map(version.count, _READ_BY_VIEWS))
    if query.arguments:
        wrong = Answer(query.request, "bad_arguments", (f"query {query.kind} has no arguments",))
        return (lambda: wrong), 1
    rows = sum(map(version.count, (Table.HOLDINGS, Table.LOCKS, Table.ENCUMBRANCES, Table.ASSETS)))
    return (lambda: Answer(query.request, "", _supply(height, version, root))), _ROW_US * rows


def _supply(height: int, version: core.Version, root: bytes) -> tuple[Value, ...]:
    """For each asset what was issued and redeemed, what the holdings, and the rows of what is locked or otherwise
    encumbered, add up to; and what is wrong.
    """
    holdings = ((key, Holding.decode(row)) for key, row in ledger.rows(version, Table.HOLDINGS))
    held = _sums((key, holding.free, holding.locked) for key, holding in holdings)
    locks = _sums(
        (
            *((key, Lock.decode(row).amount, 0) for key, row in ledger.rows(version, Table.LOCKS)),
            *((key, Encumbrance.decode(row).amount, 0) for key, row in ledger.rows(version, Table.ENCUMBRANCES)),
        )
    )
    lines = []
    for asset, row in ledger.assets(version):
        free, locked = held.get(asset, (0, 0))
        lines.append((asset, row.issued, row.redeemed, free, locked, locks.get(asset, (0, 0))[0]))
    findings = tuple(
        f"{asset_text(finding.asset)}: {finding.what} (expected {finding.expected}, found {finding.found})"
        for finding in ledger.check_conservation(version)
    )
    return height, root, tuple(lines), findings


def _sums(rows: Iterable[tuple[bytes, int, int]]) -> dict[bytes, tuple[int, int]]:
    totals: dict[bytes, tuple[int, int]] = {}
    for key, first, second in rows:
        asset = asset_of(key)
        before = totals.get(asset, (0, 0))
        totals[asset] = (before[0] + first, before[1] + second)
    return totals


_KINDS: Final[dict[str, tuple[int, Callable[[Node, Fields], tuple[Value, ...]]]]] = {
    "holdings": (1, _holdings),
    "holders": (3, _holders),
    "assets": (2, _assets),
    "party": (1, _party),
    "block": (1, _block),
    "batch": (1, _batch),
    "lookup": (1, _lookup),
    "simulate": (1, _simulate),
    "row": (2, _row),
    "proofs": (1, _proofs),
    "rows": (3, _rows),
    "head": (0, _head),
    "forks": (0, _forks),
}
"""kind -> (number of arguments, the function)."""

_ALL: Final = ("status", *_KINDS, *HEAVY)
