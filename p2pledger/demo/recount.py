"""A recount of the books from raw rows: it shares no code with the ledger, so both would have to be wrong alike.

per asset        holdings = issued - redeemed + arrived - departed
per holding      encumbered = its locks and its encumbrances
per instrument   what arrived in all registers = what departed from all of them
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import msgpack

from p2pledger.api.client import Client
from p2pledger.cluster.remote import table_rows

__all__ = ["recount"]

_ASSETS: Final = 2
_HOLDINGS: Final = 3
_LOCKS: Final = 4
_ENCUMBRANCES: Final = 15
_FLOWS: Final = 36


async def recount(client: Client) -> tuple[int, list[str]]:
    """The height of the state that was counted, and what does not add up, in sentences."""
    height, tables = await table_rows(client, (_ASSETS, _HOLDINGS, _LOCKS, _ENCUMBRANCES, _FLOWS))

    def fields(row: bytes) -> list[Any]:
        values: list[Any] = msgpack.unpackb(row)
        return values

    held: Counter[bytes] = Counter()
    encumbered: Counter[bytes] = Counter()
    findings = []
    for key, row in tables[_LOCKS].items():
        encumbered[key[:48]] += fields(row)[1]
    for key, row in tables[_ENCUMBRANCES].items():
        encumbered[key[:48]] += fields(row)[2]
    for key, row in tables[_HOLDINGS].items():
        _, free, locked = fields(row)
        held[key[:16]] += free + locked
        if locked != encumbered.pop(key, 0):
            findings.append(f"{_name(key[:16])}: the encumbered part of a holding is not the sum of what encumbers it")
    findings += [f"{_name(key[:16])}: something encumbers a holding that is not there" for key in encumbered]
    arrived: Counter[bytes] = Counter()
    departed: Counter[bytes] = Counter()
    for asset in tables[_ASSETS].keys() | held.keys():
        issued, redeemed = fields(tables[_ASSETS][asset])[5:7] if asset in tables[_ASSETS] else (0, 0)
        came, went = fields(tables[_FLOWS][asset])[1:3] if asset in tables[_FLOWS] else (0, 0)
        arrived[asset[:12]] += came
        departed[asset[:12]] += went
        if held[asset] != issued - redeemed + came - went:
            findings.append(f"{_name(asset)}: {held[asset]} are held of {issued - redeemed + came - went}")
    for instrument in arrived.keys() | departed.keys():
        if arrived[instrument] != departed[instrument]:
            name = instrument.rstrip(b"\0").decode()
            findings.append(f"{name}: {arrived[instrument]} arrived in registers, {departed[instrument]} departed")
    return height, sorted(findings)


def _name(asset: bytes) -> str:
    return f"{asset[:12].rstrip(bytes(1)).decode()}@{asset[12:].rstrip(bytes(1)).decode()}"
