"""What was asked to go wrong: who is concerned, and how it is told to people."""

from __future__ import annotations

import pytest

from p2pledger.cluster.faults import Faults
from p2pledger.primitives.errors import InvalidInput

NODES = ("CCDC", "CSDC", "VENUE-A", "VENUE-B")


def test_one_group_is_cut_off_from_all_others() -> None:
    faults = Faults()
    faults.cut([["VENUE-A"]], NODES)
    assert faults.strangers_of("VENUE-A") == ["CCDC", "CSDC", "VENUE-B"]
    assert faults.strangers_of("CCDC") == ["VENUE-A"]
    assert list(faults.sentences()) == ["partition VENUE-A | CCDC,CSDC,VENUE-B"]


def test_several_groups_are_cut_off_from_each_other_and_whoever_is_in_none_reaches_all() -> None:
    faults = Faults()
    faults.cut([["CCDC"], ["CSDC", "VENUE-A"]], NODES)
    assert faults.strangers_of("CCDC") == ["CSDC", "VENUE-A"]
    assert faults.strangers_of("VENUE-A") == ["CCDC"]
    assert faults.strangers_of("VENUE-B") == []


def test_nobody_stands_on_two_sides() -> None:
    with pytest.raises(InvalidInput, match="CCDC cannot be in two parts"):
        Faults().cut([["CCDC"], ["CSDC", "CCDC"]], NODES)


def test_a_delay_lies_in_both_directions() -> None:
    faults = Faults()
    faults.delay("CCDC", "CSDC", 20)
    faults.delay("CSDC", "VENUE-A", 30)
    assert faults.delays_from("CSDC") == {"CCDC": 20, "VENUE-A": 30}
    assert faults.delays_from("CCDC") == {"CSDC": 20}
    assert faults.delays_from("VENUE-B") == {}
    faults.delay("CSDC", "CCDC", 0)
    assert list(faults.sentences()) == ["delay CSDC VENUE-A 30 ms more"]


def test_every_fault_has_a_sentence() -> None:
    faults = Faults()
    faults.bandwidth("CCDC", 2.5)
    faults.bandwidth("CSDC", 0)
    faults.skew("VENUE-A", -400)
    assert list(faults.sentences()) == [
        "bandwidth CCDC 2.5 Mbit/s",
        "bandwidth CSDC without a bound",
        "skew VENUE-A -400 ms",
    ]


@pytest.mark.parametrize("amount", [-1.0, float("nan"), float("inf")])
def test_amounts_that_make_no_sense_are_refused(amount: float) -> None:
    for ask in (lambda: Faults().delay("a", "b", amount), lambda: Faults().bandwidth("a", amount)):
        with pytest.raises(InvalidInput):
            ask()
    with pytest.raises(InvalidInput):
        Faults().skew("a", amount * 1e12)
    with pytest.raises(InvalidInput, match="itself"):
        Faults().delay("a", "a", 1)
