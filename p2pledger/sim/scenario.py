"""A scenario: everything about a world that is drawn before it begins. A function of the seed and of its length.

Times are microseconds from the start. All faults are over after two thirds of the length; from then on the network
is whole, and only the villains stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2pledger.primitives.validators import faulty_of
from p2pledger.sim.chance import stream
from p2pledger.sim.villains import VILLAINS

__all__ = ["FAULTS", "Fault", "Scenario"]

FAULTS: Final = ("crash", "partition", "reset", "storm", "slow", "pause", "slow disk", "blackout", "wipe")
_SIZES: Final = (4, 4, 4, 4, 4, 4, 5, 7, 3, 1)
_LATENCIES_US: Final = (200, 200, 2_000, 10_000, 40_000)


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to ``places`` from ``begin_us`` to ``end_us``; ``amount`` means something else for each kind.

    crash: the process dies, in the middle of a write if ``amount`` is 1, and is started again; wipe: the same, with an
    empty disk; blackout: all of them at once.
    partition: ``places`` are cut off, sessions reset if ``amount`` is 1. reset: one session. storm: ``amount`` frames
    in a million come late, a tenth as many reset their session. slow: ``amount`` bytes per millisecond.
    pause: the process stands still. slow disk: a sync takes ``amount`` microseconds.
    """

    kind: str
    begin_us: int
    end_us: int
    places: tuple[str, ...] = ()
    amount: int = 0


@dataclass(frozen=True, slots=True)
class Scenario:
    """The plan of one world. ``quorum`` is for tests only; ``villains`` are (name of a node, kind)."""

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
    quorum: int | None = None
    idle_s: int = 7_200
    bound_s: int = 60
    """How long after the last fault and the last order everything may take to come to an end."""
    forgets_votes: bool = False
    """A planted fault (``p2pledger.sim.disk``)."""

    @property
    def healed_us(self) -> int:
        return self.duration_us * 2 // 3

    @classmethod
    def draw(cls, seed: int, seconds: int = 4) -> Scenario:
        """The scenario of a seed."""
        chance = stream(seed, "scenario")
        duration_us = seconds * 1_000_000
        validators = chance.choice(_SIZES)
        names = [f"node-{index}" for index in range(validators)]
        faulty = faulty_of(validators)
        bad = chance.sample(names, chance.randrange(faulty + 1) if chance.randrange(4) else faulty)
        villains = tuple((name, chance.choice(VILLAINS)) for name in sorted(bad))
        spare = faulty - len(bad)
        honest = [name for name in names if name not in bad]
        faults: list[Fault] = []
        healed_us = duration_us * 2 // 3
        for _ in range(chance.randrange(5) if chance.randrange(5) else 0):
            kind = chance.choice(FAULTS)
            begin_us = chance.randrange(duration_us // 20, healed_us * 9 // 10)
            end_us = chance.randrange(begin_us + 1, healed_us)
            places: tuple[str, ...] = (chance.choice(honest),)
            amount = 0
            match kind:
                case "wipe":
                    # Whoever lost its votes may not vote again: one faulty validator more.
                    if not spare:
                        continue
                    spare -= 1
                case "partition":
                    places = tuple(sorted(chance.sample(names, 1 + chance.randrange(max(1, validators // 2)))))
                    amount = chance.randrange(2)
                case "reset":
                    if validators < 2:
                        continue
                    places = tuple(chance.sample(names, 2))
                case "blackout":
                    places = tuple(names)
                    end_us = min(healed_us, begin_us + chance.randrange(400_000))
                case "crash":
                    amount = chance.randrange(2)
                case "storm":
                    amount = chance.choice((5_000, 20_000, 100_000))
                case "slow":
                    amount = chance.choice((10, 50, 250))
                case "slow disk":
                    amount = chance.choice((10_000, 50_000, 200_000))
                case _:
                    pass
            faults.append(Fault(kind, begin_us, end_us, places, amount))
        latency_us = chance.choice(_LATENCIES_US)
        return cls(
            seed=seed,
            duration_us=duration_us,
            validators=validators,
            latency_us=latency_us,
            jitter_us=chance.choice((0, latency_us // 4, latency_us)),
            skew_ms=tuple(chance.choice((0, 0, 0, 150, 700)) for _ in names),
            sync_us=chance.choice((300, 800, 800, 4_000, 20_000)),
            villains=villains,
            faults=tuple(sorted(faults, key=lambda fault: (fault.begin_us, fault.kind))),
            orders=seconds * chance.choice((2, 4, 8)),
            clients=1 + chance.randrange(3),
        )
