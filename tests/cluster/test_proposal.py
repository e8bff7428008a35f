"""A change of validators as a file that people sign one after the other."""

from pathlib import Path

import pytest

from p2pledger.cluster.proposal import Proposal, changed
from p2pledger.primitives.errors import BadConfiguration, InvalidInput
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.transactions import SetValidators
from p2pledger.primitives.validators import Validator

KEYS = sorted((Keypair.from_seed(bytes([i]) * 32) for i in range(1, 5)), key=lambda keypair: keypair.public_key)
SEATS = tuple(Validator(keypair.public_key, 1, f"node-{i}") for i, keypair in enumerate(KEYS[:3]))
NETWORK = b"network!"


def test_from_one_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "change.json"
    Proposal(NETWORK, 2, SEATS[:2]).save(path, fresh=True)
    with pytest.raises(InvalidInput, match="exists"):
        Proposal(NETWORK, 2, SEATS).save(path, fresh=True)
    with pytest.raises(InvalidInput, match="nobody has approved"):
        Proposal.load(path).operation()
    for keypair in (KEYS[1], KEYS[0], KEYS[1]):
        Proposal.load(path).approved_by(keypair).save(path)
    assert Proposal.load(path).operation() == SetValidators.approved(NETWORK, 2, SEATS[:2], KEYS[:2])


def test_changes_as_they_are_written() -> None:
    new = KEYS[3].public_key
    seats = changed(SEATS, [f"node-9={new.hex()}:5"], ["node-0"], ["node-1=3"])
    assert {seat.name: seat.weight for seat in seats} == {"node-1": 3, "node-2": 1, "node-9": 5}
    assert [seat.key for seat in seats] == sorted(seat.key for seat in seats)


@pytest.mark.parametrize(
    ("add", "remove", "weight"),
    [
        (["node-9=abc"], [], []),
        ([f"node-0={KEYS[3].public_key.hex()}"], [], []),
        ([f"node-9={KEYS[0].public_key.hex()}"], [], []),
        ([], ["nobody"], []),
        ([], ["node-0", "node-1", "node-2"], []),
        ([], [], ["node-0=0"]),
        ([], [], ["node-0"]),
        ([], [], ["nobody=2"]),
    ],
)
def test_changes_that_are_none(add: list[str], remove: list[str], weight: list[str]) -> None:
    with pytest.raises(InvalidInput):
        changed(SEATS, add, remove, weight)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": "other"}', '{"schema": "p2pledger.validators.proposal/1"}']
)
def test_files_that_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "change.json"
    with pytest.raises(BadConfiguration, match="cannot be read"):
        Proposal.load(path)
    path.write_text(text)
    with pytest.raises(BadConfiguration, match="no proposal"):
        Proposal.load(path)
