"""Values of any form, drawn from a seed: small, large and at the limits."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from p2pledger.primitives.forms import (
    Choice,
    Field,
    Form,
    ListOf,
    Operation,
    Record,
    Row,
    SigningPolicy,
    Switch,
    Text,
)
from p2pledger.primitives.policies import Policy

LETTERS = ("a", "Z", "0", " ", "é", "中", "\U0001f4b0")


def operation(kind: type[Operation], rng: random.Random) -> Operation:
    """One of this kind, of right form; its meaning may be nonsense."""
    make: Callable[..., Operation] = kind
    return make(*values(kind.form, rng))


def values(form: Form, rng: random.Random) -> list[Any]:
    return [value(field, rng) for field in form]


def value(field: Field, rng: random.Random) -> Any:
    match field:
        case Record():
            return field.kind(*values(field.kind.form, rng))
        case Row():
            return tuple(values(field.form, rng))
        case ListOf():
            return _items(field, rng)
        case SigningPolicy():
            keys = sorted(rng.randbytes(32) for _ in range(rng.choice((1, 2, 16))))
            return Policy(rng.randint(1, len(keys)), tuple((key, 1) for key in keys), rng.choice((1, 300)))
        case Switch():
            return rng.random() < 0.5
        case Choice():
            return rng.choice(list(field.kind))
        case Text():
            return _text(field.least, field.most, rng)
    match field.shape:
        case ("bytes or nothing", width):
            return rng.choice((b"", rng.randbytes(width)))
        case ("bytes", least, most):
            return rng.randbytes(rng.choice((least, most, rng.randint(least, most))))
        case ("number", least, most):
            number = rng.choice((least, most, least + 1, rng.getrandbits(rng.choice((7, 8, 16, 32, 64)))))
            return min(max(number, least), most)
    raise NotImplementedError(field)


def _items(field: ListOf, rng: random.Random) -> tuple[Any, ...]:
    count = min(max(rng.choice((0, 1, 2, 3, 17)), field.least), field.most)
    items = [value(field.item, rng) for _ in range(count)]
    if field.ascending:
        chosen = {order(field.item.encode(item)): item for item in items}
        items = [chosen[key] for key in sorted(chosen)]
    return tuple(items)


def order(encoded: Any) -> Any:
    """By what an item of an ascending list is ordered."""
    while isinstance(encoded, tuple):
        encoded = encoded[0]
    return encoded


def _text(least: int, most: int, rng: random.Random) -> str:
    size = rng.choice((least, most, rng.randint(least, most)))
    text = ""
    while len(text.encode()) < size:
        letter = rng.choice(LETTERS)
        text += letter if len((text + letter).encode()) <= size else "x"
    return text
