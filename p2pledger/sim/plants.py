"""Faults that are planted on purpose, by name: what each changes in a world, so that a checker must find it.

=======================  ==============================================================  ===========================
fault                    what is done wrong                                              who finds it
=======================  ==============================================================  ===========================
quorum-too-small         a certificate needs one vote less than it ought to              agreement, certificates
send-before-persist      votes and blocks leave before they are durable                  disk, votes
accept-equivocation      a second proposal of a view is voted for as well                votes, agreement
keep-coin-age            a stake that produced a block keeps its coin-age                validity
forget-undo              a reorganisation keeps what the abandoned branch did            validity, halt
double-counted-signer    a certificate counts a signer as often as it names it           certificates, agreement
=======================  ==============================================================  ===========================

With each go a villain, or an occasion, that make sure that the fault matters. They stay inside the assumptions of the
engine: without the plant the same world is without violation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from p2pledger.primitives.faults import NO_FAULTS, Faults

__all__ = ["PLANTS", "Plant"]


@dataclass(frozen=True, slots=True)
class Plant:
    """One planted fault. ``villain`` and ``occasion`` are what a world must have for it to matter."""

    name: str
    engines: tuple[str, ...]
    """Under which engines it means anything; the first is the one to try."""
    faults: Faults = NO_FAULTS
    smaller_quorum: bool = False
    sends_early: bool = False
    villain: str = ""
    occasion: str = ""


PLANTS: Final[Mapping[str, Plant]] = MappingProxyType(
    {
        plant.name: plant
        for plant in (
            Plant("quorum-too-small", ("simplex",), smaller_quorum=True, villain="equivocator", occasion="split"),
            Plant("send-before-persist", ("simplex", "dpos", "poa"), sends_early=True, occasion="blackout"),
            Plant(
                "accept-equivocation",
                ("simplex",),
                Faults(accept_equivocation=True),
                villain="equivocator",
            ),
            Plant("keep-coin-age", ("pos",), Faults(keep_coin_age=True)),
            Plant("forget-undo", ("pow", "pos", "dpos", "poa"), Faults(forget_undo=True), occasion="split"),
            Plant(
                "double-counted-signer",
                ("simplex",),
                Faults(double_counted_signer=True),
                villain="impersonator",
            ),
        )
    }
)
"""name -> fault"""
