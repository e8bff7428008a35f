"""Canonical MessagePack: one value, one encoding.

Values are unsigned 64-bit integers, bytes, text, arrays (tuples), None and booleans. The encoder is msgpack's own,
which writes shortest forms; the decoder refuses whatever does not encode back to the very same bytes, so there is no
second way to write anything that is hashed, signed or stored (docs/protocol.md, section 1).

Transactions in batches never come through here: the core scans them (``core.scan_batch``).
"""

from __future__ import annotations

from typing import Any, Final

import msgpack

from p2pledger.primitives.errors import PeerFault

__all__ = ["MAX_DEPTH", "U64_MAX", "Fields", "Value", "decode", "encode"]

Value = Any
"""int, bytes, str, tuple of values, None or bool."""

MAX_DEPTH: Final = 16
U64_MAX: Final = 2**64 - 1
_SMALL_BYTES: Final = 1_024


def encode(value: Value) -> bytes:
    """The canonical encoding of ``value``. TypeError or ValueError for a value outside the allowed types."""
    _check(value, 0)
    # A packer for each value, because threads must not share one. (``packb`` does the same in twice the time.)
    packed: bytes = msgpack.Packer().pack(value)
    return packed


def decode(data: bytes | memoryview, *, limit_bytes: int, what: str) -> Value:
    """The value of canonical bytes; arrays become tuples.

    PeerFault ``too_large`` above ``limit_bytes`` (checked before anything is parsed), ``malformed`` for every encoding
    that is not canonical. ``what`` names the object in the error.
    """
    size_bytes = len(data)
    if size_bytes > limit_bytes:
        raise PeerFault(f"{what} of {size_bytes} bytes exceeds {limit_bytes}", code="too_large")
    try:
        if size_bytes > _SMALL_BYTES:
            _skip(data)
        # What claims to be longer than ``data`` is refused before it is allocated: that is the unpacker's default.
        value = msgpack.unpackb(data, use_list=False, max_map_len=0, max_ext_len=0)
        _check(value, 0)
        canonical = msgpack.Packer().pack(value) == data
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise PeerFault(f"{what} is not canonical MessagePack", why=_reason(error), code="malformed") from None
    if not canonical:
        raise PeerFault(f"{what} is not canonical MessagePack", why="a shorter form exists", code="malformed")
    return value


def _skip(data: bytes | memoryview) -> None:
    """Walk to the end of a value without making anything; an error of msgpack's where it has no end.

    The unpacker makes room for a whole array when it sees its head, and nests a thousand of them: each may claim as
    many items as ``data`` have bytes, and all their rooms stand at once. In a value that has an end each item has a
    byte of its own. What is small cannot do harm, and does not pay for the walk.
    """
    unpacker = msgpack.Unpacker(None, max_buffer_size=len(data), read_size=len(data))
    unpacker.feed(data)
    unpacker.skip()


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _check(value: Value, depth: int) -> None:
    kind = type(value)
    if kind is int:
        if not 0 <= value <= U64_MAX:
            raise ValueError("an integer is outside 0 .. 2^64 - 1")
    elif kind is tuple or kind is list:
        if depth == MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        for item in value:
            # Most items are bytes and small numbers: no call for those.
            inner = type(item)
            if inner is not bytes and (inner is not int or not 0 <= item <= U64_MAX):
                _check(item, depth + 1)
    elif kind is not bytes and kind is not str and kind is not bool and value is not None:
        raise TypeError(f"{kind.__name__} is not an allowed type")


class Fields:
    """Reads the fields of one decoded array in order, each with its type and width.

    >>> fields = Fields(decode(data, limit_bytes=100, what="vote"), what="vote", count=3, version=1)
    >>> view, block = fields.integer("view"), fields.binary("block", 32)

    Every mismatch is a PeerFault ``malformed`` (or ``unknown_version``) that names the object and the field.
    """

    __slots__ = ("_at", "_values", "_what")

    def __init__(self, values: Value, *, what: str, count: int, version: int | None = None) -> None:
        self._what = what
        if type(values) is not tuple:
            raise PeerFault(f"{what} is not an array", code="malformed")
        if version is not None:
            if not values or type(values[0]) is not int:
                raise PeerFault(f"{what} does not start with its version", code="malformed")
            if values[0] != version:
                raise PeerFault(f"{what} has version {values[0]}; {version} is known here", code="unknown_version")
        if len(values) != count:
            raise PeerFault(f"{what} has {len(values)} fields instead of {count}", code="malformed")
        self._values = values
        self._at = 0 if version is None else 1

    def _next(self) -> Value:
        value = self._values[self._at]
        self._at += 1
        return value

    def _wrong(self, name: str, expected: str) -> PeerFault:
        return PeerFault(f"field {name} of {self._what} is not {expected}", code="malformed")

    def integer(self, name: str, *, most: int = U64_MAX) -> int:
        value = self._next()
        if type(value) is not int or value > most:
            raise self._wrong(name, f"an integer up to {most}")
        return value

    def binary(self, name: str, width: int | None = None, *, most: int | None = None) -> bytes:
        value = self._next()
        if type(value) is not bytes or (width is not None and len(value) != width):
            raise self._wrong(name, "bytes" if width is None else f"{width} bytes")
        if most is not None and len(value) > most:
            raise self._wrong(name, f"at most {most} bytes")
        return value

    def text(self, name: str, *, most: int) -> str:
        value = self._next()
        if type(value) is not str or len(value.encode()) > most:
            raise self._wrong(name, f"text of at most {most} bytes")
        return value

    def boolean(self, name: str) -> bool:
        value = self._next()
        if type(value) is not bool:
            raise self._wrong(name, "true or false")
        return value

    def array(self, name: str, *, most: int) -> tuple[Value, ...]:
        value = self._next()
        if type(value) is not tuple or len(value) > most:
            raise self._wrong(name, f"an array of at most {most}")
        return value

    def optional_binary(self, name: str, width: int) -> bytes | None:
        value = self._next()
        if value is None:
            return None
        if type(value) is not bytes or len(value) != width:
            raise self._wrong(name, f"{width} bytes or nil")
        return value

    def binaries(self, name: str, width: int | None = None, *, most: int) -> tuple[bytes, ...]:
        items = self.array(name, most=most)
        for item in items:
            if type(item) is not bytes or (width is not None and len(item) != width):
                raise self._wrong(name, f"an array of {'' if width is None else f'{width}-byte '}byte strings")
        return items
