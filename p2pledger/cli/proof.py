"""p2pledger proof: a file by which a holding is proved to somebody who asks no node and believes nobody."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2pledger.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption, NodeOption
from p2pledger.cli.output import command, emit, say

if TYPE_CHECKING:
    from p2pledger.ledger.holding_proof import ProvedHolding

__all__ = ["app"]

app = typer.Typer(help="Prove holdings to counterparties.", no_args_is_help=True)


@app.command()
@command
def holdings(
    who: Annotated[str, typer.Argument(metavar="WHO", help="A party's name, or an account in hexadecimal.")],
    asset: Annotated[str, typer.Argument(help="Such as CNE100000007@CSDC.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", help="A finality certificate of this epoch, from epoch 2 on."),
    ] = None,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    node: NodeOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write a file that proves what an account holds of an asset, to whoever knows the genesis.

    \b
    Examples: p2pledger proof holdings broker-1 CNE100000007@CSDC --out holding.proof
              p2pledger proof verify holding.proof --amount 500
    """
    import trio

    from p2pledger.cli.market import known_names
    from p2pledger.cluster.proofs import fetch_holding_proof
    from p2pledger.cluster.remote import Remote
    from p2pledger.ledger.finality import FinalityProof
    from p2pledger.ledger.holding_proof import check_holding
    from p2pledger.primitives.forms import Account
    from p2pledger.primitives.forms_text import value_of
    from p2pledger.primitives.names import asset_id

    remote, named = Remote(directory), asset_id(asset)
    genesis = remote.consortium.genesis
    turns = () if certificate is None else FinalityProof.decode(_read(certificate)).turns

    async def run() -> bytes:
        async with remote.connect(node=node) as client:
            account = value_of(Account("account"), who, await known_names(client, remote))
            return await fetch_holding_proof(client, genesis, account, named, turns)

    data = trio.run(run)
    out.write_bytes(data)
    found = check_holding(data, genesis.hash)
    if as_json:
        emit("p2pledger.proof.holdings/1", {"file": str(out), "bytes": len(data), **_values(found)})
    else:
        print(f"{out}: {len(data):,} bytes prove what {who} holds of {asset} at height {found.height}")
        _tell(found, asset)


@app.command("verify")
@command
def verify_proof(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The file.")],
    amount: Annotated[str, typer.Option("--amount", help="Whether so much is unencumbered.")] = "",
    genesis: Annotated[
        str, typer.Option("--genesis", metavar="HASH", help="The hash of the genesis; the cluster's if not given.")
    ] = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    as_json: JsonOption = False,
) -> None:
    """Check such a file, offline. Exit code 1 if it proves nothing, or if the amount is not unencumbered.

    \b
    Example: p2pledger proof verify holding.proof --amount 500 --genesis HASH
    """
    from p2pledger.cli.verify import known_hash
    from p2pledger.ledger.holding_proof import check_holding
    from p2pledger.primitives.amounts import units_of
    from p2pledger.primitives.errors import PeerFault
    from p2pledger.primitives.names import asset_text

    data, known = _read(path), known_hash(genesis, directory)
    try:
        found = check_holding(data, known)
    except PeerFault as fault:
        if as_json:
            values = {"file": str(path), "ok": False, "reason": fault.code, "sentence": str(fault)}
            emit("p2pledger.proof.verify/1", values)
        else:
            print(f"{path} proves nothing: {fault.code}\n  {fault}")
        raise SystemExit(1) from None
    asset = asset_text(found.asset)
    units = units_of(amount, found.decimals, asset) if amount else 0
    ok = not amount or found.is_unencumbered(units)
    if as_json:
        emit(
            "p2pledger.proof.verify/1",
            {
                "file": str(path),
                "ok": ok,
                "genesis_known": known is not None,
                "amount": units if amount else None,
                "unencumbered": found.is_unencumbered(units) if amount else None,
                "why_not": found.why_not(units) if amount else "",
                **_values(found),
            },
        )
    else:
        print(f"{found.account.hex()} holds {asset} ({found.name})")
        _tell(found, asset)
        if amount:
            print(f"  {amount} {asset}: {'unencumbered' if ok else 'NOT unencumbered: ' + found.why_not(units)}")
        how = "as known here" if known is not None else "compare it with the one that you know"
        print(f"  signed by {', '.join(found.finality.signers)}")
        print(f"  genesis {found.finality.genesis_hash.hex()} ({how})")
        say("It was so after that block; whoever needs it to stay so has the units locked.")
    if not ok:
        raise SystemExit(1)


def _read(path: Path) -> bytes:
    from p2pledger.primitives.errors import InvalidInput

    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read", why=error.strerror or "", code="no_file") from None


def _tell(found: ProvedHolding, asset: str) -> None:
    from p2pledger.primitives.amounts import amount_text

    free, encumbered = amount_text(found.free, found.decimals), amount_text(found.encumbered, found.decimals)
    print(f"  {free} free, {encumbered} encumbered after the block of height {found.height}")
    for obstacle in found.obstacles:
        print(f"  {obstacle}")
    if found.owner != found.account:
        print(f"  the account is {found.owner.hex()}'s")


def _values(found: ProvedHolding) -> dict[str, Any]:
    from p2pledger.primitives.names import asset_text

    return {
        "account": found.account.hex(),
        "owner": found.owner.hex(),
        "asset": asset_text(found.asset),
        "decimals": found.decimals,
        "free": found.free,
        "encumbered": found.encumbered,
        "nature": found.nature,
        "obstacles": list(found.obstacles),
        "height": found.height,
        "certified_height": found.finality.certified.height,
        "block": found.finality.header.id.hex(),
        "signers": list(found.finality.signers),
        "genesis_hash": found.finality.genesis_hash.hex(),
    }
