"""A peer-to-peer ledger for securities markets.

The public names are handed out lazily: importing the package loads none of its floors, so that the command
line answers at once and a program pays only for what it touches. See docs/decisions/0002-lazy-root.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import p2pledger.core as core
    from p2pledger.api.client import Client
    from p2pledger.cluster.local import Cluster
    from p2pledger.primitives.genesis import Genesis
    from p2pledger.primitives.keys import Keypair
    from p2pledger.primitives.transactions import (
        Define,
        Issue,
        Lock,
        Open,
        Redeem,
        Release,
        SetPolicy,
        SignedTransaction,
        Transaction,
        Transfer,
        delivery_versus_payment,
    )

__version__ = "0.1.0"

__all__ = [
    "Client",
    "Cluster",
    "Define",
    "Genesis",
    "Issue",
    "Keypair",
    "Lock",
    "Open",
    "Redeem",
    "Release",
    "SetPolicy",
    "SignedTransaction",
    "Transaction",
    "Transfer",
    "__version__",
    "core",
    "delivery_versus_payment",
]

_TRANSACTIONS = "p2pledger.primitives.transactions"
# The module in which each public name lives; `core` is a module itself.
_HOMES = {
    "Client": "p2pledger.api.client",
    "Cluster": "p2pledger.cluster.local",
    "Define": _TRANSACTIONS,
    "Genesis": "p2pledger.primitives.genesis",
    "Issue": _TRANSACTIONS,
    "Keypair": "p2pledger.primitives.keys",
    "Lock": _TRANSACTIONS,
    "Open": _TRANSACTIONS,
    "Redeem": _TRANSACTIONS,
    "Release": _TRANSACTIONS,
    "SetPolicy": _TRANSACTIONS,
    "SignedTransaction": _TRANSACTIONS,
    "Transaction": _TRANSACTIONS,
    "Transfer": _TRANSACTIONS,
    "core": "p2pledger.core",
    "delivery_versus_payment": _TRANSACTIONS,
}


# Hidden from type checkers, which would take it as a promise that every name exists.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(_HOMES[name])
        value = module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
