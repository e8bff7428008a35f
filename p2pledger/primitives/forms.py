"""The form of an operation, written down once: its fields in order, each with its kind, width and limits.

    class SetHold(Operation):
        code: ClassVar[int] = 53
        form: ClassVar[Form] = (Reference("instruction"), Account("party"), Switch("on"))
        instruction: bytes
        party: bytes
        on: bool

An operation is encoded as the array `[code, field, ...]`. From its form come that array and the way back (here), the
form check of both cores (``native/forms.h`` and ``_forms.py``, written anew by ``make forms``), texts for people
(``primitives/forms_text.py``) and the reference of operations (docs/operations.md). Attributes of the class stand in
the order of the form and bear its names.

A field is one of few encodings: bytes of a width, a number, a truth value, text, a list of equal items, a record (an
array of fields). What differs beyond that is what it means to people. A field that may be absent is then zero bytes
long; a list is a tuple, and where it ascends, no two of its items are alike (records: in their first field).
Lists and records nest at most three deep.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Any, ClassVar, Final, Self, TypeAlias

from p2pledger.primitives.codec import U64_MAX, Fields, Value
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.policies import Policy

__all__ = [
    "MOST_DEPTH",
    "Account",
    "Amount",
    "AssetName",
    "Blob",
    "Choice",
    "Day",
    "Digest",
    "Field",
    "Form",
    "Instrument",
    "ListOf",
    "Number",
    "Operation",
    "OperationCode",
    "PublicKey",
    "Record",
    "Reference",
    "RegisterCode",
    "Row",
    "Salt",
    "Shape",
    "Signature",
    "SigningPolicy",
    "Switch",
    "Text",
    "TimeMs",
    "fields_within",
    "operation_name",
    "read_fields",
    "values_of",
]

MOST_DEPTH: Final = 3
U32_MAX: Final = 2**32 - 1

Shape: TypeAlias = tuple[Any, ...]
"""A form as the cores check it: what is left of a field without its name and meaning.

`("bytes", least, most)`, `("bytes or nothing", width)`, `("number", least, most)`, `("switch",)`,
`("text", least, most)` in bytes, `("policy",)`, `("record", shape, ...)`, `("list", least, most, ascending, shape)`.
"""


@dataclass(frozen=True, slots=True)
class Field:
    """One place in a form. ``name`` is the attribute that holds its value."""

    name: str

    @property
    def shape(self) -> Shape:
        """What the cores check."""
        raise NotImplementedError

    def encode(self, value: Any) -> Value:
        """What stands in the encoded array for a value of the attribute."""
        return value

    def read(self, fields: Fields) -> Any:
        """The next field, as the attribute holds it. PeerFault ``malformed`` unless it has this form."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class _Bytes(Field):
    """Bytes of one width; none at all where the field is optional and absent."""

    optional: bool = False
    width: ClassVar[int]

    @property
    def shape(self) -> Shape:
        return ("bytes or nothing", self.width) if self.optional else ("bytes", self.width, self.width)

    def read(self, fields: Fields) -> bytes:
        if not self.optional:
            return fields.binary(self.name, self.width)
        value = fields.binary(self.name, most=self.width)
        if len(value) not in (0, self.width):
            raise PeerFault(f"field {self.name} has {len(value)} bytes, not 0 or {self.width}", code="malformed")
        return value


@dataclass(frozen=True, slots=True)
class Account(_Bytes):
    """An account, or a party by its account."""

    width: ClassVar[int] = 32


@dataclass(frozen=True, slots=True)
class AssetName(_Bytes):
    """An instrument in a register, such as ``CNY@ICBC``."""

    width: ClassVar[int] = 16


@dataclass(frozen=True, slots=True)
class RegisterCode(_Bytes):
    """A register, such as ``CSDC``; zero bytes at its end."""

    width: ClassVar[int] = 4


@dataclass(frozen=True, slots=True)
class Instrument(_Bytes):
    """An instrument without its register, such as an ISIN; zero bytes at its end."""

    width: ClassVar[int] = 12


@dataclass(frozen=True, slots=True)
class Salt(_Bytes):
    """Bytes of the maker's choice, which give what is made an identifier of its own."""

    width: ClassVar[int] = 16


@dataclass(frozen=True, slots=True)
class Reference(_Bytes):
    """The identifier of an object, as ``names.object_id`` makes it."""

    width: ClassVar[int] = 32


@dataclass(frozen=True, slots=True)
class Digest(_Bytes):
    """A SHA-256 hash of something outside, such as a document."""

    width: ClassVar[int] = 32


@dataclass(frozen=True, slots=True)
class PublicKey(_Bytes):
    """An Ed25519 public key."""

    width: ClassVar[int] = 32


@dataclass(frozen=True, slots=True)
class Signature(_Bytes):
    """An Ed25519 signature."""

    width: ClassVar[int] = 64


@dataclass(frozen=True, slots=True)
class Blob(Field):
    """Bytes that mean something elsewhere."""

    least: int = 0
    most: int = 1_024

    @property
    def shape(self) -> Shape:
        return ("bytes", self.least, self.most)

    def read(self, fields: Fields) -> bytes:
        value = fields.binary(self.name, most=self.most)
        if len(value) < self.least:
            raise PeerFault(f"field {self.name} has fewer than {self.least} bytes", code="malformed")
        return value


@dataclass(frozen=True, slots=True)
class Number(Field):
    """An integer from ``least`` to ``most``."""

    least: int = 0
    most: int = U64_MAX

    @property
    def shape(self) -> Shape:
        return ("number", self.least, self.most)

    def read(self, fields: Fields) -> int:
        value = fields.integer(self.name, most=self.most)
        if value < self.least:
            raise PeerFault(f"field {self.name} is less than {self.least}", code="malformed")
        return value


@dataclass(frozen=True, slots=True)
class OperationCode(Number):
    """The code of an operation; people write its name."""

    least: int = 1
    most: int = 65_535


@dataclass(frozen=True, slots=True)
class Amount(Field):
    """Smallest units of an asset: of the one in field ``of``, else of the asset field before it, else after it."""

    of: str = ""

    @property
    def shape(self) -> Shape:
        return ("number", 0, U64_MAX)

    def read(self, fields: Fields) -> int:
        return fields.integer(self.name)


@dataclass(frozen=True, slots=True)
class TimeMs(Field):
    """Milliseconds since 1970-01-01, UTC."""

    @property
    def shape(self) -> Shape:
        return ("number", 0, U64_MAX)

    def read(self, fields: Fields) -> int:
        return fields.integer(self.name)


@dataclass(frozen=True, slots=True)
class Day(Field):
    """Days since 1970-01-01."""

    @property
    def shape(self) -> Shape:
        return ("number", 0, U32_MAX)

    def read(self, fields: Fields) -> int:
        return fields.integer(self.name, most=U32_MAX)


@dataclass(frozen=True, slots=True)
class Choice(Field):
    """One member of an enumeration that counts from 0 without gaps."""

    kind: type[IntEnum]

    @property
    def shape(self) -> Shape:
        return ("number", 0, len(self.kind) - 1)

    def encode(self, value: Any) -> Value:
        return int(value)

    def read(self, fields: Fields) -> IntEnum:
        return self.kind(fields.integer(self.name, most=len(self.kind) - 1))


@dataclass(frozen=True, slots=True)
class Switch(Field):
    """True or false."""

    @property
    def shape(self) -> Shape:
        return ("switch",)

    def read(self, fields: Fields) -> bool:
        return fields.boolean(self.name)


@dataclass(frozen=True, slots=True)
class Text(Field):
    """UTF-8 of ``least`` to ``most`` bytes."""

    least: int = 1
    most: int = 64

    @property
    def shape(self) -> Shape:
        return ("text", self.least, self.most)

    def read(self, fields: Fields) -> str:
        value = fields.text(self.name, most=self.most)
        if len(value.encode()) < self.least:
            raise PeerFault(f"field {self.name} has fewer than {self.least} bytes", code="malformed")
        return value


@dataclass(frozen=True, slots=True)
class SigningPolicy(Field):
    """Who may sign for an account: `[threshold, [[key (32), weight], ...], version]`."""

    @property
    def shape(self) -> Shape:
        return ("policy",)

    def encode(self, value: Any) -> Value:
        return value.values()

    def read(self, fields: Fields) -> Policy:
        return Policy.decode(fields.array(self.name, most=3))


@dataclass(frozen=True, slots=True)
class Record(Field):
    """The fields of ``kind``, a frozen dataclass with a form of its own, as an array."""

    kind: type[Any]

    @property
    def shape(self) -> Shape:
        return ("record", *[field.shape for field in self.kind.form])

    def encode(self, value: Any) -> Value:
        return values_of(self.kind.form, value)

    def read(self, fields: Fields) -> Any:
        form: Form = self.kind.form
        row = fields.array(self.name, most=len(form))
        return self.kind(*read_fields(form, Fields(row, what=self.name, count=len(form))))


@dataclass(frozen=True, slots=True)
class Row(Field):
    """Fields as an array that is a tuple here too; for two or three that need no class of their own."""

    form: tuple[Field, ...]

    @property
    def shape(self) -> Shape:
        return ("record", *[field.shape for field in self.form])

    def encode(self, value: Any) -> Value:
        return tuple([field.encode(item) for field, item in zip(self.form, value, strict=True)])

    def read(self, fields: Fields) -> tuple[Any, ...]:
        row = fields.array(self.name, most=len(self.form))
        return tuple(read_fields(self.form, Fields(row, what=self.name, count=len(self.form))))


@dataclass(frozen=True, slots=True)
class ListOf(Field):
    """``least`` to ``most`` items of one kind; strictly ascending where that is asked."""

    item: Field
    least: int = 0
    most: int = 256
    ascending: bool = False

    @property
    def shape(self) -> Shape:
        return ("list", self.least, self.most, self.ascending, self.item.shape)

    def encode(self, value: Any) -> Value:
        return tuple([self.item.encode(item) for item in value])

    def read(self, fields: Fields) -> tuple[Any, ...]:
        rows = fields.array(self.name, most=self.most)
        if len(rows) < self.least:
            raise PeerFault(f"field {self.name} has fewer than {self.least} items", code="malformed")
        within = Fields(rows, what=self.name, count=len(rows))
        items = tuple([self.item.read(within) for _ in rows])
        if self.ascending:
            keys = [_first(row) for row in rows]
            if any(one >= other for one, other in pairwise(keys)):
                raise PeerFault(f"field {self.name} does not ascend", code="malformed")
        return items


def _first(value: Value) -> Value:
    """What decides about the place of an item: itself, or its first field."""
    while type(value) is tuple:
        value = value[0]
    return value


Form: TypeAlias = tuple[Field, ...]


def values_of(form: Form, record: Any) -> tuple[Value, ...]:
    """The array that stands for the attributes of a record."""
    return tuple([field.encode(getattr(record, field.name)) for field in form])


def read_fields(form: Form, fields: Fields) -> list[Any]:
    """The values of a form, in its order."""
    return [field.read(fields) for field in form]


def fields_within(form: Form, depth: int = 0) -> Iterator[tuple[Field, int]]:
    """All fields of a form, those inside lists and records too, each with the number of those around it."""
    for field in form:
        yield field, depth
        if isinstance(field, ListOf):
            yield from fields_within((field.item,), depth + 1)
        if isinstance(field, Record):
            yield from fields_within(field.kind.form, depth + 1)
        if isinstance(field, Row):
            yield from fields_within(field.form, depth + 1)


@dataclass(frozen=True, slots=True)
class Operation:
    """Base of the operations. ``code`` is the first field of the encoded array, ``form`` says the others."""

    code: ClassVar[int]
    form: ClassVar[Form]

    def values(self) -> tuple[Value, ...]:
        """The array that is encoded."""
        return (self.code, *values_of(self.form, self))

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """From the fields after the code. PeerFault ``malformed`` unless they have the operation's form."""
        return cls(*read_fields(cls.form, fields))


def operation_name(kind: type[Operation]) -> str:
    """The name of an operation in texts, such as ``set_hold``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()
