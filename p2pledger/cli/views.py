"""p2pledger positions, investor, look-through, instruction, tasks, money, permissions, orders, venue: the market, read.

Each command asks one node one question, which it answers in one consistent read; the height of that state is told.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from p2pledger.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption, NodeOption
from p2pledger.cli.output import command, counted, emit, say, say_refusal, table

if TYPE_CHECKING:
    from pathlib import Path

    from p2pledger.api.client import Client, Viewed
    from p2pledger.primitives.forms_text import Names
    from p2pledger.primitives.statements import Forecast, InstructionLine, InstructionStatement

__all__ = [
    "instruction_app",
    "investor",
    "look_through",
    "money_app",
    "orders_app",
    "permissions_app",
    "positions",
    "tasks",
    "venue_app",
]

_T = TypeVar("_T")

instruction_app = typer.Typer(help="Settlement instructions.", no_args_is_help=True)
money_app = typer.Typer(help="The money on the ledger.", no_args_is_help=True)
permissions_app = typer.Typer(help="Who may do what.", no_args_is_help=True)
orders_app = typer.Typer(help="Orders of authority.", no_args_is_help=True)
venue_app = typer.Typer(help="What venues have sent.", no_args_is_help=True)

WhoArgument = Annotated[str, typer.Argument(metavar="WHO", help="A party's name, or an account in hexadecimal.")]
InstructionArgument = Annotated[
    str, typer.Argument(metavar="ID", help="The instruction: 64 hexadecimal digits, or enough of the first ones.")
]
ReaderOption = Annotated[
    str, typer.Option("--as", metavar="NAME", help="The member as which you look; his key must be here.")
]


@money_app.callback()
def _money() -> None:
    """The money on the ledger."""


@permissions_app.callback()
def _permissions() -> None:
    """Who may do what."""


@venue_app.callback()
def _venue() -> None:
    """What venues have sent."""


def _ask(
    directory: Path, node: str, ask: Callable[[Client, Names], Awaitable[Viewed[_T]]], reader: str = ""
) -> tuple[Viewed[_T], Names]:
    """The answer of a node, and the names of whom and what it is about."""
    import trio

    from p2pledger.cli.market import known_names
    from p2pledger.cluster.remote import Remote

    remote = Remote(directory)

    async def run() -> tuple[Viewed[_T], Names]:
        async with remote.connect(reader, node) as client:
            names = await known_names(client, remote)
            return await ask(client, names), names

    return trio.run(run)


def _account(names: Names, who: str) -> bytes:
    from p2pledger.primitives.forms import Account
    from p2pledger.primitives.forms_text import value_of

    account: bytes = value_of(Account("account"), who, names)
    return account


def _reference(field: str, text: str) -> bytes:
    from p2pledger.primitives.forms import Reference
    from p2pledger.primitives.forms_text import Names, value_of

    identifier: bytes = value_of(Reference(field), text, Names())
    return identifier


async def _instruction(client: Client, text: str) -> bytes:
    """The identifier of an instruction, of which the beginning is enough where no other one begins so."""
    from p2pledger.primitives.errors import InvalidInput

    if len(text) == 64 or not re.fullmatch(r"[0-9a-fA-F]{4,63}", text):
        return _reference("instruction", text)
    least = int(text.ljust(64, "0"), 16)
    behind = (least - 1).to_bytes(32, "big") if least else b""
    lines = (await client.instructions(after=behind, limit=2)).statement.lines
    found = [line.id for line in lines if line.id.hex().startswith(text.lower())]
    if len(found) == 1:
        return found[0]
    raise InvalidInput(
        f"{'several instructions begin' if found else 'no instruction begins'} with {text}",
        hint="'p2pledger instruction list' shows how they begin, with --json all of their digits",
        code="unknown_instruction",
    )


def _who(names: Names, account: bytes) -> str:
    return "" if not account else names.name_of(account) or account.hex()[:16]


def _time(time_ms: int) -> str:
    from datetime import UTC, datetime

    if not time_ms:
        return ""
    try:
        return datetime.fromtimestamp(time_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S") + " UTC"
    except (OverflowError, ValueError, OSError):
        return str(time_ms)


def _day(day: int) -> str:
    from datetime import date, timedelta

    try:
        return str(date(1970, 1, 1) + timedelta(days=day))
    except OverflowError:
        return str(day)


def plain_of(item: Any) -> Any:
    """A statement as JSON wants it: fields by name, bytes in hexadecimal, assets by their names."""
    from dataclasses import fields, is_dataclass

    from p2pledger.primitives.names import asset_text

    if is_dataclass(item):
        return {field.name: plain_of(getattr(item, field.name)) for field in fields(item)}
    if isinstance(item, tuple):
        return [plain_of(entry) for entry in item]
    if isinstance(item, bytes):
        if len(item) == 16:
            return asset_text(item)
        return item.rstrip(b"\0").decode() if len(item) in (4, 12) else item.hex()
    return item


def _emit(what: str, answer: Viewed[Any]) -> None:
    emit(
        f"p2pledger.{what}/1",
        {"height": answer.height, "state_root": answer.state_root.hex(), **plain_of(answer.statement)},
    )


# --- holdings ---------------------------------------------------------------------------------------------------------


@command
def positions(
    who: WhoArgument,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show what a party or an account holds, by bucket: what for, and which orders lie on it.

    \b
    Example: p2pledger positions broker-1
    """
    from p2pledger.primitives.amounts import amount_text
    from p2pledger.primitives.names import asset_text

    answer, names = _ask(directory, node, lambda client, names: client.positions(_account(names, who)))
    if as_json:
        _emit("positions", answer)
        return
    rows = []
    for line in answer.statement.lines:
        for bucket in line.buckets:
            reason = f"{bucket.what} {_who(names, bucket.reference)}".strip()
            held = [each for each in line.held if (each.bucket, each.reference) == (bucket.bucket, bucket.reference)]
            for each in held:
                reason += f"; {amount_text(each.amount, line.decimals)} under order {each.order.hex()[:8]}"
            rows.append(
                (
                    _who(names, line.account),
                    asset_text(line.asset),
                    bucket.bucket,
                    amount_text(bucket.amount, line.decimals),
                    reason.removeprefix("; "),
                )
            )
    print(table(("account", "asset", "bucket", "amount", "for"), rows, right=("amount",)))
    say(f"{who} at height {answer.height}")


@command
def investor(
    who: WhoArgument,
    reader: ReaderOption,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show one investor over all registers, what omnibus accounts hold for him among it; to those entitled.

    \b
    Example: p2pledger investor broker-1 --as CCDC
    """
    from p2pledger.primitives.amounts import amount_text

    answer, _ = _ask(
        directory,
        node,
        lambda client, names: client.investor(_account(names, reader), _account(names, who)),
        reader,
    )
    if as_json:
        _emit("investor", answer)
        return
    rows = [
        (
            line.instrument.rstrip(b"\0").decode(),
            line.register.rstrip(b"\0").decode(),
            amount_text(line.free, line.decimals),
            amount_text(line.encumbered, line.decimals),
            amount_text(line.held_for_him, line.decimals),
            "mirror" if line.is_mirror else "",
        )
        for line in answer.statement.lines
    ]
    titles = ("instrument", "register", "free", "encumbered", "held for him", "")
    print(table(titles, rows, right=titles[2:5]))
    say(f"{who} at height {answer.height}, seen as {answer.statement.seen_as}")


@command
def look_through(
    who: WhoArgument,
    asset: Annotated[str, typer.Argument(metavar="ASSET", help="Such as CNE100000007@CSDC.")],
    reader: ReaderOption,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show who stands behind an omnibus holding; to those entitled.

    \b
    Example: p2pledger look-through ACCOUNT CNE100000007@CSDC --as CSDC
    """
    from p2pledger.primitives.amounts import amount_text
    from p2pledger.primitives.names import asset_id

    named = asset_id(asset)
    answer, _ = _ask(
        directory,
        node,
        lambda client, names: client.beneficiaries(_account(names, reader), _account(names, who), named),
        reader,
    )
    if as_json:
        _emit("look_through", answer)
        return
    decimals = answer.statement.decimals
    rows = [(line.name or line.party.hex(), amount_text(line.amount, decimals)) for line in answer.statement.lines]
    print(table(("beneficiary", "amount"), rows, right=("amount",)))
    say(f"of {amount_text(answer.statement.total, decimals)}, seen as {answer.statement.seen_as}")


# --- instructions -----------------------------------------------------------------------------------------------------


def _instruction_rows(names: Names, lines: tuple[InstructionLine, ...]) -> list[tuple[str, ...]]:
    return [
        (
            line.id.hex()[:16],
            _who(names, line.by),
            _who(names, line.counterparty),
            line.reference,
            line.processing,
            line.matching,
            line.settlement,
            line.code,
            _day(line.settle_day),
        )
        for line in lines
    ]


_INSTRUCTION_TITLES = (
    "instruction", "by", "counterparty", "reference", "processing", "matching", "settlement", "code", "settles",
)  # fmt: skip


@instruction_app.command("show")
@command
def instruction_show(
    identifier: InstructionArgument,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show an instruction: its three statuses and their code, its moments, who has agreed, its legs.

    \b
    Example: p2pledger instruction show ID
    """
    from p2pledger.primitives.amounts import amount_text
    from p2pledger.primitives.names import asset_text

    async def ask(client: Client, names: Names) -> Viewed[InstructionStatement]:
        return await client.instruction(await _instruction(client, identifier))

    answer, names = _ask(directory, node, ask)
    if as_json:
        _emit("instruction.show", answer)
        return
    found = answer.statement
    line = found.line
    print(f"instruction  {line.id.hex()}")
    print(f"by           {_who(names, line.by)} ({found.origin}), with {_who(names, line.counterparty) or 'all'}")
    print(f"processing   {line.processing}")
    print(f"matching     {line.matching}{f' with {found.pair.hex()[:16]}' if found.pair else ''}")
    print(
        f"settlement   {line.settlement}{f', {line.code}' if line.code else ''}{f': {line.rule}' if line.rule else ''}"
    )
    print(f"days         traded {_day(found.trade_day)}, settles {_day(line.settle_day)} {found.calendar}".rstrip())
    for moment in found.moments:
        told = f"height {moment.height}, {_time(moment.time_ms)}" if moment.height else "not yet"
        print(f"{moment.name:<12} {told}")
    if line.due_ms:
        print(f"next         {_time(line.due_ms)}")
    for order in found.stopped_by:
        print(f"under        order {order.hex()}")
    print(f"legs digest  {found.digest.hex()} ({len(found.legs):,} of {found.legs_wanted:,} legs)")
    said = [
        (
            each.name or each.account.hex()[:16],
            "affirmed" if each.affirmed else "not affirmed",
            "holds it" if each.holds else "",
            "wants to cancel" if each.wants_to_cancel else "",
        )
        for each in found.participants
    ]
    print("\n" + table(("participant", "", "", ""), said))
    legs = [
        (
            number,
            _who(names, leg.giver),
            _who(names, leg.taker),
            asset_text(leg.asset),
            amount_text(leg.amount, leg.decimals),
        )
        for number, leg in enumerate(found.legs)
    ]
    print("\n" + table(("leg", "from", "to", "asset", "amount"), legs, right=("leg", "amount")))


@instruction_app.command("simulate")
@command
def instruction_simulate(
    identifier: InstructionArgument,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Say what settling an instruction at its time would give. Exit code 1 if it would be refused.

    Of a locked one this is what it will give, whatever lies between, save an order of authority.

    \b
    Example: p2pledger instruction simulate ID
    """
    from p2pledger.primitives.reasons import Reason, rule_named

    async def ask(client: Client, names: Names) -> Viewed[Forecast]:
        return await client.forecast(await _instruction(client, identifier))

    answer, _ = _ask(directory, node, ask)
    found = answer.statement
    if as_json:
        _emit("instruction.simulate", answer)
    else:
        sure = "will" if found.is_locked else "would, as things are now,"
        end = "settle" if found.code == 0 else f"be refused: {Reason(found.code).title}"
        print(f"it {sure} {end} at {_time(found.time_ms)}")
        if found.code:
            say_refusal(found.code, rule_named(found.code, found.rule, "settle"), "settle")
    if found.code:
        raise SystemExit(1)


@instruction_app.command("list")
@command
def instruction_list(
    who: Annotated[str, typer.Option("--party", metavar="WHO", help="Only those in which it takes part.")] = "",
    after: Annotated[str, typer.Option("--after", metavar="ID", help="Go on behind this one.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="At most so many.")] = 100,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """List instructions, with their statuses and codes.

    \b
    Example: p2pledger instruction list --party broker-1
    """
    behind = _reference("after", after) if after else b""
    answer, names = _ask(
        directory,
        node,
        lambda client, names: client.instructions(_account(names, who) if who else b"", after=behind, limit=limit),
    )
    if as_json:
        _emit("instruction.list", answer)
        return
    print(table(_INSTRUCTION_TITLES, _instruction_rows(names, answer.statement.lines)))
    if answer.statement.next:
        say(f"more: --after {answer.statement.next.hex()}")


@command
def tasks(
    who: WhoArgument,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show what waits for a party, the most urgent first: to be affirmed, let go, cancelled, paid, fulfilled.

    \b
    Example: p2pledger tasks broker-2
    """
    answer, names = _ask(directory, node, lambda client, names: client.tasks(_account(names, who)))
    if as_json:
        _emit("tasks", answer)
        return
    rows = [
        (line.what.replace("_", "-"), _who(names, line.account), line.sentence, _time(line.deadline_ms),
         line.reference.hex())
        for line in answer.statement.lines
    ]  # fmt: skip
    print(table(("task", "account", "about", "until", "id"), rows))
    if any(line.what == "affirm" for line in answer.statement.lines):
        say("'p2pledger instruction show ID' shows the legs and the digest that 'p2pledger market affirm --legs' takes")
    say(f"{counted(len(rows), 'task')} for {who} at height {answer.height}, {_time(answer.statement.time_ms)}")


# --- money, venues ----------------------------------------------------------------------------------------------------


@money_app.command("supply")
@command
def money_supply(
    directory: DirectoryOption = DEFAULT_DIRECTORY, node: NodeOption = "", as_json: JsonOption = False
) -> None:
    """Show all money: base money and the money of each bank, what stands behind it, and the totals.

    \b
    Example: p2pledger money supply
    """
    from p2pledger.primitives.amounts import amount_text
    from p2pledger.primitives.names import asset_text

    answer, _ = _ask(directory, node, lambda client, names: client.money_supply())
    if as_json:
        _emit("money.supply", answer)
        return
    rows = [
        (
            asset_text(line.asset),
            line.kind,
            line.bank_name,
            amount_text(line.circulating, line.decimals),
            amount_text(line.attested, line.decimals) if line.as_of_ms else "",
            amount_text(line.reserves, line.decimals) if line.kind == "bank" else "",
            amount_text(line.waiting, line.decimals) if line.waiting else "",
            ", ".join(
                text for text, on in (("quarantined", line.is_quarantined), ("does not count", not line.counts)) if on
            ),
        )
        for line in answer.statement.lines
    ]
    titles = ("asset", "kind", "of", "circulating", "attested", "reserves", "waiting", "")
    print(table(titles, rows, right=titles[3:7]))
    print()
    totals = [
        (
            line.currency,
            amount_text(line.base, line.decimals),
            amount_text(line.reserves, line.decimals),
            amount_text(line.bank_money, line.decimals),
            amount_text(line.held_by_public, line.decimals),
            "authorised money only" if line.only_authorised else "",
        )
        for line in answer.statement.totals
    ]
    heads = ("currency", "base money", "of it reserves", "bank money", "held by the public", "")
    print(table(heads, totals, right=heads[1:5]))
    say(f"at height {answer.height}")


@venue_app.command("report")
@command
def venue_report(
    venue: Annotated[str, typer.Argument(help="The venue's name.")],
    after: Annotated[str, typer.Option("--after", metavar="ID", help="Go on behind this one.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="At most so many lines.")] = 100,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Tell a venue what became of its instructions: final, or failed with the code.

    \b
    Example: p2pledger venue report VENUE-A
    """
    from p2pledger.primitives.names import asset_text

    behind = _reference("after", after) if after else b""
    answer, names = _ask(
        directory, node, lambda client, names: client.venue_report(_account(names, venue), after=behind, limit=limit)
    )
    if as_json:
        _emit("venue.report", answer)
        return
    found = answer.statement
    print(table(_INSTRUCTION_TITLES, _instruction_rows(names, found.lines)))
    counts = (("settled", found.settled), ("failing", found.failing), ("pending", found.pending))
    say(", ".join(f"{count:,} {what}" for what, count in (*counts, ("cancelled", found.cancelled))))
    switched = ", ".join(f"{asset_text(line.asset)} {'on' if line.is_on else 'off'}" for line in found.assets)
    say(f"switched: {switched or 'for no asset'}")


# --- permissions, orders ----------------------------------------------------------------------------------------------


@permissions_app.command("explain")
@command
def permissions_explain(
    who: Annotated[str, typer.Option("--who", help="A party's name, or an account.")],
    what: Annotated[str, typer.Option("--what", help="An operation, such as describe.")],
    asset: Annotated[str, typer.Option("--asset", help="On which asset, such as CND100000017@CCDC.")] = "",
    amount: Annotated[str, typer.Option("--amount", help="Of how much of it.")] = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Say whether somebody may do something, and by which rule. Exit code 1 if not.

    \b
    Example: p2pledger permissions explain --who CSDC --what describe --asset CND100000017@CCDC
    """
    from p2pledger.primitives.amounts import units_of
    from p2pledger.primitives.forms_text import operation_kind
    from p2pledger.primitives.names import asset_id

    kind = operation_kind(what)
    named = asset_id(asset) if asset else b""

    async def ask(client: Client, names: Names) -> Viewed[Any]:
        units = units_of(amount, names.decimals.get(named, 0), asset) if amount else 0
        return await client.explain(_account(names, who), kind.code, named, units)

    answer, _ = _ask(directory, node, ask)
    found = answer.statement
    if as_json:
        _emit("permissions.explain", answer)
    else:
        print(f"{'allowed' if found.is_allowed else 'refused'} by: {found.rule}")
        print(f"  {found.why}")
        print(f"  {found.name or who} has the roles: {', '.join(found.roles) or 'none'}")
        for line in found.weighed:
            print(f"  permission {line.name} ({line.effect}): {line.why_not or 'applies'}")
    if not found.is_allowed:
        raise SystemExit(1)


@orders_app.command("table")
@command
def orders_table(as_json: JsonOption = False) -> None:
    """Print what each power of an order does to units in each bucket.

    \b
    Example: p2pledger orders table
    """
    from p2pledger.ledger.market.powers import TABLE, render

    if as_json:
        cells = [
            {"bucket": bucket.name.lower(), "power": power.name.lower(), "outcome": outcome.words}
            for (bucket, power), outcome in TABLE.items()
        ]
        emit("p2pledger.orders.table/1", {"cells": cells})
    else:
        print(render())


@orders_app.command("list")
@command
def orders_list(
    directory: DirectoryOption = DEFAULT_DIRECTORY, node: NodeOption = "", as_json: JsonOption = False
) -> None:
    """List the orders of authority: over whom, by whom, and whether they stand.

    \b
    Example: p2pledger orders list
    """
    from p2pledger.primitives.names import asset_text

    answer, names = _ask(directory, node, lambda client, names: client.orders())
    if as_json:
        _emit("orders.list", answer)
        return
    rows = [
        (
            line.rule,
            line.power.replace("_", " "),
            line.status,
            _who(names, line.party or line.account) or "everybody",
            asset_text(line.asset) if line.asset else "every asset",
            f"{line.quantity:,} units" if line.quantity else "everything",
            f"{_who(names, line.authority)}, {_who(names, line.approver)}",
            _time(line.expires_ms),
            line.id.hex(),
        )
        for line in answer.statement.lines
    ]
    print(table(("order", "power", "status", "over", "asset", "how much", "by", "until", "id"), rows))
