"""Views of the market: pure functions over one version of the state, so each answer is one consistent read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from p2pledger import core
from p2pledger.ledger.rule import Place
from p2pledger.primitives.codec import Value
from p2pledger.primitives.statements import Record, pack

__all__ = ["VIEWS", "NoView", "view"]


class NoView(Exception):
    """There is no answer: a code for programs, a sentence for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


def view(version: core.Version, place: Place, reader: bytes, name: str, arguments: tuple[Value, ...]) -> bytes:
    """The bytes of a statement. NoView where there is none; PeerFault for arguments of another form."""
    respond = VIEWS.get(name)
    if respond is None:
        raise NoView("unknown_view", f"there is no view {name!r}; known are: {', '.join(VIEWS)}")
    return pack(respond(version, place, reader, arguments))


VIEWS: Final[dict[str, Callable[[core.Version, Place, bytes, tuple[Value, ...]], Record]]] = {}
