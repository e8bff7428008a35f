"""p2pledger stake, delegate, undelegate and delegates: native money behind those who write blocks.

Under pos a stake lets its key produce blocks, under dpos it votes for its key as a delegate: one operation, two names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2pledger.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption, NodeOption
from p2pledger.cli.output import command, counted, emit, say, table
from p2pledger.cli.transactions import MaxFeeOption, SimulateOption, TimeoutOption, send

if TYPE_CHECKING:
    from p2pledger.cluster.consortium import Consortium
    from p2pledger.cluster.remote import Remote
    from p2pledger.primitives.blocks import Header
    from p2pledger.primitives.transactions import Operation

__all__ = ["app", "delegate", "delegates_app", "undelegate"]

app = typer.Typer(help="Native money behind those who produce blocks.", no_args_is_help=True)
delegates_app = typer.Typer(help="Who produces blocks under dpos.", no_args_is_help=True)

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="A node's name, or a key of 64 hexadecimal digits.")]
AmountArgument = Annotated[int, typer.Argument(min=1, help="Native money.")]
MemberArgument = Annotated[str, typer.Argument(help="Whose native money; such as broker-1.")]
StakeArgument = Annotated[str, typer.Argument(metavar="ID", help="The stake's id, as stake show prints it.")]


@delegates_app.callback()
def delegates() -> None:
    """Who produces blocks under dpos."""


@app.command("show")
@command
def stake_show(
    member: Annotated[str, typer.Argument(help="A member or a node; everybody if not given.")] = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show stakes: whose, how much, behind which key, and how much coin-age they have gathered.

    \b
    Example: p2pledger stake show VENUE-A
    """
    import trio

    from p2pledger.cluster.remote import Remote, table_rows
    from p2pledger.ledger.elections.pos import coin_age
    from p2pledger.ledger.tables import Native, Stake, Table
    from p2pledger.primitives.names import account_of_key

    remote = Remote(directory)
    consortium = remote.consortium
    keys = consortium.node_keys_by_genesis
    wanted = set()
    if member:
        wanted = {account_of_key(keys[member])} if member in keys else set()
        if member in consortium.member_keys or not wanted:
            wanted.add(consortium.account(member))

    async def run() -> tuple[int, dict[int, dict[bytes, bytes]]]:
        async with remote.connect(node=node) as client:
            return await table_rows(client, (Table.STAKES, Table.NATIVE))

    height, tables = trio.run(run)
    cap = consortium.genesis.parameters.coin_age_cap
    lines: list[dict[str, Any]] = []
    for identifier, data in tables[Table.STAKES].items():
        row = Stake.decode(data)
        if not wanted or row.account in wanted:
            lines.append(
                {
                    "id": identifier.hex(),
                    "owner": _owner(consortium, row.account),
                    "amount": row.amount,
                    "since_height": row.since_height,
                    "key": row.key.hex(),
                    "node": _node(consortium, row.key),
                    "coin_age": coin_age(row, height + 1, cap),
                }
            )
    lines.sort(key=lambda line: (line["owner"], line["since_height"], line["id"]))
    free = {
        _owner(consortium, account): Native.decode(data).free
        for account, data in tables[Table.NATIVE].items()
        if not wanted or account in wanted
    }
    if as_json:
        emit("p2pledger.stake/1", {"height": height, "stakes": lines, "free": free})
        return
    ages = consortium.genesis.engine == "pos"
    titles = ("owner", "amount", "since", "coin-age" if ages else "", "for", "id")
    cells = [
        (
            line["owner"],
            f"{line['amount']:,}",
            line["since_height"],
            f"{line['coin_age']:,}" if ages else "",
            line["node"],
            line["id"],
        )
        for line in lines
    ]
    print(table(titles, cells, right=("amount", "since", "coin-age")))
    if member:
        say(f"free native money: {sum(free.values()):,}")
    age = f"; coin-age for a block at height {height + 1}" if ages else ""
    say(f"{counted(len(lines), 'stake')} at height {height}{age}")


@app.command("add")
@command
def stake_add(
    member: MemberArgument,
    amount: AmountArgument,
    key: KeyArgument,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    simulate: SimulateOption = False,
    timeout: TimeoutOption = 60.0,
    max_fee: MaxFeeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stake native money behind a producer's key.

    \b
    Example: p2pledger stake add broker-1 5000 VENUE-A
    """
    _stake(directory, member, amount, key, node, simulate, timeout, max_fee, as_json)


@app.command("remove")
@command
def stake_remove(
    member: MemberArgument,
    stake: StakeArgument,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    simulate: SimulateOption = False,
    timeout: TimeoutOption = 60.0,
    max_fee: MaxFeeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a whole stake back.

    \b
    Example: p2pledger stake remove broker-1 ID
    """
    _unstake(directory, member, stake, node, simulate, timeout, max_fee, as_json)


@command
def delegate(
    member: MemberArgument,
    amount: AmountArgument,
    key: Annotated[str, typer.Argument(metavar="DELEGATE", help="A node's name, or a key of 64 hexadecimal digits.")],
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    simulate: SimulateOption = False,
    timeout: TimeoutOption = 60.0,
    max_fee: MaxFeeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Vote for a delegate with native money (dpos). It counts from the next election on.

    \b
    Example: p2pledger delegate broker-1 5000 VENUE-A
    """
    _stake(directory, member, amount, key, node, simulate, timeout, max_fee, as_json)


@command
def undelegate(
    member: MemberArgument,
    stake: StakeArgument,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    simulate: SimulateOption = False,
    timeout: TimeoutOption = 60.0,
    max_fee: MaxFeeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a vote for a delegate back, with its money (dpos).

    \b
    Example: p2pledger undelegate broker-1 ID
    """
    _unstake(directory, member, stake, node, simulate, timeout, max_fee, as_json)


@delegates_app.command("show")
@command
def delegates_show(
    directory: DirectoryOption = DEFAULT_DIRECTORY, node: NodeOption = "", as_json: JsonOption = False
) -> None:
    """Show the delegates, what they did in this epoch, and whose turn it is; all worked out again from the rows.

    The order that comes out is compared with who wrote the final blocks of this round: exit code 1 if it differs.

    \b
    Example: p2pledger delegates show
    """
    import trio

    from p2pledger.cluster.remote import Remote, TableReader, table_rows
    from p2pledger.ledger.elections.dpos import Schedule, last_epoch, shuffled
    from p2pledger.ledger.tables import Staked, Table
    from p2pledger.primitives.blocks import Block
    from p2pledger.primitives.errors import InvalidInput

    remote = Remote(directory)
    consortium, parameters = remote.consortium, remote.consortium.genesis.parameters
    if consortium.genesis.engine != "dpos":
        raise InvalidInput(f"there are no delegates under {consortium.genesis.engine}", code="wrong_engine")

    async def run() -> tuple[int, dict[int, dict[bytes, bytes]], list[Header]]:
        async with remote.connect(node=node) as client:
            height, tables = await table_rows(client, (Table.ENGINE, Table.STAKED, Table.EVIDENCE))
            headers: list[Header] = []
            first = max(1, height - parameters.delegates + 1)
            for number in range(height, first - 1, -1):
                headers.append(Block.decode((await client.block(number)).block).header)
            return height, tables, headers

    height, tables, headers = trio.run(run)
    if not height:
        raise InvalidInput("no block is final yet", hint="Try again in some seconds", code="not_ready")
    state = TableReader(tables)
    schedule = Schedule.read(state, parameters)
    # Worked out here, from the seed and the keys alone: the same as anybody else would.
    order = shuffled([delegate.key for delegate in schedule.delegates], schedule.seed, schedule.round)
    mine = [header for header in headers if header.view // parameters.delegates == schedule.round]
    wrong = [header for header in mine if order[header.view % parameters.delegates % len(order)] != header.proposer]
    staked = {key: Staked.decode(row).amount for key, row in tables[Table.STAKED].items()}
    past_epoch, past = last_epoch(state)
    names = [_node(consortium, key) for key in order]
    following = [_node(consortium, key) for key in schedule.order(schedule.round + 1)]
    lines = [
        {
            "delegate": _node(consortium, each.key),
            "key": each.key.hex(),
            "staked": staked.get(each.key, 0),
            "made": each.made,
            "missed": each.missed,
            "withheld": each.withheld,
        }
        for each in schedule.delegates
    ]
    if as_json:
        emit(
            "p2pledger.delegates/1",
            {
                "height": height,
                "slot": schedule.slot,
                "round": schedule.round,
                "epoch": schedule.epoch,
                "seed": schedule.seed.hex(),
                "order": names,
                "order_next_round": following,
                "delegates": lines,
                "last_epoch": past_epoch,
                "last_epoch_faulty": [_node(consortium, each.key) for each in past if each.is_faulty],
                "blocks_compared": len(mine),
                "blocks_out_of_order": [header.height for header in wrong],
            },
        )
    else:
        print(table(("delegate", "staked", "made", "missed", "withheld"),
                    [(line["delegate"], f"{line['staked']:,}", line["made"], line["missed"], line["withheld"])
                     for line in lines],
                    right=("staked", "made", "missed", "withheld")))  # fmt: skip
        print(f"order      round {schedule.round:,}: {', '.join(names)}")
        print(f"then       {', '.join(following)}; unless another secret is revealed in this round")
        print(f"seed       {schedule.seed.hex()}")
        blocks = counted(len(mine), "final block")
        print(f"compared   {blocks} of this round: {'as ordered' if not wrong else 'NOT AS ORDERED'}")
        say(f"height {height}, slot {schedule.slot:,}, epoch {schedule.epoch:,}")
    if wrong:
        raise SystemExit(1)


def _stake(
    directory: Any,
    member: str,
    amount: int,
    key: str,
    node: str,
    simulate: bool,
    timeout_s: float,
    max_fee: int | None,
    as_json: bool,
) -> None:
    import os

    from p2pledger.cluster.remote import Remote
    from p2pledger.primitives.transactions import Stake

    remote = Remote(directory)
    operation = Stake(remote.consortium.account(member), amount, os.urandom(16), _key(remote, key))
    identifier = operation.id.hex()

    def operations(decimals: dict[bytes, int]) -> list[Operation]:
        return [operation]

    send(remote, [member], [], operations, node, simulate, timeout_s, max_fee, as_json, stake=identifier)
    if not simulate:
        say(f"stake {identifier}")


def _unstake(
    directory: Any,
    member: str,
    stake: str,
    node: str,
    simulate: bool,
    timeout_s: float,
    max_fee: int | None,
    as_json: bool,
) -> None:
    from p2pledger.cluster.remote import Remote
    from p2pledger.primitives.errors import InvalidInput
    from p2pledger.primitives.transactions import Unstake

    remote = Remote(directory)
    if not re.fullmatch(r"[0-9a-fA-F]{64}", stake):
        raise InvalidInput(f"{stake!r} is not the id of a stake", why="it has 64 hexadecimal digits", code="bad_id")
    operation = Unstake(remote.consortium.account(member), bytes.fromhex(stake))
    send(remote, [member], [], lambda decimals: [operation], node, simulate, timeout_s, max_fee, as_json)


def _key(remote: Remote, text: str) -> bytes:
    """The public key of a node, by its name or as it is."""
    from p2pledger.cluster.consortium import suggestion
    from p2pledger.primitives.errors import InvalidInput

    nodes = remote.consortium.node_keys_by_genesis
    if text in nodes:
        return nodes[text]
    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text)
    raise InvalidInput(f"there is no node {text!r}", hint=suggestion(text, list(nodes)), code="unknown_node")


def _node(consortium: Consortium, key: bytes) -> str:
    return next((name for name, known in consortium.node_keys_by_genesis.items() if known == key), key.hex())


def _owner(consortium: Consortium, account: bytes) -> str:
    """The member's name; of a node's own account, the node's."""
    from p2pledger.primitives.names import account_of_key

    nodes = {account_of_key(key): f"node {name}" for name, key in consortium.node_keys_by_genesis.items()}
    return nodes.get(account) or consortium.name_of(account)
