"""Validators are seated by a quorum of those before them; who contradicts himself loses his seat."""

from dataclasses import replace

import pytest

from p2pledger.ledger.books import validators_in_force
from p2pledger.ledger.elections import poa
from p2pledger.ledger.elections.dpos import Schedule
from p2pledger.ledger.queries import account_of, native_of
from p2pledger.ledger.tables import EvidenceRow, Table, evidence_key
from p2pledger.primitives import transactions as tx
from p2pledger.primitives.names import account_of_key
from p2pledger.primitives.reasons import Reason
from p2pledger.primitives.transactions import SetValidators
from p2pledger.primitives.validators import Validator
from tests.ledger.engines import PRODUCERS, Chain, network
from tests.ledger.small_market import account, key
from tests.ledger.test_engines import seals_against, votes_against

ALICE, BOB = account("alice"), account("bob")
SEATS = tuple(Validator(key(name).public_key, weight, name) for name, weight in (("node-0", 1), ("new", 5)))


def chain_of(engine: str = "simplex") -> Chain:
    """Epochs of four heights."""
    return Chain(network(engine, epoch_blocks=4, delegates=4, epoch_rounds=2))


def approved(chain: Chain, epoch: int, *names: str, seats: tuple[Validator, ...] = SEATS) -> SetValidators:
    return SetValidators.approved(chain.spec.network_id, epoch, seats, [key(name) for name in names])


def test_a_quorum_seats_the_validators_of_the_epoch_after_the_next() -> None:
    chain = chain_of()
    assert chain.titles(chain.signed(approved(chain, 2, *PRODUCERS[:3]), "alice")) == ["ok"]
    assert {seat.key for seat in validators_in_force(chain.version, 1).members} == {
        key(name).public_key for name in PRODUCERS
    }
    for epoch in (2, 3, 1_000):
        seated = validators_in_force(chain.version, epoch)
        assert (seated.epoch, seated.members) == (epoch, tuple(sorted(SEATS)))
    assert account_of(chain.version, account_of_key(key("new").public_key)) is not None
    # From epoch 2 on those who are seated then decide: the newcomer alone has 5 of 6.
    chain.run(8)
    assert chain.spec.epoch_of(chain.height) == 2
    assert chain.titles(chain.signed(approved(chain, 4, *PRODUCERS), "alice")) == ["too_few_approvals"]
    assert chain.titles(chain.signed(approved(chain, 4, "new"), "alice")) == ["ok"]


def test_approvals_are_counted_once_by_weight_and_only_if_they_are_valid() -> None:
    chain = chain_of()
    enough = approved(chain, 2, *PRODUCERS[:3])
    strangers = approved(chain, 2, *PRODUCERS[:2], "alice", "bob", "new")
    forged = replace(enough, approvals=(*enough.approvals[:2], (enough.approvals[2][0], bytes(64))))
    other_seats = replace(enough, seats=enough.seats[:1])
    other_epoch = replace(approved(chain, 3, *PRODUCERS[:3]), epoch=2)
    elsewhere = SetValidators.approved(b"elsewher", 2, SEATS, [key(name) for name in PRODUCERS])
    too_few = (approved(chain, 2, *PRODUCERS[:2]), strangers, forged, other_seats, other_epoch, elsewhere)
    titles = chain.titles(*(chain.signed(operation, "alice") for operation in too_few))
    assert titles == ["too_few_approvals"] * len(too_few)
    assert chain.version.count(Table.VALIDATORS) == 1


def test_the_present_and_the_next_epoch_are_fixed_and_the_one_after_is_set_once() -> None:
    chain = chain_of()
    for epoch in (0, 1, 3, 2**63):
        assert chain.titles(chain.signed(approved(chain, epoch, *PRODUCERS), "alice")) == ["bad_epoch"]
    assert chain.titles(chain.signed(approved(chain, 3, *PRODUCERS), "alice")) == ["ok"], "height 5 is in epoch 1"
    others = approved(chain, 3, *PRODUCERS, seats=SEATS[:1])
    assert chain.titles(chain.signed(others, "alice")) == ["bad_epoch"]
    with_both = (approved(chain, 3, *PRODUCERS), tx.Pay(ALICE, BOB, 1))
    assert chain.titles(chain.signed(with_both, "alice")) == ["bad_epoch"]
    assert native_of(chain.version, BOB) == 100_000


def test_who_signs_two_blocks_of_a_view_is_out_from_the_next_open_epoch_on() -> None:
    chain = chain_of()
    culprit = key("node-1").public_key
    first, second = votes_against(chain, "node-1", 0, 7)
    assert chain.titles(chain.signed(tx.Report(first, second), "alice")) == ["ok"]
    row = chain.version.get(Table.EVIDENCE, evidence_key(culprit, 0))
    assert row == EvidenceRow(height=1, kind=1, view=7).encode()
    assert validators_in_force(chain.version, 1).signer_of(culprit) is not None
    assert validators_in_force(chain.version, 2).signer_of(culprit) is None
    assert len(validators_in_force(chain.version, 2)) == 3
    # Once is enough, whichever view and order; and it is not seated again.
    again = (tx.Report(second, first), tx.Report(*votes_against(chain, "node-1", 0, 9)))
    assert chain.titles(*(chain.signed(operation, "alice") for operation in again)) == ["already_reported"] * 2
    chain.run(4)
    seats = (*SEATS, Validator(culprit, 1, "node-1"))
    assert chain.titles(chain.signed(approved(chain, 3, *PRODUCERS, seats=seats), "alice")) == ["bad_seats"]
    # What it did in the next epoch is another row.
    assert chain.titles(chain.signed(tx.Report(*votes_against(chain, "node-1", 1, 12)), "alice")) == ["ok"]
    assert chain.version.count(Table.EVIDENCE) == 2


def test_two_culprits_at_once_and_seats_that_were_set_before() -> None:
    chain = chain_of()
    seats = tuple(Validator(key(name).public_key, 1, name) for name in (*PRODUCERS, "new"))
    reports = tuple(tx.Report(*votes_against(chain, name, 0, 3)) for name in ("node-0", "node-2"))
    setting = approved(chain, 2, *PRODUCERS, seats=seats)
    assert chain.titles(chain.signed((setting, *reports), "alice")) == ["ok"]
    left = {seat.name for seat in validators_in_force(chain.version, 2).members}
    assert left == {"node-1", "node-3", "new"}
    # Within one transaction, too, nobody is seated who was reported in it.
    chain = chain_of()
    assert chain.titles(chain.signed((*reports, setting), "alice")) == ["bad_epoch"]


def test_the_last_validator_keeps_its_seat() -> None:
    chain = chain_of()
    assert (
        chain.titles(*(chain.signed(tx.Report(*votes_against(chain, name, 0, 3)), "alice") for name in PRODUCERS))
        == ["ok"] * 4
    )
    assert len(validators_in_force(chain.version, 2)) == 1
    assert chain.version.count(Table.EVIDENCE) == 4


def test_an_authority_that_seals_two_blocks_of_a_slot_has_no_turn_any_more() -> None:
    chain = chain_of("poa")
    assert len(poa.authorities(chain.version)) == 4
    assert chain.titles(chain.signed(tx.Report(*seals_against(chain, "node-1", 5)), "alice")) == ["ok"]
    left = poa.authorities(chain.version)
    assert (len(left), left.signer_of(key("node-1").public_key)) == (3, None)
    for name in PRODUCERS:
        chain.block(chain.signed(tx.Report(*seals_against(chain, name, 5)), "alice"))
    assert len(poa.authorities(chain.version)) == 4, "somebody must go on"


def test_a_delegate_that_seals_two_blocks_of_a_slot_is_elected_no_more() -> None:
    chain = chain_of("dpos")
    culprit = key("node-3").public_key
    assert chain.titles(chain.signed(tx.Report(*seals_against(chain, "node-3", 5)), "alice")) == ["ok"]
    serving = [Schedule.read(chain.version, chain.spec.parameters).serving(slot) for slot in (7, 8)]
    assert [culprit in keys for keys in serving] == [True, False]


REFUSED = {
    "seats under pow": ("pow", lambda chain: approved(chain, 2, *PRODUCERS), Reason.WRONG_ENGINE),
    "seats under dpos": ("dpos", lambda chain: approved(chain, 2, *PRODUCERS), Reason.WRONG_ENGINE),
    "report under pow": ("pow", lambda chain: tx.Report(*seals_against(chain, "node-1", 5)), Reason.WRONG_ENGINE),
    "report under pos": ("pos", lambda chain: tx.Report(*seals_against(chain, "node-1", 5)), Reason.WRONG_ENGINE),
    "noise": ("simplex", lambda chain: tx.Report(b"a", b"b"), Reason.BAD_EVIDENCE),
    "the same twice": ("simplex", lambda chain: tx.Report(*votes_against(chain, "node-1", 0, 3)[:1] * 2),
                       Reason.BAD_EVIDENCE),
    "seals under simplex": ("simplex", lambda chain: tx.Report(*seals_against(chain, "node-1", 5)),
                            Reason.BAD_EVIDENCE),
    "votes under poa": ("poa", lambda chain: tx.Report(*votes_against(chain, "node-1", 0, 3)), Reason.BAD_EVIDENCE),
    "votes of an epoch that is not fixed": ("simplex", lambda chain: tx.Report(*votes_against(chain, "node-1", 2, 3)),
                                            Reason.BAD_EVIDENCE),
    "seals of a stranger (poa)": ("poa", lambda chain: tx.Report(*seals_against(chain, "new", 5)),
                                  Reason.BAD_EVIDENCE),
    "seals of a stranger (dpos)": ("dpos", lambda chain: tx.Report(*seals_against(chain, "new", 5)),
                                   Reason.BAD_EVIDENCE),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_each_rule_refuses_with_its_reason(name: str) -> None:
    engine, operation, reason = REFUSED[name]
    chain = chain_of(engine)
    [receipt] = chain.block(chain.signed(operation(chain), "alice"))
    assert (receipt.reason, receipt.operation) == (reason, 0)
    assert (chain.version.count(Table.EVIDENCE), chain.version.count(Table.VALIDATORS)) == (0, 1)


def test_anybody_may_hand_in_what_others_have_signed_but_pays_for_it() -> None:
    chain = chain_of()
    operation = approved(chain, 2, *PRODUCERS)
    assert chain.titles(chain.signed(operation, "alice", max_fee=1)) == ["fee_too_low"]
    assert chain.titles(chain.signed(operation, "bob", payer=ALICE)) == ["unauthorised"]
    assert chain.titles(chain.signed(operation, "bob")) == ["ok"]


def test_the_validators_of_an_epoch_are_found_among_many() -> None:
    """More rows than one page of the state."""
    chain = chain_of()
    branch = chain.version.branch()
    row = chain.version.get(Table.VALIDATORS, bytes(8)) or b""
    for epoch in range(3, 1_500, 3):
        branch.put(Table.VALIDATORS, epoch.to_bytes(8, "big"), row)
    branch.put(Table.VALIDATORS, (768).to_bytes(8, "big"), row.replace(b"node-0", b"node-X"))
    version = branch.commit()
    for epoch, changed in ((767, False), (768, True), (770, True), (771, False), (10_000, False), (0, False)):
        names = {seat.name for seat in validators_in_force(version, epoch).members}
        assert ("node-X" in names) is changed
