"""Plots as SVG inside of a page: lines over axes, readable in light and dark, without a line of script.

Colours are the page's own variables, so that its style decides; every line also has a mark of its own shape and its
name at its end, for those who do not tell colours apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from typing import Final

__all__ = ["Line", "plot"]

_WIDTH: Final = 720
_HEIGHT: Final = 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 130, 16, 44
_COLOURS: Final = 6
_MOST_POINTS: Final = 400
_MARKS: Final = ("circle", "square", "diamond", "cross", "triangle", "bar")


@dataclass(frozen=True, slots=True)
class Line:
    """A named series of (x, y), ascending in x. ``low`` and ``high``, if given, are an interval around each y."""

    name: str
    points: tuple[tuple[float, float], ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    is_log: bool
    start: float
    end: float

    def at(self, value: float) -> float:
        if self.is_log:
            share = (log10(max(value, self.low)) - log10(self.low)) / max(log10(self.high) - log10(self.low), 1e-12)
        else:
            share = (value - self.low) / max(self.high - self.low, 1e-12)
        return self.start + (self.end - self.start) * min(max(share, 0.0), 1.0)

    def ticks(self) -> list[float]:
        if self.is_log:
            exponents = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
            found = [10.0**exponent * step for exponent in exponents for step in (1, 2, 5)]
            inside = [value for value in found if self.low <= value <= self.high]
            return inside if len(inside) <= 8 else [value for value in inside if log10(value) % 1 == 0]
        raw = (self.high - self.low) / 5 or 1.0
        step = 10.0 ** floor(log10(raw))
        step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= raw)
        first = ceil(self.low / step)
        return [step * number for number in range(first, floor(self.high / step + 1e-9) + 1)]


def plot(
    title: str,
    x_name: str,
    y_name: str,
    lines: Sequence[Line],
    *,
    log_x: bool = False,
    log_y: bool = False,
) -> str:
    """One figure; a sentence where there is nothing to draw. On a logarithmic axis what is not positive is left out."""
    kept = [_visible(line, log_x, log_y) for line in lines]
    kept = [line for line in kept if line.points]
    caption = f"<figcaption>{escape(title)}</figcaption>"
    if not kept:
        return f"<figure>{caption}<p>Nothing to draw: no run gave these figures.</p></figure>"
    xs = [x for line in kept for x, _ in line.points]
    ys = [y for line in kept for _, y in line.points] + [y for line in kept for y in (*line.low, *line.high)]
    horizontal = _axis(xs, log_x, _LEFT, _WIDTH - _RIGHT)
    vertical = _axis(ys, log_y, _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">',
        *_grid(horizontal, vertical, x_name, y_name),
        *(part for number, line in enumerate(kept) for part in _draw(number, line, horizontal, vertical)),
        "</svg>",
    ]
    return f"<figure>{caption}{''.join(parts)}</figure>"


def _visible(line: Line, log_x: bool, log_y: bool) -> Line:
    at = [i for i, (x, y) in enumerate(line.points) if not ((log_x and x <= 0) or (log_y and y <= 0))]
    at = at[:: ceil(len(at) / _MOST_POINTS)] if len(at) > _MOST_POINTS else at
    return Line(
        line.name,
        tuple(line.points[i] for i in at),
        tuple(line.low[i] for i in at) if line.low else (),
        tuple(line.high[i] for i in at) if line.high else (),
    )


def _axis(values: Sequence[float], is_log: bool, start: float, end: float) -> _Axis:
    low, high = min(values), max(values)
    if is_log:
        low = max(low, high / 1e9)
        return _Axis(low / 1.1, high * 1.1, True, start, end)
    low = min(0.0, low)
    return _Axis(low, high + (high - low) * 0.05 or 1.0, False, start, end)


def _grid(horizontal: _Axis, vertical: _Axis, x_name: str, y_name: str) -> Iterable[str]:
    right, bottom = horizontal.end, vertical.start
    for value in horizontal.ticks():
        x = horizontal.at(value)
        yield f'<line class="grid" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{_number(value)}</text>'
    for value in vertical.ticks():
        y = vertical.at(value)
        yield f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>'
    yield f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_name)}</text>'
    middle = (_TOP + bottom) / 2
    yield f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{escape(y_name)}</text>'


def _draw(number: int, line: Line, horizontal: _Axis, vertical: _Axis) -> Iterable[str]:
    colour = f"c{number % _COLOURS}"
    places = [(horizontal.at(x), vertical.at(y)) for x, y in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    yield f'<polyline class="line {colour}" points="{path}"/>'
    if line.low and line.high:
        for (x, _), low, high in zip(places, line.low, line.high, strict=True):
            yield (
                f'<line class="line {colour}" x1="{x:.1f}" x2="{x:.1f}" y1="{vertical.at(low):.1f}" '
                f'y2="{vertical.at(high):.1f}"/>'
            )
    if len(places) <= 40:
        for x, y in places:
            yield _mark(_MARKS[number % len(_MARKS)], colour, x, y)
    x, y = places[-1]
    yield f'<text class="{colour}" x="{x + 8:.1f}" y="{y + 4:.1f}">{escape(line.name)}</text>'


def _mark(shape: str, colour: str, x: float, y: float) -> str:
    paths = {
        "square": "M-3,-3h6v6h-6z",
        "diamond": "M0,-4L4,0L0,4L-4,0z",
        "cross": "M-3,-3L3,3M-3,3L3,-3",
        "triangle": "M0,-4L4,3L-4,3z",
        "bar": "M0,-4V4",
    }
    if shape == "circle":
        return f'<circle class="mark {colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    return f'<path class="mark {colour}" transform="translate({x:.1f} {y:.1f})" d="{paths[shape]}"/>'


def _number(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
