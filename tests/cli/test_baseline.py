"""p2pledger sim baseline: the world before and the ledger, side by side."""

from tests.cli.commands import Command


def test_both_times_stand_side_by_side_with_what_is_modelled(p2pledger: Command) -> None:
    done = p2pledger("sim", "baseline", "--trades", 10, "--seed", 7)
    assert done.code == 0, done.talk
    assert "two registers, T+1" in done.data
    assert "one ledger" in done.data
    assert "everybody holds the same in the end" in done.data
    assert "nothing here was measured on machines" in done.data


def test_for_programs_it_is_one_object(p2pledger: Command) -> None:
    done = p2pledger("sim", "baseline", "--trades", 10, "--seed", 7, "--json")
    values = done.values
    assert (values["schema"], values["trades"], values["seed"]) == ("p2pledger.sim.baseline/1", 10, 7)
    before, ledger = values["before"], values["ledger"]
    assert before["settled"] == ledger["settled"] == 10
    assert before["seconds"]["p50"] > 3_600 > 1 > ledger["seconds"]["max"] > 0
    assert ledger["findings"] == []
    assert values["same_holdings"] is True
    assert values["modelled"]


def test_a_comparison_of_nothing_is_a_usage_error(p2pledger: Command) -> None:
    assert p2pledger("sim", "baseline", "--trades", 0).code == 2
