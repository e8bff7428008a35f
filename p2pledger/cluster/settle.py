"""Sends transactions and waits until all are final: for a few that matter, not for load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from p2pledger.api.client import Client, Outcome
from p2pledger.primitives.errors import InvalidInput
from p2pledger.primitives.reasons import WHOLE_TRANSACTION, Reason
from p2pledger.primitives.transactions import SignedTransaction

__all__ = ["settle"]

_AT_ONCE: Final = 64
_MOVED_ON: Final = (Reason.OK, Reason.ALREADY_PENDING, Reason.DUPLICATE)
"""Answers after which the node will tell what became of a transaction."""


async def settle(client: Client, transactions: Sequence[bytes], *, timeout_s: float = 60.0) -> list[Outcome]:
    """The outcome of each, in their order. Busy nodes are asked again; what a node refuses has height 0.

    InvalidInput ``timeout`` if not all are final in time.
    """
    ids = [SignedTransaction.decode(data, limit_bytes=len(data)).id for data in transactions]
    refused: dict[int, Outcome] = {}
    with trio.move_on_after(timeout_s):
        waiting = list(range(len(transactions)))
        while waiting:
            part, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
            submission = await client.submit([transactions[number] for number in part])
            again = []
            for number, code in zip(part, submission.codes, strict=True):
                if code in (Reason.BUSY, Reason.NOT_READY):
                    again.append(number)
                elif code not in _MOVED_ON:
                    refused[number] = Outcome(ids[number], 0, 0, code, WHOLE_TRANSACTION)
            if again:
                waiting = again + waiting
                await trio.sleep(max(submission.retry_after_ms, 20) / 1000)
        wanted = [identifier for number, identifier in enumerate(ids) if number not in refused]
        found = await client.wait_settled(wanted, timeout_s=timeout_s)
        return [refused.get(number) or found[identifier] for number, identifier in enumerate(ids)]
    raise InvalidInput(
        f"not all of {len(ids)} transactions were final within {timeout_s:g} s",
        hint="They may still become final: look before sending them again",
        code="timeout",
    )
