"""The faults that are in force in a cluster because somebody asked for them. Names are those of nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from p2pledger.primitives.errors import InvalidInput

__all__ = ["Faults"]

_LONGEST_DELAY_MS = 60_000.0
_WIDEST_SKEW_MS = 86_400_000.0


@dataclass(slots=True)
class Faults:
    """What was asked for since the last ``heal``. Paused nodes are known by their processes."""

    groups: tuple[tuple[str, ...], ...] = ()
    """Parts of a cut network: nodes of different ones have no sessions with each other."""
    delays_ms: dict[frozenset[str], float] = field(default_factory=dict)
    """Two nodes -> how much longer it takes from each to the other."""
    bandwidths_mbit: dict[str, float] = field(default_factory=dict)
    """The uplink of a node; 0 without a bound."""
    skews_ms: dict[str, float] = field(default_factory=dict)

    def cut(self, groups: Sequence[Sequence[str]], nodes: Sequence[str]) -> None:
        """Cut the network. One group alone is cut off from all others. InvalidInput if a node stands in two."""
        named = [name for group in groups for name in group]
        for name in named:
            if named.count(name) > 1:
                raise InvalidInput(f"{name} cannot be in two parts of the network", code="usage")
        if len(groups) == 1:
            groups = (groups[0], [name for name in nodes if name not in named])
        self.groups = tuple(tuple(group) for group in groups if group)

    def delay(self, one: str, other: str, delay_ms: float) -> None:
        """So much longer in both directions; 0 ends it. InvalidInput."""
        if one == other:
            raise InvalidInput(f"there is no link between {one} and itself", code="usage")
        _within(delay_ms, 0.0, _LONGEST_DELAY_MS, "a delay", "ms")
        self.delays_ms[frozenset((one, other))] = delay_ms

    def bandwidth(self, name: str, bandwidth_mbit: float) -> None:
        """The uplink of a node in the place of what the manifest says. InvalidInput."""
        _within(bandwidth_mbit, 0.0, 1_000_000.0, "a bandwidth", "Mbit/s")
        self.bandwidths_mbit[name] = bandwidth_mbit

    def skew(self, name: str, skew_ms: float) -> None:
        """How far a clock is ahead of the machine's; behind it if negative. InvalidInput."""
        _within(skew_ms, -_WIDEST_SKEW_MS, _WIDEST_SKEW_MS, "a skew", "ms")
        self.skews_ms[name] = skew_ms

    def strangers_of(self, name: str) -> list[str]:
        """With whom a node has no sessions, because the network is cut."""
        own = next((group for group in self.groups if name in group), None)
        return [other for group in self.groups if group is not own for other in group] if own else []

    def delays_from(self, name: str) -> dict[str, float]:
        """Other node -> how much longer it is on the way there."""
        found = {}
        for pair, delay_ms in self.delays_ms.items():
            if name in pair:
                [other] = pair - {name}
                found[other] = delay_ms
        return found

    def sentences(self) -> Iterator[str]:
        """What is in force, for people."""
        if self.groups:
            yield f"partition {' | '.join(','.join(group) for group in self.groups)}"
        for pair, delay_ms in self.delays_ms.items():
            if delay_ms:
                yield f"delay {' '.join(sorted(pair))} {delay_ms:g} ms more"
        for name, bandwidth_mbit in self.bandwidths_mbit.items():
            yield (
                f"bandwidth {name} {bandwidth_mbit:g} Mbit/s" if bandwidth_mbit else f"bandwidth {name} without a bound"
            )
        for name, skew_ms in self.skews_ms.items():
            if skew_ms:
                yield f"skew {name} {skew_ms:+g} ms"


def _within(value: float, least: float, most: float, what: str, unit: str) -> None:
    # A comparison with a number that is none is false: so NaN is refused as well.
    if not least <= value <= most:
        raise InvalidInput(f"{what} is {least:g} to {most:g} {unit}, not {value:g}", code="usage")
