"""Look-alikes: names that people would take for one another have the same *skeleton*.

After Unicode Technical Standard 39, with its table cut to the letters that pass for Latin ones, and wider where tickers
need it. The skeleton of a text is made in steps:

    1  refuse what has no place in a name: control and format characters, spaces but the plain one, letters that are
       blank, and whatever Unicode 3.2 did not know
    2  compatibility decomposition (full width, mathematical alphabets, ligatures), without the marks above and below
    3  no case
    4  letters of other scripts as the Latin letters that they look like; 0 as o, and 1, i, | as l
    5  letters and digits alone: no spaces, hyphens, dots

The tables of Unicode grow with every version of Python; those of version 3.2 come with all of them and never change,
and what they know is folded alike ever since. So all nodes make the same skeletons, whatever they run on.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from unicodedata import ucd_3_2_0 as unicode

from p2pledger.primitives.hashing import LOOKALIKE_TAG, tagged_hash

__all__ = ["LATIN", "name_is_clean", "skeleton", "skeleton_key"]

_NEVER: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})
_BLANK: Final = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U0001d159")
"""Fillers and empty patterns: letters and symbols that nobody sees."""
LATIN: Final[Mapping[int, str]] = MappingProxyType(str.maketrans(
    {
        # digits and strokes
        "0": "o", "1": "l", "i": "l", "|": "l", "\N{DIVIDES}": "l", "\N{LATIN LETTER DENTAL CLICK}": "l",
        "\N{LATIN SMALL LETTER DOTLESS I}": "l", "\N{LATIN SMALL LETTER I WITH STROKE}": "l",
        "\N{LATIN SMALL LETTER IOTA}": "l", "\N{LATIN SMALL LETTER L WITH STROKE}": "l",
        # Latin letters that decompose to nothing
        "\N{LATIN SMALL LETTER ALPHA}": "a", "\N{LATIN SMALL LETTER B WITH STROKE}": "b",
        "\N{LATIN SMALL LETTER D WITH STROKE}": "d", "\N{LATIN SMALL LETTER SCRIPT G}": "g",
        "\N{LATIN SMALL LETTER G WITH STROKE}": "g", "\N{LATIN SMALL LETTER H WITH STROKE}": "h",
        "\N{LATIN SMALL LETTER K WITH HOOK}": "k", "\N{LATIN SMALL LETTER O WITH STROKE}": "o",
        "\N{LATIN SMALL LETTER T WITH STROKE}": "t", "\N{LATIN SMALL LETTER Z WITH STROKE}": "z",
        "\N{LATIN SMALL LETTER V WITH HOOK}": "u", "\N{LATIN SMALL LETTER U BAR}": "u",
        "\N{LATIN LETTER SMALL CAPITAL I}": "l", "\N{LATIN LETTER SMALL CAPITAL N}": "n",
        "\N{LATIN LETTER SMALL CAPITAL R}": "r", "\N{LATIN LETTER SMALL CAPITAL B}": "b",
        "\N{LATIN LETTER SMALL CAPITAL H}": "h", "\N{LATIN LETTER SMALL CAPITAL L}": "l",
        "\N{LATIN LETTER SMALL CAPITAL Y}": "y", "\N{LATIN LETTER SMALL CAPITAL G}": "g",
        # Greek
        "\N{GREEK SMALL LETTER ALPHA}": "a", "\N{GREEK SMALL LETTER BETA}": "b", "\N{GREEK SMALL LETTER EPSILON}": "e",
        "\N{GREEK SMALL LETTER ZETA}": "z", "\N{GREEK SMALL LETTER ETA}": "h", "\N{GREEK SMALL LETTER IOTA}": "l",
        "\N{GREEK SMALL LETTER KAPPA}": "k", "\N{GREEK SMALL LETTER MU}": "m", "\N{GREEK SMALL LETTER NU}": "n",
        "\N{GREEK SMALL LETTER OMICRON}": "o", "\N{GREEK SMALL LETTER RHO}": "p", "\N{GREEK SMALL LETTER TAU}": "t",
        "\N{GREEK SMALL LETTER UPSILON}": "y", "\N{GREEK SMALL LETTER CHI}": "x", "\N{GREEK SMALL LETTER SIGMA}": "o",
        "\N{GREEK SMALL LETTER GAMMA}": "y", "\N{GREEK LETTER YOT}": "j",
        # Cyrillic
        "\N{CYRILLIC SMALL LETTER A}": "a", "\N{CYRILLIC SMALL LETTER VE}": "b", "\N{CYRILLIC SMALL LETTER IE}": "e",
        "\N{CYRILLIC SMALL LETTER KA}": "k", "\N{CYRILLIC SMALL LETTER EM}": "m", "\N{CYRILLIC SMALL LETTER EN}": "h",
        "\N{CYRILLIC SMALL LETTER O}": "o", "\N{CYRILLIC SMALL LETTER ER}": "p", "\N{CYRILLIC SMALL LETTER ES}": "c",
        "\N{CYRILLIC SMALL LETTER TE}": "t", "\N{CYRILLIC SMALL LETTER U}": "y", "\N{CYRILLIC SMALL LETTER HA}": "x",
        "\N{CYRILLIC SMALL LETTER DZE}": "s", "\N{CYRILLIC SMALL LETTER JE}": "j",
        "\N{CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I}": "l", "\N{CYRILLIC LETTER PALOCHKA}": "l",
        "\N{CYRILLIC SMALL LETTER SHHA}": "h", "\N{CYRILLIC SMALL LETTER IZHITSA}": "v",
        "\N{CYRILLIC SMALL LETTER KOMI DE}": "d", "\N{CYRILLIC SMALL LETTER STRAIGHT U}": "y",
        "\N{CYRILLIC SMALL LETTER SOFT SIGN}": "b", "\N{CYRILLIC SMALL LETTER GHE}": "r",
        "\N{CYRILLIC SMALL LETTER OMEGA}": "w", "\N{CYRILLIC SMALL LETTER QA}": "q",
        "\N{CYRILLIC SMALL LETTER WE}": "w",
        # Armenian
        "\N{ARMENIAN SMALL LETTER OH}": "o", "\N{ARMENIAN SMALL LETTER SEH}": "u", "\N{ARMENIAN SMALL LETTER VO}": "n",
        "\N{ARMENIAN SMALL LETTER HO}": "h", "\N{ARMENIAN SMALL LETTER CO}": "g", "\N{ARMENIAN SMALL LETTER YIWN}": "l",
        "\N{ARMENIAN SMALL LETTER ZA}": "q", "\N{ARMENIAN SMALL LETTER FEH}": "p",
        # Cherokee
        "\N{CHEROKEE LETTER A}": "d", "\N{CHEROKEE LETTER E}": "r", "\N{CHEROKEE LETTER I}": "t",
        "\N{CHEROKEE LETTER GO}": "a", "\N{CHEROKEE LETTER GU}": "j", "\N{CHEROKEE LETTER GV}": "e",
        "\N{CHEROKEE LETTER LA}": "w", "\N{CHEROKEE LETTER LU}": "m", "\N{CHEROKEE LETTER MI}": "h",
        "\N{CHEROKEE LETTER NI}": "h", "\N{CHEROKEE LETTER HE}": "p", "\N{CHEROKEE LETTER QUV}": "e",
        "\N{CHEROKEE LETTER SA}": "u", "\N{CHEROKEE LETTER SE}": "4", "\N{CHEROKEE LETTER SI}": "b",
        "\N{CHEROKEE LETTER DA}": "l", "\N{CHEROKEE LETTER DU}": "s", "\N{CHEROKEE LETTER TLE}": "l",
        "\N{CHEROKEE LETTER TLI}": "c", "\N{CHEROKEE LETTER TSU}": "d", "\N{CHEROKEE LETTER TSE}": "v",
        "\N{CHEROKEE LETTER YV}": "b", "\N{CHEROKEE LETTER WI}": "o", "\N{CHEROKEE LETTER NO}": "z",
        "\N{CHEROKEE LETTER YE}": "b",
    }
))  # fmt: skip
"""What passes for a Latin letter in lower case -> that letter."""


def name_is_clean(text: str) -> bool:
    """Whether a text may be a name: printable characters of Unicode 3.2, at least one of them a letter or a digit."""
    return not any(_is_hidden(character) for character in text) and bool(skeleton(text))


def _is_hidden(character: str) -> bool:
    return character != " " and (character in _BLANK or unicode.category(character) in _NEVER)


def skeleton(text: str) -> str:
    """What is left of a name when everything that people overlook is taken from it; empty where nothing is."""
    folded = _plain(_plain(text).casefold())
    letters = folded.translate(LATIN)
    return "".join(character for character in letters if unicode.category(character)[0] in "LN")


def _plain(text: str) -> str:
    """Without compatibility forms, and without marks."""
    decomposed = unicode.normalize("NFKD", text)
    return "".join(character for character in decomposed if unicode.category(character)[0] != "M")


def skeleton_key(kind: int, text: str) -> bytes:
    """32 bytes under which table LOOKALIKES knows all names of one kind that look like this one."""
    return tagged_hash(LOOKALIKE_TAG, bytes((kind,)) + skeleton(text).encode())
