"""Policies: thresholds over weighted keys, in one form only."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger.primitives.codec import U64_MAX, Value
from p2pledger.primitives.errors import InvalidInput, PeerFault
from p2pledger.primitives.policies import MAX_POLICY_KEYS, Policy

A, B, C, D = (bytes([number]) * 32 for number in range(4))
keys = st.binary(min_size=32, max_size=32)


@given(st.dictionaries(keys, st.integers(1, 2**32 - 1), min_size=1, max_size=MAX_POLICY_KEYS), st.data())
def test_a_policy_is_satisfied_by_weight(weights: dict[bytes, int], data: st.DataObject) -> None:
    threshold = data.draw(st.integers(1, sum(weights.values())))
    policy = Policy(threshold, tuple(sorted(weights.items())), data.draw(st.integers(1, U64_MAX)))
    assert Policy.decode(policy.values()) == policy
    signers = data.draw(st.sets(st.sampled_from(sorted(weights)))) | data.draw(st.sets(keys, max_size=3))
    expected = sum(weight for key, weight in weights.items() if key in signers) >= threshold
    assert policy.satisfied_by(signers) is expected
    assert policy.satisfied_by([*signers, *signers]) is expected, "signing twice counts once"
    assert policy.satisfied_by(weights)
    assert not policy.satisfied_by([])


def test_two_of_three() -> None:
    policy = Policy.of(C, A, B, threshold=2)
    assert [key for key, _ in policy.keys] == [A, B, C]
    for count in range(4):
        for signers in itertools.combinations((A, B, C), count):
            assert policy.satisfied_by((*signers, D)) is (count >= 2)


@pytest.mark.parametrize(
    "values",
    [
        1,
        (1, ((A, 1),)),
        (1, ((A, 1),), 1, 0),
        (0, ((A, 1),), 1),
        (2, ((A, 1),), 1),
        (1, (), 1),
        (1, ((A, 0),), 1),
        (1, ((A, 1), (B, 0)), 1),
        (1, ((A, 2**32),), 1),
        (1, ((A, 1), (A, 1)), 1),
        (1, ((B, 1), (A, 1)), 1),
        (1, ((A[:31], 1),), 1),
        (1, ((A,),), 1),
        (1, ((A, 1, 1),), 1),
        (1, ((A, True),), 1),
        (1, ((A, 1),), 0),
        (1, (A, 1), 1),
        (1, tuple((bytes([number]) * 32, 1) for number in range(MAX_POLICY_KEYS + 1)), 1),
    ],
)
def test_every_other_form_is_refused(values: Value) -> None:
    with pytest.raises(PeerFault) as caught:
        Policy.decode(values)
    assert caught.value.code == "malformed"


def test_weights_and_versions_reach_their_limits() -> None:
    policy = Policy(2**32, ((A, 2**32 - 1), (B, 2**32 - 1)), U64_MAX)
    assert Policy.decode(policy.values()) == policy
    assert not policy.satisfied_by([A])
    assert policy.satisfied_by([A, B])


def test_an_impossible_policy_is_the_callers_mistake() -> None:
    for make in (lambda: Policy.of(A, threshold=2), lambda: Policy.of(), lambda: Policy.of(b"short")):
        with pytest.raises(InvalidInput) as caught:
            make()
        assert caught.value.code == "bad_policy"
