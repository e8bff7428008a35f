"""How a command ended, and in which environment it runs."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    data: str
    """stdout"""
    talk: str
    """stderr"""

    @property
    def values(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        [line] = self.data.splitlines()
        values = json.loads(line)
        assert isinstance(values, dict)
        return values


Command = Callable[..., Done]


def environment(**more: str) -> dict[str, str]:
    names = {"P2PLEDGER_DIRECTORY", "P2PLEDGER_DEBUG", "FORCE_COLOR"}
    return {**{name: value for name, value in os.environ.items() if name not in names}, "NO_COLOR": "1", **more}
