"""p2pledger market: every operation of the ledger as a command, made from its form.

Nothing is written twice: the fields of an operation are its options, written as ``primitives/forms_text.py`` reads
them, and its help is its docstring. Who has to sign is asked of a node, which asks the operation's rule; the keys are
those of the cluster's directory. So a new operation is a command as soon as it has a form.

The commands are made when they are looked up: ``p2pledger --help`` must not load the operations.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from p2pledger.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption, NodeOption
from p2pledger.cli.output import command, emit, say, say_refusal
from p2pledger.cli.transactions import MaxFeeOption, SimulateOption, TimeoutOption

if TYPE_CHECKING:
    from pathlib import Path

    from p2pledger.api.client import Client
    from p2pledger.cluster.remote import Remote
    from p2pledger.primitives.forms import Operation
    from p2pledger.primitives.forms_text import Names
    from p2pledger.primitives.keys import Keypair

__all__ = ["app", "known_names", "object_of"]

_FIELD: Final = "field_"
"""Before the name of a parameter that is a field, so that none clashes with an option of every command."""

SignOption = Annotated[
    list[str] | None,
    typer.Option("--sign", metavar="NAME", help="Who signs, again for each; whoever has to, if not given."),
]


class MarketCommands(TyperGroup):
    """A command for each operation."""

    def list_commands(self, ctx: Any) -> list[str]:
        from p2pledger.primitives.forms_text import NAMES

        return [name.replace("_", "-") for name in NAMES]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        from p2pledger.primitives.forms_text import NAMES

        kind = NAMES.get(cmd_name.replace("-", "_"))
        return None if kind is None else _command_of(cmd_name, kind)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        from difflib import get_close_matches

        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0].replace("_", "-") not in known:
            near = get_close_matches(args[0], known, n=1)
            ctx.fail(f"No such command '{args[0]}'." + (f" Did you mean '{near[0]}'?" if near else ""))
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=MarketCommands,
    help="Every operation of the ledger, with its fields as options.",
    no_args_is_help=True,
    epilog=(
        "Amounts are decimal numbers of the asset beside them, lists are parted by commas (of records: semicolons), "
        "days are 2026-03-02, times ISO 8601 with their offset. docs/operations.md says who may do what."
    ),
)


@app.callback()
def market() -> None:
    """Every operation of the ledger, with its fields as options."""


def _command_of(name: str, kind: type[Operation]) -> Any:
    """The command of one operation: a function with its fields in its signature, as typer wants it."""
    from dataclasses import MISSING, fields

    from p2pledger.primitives.forms import Blob, ListOf, Salt, Text
    from p2pledger.primitives.forms_text import expected

    defaults = {item.name for item in fields(kind) if item.default is not MISSING}

    @command
    def run(**given: Any) -> None:
        texts = {key.removeprefix(_FIELD): value for key, value in given.items() if key.startswith(_FIELD)}
        rest = {key: value for key, value in given.items() if not key.startswith(_FIELD)}
        _send(name, {key: value for key, value in texts.items() if value is not None}, **rest)

    parameters = []
    for item in kind.form:
        may_lack = item.name in defaults or isinstance(item, Salt) or getattr(item, "optional", False)
        may_lack = may_lack or (isinstance(item, Text | ListOf | Blob) and item.least == 0)
        takes = expected(item)
        option = typer.Option(f"--{item.name.replace('_', '-')}", help=f"{takes[0].upper()}{takes[1:]}.")
        parameters.append(
            inspect.Parameter(
                _FIELD + item.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None if may_lack else inspect.Parameter.empty,
                annotation=Annotated[str | None if may_lack else str, option],
            )
        )
    common: tuple[tuple[str, Any, Any], ...] = (
        ("sign", SignOption, None),
        ("directory", DirectoryOption, DEFAULT_DIRECTORY),
        ("node", NodeOption, ""),
        ("simulate", SimulateOption, False),
        ("timeout", TimeoutOption, 60.0),
        ("max_fee", MaxFeeOption, None),
        ("as_json", JsonOption, False),
    )
    for parameter, annotation, default in common:
        parameters.append(
            inspect.Parameter(parameter, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        )
    # Required ones first, as Python wants them; typer shows them in this order.
    parameters.sort(key=lambda item: item.default is not inspect.Parameter.empty)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {item.name: item.annotation for item in parameters}
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name, help=inspect.cleandoc(kind.__doc__ or ""))(run)
    return typer.main.get_command(single)


def _send(
    name: str,
    texts: Mapping[str, str],
    sign: Sequence[str] | None,
    directory: Path,
    node: str,
    simulate: bool,
    timeout: float,
    max_fee: int | None,
    as_json: bool,
) -> None:
    """Makes the operation, signs it for whoever has to, sends it and tells its end."""
    import os
    import time

    import trio

    from p2pledger.cluster.remote import Remote
    from p2pledger.cluster.settle import settle
    from p2pledger.primitives.errors import P2PLedgerError
    from p2pledger.primitives.forms import operation_name
    from p2pledger.primitives.forms_text import operation_of
    from p2pledger.primitives.reasons import WHOLE_TRANSACTION, Reason, rule_named, sentence_of
    from p2pledger.primitives.transactions import Transaction

    remote = Remote(directory)
    genesis = remote.consortium.genesis
    asker = sign[0] if sign and sign[0] in _members(remote) else ""

    async def run() -> None:
        async with remote.connect(asker, node) as client:
            names = await known_names(client, remote, name, texts)
            operation = operation_of(name, texts, names, os.urandom(16))
            payer, keypairs = await _signing(client, remote, operation, names, sign)
            status = await client.status()
            transaction = Transaction(
                genesis.network_id,
                status.final_height + min(1_000, genesis.parameters.replay_window),
                os.urandom(16),
                payer,
                (operation,),
                genesis.parameters.least_fee if max_fee is None else max_fee,
            )
            data = transaction.sign(keypairs)
            begun = time.monotonic()
            if simulate:
                answer = await client.simulate(data)
                height, code, at, rule = answer.height, answer.code, answer.operation, answer.rule
            else:
                try:
                    [outcome] = await settle(client, [data], timeout_s=timeout)
                except P2PLedgerError as error:
                    error.where = ", ".join(filter(None, (f"transaction {transaction.id.hex()}", error.where)))
                    if error.code in ("timeout", "timed_out", "connection_lost"):
                        error.hint = (
                            f"It may still become final. Look with: p2pledger tx show {transaction.id.hex()} "
                            f"--valid-until {transaction.valid_until}"
                        )
                    raise
                height, code, at, rule = outcome.height, outcome.code, outcome.operation, outcome.rule
            elapsed_s = time.monotonic() - begun
        rule = rule_named(code, rule, "" if at == WHOLE_TRANSACTION else operation_name(type(operation)))
        made = object_of(operation)
        if as_json:
            emit(
                "p2pledger.market/1",
                {
                    "operation": name.replace("-", "_"),
                    "id": transaction.id.hex(),
                    "object": made,
                    "valid_until": transaction.valid_until,
                    "simulated": simulate,
                    "height": height,
                    "code": code,
                    "reason": Reason(code).title,
                    "rule": rule,
                    "sentence": sentence_of(code),
                    "seconds": round(elapsed_s, 4),
                },
            )
        else:
            good, bad = ("would succeed", "would be refused") if simulate else ("final", "refused")
            told = f"{transaction.id.hex()}  valid until height {transaction.valid_until}"
            if code == 0:
                print(f"{good} at height {height}  {told}")
                if made:
                    print(f"made  {made}")
            else:
                print(f"{bad}: {Reason(code).title}  {told}")
                say_refusal(code, rule, name.replace("-", "_"))
            if code == 0 and not simulate:
                say(f"seen final after {elapsed_s * 1_000:.0f} ms")
        if code != 0:
            raise SystemExit(1)

    trio.run(run)


def _members(remote: Remote) -> Mapping[str, bytes]:
    """The members of the genesis by name: they may have sessions, and their accounts are those of their names."""
    return {member.name: member.account for member in remote.consortium.genesis.members}


def object_of(operation: Operation) -> str:
    """The identifier of what an operation makes, in hexadecimal; empty where it makes nothing that has one."""
    from p2pledger.primitives.names import account_opened
    from p2pledger.primitives.transactions import Open

    if isinstance(operation, Open):
        return account_opened(operation.opener, operation.salt, operation.policy.values()).hex()
    made = getattr(operation, "id", b"")
    return made.hex() if isinstance(made, bytes) else ""


async def known_names(
    client: Client, remote: Remote, operation: str = "", texts: Mapping[str, str] | None = None
) -> Names:
    """What people call accounts, members and parties that were registered later, and the decimals of assets."""
    from p2pledger.cluster.remote import decimals_of
    from p2pledger.primitives.forms_text import Names, assets_named

    accounts = dict(_members(remote))
    after = b""
    while True:
        page = (await client.directory(after=after)).statement
        for line in page.lines:
            if line.name:
                accounts.setdefault(line.name, line.account)
        after = page.next
        if not after:
            break
    decimals = await decimals_of(client, None)
    if operation and texts is not None:
        # An asset that does not exist has no decimals: its amounts are smallest units, and the ledger will refuse it.
        decimals = {**dict.fromkeys(assets_named(operation, texts), 0), **decimals}
    return Names(accounts, decimals)


async def _signing(
    client: Client, remote: Remote, operation: Operation, names: Names, sign: Sequence[str] | None
) -> tuple[bytes, list[Keypair]]:
    """Who pays, and the keys that sign: those named, or of all accounts that have to, as far as they are here."""
    from p2pledger.primitives.codec import encode
    from p2pledger.primitives.errors import InvalidInput

    keys = remote.consortium.member_keys
    if sign:
        return names.accounts.get(sign[0], b"") or remote.consortium.account(sign[0]), [
            remote.consortium.keypair(name) for name in sign
        ]
    accounts = (await client.signers([encode(operation.values())])).statement.accounts
    by_public = {keypair.public_key: keypair for keypair in keys.values()}
    keypairs: list[Keypair] = []
    for account in accounts:
        threshold, policy, _ = (await client.party(account)).policy
        held = [(by_public[key], weight) for key, weight in policy if key in by_public]
        if sum(weight for _, weight in held) < threshold:
            raise InvalidInput(
                f"{names.name_of(account) or account.hex()} has to sign, and its keys are not here",
                where=str(remote.directory / "keys"),
                hint="Put its key file there, or name others with --sign",
                code="no_key",
            )
        keypairs += [keypair for keypair, _ in held]
    if not accounts:
        raise InvalidInput(
            "what has to be signed for it does not exist yet",
            hint="Check what the operation refers to, or name who signs with --sign",
            code="no_signers",
        )
    return accounts[0], keypairs
