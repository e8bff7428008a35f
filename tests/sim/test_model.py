"""The model of Simplex: nothing breaks with one faulty of four, and every rule is needed for it.

The searches here take seconds. The whole one, every set of votes in three views, is

    p2pledger sim model
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import permutations

import pytest
from typer.testing import CliRunner

from p2pledger.cli.app import app
from p2pledger.sim.model import PROPERTIES, Model, Rule, choices, survey
from tests.sim.model_replay import Replay


def reached(model: Model, *, merged: bool) -> set[int]:
    """Every state, by a search that knows nothing of the one in the product but the moves."""
    found = {model.merged(model.start) if merged else model.start}
    waiting = list(found)
    while waiting:
        for _, after in model.moves(waiting.pop()):
            name = model.merged(after) if merged else after
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found


def votes_of(model: Model, state: int) -> tuple[tuple[int, ...], int]:
    """A state without the marks of those who may still lead."""
    marks = sum(32 << 6 * view for view in range(model.views))
    return tuple(word & ~marks for word in model.words(state)), model.outcome(state)[1]


def outcomes(model: Model, states: set[int]) -> set[tuple[int, tuple[tuple[int, int], ...]]]:
    """What the states can be told apart by from outside: certificates, and the parents of notarised blocks."""
    found = set()
    for state in states:
        certified, parents = model.outcome(model.merged(state))
        notarised = [
            number for number in range(1, 2 * model.views + 1) if certified >> (number - 1) // 2 * 6 & (2 - number % 2)
        ]
        chain = tuple((number, model.parent_of(parents, number) or 0) for number in notarised)
        # Where one of two twins is notarised it is called A.
        for view in range(1, model.views + 1):
            held = certified >> (view - 1) * 6
            if held & 2 and not held & 1:
                certified ^= (3 | (24 if held & 24 else 0)) << (view - 1) * 6
                names = {2 * view: 2 * view - 1}
                chain = tuple((names.get(number, number), names.get(parent, parent)) for number, parent in chain)
        found.add((certified, chain))
    return found


# --- the theorem ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("faulty", choices(4, 1), ids=str)
def test_one_faulty_of_four_breaks_nothing(faulty: tuple[int, ...]) -> None:
    for model in (Model(views=2, faulty=faulty), Model(views=4, faulty=faulty, condensed=True)):
        found = survey(model)
        assert found.findings == ()
        assert found.complete


def test_nobody_faulty_breaks_nothing() -> None:
    assert survey(Model(views=3, condensed=True)).findings == ()


@pytest.mark.parametrize("faulty", choices(4, 2), ids=str)
def test_two_faulty_of_four_break_agreement_and_the_way_there_is_told(faulty: tuple[int, ...]) -> None:
    found = survey(Model(views=3, faulty=faulty))
    finding = found.findings[-1]
    assert finding.property == "agreement"
    assert finding.votes == (4 if 1 in faulty else 5), "shorter where the first leader can propose two blocks"
    assert sum(line.endswith(" is final") for line in finding.trace) == 2
    assert not found.complete


def test_the_shortest_run_with_two_faulty() -> None:
    assert survey(Model(faulty=(1, 2))).findings[-1].trace == (
        "node-1 (faulty) proposes 1A on the genesis",
        "node-0 notarises 1A",
        "    1A is notarised",
        "node-0 finalises 1A",
        "    1A is final",
        "node-1 (faulty) proposes 1B on the genesis",
        "node-3 notarises 1B",
        "    1B is notarised",
        "node-3 finalises 1B",
        "    1B is final",
    )


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("condensed", [False, True], ids=["full", "condensed"])
def test_without_any_of_the_rules_agreement_breaks(rule: Rule, condensed: bool) -> None:
    """The first leader is the faulty one: the rules against two blocks of a leader matter only then."""
    found = survey(Model(views=2, faulty=(1,), without=rule, condensed=condensed))
    votes = {Rule.ONE_BLOCK: 10, Rule.PARENT: 9, Rule.GAP: 8, Rule.EXCLUSIVE: 10, Rule.QUORUM: 4}
    assert [finding.property for finding in found.findings][-1] == "agreement"
    assert found.findings[-1].votes == votes[rule]


# --- what keeps the search small ------------------------------------------------------------------------------------


@pytest.mark.parametrize("faulty", [(), (1,), (1, 2)], ids=str)
def test_every_set_of_votes_can_be_cast_view_by_view(faulty: tuple[int, ...]) -> None:
    views = 2 if faulty else 1
    ordered, free = Model(views=views, faulty=faulty), Model(views=views, faulty=faulty, in_order=False)
    in_order, any_order = reached(ordered, merged=False), reached(free, merged=False)
    assert {votes_of(ordered, state) for state in in_order} == {votes_of(free, state) for state in any_order}


@pytest.mark.parametrize("faulty", [(0,), (1,), (2,)], ids=str)
def test_merging_loses_no_state_and_makes_none_up(faulty: tuple[int, ...]) -> None:
    model = Model(views=2, faulty=faulty)
    every = reached(model, merged=False)
    merged = {model.merged(state) for state in every}
    assert merged == reached(model, merged=True)
    assert len(merged) == survey(model).states
    assert len(every) > 2 * len(merged)


@pytest.mark.parametrize("faulty", [(0,), (1,), (2,)], ids=str)
def test_merged_states_differ_by_names_only(faulty: tuple[int, ...]) -> None:
    model = Model(views=2, faulty=faulty)
    for state in sorted(reached(model, merged=True))[::97]:
        words, parents = model.words(state), model.outcome(state)[1]
        assert {model.merged(model.pack(list(order), parents)) for order in permutations(words)} == {state}


@pytest.mark.parametrize("faulty", [(0,), (1,), (2,)], ids=str)
def test_condensing_what_is_over_loses_no_outcome(faulty: tuple[int, ...]) -> None:
    full, condensed = Model(views=2, faulty=faulty), Model(views=2, faulty=faulty, condensed=True)
    small = reached(condensed, merged=True)
    assert outcomes(full, reached(full, merged=True)) == outcomes(condensed, small)
    assert len(small) < 500


def test_what_cannot_be_asked() -> None:
    with pytest.raises(ValueError, match="quorum alone"):
        Model(faulty=(0, 1, 2))
    with pytest.raises(ValueError, match="in their order"):
        Model(faulty=(0,), in_order=False, condensed=True)


# --- beside the engine ----------------------------------------------------------------------------------------------


def replay(faulty: int, seeds: range, *, forgetful: bool = False) -> Counter[str]:
    counts: Counter[str] = Counter()
    for seed in seeds:
        path = Replay(faulty, 3 + seed % 3, seed, forgetful=forgetful)
        path.walk(40)
        counts += path.counts
    return counts


@pytest.mark.parametrize("faulty", range(4))
def test_real_engines_vote_as_the_model_allows(faulty: int) -> None:
    counts = replay(faulty, range(120))
    assert counts["as drawn"] > 1_200
    assert counts["as drawn"] > 2 * (counts["otherwise"] + counts["nothing"]), "the engine takes most ways of the model"
    assert counts["paths with a final block"] > 30
    assert min(counts[kind] for kind in ("notarise", "nullify", "finalise", "restarts")) > 60


def test_an_engine_that_forgets_its_votes_is_caught() -> None:
    with pytest.raises(AssertionError, match="may not"):
        replay(1, range(40), forgetful=True)


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_tells_what_it_saw() -> None:
    done = CliRunner().invoke(app, ["sim", "model", "--condensed", "--json"])
    told = json.loads(done.stdout)
    assert done.exit_code == 0
    assert (told["schema"], told["nodes"], told["faulty"], told["views"]) == ("p2pledger.sim.model/1", 4, 1, 3)
    assert told["violations"] == {}
    assert told["complete"]
    assert [case["faulty"] for case in told["cases"]] == [[0], [1], [2], [3]]
    assert told["states"] == sum(case["states"] for case in told["cases"]) > 5_000


def test_the_command_fails_where_agreement_does() -> None:
    done = CliRunner().invoke(app, ["sim", "model", "--faulty", "2"])
    assert done.exit_code == 1
    assert "Agreement is broken. A shortest run, 4 honest votes:" in done.stdout
    assert all(f"{name}:" in done.stdout for name in PROPERTIES)
    assert "bounds:" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["--without", "luck"], ["--condensed", "--any-order"], ["--faulty", "3"], ["--views", "0"]]
)
def test_the_command_refuses_what_it_cannot_do(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["sim", "model", *arguments]).exit_code == 2
