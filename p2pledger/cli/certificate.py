"""p2pledger certificate: a file that proves to anybody, without a node, that a block is final (simplex).

Made from a node's store: the chain is executed again, as in ``verify``, because each change of validators is shown by a
proof under the state root of its time, and a store keeps only the newest states.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2pledger.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption
from p2pledger.cli.output import command, counted, emit

if TYPE_CHECKING:
    from p2pledger.ledger.finality import Finality, FinalityProof
    from p2pledger.primitives.genesis import Genesis
    from p2pledger.storage.store import Store

__all__ = ["certificate", "check_file", "export_finality"]


@command
def certificate(
    height: Annotated[int, typer.Option("--height", min=1, help="The block to prove final.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    node: Annotated[str, typer.Argument(help="Whose store to read; the first validator's if not given.")] = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    as_json: JsonOption = False,
) -> None:
    """Write a file that proves a block final to whoever knows the genesis. The node must not be running.

    \b
    Examples: p2pledger certificate --height 7 --out block-7.final
              p2pledger verify --certificate block-7.final
    """
    from p2pledger.cluster.consortium import load_genesis, node_directory, suggestion
    from p2pledger.ledger.finality import check_finality
    from p2pledger.primitives.errors import InvalidInput, P2PLedgerError
    from p2pledger.storage.store import Store

    genesis = load_genesis(directory)
    seats = {seat.name: seat for seat in genesis.validators}
    if node and node not in seats:
        raise InvalidInput(f"there is no node {node!r}", hint=suggestion(node, list(seats)), code="unknown_node")
    name = node or sorted(seats)[0]
    try:
        with Store.open(
            node_directory(directory, name),
            network_id=genesis.network_id,
            node_key=seats[name].key,
            name="p2pledger certificate",
            fresh=False,
        ) as store:
            proof = export_finality(genesis, store, height)
    except P2PLedgerError as error:
        if error.code == "directory_in_use":
            error.hint = f"Stop the nodes first: p2pledger cluster down --directory {directory}"
        raise
    data = proof.encode()
    found = check_finality(data, genesis.hash)
    out.write_bytes(data)
    if as_json:
        emit("p2pledger.certificate/1", {"file": str(out), "bytes": len(data), **_values(found)})
    else:
        print(f"{out}: {len(data):,} bytes prove block {found.header.id.hex()} at height {height} final")


def export_finality(genesis: Genesis, store: Store, height: int) -> FinalityProof:
    """The proof for one final block: by its own certificate, or by the next one above that is stored.

    InvalidInput where there is none, PeerFault where the store is damaged.
    """
    from p2pledger.cli.walk import closing_of, walk
    from p2pledger.ledger.finality import FinalityProof, Turn, turn_of
    from p2pledger.primitives.blocks import Header
    from p2pledger.primitives.errors import InvalidInput
    from p2pledger.primitives.votes import Certificate

    if genesis.engine != "simplex":
        raise InvalidInput(f"under {genesis.engine} nobody signs that a block is final", code="wrong_engine")
    final_height = store.load().height
    if height > final_height:
        raise InvalidInput(
            f"height {height} is not final here: the store ends at {final_height}", code="unknown_height"
        )
    turns: list[Turn] = []
    headers: list[Header] = []

    def proof(certificate: Certificate) -> FinalityProof:
        needed = max(0, certificate.epoch - 1)
        if len(turns) < needed:
            what = f"no finalisation of epoch {len(turns) + 1} is stored here"
            raise InvalidInput(what, hint="Take the store of another node", code="no_certificate")
        encoded = tuple(header.encode() for header in headers)
        return FinalityProof(genesis.encode(), tuple(turns[:needed]), encoded, certificate.encode())

    last = None
    for last in walk(genesis, store):
        header = last.block.header
        if last.block.height >= height:
            headers.append(header)
            if last.certificate is not None:
                return proof(last.certificate)
        if header.epoch == len(turns) + 1 and last.certificate is not None:
            # The first finalisation of an epoch shows who validates in the next one.
            turns.append(turn_of(last.before.version, [header], last.certificate))
    closed = None if last is None else closing_of(genesis, store, last)
    if closed is None:
        raise InvalidInput(f"no finalisation above height {height} is stored here", code="no_certificate")
    headers.extend(block.header for block in closed[0])
    return proof(closed[1])


def check_file(path: Path, genesis_hash: bytes | None, *, as_json: bool) -> None:
    """Prints what a file proves, or the reason why it proves nothing; then the exit code is 1."""
    from p2pledger.ledger.finality import check_finality
    from p2pledger.primitives.errors import InvalidInput, PeerFault

    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read", why=error.strerror or "", code="no_file") from None
    try:
        found = check_finality(data, genesis_hash)
    except PeerFault as fault:
        if as_json:
            values = {"file": str(path), "ok": False, "reason": fault.code, "sentence": str(fault)}
            emit("p2pledger.verify.certificate/1", values)
        else:
            print(f"{path} proves nothing: {fault.code}\n  {fault}")
        raise SystemExit(1) from None
    if as_json:
        values = {"file": str(path), "ok": True, "genesis_known": genesis_hash is not None, **_values(found)}
        emit("p2pledger.verify.certificate/1", values)
        return
    header, validators = found.header, found.validators
    print(f"block {header.id.hex()} is final")
    print(f"  height {header.height}, epoch {header.epoch}, view {header.view}")
    if found.certified != header:
        print(f"  as an ancestor of the block at height {found.certified.height}")
    print(f"  signed by {', '.join(found.signers)}: {counted(len(found.signers), 'validator')} of {len(validators)}")
    known = "as known here" if genesis_hash is not None else "compare it with the one that you know"
    print(f"  genesis {found.genesis_hash.hex()} ({known})")


def _values(found: Finality) -> dict[str, Any]:
    header, validators = found.header, found.validators
    return {
        "genesis_hash": found.genesis_hash.hex(),
        "height": header.height,
        "block": header.id.hex(),
        "epoch": header.epoch,
        "view": header.view,
        "time_ms": header.time_ms,
        "parent_state_root": header.parent_state_root.hex(),
        "certified_height": found.certified.height,
        "certified_epoch": found.certified.epoch,
        "signers": list(found.signers),
        "validators": len(validators),
        "quorum": validators.quorum,
    }
