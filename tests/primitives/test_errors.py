"""Errors say what, where, why and what to do next, and carry a stable code."""

import pytest

from p2pledger.primitives.errors import BadConfiguration, InvalidInput, NodeStopped, P2PLedgerError, PeerFault


def test_the_sentence_has_all_its_parts() -> None:
    error = InvalidInput("it broke", where="here", why="it was old", hint="Buy another")
    assert str(error) == "it broke (in here): it was old. Buy another"
    assert str(InvalidInput("it broke")) == "it broke"


@pytest.mark.parametrize(
    ("kind", "code", "exit_code"),
    [
        (P2PLedgerError, "error", 1),
        (InvalidInput, "invalid_input", 2),
        (BadConfiguration, "bad_configuration", 3),
        (PeerFault, "peer_fault", 1),
        (NodeStopped, "node_stopped", 1),
    ],
)
def test_codes_are_stable(kind: type[P2PLedgerError], code: str, exit_code: int) -> None:
    assert (kind("x").code, kind("x").exit_code) == (code, exit_code)
    assert kind("x", code="narrower").code == "narrower"
    assert kind.code == code
