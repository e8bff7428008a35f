"""Domain tags: those of the protocol, distinct, and in front of everything that is hashed or signed."""

import hashlib
import re
from pathlib import Path

from p2pledger.primitives import hashing

PROTOCOL = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"


def test_the_tags_are_those_of_the_protocol() -> None:
    tags = {value for name, value in vars(hashing).items() if name.endswith("_TAG")}
    listed = re.findall(r"^\| `(p2pl\.\w+)` \|", PROTOCOL.read_text(encoding="utf-8"), re.MULTILINE)
    assert tags == {tag.encode() for tag in listed}
    assert all(len(tag) == 8 for tag in tags)
    assert len(tags) == len(listed)


def test_a_tagged_hash_is_sha256_over_tag_and_data() -> None:
    assert hashing.tagged_hash(b"p2pl.tx1", b"data") == hashlib.sha256(b"p2pl.tx1data").digest()
    assert bytes(32) == hashing.ZERO_HASH
