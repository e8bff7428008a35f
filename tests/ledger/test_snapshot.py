"""A state leaves as a stream of chunks and comes back with the same root, or not at all."""

import random

import pytest

from p2pledger.ledger.queries import rows
from p2pledger.ledger.snapshot import MAX_CHUNK_BYTES, Importer, export_chunks, import_chunks
from p2pledger.ledger.tables import KEY_WIDTHS, Holding, Table, holding_key
from p2pledger.primitives.codec import decode, encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.transactions import Transfer
from tests.ledger.small_market import BOND_ACROSS, Market, account, copy_into, founded, implementations, signed


def crowded(holders: int = 3_000) -> Market:
    """A market with more holdings than one page or one chunk takes."""
    market = founded()
    branch = market.version.branch()
    for number in range(holders):
        branch.put(Table.HOLDINGS, holding_key(BOND_ACROSS, number.to_bytes(32, "big")), Holding(number + 1).encode())
    market.version = branch.commit()
    return market


@pytest.mark.parametrize("chunk_bytes", [1, 200, 4_096, 262_144])
def test_a_state_survives_the_round_trip(chunk_bytes: int) -> None:
    version = crowded(600).version
    chunks = list(export_chunks(version, chunk_bytes=chunk_bytes))
    copy = import_chunks(chunks, root=version.root())
    assert copy.root() == version.root()
    for table in Table:
        assert list(rows(copy, table)) == list(rows(version, table))


def test_chunks_are_bounded_and_depend_on_the_contents_only() -> None:
    version = crowded().version
    chunks = list(export_chunks(version, chunk_bytes=10_000))
    assert len(chunks) > 10
    assert all(len(chunk) <= 10_000 for chunk in chunks)
    for implementation in implementations():
        assert list(export_chunks(copy_into(implementation, version), chunk_bytes=10_000)) == chunks


def test_a_restored_state_goes_on_like_the_original() -> None:
    """Replay memory travels: what was executed before the snapshot is a duplicate after it."""
    market = founded()
    payment = signed(Transfer(account("alice"), account("bob"), BOND_ACROSS, 1), "alice")
    market.block(payment)
    restored = Market(import_chunks(export_chunks(market.version), root=market.version.root()), market.height)
    assert restored.reasons(payment) == market.reasons(payment) == [("duplicate", 65535)]
    assert restored.version.root() == market.version.root()


def test_another_root_is_refused() -> None:
    version = founded().version
    with pytest.raises(PeerFault) as caught:
        import_chunks(export_chunks(version), root=bytes(32))
    assert caught.value.code == "wrong_root"


def test_lost_doubled_and_exchanged_chunks_are_refused() -> None:
    version = crowded(300).version
    chunks = list(export_chunks(version, chunk_bytes=2_000))
    last = len(chunks) - 1
    for at in range(len(chunks)):
        with pytest.raises(PeerFault):
            import_chunks(chunks[:at] + chunks[at + 1 :], root=version.root())
        with pytest.raises(PeerFault):
            import_chunks(chunks[: at + 1] + chunks[at:], root=version.root())
        if at < last:
            exchanged = [*chunks[:at], chunks[at + 1], chunks[at], *chunks[at + 2 :]]
            with pytest.raises(PeerFault):
                import_chunks(exchanged, root=version.root())


def test_mutated_chunks_are_refused() -> None:
    version, dice = founded().version, random.Random(3)
    chunks = list(export_chunks(version, chunk_bytes=500))
    for _ in range(600):
        at = dice.randrange(len(chunks))
        chunk = bytearray(chunks[at])
        for _ in range(dice.choice((1, 1, 3))):
            chunk[dice.randrange(len(chunk))] ^= 1 << dice.randrange(8)
        if bytes(chunk) == chunks[at]:
            continue
        with pytest.raises(PeerFault):
            import_chunks([*chunks[:at], bytes(chunk), *chunks[at + 1 :]], root=version.root())


@pytest.mark.parametrize(
    ("chunk", "code"),
    [
        (b"", "malformed"),
        (encode((3,)), "malformed"),
        (encode((15, ((b"k" * 32, b"v"),))), "malformed"),
        (encode((1, ())), "malformed"),
        (encode((1, ((b"k" * 31, b"v"),))), "malformed"),
        (encode((1, ((b"k" * 32, "v"),))), "malformed"),
        (encode((1, ((b"k" * 32, b"v"), (b"k" * 32, b"v")))), "malformed"),
        (encode((1, ((b"k" * 32, b"v"), (b"j" * 32, b"v")))), "malformed"),
        (bytes(MAX_CHUNK_BYTES + 1), "too_large"),
    ],
)
def test_chunks_that_no_export_makes_are_refused(chunk: bytes, code: str) -> None:
    with pytest.raises(PeerFault) as caught:
        Importer().add(chunk)
    assert caught.value.code == code


def test_tables_must_come_in_order() -> None:
    importer = Importer()
    importer.add(encode((2, ((bytes(KEY_WIDTHS[2]), b"v"),))))
    with pytest.raises(PeerFault, match="not in order"):
        importer.add(encode((1, ((bytes(KEY_WIDTHS[1]), b"v"),))))


def test_a_chunk_is_what_the_docstring_says() -> None:
    version = founded().version
    [chunk] = [
        data for data in export_chunks(version) if decode(data, limit_bytes=10**6, what="chunk")[0] == Table.ASSETS
    ]
    assert decode(chunk, limit_bytes=10**6, what="chunk") == (2, tuple(rows(version, Table.ASSETS)))
