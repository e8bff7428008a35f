"""Worlds with standing offers that nobody takes: the ledger gives them back by itself, whatever else goes wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pledger.ledger.tables import Table
from p2pledger.sim.assumptions import ASSUMPTIONS
from p2pledger.sim.checkers import judge
from p2pledger.sim.run import Run
from p2pledger.sim.scenario import Scenario


@pytest.mark.parametrize("engine", sorted(ASSUMPTIONS))
def test_offers_expire_in_every_world_and_the_second_ledger_says_the_same(engine: str) -> None:
    outcomes: set[str] = set()
    for seed in range(3 if engine == "simplex" else 1):
        run = Run(replace(Scenario.draw(seed, engine=engine), offers=12))
        evidence = run.live()
        violations = judge(evidence)
        assert not violations, "\n".join(map(str, violations))
        for machine in run.honest:
            assert machine.peer is not None
            version = machine.peer.final_version
            assert version.count(Table.DUE) == version.count(Table.OFFERS) == version.count(Table.ENCUMBRANCES) == 0
        outcomes |= {reason for client in run.clients for reason in client.outcomes}
    assert outcomes >= ({"ok", "late"} if engine == "simplex" else {"ok"})


def test_worlds_of_a_campaign_have_offers_now_and_then() -> None:
    found = [Scenario.draw(seed).offers for seed in range(60)]
    assert 10 < sum(1 for offers in found if offers) < 40
