"""Makes the file that proves a holding (``ledger/holding_proof.py``) out of the answers of one node.

Nothing is believed: the file is judged as its receiver will judge it before it is handed out.
"""

from __future__ import annotations

from typing import Final

import trio

from p2pledger.api.client import Client, RequestFailed
from p2pledger.ledger.finality import FinalityProof, Turn
from p2pledger.ledger.holding_proof import HoldingProof, check_holding, proved_owner, rows_to_prove
from p2pledger.primitives.blocks import Block
from p2pledger.primitives.errors import InvalidInput, P2PLedgerError
from p2pledger.primitives.genesis import Genesis

__all__ = ["fetch_holding_proof"]

_ATTEMPTS: Final = 100
_PAUSE_S: Final = 0.05


async def fetch_holding_proof(
    client: Client,
    genesis: Genesis,
    account: bytes,
    asset: bytes,
    turns: tuple[Turn, ...] = (),
    *,
    least_height: int = 0,
) -> bytes:
    """The file's bytes, about the newest certified state, not below ``least_height``.

    A state is certified by the block after it, some milliseconds later: for so long this asks again.

    ``turns``: how the validators changed since the genesis, as a finality certificate of the same epoch or a later one
    has them; none are needed in the first two epochs. InvalidInput ``wrong_engine`` or ``no_turns``, and PeerFault
    ``unknown_holding`` where account or asset do not exist; RequestFailed ``not_ready`` before the first block.
    """
    if genesis.engine != "simplex":
        raise InvalidInput(f"under {genesis.engine} nobody signs that a block is final", code="wrong_engine")
    owner = account
    for attempt in range(_ATTEMPTS):
        try:
            answer = await client.proofs(rows_to_prove(account, owner, asset))
        except RequestFailed as error:
            if error.code != "not_ready" or attempt == _ATTEMPTS - 1:
                raise
            await trio.sleep(_PAUSE_S)
            continue
        if answer.height < least_height:
            await trio.sleep(_PAUSE_S)
            continue
        header = Block.decode(answer.block).header
        if (
            named := proved_owner(header.parent_state_root, account, answer.proofs)
        ) != owner:  # found out now, or it changed hands in between
            owner = named
            continue
        needed = max(0, header.epoch - 1)
        if len(turns) < needed:
            raise InvalidInput(
                f"the validators of epoch {header.epoch} have to be shown",
                why="a node keeps only its newest states",
                hint="Name a certificate of this epoch: p2pledger certificate writes one from a node's store",
                code="no_turns",
            )
        finality = FinalityProof(genesis.encode(), turns[:needed], (header.encode(),), answer.finalisation)
        data = HoldingProof(finality.encode(), account, asset, answer.proofs).encode()
        check_holding(data, genesis.hash)
        return data
    raise P2PLedgerError(f"no state from height {least_height} on was certified in time", code="not_ready")
