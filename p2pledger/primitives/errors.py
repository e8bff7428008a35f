"""The one tree of errors.

    P2PLedgerError
    |-- InvalidInput      you asked for something wrong: a command, a file, a call
    |   `-- BadConfiguration
    |-- PeerFault         a peer (or a client) sent something wrong; it is refused and, if it is a peer, let go
    `-- NodeStopped       this node cannot keep its promises any more (a broken disk, a foreign state root)

Each error carries a stable ``code`` and says what happened, where, why, and what to do next. A broken invariant of
the program itself is none of these: it is an ``assert``, stays on, and stops the node.
"""

from __future__ import annotations


class P2PLedgerError(Exception):
    """Base of all errors that the product raises on purpose.

    ``what`` is one sentence; ``where``, ``why`` and ``hint`` are optional and shown after it. ``code`` is stable and
    may be matched by programs; a subclass sets it, an instance may narrow it.
    """

    code = "error"
    exit_code = 1

    def __init__(self, what: str, *, where: str = "", why: str = "", hint: str = "", code: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.why = why
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        text = self.what
        if self.where:
            text += f" (in {self.where})"
        if self.why:
            text += f": {self.why}"
        if self.hint:
            text += f". {self.hint}"
        return text


class InvalidInput(P2PLedgerError):
    """The caller asked for something that cannot be done as it was asked."""

    code = "invalid_input"
    exit_code = 2


class BadConfiguration(InvalidInput):
    """A genesis, a key file or a setting does not make sense."""

    code = "bad_configuration"
    exit_code = 3


class PeerFault(P2PLedgerError):
    """Bytes from outside break a rule. The code says which."""

    code = "peer_fault"


class NodeStopped(P2PLedgerError):
    """The node stopped because going on could break a promise."""

    code = "node_stopped"
