"""The forms of the operations: one table in p2pledger.primitives; C and the reference hold copies that must equal it.

python -m tests.core.test_forms     writes p2pledger/native/forms.h and p2pledger/_forms.py; `make forms` builds, too
"""

import dataclasses
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from p2pledger import _forms, _reference
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.forms import (
    MOST_DEPTH,
    Choice,
    ListOf,
    Operation,
    Record,
    Shape,
    fields_within,
    operation_name,
)
from p2pledger.primitives.transactions import OPERATIONS, SignedTransaction
from tests.core import builders as b
from tests.core import form_values
from tests.core.fuzz import bent, listed, twisted

HEADER = Path(_reference.__file__).parent / "native" / "forms.h"
MODULE = Path(_forms.__file__)
ORIGIN = "Generated from the forms in p2pledger/primitives by `make forms`; do not edit."
STALE = "the forms of operations have changed: run `make forms`, which writes them for the cores and builds"


def shapes(kind: type[Operation]) -> tuple[Shape, ...]:
    return tuple(field.shape for field in kind.form)


def c_fields(shape: Shape, depth: int = 1) -> Iterator[str]:
    """One line for the field, and one for each field inside it."""
    kind, *limits = shape
    inside: list[str] = []
    span, least, most = 0, 0, 0
    match kind:
        case "bytes" | "number" | "text":
            least, most = limits
        case "bytes or nothing":
            [most] = limits
        case "record":
            inside = [line for field in limits for line in c_fields(field, depth + 1)]
            most = len(limits)
        case "list":
            least, most, ascending, item = limits
            inside = [*c_fields(item, depth + 1)]
            span, kind = len(inside), "ascending list" if ascending else "list"
        case _:
            assert kind in ("switch", "policy")
    assert span < 2**8
    name = f"FIELD_{kind.upper().replace(' ', '_')}"
    yield f"{'    ' * depth}{{{name}, {span}, {least}, {most}{'u' if most >= 2**31 else ''}}},"
    yield from inside


def header(operations: Mapping[int, type[Operation]]) -> str:
    """The header for the C core."""
    lines = [f"/* {ORIGIN} */", "", "#ifndef P2L_FORMS_H", "#define P2L_FORMS_H"]
    for code, kind in sorted(operations.items()):
        lines += ["", f"/* {operation_name(kind)} */", f"static const struct field FORM_{code}[] = {{"]
        lines += [line for shape in shapes(kind) for line in c_fields(shape)]
        lines += ["};"]
    lines += ["", "static const struct form FORMS[] = {"]
    lines += [f"    [{code}] = {{FORM_{code}, {len(kind.form)}}}," for code, kind in sorted(operations.items())]
    return "\n".join([*lines, "};", "", "#endif", ""])


def written(shape: Any) -> str:
    """As Python source, in double quotes."""
    if isinstance(shape, tuple):
        return f"({', '.join(map(written, shape))}{',' if len(shape) == 1 else ''})"
    return f'"{shape}"' if isinstance(shape, str) else repr(shape)


def module(operations: Mapping[int, type[Operation]]) -> str:
    """The module for the reference."""
    lines = [f'"""{ORIGIN}"""', "", "from typing import Any, TypeAlias", ""]
    lines += ["Shape: TypeAlias = tuple[Any, ...]", "", "# fmt: off", "# ruff: noqa: E501"]
    lines += ["FORMS: dict[int, tuple[Shape, ...]] = {"]
    for code, kind in sorted(operations.items()):
        lines += [f"    {code}: (", *(f"        {written(shape)}," for shape in shapes(kind)), "    ),"]
    return "\n".join([*lines, "}", ""])


def test_the_header_is_the_table() -> None:
    assert HEADER.read_text(encoding="utf-8") == header(OPERATIONS), STALE


def test_the_reference_has_the_same_forms() -> None:
    assert MODULE.read_text(encoding="utf-8") == module(OPERATIONS), STALE


def test_every_form_is_one_that_the_cores_can_read() -> None:
    for code, kind in OPERATIONS.items():
        assert 0 < code < 256  # one byte of what object_id hashes
        assert kind.form, kind
        for field, depth in fields_within(kind.form):
            assert depth < MOST_DEPTH, (kind, field)
            if isinstance(field, Choice):
                assert [member.value for member in field.kind] == list(range(len(field.kind))), field.kind
            if isinstance(field, ListOf) and field.ascending:
                first = field.item.shape
                while first[0] == "record":
                    first = first[1]
                assert first[0] in ("bytes", "bytes or nothing", "number", "switch", "text"), (kind, field)


def test_the_attributes_of_an_operation_are_the_fields_of_its_form() -> None:
    for kind in OPERATIONS.values():
        assert [one.name for one in dataclasses.fields(kind)] == [field.name for field in kind.form], kind
        for field, _ in fields_within(kind.form):
            if isinstance(field, Record):
                named = [inside.name for inside in field.kind.form]
                assert [one.name for one in dataclasses.fields(field.kind)] == named, field.kind


# Three readers of one form: the compiled core, the reference, and Operation.read.


def signed(values: Any) -> bytes:
    return b.pack(b.signed(b.body([values], b.account("a")), ["x"]))


def is_read(data: bytes) -> bool:
    """By Operation.read, within a transaction of this network."""
    try:
        return SignedTransaction.decode(data).transaction.network_id == b.NETWORK
    except PeerFault:
        return False


@pytest.mark.parametrize("kind", OPERATIONS.values(), ids=operation_name)
def test_every_operation_is_read_alike_at_and_beyond_the_limits_of_its_form(
    compiled: ModuleType, kind: type[Operation]
) -> None:
    rng, found = random.Random(kind.code), Counter[str]()
    for _ in range(200):
        operation = form_values.operation(kind, rng)
        good, values = signed(operation.values()), listed(operation.values())
        assert SignedTransaction.decode(good).transaction.operations == (operation,)
        at = rng.randrange(1, len(values))
        values[at] = twisted(values[at], rng)
        items = [good, signed(values), bent(good, rng)]
        columns, refused = compiled.scan_transactions(items, b.NETWORK, b.LIMITS)
        same_columns, same_refused = _reference.scan_transactions(items, b.NETWORK, b.LIMITS)
        assert refused == same_refused, (STALE, items)
        assert (columns.ids, columns.data, columns.plain) == (same_columns.ids, same_columns.data, same_columns.plain)
        assert set(columns.plain) <= ({1} if kind.code <= 3 else {0, 1})
        bad = {index for index, _ in refused}
        assert [is_read(item) for item in items] == [index not in bad for index in range(3)], items
        for item in items[1:]:
            whole = b"\x92" + _reference.encode_batch(b.NETWORK, b.MAKER, 1, 2, [item]) + b"\xc4\x40" + bytes(64)
            told = [refusal(core, whole) for core in (compiled, _reference)]
            assert told[0] == told[1], item
            found[told[0][0]] += 1
    assert found["none"] > 5
    assert found["bad_form"] + found["wrong_type"] > 50


def refusal(core: ModuleType, data: bytes) -> tuple[str, int]:
    try:
        core.scan_batch(data, b.NETWORK, b.LIMITS)
    except _reference.MalformedBytes as error:
        return error.code, error.offset
    return "none", 0


if __name__ == "__main__":
    for path, text in ((HEADER, header(OPERATIONS)), (MODULE, module(OPERATIONS))):
        if path.read_text(encoding="utf-8") != text:  # a time stamp of its own would build the core again for nothing
            path.write_text(text, encoding="utf-8")
