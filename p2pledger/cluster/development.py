"""What a network on one machine is made with: parameters, money and stakes for each engine and profile.

Everything is short here, so that a person can watch it: half a second between blocks where an engine waits between
blocks, and finality some blocks deep. A network over real distances would wait longer.

    engine     a block every       final
    simplex    some 30 ms          at once, by the certificate of a quorum
    poa, dpos  500 ms              when more than two thirds have built on it: after some two to four blocks
    pow        500 ms on average   12 blocks deep
    pos        400 ms on average   12 blocks deep; one slot of 100 ms in four is won

In a public network every operation costs 1, every account of the genesis has money to pay with, and a block earns its
producer a reward. Where stake decides, every validator stakes; under dpos the other members delegate to them in turn.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from p2pledger import core
from p2pledger.ledger.elections.pos import SLOTS_PER_BLOCK
from p2pledger.primitives.errors import InvalidInput
from p2pledger.primitives.genesis import ENGINES, PROFILES, Genesis, Money, Stake, default_engine
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.names import account_named, account_of_key
from p2pledger.primitives.parameters import Parameters

__all__ = [
    "STAKED",
    "block_ms",
    "chosen",
    "development_parameters",
    "measured_difficulty",
    "money_of",
    "needed_weight",
    "stakes_of",
]

STAKED: Final = ("pos", "dpos")
"""Engines under which stake decides who writes blocks."""
_BLOCK_MS: Final = 500
_POS_SLOT_MS: Final = 100
_BATCH_DELAY_MS: Final = 200
"""Batches stay open until they are final: with blocks so far apart, fewer and larger ones do."""
_FINALITY_DEPTH: Final = 12
_DIFFICULTY_WINDOW: Final = 30
_INITIAL_DIFFICULTY: Final = 2**21
"""For keys from a seed, where the genesis must not depend on the machine: some 0.2 s of one core."""
_MONEY: Final = 10**9
_VALIDATOR_STAKE: Final = 1_000_000
_POS_ROWS: Final = 4
"""Stakes of a validator under pos: one that has just won leaves three that age, so blocks come evenly."""
_MEMBER_STAKE: Final = 100_000
_LEAST_FEE: Final = 1
_BLOCK_REWARD: Final = 1_000
_MEASURED_HASHES: Final = 1 << 19


def chosen(profile: str, engine: str) -> tuple[str, str]:
    """Profile and engine where one or both are left open (empty). InvalidInput for a name that is not known."""
    profile = profile or "consortium"
    if profile not in PROFILES:
        raise InvalidInput(f"profile {profile!r} is not known", hint=f"One of {', '.join(PROFILES)}", code="usage")
    if engine and engine not in ENGINES:
        raise InvalidInput(f"engine {engine!r} is not known", hint=f"One of {', '.join(ENGINES)}", code="usage")
    return profile, engine or default_engine(profile)


def measured_difficulty(block_ms: int = _BLOCK_MS) -> int:
    """Hashes that all cores of this machine together do in the time of a block: where proof of work begins well."""
    began_s = time.perf_counter()
    core.pow_search(b"p2pledger", 0, _MEASURED_HASHES, 0)
    per_s = _MEASURED_HASHES / max(time.perf_counter() - began_s, 1e-6)
    return max(1, round(per_s * len(os.sched_getaffinity(0)) * block_ms / 1000))


def development_parameters(
    profile: str, engine: str, validators: int, *, difficulty: int = _INITIAL_DIFFICULTY
) -> Parameters:
    """``difficulty``: the hashes that the first blocks of proof of work take."""
    parameters = Parameters()
    if engine != "simplex":
        parameters = replace(
            parameters,
            slot_ms=_POS_SLOT_MS if engine == "pos" else _BLOCK_MS,
            batch_delay_ms=_BATCH_DELAY_MS,
            finality_depth=_FINALITY_DEPTH,
            delegates=validators,
            initial_difficulty=difficulty,
            difficulty_window=_DIFFICULTY_WINDOW,
        )
    if profile == "public":
        parameters = replace(parameters, least_fee=_LEAST_FEE, block_reward=_BLOCK_REWARD)
    return parameters


def block_ms(engine: str, parameters: Parameters) -> int:
    """The usual time between two blocks of an engine that waits between blocks."""
    return parameters.slot_ms * (SLOTS_PER_BLOCK if engine == "pos" else 1)


def money_of(profile: str, engine: str, members: Sequence[str], node_keys: Mapping[str, Keypair]) -> tuple[Money, ...]:
    """Free native money: for members where it is of any use, and for nodes where their reports cost a fee."""
    accounts = [account_named(member) for member in members] if profile == "public" or engine in STAKED else []
    if profile == "public":
        accounts += [account_of_key(keypair.public_key) for keypair in node_keys.values()]
    return tuple(Money(account, _MONEY) for account in accounts)


def stakes_of(engine: str, members: Sequence[str], node_keys: Mapping[str, Keypair]) -> tuple[Stake, ...]:
    """Every validator stakes with its business account; under dpos the other members delegate, each to one in turn."""
    if engine not in STAKED:
        return ()
    keys = [keypair.public_key for keypair in node_keys.values()]
    rows = _POS_ROWS if engine == "pos" else 1
    stakes = [
        Stake(account_named(name), _VALIDATOR_STAKE // rows, node_keys[name].public_key)
        for name in node_keys
        for _ in range(rows)
    ]
    if engine == "dpos":
        others = [member for member in members if member not in node_keys]
        stakes += [
            Stake(account_named(member), _MEMBER_STAKE, keys[number % len(keys)])
            for number, member in enumerate(others)
        ]
    return tuple(stakes)


def needed_weight(genesis: Genesis) -> int:
    """Of the validators' weight, how much must run so that trades become final.

    By work or stake alone one producer is enough, slower; elsewhere more than two thirds have to build or to vote.
    """
    return 1 if genesis.engine in ("pow", "pos") else genesis.validator_set.quorum
