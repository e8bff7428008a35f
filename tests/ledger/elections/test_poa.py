"""Authorities are those whom the genesis seats, less those on record."""

from p2pledger.ledger.elections import poa
from p2pledger.ledger.tables import EvidenceRow, Table, evidence_key
from tests.ledger.engines import PRODUCERS, Chain, network
from tests.ledger.small_market import altered, key


def test_they_are_the_validators_of_the_genesis() -> None:
    chain = Chain(network("poa"))
    assert poa.authorities(chain.version) == chain.genesis.validator_set


def test_weights_stay_with_those_who_are_left() -> None:
    version = Chain(network("poa")).version
    keys = sorted(key(name).public_key for name in PRODUCERS)
    for number, culprit in enumerate(keys[:3]):
        version = altered(version, Table.EVIDENCE, evidence_key(culprit, 0), EvidenceRow(1, 3, 5).encode())
        left = poa.authorities(version)
        assert tuple(seat.key for seat in left.members) == tuple(keys[number + 1 :])
        assert left.total_weight == 3 - number
    version = altered(version, Table.EVIDENCE, evidence_key(keys[3], 0), EvidenceRow(1, 3, 5).encode())
    assert len(poa.authorities(version)) == 4, "nobody to go on with: all stay"


def test_a_stranger_on_record_concerns_nobody() -> None:
    chain = Chain(network("poa"))
    version = altered(chain.version, Table.EVIDENCE, evidence_key(b"s" * 32, 0), EvidenceRow(1, 3, 5).encode())
    assert poa.authorities(version) == chain.genesis.validator_set
