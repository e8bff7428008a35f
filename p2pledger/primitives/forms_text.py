"""Operations as people write and read them: each field as a text, by its form.

The command line, scenario files and views all speak through here, so that a value is written the same way everywhere:

    account        a name that is known, or 64 hexadecimal digits
    asset          CNY@ICBC                 register    CSDC            instrument   DE0005140008
    amount         1,050.25 of the asset beside it, or 105025 units of the smallest size; these where there is none
    number         18                       switch      on, off         choice       lower-case name
    time           2026-03-02T10:00:00+08:00, or milliseconds           day          2026-03-02
    identifiers, hashes, keys, signatures, bytes                        hexadecimal digits
    policy         2 of KEY, KEY:3 version 4 (weights and versions of 1 may be left out)
    operation      its name, such as set_hold

A list is a list, or a text whose items are parted by commas (records: by semicolons). A record is a table of its
fields, a list of them in order, or a text: `giver=alice,taker=bob,...` or `alice,bob,...`. Lists and tables may be
JSON. Where a list has to ascend, it is put in order. What comes from a program may be an integer (of smallest units,
milliseconds, days since 1970-01-01), bytes, or true and false.

A field that is left out is absent where it may be, else the default of its attribute; one salt serves all fields that
ask for one. Everything wrong is an InvalidInput that names the field.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Final, TypeAlias

from p2pledger.primitives.amounts import amount_text, units_of
from p2pledger.primitives.codec import Fields
from p2pledger.primitives.dates import day_of_text, day_text, time_of_text, time_text
from p2pledger.primitives.errors import InvalidInput, PeerFault
from p2pledger.primitives.forms import (
    Account,
    Amount,
    AssetName,
    Blob,
    Choice,
    Day,
    Digest,
    Field,
    Form,
    Instrument,
    ListOf,
    Number,
    Operation,
    OperationCode,
    PublicKey,
    Record,
    Reference,
    RegisterCode,
    Row,
    Salt,
    Signature,
    SigningPolicy,
    Switch,
    Text,
    TimeMs,
    operation_name,
)
from p2pledger.primitives.names import asset_id, asset_text, register_code
from p2pledger.primitives.policies import Policy
from p2pledger.primitives.transactions import OPERATIONS

__all__ = [
    "NAMES",
    "Names",
    "Plain",
    "assets_named",
    "expected",
    "form_plain",
    "operation_kind",
    "operation_of",
    "operation_plain",
    "text_of",
    "value_of",
]

Plain: TypeAlias = Any
"""str, int, bool, bytes, a sequence of such, or a mapping from names of fields to such."""

NAMES: Final[Mapping[str, type[Operation]]] = {operation_name(kind): kind for kind in OPERATIONS.values()}
"""The operations by the names that people use."""

_INSTRUMENT: Final = re.compile(r"[A-Z0-9]{1,12}")
_CODE: Final = re.compile(rb"[A-Z0-9]+\0*")
_SWITCH: Final = {"on": True, "off": False, "true": True, "false": False, "yes": True, "no": False}
_UNITS: Final = " units"
_POLICY: Final = re.compile(r"(\d+) of ([0-9a-f:, ]+?)(?: version (\d+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Names:
    """What turns texts into values and back: the accounts that have names, and the decimals of assets."""

    accounts: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    decimals: Mapping[bytes, int] = dataclasses.field(default_factory=dict)

    def name_of(self, account: bytes) -> str | None:
        return next((name for name, held in self.accounts.items() if held == account), None)


# From texts -------------------------------------------------------------------------------------------------------


def operation_kind(name: str) -> type[Operation]:
    """The operation of this name; a dash is as good as an underscore. InvalidInput ``unknown_operation``."""
    found = NAMES.get(name.replace("-", "_"))
    if found is None:
        raise InvalidInput(
            f"{name!r} is no operation", hint=_meant(name.replace("-", "_"), NAMES), code="unknown_operation"
        )
    return found


def operation_of(name: str, fields: Mapping[str, Plain], names: Names, salt: bytes = b"") -> Operation:
    """The operation of this name with these fields. ``salt``: 16 bytes for what asks for a salt and gets none."""
    kind = operation_kind(name)
    try:
        operation: Operation = _built(kind, kind.form, fields, names, salt, b"")
    except InvalidInput as error:
        error.where = operation_name(kind) if not error.where else f"{operation_name(kind)}, {error.where}"
        raise
    # What no single field shows, such as a policy that nobody can satisfy: the judgement of whoever will read it.
    try:
        values = operation.values()
        kind.read(Fields(values, what=operation_name(kind), count=len(values), version=kind.code))
    except PeerFault as fault:
        raise InvalidInput(f"{operation_name(kind)} is not possible", why=str(fault), code="bad_field") from None
    return operation


def assets_named(name: str, fields: Mapping[str, Plain]) -> set[bytes]:
    """The assets in whose decimals amounts may be written: what to look up before ``operation_of``."""
    found: set[bytes] = set()

    def gather(field: Field, plain: Plain) -> None:
        if isinstance(field, AssetName):
            if plain not in ("", b""):
                found.add(_value(field, plain, Names(), b"", b""))
        elif isinstance(field, ListOf):
            for item in _items(field, plain):
                gather(field.item, item)
        elif isinstance(field, Record | Row):
            inside = field.kind.form if isinstance(field, Record) else field.form
            table = _table(field.name, inside, plain)
            for part in inside:
                if part.name in table:
                    gather(part, table[part.name])

    for field in operation_kind(name).form:
        if field.name in fields:
            gather(field, fields[field.name])
    return found


def value_of(field: Field, plain: Plain, names: Names, *, asset: bytes = b"") -> Any:
    """The value of one field. ``asset``: in whose decimals an amount is written; without it, in smallest units."""
    return _value(field, plain, names, b"", asset)


def _built(kind: type[Any], form: Form, given: Mapping[str, Plain], names: Names, salt: bytes, around: bytes) -> Any:
    """A dataclass from its fields. ``around`` is the asset of the record around it."""
    values = _values(form, given, names, salt, around, _defaults(kind))
    return kind(**values)


def _defaults(kind: type[Any]) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(kind) if field.default is not dataclasses.MISSING}


def _values(
    form: Form, given: Mapping[str, Plain], names: Names, salt: bytes, around: bytes, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of a form by name. Assets come first, since amounts are written in their decimals."""
    for name in given:
        if name not in {field.name for field in form}:
            raise InvalidInput(
                f"there is no field {name!r}",
                hint=_meant(name, [field.name for field in form]) or f"It has {', '.join(f.name for f in form)}",
                code="unknown_field",
            )
    values: dict[str, Any] = {}
    for field in form:
        if field.name not in given:
            if isinstance(field, Salt) and salt:
                values[field.name] = salt
            else:
                values[field.name] = defaults[field.name] if field.name in defaults else _absent(field)
    for field in sorted(form, key=lambda field: not isinstance(field, AssetName)):
        if field.name in given:
            asset = _asset_beside(form, field, values) or around
            values[field.name] = _value(field, given[field.name], names, salt, asset)
    return values


def _asset_beside(form: Form, field: Field, values: Mapping[str, Any]) -> bytes:
    """The asset in which an amount counts: the one it names, else the last before it, else the first after it."""
    if isinstance(field, Amount) and field.of:
        return bytes(values[field.of])
    at = form.index(field)
    before = [part.name for part in form[:at] if isinstance(part, AssetName) and values.get(part.name)]
    after = [part.name for part in form[at:] if isinstance(part, AssetName) and values.get(part.name)]
    return bytes(values[before[-1] if before else after[0]]) if before or after else b""


def _absent(field: Field) -> Any:
    if getattr(field, "optional", False):
        return b""
    if isinstance(field, Text | ListOf | Blob) and field.least == 0:
        return {Text: "", ListOf: (), Blob: b""}[type(field)]
    raise InvalidInput(f"field {field.name} is missing", hint=f"It is {expected(field)}", code="missing_field")


def _wrong(field: Field, plain: Plain) -> InvalidInput:
    shown = plain.hex() if isinstance(plain, bytes) else str(plain)
    return InvalidInput(
        f"{shown[:80]!r} is not what field {field.name} takes", hint=f"It is {expected(field)}", code="bad_field"
    )


def expected(field: Field) -> str:
    """What a field takes, for whoever wrote something else."""
    if getattr(field, "optional", False):
        return f"{expected(replace(field, optional=False))}, or nothing"  # type: ignore[call-arg]
    match field:
        case Account():
            return "an account: a name, or 64 hexadecimal digits"
        case AssetName():
            return "an asset such as DE0005140008@CSDC or CNY@ICBC"
        case RegisterCode():
            return "the code of a register, such as CSDC"
        case Instrument():
            return "an instrument such as DE0005140008"
        case Salt():
            return f"{2 * field.width} hexadecimal digits; drawn where none is given"
        case Reference() | Digest() | PublicKey() | Signature():
            return f"{2 * field.width} hexadecimal digits"
        case Blob():
            return f"{field.least} to {field.most:,} bytes in hexadecimal digits"
        case OperationCode():
            return "the name of an operation, such as transfer"
        case Number():
            return f"an integer from {field.least} to {field.most}"
        case Amount():
            return "an amount such as 100 or 1050.25"
        case TimeMs():
            return "a time such as 2026-03-02T10:00:00+08:00, or milliseconds since 1970-01-01 UTC"
        case Day():
            return "a day such as 2026-03-02"
        case Choice():
            return f"one of {', '.join(member.name.lower() for member in field.kind)}"
        case Switch():
            return "on or off"
        case Text():
            return f"a text of {field.least} to {field.most} bytes"
        case SigningPolicy():
            return "a policy such as '2 of KEY, KEY, KEY'"
        case Record() | Row():
            form = field.kind.form if isinstance(field, Record) else field.form
            return f"a record of {', '.join(part.name for part in form)}"
        case ListOf():
            return f"a list of {field.least} to {field.most:,}, each {expected(field.item)}"
        case _:
            raise NotImplementedError(field)


def _meant(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    near = get_close_matches(name, list(known), 1)
    return f"Did you mean {near[0]}?" if near else ""


def _value(field: Field, plain: Plain, names: Names, salt: bytes, asset: bytes) -> Any:
    """The value of a field; every kind of it once."""
    match field:
        case Account():
            if isinstance(plain, str) and plain in names.accounts:
                return names.accounts[plain]
            if isinstance(plain, str) and plain and not re.fullmatch(r"[0-9a-fA-F]{64}", plain):
                hint = _meant(plain, names.accounts) or f"It is {expected(field)}"
                raise InvalidInput(f"there is no account {plain!r}", hint=hint, code="unknown_account")
            return _bytes(field, plain, field.width, lambda text: None)
        case AssetName():
            return _bytes(field, plain, field.width, asset_id)
        case RegisterCode():
            return _bytes(field, plain, field.width, register_code)
        case Instrument():
            return _bytes(field, plain, field.width, _instrument)
        case Salt() | Reference() | Digest() | PublicKey() | Signature():
            return _bytes(field, plain, field.width, lambda text: None)
        case Blob():
            data = _bytes(field, plain, None, lambda text: None)
            if not field.least <= len(data) <= field.most:
                raise _wrong(field, plain)
            return data
        case OperationCode() if isinstance(plain, str) and not plain.isdecimal():
            return operation_kind(plain).code
        case Number():
            return _integer(field, plain, field.least, field.most)
        case Amount():
            if isinstance(plain, str) and asset and not plain.endswith(_UNITS):
                if asset not in names.decimals:
                    raise InvalidInput(
                        f"the decimals of {asset_text(asset)} are not known, so {field.name} cannot be read",
                        code="unknown_asset",
                    )
                return units_of(plain, names.decimals[asset], asset_text(asset))
            digits = plain.removesuffix(_UNITS).replace(",", "") if isinstance(plain, str) else plain
            return _integer(field, digits, 0, 2**64 - 1)
        case TimeMs():
            return _time(field, plain)
        case Day():
            return _day(field, plain)
        case Choice():
            if isinstance(plain, str) and not plain.isdecimal():
                found = {member.name.lower(): member for member in field.kind}.get(plain.lower().replace("-", "_"))
                if found is None:
                    raise _wrong(field, plain)
                return found
            return field.kind(_integer(field, plain, 0, len(field.kind) - 1))
        case Switch():
            if type(plain) is bool:
                return plain
            if not isinstance(plain, str) or plain.lower() not in _SWITCH:
                raise _wrong(field, plain)
            return _SWITCH[plain.lower()]
        case Text():
            if not isinstance(plain, str) or not _encodes(plain, field.least, field.most):
                raise _wrong(field, plain)
            return plain
        case SigningPolicy():
            return plain if isinstance(plain, Policy) else _policy(field, plain)
        case Record() | Row():
            form = field.kind.form if isinstance(field, Record) else field.form
            defaults = _defaults(field.kind) if isinstance(field, Record) else {}
            values = _values(form, _table(field.name, form, plain), names, salt, asset, defaults)
            return field.kind(**values) if isinstance(field, Record) else tuple(values[part.name] for part in form)
        case ListOf():
            return _list(field, plain, names, salt, asset)
        case _:
            raise NotImplementedError(field)


def _bytes(field: Field, plain: Plain, width: int | None, named: Callable[[str], bytes | None]) -> bytes:
    """Bytes as such, in hexadecimal, or by a name. Of another width than this only none, where that may be."""
    given = plain
    if isinstance(plain, str):
        if re.fullmatch(r"([0-9a-fA-F]{2})*", plain) and width in (None, len(plain) // 2):
            plain = bytes.fromhex(plain)
        elif plain:
            plain = named(plain)
        else:
            plain = b""
    if not isinstance(plain, bytes) or (width is not None and len(plain) != width):
        if plain == b"" and getattr(field, "optional", False):
            return b""
        raise _wrong(field, given)
    return plain


def _instrument(text: str) -> bytes | None:
    return text.encode().ljust(12, b"\0") if _INSTRUMENT.fullmatch(text) else None


def _integer(field: Field, plain: Plain, least: int, most: int) -> int:
    number = plain
    if isinstance(plain, str) and re.fullmatch(r"[0-9]{1,20}", plain):
        number = int(plain)
    if type(number) is not int or not least <= number <= most:
        raise _wrong(field, plain)
    return number


def _time(field: Field, plain: Plain) -> int:
    plain = _written(plain)
    if not isinstance(plain, str) or plain.isdecimal():
        return _integer(field, plain, 0, 2**64 - 1)
    try:
        return time_of_text(plain)
    except ValueError:
        hint = f"It is {expected(field)}: without its offset from UTC it would be the time of no place"
        raise InvalidInput(
            f"{plain[:80]!r} is not what field {field.name} takes", hint=hint, code="bad_field"
        ) from None


def _day(field: Field, plain: Plain) -> int:
    plain = _written(plain)
    if not isinstance(plain, str) or plain.isdecimal():
        return _integer(field, plain, 0, 2**32 - 1)
    try:
        return day_of_text(plain)
    except ValueError:
        raise _wrong(field, plain) from None


def _written(plain: Plain) -> Plain:
    """As text: files in TOML have dates and moments of their own."""
    return plain.isoformat() if hasattr(plain, "isoformat") else plain


def _encodes(text: str, least: int, most: int) -> bool:
    try:
        return least <= len(text.encode()) <= most
    except UnicodeEncodeError:
        return False


def _policy(field: Field, plain: Plain) -> Policy:
    found = _POLICY.fullmatch(plain.strip().lower()) if isinstance(plain, str) else None
    if found is None:
        raise _wrong(field, plain)
    keys = []
    for part in found[2].split(","):
        key, _, weight = part.strip().partition(":")
        if not re.fullmatch(r"[0-9a-f]{64}", key) or not re.fullmatch(r"[0-9]{0,10}", weight):
            raise _wrong(field, plain)
        keys.append((bytes.fromhex(key), int(weight or 1)))
    try:
        return Policy.decode((int(found[1]), tuple(sorted(keys)), int(found[3] or 1)))
    except PeerFault as fault:
        raise InvalidInput("this policy is not possible", why=str(fault), code="bad_policy") from None


def _json(name: str, text: str) -> Plain:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"field {name} is not JSON", why=str(error), code="bad_field") from None


def _items(field: ListOf, plain: Plain) -> Sequence[Plain]:
    if isinstance(plain, str):
        if plain.lstrip().startswith("["):
            plain = _json(field.name, plain)
        else:
            apart = ";" if isinstance(field.item, Record | Row) else ","
            plain = [part.strip() for part in plain.split(apart)] if plain.strip() else []
    if not isinstance(plain, Sequence) or isinstance(plain, bytes | str):
        raise _wrong(field, plain)
    return plain


def _table(name: str, form: Form, plain: Plain) -> Mapping[str, Plain]:
    """The parts of a record by name."""
    if isinstance(plain, str):
        if plain.lstrip().startswith(("{", "[")):
            plain = _json(name, plain)
        else:
            plain = [part.strip() for part in plain.split(",")]
            if all("=" in part for part in plain):
                plain = dict(part.split("=", 1) for part in plain)
    if isinstance(plain, Mapping):
        return plain
    if not isinstance(plain, Sequence) or isinstance(plain, bytes) or len(plain) != len(form):
        listed = isinstance(plain, Sequence) and not isinstance(plain, bytes | str)
        shown = ",".join(str(part) for part in plain) if listed else str(plain)
        raise InvalidInput(
            f"{shown[:80]!r} is no {name}",
            hint=f"It has {', '.join(part.name for part in form)}",
            code="bad_field",
        )
    return {part.name: value for part, value in zip(form, plain, strict=True)}


def _list(field: ListOf, plain: Plain, names: Names, salt: bytes, asset: bytes) -> tuple[Any, ...]:
    items = []
    for number, item in enumerate(_items(field, plain), start=1):
        try:
            items.append(_value(field.item, item, names, salt, asset))
        except InvalidInput as error:
            error.where = f"{field.name} {number}" + (f", {error.where}" if error.where else "")
            raise
    if not field.least <= len(items) <= field.most:
        raise InvalidInput(
            f"field {field.name} has {len(items):,} items, not {field.least} to {field.most:,}", code="bad_field"
        )
    if field.ascending:
        items.sort(key=lambda item: _order(field.item.encode(item)))
        keys = [_order(field.item.encode(item)) for item in items]
        if len(set(keys)) != len(keys):
            raise InvalidInput(f"field {field.name} names something twice", code="bad_field")
    return tuple(items)


def _order(value: Any) -> Any:
    while isinstance(value, tuple):
        value = value[0]
    return value


# To texts ---------------------------------------------------------------------------------------------------------


def operation_plain(operation: Operation, names: Names) -> dict[str, Plain]:
    """The fields of an operation as texts, lists and tables: what ``operation_of`` reads back."""
    return form_plain(operation.form, {field.name: getattr(operation, field.name) for field in operation.form}, names)


def form_plain(form: Form, values: Mapping[str, Any], names: Names, around: bytes = b"") -> dict[str, Plain]:
    """The same for any form. ``around``: the asset of amounts that have none beside them."""
    return {
        field.name: text_of(field, values[field.name], names, asset=_asset_beside(form, field, values) or around)
        for field in form
    }


def text_of(field: Field, value: Any, names: Names, *, asset: bytes = b"") -> Plain:
    """A value as people read it: a text; of a list a list, of a record a table."""
    match field:
        case ListOf():
            return [text_of(field.item, item, names, asset=asset) for item in value]
        case Record():
            parts = {part.name: getattr(value, part.name) for part in field.kind.form}
            return form_plain(field.kind.form, parts, names, asset)
        case Row():
            parts = {part.name: item for part, item in zip(field.form, value, strict=True)}
            return form_plain(field.form, parts, names, asset)
        case Account():
            return names.name_of(value) or value.hex()
        case AssetName():
            return asset_text(value) if value else ""
        case RegisterCode() | Instrument():
            return value.rstrip(b"\0").decode() if _CODE.fullmatch(value) else value.hex()
        case OperationCode():
            return operation_name(OPERATIONS[value]) if value in OPERATIONS else str(value)
        case Amount():
            if asset in names.decimals:
                return amount_text(value, names.decimals[asset])
            return f"{value:,}{_UNITS if asset else ''}"
        case TimeMs():
            return time_text(value)
        case Day():
            return day_text(value)
        case Choice():
            return field.kind(value).name.lower()
        case Switch():
            return "on" if value else "off"
        case SigningPolicy():
            keys = ", ".join(f"{key.hex()}{'' if weight == 1 else f':{weight}'}" for key, weight in value.keys)
            return f"{value.threshold} of {keys} version {value.version}"
        case _:
            return value.hex() if isinstance(value, bytes) else str(value)
