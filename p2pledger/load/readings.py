"""What the generator and its judges ask of a cluster: to be given a world, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from p2pledger.api.client import Client
from p2pledger.cluster.local import Cluster
from p2pledger.cluster.opening import AssetPlan, link_transactions
from p2pledger.cluster.settle import settle
from p2pledger.load.generator import Outcome
from p2pledger.load.orders import Order
from p2pledger.load.trades import World
from p2pledger.primitives.errors import P2PLedgerError
from p2pledger.primitives.names import AssetKind, account_named, asset_id, asset_text
from p2pledger.primitives.reasons import sentence_of

__all__ = ["LOOKUPS_AT_ONCE", "holdings_of", "look_up", "open_world", "supply_of"]

LOOKUPS_AT_ONCE: Final = 1_000


async def open_world(cluster: Cluster, world: World, *, timeout_s: float) -> None:
    """Defines the assets of a world, and gives every broker what he is to have at the beginning.

    Where both depositories keep a bond, they link their registers both ways, for all units that there are.
    """
    plans = [AssetPlan(asset, AssetKind.MONEY, decimals, name) for asset, decimals, name in world.moneys]
    plans += [
        AssetPlan(item.asset(register), AssetKind.SECURITY, 0, item.name[:64] or item.isin)
        for item in world.instruments
        for register in item.registers
    ]
    holdings = {(asset, broker): units for asset, units in world.opening.items() for broker in world.brokers}
    await cluster.open_ledger(plans, holdings, timeout_s=timeout_s)
    kept = {item.isin: item.registers for item in world.instruments if len(item.registers) > 1}
    if not kept:
        return
    brokers = len(world.brokers)
    units = {
        isin: brokers * sum(world.opening[f"{isin}@{register}"] for register in registers)
        for isin, registers in kept.items()
    }
    async with cluster.connect() as client:
        valid_until = (await client.status()).final_height + cluster.genesis.parameters.replay_window // 2
        agreements = link_transactions(cluster.consortium, kept, units, valid_until=valid_until)
        for outcome in await settle(client, agreements, timeout_s=timeout_s):
            if outcome.code:
                raise P2PLedgerError(
                    "the registers could not be linked",
                    why=f"{sentence_of(outcome.code)} (operation {outcome.operation})",
                    code="not_opened",
                )


async def look_up(client: Client, orders: Sequence[Order]) -> Sequence[Outcome | None]:
    """What the ledger remembers of these orders, whoever sent them."""
    answer = await client.lookup([(order.valid_until, order.id) for order in orders])
    return [
        None if line is None else Outcome(order.id, line.height, line.code)
        for order, line in zip(orders, answer.lines, strict=True)
    ]


async def supply_of(client: Client) -> tuple[dict[str, tuple[int, int, int]], list[str]]:
    """asset -> (issued, redeemed, held), and what the node itself finds wrong."""
    answer = await client.supply()
    supply = {asset_text(line.asset): (line.issued, line.redeemed, line.free + line.locked) for line in answer.lines}
    return supply, list(answer.findings)


async def holdings_of(client: Client, members: Iterable[str], assets: Sequence[str]) -> dict[tuple[str, str], int]:
    """All holdings at a node, by asset and member; who is no member is named by his account."""
    holdings: dict[tuple[str, str], int] = {}
    names = {account_named(name): name for name in members}
    for asset in assets:
        after = b""
        while True:
            lines = (await client.holders(asset_id(asset), after=after, limit=LOOKUPS_AT_ONCE)).lines
            for line in lines:
                holdings[asset, names.get(line.account, line.account.hex())] = line.free + line.locked
            if len(lines) < LOOKUPS_AT_ONCE:
                break
            after = lines[-1].account
    return holdings
