"""A network manifest: what it says of each link, and how it is refused when it makes no sense."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from p2pledger.network.regions import REGIONS, one_way_ms
from p2pledger.network.shaping import UNSHAPED, LinkShape, Uplink
from p2pledger.network.topology import NodeLinks, Topology, Trouble
from p2pledger.primitives.errors import BadConfiguration

MANIFEST = """
[network]
jitter_ms = 0.5
bandwidth_mbit = 100
loss = 0.001

[regions.frankfurt]
nodes = ["CCDC", "CSDC"]

[regions.tokyo]
nodes = ["VENUE-A"]
bandwidth_mbit = 8

[regions.moon]
nodes = ["VENUE-B"]

[[links]]
between = ["frankfurt", "moon"]
latency_ms = 1280
[[links]]
between = ["moon", "tokyo"]
latency_ms = 1281
congestion_window = true
[[links]]
between = ["CSDC", "VENUE-A"]
bandwidth_mbit = 2
cut = true
"""


def test_regions_of_the_table_need_no_latency() -> None:
    topology = Topology.parse(MANIFEST)
    assert topology.shape("CCDC", "VENUE-A") == LinkShape(113_500, 500, 0, 0.001)
    assert topology.shape("VENUE-A", "CCDC") == topology.shape("CCDC", "VENUE-A")
    assert topology.shape("CCDC", "CSDC").latency_us == 2_000, "within one region"


def test_links_are_told_by_region_and_by_node_which_wins() -> None:
    topology = Topology.parse(MANIFEST)
    assert topology.shape("VENUE-B", "CSDC").latency_us == 1_280_000
    assert topology.shape("VENUE-B", "VENUE-A") == LinkShape(1_281_000, 500, 0, 0.001, window=True)
    special = topology.shape("CSDC", "VENUE-A")
    assert (special.latency_us, special.bytes_per_s) == (113_500, 250_000)
    assert topology.is_cut("VENUE-A", "CSDC")
    assert not topology.is_cut("VENUE-A", "CCDC")


def test_the_uplink_is_that_of_the_region_or_the_default() -> None:
    topology = Topology.parse(MANIFEST)
    assert [topology.uplink(name) for name in ("CCDC", "VENUE-A", "anybody")] == [12_500_000, 1_000_000, 12_500_000]


def test_who_is_not_named_gets_the_default() -> None:
    topology = Topology.parse("[network]\nlatency_ms = 3\n")
    assert topology.shape("a", "b") == LinkShape(3_000)
    assert Topology.parse("").shape("a", "b") == UNSHAPED


def test_nodes_are_told_in_the_order_of_the_file() -> None:
    assert Topology.parse(MANIFEST).nodes == ("CCDC", "CSDC", "VENUE-A", "VENUE-B")
    assert Topology.parse('[[links]]\nbetween = ["b", "a"]\nlatency_ms = 1').nodes == ("b", "a")


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("[netwrok]", "'netwrok' is unknown in the network manifest", "Did you mean network?"),
        ("[network]\nlatncy_ms = 1", "'latncy_ms' is unknown in [network]", "Did you mean latency_ms?"),
        ("[regions.tokyo]\nnode = []", "'node' is unknown in [regions.tokyo]", "Did you mean nodes?"),
        ("[regions.tokyo]\nnodes = 3", "must be a list of names", ""),
        ("[regions]\ntokyo = 3", "must be a table", ""),
        ("[network]\nlatency_ms = -1", "must be a number from 0 to 60000, not -1", ""),
        ("[network]\nlatency_ms = nan", "not nan", ""),
        ("[network]\nlatency_ms = true", "not True", ""),
        ("[network]\nloss = 0.9", "loss in [network] must be a number from 0 to 0.5", ""),
        ("[network]\ncongestion_window = 1", "must be true or false", ""),
        ("[links]\nbetween = 3", "[[links]]", ""),
        ("[[links]]\nlatency_ms = 3", "between in [[links]] number 1 must be two names", ""),
        ('[[links]]\nbetween = ["a", "a"]', "between 'a' and itself", ""),
        ('[regions.tokyo]\nnodes = ["A"]\n[[links]]\nbetween = ["tokio", "tokyo"]', "'tokio'", "Did you mean tokyo?"),
        ('[regions.tokyo]\nnodes = ["A"]\n[[links]]\nbetween = ["A", "tokyo"]', "two regions or between two nodes", ""),
        ('[regions.tokyo]\nnodes = ["A"]\n[regions.paris]\nnodes = ["A"]', "stands in region 'tokyo' and in", ""),
        ('[regions.tokyo]\nnodes = ["tokyo"]', "the name of a node and of a region", ""),
        ('[regions.tokio]\nnodes = ["A"]\n[regions.paris]\nnodes = ["B"]', "how far it is", "Did you mean tokyo?"),
        ("= 3", "is not TOML", ""),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_may_be_meant(text: str, what: str, hint: str) -> None:
    with pytest.raises(BadConfiguration) as caught:
        Topology.parse(text, where="network.toml")
    assert what in caught.value.what
    assert hint in caught.value.hint
    assert caught.value.where == "network.toml"


def test_a_node_that_the_network_does_not_have_is_named() -> None:
    topology = Topology.parse(MANIFEST)
    assert topology.check_names(["CCDC", "CSDC", "VENUE-A", "VENUE-B", "VENUE-C"]) is topology
    with pytest.raises(BadConfiguration, match=r"'VENUE-B'.*Did you mean VENUE-A"):
        topology.check_names(["CCDC", "CSDC", "VENUE-A"])


def test_the_table_of_regions_is_whole_and_symmetric() -> None:
    for one in REGIONS:
        for other in REGIONS:
            distance_ms = one_way_ms(one, other)
            assert distance_ms is not None
            assert distance_ms == one_way_ms(other, one)
            assert distance_ms <= 170 if one != other else distance_ms < 3
    assert (one_way_ms("frankfurt", "tokyo"), one_way_ms("sydney", "tokyo")) == (113.5, 53.45)
    assert one_way_ms("frankfurt", "atlantis") is None


def test_no_way_is_much_longer_than_over_a_third_region() -> None:
    """A slip of the pen in the table would show."""
    for one in REGIONS:
        for other in REGIONS:
            for third in REGIONS:
                if len({one, other, third}) == 3:
                    over = (one_way_ms(one, third) or 0) + (one_way_ms(third, other) or 0)
                    assert (one_way_ms(one, other) or 0) <= 1.35 * over, (one, third, other)


# --- the links of one node ------------------------------------------------------------------------------------------


def test_the_links_of_a_node_share_its_uplink_and_end_where_nothing_is_shaped() -> None:
    links = NodeLinks(Topology.parse(MANIFEST), "VENUE-A", Random(1))
    one, other = links.link("CCDC"), links.link("VENUE-B")
    assert one is not None
    assert other is not None
    assert one.uplink is other.uplink
    assert one.uplink == Uplink(1_000_000)
    assert NodeLinks(Topology(), "a", Random(1)).link("b") is None


def test_faults_come_on_top_and_go_again() -> None:
    links = NodeLinks(Topology.parse(MANIFEST), "CCDC", Random(1))
    links.trouble(Trouble({"VENUE-A": 20_000}, 5_000))
    troubled = links.link("VENUE-A")
    assert troubled is not None
    assert troubled.shape.latency_us == 133_500
    assert troubled.uplink.bytes_per_s == 5_000
    assert links.shape("CSDC").latency_us == 2_000
    links.trouble(Trouble())
    assert links.shape("VENUE-A").latency_us == 113_500
    assert troubled.uplink.bytes_per_s == 12_500_000


def test_a_fault_shapes_what_was_not_shaped() -> None:
    links = NodeLinks(Topology(), "a", Random(1))
    links.trouble(Trouble({"b": 1_000}))
    assert links.link("c") is None
    link = links.link("b")
    assert link is not None
    assert link.send(0, 100).arrival_us == 1_000


def test_the_manifest_of_the_documentation_is_one() -> None:
    """docs/measuring.md shows one in full."""
    text = (Path(__file__).parents[2] / "docs" / "measuring.md").read_text(encoding="utf-8")
    shown = text.split("```toml\n", 1)[1].split("```", 1)[0]
    assert Topology.parse(shown).nodes


@pytest.mark.parametrize(
    "text", [MANIFEST, "", "[regions.'the moon']\nnodes = ['\u00e9', 'a b']\n", "[network]\nlatency_ms = 3"]
)
def test_a_manifest_that_is_written_says_the_same(text: str) -> None:
    topology = Topology.parse(text)
    assert Topology.parse(topology.manifest()) == topology


def test_distance_and_bandwidth_are_taken_away_one_by_one() -> None:
    topology = Topology.parse(MANIFEST)
    near = Topology.parse(topology.without_distance().manifest())
    wide = Topology.parse(topology.without_bandwidth().manifest())
    for source in ("CCDC", "CSDC", "VENUE-A", "VENUE-B"):
        assert near.uplink(source) == topology.uplink(source)
        assert wide.uplink(source) == 0
        for target in ("CCDC", "CSDC", "VENUE-A", "VENUE-B"):
            shape = topology.shape(source, target)
            assert near.shape(source, target) == replace(shape, latency_us=0, jitter_us=0)
            assert wide.shape(source, target) == replace(shape, bytes_per_s=0)
            assert near.is_cut(source, target) == wide.is_cut(source, target) == topology.is_cut(source, target)
