"""RFC 9162 trees: roots, inclusion proofs, and proofs that must fail."""

import base64
import json
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger import _reference

SIZES = [*range(1, 18), 31, 32, 33, 63, 64, 65, 100]


def test_roots_of_the_certificate_transparency_test_set(core: ModuleType) -> None:
    """The eight leaves that RFC 6962 implementations share, and the root of no leaves."""
    leaves = [bytes.fromhex(x) for x in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
    leaves.append(bytes.fromhex("606162636465666768696a6b6c6d6e6f"))
    assert core.merkle_root([]) == sha256(b"").digest()
    assert core.merkle_root(leaves[:1]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert core.merkle_root(leaves[:3]).hex() == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
    assert core.merkle_root(leaves).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_every_leaf_of_every_size_is_proved(core: ModuleType) -> None:
    for size in SIZES:
        leaves = [b"leaf %d" % i for i in range(size)]
        root = core.merkle_root(leaves)
        assert root == _reference.merkle_root(leaves)
        for index, leaf in enumerate(leaves):
            proof = core.merkle_proof(leaves, index)
            assert proof == _reference.merkle_proof(leaves, index)
            assert core.merkle_verify(root, leaf, index, size, proof)
            assert core.merkle_verify_hash(root, sha256(b"\0" + leaf).digest(), index, size, proof)


def test_sizes_around_the_runs_in_which_leaves_are_taken(core: ModuleType) -> None:
    """Runs of 1,024 leaves; receipts are encoded 128 at a time."""
    hashes = [sha256(b"%d" % i).digest() for i in range(2500)]
    codes = bytes(i % 7 for i in range(4 * len(hashes)))
    for size in (0, 1, 15, 16, 17, 127, 128, 129, 1023, 1024, 1025, 1152, 2047, 2048, 2049, 2500):
        leaves = [leaf * (i % 5) for i, leaf in enumerate(hashes[:size])]
        assert core.merkle_root(leaves) == _reference.merkle_root(leaves)
        ids = b"".join(hashes[:size])
        assert core.receipts_root(ids, codes[: 4 * size]) == _reference.receipts_root(ids, codes[: 4 * size])
        if size:
            proof = core.merkle_proof(leaves, size // 2)
            assert core.merkle_verify(core.merkle_root(leaves), leaves[size // 2], size // 2, size, proof)


def test_a_changed_proof_fails(core: ModuleType) -> None:
    leaves = [b"leaf %d" % i for i in range(21)]
    root = core.merkle_root(leaves)
    for index in (0, 7, 15, 16, 19, 20):
        proof = core.merkle_proof(leaves, index)
        leaf = leaves[index]
        assert not core.merkle_verify(root, b"other", index, 21, proof)
        assert not core.merkle_verify(bytes(32), leaf, index, 21, proof)
        assert not core.merkle_verify(root, leaf, index ^ 1, 21, proof)
        assert not core.merkle_verify(root, leaf, index, 21, proof[:-1])
        assert not core.merkle_verify(root, leaf, index, 21, [*proof, bytes(32)])
        assert not core.merkle_verify(root, leaf, index, 21, proof[::-1])
        assert not core.merkle_verify(root, leaf, index, 21, [])
        for at in range(len(proof)):
            bent = bytearray(proof[at])
            bent[31] ^= 1
            assert not core.merkle_verify(root, leaf, index, 21, [*proof[:at], bytes(bent), *proof[at + 1 :]])


def test_hostile_proofs_are_false_and_never_raise(core: ModuleType) -> None:
    root = core.merkle_root([b"a", b"b"])
    proof = core.merkle_proof([b"a", b"b"], 0)
    for index, size in ((-1, 2), (2, 2), (0, 0), (0, -5), (2**64, 2**65), (0, 2**64), (0, 2**200), (2**63, 2**64 - 1)):
        assert core.merkle_verify(root, b"a", index, size, proof) is False
    assert core.merkle_verify(b"", b"a", 0, 2, proof) is False
    assert core.merkle_verify(root, b"a", 0, 2, [b"short"]) is False
    assert core.merkle_verify(root, b"a", 0, 2, [bytes(33)]) is False
    assert core.merkle_verify(root, b"a", 0, 2**64 - 1, [bytes(32)] * 64) is False
    assert core.merkle_verify(root, b"a", 0, 2, [bytes(32)] * 500) is False
    assert core.merkle_verify_hash(root, b"short", 0, 2, proof) is False


def test_wrong_types_are_refused(core: ModuleType) -> None:
    for call in (
        lambda: core.merkle_root(["text"]),
        lambda: core.merkle_proof([b"a"], "0"),
        lambda: core.merkle_verify("root", b"", 0, 1, []),
        lambda: core.merkle_verify(bytes(32), b"", 0.0, 1, []),
        lambda: core.merkle_verify(bytes(32), b"", 0, None, []),
        lambda: core.merkle_verify(bytes(32), b"", 0, 1, [1]),
    ):
        with pytest.raises(TypeError):
            call()
    for index in (-1, 1, 2**70):
        with pytest.raises(ValueError, match="index"):
            core.merkle_proof([b"a"], index)
    with pytest.raises(ValueError, match="index"):
        core.merkle_proof([], 0)


@given(leaves=st.lists(st.binary(max_size=80), min_size=1, max_size=60), data=st.data())
def test_both_implementations_agree(leaves: list[bytes], data: st.DataObject) -> None:
    core = pytest.importorskip("p2pledger._core")
    index = data.draw(st.integers(0, len(leaves) - 1))
    assert core.merkle_root(leaves) == _reference.merkle_root(leaves)
    assert core.merkle_proof(leaves, index) == _reference.merkle_proof(leaves, index)


def test_inclusion_vectors_good_and_bad(core: ModuleType, shared_data: Path) -> None:
    """transparency-dev/merkle, testdata/inclusion."""
    good = bad = 0
    for path in sorted((shared_data / "vectors" / "merkle" / "inclusion").rglob("*.json")):
        case = json.loads(path.read_text())
        proof = [base64.b64decode(sibling) for sibling in case["proof"] or []]
        root, leaf_hash = base64.b64decode(case["root"] or ""), base64.b64decode(case["leafHash"] or "")
        verified = core.merkle_verify_hash(root, leaf_hash, case["leafIdx"], case["treeSize"], proof)
        assert verified is not case["wantErr"], path
        good, bad = good + verified, bad + (not verified)
    assert good >= 5
    assert bad >= 50
