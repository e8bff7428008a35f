"""Instructions as bytes: identifiers, the digest that is affirmed, and what fits a transaction."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from p2pledger.primitives.codec import encode
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.market.calendars import SetCalendar
from p2pledger.primitives.market.instructions import (
    INSTRUCTION_OPERATIONS,
    MOST_LEGS,
    AddLegs,
    Instruct,
    Leg,
    Origin,
    legs_digest,
    terms_digest,
)
from p2pledger.primitives.market.offers import OFFER_OPERATIONS, PlaceOffer
from p2pledger.primitives.parameters import Parameters
from p2pledger.primitives.transactions import SignedTransaction, Transaction

ALICE, BOB = b"a" * 32, b"b" * 32
BOND = b"DE0005140008CSDC"
TERMS = terms_digest(1, 2, "")
legs = st.lists(
    st.builds(Leg, st.binary(min_size=32, max_size=32), st.just(BOB), st.just(BOND), st.integers(0, 2**64 - 1)),
    max_size=12,
)


def test_the_operations_have_the_codes_from_50_on_without_a_gap() -> None:
    codes = [kind.code for kind in (*INSTRUCTION_OPERATIONS, *OFFER_OPERATIONS, SetCalendar)]
    assert sorted(codes) == list(range(50, 62))


def test_the_digest_of_terms_and_one_leg_is_written_down() -> None:
    terms = hashlib.sha256(b"p2pl.lg1" + encode((1, 2, "X"))).digest()
    assert terms_digest(1, 2, "X") == terms
    entered = Instruct(ALICE, bytes(16), Origin.PARTY, b"", "", 1, 2, "X", 0, 1, (Leg(ALICE, BOB, BOND, 7),))
    row = encode((ALICE, BOB, BOND, 7))
    assert entered.digest == hashlib.sha256(b"p2pl.lg1" + terms + row).digest()


@given(legs, st.data())
def test_the_digest_does_not_depend_on_how_legs_were_uploaded(all_legs: list[Leg], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(all_legs)))
    assert legs_digest(all_legs[at:], legs_digest(all_legs[:at], TERMS)) == legs_digest(all_legs, TERMS)


@given(legs)
def test_the_digest_depends_on_every_leg_and_their_order(all_legs: list[Leg]) -> None:
    assert legs_digest([*all_legs, Leg(ALICE, BOB, BOND, 1)], TERMS) != legs_digest(all_legs, TERMS)
    turned = all_legs[::-1]
    assert (legs_digest(turned, TERMS) == legs_digest(all_legs, TERMS)) is (turned == all_legs)


def test_identifiers_are_of_the_maker_the_salt_and_the_kind() -> None:
    def entered(by: bytes, salt: bytes) -> Instruct:
        return Instruct(by, salt, Origin.PARTY, b"", "", 0, 0, "", 0, 1, ())

    salt = bytes(16)
    ids = {
        entered(ALICE, salt).id,
        entered(BOB, salt).id,
        entered(ALICE, b"s" * 16).id,
        PlaceOffer(ALICE, salt, BOND, 1, BOND, 1, 1, 1, b"").id,
    }
    assert len(ids) == 4
    assert entered(ALICE, salt).id == hashlib.sha256(b"p2pl.ob1" + b"\x32" + ALICE + salt).digest()


def test_a_thousand_legs_fit_two_transactions_and_the_most_legs_four() -> None:
    def size_bytes(count: int) -> int:
        part = tuple(Leg(ALICE, BOB, BOND, 2**64 - 1) for _ in range(count))
        body = Transaction(bytes(8), 2**63, bytes(16), ALICE, (AddLegs(bytes(32), ALICE, MOST_LEGS, part),), 2**63)
        signed = body.sign([Keypair.from_seed(bytes([number] * 32)) for number in range(16)])
        assert SignedTransaction.decode(signed).transaction == body
        return len(signed)

    assert MOST_LEGS >= 1_000
    assert size_bytes(512) <= Parameters().max_transaction_bytes
    assert -(-MOST_LEGS // 512) == 4
