"""Scenarios that the tests of this folder share."""

from __future__ import annotations

from dataclasses import replace

from p2pledger.sim.chance import stream
from p2pledger.sim.market import Market
from p2pledger.sim.scenario import Fault, Scenario

NAMES = tuple(f"node-{index}" for index in range(4))


def calm(seed: int, engine: str = "simplex") -> Scenario:
    """Four honest nodes and no faults; five where one of four would be too great a share."""
    drawn = Scenario.draw(seed, engine=engine)
    validators = 4 if drawn.assumption.adversaries(4) else 5
    return replace(
        drawn,
        validators=validators,
        skew_ms=(0,) * validators,
        drift_ppm=(),
        latency_us=min(drawn.latency_us, 10_000),
        distribution="uniform",
        villains=(),
        faults=(),
        orders=12,
        idle_s=min(drawn.idle_s, 600),
    )


def split(seed: int, *, quorum: int | None) -> Scenario:
    """An equivocator between two halves that do not hear each other: those who believe its other story are cut off."""
    market = Market(seed, 4, stream(seed, "market"))
    seats = market.genesis.validator_set
    other_half = tuple(
        name for name in NAMES if name != "node-1" and (seats.signer_of(market.node_keys[name].public_key) or 0) % 2
    )
    return replace(
        calm(seed),
        villains=(("node-1", "equivocator"),),
        faults=(Fault("partition", 1_000, 2_500_000, other_half),),
        quorum=quorum,
        bound_s=30 if quorum is None else 3,
    )


def blackouts(seed: int, *, forgets_votes: bool) -> Scenario:
    """The power goes again and again, for everybody at once."""
    times_us = (200_000, 500_000, 900_000, 1_300_000, 1_700_000, 2_100_000, 2_300_000)
    faults = tuple(Fault("blackout", time_us, time_us + 60_000, NAMES) for time_us in times_us)
    return replace(calm(seed), faults=faults, orders=32, forgets_votes=forgets_votes)
