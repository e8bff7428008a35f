"""Names that people would take for one another have the same skeleton; others have not."""

import re
import sys
import unicodedata
from hashlib import sha256
from pathlib import Path

import pytest

from p2pledger.primitives.market.lookalikes import LATIN, name_is_clean, skeleton, skeleton_key

PROTOCOL = Path(__file__).resolve().parents[3] / "docs" / "protocol.md"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ICBC", "icbc"),
        ("ICBC", "lCBC"),
        ("ICBC", "1CBC"),
        ("ICBC", "|CBC"),
        ("TOYOTA", "T0Y0TA"),
        ("ICBC", "I C-B.C"),
        ("ICBC", "\u0406\u0421\u0412\u0421"),  # Cyrillic throughout
        ("ALPHA", "\u0391L\u03a1\u0397\u0391"),  # Greek capitals
        ("ICBC", "\uff29\uff23\uff22\uff23"),  # full width
        ("ICBC", "\u00cfCB\u00c7"),  # marks above and below
        ("ICBC", "\u2160CBC"),  # a Roman numeral
        ("Strasse", "Stra\u00dfe"),
        ("office", "o\ufb03ce"),  # a ligature
        ("DEW", "\u13a0E\u13b3"),  # Cherokee
        ("BAIDU", "\U0001d401\U0001d400\U0001d408\U0001d403\U0001d414"),  # mathematical bold
        ("hop", "\u0570\u0585\u0440"),  # Armenian, with a Cyrillic letter
    ],
)
def test_these_look_alike(one: str, other: str) -> None:
    assert skeleton(one) == skeleton(other)
    assert skeleton_key(0, one) == skeleton_key(0, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("ICBC", "CCBC"), ("BOND 2026", "BOND 2027"), ("CCDC", "CSDC"), ("中国银行", "中国人民银行"), ("A", "B")],
)
def test_these_do_not(one: str, other: str) -> None:
    assert skeleton(one) != skeleton(other)


def test_kinds_of_names_do_not_get_in_each_others_way() -> None:
    assert skeleton_key(0, "ICBC") != skeleton_key(1, "ICBC")


@pytest.mark.parametrize("text", ["ICBC", "Société Générale", "中国银行", "Газпром", "7-Eleven", "ESG & Co. (Ltd.)"])
def test_names_of_all_scripts_are_clean(text: str) -> None:
    assert name_is_clean(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "...",
        "IC\u200bBC",
        "\u202eCBCI",
        "IC\x00BC",
        "IC\nBC",
        "\ue000",
        "\u2028",
        "IC\u3164BC",
        "IC\u00a0BC",
        "IC\U0001f600",
    ],
    ids=[
        "empty",
        "blank",
        "dots",
        "zero width",
        "reversed",
        "zero",
        "newline",
        "private",
        "separator",
        "filler",
        "hard",
        "after 3.2",
    ],
)
def test_what_cannot_be_seen_or_read_is_no_name(text: str) -> None:
    assert not name_is_clean(text)


def test_the_protocol_prints_the_table() -> None:
    section = PROTOCOL.read_text(encoding="utf-8").split("#### 4.3.2")[1].split("#### 4.3.3")[0]
    printed = {
        int(code, 16): letter
        for letter, codes in re.findall(r"^([a-z0-9])  ([0-9A-F ]+)$", section, re.MULTILINE)
        for code in codes.split()
    }
    assert printed == dict(LATIN)


def test_skeletons_stay_as_they_are() -> None:
    """The whole of Unicode 3.2 is folded to one and the same value by every version of Python: nodes must agree."""
    table = unicodedata.ucd_3_2_0
    known = [chr(code) for code in range(sys.maxunicode + 1) if table.category(chr(code)) not in ("Cn", "Cs", "Co")]
    digest = sha256("\n".join(skeleton(character) for character in known).encode()).hexdigest()
    assert table.unidata_version == "3.2.0"
    assert len(known) == 95_221
    assert digest == "2313a87cc270af534ea0235273432b6b686c5a9ec00b7b06fee620e9c1de2157"
