"""One file that says what lies between nodes: ``network.toml``, for the simulator, local clusters and several hosts.

    [network]                        # the default of every link
    latency_ms = 0.0                 # one way
    jitter_ms = 0.0                  # up to so much more, drawn evenly
    bandwidth_mbit = 0               # the uplink of each node, all its links together; 0 = without a bound
    loss = 0.0                       # share of packets, which costs time (shaping.py)
    congestion_window = false        # whether a connection begins slowly

    [regions.frankfurt]              # latencies between regions of the built-in table need not be given
    nodes = ["CCDC", "CSDC"]
    bandwidth_mbit = 50              # the uplink of each node there

    [[links]]                        # between two regions or two nodes, in both directions; a later one wins, and
    between = ["frankfurt", "tokyo"] # one between nodes wins over one between regions
    latency_ms = 118
    bandwidth_mbit = 20              # of this link alone, beside the uplinks
    cut = false                      # true: these two have no session

Each node shapes what it sends. So all nodes of a network need the same file: a link between one that has it and one
that has not is slow in one direction only. Nodes that the file does not name get the default, and sessions with clients
are not shaped: a client stands beside its node. Faults (``NodeLinks.trouble``) come on top while a node runs.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations_with_replacement
from typing import Any, Final

from p2pledger.network.regions import REGIONS, one_way_ms
from p2pledger.network.shaping import UNSHAPED, Chance, Link, LinkShape, Uplink
from p2pledger.primitives.errors import BadConfiguration
from p2pledger.primitives.names import suggestion

__all__ = ["NodeLinks", "Override", "Region", "Topology", "Trouble"]

_LONGEST_MS: Final = 60_000.0
_WIDEST_MBIT: Final = 1_000_000.0
_MOST_LOSS: Final = 0.5
_LINK_KEYS: Final = ("latency_ms", "jitter_ms", "bandwidth_mbit", "loss", "congestion_window")


@dataclass(frozen=True, slots=True)
class Region:
    """Nodes in one place. ``uplink_bytes_per_s`` None: the default."""

    name: str
    nodes: tuple[str, ...]
    uplink_bytes_per_s: int | None = None


@dataclass(frozen=True, slots=True)
class Override:
    """What is said of the links between two regions or nodes; None where nothing is said."""

    between: tuple[str, str]
    latency_us: int | None = None
    jitter_us: int | None = None
    bytes_per_s: int | None = None
    loss: float | None = None
    window: bool | None = None
    cut: bool | None = None

    def applied_to(self, shape: LinkShape) -> LinkShape:
        """The shape with what is said here in the place of what was said before."""
        said = {name: getattr(self, name) for name in ("latency_us", "jitter_us", "bytes_per_s", "loss", "window")}
        return replace(shape, **{name: value for name, value in said.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Topology:
    """What a manifest says. ``default`` is the shape of a link of which nothing else is said."""

    default: LinkShape = UNSHAPED
    uplink_bytes_per_s: int = 0
    regions: tuple[Region, ...] = ()
    overrides: tuple[Override, ...] = ()
    _regions_of: Mapping[str, Region] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_regions_of", {node: region for region in self.regions for node in region.nodes})

    @classmethod
    def parse(cls, text: str, *, where: str = "") -> Topology:
        """BadConfiguration names what is unknown or wrong, and what may have been meant."""
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise BadConfiguration("the network manifest is not TOML", where=where, why=str(error)) from None
        try:
            return _topology(values)
        except BadConfiguration as error:
            error.where = where
            raise

    @property
    def nodes(self) -> tuple[str, ...]:
        """Those that stand in a region, in the order of the file; then those that only links name."""
        named = [node for region in self.regions for node in region.nodes]
        regions = {region.name for region in self.regions}
        named += [name for override in self.overrides for name in override.between if name not in regions]
        return tuple(dict.fromkeys(named))

    def check_names(self, known: Sequence[str]) -> Topology:
        """BadConfiguration if the manifest names a node that the network does not have."""
        for name in self.nodes:
            if name not in known:
                raise BadConfiguration(
                    f"the network manifest names {name!r}, which is no node here", hint=suggestion(name, known)
                )
        return self

    def region_of(self, node: str) -> str:
        """The name of its region; empty if it stands in none."""
        region = self._regions_of.get(node)
        return "" if region is None else region.name

    def shape(self, source: str, target: str) -> LinkShape:
        """What a stream from one node to another goes through, behind the uplink of the first."""
        shape = self.default
        one, other = self.region_of(source), self.region_of(target)
        distance_ms = one_way_ms(one, other)
        if distance_ms is not None:
            shape = replace(shape, latency_us=round(1_000 * distance_ms))
        for override in self._overrides(source, target):
            shape = override.applied_to(shape)
        return shape

    def uplink(self, node: str) -> int:
        """Bytes a second that a node can send, to all others together; 0 without a bound."""
        region = self._regions_of.get(node)
        own = None if region is None else region.uplink_bytes_per_s
        return self.uplink_bytes_per_s if own is None else own

    def is_cut(self, one: str, other: str) -> bool:
        """Whether these two have no session."""
        said = [override.cut for override in self._overrides(one, other) if override.cut is not None]
        return bool(said) and said[-1]

    def without_distance(self) -> Topology:
        """The same with every node next door to every other: no latency, no jitter."""
        names = [region.name for region in self.regions]
        # Said of every pair, or the built-in table would be asked; then again what else was said of some.
        pairs = tuple(Override(pair, latency_us=0, jitter_us=0) for pair in combinations_with_replacement(names, 2))
        said = tuple(replace(override, latency_us=0, jitter_us=0) for override in self.overrides)
        return replace(self, default=replace(self.default, latency_us=0, jitter_us=0), overrides=pairs + said)

    def without_bandwidth(self) -> Topology:
        """The same without a bound of uplinks and of links."""
        return replace(
            self,
            uplink_bytes_per_s=0,
            regions=tuple(replace(region, uplink_bytes_per_s=None) for region in self.regions),
            overrides=tuple(replace(override, bytes_per_s=None) for override in self.overrides),
        )

    def manifest(self) -> str:
        """A network.toml that says the same: ``parse`` gives an equal topology."""
        lines = ["[network]", *_written(asdict(self.default))]
        lines.append(f"bandwidth_mbit = {self.uplink_bytes_per_s / 125_000!r}")
        for region in self.regions:
            lines += [f"[regions.{_quoted(region.name)}]", f"nodes = {_quoted(region.nodes)}"]
            if region.uplink_bytes_per_s is not None:
                lines.append(f"bandwidth_mbit = {region.uplink_bytes_per_s / 125_000!r}")
        for override in self.overrides:
            lines += ["[[links]]", f"between = {_quoted(override.between)}", *_written(asdict(override))]
            if override.bytes_per_s is not None:
                lines.append(f"bandwidth_mbit = {override.bytes_per_s / 125_000!r}")
        return "\n".join(lines) + "\n"

    def _overrides(self, one: str, other: str) -> list[Override]:
        """Those that concern two nodes, the least special first."""
        regions, nodes = {self.region_of(one), self.region_of(other)}, {one, other}
        by_region = [override for override in self.overrides if set(override.between) == regions]
        return by_region + [override for override in self.overrides if set(override.between) == nodes]


# --- reading a manifest ---------------------------------------------------------------------------------------------


def _topology(values: Mapping[str, Any]) -> Topology:
    _check_keys(values, ("network", "regions", "links"), "the network manifest")
    network = _table(values.get("network", {}), "[network]", _LINK_KEYS)
    default = Override(("", ""), **_link_settings(network, "[network]", is_link=False)).applied_to(UNSHAPED)
    regions = tuple(_region(name, item) for name, item in _tables(values.get("regions", {}), "regions").items())
    seen: dict[str, str] = {}
    for region in regions:
        for node in region.nodes:
            if node in seen:
                raise BadConfiguration(f"node {node!r} stands in region {seen[node]!r} and in {region.name!r}")
            if any(node == other.name for other in regions):
                raise BadConfiguration(f"{node!r} is the name of a node and of a region")
            seen[node] = region.name
    items = values.get("links", [])
    if not isinstance(items, list):
        raise BadConfiguration("links are given as [[links]]")
    overrides = tuple(_override(item, number, regions) for number, item in enumerate(items, 1))
    topology = Topology(default, _rate(network, "[network]") or 0, regions, overrides)
    if "latency_ms" not in network:
        _check_distances(topology)
    return topology


def _check_distances(topology: Topology) -> None:
    """Every pair of regions has a latency from somewhere: a misspelt region must not be next door by accident."""
    said = {frozenset(item.between) for item in topology.overrides if item.latency_us is not None}
    for number, one in enumerate(topology.regions):
        for other in topology.regions[number + 1 :]:
            if one_way_ms(one.name, other.name) is None and frozenset((one.name, other.name)) not in said:
                unknown = one.name if one.name not in REGIONS else other.name
                raise BadConfiguration(
                    f"nothing says how far it is from region {one.name!r} to region {other.name!r}",
                    why=f"{unknown!r} is not in the built-in table",
                    hint=f"{suggestion(unknown, list(REGIONS))} Or give latency_ms in [[links]] or [network]",
                )


def _region(name: str, values: Any) -> Region:
    place = f"[regions.{name}]"
    table = _table(values, place, ("nodes", "bandwidth_mbit"))
    nodes = table.get("nodes", [])
    if not isinstance(nodes, list) or not all(isinstance(node, str) and node for node in nodes):
        raise BadConfiguration(f"nodes in {place} must be a list of names, not {nodes!r}")
    return Region(name, tuple(nodes), _rate(table, place))


def _override(values: Any, number: int, regions: Sequence[Region]) -> Override:
    place = f"[[links]] number {number}"
    table = _table(values, place, ("between", *_LINK_KEYS, "cut"))
    match table.get("between"):
        case [str(one), str(other)] if one and other:
            between = one, other
        case wrong:
            raise BadConfiguration(f"between in {place} must be two names, not {wrong!r}")
    known = [region.name for region in regions] + [node for region in regions for node in region.nodes]
    for name in between:
        if regions and name not in known:
            raise BadConfiguration(f"{place} names {name!r}, no region and no node", hint=suggestion(name, known))
    kinds = {name in {region.name for region in regions} for name in between}
    if len(kinds) == 2:
        raise BadConfiguration(f"{place} must be between two regions or between two nodes, not {' and '.join(between)}")
    if kinds == {False} and between[0] == between[1]:
        raise BadConfiguration(f"{place} lies between {between[0]!r} and itself")
    return Override(between, **_link_settings(table, place, is_link=True))


def _link_settings(table: Mapping[str, Any], place: str, *, is_link: bool) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for key, name in (("latency_ms", "latency_us"), ("jitter_ms", "jitter_us")):
        if key in table:
            settings[name] = round(1_000 * _number(table, key, place, _LONGEST_MS))
    if "loss" in table:
        settings["loss"] = _number(table, "loss", place, _MOST_LOSS)
    if is_link and (rate := _rate(table, place)) is not None:
        settings["bytes_per_s"] = rate
    for key, name in (("congestion_window", "window"), ("cut", "cut")):
        if key in table:
            if type(table[key]) is not bool:
                raise BadConfiguration(f"{key} in {place} must be true or false, not {table[key]!r}")
            settings[name] = table[key]
    return settings


def _rate(table: Mapping[str, Any], place: str) -> int | None:
    """Bytes a second from megabits; None if nothing is said."""
    if "bandwidth_mbit" not in table:
        return None
    return round(125_000 * _number(table, "bandwidth_mbit", place, _WIDEST_MBIT))


def _number(table: Mapping[str, Any], key: str, place: str, most: float) -> float:
    value = table[key]
    # A comparison with a number that is none is false: so NaN is refused as well.
    if type(value) not in (int, float) or not 0 <= value <= most:
        raise BadConfiguration(f"{key} in {place} must be a number from 0 to {most:g}, not {value!r}")
    return float(value)


def _tables(values: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(values, dict):
        raise BadConfiguration(f"{place} must be a table, not {values!r}")
    return values


def _table(values: Any, place: str, keys: Sequence[str]) -> Mapping[str, Any]:
    table = _tables(values, place)
    _check_keys(table, keys, place)
    return table


def _check_keys(values: Iterable[str], keys: Sequence[str], place: str) -> None:
    for key in values:
        if key not in keys:
            raise BadConfiguration(f"{key!r} is unknown in {place}", hint=suggestion(key, keys))


def _quoted(value: str | Sequence[str]) -> str:
    """A string, or a list of them, as TOML: JSON is that too, where it leaves letters as they are."""
    return json.dumps(value, ensure_ascii=False)


def _written(said: Mapping[str, Any]) -> list[str]:
    """The lines of a table that say what is said of links, but for their bandwidth."""
    lines = [f"{name}_ms = {us / 1_000!r}" for name in ("latency", "jitter") if (us := said[f"{name}_us"]) is not None]
    if said["loss"] is not None:
        lines.append(f"loss = {said['loss']!r}")
    for key, name in (("congestion_window", "window"), ("cut", "cut")):
        if said.get(name) is not None:
            lines.append(f"{key} = {str(said[name]).lower()}")
    return lines


# --- the links of one node ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trouble:
    """Faults on top of a manifest: more latency towards some nodes, and another uplink."""

    delays_us: Mapping[str, int] = field(default_factory=dict)
    """name of the other node -> how much longer it is on the way there"""
    uplink_bytes_per_s: int | None = None


@dataclass(slots=True)
class NodeLinks:
    """The links that begin at one node, which share its uplink."""

    topology: Topology
    name: str
    chance: Chance
    _trouble: Trouble = field(default_factory=Trouble)
    _uplink: Uplink = field(init=False)

    def __post_init__(self) -> None:
        self._uplink = Uplink(self.topology.uplink(self.name))

    def trouble(self, trouble: Trouble) -> None:
        """These faults from now on, and no others. Links have to be made anew."""
        self._trouble = trouble
        own = trouble.uplink_bytes_per_s
        self._uplink.set_rate(self.topology.uplink(self.name) if own is None else own)

    def shape(self, target: str) -> LinkShape:
        """What a stream from here to another node goes through."""
        shape = self.topology.shape(self.name, target)
        return replace(shape, latency_us=shape.latency_us + self._trouble.delays_us.get(target, 0))

    def link(self, target: str) -> Link | None:
        """A fresh link for a new session; None where nothing is shaped."""
        shape = self.shape(target)
        if shape == UNSHAPED and not self._uplink.bytes_per_s:
            return None
        return Link(shape, self._uplink, self.chance)
