"""One workload under every engine: the same holdings, the same root over the securities tables, no violation."""

import pytest

from p2pledger.primitives.genesis import ENGINES
from p2pledger.sim.engines import EngineRun, recount, run_engine, trades


def settle(engine: str, seed: int, number: int) -> EngineRun:
    run = run_engine(engine, seed, number)
    assert run.violations == ()
    assert run.settled == number
    assert run.holdings == recount(seed, number)
    return run


def test_the_engine_decides_nothing_but_who_writes_the_blocks() -> None:
    runs = [settle(engine, 7, 60) for engine in ENGINES]
    assert len({run.root for run in runs}) == 1
    assert len(bytes.fromhex(runs[0].root)) == 32
    # Blocks there were, and not the same ones.
    assert len({run.final_height for run in runs}) > 1


@pytest.mark.slow
def test_two_thousand_trades_under_every_engine() -> None:
    assert len({settle(engine, 1, 2_000).root for engine in ENGINES}) == 1


def test_other_trades_give_another_root() -> None:
    assert settle("poa", 1, 5).root != settle("poa", 2, 5).root


def test_the_recount_conserves() -> None:
    assert list(trades(3, 50)) == list(trades(3, 50))
    before, after = recount(3, 0), recount(3, 50)
    assert before != after
    for asset in {asset for asset, _ in before}:
        assert sum(units for (name, _), units in before.items() if name == asset) == sum(
            units for (name, _), units in after.items() if name == asset
        )
