"""A proposal for other validators, as a file that goes from one to the next until a quorum has signed it.

{"schema": "p2pledger.validators.proposal/1", "network": hex, "epoch": number,
 "seats": [[key hex, weight, name], ...], "approvals": [[key hex, signature hex], ...]}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from p2pledger.primitives.errors import BadConfiguration, InvalidInput
from p2pledger.primitives.keys import Keypair
from p2pledger.primitives.transactions import SetValidators, approval_message
from p2pledger.primitives.validators import Validator

__all__ = ["Proposal", "changed"]

_SCHEMA: Final = "p2pledger.validators.proposal/1"
_MOST_BYTES: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class Proposal:
    """Seats from an epoch on, and who has approved them: (key, signature)."""

    network_id: bytes
    epoch: int
    seats: tuple[Validator, ...]
    approvals: tuple[tuple[bytes, bytes], ...] = ()

    def approved_by(self, keypair: Keypair) -> Self:
        """With this approval, which replaces an earlier one of the same key."""
        signature = keypair.sign(approval_message(self.network_id, self.epoch, self.seats))
        others = [approval for approval in self.approvals if approval[0] != keypair.public_key]
        return replace(self, approvals=tuple(sorted([*others, (keypair.public_key, signature)])))

    def operation(self) -> SetValidators:
        """InvalidInput if nobody has approved."""
        if not self.approvals:
            raise InvalidInput("nobody has approved this proposal", hint="p2pledger validators approve", code="usage")
        return SetValidators(self.epoch, self.seats, self.approvals)

    def save(self, path: Path, *, fresh: bool = False) -> None:
        """Writes the file; InvalidInput if it is there already and must be ``fresh``."""
        values = {
            "schema": _SCHEMA,
            "network": self.network_id.hex(),
            "epoch": self.epoch,
            "seats": [[seat.key.hex(), seat.weight, seat.name] for seat in self.seats],
            "approvals": [[key.hex(), signature.hex()] for key, signature in self.approvals],
        }
        text = json.dumps(values, indent=2) + "\n"
        try:
            if fresh:
                with path.open("x", encoding="utf-8") as file:
                    file.write(text)
            else:
                partial = path.with_name(f"{path.name}.partial")
                partial.write_text(text, encoding="utf-8")
                partial.replace(path)
        except FileExistsError:
            raise InvalidInput(f"{path} exists", hint="Choose another file", code="exists") from None

    @classmethod
    def load(cls, path: Path) -> Self:
        """BadConfiguration for a file that is no proposal."""
        try:
            with path.open("rb") as file:
                values = json.loads(file.read(_MOST_BYTES))
            if values["schema"] != _SCHEMA:
                raise ValueError(f"its schema is {values['schema']!r}, not {_SCHEMA!r}")
            seats = tuple(Validator(_bytes(key, 32), int(weight), str(name)) for key, weight, name in values["seats"])
            approvals = tuple((_bytes(key, 32), _bytes(signature, 64)) for key, signature in values["approvals"])
            return cls(_bytes(values["network"], 8), int(values["epoch"]), seats, approvals)
        except OSError as error:
            why = error.strerror or str(error)
            raise BadConfiguration("the proposal cannot be read", where=str(path), why=why, code="unreadable") from None
        except (KeyError, TypeError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"
            raise BadConfiguration("this is no proposal", where=str(path), why=why, code="bad_proposal") from None


def _bytes(text: str, width: int) -> bytes:
    data = bytes.fromhex(text)
    if len(data) != width:
        raise ValueError(f"{text!r} is not {width} bytes in hexadecimal")
    return data


def changed(
    seats: Iterable[Validator], add: Sequence[str], remove: Sequence[str], weights: Sequence[str]
) -> tuple[Validator, ...]:
    """The seats (ascending by key) after these changes, written as on the command line. InvalidInput where one is none.

    ``add``: NAME=KEY or NAME=KEY:WEIGHT; ``remove``: NAME; ``weights``: NAME=WEIGHT.
    """
    by_name = {seat.name: seat for seat in seats}
    for name in remove:
        if by_name.pop(name, None) is None:
            raise InvalidInput(f"there is no validator {name!r}", hint=f"One of {', '.join(by_name)}", code="usage")
    for text in weights:
        match = re.fullmatch(r"(.+)=(\d{1,9})", text)
        if match is None or match[1] not in by_name or not int(match[2]):
            raise InvalidInput(f"{text!r} is no weight", hint="For example CCDC=2; remove who has none", code="usage")
        by_name[match[1]] = replace(by_name[match[1]], weight=int(match[2]))
    for text in add:
        match = re.fullmatch(r"(.+)=([0-9a-fA-F]{64})(?::(\d{1,9}))?", text)
        if match is None or match[1] in by_name:
            raise InvalidInput(
                f"{text!r} is no new validator", hint="NAME=KEY with 64 hexadecimal digits, and :WEIGHT", code="usage"
            )
        by_name[match[1]] = Validator(bytes.fromhex(match[2]), int(match[3] or 1), match[1])
    ordered = tuple(sorted(by_name.values(), key=lambda seat: seat.key))
    if not ordered or len({seat.key for seat in ordered}) != len(ordered):
        raise InvalidInput("validators must be there, each with a key of its own", code="usage")
    return ordered
