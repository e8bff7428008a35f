"""Proof of work: whoever finds a header with a small hash may write the block, and how small it must be follows the
rate.

S. Nakamoto, "Bitcoin: A Peer-to-Peer Electronic Cash System", 2008. A header wins if its double SHA-256, read as a
256-bit number, is at most the *target*; a difficulty D means that one hash in D does:

    target = 2^256 div D - 1          (D = 1: every hash wins)

The difficulty is adjusted with every block (``lwma.py``) so that blocks come every ``slot_ms``. It depends on the
times in the headers alone, which every voter has compared with its own clock when they were new.

ENGINE row 1 = ``[1, [[time_ms, difficulty], ...]]``: the newest blocks, oldest first, at most ``difficulty_window +
1``.
"""

from __future__ import annotations

from typing import Final

from p2pledger import core
from p2pledger.ledger.books import Readable, read_row
from p2pledger.ledger.chainspec import Chainspec
from p2pledger.ledger.elections.lwma import next_difficulty
from p2pledger.ledger.tables import Table, engine_key
from p2pledger.primitives.blocks import Header
from p2pledger.primitives.codec import U64_MAX, encode
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.parameters import Parameters

__all__ = ["difficulty_of_next", "found", "next_target", "open_block", "target_of"]

_WINDOW: Final = engine_key(1)


def target_of(difficulty: int) -> int:
    """The greatest hash that wins: 256 bits."""
    return (1 << 256) // difficulty - 1


def difficulty_of_next(state: Readable, parameters: Parameters) -> int:
    """How many hashes the block above this state takes on average: 1 .. 2^64 - 1."""
    difficulty = next_difficulty(_window(state), parameters.slot_ms, parameters.difficulty_window)
    return min(difficulty, U64_MAX)


def next_target(state: Readable, parameters: Parameters) -> int:
    """The greatest hash, as a 256-bit number, that wins the block above this state."""
    return target_of(difficulty_of_next(state, parameters))


def found(branch: core.Branch, genesis: Genesis) -> None:
    branch.put(Table.ENGINE, _WINDOW, encode((1, ((genesis.time_ms, genesis.parameters.initial_difficulty),))))


def open_block(branch: core.Branch, header: Header, spec: Chainspec) -> None:
    block = (header.time_ms, difficulty_of_next(branch, spec.parameters))
    window = (*_window(branch), block)[-spec.parameters.difficulty_window - 1 :]
    branch.put(Table.ENGINE, _WINDOW, encode((1, window)))


def _window(state: Readable) -> tuple[tuple[int, int], ...]:
    (window,) = read_row(state, Table.ENGINE, _WINDOW, 1)
    return tuple((time_ms, difficulty) for time_ms, difficulty in window)
