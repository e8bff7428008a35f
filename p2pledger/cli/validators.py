"""p2pledger validators: who keeps the ledger, and how a quorum of them seats others (simplex).

A change travels as a file: *propose* writes it, each validator that agrees signs it with *approve*, and whoever pays
the fee hands it in with *submit*. It holds from the epoch after the next one on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2pledger.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption, NodeOption
from p2pledger.cli.output import command, counted, emit, say, table
from p2pledger.cli.transactions import MaxFeeOption, SimulateOption, TimeoutOption, send

if TYPE_CHECKING:
    from p2pledger.cluster.proposal import Proposal
    from p2pledger.cluster.remote import Remote
    from p2pledger.primitives.validators import Validators

__all__ = ["app"]

app = typer.Typer(help="Who keeps the ledger, and how that changes.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(help="The file of the proposal.")]


@app.command()
@command
def show(directory: DirectoryOption = DEFAULT_DIRECTORY, node: NodeOption = "", as_json: JsonOption = False) -> None:
    """Show the validators of this epoch, of those to come, and who was found to contradict itself.

    \b
    Example: p2pledger validators show
    """
    import trio

    from p2pledger.cluster.remote import Remote

    remote = Remote(directory)
    height, epoch, sets, culprits = trio.run(_sets, remote, node)
    genesis = remote.consortium.genesis
    if as_json:
        emit(
            "p2pledger.validators/1",
            {
                "engine": genesis.engine,
                "height": height,
                "epoch": epoch,
                "epoch_blocks": genesis.parameters.epoch_blocks if genesis.engine == "simplex" else None,
                "sets": [
                    {
                        "from_epoch": first,
                        "quorum": members.quorum,
                        "members": [
                            {"name": seat.name, "weight": seat.weight, "key": seat.key.hex()}
                            for seat in members.members
                        ],
                    }
                    for first, members in sets
                ],
                "found_guilty": [key.hex() for key in culprits],
            },
        )
        return
    for first, members in sets:
        print(f"from epoch {first}, quorum {members.quorum} of {members.total_weight}")
        rows = [
            (seat.name, seat.weight, seat.key.hex(), "found guilty" if seat.key in culprits else "")
            for seat in members.members
        ]
        print(table(("name", "weight", "key", ""), rows, right=("weight",)))
    if genesis.engine == "simplex":
        blocks = genesis.parameters.epoch_blocks
        say(f"height {height:,}, epoch {epoch:,}, which ends with height {(epoch + 1) * blocks:,}")
    else:
        say(f"height {height:,}; under {genesis.engine} there is one epoch")


@app.command()
@command
def propose(
    file: FileArgument,
    add: Annotated[
        list[str] | None, typer.Option("--add", metavar="NAME=KEY[:WEIGHT]", help="Seat this one; may be repeated.")
    ] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="NAME", help="May be repeated.")] = None,
    weight: Annotated[
        list[str] | None, typer.Option("--weight", metavar="NAME=WEIGHT", help="May be repeated.")
    ] = None,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write a proposal for other validators than those known to the ledger now. The file must not exist.

    \b
    Examples: p2pledger validators propose change.json --remove VENUE-B
              p2pledger validators propose change.json --weight CCDC=2
    """
    import trio

    from p2pledger.cluster.proposal import Proposal, changed
    from p2pledger.cluster.remote import Remote
    from p2pledger.ledger.seat_rules import EPOCHS_AHEAD
    from p2pledger.primitives.errors import InvalidInput

    remote = Remote(directory)
    genesis = remote.consortium.genesis
    if genesis.engine != "simplex":
        raise InvalidInput(f"validators do not change so under {genesis.engine}", code="wrong_engine")
    _, epoch, sets, _ = trio.run(_sets, remote, node)
    seats = changed(sets[-1][1].members, add or [], remove or [], weight or [])
    proposal = Proposal(genesis.network_id, epoch + EPOCHS_AHEAD, seats)
    proposal.save(file, fresh=True)
    _show(proposal, file, remote, as_json)


@app.command()
@command
def approve(
    file: FileArgument,
    validator: Annotated[str, typer.Argument(help="Who approves: a validator whose node key lies here.")],
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    as_json: JsonOption = False,
) -> None:
    """Sign a proposal with a validator's node key. Nothing runs or is sent: the key may lie on another machine.

    \b
    Example: p2pledger validators approve change.json CCDC
    """
    from p2pledger.cluster.consortium import Consortium, load_node_key, suggestion
    from p2pledger.cluster.proposal import Proposal
    from p2pledger.primitives.errors import InvalidInput

    consortium = Consortium.load(directory)
    seats = {seat.name: seat for seat in consortium.genesis.validators}
    if validator not in seats:
        why = suggestion(validator, list(seats))
        raise InvalidInput(f"there is no node {validator!r}", hint=why, code="unknown_node")
    proposal = Proposal.load(file)
    if proposal.network_id != consortium.genesis.network_id:
        raise InvalidInput("the proposal is for another network", where=str(file), code="wrong_network")
    proposal = proposal.approved_by(load_node_key(directory, seats[validator]))
    proposal.save(file)
    _show(proposal, file, None, as_json)


@app.command()
@command
def submit(
    file: FileArgument,
    payer: Annotated[str, typer.Option("--payer", help="The member who hands it in.")] = "CCDC",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    simulate: SimulateOption = False,
    timeout: TimeoutOption = 60.0,
    max_fee: MaxFeeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hand in a proposal that a quorum has approved.

    \b
    Example: p2pledger validators submit change.json
    """
    from p2pledger.cluster.proposal import Proposal
    from p2pledger.cluster.remote import Remote

    remote = Remote(directory)
    operation = Proposal.load(file).operation()
    send(remote, [payer], [], lambda decimals: [operation], node, simulate, timeout, max_fee, as_json)


async def _sets(remote: Remote, node: str) -> tuple[int, int, list[tuple[int, Validators]], set[bytes]]:
    """Height, epoch of the next block, [(first epoch, its validators)] from the present one on, keys found guilty."""
    from p2pledger.cluster.remote import table_rows
    from p2pledger.ledger.tables import Table, ValidatorsRow
    from p2pledger.node.epochs import Epochs

    async with remote.connect(node=node) as client:
        height, tables = await table_rows(client, (Table.VALIDATORS, Table.EVIDENCE))
    epoch = Epochs(remote.consortium.genesis).after(height)
    sets: list[tuple[int, Validators]] = []
    for key, data in sorted(tables[Table.VALIDATORS].items()):
        first = int.from_bytes(key, "big")
        if first <= epoch:
            sets.clear()
        sets.append((first, ValidatorsRow.decode(data).validators(first)))
    return height, epoch, sets, {key[:32] for key in tables[Table.EVIDENCE]}


def _show(proposal: Proposal, file: Path, remote: Remote | None, as_json: bool) -> None:
    approved = {key for key, _ in proposal.approvals}
    values: dict[str, Any] = {
        "file": str(file),
        "network": proposal.network_id.hex(),
        "epoch": proposal.epoch,
        "seats": [{"name": seat.name, "weight": seat.weight, "key": seat.key.hex()} for seat in proposal.seats],
        "approvals": sorted(key.hex() for key in approved),
    }
    if as_json:
        emit("p2pledger.validators.proposal.show/1", values)
        return
    print(f"epoch      {proposal.epoch}")
    rows = [(seat.name, seat.weight, seat.key.hex()) for seat in proposal.seats]
    print(table(("name", "weight", "key"), rows, right=("weight",)))
    print(f"approvals  {len(approved)}")
    if remote is not None:
        blocks = remote.consortium.genesis.parameters.epoch_blocks
        say(
            f"{file}: it can be handed in until height {(proposal.epoch - 1) * blocks:,}, and holds from the next epoch"
        )
    say(f"{file} has {counted(len(approved), 'approval')}; next: approve it for a quorum, then submit it")
