"""p2pledger tx: send a transfer or a trade, and wait until it is final."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from p2pledger.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption, NodeOption
from p2pledger.cli.output import command, emit, say, say_refusal
from p2pledger.cli.usage import AmountCommand
from p2pledger.primitives.amounts import units_of

if TYPE_CHECKING:
    from p2pledger.cluster.remote import Remote
    from p2pledger.primitives.transactions import Operation

app = typer.Typer(help="Send transactions.", no_args_is_help=True)

SimulateOption = Annotated[
    bool, typer.Option("--simulate", help="Only ask what would happen; nothing is sent to the ledger.")
]
MaxFeeOption = Annotated[
    int | None,
    typer.Option("--max-fee", min=0, help="The most native money to pay; the network's fee if not given.", metavar="N"),
]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait until it is final.")]


@app.command(cls=AmountCommand)
@command
def transfer(
    source: Annotated[str, typer.Argument(metavar="FROM", help="Who gives.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="Who receives.")],
    asset: Annotated[str, typer.Argument(help="Such as CNE100000007@CSDC or CNY@ICBC.")],
    amount: Annotated[str, typer.Argument(help="In whole units, with decimals where the asset has them.")],
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    simulate: SimulateOption = False,
    timeout: TimeoutOption = 60.0,
    max_fee: MaxFeeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Transfer units of an asset. Signed with the giver's key from the cluster's directory.

    \b
    Example: p2pledger tx transfer broker-1 broker-2 CNE100000007@CSDC 100
    """
    from p2pledger.cluster.remote import Remote
    from p2pledger.primitives.names import asset_id
    from p2pledger.primitives.transactions import Transfer

    remote = Remote(directory)
    giver, receiver, named = remote.consortium.account(source), remote.consortium.account(target), asset_id(asset)

    def operations(decimals: dict[bytes, int]) -> Sequence[Operation]:
        return [Transfer(giver, receiver, named, units_of(amount, decimals[named], asset))]

    send(remote, [source], [named], operations, node, simulate, timeout, max_fee, as_json)


@app.command(cls=AmountCommand)
@command
def trade(
    seller: Annotated[str, typer.Argument(help="Who gives the security.")],
    buyer: Annotated[str, typer.Argument(help="Who pays.")],
    security: Annotated[str, typer.Argument(help="Such as CNE100000007@CSDC.")],
    quantity: Annotated[str, typer.Argument(help="Units of the security.")],
    money: Annotated[str, typer.Argument(help="Such as CNY@ICBC.")],
    price: Annotated[str, typer.Argument(help="The money for all of it, such as 1050.25.")],
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    simulate: SimulateOption = False,
    timeout: TimeoutOption = 60.0,
    max_fee: MaxFeeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delivery versus payment: securities against money in one transaction, signed by both. Both happen or neither.

    \b
    Example: p2pledger tx trade broker-1 broker-2 CNE100000007@CSDC 100 CNY@ICBC 1050.25
    """
    from p2pledger.cluster.remote import Remote
    from p2pledger.primitives.names import asset_id
    from p2pledger.primitives.transactions import delivery_versus_payment

    remote = Remote(directory)
    giver, payer = remote.consortium.account(seller), remote.consortium.account(buyer)
    delivered, paid = asset_id(security), asset_id(money)

    def operations(decimals: dict[bytes, int]) -> Sequence[Operation]:
        return delivery_versus_payment(
            seller=giver,
            buyer=payer,
            security=delivered,
            quantity=units_of(quantity, decimals[delivered], security),
            money=paid,
            price=units_of(price, decimals[paid], money),
        )

    send(remote, [seller, buyer], [delivered, paid], operations, node, simulate, timeout, max_fee, as_json)


@app.command()
@command
def pay(
    source: Annotated[str, typer.Argument(metavar="FROM", help="Who pays.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="A member, or a node: the account of its key.")],
    amount: Annotated[int, typer.Argument(min=1, help="Native money.")],
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    simulate: SimulateOption = False,
    timeout: TimeoutOption = 60.0,
    max_fee: MaxFeeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pay native money, in which fees are paid and which is staked.

    \b
    Example: p2pledger tx pay broker-1 broker-2 500
    """
    from p2pledger.cluster.remote import Remote
    from p2pledger.primitives.names import account_of_key
    from p2pledger.primitives.transactions import Pay

    remote = Remote(directory)
    nodes = remote.consortium.node_keys_by_genesis
    is_node = target in nodes and target not in remote.consortium.member_keys
    receiver = account_of_key(nodes[target]) if is_node else remote.consortium.account(target)
    operation = Pay(remote.consortium.account(source), receiver, amount)
    send(remote, [source], [], lambda decimals: [operation], node, simulate, timeout, max_fee, as_json)


@app.command()
@command
def finality(
    asset: Annotated[str, typer.Argument(help="Such as CNE100000007@CSDC.")],
    confirmations: Annotated[int, typer.Argument(min=0, help="Blocks above it; 0: only what the engine calls final.")],
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    simulate: SimulateOption = False,
    timeout: TimeoutOption = 60.0,
    max_fee: MaxFeeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set after how many blocks holders of an asset may rely on a transfer. Signed by its issuer.

    \b
    Example: p2pledger tx finality CNE100000007@CSDC 3
    """
    import trio

    from p2pledger.cluster.opening import keeper_of
    from p2pledger.cluster.remote import Remote, issuer_of
    from p2pledger.primitives.names import asset_id
    from p2pledger.primitives.transactions import SetFinality

    remote = Remote(directory)
    named = asset_id(asset)
    operation = SetFinality(named, confirmations)
    keeper = keeper_of(remote.consortium, asset)

    async def issuer() -> bytes | None:
        async with remote.connect(keeper, node) as client:
            return await issuer_of(client, named)

    account = trio.run(issuer)
    members = {remote.consortium.account(name): name for name in remote.consortium.member_keys}
    signers = [members.get(account, keeper) if account is not None else keeper]
    send(remote, signers, [named], lambda decimals: [operation], node, simulate, timeout, max_fee, as_json)


@app.command()
@command
def show(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The transaction's id: 64 hexadecimal digits.")],
    valid_until: Annotated[
        int,
        typer.Option("--valid-until", min=0, max=2**63 - 1, help="The last height for it, as told when it was sent."),
    ],
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Look up what became of a transaction. Exit code 1 if it was refused, or is not on the ledger.

    \b
    Example: p2pledger tx show ID --valid-until 1017
    """
    import trio

    from p2pledger.api.client import LookupAnswer
    from p2pledger.cluster.remote import Remote
    from p2pledger.primitives.errors import InvalidInput
    from p2pledger.primitives.reasons import WHOLE_TRANSACTION, Reason, sentence_of

    if not re.fullmatch(r"[0-9a-fA-F]{64}", identifier):
        raise InvalidInput(
            f"{identifier!r} is not the id of a transaction", why="it has 64 hexadecimal digits", code="bad_id"
        )
    wanted = bytes.fromhex(identifier)
    remote = Remote(directory)

    async def run() -> LookupAnswer:
        async with remote.connect(node=node) as client:
            return await client.lookup([(valid_until, wanted)])

    answer = trio.run(run)
    [line] = answer.lines
    if as_json:
        found = {
            "height": None if line is None else line.height,
            "code": None if line is None else line.code,
            "reason": None if line is None else Reason(line.code).title,
            "operation": None
            if line is None or line.operation == WHOLE_TRANSACTION or not line.code
            else line.operation,
            "sentence": None if line is None else sentence_of(line.code),
            "rule": None if line is None else line.rule,
        }
        values = {"id": wanted.hex(), "valid_until": valid_until, "found": line is not None, **found}
        emit("p2pledger.tx.show/1", {**values, "final_height": answer.height})
    elif line is None:
        print(f"not found  {wanted.hex()}")
        say(f"not on the ledger at height {answer.height} as valid until height {valid_until}")
        if answer.height < valid_until:
            say("it may still become final; is --valid-until the height that was told when it was sent?")
        else:
            say("it can no longer become final; one that was final long ago is not remembered under its id")
    else:
        _print_outcome("final", "refused", line.code, line.height, line.operation, wanted, valid_until, line.rule)
    if line is None or line.code != 0:
        raise SystemExit(1)


def _print_outcome(
    good: str, bad: str, code: int, height: int, operation: int, identifier: bytes, valid_until: int, rule: str
) -> None:
    """One line of data, and what a refusal means."""
    from p2pledger.primitives.reasons import WHOLE_TRANSACTION, Reason

    told = f"{identifier.hex()}  valid until height {valid_until}"
    if code == 0:
        print(f"{good} at height {height}  {told}")
    else:
        which = "" if operation == WHOLE_TRANSACTION else f" (operation {operation + 1})"
        print(f"{bad}: {Reason(code).title}{which}  {told}")
        say_refusal(code, rule)


def send(
    remote: Remote,
    signers: Sequence[str],
    assets: Sequence[bytes],
    operations: Callable[[dict[bytes, int]], Sequence[Operation]],
    node: str,
    simulate: bool,
    timeout_s: float,
    max_fee: int | None,
    as_json: bool,
    **more: str,
) -> None:
    """Makes one transaction, signs it for these members, sends it and tells its end. The first of them pays the fee.

    ``more`` goes into the JSON object.
    """
    import os
    import time

    import trio

    from p2pledger.cluster.remote import decimals_of
    from p2pledger.cluster.settle import settle
    from p2pledger.primitives.errors import P2PLedgerError
    from p2pledger.primitives.forms import operation_name
    from p2pledger.primitives.reasons import WHOLE_TRANSACTION, Reason, rule_named, sentence_of
    from p2pledger.primitives.transactions import Transaction

    async def run() -> tuple[Transaction, int, int, int, str, float]:
        async with remote.connect(signers[0], node) as client:
            status = await client.status()
            decimals = await decimals_of(client, assets)
            parameters, todo = remote.consortium.genesis.parameters, tuple(operations(decimals))
            transaction = Transaction(
                remote.consortium.genesis.network_id,
                status.final_height + min(1_000, parameters.replay_window),
                os.urandom(16),
                remote.consortium.account(signers[0]),
                todo,
                parameters.least_fee * len(todo) if max_fee is None else max_fee,
            )
            data = transaction.sign(remote.consortium.keypair(name) for name in signers)
            begun = time.monotonic()
            if simulate:
                receipt = await client.simulate(data)
                return transaction, receipt.height, receipt.code, receipt.operation, receipt.rule, 0.0
            try:
                [outcome] = await settle(client, [data], timeout_s=timeout_s)
            except P2PLedgerError as error:
                # Whoever does not know how it ended must at least know what to look for.
                error.where = ", ".join(filter(None, (f"transaction {transaction.id.hex()}", error.where)))
                if error.code in ("timeout", "timed_out", "connection_lost"):
                    error.hint = (
                        f"It may still become final. Look with: p2pledger tx show {transaction.id.hex()} "
                        f"--valid-until {transaction.valid_until}"
                    )
                raise
            elapsed_s = time.monotonic() - begun
            return transaction, outcome.height, outcome.code, outcome.operation, outcome.rule, elapsed_s

    sent, height, code, operation, rule, elapsed_s = trio.run(run)
    at = "" if operation == WHOLE_TRANSACTION else operation_name(type(sent.operations[operation]))
    rule = rule_named(code, rule, at)
    if as_json:
        emit(
            "p2pledger.tx/1",
            {
                "id": sent.id.hex(),
                "valid_until": sent.valid_until,
                "simulated": simulate,
                "height": height,
                "code": code,
                "reason": Reason(code).title,
                "operation": None if operation == WHOLE_TRANSACTION or code == 0 else operation,
                "sentence": sentence_of(code),
                "rule": rule,
                "seconds": round(elapsed_s, 4),
                **more,
            },
        )
    else:
        good, bad = ("would succeed", "would be refused") if simulate else ("final", "refused")
        _print_outcome(good, bad, code, height, operation, sent.id, sent.valid_until, rule)
        if code == 0 and not simulate:
            say(f"seen final after {elapsed_s * 1000:.0f} ms")
    if code != 0:
        raise SystemExit(1)
