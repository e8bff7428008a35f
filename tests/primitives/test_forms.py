"""Forms: every kind of field at and beyond its limits, read by Python as the reference of the core reads it."""

import random
from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

import pytest

from p2pledger import _reference
from p2pledger.primitives import forms as f
from p2pledger.primitives.codec import Fields, decode, encode
from p2pledger.primitives.errors import PeerFault
from p2pledger.primitives.forms import Form, ListOf, Record, read_fields, values_of
from tests.core import builders as b
from tests.core import form_values
from tests.core.fuzz import listed, twisted


class Side(IntEnum):
    LEFT = 0
    RIGHT = 1


@dataclass(frozen=True, slots=True)
class Part:
    form: ClassVar[Form] = (f.Text("word", 0, 3), f.Number("count", 1, 5))
    word: str
    count: int


EVERY_KIND: Form = (
    f.Account("account"),
    f.AssetName("asset", optional=True),
    f.Blob("blob", 1, 3),
    f.Number("number", 5, 300),
    f.Day("day"),
    f.Choice("side", Side),
    f.Switch("on"),
    f.Text("text", 1, 4),
    f.SigningPolicy("policy"),
    Record("part", Part),
    ListOf("words", f.Text("word", 0, 3), 0, 4, ascending=True),
    ListOf("numbers", f.Number("number"), 1, 20, ascending=True),
    ListOf("parts", Record("part", Part), 0, 3, ascending=True),
    ListOf("rows", f.Row("row", (f.Digest("digest", optional=True), ListOf("ons", f.Switch("on")))), 0, 2),
)


def reference_reads(data: bytes) -> bool:
    """By the reader of the reference, field by field; the compiled one reads only what operations have."""
    reader = _reference._Reader(data, 0, len(data))
    try:
        reader.fields(len(EVERY_KIND))
        for field in EVERY_KIND:
            reader.field(field.shape)
    except _reference.MalformedBytes:
        return False
    return reader.position == len(data)


def test_every_kind_of_field_is_read_by_python_as_by_the_reference() -> None:
    """Those, too, that no operation uses in this combination."""
    rng, read = random.Random(5), Counter[bool]()
    for _ in range(3_000):
        values = form_values.values(EVERY_KIND, rng)
        row = [field.encode(value) for field, value in zip(EVERY_KIND, values, strict=True)]
        fields = Fields(decode(encode(row), limit_bytes=10_000, what="row"), what="row", count=len(row))
        assert read_fields(EVERY_KIND, fields) == values
        bad = listed(tuple(row))
        at = rng.randrange(len(bad))
        bad[at] = twisted(bad[at], rng)
        data = b.pack(bad)
        try:
            fields = Fields(decode(data, limit_bytes=100_000, what="row"), what="row", count=len(row))
            read_fields(EVERY_KIND, fields)
            good = True
        except PeerFault:
            good = False
        assert reference_reads(data) is good, bad
        read[good] += 1
    assert min(read.values()) > 100


@pytest.mark.parametrize(
    ("numbers", "good"),
    [((1,), True), ((127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1), True),
     ((1, 1), False), ((256, 255), False), ((2**32, 2**32 - 1), False)],
)  # fmt: skip
def test_numbers_ascend_by_value_whatever_their_width(numbers: tuple[int, ...], good: bool) -> None:
    field = ListOf("numbers", f.Number("number"), 1, 20, ascending=True)
    reader = _reference._Reader(encode(numbers), 0, len(encode(numbers)))
    if good:
        reader.field(field.shape)
        assert field.read(Fields((numbers,), what="numbers", count=1)) == numbers
    else:
        with pytest.raises(_reference.MalformedBytes, match="bad_form"):
            reader.field(field.shape)


def test_texts_ascend_by_their_bytes_not_by_their_length() -> None:
    field = ListOf("words", f.Text("word", 0, 9), 0, 9, ascending=True)
    for words, good in ((("", "B", "BA", "a", "é"), True), (("b", "aa"), False), (("aa", "a"), False)):
        fields = Fields((words,), what="words", count=1)
        if good:
            assert field.read(fields) == words
        else:
            with pytest.raises(PeerFault, match="does not ascend"):
                field.read(fields)


def test_a_value_and_its_array_say_the_same() -> None:
    part = Part("abc", 5)
    assert values_of(Part.form, part) == ("abc", 5)
    assert ListOf("parts", Record("part", Part)).encode((part, part)) == (("abc", 5), ("abc", 5))
    assert f.Choice("side", Side).encode(Side.RIGHT) == 1
