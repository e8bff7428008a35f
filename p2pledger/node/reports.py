"""Evidence on its way to the ledger: a transaction that reports it, paid by the node that has seen it."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from p2pledger.node.mempool import Candidate
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.names import account_of_key
from p2pledger.primitives.transactions import Report, Transaction

__all__ = ["Reports"]

_REMEMBERED: Final = 1_024


class Reports:
    """What one node has reported; nothing is reported twice by it."""

    def __init__(self, genesis: Genesis, keypair: Keypair) -> None:
        self._genesis = genesis
        self._keypair = keypair
        self._reported: set[bytes] = set()

    def report(self, first: bytes, second: bytes, height: int) -> Candidate | None:
        """The transaction for two statements that contradict each other; None if there was one before.

        It needs no chance: two nodes, or one that starts again, may well report the same.
        """
        name = sha256(first + second).digest()
        if name in self._reported or len(self._reported) >= _REMEMBERED:
            return None
        self._reported.add(name)
        parameters = self._genesis.parameters
        body = Transaction(
            self._genesis.network_id,
            height + max(1, parameters.replay_window // 2),
            name[:16],
            account_of_key(self._keypair.public_key),
            (Report(first, second),),
            max_fee=parameters.least_fee,
        )
        return Candidate(body.sign([self._keypair]), body.id, body.valid_until, 1)
