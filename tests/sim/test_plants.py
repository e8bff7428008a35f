"""Planted faults are found, each by the checkers whose business it is; and the worlds that find them are sound."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pledger.primitives.faults import NO_FAULTS
from p2pledger.sim.plants import PLANTS
from p2pledger.sim.run import run_scenario, run_seed
from p2pledger.sim.scenario import Scenario

FOUND_BY = {
    ("quorum-too-small", "simplex"): {"agreement", "certificates", "halt"},
    ("send-before-persist", "simplex"): {"disk", "votes"},
    ("send-before-persist", "dpos"): {"disk"},
    ("send-before-persist", "poa"): {"disk"},
    ("accept-equivocation", "simplex"): {"votes", "disk", "agreement"},
    ("double-counted-signer", "simplex"): {"certificates"},
    ("keep-coin-age", "pos"): {"validity"},
    ("forget-undo", "pow"): {"validity", "accusation", "progress"},
    ("forget-undo", "pos"): {"validity", "accusation", "progress"},
    ("forget-undo", "dpos"): {"validity", "accusation", "progress"},
    ("forget-undo", "poa"): {"validity", "accusation", "progress"},
}
TRIED_HERE = [pair for pair in FOUND_BY if pair not in (("forget-undo", "pos"), ("forget-undo", "poa"))]


def test_every_plant_is_meant_for_some_engine_and_expected_here() -> None:
    assert set(FOUND_BY) == {(plant.name, engine) for plant in PLANTS.values() for engine in plant.engines}


@pytest.mark.parametrize(("plant", "engine"), TRIED_HERE)
def test_a_planted_fault_is_found(plant: str, engine: str) -> None:
    """Within 500 seeds is promised; the first few do."""
    for seed in range(1, 31):
        found = {violation.checker for violation in run_seed(seed, engine=engine, plant=plant).violations}
        if found & FOUND_BY[plant, engine]:
            return
    pytest.fail(f"nobody has found {plant} under {engine}")


@pytest.mark.parametrize("plant", ["quorum-too-small", "accept-equivocation", "double-counted-signer"])
def test_without_the_fault_the_same_world_is_sound(plant: str) -> None:
    for seed in range(1, 3):
        scenario = replace(Scenario.draw(seed, plant=plant), idle_s=600)
        assert not run_scenario(replace(scenario, quorum=None, planted=NO_FAULTS, sends_early=False)).violations
