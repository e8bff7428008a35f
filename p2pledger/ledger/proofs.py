"""Proofs of rows: what a client needs to believe one row of the state, and nothing else but a certified root.

    proof = [1, table, key, leaf, path, tables]      docs/protocol.md, section 7

A proof of presence ends in the leaf of the key itself. A proof of absence ends in the one leaf at which the path of the
key ends although it is another's: where the tree would have to hold the key, it holds that. Proofs come from nodes that
nobody needs to trust, so everything in them is refused as a peer's fault and nothing is assumed.
"""

from __future__ import annotations

from typing import Final

from p2pledger import core
from p2pledger.ledger.tables import KEY_WIDTHS
from p2pledger.primitives.codec import Fields, decode, encode
from p2pledger.primitives.errors import PeerFault

__all__ = ["MAX_PROOF_BYTES", "prove", "verify"]

MAX_PROOF_BYTES: Final = 1_048_576
_PATH_MOST: Final = 8 * max(KEY_WIDTHS.values())
_TABLE_HASHES: Final = 6


def prove(version: core.Version, table: int, key: bytes) -> bytes:
    """The encoded proof of what ``version`` holds under a key, be it a row or nothing.

    ValueError for a table or a key width that the state does not have.
    """
    proof = version.prove(table, key)
    return encode((1, int(table), key, proof.leaf, proof.path, proof.tables))


def verify(root: bytes, data: bytes) -> tuple[int, bytes, bytes | None]:
    """(table, key, row) that an encoded proof shows under a state root; the row is None where it shows absence.

    PeerFault ``malformed``, ``too_large`` or ``unknown_version`` for bad form, ``bad_proof`` where it shows nothing
    under this root. The caller must still compare table and key with what it has asked for.
    """
    values = decode(data, limit_bytes=MAX_PROOF_BYTES, what="proof")
    fields = Fields(values, what="proof", count=6, version=1)
    table = fields.integer("table")
    if table not in KEY_WIDTHS:
        raise PeerFault(f"table {table} is unknown", code="malformed")
    key = fields.binary("key", KEY_WIDTHS[table])
    leaf: tuple[bytes, bytes] | None = None
    if values[3] is not None:
        entry = Fields(values[3], what="proof leaf", count=2)
        leaf = entry.binary("key", KEY_WIDTHS[table]), entry.binary("row")
    rest = Fields(values[4:], what="proof", count=2)
    path = []
    for row in rest.array("path", most=_PATH_MOST):
        entry = Fields(row, what="proof path", count=2)
        path.append((entry.integer("bit", most=_PATH_MOST), entry.binary("sibling", 32)))
    tables = rest.binaries("tables", 32, most=_TABLE_HASHES)
    if len(tables) != _TABLE_HASHES:
        raise PeerFault(f"a proof carries {_TABLE_HASHES} hashes of tables", code="malformed")
    value = leaf[1] if leaf is not None and leaf[0] == key else None
    if not core.state_verify(root, table, key, value, core.Proof(leaf, tuple(path), tables)):
        raise PeerFault("the proof does not lead to the state root", code="bad_proof")
    return table, key, value
