"""Generated from the forms in p2pledger/primitives by `make forms`; do not edit."""

from typing import Any, TypeAlias

Shape: TypeAlias = tuple[Any, ...]

# fmt: off
FORMS: dict[int, tuple[Shape, ...]] = {
    1: (
        ("bytes", 32, 32),
        ("bytes", 32, 32),
        ("bytes", 16, 16),
        ("number", 0, 18446744073709551615),
    ),
    2: (
        ("bytes", 32, 32),
        ("bytes", 16, 16),
        ("number", 0, 18446744073709551615),
        ("bytes", 32, 32),
    ),
    3: (
        ("bytes", 32, 32),
        ("bytes", 16, 16),
        ("number", 0, 18446744073709551615),
        ("bytes", 32, 32),
    ),
    4: (
        ("bytes", 16, 16),
        ("bytes", 32, 32),
        ("number", 0, 18446744073709551615),
    ),
    5: (
        ("bytes", 16, 16),
        ("bytes", 32, 32),
        ("number", 0, 18446744073709551615),
    ),
    6: (
        ("bytes", 16, 16),
        ("number", 0, 1),
        ("number", 0, 18),
        ("bytes", 32, 32),
        ("text", 1, 64),
    ),
    7: (
        ("bytes", 32, 32),
        ("bytes", 16, 16),
        ("policy",),
    ),
    8: (
        ("bytes", 32, 32),
        ("policy",),
    ),
    9: (
        ("bytes", 32, 32),
        ("bytes", 32, 32),
        ("number", 0, 18446744073709551615),
    ),
    10: (
        ("bytes", 32, 32),
        ("number", 0, 18446744073709551615),
        ("bytes", 16, 16),
        ("bytes", 32, 32),
    ),
    11: (
        ("bytes", 32, 32),
        ("bytes", 32, 32),
    ),
    12: (
        ("bytes", 16, 16),
        ("number", 0, 18446744073709551615),
    ),
    13: (
        ("number", 0, 18446744073709551615),
        ("list", 1, 1024, True, ("record", ("bytes", 32, 32), ("number", 1, 4294967295), ("text", 0, 64))),
        ("list", 1, 1024, True, ("record", ("bytes", 32, 32), ("bytes", 64, 64))),
    ),
    14: (
        ("bytes", 1, 1024),
        ("bytes", 1, 1024),
    ),
}
