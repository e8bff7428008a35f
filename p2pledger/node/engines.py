"""The engine that a network's genesis names, made from what the disk remembers."""

from __future__ import annotations

from typing import Final

from p2pledger.consensus import simplex
from p2pledger.consensus.chain import ChainEngine, Recovered
from p2pledger.consensus.dpos import DposRule
from p2pledger.consensus.engine import BlockRef
from p2pledger.consensus.poa import PoaRule
from p2pledger.consensus.pos import PosRule
from p2pledger.consensus.pow import PowRule
from p2pledger.consensus.promise import Promise
from p2pledger.consensus.rule import Clock, Rule
from p2pledger.consensus.standing import Ask
from p2pledger.node.archive import Archive, Recovery
from p2pledger.node.epochs import Epochs
from p2pledger.primitives.blocks import Block, Header
from p2pledger.primitives.faults import Faults
from p2pledger.primitives.genesis import Genesis
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.validators import Validators
from p2pledger.primitives.votes import Certificate, Vote

__all__ = ["make_chain_engine", "make_simplex", "rule_of"]

_PAST_BLOCKS: Final = 256
"""Final blocks that a chain engine is reminded of at a start."""


def make_simplex(
    genesis: Genesis,
    keypair: Keypair,
    recovery: Recovery,
    *,
    final: Header,
    validators: Validators,
    quorum: int | None,
    faults: Faults,
) -> simplex.Simplex:
    """The engine of the epoch above the final block, whose ``validators`` are given."""
    return simplex.Simplex(
        network_id=genesis.network_id,
        validators=validators,
        keypair=keypair,
        recovered=simplex.Recovered(
            final=BlockRef.of(final),
            votes=tuple(Vote.decode(data) for data in recovery.votes),
            certificates=tuple(Certificate.decode(data) for data in recovery.certificates),
            blocks=tuple(Block.decode(data) for data in recovery.blocks),
        ),
        view_timeout_ms=genesis.parameters.view_timeout_ms,
        view_timeout_cap_ms=genesis.parameters.view_timeout_cap_ms,
        last_height=Epochs(genesis).last_height(validators.epoch),
        may_vote=recovery.may_vote,
        quorum=quorum,
        faults=faults,
    )


def make_chain_engine(
    genesis: Genesis, keypair: Keypair, recovery: Recovery, archive: Archive, *, final: Header, ask: Ask
) -> ChainEngine:
    """``ask`` gives the standing after an executed block."""
    parameters = genesis.parameters
    # Turns and stakes are the engine's to judge; in a network that is not public work is for the validators only.
    may_search = (
        genesis.engine != "pow"
        or genesis.profile == "public"
        or genesis.validator_set.signer_of(keypair.public_key) is not None
    )
    past = []
    for height in range(max(1, final.height - _PAST_BLOCKS), final.height):
        data = archive.final_block(height)
        if data is not None:
            past.append(BlockRef.of(Block.decode(data).header))
    return ChainEngine(
        rule=rule_of(genesis),
        network_id=genesis.network_id,
        genesis_time_ms=genesis.time_ms,
        slot_ms=parameters.slot_ms,
        keypair=keypair if may_search else None,
        recovered=Recovered(
            final=BlockRef.of(final),
            promises=tuple(Promise.decode(data) for data in recovery.votes),
            blocks=tuple(Block.decode(data) for data in recovery.blocks),
            past=tuple(past),
        ),
        ask=ask,
        finality_depth=parameters.finality_depth,
        max_drift_ms=parameters.max_drift_ms,
        may_produce=recovery.may_vote,
        validators_hash=genesis.validator_set.hash,
    )


def rule_of(genesis: Genesis) -> Rule:
    """How slots are won in this network of the chain family."""
    clock = Clock(genesis.time_ms, genesis.parameters.slot_ms)
    match genesis.engine:
        case "pow":
            return PowRule()
        case "pos":
            return PosRule(clock, genesis.parameters.modifier_depth)
        case "dpos":
            return DposRule(clock, genesis.network_id)
        case "poa":
            return PoaRule(clock, genesis.validator_set)
        case _:
            raise AssertionError(f"no engine of the chain family: {genesis.engine}")
