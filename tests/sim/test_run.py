"""Whole runs: a few hundred seeds without a violation, and the faults that must be found.

A seed that fails is lived through again, with a transcript, by

    p2pledger sim run --seed SEED --trace FILE
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from p2pledger.network.topology import Topology
from p2pledger.primitives.errors import InvalidInput
from p2pledger.sim.assumptions import ASSUMPTIONS
from p2pledger.sim.checkers import judge
from p2pledger.sim.market import Market, Order
from p2pledger.sim.run import Run, run_scenario, run_seed
from p2pledger.sim.scenario import FAULTS, Fault, Scenario
from p2pledger.sim.villains import villains_of
from tests.sim.campaign import blackouts, calm, split

SEEDS = {"simplex": 32, "pow": 8, "pos": 8, "dpos": 8, "poa": 8}
CHUNK = 8


@pytest.mark.parametrize(
    ("engine", "first"), [(engine, first) for engine, seeds in SEEDS.items() for first in range(0, seeds, CHUNK)]
)
def test_seeds_without_a_violation(engine: str, first: int) -> None:
    seeds = range(first, first + CHUNK)
    violations = [violation for seed in seeds for violation in run_seed(seed, engine=engine).violations]
    assert not violations, "\n".join(map(str, violations))


def test_a_longer_life() -> None:
    violations = [violation for seed in range(1_000, 1_002) for violation in run_seed(seed, seconds=20).violations]
    assert not violations, "\n".join(map(str, violations))


@pytest.mark.parametrize("engine", sorted(ASSUMPTIONS))
def test_the_seeds_of_a_campaign_meet_every_fault_and_villain_inside_the_assumption(engine: str) -> None:
    scenarios = [Scenario.draw(seed, engine=engine) for seed in range(400)]
    assert {fault.kind for scenario in scenarios for fault in scenario.faults} == set(FAULTS)
    assert {kind for scenario in scenarios for _, kind in scenario.villains} == set(villains_of(engine))
    assert {scenario.profile for scenario in scenarios} == {"consortium", "public"}
    for scenario in scenarios:
        assumption = scenario.assumption
        numerator, denominator = assumption.share
        lost = len(scenario.villains) + sum(fault.kind in ("wipe", "leave") for fault in scenario.faults)
        assert lost * denominator < scenario.validators * numerator, "more than the protocol promises to survive"
        longest_ms = assumption.longest_partition_ms(scenario.interval_ms, scenario.depth)
        for fault in scenario.faults:
            assert fault.begin_us < fault.end_us <= scenario.healed_us
            if longest_ms is not None and fault.kind in ("partition", "one-way", "flapping"):
                assert fault.end_us - fault.begin_us <= 1_000 * longest_ms


def test_a_public_network_may_shun_a_villain() -> None:
    """In the world of this seed an impersonator offends until nobody takes it in: no breach of admission."""
    scenario = Scenario.draw(24, engine="poa")
    assert (scenario.profile, scenario.villains) == ("public", (("node-3", "impersonator"),))
    assert not run_scenario(scenario).violations


def test_a_calm_network_settles_everything() -> None:
    outcome = run_scenario(calm(5))
    assert not outcome.violations
    assert dict(outcome.orders)["ok"] >= 4
    assert outcome.final_height >= 3


def test_a_quorum_one_too_small_breaks_agreement_and_the_checker_says_so() -> None:
    """Three of four are a quorum; with two, an equivocator makes two halves believe different things for good."""
    caught = []
    for seed in range(10):
        violations = run_scenario(split(seed, quorum=2)).violations
        caught += [violation for violation in violations if violation.checker == "agreement"]
    assert caught
    assert "has the final block" in caught[0].detail


def test_the_same_attack_fails_against_the_right_quorum() -> None:
    for seed in range(10):
        assert not run_scenario(split(seed, quorum=None)).violations


def test_a_node_that_was_away_stores_the_blocks_that_it_is_sent() -> None:
    """Found by seeds 8 and 39: blocks that came by sync were called final on a disk that did not hold them."""
    times_us = range(300_000, 2_400_000, 400_000)
    away = tuple(Fault("crash", time_us, time_us + 300_000, ("node-3",)) for time_us in times_us)
    for seed in (0, 8, 11, 14):
        assert not run_scenario(replace(calm(seed), faults=away, orders=40)).violations


def test_an_order_at_two_nodes_is_told_with_the_height_at_which_it_was_executed() -> None:
    """Found by seed 21: a client was told the height of the batch in which its order came the second time."""
    repeated = 0
    for seed in range(4):
        run = Run(replace(calm(seed), clients=3, orders=24))
        market, before = run.market, list[Order]()

        def twice(market: Market = market, before: list[Order] = before) -> Order:
            if before:
                return before.pop()
            order = Market.order(market)
            before.append(order)
            return order

        run.market.order = twice  # type: ignore[method-assign]
        evidence = run.live()
        assert not judge(evidence)
        repeated += len(evidence.notices) - len({notice.transaction for notice in evidence.notices})
    assert repeated


def test_a_lone_validator_may_forget_what_nobody_was_told() -> None:
    for seed in range(4):
        times_us = range(100_000, 2_000_000, 150_000)
        deaths = tuple(Fault("crash", time_us, time_us + 50_000, ("node-0",), 1) for time_us in times_us)
        lone = replace(calm(seed), validators=1, skew_ms=(0,), faults=deaths, orders=24)
        assert not run_scenario(lone).violations


def test_a_disk_that_forgets_votes_is_noticed() -> None:
    caught = []
    for seed in range(6):
        assert not run_scenario(blackouts(seed, forgets_votes=False)).violations
        caught += run_scenario(blackouts(seed, forgets_votes=True)).violations
    assert any(violation.checker == "votes" for violation in caught)


def test_the_same_seed_is_the_same_run() -> None:
    one, other = io.StringIO(), io.StringIO()
    assert run_seed(11, transcript=one) == run_seed(11, transcript=other)
    assert one.getvalue() == other.getvalue()
    assert one.getvalue().count("\n") == run_seed(11).events
    assert run_seed(12).trace_hash != run_seed(11).trace_hash


def test_the_interpreter_s_hash_seed_changes_nothing() -> None:
    script = "from p2pledger.sim.run import run_seed\nprint([run_seed(seed) for seed in range(20, 28)])"
    told = set()
    for hash_seed in ("1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=120
        )
        told.add(done.stdout)
    assert len(told) == 1


FAR_APART = """
[regions.frankfurt]
nodes = ["CCDC", "CSDC"]
[regions.tokyo]
nodes = ["VENUE-A"]
[regions.sao-paulo]
nodes = ["VENUE-B"]
[network]
bandwidth_mbit = 4
jitter_ms = 3
loss = 0.005
congestion_window = true
"""


@pytest.mark.parametrize("seed", [1, 3, 16])
def test_a_network_around_the_world_settles_and_comes_to_rest(seed: int) -> None:
    """None of these once rested. Where an answer takes longer than the pause between two helps, two nodes helped each
    other for ever, within an epoch (3) and at the beginning of one (16); and a node that alone had seen the proposal of
    a leader that was gone wanted to leave its view for ever (1).
    """
    outcome = run_seed(seed, topology=Topology.parse(FAR_APART))
    assert not outcome.violations
    assert outcome.final_height > 3
    assert outcome == run_seed(seed, topology=Topology.parse(FAR_APART)), "the same, to the last frame"


def test_a_manifest_beyond_what_the_engine_assumes_is_refused() -> None:
    topology = Topology.parse("[network]\nlatency_ms = 251")
    with pytest.raises(InvalidInput, match="pow assumes at most 250 ms"):
        run_seed(1, engine="pow", topology=topology)
    assert Run(calm(4), topology=topology).world.weather.latency("node-0", "node-1") == 251_000
