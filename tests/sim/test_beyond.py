"""Beyond the assumptions two ledgers are possible, and then somebody honest says so."""

from __future__ import annotations

import pytest

from p2pledger.sim.assumptions import ASSUMPTIONS
from p2pledger.sim.checkers import judge_beyond
from p2pledger.sim.checkers.agreement import check_agreement
from p2pledger.sim.checkers.alarm import check_alarm, has_alarm
from p2pledger.sim.run import Run
from p2pledger.sim.scenario import Scenario


@pytest.mark.parametrize(("engine", "seeds"), [("simplex", (2, 10, 15, 20)), ("pow", (4, 5, 6)), ("pos", (1,))])
def test_two_ledgers_raise_the_alarm(engine: str, seeds: tuple[int, ...]) -> None:
    broken = 0
    for seed in seeds:
        evidence = Run(Scenario.draw(seed, engine=engine, beyond=True)).live()
        assert judge_beyond(evidence) == []
        if check_agreement(evidence):
            broken += 1
            assert has_alarm(evidence)
            evidence.breaches.clear()
            assert check_alarm(evidence), "a checker that cannot fail"
    assert broken, "no world of these was bad enough"


def test_the_table_of_assumptions() -> None:
    simplex, work = ASSUMPTIONS["simplex"], ASSUMPTIONS["pow"]
    assert [simplex.adversaries(weight) for weight in (1, 3, 4, 6, 7, 100)] == [0, 0, 1, 1, 2, 33]
    assert [work.adversaries(weight) for weight in (4, 5, 100)] == [0, 1, 24]
    assert simplex.longest_partition_ms(1_000, 16) is None
    assert work.longest_partition_ms(1_000, 16) == 4_000
    assert work.longest_delay_ms(1_000) == 250
    assert work.widest_clocks_ms(1_000) == 500
