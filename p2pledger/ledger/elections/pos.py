"""Proof of stake by coin-age: stake that has waited long may write a block, and waits anew.

S. King, S. Nadal, "PPCoin: Peer-to-Peer Crypto-Currency with Proof-of-Stake", 2012. Each stake is a row with an amount
and the height since which it waits. Its *coin-age* at height h is the amount times the heights that it has waited, of
which at most ``coin_age_cap`` count, so that hoarding ends to pay. In every slot each stake has one draw:

    kernel = H("p2pl.kn1" || modifier || stake id || slot)        wins if kernel <= base_target * coin-age, as integers

One draw a slot, and nothing in it that the producer chooses: the modifier was fixed ``modifier_depth`` blocks earlier,

    modifier_h = H("p2pl.md1" || modifier_(h-1) || kernel_h)       the block at height h draws with modifier_(h - depth)

(modifier_0 where h - depth is negative). Whoever wins may only build or not build, which moves later modifiers by at
most one bit for each block that he forgoes. The block that is built consumes the coin-age: ``since_height`` becomes its
height. A transaction that touches a security, a lock or a pledge never touches a stake, so trading costs no age.

Amounts have 64 bits and the cap 63, so coin-age has at most 127; the product with the target is cut at 2^256 - 1.

The base target is adjusted with every block (``lwma.py``) so that on average one of ``SLOTS_PER_BLOCK`` slots is won:
were it every slot, two stakes would often win the same one. base_target = 2^256 div D - 1 for the difficulty D, which
starts at ``SLOTS_PER_BLOCK`` times all stake of the genesis: at height 1 each stake has waited one height.

ENGINE row 1 = ``[1, [[slot, difficulty (32)], ...]]``, as under pow; difficulties are big-endian numbers, at most
2^256 - 1. ENGINE row 2 = ``[1, [modifier (32), ...]]``: the last ``modifier_depth``, oldest first.
"""

from __future__ import annotations

from typing import Final

from p2pledger import core
from p2pledger.ledger.books import Readable, read_row
from p2pledger.ledger.chainspec import Chainspec
from p2pledger.ledger.elections.lwma import next_difficulty
from p2pledger.ledger.tables import Stake, Staked, Table, engine_key
from p2pledger.primitives.blocks import Header
from p2pledger.primitives.codec import encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.hashing import KERNEL_TAG, MODIFIER_TAG, tagged_hash
from p2pledger.primitives.parameters import Parameters

__all__ = [
    "SLOTS_PER_BLOCK",
    "base_target",
    "coin_age",
    "found",
    "kernel",
    "modifier",
    "open_block",
    "stake_of",
    "stakes_of",
    "wins",
]

SLOTS_PER_BLOCK: Final = 4
_WINDOW: Final = engine_key(1)
_MODIFIERS: Final = engine_key(2)
_LARGEST: Final = (1 << 256) - 1
_PAGE: Final = 1_000


def kernel(modifier: bytes, stake_id: bytes, slot: int) -> bytes:
    """The draw of a stake in a slot: 32 bytes."""
    return tagged_hash(KERNEL_TAG, modifier + stake_id + slot.to_bytes(8, "big"))


def coin_age(stake: Stake, height: int, cap: int) -> int:
    """What the stake's wait is worth in the block at ``height``: at most 127 bits."""
    return stake.amount * min(max(0, height - stake.since_height), cap)


def wins(kernel: bytes, base_target: int, coin_age: int) -> bool:
    """Whether a draw wins its slot; without coin-age none does."""
    return coin_age > 0 and int.from_bytes(kernel, "big") <= min(base_target * coin_age, _LARGEST)


def base_target(state: Readable, parameters: Parameters) -> int:
    """The greatest kernel that wins with a coin-age of 1 in the block above this state."""
    return (1 << 256) // _difficulty_of_next(state, parameters) - 1


def modifier(state: Readable) -> bytes:
    """The modifier with which the block above this state draws."""
    return _modifiers(state)[0]


def stake_of(state: Readable, stake_id: bytes) -> Stake | None:
    row = state.get(Table.STAKES, stake_id)
    return None if row is None else Stake.decode(row)


def stakes_of(state: Readable, key: bytes) -> tuple[tuple[bytes, Stake], ...]:
    """(identifier, stake) of all stakes behind a key, by identifier. It reads table STAKES until all are found."""
    row = state.get(Table.STAKED, key)
    wanted = 0 if row is None else Staked.decode(row).rows
    found: list[tuple[bytes, Stake]] = []
    after: bytes | None = None
    while len(found) < wanted:
        page = state.scan(Table.STAKES, after=after, limit=_PAGE)
        assert page, "the state is broken: STAKED counts stakes that are not there"
        found += [(identifier, stake) for identifier, data in page if (stake := Stake.decode(data)).key == key]
        after = page[-1][0]
    return tuple(found)


def found(branch: core.Branch, genesis: Genesis) -> None:
    difficulty = SLOTS_PER_BLOCK * sum(stake.amount for stake in genesis.stakes)
    branch.put(Table.ENGINE, _WINDOW, encode((1, ((0, difficulty.to_bytes(32, "big")),))))
    branch.put(Table.ENGINE, _MODIFIERS, encode((1, (tagged_hash(MODIFIER_TAG, genesis.hash),))))


def open_block(branch: core.Branch, header: Header, spec: Chainspec) -> None:
    """PeerFault ``unknown_stake`` or ``wrong_proposer`` unless the proof names a stake behind the proposer's key."""
    parameters, stake_id = spec.parameters, header.proof
    row = branch.get(Table.STAKES, stake_id) if len(stake_id) == 32 else None
    if row is None:
        raise PeerFault(f"block {header.height} is produced with a stake that does not exist", code="unknown_stake")
    stake = Stake.decode(row)
    if stake.key != header.proposer:
        raise PeerFault(f"block {header.height} is produced with a stranger's stake", code="wrong_proposer")
    difficulty = _difficulty_of_next(branch, parameters).to_bytes(32, "big")
    window = [(slot, old.to_bytes(32, "big")) for slot, old in _window(branch)] + [(header.view, difficulty)]
    branch.put(Table.ENGINE, _WINDOW, encode((1, window[-parameters.difficulty_window - 1 :])))
    modifiers = _modifiers(branch)
    newest = tagged_hash(MODIFIER_TAG, modifiers[-1] + kernel(modifiers[0], stake_id, header.view))
    branch.put(Table.ENGINE, _MODIFIERS, encode((1, (*modifiers, newest)[-parameters.modifier_depth :])))
    since_height = stake.since_height if spec.faults.keep_coin_age else header.height
    again = Stake(stake.account, stake.amount, since_height, stake.key)
    branch.put(Table.STAKES, stake_id, again.encode())


def _difficulty_of_next(state: Readable, parameters: Parameters) -> int:
    return min(_LARGEST, next_difficulty(_window(state), SLOTS_PER_BLOCK, parameters.difficulty_window))


def _window(state: Readable) -> tuple[tuple[int, int], ...]:
    (window,) = read_row(state, Table.ENGINE, _WINDOW, 1)
    return tuple((slot, int.from_bytes(difficulty, "big")) for slot, difficulty in window)


def _modifiers(state: Readable) -> tuple[bytes, ...]:
    (modifiers,) = read_row(state, Table.ENGINE, _MODIFIERS, 1)
    return tuple(modifiers)
