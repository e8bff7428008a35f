"""p2pledger holdings and p2pledger block: what is on the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2pledger.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption, NodeOption
from p2pledger.cli.output import command, counted, emit, say, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from p2pledger.api.client import BlockAnswer, HoldingsAnswer
    from p2pledger.cluster.consortium import Consortium
    from p2pledger.core import Limits
    from p2pledger.primitives.blocks import Block
    from p2pledger.primitives.forms import Operation

block_app = typer.Typer(help="Look at blocks.", no_args_is_help=True)


@block_app.callback()
def block() -> None:
    """Look at blocks."""


@command
def holdings(
    member: Annotated[str, typer.Argument(help="A member's name, such as broker-1.")],
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show what a member holds: free, and locked."""
    import trio

    from p2pledger.cluster.remote import Remote, decimals_of
    from p2pledger.primitives.amounts import amount_text
    from p2pledger.primitives.names import asset_text

    remote = Remote(directory)
    account = remote.consortium.account(member)

    async def run() -> tuple[HoldingsAnswer, dict[bytes, int]]:
        async with remote.connect(member, node) as client:
            answer = await client.holdings(account)
            return answer, await decimals_of(client, [line.asset for line in answer.lines])

    answer, decimals = trio.run(run)
    if as_json:
        emit(
            "p2pledger.holdings/1",
            {
                "member": member,
                "account": account.hex(),
                "height": answer.height,
                "holdings": [
                    {
                        "asset": asset_text(line.asset),
                        "free": line.free,
                        "locked": line.locked,
                        "decimals": decimals[line.asset],
                    }
                    for line in answer.lines
                ],
            },
        )
        return
    rows = [
        (
            asset_text(line.asset),
            amount_text(line.free, decimals[line.asset]),
            amount_text(line.locked, decimals[line.asset]),
        )
        for line in answer.lines
    ]
    print(table(("asset", "free", "locked"), rows, right=("free", "locked")))
    say(f"{member} at height {answer.height}")


@block_app.command()
@command
def show(
    height: Annotated[int, typer.Argument(min=0, max=2**63 - 1, help="The block's height.")],
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Print a block as a table of trades: who transferred what to whom in which time span. One parent, always."""
    import trio

    from p2pledger.cluster.remote import Remote, decimals_of
    from p2pledger.node.batches import limits_of
    from p2pledger.primitives.blocks import Block
    from p2pledger.primitives.reasons import Reason
    from p2pledger.primitives.transactions import SignedTransaction

    remote = Remote(directory)
    consortium = remote.consortium

    async def run() -> tuple[BlockAnswer, Block, int, list[bytes], dict[bytes, int]]:
        async with remote.connect("", node) as client:
            answer = await client.block(height)
            found = Block.decode(answer.block)
            before_ms = 0
            if height:
                before_ms = Block.decode((await client.block(height - 1)).block).header.time_ms
            batches = [await client.batch(digest) for digest in found.digests]
            return answer, found, before_ms, batches, await decimals_of(client, None)

    answer, found, before_ms, batches, decimals = trio.run(run)
    transactions = _transactions(batches, consortium.genesis.network_id, limits_of(consortium.genesis.parameters))
    rows: list[dict[str, Any]] = []
    for number, data in enumerate(transactions):
        signed = SignedTransaction.decode(data)
        code = int.from_bytes(answer.codes[4 * number : 4 * number + 2], "big")
        outcome = Reason(code).title
        for operation in signed.transaction.operations:
            row = {"transaction": signed.id.hex(), **_row_of(operation, consortium, decimals), "outcome": outcome}
            rows.append(row)
    header = found.header
    seat = next((seat.name for seat in consortium.genesis.validators if seat.key == header.proposer), "nobody")
    if as_json:
        emit(
            "p2pledger.block/1",
            {
                "height": found.height,
                "id": found.id.hex(),
                "parent": header.parent.hex(),
                "view": header.view,
                "epoch": header.epoch,
                "proposer": seat,
                "after_ms": before_ms,
                "time_ms": header.time_ms,
                "batches": [digest.hex() for digest in found.digests],
                "transactions": len(transactions),
                "parent_state_root": header.parent_state_root.hex(),
                "own_certificate": bool(answer.finalisation),
                "operations": rows,
            },
        )
        return
    print(f"block      {found.height}  {found.id.hex()}")
    print(f"parent     {found.height - 1 if found.height else 'genesis'}  {header.parent.hex()}")
    print(f"proposer   {seat}, view {header.view}")
    print(f"time span  after {_moment(before_ms)} to {_moment(header.time_ms)}" if found.height else "time span  none")
    print(f"content    {counted(len(found.digests), 'batch', 'batches')}, {counted(len(transactions), 'transaction')}")
    if rows:
        print()
        titles = ("transaction", "what", "from", "to", "asset", "amount", "outcome")
        cells = [[row["transaction"][:12], *(row[title] for title in titles[1:])] for row in rows]
        print(table(titles, cells, right=("amount",)))


def _transactions(batches: list[bytes], network_id: bytes, limits: Limits) -> list[bytes]:
    from p2pledger import core

    found = []
    for data in batches:
        columns = core.scan_batch(data, network_id, limits)
        found += [columns.transaction(i) for i in range(columns.count)]
    return found


def _row_of(operation: Operation, consortium: Consortium, decimals: dict[bytes, int]) -> dict[str, str]:
    """One operation in the words of a trade table."""
    from p2pledger.primitives.amounts import amount_text
    from p2pledger.primitives.names import asset_text
    from p2pledger.primitives.transactions import (
        Define,
        Issue,
        Lock,
        Open,
        Pay,
        Redeem,
        Release,
        Report,
        SetFinality,
        SetPolicy,
        SetValidators,
        Stake,
        Transfer,
        Unstake,
    )

    name = consortium.name_of
    nodes = {key: node for node, key in consortium.node_keys_by_genesis.items()}

    def row(
        what: str, giver: str, receiver: str, asset: bytes | None = None, units: int | None = None
    ) -> dict[str, str]:
        amount = "" if asset is None or units is None else amount_text(units, decimals.get(asset, 0))
        return {
            "what": what,
            "from": giver,
            "to": receiver,
            "asset": "" if asset is None else asset_text(asset),
            "amount": amount,
        }

    match operation:
        case Transfer(source, target, asset, amount):
            return row("transfer", name(source), name(target), asset, amount)
        case Lock(account, asset, amount, controller):
            return row("lock", name(account), name(controller), asset, amount)
        case Release(account, asset, amount, controller):
            return row("release", name(controller), name(account), asset, amount)
        case Issue(asset, target, amount):
            return row("issue", "", name(target), asset, amount)
        case Redeem(asset, source, amount):
            return row("redeem", name(source), "", asset, amount)
        case Define(asset, _, _, issuer, title):
            return row(f"define {title}", name(issuer), "", asset)
        case Open(opener, _, _):
            return row("open account", name(opener), "")
        case SetPolicy(account, _):
            return row("set policy", name(account), "")
        case Pay(source, target, amount):
            return {**row("pay", name(source), name(target)), "amount": f"{amount:,}"}
        case Stake(account, amount, _, key):
            return {**row("stake", name(account), nodes.get(key, key.hex())), "amount": f"{amount:,}"}
        case Unstake(account, _):
            return row("unstake", "", name(account))
        case SetFinality(asset, confirmations):
            return row(f"set finality {confirmations}", "", "", asset)
        case SetValidators(epoch, seats, _):
            return row(f"seat {len(seats)} validators from epoch {epoch}", "", "")
        case Report():
            return row("report a contradiction", "", "")
    return _other_row(operation, row, name)


def _other_row(
    operation: Operation, row: Callable[..., dict[str, str]], name: Callable[[bytes], str]
) -> dict[str, str]:
    """An operation of the market by its form: its first two accounts, its first asset, and the amount beside it."""
    from p2pledger.primitives.forms import Account, Amount, AssetName, operation_name

    def first(kind: type[Any], count: int) -> list[Any]:
        values = [getattr(operation, item.name) for item in operation.form if isinstance(item, kind)]
        return [value for value in values if value][:count]

    accounts = [name(account) for account in first(Account, 2)]
    [asset], [amount] = first(AssetName, 1) or [None], first(Amount, 1) or [None]
    what = operation_name(type(operation)).replace("_", " ")
    giver, receiver = (*accounts, "", "")[:2]
    return row(what, giver, receiver, asset, amount)


def _moment(time_ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"
