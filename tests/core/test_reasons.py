"""The reason codes: one table in p2pledger.primitives.reasons; C and the reference hold copies that must equal it.

python -m tests.core.test_reasons     writes p2pledger/native/reasons.h anew
"""

from collections.abc import Iterable
from pathlib import Path

from p2pledger import _reference
from p2pledger.primitives.reasons import REASONS, WHOLE_TRANSACTION

HEADER = Path(_reference.__file__).parent / "native" / "reasons.h"


def rendered(reasons: Iterable[tuple[int, str, str]]) -> str:
    """The header for the C core."""
    return "\n".join(
        [
            "/* Generated from p2pledger/primitives/reasons.py by tests/core/test_reasons.py; do not edit. */",
            "",
            "#ifndef P2L_REASONS_H",
            "#define P2L_REASONS_H",
            "",
            "enum {",
            *(f"    P2L_REASON_{name.upper()} = {code}," for code, name, _ in reasons),
            "};",
            "",
            "#endif",
            "",
        ]
    )


def test_the_header_is_the_table() -> None:
    assert HEADER.read_text() == rendered(REASONS)


def test_the_reference_has_the_same_codes() -> None:
    codes = {name: code for code, name, _ in REASONS}
    copies = {name[7:].lower(): code for name, code in vars(_reference).items() if name.startswith("REASON_")}
    assert len(copies) == 14
    assert copies.items() <= codes.items()
    assert _reference.WHOLE_TRANSACTION == WHOLE_TRANSACTION


if __name__ == "__main__":
    HEADER.write_text(rendered(REASONS))
