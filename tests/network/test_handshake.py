"""The handshake as values: who gets in, who does not and why, and that a hello is worth nothing elsewhere."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger.network.effects import CLIENT, OBSERVER, VALIDATOR, Identity
from p2pledger.network.frames import HANDSHAKE_LIMIT_BYTES
from p2pledger.network.handshake import (
    Accept,
    Handshake,
    Hello,
    LocalEnd,
    Refuse,
    Refused,
    decode_handshake,
    hello_message,
)
from p2pledger.primitives.codec import encode
from p2pledger.primitives.errors import InvalidInput, PeerFault
from p2pledger.primitives.keys import Keypair

GENESIS = bytes(range(32))
ALICE = LocalEnd(GENESIS, Keypair.from_seed(b"a" * 32), VALIDATOR, "alice")
BOB = LocalEnd(GENESIS, Keypair.from_seed(b"b" * 32), VALIDATOR, "bob")
ALICE_CERTIFICATE, BOB_CERTIFICATE, MALLORY_CERTIFICATE = b"alice's DER", b"bob's DER", b"mallory's DER"


def welcome(identity: Identity) -> None:
    return None


def at_bob(local: LocalEnd = BOB, **changes: object) -> Handshake:
    settings = {"certificate": BOB_CERTIFICATE, "peer_certificate": ALICE_CERTIFICATE, "admit": welcome, **changes}
    return Handshake(local, **settings)  # type: ignore[arg-type]


def at_alice(local: LocalEnd = ALICE, **changes: object) -> Handshake:
    settings = {"certificate": ALICE_CERTIFICATE, "peer_certificate": BOB_CERTIFICATE, "admit": welcome, **changes}
    return Handshake(local, **settings)  # type: ignore[arg-type]


def hello_of(local: LocalEnd, **changes: object) -> bytes:
    """Alice's hello to Bob with some fields changed *before* she signs."""
    message = hello_message(
        changes.get("genesis_hash", local.genesis_hash),  # type: ignore[arg-type]
        changes.get("role", local.role),  # type: ignore[arg-type]
        ALICE_CERTIFICATE,
        BOB_CERTIFICATE,
    )
    hello = decode_handshake(at_alice(local).hello())
    assert isinstance(hello, Hello)
    return replace(hello, **{"signature": local.keypair.sign(message), **changes}).encode()


def refusal_of(payload: bytes, handshake: Handshake | None = None) -> str:
    with pytest.raises(PeerFault) as caught:
        (handshake or at_bob()).receive(payload)
    return caught.value.code


def test_two_nodes_get_to_know_each_other() -> None:
    alice, bob = at_alice(expected_key=BOB.keypair.public_key), at_bob()
    to_bob, to_alice = alice.hello(), bob.hello()
    accepted_by_bob, accepted_by_alice = bob.receive(to_bob), alice.receive(to_alice)
    assert accepted_by_bob is not None
    assert accepted_by_alice is not None
    assert bob.identity is None  # Not before Alice has accepted, too.
    assert bob.receive(accepted_by_alice) is None
    assert alice.receive(accepted_by_bob) is None
    assert bob.identity == Identity(ALICE.keypair.public_key, VALIDATOR, "alice")
    assert alice.identity == Identity(BOB.keypair.public_key, VALIDATOR, "bob")


@pytest.mark.parametrize("role", [VALIDATOR, OBSERVER, CLIENT])
def test_the_role_is_told(role: int) -> None:
    bob = at_bob()
    bob.receive(hello_of(ALICE, role=role))
    bob.receive(Accept(1).encode())
    assert bob.identity is not None
    assert bob.identity.role == role


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"wire_versions": (2, 3)}, "unknown_wire_version"),
        ({"wire_versions": ()}, "unknown_wire_version"),
        ({"network_id": bytes(8)}, "wrong_network"),
        ({"genesis_hash": GENESIS[:8] + bytes(24)}, "wrong_genesis"),
        ({"role": 3}, "unknown_role"),
        ({"signature": bytes(64)}, "bad_signature"),
    ],
)
def test_strangers_are_refused_by_name(changes: dict[str, object], code: str) -> None:
    assert refusal_of(hello_of(ALICE, **changes)) == code


def test_a_newer_node_that_still_speaks_our_version_is_welcome() -> None:
    assert at_bob().receive(hello_of(ALICE, wire_versions=(2, 1))) == Accept(1).encode()


def test_a_changed_field_breaks_the_signature() -> None:
    """Role and genesis are signed; the name is talk."""
    hello = decode_handshake(hello_of(ALICE))
    assert isinstance(hello, Hello)
    assert refusal_of(replace(hello, role=CLIENT).encode()) == "bad_signature"
    assert at_bob().receive(replace(hello, name="nobody").encode()) is not None


def test_somebody_else_s_key_needs_somebody_else_s_signature() -> None:
    assert refusal_of(hello_of(ALICE, node_key=Keypair.from_seed(b"c" * 32).public_key)) == "bad_signature"


def test_a_hello_is_worth_nothing_in_another_tls_session() -> None:
    """Replayed by Mallory, who shows her own certificate; and relayed to Bob, whom Alice never called."""
    hello = hello_of(ALICE)
    assert at_bob().receive(hello) is not None
    assert refusal_of(hello, at_bob(peer_certificate=MALLORY_CERTIFICATE)) == "bad_signature"
    meant_for_mallory = at_alice(peer_certificate=MALLORY_CERTIFICATE).hello()
    assert refusal_of(meant_for_mallory) == "bad_signature"


def test_one_s_own_hello_is_refused() -> None:
    assert refusal_of(hello_of(BOB)) == "own_key"
    bob = at_bob()
    assert refusal_of(bob.hello(), bob) == "own_key"


def test_the_one_who_was_called_must_answer() -> None:
    handshake = at_bob(expected_key=Keypair.from_seed(b"c" * 32).public_key)
    assert refusal_of(hello_of(ALICE), handshake) == "wrong_peer"


def test_admission_decides_last_and_only_about_proven_keys() -> None:
    asked = []

    def admit(identity: Identity) -> tuple[str, str]:
        asked.append(identity.node_key)
        return "unknown_node", "no validator has this key"

    assert refusal_of(hello_of(ALICE, signature=bytes(64)), at_bob(admit=admit)) == "bad_signature"
    assert asked == []
    assert refusal_of(hello_of(ALICE), at_bob(admit=admit)) == "unknown_node"
    assert asked == [ALICE.keypair.public_key]


def test_a_refusal_reaches_the_other_end_with_its_code() -> None:
    refusal = Handshake.refusal(PeerFault("no validator has this key", code="unknown_node"))
    alice = at_alice()
    alice.receive(at_bob().hello())
    with pytest.raises(Refused, match="no validator has this key") as caught:
        alice.receive(refusal)
    assert caught.value.code == "unknown_node"


def test_a_refusal_may_come_instead_of_hello() -> None:
    with pytest.raises(Refused):
        at_alice().receive(Refuse("too_busy", "later").encode())


def test_a_long_sentence_is_cut_to_what_the_other_end_reads() -> None:
    message = decode_handshake(Refuse("malformed", "é" * 1_000).encode())
    assert isinstance(message, Refuse)
    assert len(message.sentence.encode()) == 512


@pytest.mark.parametrize(
    "payload",
    [
        Accept(1).encode(),
        encode((30, 1, ())),
        encode(()),
        encode(7),
        encode((1,)),
        b"\xc1",
        encode((True, 1)),
        encode((3, "Not A Code", "sentence")),
        encode((1, (1, "1"), bytes(8), bytes(32), bytes(32), 0, "name", bytes(64))),
    ],
)
def test_nothing_but_a_handshake_is_read_first(payload: bytes) -> None:
    assert refusal_of(payload) == "malformed"


def test_hello_comes_once() -> None:
    bob = at_bob()
    bob.receive(hello_of(ALICE))
    assert refusal_of(hello_of(ALICE), bob) == "malformed"


def test_accept_names_a_version_that_was_offered() -> None:
    bob = at_bob()
    bob.receive(hello_of(ALICE))
    assert refusal_of(Accept(9).encode(), bob) == "unknown_wire_version"


@given(st.data())
def test_mutated_hellos_are_refused_and_never_crash(data: st.DataObject) -> None:
    payload = bytearray(hello_of(ALICE))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at] = data.draw(st.integers(0, 255))
    del payload[data.draw(st.integers(1, len(payload))) :]
    try:
        at_bob().receive(bytes(payload))
    except (PeerFault, Refused):
        return
    hello, original = decode_handshake(bytes(payload)), decode_handshake(hello_of(ALICE))
    assert isinstance(hello, Hello)
    assert isinstance(original, Hello)
    # What is not signed is the offer of versions and the name.
    assert replace(hello, name="", wire_versions=()) == replace(original, name="", wire_versions=())


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(PeerFault):
        decode_handshake(noise)


def test_a_name_that_no_hello_can_carry_is_refused_here() -> None:
    with pytest.raises(InvalidInput, match="too long"):
        replace(ALICE, name="é" * 33)


def test_a_hello_fits_the_limit_of_the_handshake() -> None:
    long = replace(ALICE, name="n" * 64)
    assert len(at_alice(long).hello()) < HANDSHAKE_LIMIT_BYTES
