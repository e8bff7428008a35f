"""When things fall due: open-loop arrivals, from a seed, whatever the system under test does.

Theory. A generator that waits for an answer before it sends again measures itself: while the system stalls, it sends
nothing, and the stall is seen once instead of by everybody who would have come (*coordinated omission*). Here the
moments are fixed beforehand; latency counts from them.

    fixed:R            every 1/R seconds
    poisson:R          independent users: exponential gaps with mean 1/R
    ramp:A-B           the rate grows evenly from A to B per second
    burst:R,N          N at once, so often that R per second come on average
    trace:FILE         the moments in a file, one number of seconds a line, ascending from 0
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path

from p2pledger.primitives.errors import InvalidInput

__all__ = ["Arrivals"]

_RATE = r"(\d+(?:\.\d+)?)"
_FORMS = {
    "fixed": re.compile(_RATE),
    "poisson": re.compile(_RATE),
    "ramp": re.compile(_RATE + "-" + _RATE),
    "burst": re.compile(_RATE + r",(\d+)"),
}


@dataclass(frozen=True, slots=True)
class Arrivals:
    """A way to arrive. ``first`` and ``second`` are rates per second, or for a burst its rate and its size."""

    kind: str
    first: float = 0.0
    second: float = 0.0
    moments: tuple[float, ...] = field(default=(), kw_only=True)

    @classmethod
    def parse(cls, text: str) -> Arrivals:
        """As in the list above; a bare number is ``fixed``. InvalidInput for anything else."""
        kind, colon, rest = text.partition(":")
        if not colon:
            kind, rest = "fixed", text
        if kind == "trace":
            return cls(kind, moments=_moments(Path(rest)))
        found = _FORMS[kind].fullmatch(rest) if kind in _FORMS else None
        numbers = [float(part) for part in found.groups()] if found else []
        if not numbers or max(numbers) <= 0 or (kind != "ramp" and min(numbers) <= 0):
            raise InvalidInput(
                f"{text!r} is no way to arrive",
                hint="fixed:200, poisson:200, ramp:100-500, burst:200,50 or trace:FILE",
                code="usage",
            )
        return cls(kind, *numbers)

    def __str__(self) -> str:
        if self.kind == "trace":
            return f"trace of {len(self.moments)}"
        second = {"ramp": f"-{self.second:g}", "burst": f",{self.second:g}"}.get(self.kind, "")
        return f"{self.kind}:{self.first:g}{second}"

    def due_s(self, seconds: float, seed: int) -> Iterator[float]:
        """The moments in seconds, ascending, from 0 up to and without ``seconds``."""
        for moment in self._all(seconds, random.Random(seed)):
            if moment >= seconds:
                return
            yield moment

    def _all(self, seconds: float, chance: random.Random) -> Iterator[float]:
        if self.kind == "trace":
            yield from self.moments
        elif self.kind == "fixed":
            number = 0
            while True:
                yield number / self.first
                number += 1
        elif self.kind == "poisson":
            moment = chance.expovariate(self.first)
            while True:
                yield moment
                moment += chance.expovariate(self.first)
        elif self.kind == "ramp":
            # n(t) = first t + growth t^2 / 2 have come by t; solved for the moment at which the n-th comes.
            growth = (self.second - self.first) / seconds
            most = (self.first + self.second) / 2 * seconds
            number = 0
            while number < most:
                root = sqrt(max(0.0, self.first**2 + 2 * growth * number))
                yield 2 * number / (self.first + root) if number else 0.0
                number += 1
        else:
            burst = 0
            while True:
                for _ in range(int(self.second)):
                    yield burst * self.second / self.first
                burst += 1


def _moments(path: Path) -> tuple[float, ...]:
    try:
        lines = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("the trace cannot be read", where=str(path), why=str(error), code="usage") from error
    moments: list[float] = []
    for number, line in enumerate(lines, start=1):
        try:
            moments.append(float(line))
        except ValueError:
            raise InvalidInput(
                f"{line!r} is no number of seconds", where=f"{path}, line {number}", code="usage"
            ) from None
        if not moments[-1] >= (moments[-2] if number > 1 else 0.0):
            raise InvalidInput("moments must ascend from 0", where=f"{path}, line {number}", code="usage")
    if not moments:
        raise InvalidInput("the trace is empty", where=str(path), code="usage")
    return tuple(moments)
