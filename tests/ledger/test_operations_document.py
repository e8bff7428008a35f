"""docs/operations.md: written from the forms, the rules and the reasons. `pytest --rewrite` writes it anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pledger.ledger.operations import RULES
from p2pledger.primitives.codec import U64_MAX
from p2pledger.primitives.forms import Field, Form, ListOf, Operation, Record, Row, Shape, operation_name
from p2pledger.primitives.forms_text import expected
from p2pledger.primitives.reasons import REASONS
from p2pledger.primitives.transactions import OPERATIONS
from tests.golden import check_golden

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
HEADINGS = ("who may", "signed by", "needs", "changes", "refuses")
SUBJECTS = (
    (1, "Holdings, accounts, native money and validators"),
    (32, "Parties, accounts in custody, permissions, instruments and claims"),
    (50, "Instructions, offers, calendars and venues"),
    (65, "Money, payments and links between registers"),
    (80, "Orders of authority and escrows"),
)
"""The first code of each subject, and its title."""

PREAMBLE = """\
# Operations and reasons

*Written by `pytest tests/ledger/test_operations_document.py --rewrite` from the forms of the operations
(`p2pledger/primitives`), the docstrings of their rules (`p2pledger/ledger`) and the table of reasons. Do not edit it.*

A transaction carries a list of operations; all of them succeed, or nothing changes. On the wire an operation is the
array of its code and its fields in the order of its table (docs/protocol.md, sections 1 and 4); bytes of another form
are refused before they reach the ledger. The last column says how people write a field: `p2pledger market`, scenario
files and views agree on it. An operation that makes an object may carry a *salt*, by which its maker tells alike
objects apart; the identifier of the object follows from it (section 2), and clients draw one where none is given.

What a rule refuses is checked in the order in which it stands there; the first that applies decides. *The guards* are
asked at the movement of units: orders of authority, inactive instruments, permissions, the rules about holders,
quarantined and unapproved money.
"""


def first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", " ".join(text.split()), maxsplit=1)[0]


def marked(text: str) -> str:
    """A docstring as Markdown: one line for each paragraph, code as code."""
    paragraphs = [" ".join(part.split()) for part in text.strip().split("\n\n")]
    return "\n\n".join(paragraphs).replace("``", "`")


def headings(rule: object) -> dict[str, str]:
    """What the docstring of a rule says under each heading."""
    found: dict[str, str] = {}
    heading = ""
    for line in (type(rule).__doc__ or "").split("\n"):
        match = re.match(r"^ {4}(\w+(?: \w+)?) {2,}(\S.*)", line)
        if match and match[1] in HEADINGS:
            heading = match[1]
            found[heading] = match[2]
        elif heading and line.startswith(" " * 8):
            found[heading] += " " + line.strip()
        elif line.strip():
            heading = ""
    return {heading: text.replace("``", "`").replace("|", "\\|") for heading, text in found.items()}


def encoding(shape: Shape) -> str:
    kind, *limits = shape
    match kind:
        case "bytes or nothing":
            return f"{limits[0]} bytes or none"
        case "bytes" | "text":
            least, most = limits
            size = f"{least} to {most:,} bytes" if least != most else f"{most} bytes"
            return size if kind == "bytes" else f"text of {size}"
        case "number":
            least, most = limits
            return "integer" if (least, most) == (0, U64_MAX) else f"integer, {least} to {limit(most)}"
        case "switch":
            return "true or false"
        case "policy":
            return "policy (section 3)"
        case "record":
            return f"array of {len(limits)}"
        case _:
            least, most, ascending, item = limits
            return f"{'ascending ' if ascending else ''}array of {least} to {most:,}, each: {encoding(item)}"


def limit(most: int) -> str:
    return {2**64 - 1: "2^64 - 1", 2**32 - 1: "2^32 - 1"}.get(most, f"{most:,}")


def field_rows(form: Form, above: str = "") -> Iterator[str]:
    for field in form:
        name = f"{above}{field.name}"
        yield f"| `{name}` | {encoding(field.shape)} | {expected(field)} |"
        yield from field_rows(inside(field), f"{name}.")


def inside(field: Field) -> Form:
    """The fields of a record, or of the records in a list."""
    if isinstance(field, ListOf):
        return inside(field.item)
    if isinstance(field, Record):
        form: Form = field.kind.form
        return form
    return field.form if isinstance(field, Row) else ()


def operation_part(kind: type[Operation]) -> Iterator[str]:
    yield f"### {kind.code} {operation_name(kind)}"
    yield ""
    yield marked(kind.__doc__ or "")
    yield ""
    yield "| field | form | as text |"
    yield "|---|---|---|"
    yield from field_rows(kind.form)
    yield ""
    yield "| | |"
    yield "|---|---|"
    for heading, text in headings(RULES[kind]).items():
        yield f"| {heading} | {text} |"
    yield ""


def document() -> str:
    kinds = [kind for _, kind in sorted(OPERATIONS.items()) if kind in RULES]
    lines = [PREAMBLE]
    for (first, title), (end, _) in zip(SUBJECTS, (*SUBJECTS[1:], (256, "")), strict=True):
        here = [kind for kind in kinds if first <= kind.code < end]
        if not here:
            continue
        lines += [f"## {title}", "", "| code | operation | |", "|---|---|---|"]
        for kind in here:
            name = operation_name(kind)
            told = first_sentence(marked(kind.__doc__ or ""))
            lines.append(f"| {kind.code} | [{name}](#{kind.code}-{name}) | {told} |")
        lines.append("")
        for kind in here:
            lines += operation_part(kind)
    lines += ["## Reasons", "", "Codes below 100 stand in receipts; those from 100 on are answers at the edge.", ""]
    lines += ["| code | reason | what it says | refused so by |", "|---|---|---|---|"]
    for code, name, sentence in REASONS:
        by = [kind for kind in kinds if re.search(rf"\b{name}\b", headings(RULES[kind]).get("refuses", ""))]
        links = ", ".join(f"[{operation_name(kind)}](#{kind.code}-{operation_name(kind)})" for kind in by)
        lines.append(f"| {code} | {name} | {sentence} | {links} |")
    return "\n".join([*lines, ""])


def test_the_document_is_what_the_code_says(rewrite: bool) -> None:
    check_golden(DOCUMENT, document(), rewrite=rewrite)


@pytest.mark.parametrize("kind", RULES, ids=operation_name)
def test_what_a_rule_says_it_refuses_is_there(kind: type[Operation]) -> None:
    names = {name for _, name, _ in REASONS}
    said = re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", headings(RULES[kind]).get("refuses", ""))
    assert set(said) <= names | {field.name for field in kind.form} | {operation_name(other) for other in RULES}
