"""A scenario: everything about a world that is drawn before it begins. A function of seed, engine and length.

Times are microseconds from the start. All faults are over after two thirds of the length; from then on the network
is whole, and only the villains stay.

Scenarios stay inside the assumptions of their engine (``p2pledger.sim.assumptions``): few enough villains, partitions
short enough, clocks and delays as promised. Three ways lead outside, each by name: ``beyond``, with more villains than
the engine survives; ``plant``, with one fault in the product (``p2pledger.sim.plants``); or changing a drawn scenario.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final

from p2pledger.primitives.faults import NO_FAULTS, Faults
from p2pledger.sim.assumptions import ASSUMPTIONS, Assumption
from p2pledger.sim.chance import stream
from p2pledger.sim.links import DISTRIBUTIONS
from p2pledger.sim.plants import PLANTS, Plant
from p2pledger.sim.villains import TWINS, villains_of

__all__ = ["FAULTS", "Fault", "Scenario", "twin_of"]

FAULTS: Final = (
    "crash",
    "partition",
    "one-way",
    "flapping",
    "reset",
    "storm",
    "surge",
    "duplicates",
    "slow",
    "pause",
    "slow disk",
    "blackout",
    "wipe",
    "late",
    "leave",
)
_SIZES: Final = (4, 4, 4, 4, 4, 4, 5, 7, 3, 1)
_LATENCIES_US: Final = (200, 200, 2_000, 10_000, 40_000)
_SKEWS_MS: Final = (0, 0, 0, 150, 700)
_DRIFTS_PPM: Final = (0, 0, 20, -20, 200, -200)
_RATES: Final = (100_000, 100_000, 10_000, 1_000)
_SECONDS: Final = {"simplex": 4}
_SECONDS_OF_CHAINS: Final = 32
_INTERVAL_MS: Final = 1_000
_DEPTH: Final = 16
_SHALLOW: Final = 5
"""A finality depth that a partition can exceed."""
_TURNS_US: Final = (0, 0, 1_000, 5_000)
"""A server steps for 5 ms at most before it looks at its sockets again."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to ``places`` from ``begin_us`` to ``end_us``; ``amount`` means something else for each kind.

    crash: the process dies, in the middle of a write if ``amount`` is 1, and is started again; wipe: the same, with an
    empty disk; blackout: all of them at once. late: it is started for the first time at the end. leave: it stops at
    the beginning and never comes back.
    partition: ``places`` are cut off, sessions reset if ``amount`` is 1. one-way: nothing leaves them (0) or nothing
    reaches them (1). flapping: they are cut off and back again every ``amount`` microseconds.
    reset: one session. storm: ``amount`` frames in a million come late, a tenth as many reset their session. surge:
    all delays are ``amount`` times as long. duplicates: ``amount`` frames in a million come twice. slow: ``amount``
    bytes per millisecond.
    pause: the process stands still. slow disk: a sync takes ``amount`` microseconds.
    """

    kind: str
    begin_us: int
    end_us: int
    places: tuple[str, ...] = ()
    amount: int = 0


@dataclass(frozen=True, slots=True)
class Scenario:
    """The plan of one world. ``villains`` are (name of a node, kind)."""

    seed: int
    duration_us: int
    validators: int
    latency_us: int
    jitter_us: int
    skew_ms: tuple[int, ...]
    sync_us: int
    villains: tuple[tuple[str, str], ...]
    faults: tuple[Fault, ...]
    orders: int
    clients: int
    offers: int = 0
    """Standing offers beside the orders: they expire, which is due work."""
    engine: str = "simplex"
    profile: str = "consortium"
    distribution: str = "uniform"
    """Of the delays of all links, or ``mixed``: each link has its own."""
    bytes_per_ms: tuple[int, ...] = (100_000,)
    """The bandwidth of each link is one of these."""
    drift_ppm: tuple[int, ...] = ()
    """How much faster than the world's each clock runs; none: not at all."""
    interval_ms: int = _INTERVAL_MS
    """How often a block of a chain engine should come."""
    turn_us: int = 0
    """How long the nodes gather events for one turn, at most (``p2pledger.sim.world``); 0: each is a turn."""
    depth: int = _DEPTH
    """``finality_depth`` of the genesis."""
    idle_s: int = 7_200
    """How long the network is watched while it has nothing to do; 0 for engines that never rest."""
    bound_s: int = 60
    """How long after the last fault and the last order everything may take to come to an end."""
    beyond: bool = False
    """The adversary is greater than the assumption allows: two ledgers are possible, silence about them is not."""
    quorum: int | None = None
    """A planted fault: what the engine takes for a quorum."""
    planted: Faults = NO_FAULTS
    sends_early: bool = False
    """A planted fault (``p2pledger.sim.world``)."""
    forgets_votes: bool = False
    """A planted fault (``p2pledger.sim.disk``)."""

    @property
    def healed_us(self) -> int:
        return self.duration_us * 2 // 3

    @property
    def assumption(self) -> Assumption:
        return ASSUMPTIONS[self.engine]

    @property
    def names(self) -> tuple[str, ...]:
        """Of all nodes, with the twins of those that have one."""
        twins = tuple(twin_of(name) for name, kind in self.villains if kind == TWINS)
        return (*(f"node-{index}" for index in range(self.validators)), *twins)

    @classmethod
    def draw(
        cls, seed: int, seconds: int | None = None, *, engine: str = "simplex", beyond: bool = False, plant: str = ""
    ) -> Scenario:
        """The scenario of a seed. ``seconds`` None: as long as is usual for the engine."""
        if seconds is None:
            seconds = _SECONDS.get(engine, _SECONDS_OF_CHAINS)
        chance = stream(seed, "scenario") if engine == "simplex" else stream(seed, "scenario", engine)
        assumption = ASSUMPTIONS[engine]
        planted = PLANTS[plant] if plant else None
        needs_villain = beyond or (planted is not None and planted.villain)
        duration_us = seconds * 1_000_000
        validators = 4 if needs_villain else chance.choice(_SIZES)
        names = [f"node-{index}" for index in range(validators)]
        villains, spare = _villains(names, assumption, planted, chance, beyond=beyond)
        latency_us = chance.choice(_LATENCIES_US if assumption.delay is None else _LATENCIES_US[:4])
        heavy = assumption.delay is None
        scenario = cls(
            seed=seed,
            duration_us=duration_us,
            validators=validators,
            latency_us=latency_us,
            jitter_us=chance.choice((0, latency_us // 4, latency_us)),
            skew_ms=tuple(_skew(assumption, chance) for _ in names),
            sync_us=chance.choice((300, 800, 800, 4_000, 20_000)),
            villains=villains,
            faults=(),
            orders=(4 if engine != "simplex" else seconds) * chance.choice((2, 4, 8)),
            clients=2 if beyond or planted is not None else 1 + chance.randrange(3),
            engine=engine,
            distribution=chance.choice((*DISTRIBUTIONS, "mixed") if heavy else DISTRIBUTIONS[:2]),
            bytes_per_ms=_RATES[: chance.choice((1, 3, 4))],
            drift_ppm=tuple(chance.choice(_DRIFTS_PPM) for _ in names),
            idle_s=7_200 if assumption.rests and not beyond else 0,
            bound_s=_bound_s(engine, beyond=beyond, is_planted=planted is not None),
            beyond=beyond,
        )
        faults = _faults(scenario, spare, chance)
        if beyond and engine == "pos":
            # Whoever has started since the fork does not know what its blocks weighed: some must go through.
            faults = [fault for fault in faults if fault.kind not in ("blackout", "crash")]
        if planted is not None or beyond:
            faults = [fault for fault in faults if fault.kind not in ("wipe", "leave", "late")]
            faults += _occasions(scenario, planted.occasion if planted is not None else "split", chance)
        scenario = replace(scenario, faults=tuple(sorted(faults, key=lambda fault: (fault.begin_us, fault.kind))))
        if beyond and engine in ("pow", "pos"):
            scenario = replace(scenario, depth=_SHALLOW)
        if planted is None:
            is_public = not beyond and stream(seed, "profile", engine).randrange(4) == 0
            has_offers = not beyond and stream(seed, "offers", engine).randrange(3) == 0
            scenario = replace(scenario, offers=12) if has_offers else scenario
            if not beyond:
                scenario = replace(scenario, turn_us=stream(seed, "turns", engine).choice(_TURNS_US))
            return replace(scenario, profile="public") if is_public else scenario
        return replace(
            scenario,
            quorum=2 * validators // 3 if planted.smaller_quorum else None,
            planted=planted.faults,
            sends_early=planted.sends_early,
        )


def _bound_s(engine: str, *, beyond: bool, is_planted: bool) -> int:
    """Worlds that are meant to break are not waited for."""
    if beyond:
        return 15
    return 60 if engine == "simplex" or is_planted else 240


def twin_of(name: str) -> str:
    """The second machine with the key of a node."""
    return f"{name}-twin"


def _skew(assumption: Assumption, chance: random.Random) -> int:
    widest_ms = assumption.widest_clocks_ms(_INTERVAL_MS)
    return chance.choice([skew_ms for skew_ms in _SKEWS_MS if widest_ms is None or skew_ms < widest_ms])


def _villains(
    names: list[str], assumption: Assumption, plant: Plant | None, chance: random.Random, *, beyond: bool
) -> tuple[tuple[tuple[str, str], ...], int]:
    """Who is one, and of which kind; and how many validators more could be faulty."""
    faulty = assumption.adversaries(len(names))
    if beyond and assumption.partition_depths is not None:
        # Here it is the partition that is too long.
        return (), 0
    if beyond and assumption.engine != "simplex":
        return tuple((name, TWINS) for name in sorted(chance.sample(names, faulty + 1))), 0
    if beyond:
        bad = chance.sample(names, faulty + 1)
        return tuple((name, chance.choice(("equivocator", TWINS))) for name in sorted(bad)), 0
    bad = chance.sample(names, chance.randrange(faulty + 1) if chance.randrange(4) else faulty)
    if plant is not None and plant.villain:
        bad = bad or chance.sample(names, 1)
        return tuple((name, plant.villain) for name in sorted(bad)), 0
    kinds = villains_of(assumption.engine)
    return tuple((name, chance.choice(kinds)) for name in sorted(bad)), faulty - len(bad)


def _faults(scenario: Scenario, spare: int, chance: random.Random) -> list[Fault]:
    """Up to five faults, anything at any time, as far as the assumptions go."""
    assumption, duration_us, healed_us = scenario.assumption, scenario.duration_us, scenario.healed_us
    longest_ms = assumption.longest_partition_ms(scenario.interval_ms, scenario.depth)
    names = list(scenario.names)
    everybody = names + [f"client-{index}" for index in range(scenario.clients)]
    nodes = names[: scenario.validators]
    bad = {name for name, _ in scenario.villains}
    honest = [name for name in nodes if name not in bad]
    twins = [name for name, kind in scenario.villains if kind == TWINS]
    faults: list[Fault] = []
    count = chance.randrange(6) if chance.randrange(5) else 0
    for index in range(count + len(twins)):
        kind = chance.choice(FAULTS) if index < count else "partition"
        begin_us = chance.randrange(duration_us // 20, healed_us * 9 // 10)
        end_us = chance.randrange(begin_us + 1, healed_us)
        places: tuple[str, ...] = (chance.choice(honest),)
        amount = 0
        if kind in ("partition", "one-way", "flapping"):
            side = set(chance.sample(everybody, 1 + chance.randrange(max(1, len(everybody) // 2))))
            if index >= count:
                # Twins are at their worst when each has its own audience.
                side = (side | {twins[index - count]}) - {twin_of(twins[index - count])}
            places = tuple(sorted(side))
            if longest_ms is not None:
                end_us = min(end_us, begin_us + 1_000 * longest_ms)
        match kind:
            case "wipe" | "leave":
                # Whoever lost its votes may not vote again, whoever left does not: one faulty validator more.
                if not spare:
                    continue
                spare -= 1
            case "partition" | "one-way":
                amount = chance.randrange(2)
            case "flapping":
                amount = chance.choice((50_000, 200_000, 500_000))
            case "reset":
                if len(names) < 2:
                    continue
                places = tuple(chance.sample(names, 2))
            case "blackout":
                places = tuple(names)
                end_us = min(healed_us, begin_us + chance.randrange(400_000))
            case "crash":
                amount = chance.randrange(2)
            case "storm":
                amount = chance.choice((5_000, 20_000, 100_000))
            case "surge":
                amount = chance.choice((3, 10))
            case "duplicates":
                amount = chance.choice((10_000, 100_000, 300_000))
            case "slow":
                amount = chance.choice((10, 50, 250))
            case "slow disk":
                amount = chance.choice((10_000, 50_000, 200_000))
            case "late":
                begin_us = 0
            case _:
                pass
        faults.append(Fault(kind, begin_us, end_us, places, amount))
    return faults


def _occasions(scenario: Scenario, occasion: str, chance: random.Random) -> list[Fault]:
    """What makes sure that a planted fault, or an adversary that is too great, gets its chance."""
    healed_us = scenario.healed_us
    if occasion == "split":
        bad = {name for name, _ in scenario.villains}
        honest = [name for name in scenario.names if name not in bad and not name.endswith("-twin")]
        side = set(chance.sample(honest, max(1, len(honest) // 2)))
        # On both sides there is work to do.
        side |= {f"client-{index}" for index in range(1, scenario.clients, 2)}
        side |= {twin_of(name) for name, kind in scenario.villains if kind == TWINS}
        longest_ms = scenario.assumption.longest_partition_ms(scenario.interval_ms, scenario.depth)
        if scenario.beyond:
            longest_ms = None
        begin_us = scenario.duration_us // 5
        end_us = healed_us if longest_ms is None else min(healed_us, begin_us + 1_000 * longest_ms)
        return [Fault("partition", begin_us, end_us, tuple(sorted(side)), 1)]
    if occasion == "blackout":
        times_us = (chance.randrange(scenario.duration_us // 20, healed_us * 9 // 10) for _ in range(8))
        return [Fault("blackout", time_us, time_us + 60_000, scenario.names) for time_us in times_us]
    return []
