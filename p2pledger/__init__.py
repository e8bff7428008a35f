"""A peer-to-peer ledger for securities markets.

The public names are handed out lazily: importing the package loads none of its floors, so that the command
line answers at once and a program pays only for what it touches. See docs/decisions/0002-lazy-root.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p2pledger import core as core

__version__ = "0.1.0"

__all__ = ["__version__", "core"]

# Where each public name lives; None means that it is a module of this package.
_HOMES: dict[str, str | None] = {
    "core": None,
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    value = import_module(f"{__name__}.{name}") if home is None else getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
