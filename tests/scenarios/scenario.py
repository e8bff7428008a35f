"""Scenarios: scripts in plain text, with what comes of each step written below it.

    engine simplex                  the first line names the engine, and with it the driver
    nodes 4                         options of the driver, up to the first empty line

    Prose. A leader proposes, and    whatever begins in the first column and is no step
    the others vote.

    > node-1 proposes A in view 1    a step, for the driver
      node-0  check A                what came of it: two spaces, then the driver's words

``pytest --rewrite`` writes the lines below each step as they are now and leaves everything else alone. So a scenario is
written with its steps only, rewritten, and read.

A driver is a class with one method, ``do``; it is made from the options. ``test_scenarios.py`` lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol


class ScenarioError(Exception):
    """A scenario says something that its driver does not understand, or that cannot be done."""


class Driver(Protocol):
    """Plays the steps of one scenario on an engine."""

    def do(self, step: str) -> list[str]:
        """What comes of one step, a line each. ScenarioError if it makes no sense."""
        ...


MakeDriver = Callable[[Mapping[str, str]], Driver]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A parsed file: the driver's name, its options, and the lines without the results."""

    engine: str
    options: dict[str, str]
    lines: list[str]
    """All that is not a result. Steps begin with ``> ``."""


def parse(text: str) -> Scenario:
    lines = text.splitlines()
    if not lines or not lines[0].startswith("engine "):
        raise ScenarioError("the first line must name the engine: engine NAME")
    options: dict[str, str] = {}
    for line in lines[1:]:
        if not line.strip():
            break
        name, _, value = line.partition(" ")
        options[name] = value.strip()
    return Scenario(lines[0].removeprefix("engine ").strip(), options, [line for line in lines if line[:2] != "  "])


def play(scenario: Scenario, drivers: Mapping[str, MakeDriver]) -> str:
    """The file as it should be: every step followed by what came of it."""
    if scenario.engine not in drivers:
        raise ScenarioError(f"no driver for engine {scenario.engine!r}; there are {', '.join(sorted(drivers))}")
    driver = drivers[scenario.engine](scenario.options)
    out: list[str] = []
    for number, line in enumerate(scenario.lines, 1):
        out.append(line)
        if line.startswith("> "):
            try:
                out.extend(f"  {result}" for result in driver.do(line.removeprefix("> ").strip()))
            except ScenarioError as error:
                raise ScenarioError(f"{line!r} (line {number} without results): {error}") from error
    return "\n".join(out) + "\n"
