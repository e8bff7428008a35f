"""The recount of raw rows: it finds what the ledger's own check would have to find, without its code."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from p2pledger.api.client import Client, RowsAnswer
from p2pledger.demo.recount import recount
from p2pledger.ledger.market.buckets import Bucket, Encumbrance
from p2pledger.ledger.tables import Asset, Flow, Holding, Lock, Table
from p2pledger.primitives.names import AssetKind, asset_id

HERE, THERE = asset_id("CND100000017@CCDC"), asset_id("CND100000017@CSDC")
ALICE, BOB = b"a" * 32, b"b" * 32


def asset(issued: int, redeemed: int = 0) -> bytes:
    return Asset(AssetKind.SECURITY, 0, ALICE, "a bond", issued, redeemed).encode()


def sound() -> dict[tuple[int, bytes], bytes]:
    """1,000 issued, 100 redeemed, 300 gone over; 50 locked and 20 set aside."""
    return {
        (Table.ASSETS, HERE): asset(1_000, 100),
        (Table.ASSETS, THERE): asset(0),
        (Table.HOLDINGS, HERE + ALICE): Holding(530, 70).encode(),
        (Table.HOLDINGS, THERE + BOB): Holding(300).encode(),
        (Table.LOCKS, HERE + ALICE + BOB): Lock(50).encode(),
        (Table.ENCUMBRANCES, HERE + ALICE + b"i" * 32): Encumbrance(Bucket.SETTLING, 20).encode(),
        (Table.FLOWS, HERE): Flow(0, 300).encode(),
        (Table.FLOWS, THERE): Flow(300, 0).encode(),
    }


@dataclass
class Told:
    """What a node tells, page by page; a block may come in between."""

    tables: dict[tuple[int, bytes], bytes]
    heights: list[int] = field(default_factory=lambda: [7])

    async def rows(self, table: int, *, after: bytes = b"", limit: int = 1_000) -> RowsAnswer:
        height = self.heights.pop(0) if len(self.heights) > 1 else self.heights[0]
        found = sorted((key, row) for (number, key), row in self.tables.items() if number == table and key > after)
        return RowsAnswer(height, tuple(found[:limit]))


async def counted(tables: dict[tuple[int, bytes], bytes], **more: Any) -> tuple[int, list[str]]:
    return await recount(cast(Client, Told(tables, **more)))


async def test_sound_books_add_up() -> None:
    assert await counted(sound()) == (7, [])


async def test_it_is_counted_again_when_a_block_comes_in_between() -> None:
    assert await counted(sound(), heights=[7, 7, 8, 8, 8, 8]) == (8, [])


@pytest.mark.parametrize(
    ("place", "row", "finding"),
    [
        ((Table.HOLDINGS, HERE + ALICE), Holding(531, 70).encode(), "601 are held of 600"),
        ((Table.HOLDINGS, HERE + BOB), Holding(1).encode(), "601 are held of 600"),
        ((Table.ASSETS, HERE), asset(1_000), "600 are held of 700"),
        ((Table.LOCKS, HERE + ALICE + BOB), Lock(51).encode(), "is not the sum of what encumbers it"),
        ((Table.LOCKS, THERE + ALICE + BOB), Lock(1).encode(), "encumbers a holding that is not there"),
        ((Table.FLOWS, THERE), Flow(301, 0).encode(), "301 arrived in registers, 300 departed"),
        ((Table.HOLDINGS, asset_id("XS0000000009@CSDC") + BOB), Holding(1).encode(), "1 are held of 0"),
    ],
)
async def test_each_fault_is_found(place: tuple[int, bytes], row: bytes, finding: str) -> None:
    _, findings = await counted({**sound(), place: row})
    assert any(finding in sentence for sentence in findings), findings
