"""Quorum arithmetic, on which all safety rests, for every small number of validators and for weights."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger.primitives.codec import encode
from p2pledger.primitives.errors import BadConfiguration
from p2pledger.primitives.hashing import tagged_hash
from p2pledger.primitives.validators import Validator, Validators, faulty_of, quorum_of


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def seats(*weights: int) -> Validators:
    return Validators.of(0, [Validator(key(number), weight) for number, weight in enumerate(weights)])


@pytest.mark.parametrize("n", range(1, 41))
def test_quorums_of_n_equal_validators(n: int) -> None:
    f, quorum = faulty_of(n), quorum_of(n)
    assert 3 * f < n <= 3 * (f + 1)  # as many as can be tolerated, and no more
    assert 2 * quorum - n > f, "two quorums share an honest validator"
    assert n - f >= quorum, "the honest ones alone are a quorum"
    if n == 3 * f + 1:
        assert 2 * (quorum - 1) - n <= f, "where n uses its faults up, no smaller quorum would do"
    assert seats(*[1] * n).quorum == quorum


def test_well_known_sizes() -> None:
    assert [(n, faulty_of(n), quorum_of(n)) for n in (1, 2, 3, 4, 5, 6, 7, 10, 40)] == [
        (1, 0, 1), (2, 0, 2), (3, 0, 3), (4, 1, 3), (5, 1, 4), (6, 1, 5), (7, 2, 5), (10, 3, 7), (40, 13, 27),
    ]  # fmt: skip


@given(st.integers(1, 2**80))
def test_the_two_promises_hold_for_any_total_weight(total: int) -> None:
    f, quorum = faulty_of(total), quorum_of(total)
    assert 3 * f < total
    assert 2 * quorum - total > f
    assert total - f >= quorum


@given(st.lists(st.integers(1, 9), min_size=1, max_size=7))
def test_any_two_quorums_of_weighted_validators_share_an_honest_one(weights: list[int]) -> None:
    """By counting all pairs of quorums, not by the formula."""
    validators = seats(*weights)
    everybody = range(len(weights))
    subsets = [set(chosen) for size in range(len(weights) + 1) for chosen in itertools.combinations(everybody, size)]
    quorums = [chosen for chosen in subsets if validators.weight_of(chosen) >= validators.quorum]
    tolerated = faulty_of(validators.total_weight)
    for first, second in itertools.product(quorums, quorums):
        assert validators.weight_of(first & second) > tolerated
    for faulty in subsets:
        if validators.weight_of(faulty) <= tolerated:
            assert set(everybody) - faulty in quorums


def test_validators_are_ordered_by_key_and_lead_in_turn() -> None:
    validators = Validators.of(3, [Validator(key(9), 2, "z"), Validator(key(1), 5, "a"), Validator(key(4), 1, "m")])
    assert [member.name for member in validators.members] == ["a", "m", "z"]
    assert [validators.leader(view) for view in range(1, 8)] == [1, 2, 0, 1, 2, 0, 1]
    assert [validators.signer_of(key(number)) for number in (1, 4, 9, 5)] == [0, 1, 2, None]
    assert (len(validators), validators.total_weight, validators.quorum) == (3, 8, 6)
    assert validators.weight_of([2, 0]) == 7
    assert validators.weight_of([]) == 0


def test_the_hash_commits_to_keys_and_weights_only() -> None:
    expected = tagged_hash(b"p2pl.vs1", encode([[key(0), 4], [key(1), 5]]))
    assert seats(4, 5).hash == expected
    assert Validators.of(7, [Validator(key(1), 5, "named"), Validator(key(0), 4)]).hash == expected
    assert seats(5, 4).hash != expected


@pytest.mark.parametrize(
    "members",
    [
        (),
        (Validator(key(1)), Validator(key(1))),
        (Validator(key(2)), Validator(key(1))),
        (Validator(b"short"),),
        (Validator(key(1), 0),),
        (Validator(key(1), -1),),
        (Validator(key(1), 2**32),),
    ],
)
def test_impossible_sets_are_refused(members: tuple[Validator, ...]) -> None:
    with pytest.raises(BadConfiguration):
        Validators(0, members)


@pytest.mark.parametrize("signers", [[0, 0], [-1], [4], [0, 1, 2, 3, 4]])
def test_repeated_and_foreign_signers_have_no_weight(signers: list[int]) -> None:
    with pytest.raises(ValueError):
        seats(1, 1, 1, 1).weight_of(signers)
