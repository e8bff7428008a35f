"""The state tree against a dict and against the definition of section 7; versions, branches, scans and proofs."""

import gc
import random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pledger import _reference
from p2pledger._reference import BranchInUse, Proof, StateReleased
from tests.core import builders as b

TABLES = {0: 1, 1: 2, 63: 48, 7: 128}
Contents = dict[int, dict[bytes, bytes]]


def test_the_empty_state(core: ModuleType) -> None:
    state = core.empty_state(TABLES)
    assert state.root() == b.naive_state_root({})
    assert state.table_root(0) == bytes(32)
    assert state.count(1) == 0
    assert state.scan(1) == []
    assert state.get(0, b"k") is None
    proof = state.prove(0, b"k")
    assert proof.leaf is None
    assert proof.path == ()
    assert core.state_verify(state.root(), 0, b"k", None, proof)
    assert not core.state_verify(state.root(), 0, b"k", b"", proof)


def test_roots_follow_the_definition(core: ModuleType) -> None:
    rng = random.Random(5)
    branch = core.empty_state(TABLES).branch()
    contents: Contents = {table: {} for table in TABLES}
    for step in range(400):
        table = rng.choice(list(TABLES))
        key = rng.choice((rng.randbytes(TABLES[table]), bytes(TABLES[table] - 1) + bytes([rng.randrange(9)])))
        if rng.random() < 0.7:
            value = rng.randbytes(rng.choice((0, 1, 20, 55, 200)))
            branch.put(table, key, value)
            contents[table][key] = value
        else:
            assert branch.delete(table, key) is (contents[table].pop(key, None) is not None)
        if step % 20 == 0:
            assert branch.root() == b.naive_state_root(contents)
            assert branch.table_root(table) == b.naive_table_root(table, contents[table])
    assert branch.commit().root() == b.naive_state_root(contents)


def test_a_known_root(core: ModuleType) -> None:
    """Frozen on the day of the first release: a change of this number is a change of the protocol."""
    branch = core.empty_state(b.WIDTHS).branch()
    for i in range(100):
        branch.put(b.ACCOUNTS, b.account(str(i)), b.pack([1, 0, b.policy((str(i), 1))]))
        branch.put(b.HOLDINGS, b.asset(str(i % 3)) + b.account(str(i)), b.pack([1, i, 2 * i]))
    assert branch.root() == b.naive_state_root(
        {
            1: {b.account(str(i)): b.pack([1, 0, b.policy((str(i), 1))]) for i in range(100)},
            3: {b.asset(str(i % 3)) + b.account(str(i)): b.pack([1, i, 2 * i]) for i in range(100)},
        }
    )
    assert branch.root().hex() == "892af8020b114a25e4797fe79abc221a27e09d2157d873be72c737b6d1bbf829"


KEYS = st.one_of(st.binary(min_size=2, max_size=2), st.sampled_from([bytes([0, i]) for i in range(8)]))
EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.binary(max_size=3)),
        st.tuples(st.just("delete"), KEYS),
        st.tuples(st.just("prefix"), st.binary(max_size=2)),
        st.tuples(st.just("below"), st.binary(max_size=2)),
        st.tuples(st.just("root")),
    ),
    max_size=12,
)
HISTORIES = st.lists(st.tuples(st.integers(0, 5), EDITS, st.booleans(), st.integers(0, 20)), max_size=12)


def check_reads(state: Any, contents: dict[bytes, bytes], rng: random.Random) -> None:
    rows = sorted(contents.items())
    assert state.count(1) == len(rows)
    assert state.scan(1, limit=10**30) == rows
    for _ in range(6):
        prefix = rng.randbytes(rng.randrange(3)) if rng.random() < 0.5 else bytes(rng.randrange(3))
        after = rng.choice((None, rng.randbytes(2), bytes([0, rng.randrange(8)]), bytes(2), b"\xff\xff"))
        limit = rng.choice((0, 1, 2, 1000))
        expected = [row for row in rows if row[0].startswith(prefix) and (after is None or row[0] > after)]
        assert state.scan(1, prefix, after, limit) == expected[:limit]
        key = rng.choice((rng.randbytes(2), bytes([0, rng.randrange(8)])))
        assert state.get(1, key) == contents.get(key)


@given(history=HISTORIES)
def test_histories_of_versions_against_dicts(history: list[Any]) -> None:
    """Every version keeps its contents whatever happens on branches of it and of others."""
    cores = [_reference]
    if (compiled := pytest.importorskip("p2pledger._core")) is not None:
        cores.append(compiled)
    for core in cores:
        rng = random.Random(0)
        versions: list[tuple[Any, dict[bytes, bytes]]] = [(core.empty_state({1: 2}), {})]
        for parent, edits, keep, release in history:
            version, before = versions[parent % len(versions)]
            branch, contents = version.branch(), dict(before)
            for edit in edits:
                if edit[0] == "put":
                    branch.put(1, edit[1], edit[2])
                    contents[edit[1]] = edit[2]
                elif edit[0] == "delete":
                    assert branch.delete(1, edit[1]) is (contents.pop(edit[1], None) is not None)
                elif edit[0] == "root":
                    assert branch.table_root(1) == b.naive_table_root(1, contents)
                else:
                    bound = edit[1]
                    gone = [k for k in contents if (k.startswith(bound) if edit[0] == "prefix" else k < bound)]
                    deleting = branch.delete_prefix if edit[0] == "prefix" else branch.delete_below
                    assert deleting(1, bound) == len(gone)
                    for k in gone:
                        del contents[k]
            check_reads(branch, contents, rng)
            if keep:
                versions.append((branch.commit(), contents))
            else:
                branch.drop()
            if release < len(versions) and len(versions) > 1:
                versions.pop(release)[0].release()
        for version, contents in versions:
            check_reads(version, contents, rng)
            assert version.root() == b.naive_state_root({1: contents})
            version.release()


def test_a_long_walk_with_wide_keys(compiled: ModuleType) -> None:
    """Both implementations side by side, many branches, keys of all widths, among them neighbours in the last bit."""
    rng = random.Random(11)
    widths = {1: 1, 2: 2, 5: 48, 63: 128}
    versions = [(compiled.empty_state(widths), _reference.empty_state(widths))]
    for _ in range(300):
        pair = [version.branch() for version in rng.choice(versions)]
        for _ in range(rng.randrange(25)):
            table = rng.choice(list(widths))
            width = widths[table]
            key = rng.randbytes(width) if rng.random() < 0.5 else bytes(width - 1) + bytes([rng.randrange(4)])
            prefix = key[: rng.randrange(width + 1)]
            match rng.randrange(7):
                case 0 | 1 | 2:
                    value = rng.randbytes(rng.randrange(6))
                    results = [branch.put(table, key, value) for branch in pair]
                case 3:
                    results = [branch.delete(table, key) for branch in pair]
                case 4:
                    results = [branch.delete_prefix(table, prefix) for branch in pair]
                case 5:
                    results = [branch.delete_below(table, prefix) for branch in pair]
                case _:
                    after = None if rng.random() < 0.3 else key
                    results = [branch.scan(table, prefix[:1], after, 7) for branch in pair]
            assert results[0] == results[1]
            assert pair[0].count(table) == pair[1].count(table)
            if rng.random() < 0.2:
                assert pair[0].prove(table, key) == pair[1].prove(table, key)
        if rng.random() < 0.8:
            versions.append((pair[0].commit(), pair[1].commit()))
            assert versions[-1][0].root() == versions[-1][1].root()
        if len(versions) > 6:
            for version in versions.pop(rng.randrange(len(versions))):
                version.release()


def test_as_deep_as_keys_can_be(core: ModuleType) -> None:
    """Keys that each differ from the next in one bit more: a single chain of 1,024 forks, the worst there is."""
    branch = core.empty_state({7: 128}).branch()
    keys = [bytes(128), *(bytes(i // 8) + bytes([0x80 >> i % 8]) + bytes(127 - i // 8) for i in range(1024))]
    for key in keys:
        branch.put(7, key, key[:3])
    version = branch.commit()
    assert version.count(7) == 1025
    assert version.scan(7, limit=2000) == [(key, key[:3]) for key in sorted(keys)]
    for key in (keys[0], keys[1], keys[512], keys[1024], b"\xff" * 128):
        proof = version.prove(7, key)
        assert core.state_verify(version.root(), 7, key, version.get(7, key), proof)
    assert len(version.prove(7, keys[0]).path) == 1024
    second = version.branch()
    second.put(7, keys[0], b"changed")
    assert second.root() != version.root()
    assert second.delete_prefix(7, bytes(127)) == 9
    assert second.delete_below(7, keys[1]) == 1024 - 8 - 1
    assert second.count(7) == 1
    second.commit().release()
    assert version.count(7) == 1025


# Proofs


def filled(core: ModuleType, rows: int = 60) -> Any:
    rng = random.Random(3)
    branch = core.empty_state({2: 4, 40: 2}).branch()
    for _ in range(rows):
        branch.put(2, rng.randbytes(3) + b"\0", rng.randbytes(5))
    branch.put(40, b"ab", b"alone")
    return branch.commit()


def test_inclusion_and_absence_are_proved(core: ModuleType) -> None:
    version = filled(core)
    root = version.root()
    for key, value in version.scan(2):
        proof = version.prove(2, key)
        assert core.state_verify(root, 2, key, value, proof)
        assert not core.state_verify(root, 2, key, None, proof)
        assert not core.state_verify(root, 2, key, value + b"\0", proof)
        assert not core.state_verify(root, 3, key, value, proof)
        neighbour = key[:3] + b"\1"
        absence = version.prove(2, neighbour)
        assert core.state_verify(root, 2, neighbour, None, absence)
        assert not core.state_verify(root, 2, neighbour, value, absence)
        assert not core.state_verify(root, 2, key, None, absence)
    assert core.state_verify(root, 40, b"ab", b"alone", version.prove(40, b"ab"))
    assert core.state_verify(root, 40, b"ac", None, version.prove(40, b"ac"))


def test_branches_prove_what_is_not_yet_committed(core: ModuleType) -> None:
    branch = filled(core).branch()
    branch.put(2, b"newk", b"v")
    assert core.state_verify(branch.root(), 2, b"newk", b"v", branch.prove(2, b"newk"))


def bent(proof: Proof, rng: random.Random) -> Proof:
    leaf, path, tables = proof
    path_list, table_list = list(path), list(tables)
    kind = rng.randrange(9)
    at = rng.randrange(len(path_list)) if path_list else 0
    if kind == 0 and path_list:
        bit, sibling = path_list[at]
        path_list[at] = (bit, bytes([sibling[0] ^ 1]) + sibling[1:])
    elif kind == 1 and path_list:
        bit, sibling = path_list[at]
        path_list[at] = (max(0, bit + rng.choice((-1, 1, 8))), sibling)
    elif kind == 2 and path_list:
        del path_list[at]
    elif kind == 3 and path_list:
        path_list.insert(at, path_list[at])
    elif kind == 4:
        at = rng.randrange(6)
        table_list[at] = bytes([table_list[at][0] ^ 0x80]) + table_list[at][1:]
    elif kind == 5 and leaf is not None:
        leaf = (leaf[0], leaf[1] + b"\0")
    elif kind == 6 and leaf is not None:
        leaf = (leaf[0][:-1] + bytes([leaf[0][-1] ^ 1]), leaf[1])
    elif kind == 7:
        leaf = None
    else:
        table_list = table_list[::-1]
    return Proof(leaf, tuple(path_list), tuple(table_list))


def test_bent_proofs_fail(core: ModuleType) -> None:
    rng = random.Random(8)
    version = filled(core)
    root = version.root()
    rows = version.scan(2)
    for _ in range(600):
        key, value = rng.choice(rows)
        if rng.random() < 0.5:
            key = key[:3] + b"\1"
        proof = version.prove(2, key)
        changed = bent(proof, rng)
        expected = version.get(2, key)
        assert core.state_verify(root, 2, key, expected, changed) is (changed == proof)
        assert not core.state_verify(root, 2, key, None if expected else value, changed)


def test_absence_cannot_be_claimed_by_another_leaf(core: ModuleType) -> None:
    """A proof for a far-away leaf must not show that a key is absent: the sides have to agree at every branch."""
    version = filled(core)
    root = version.root()
    rows = version.scan(2)
    for key, _ in rows:
        for other, _ in rows:
            if key != other:
                assert not core.state_verify(root, 2, key, None, version.prove(2, other))


@pytest.mark.parametrize(
    "proof",
    [
        None,
        (),
        (None, (), ()),
        (None, (), (b"",) * 6),
        (None, None, (bytes(32),) * 6),
        ((b"abcd",), (), (bytes(32),) * 6),
        (("text", "text"), (), (bytes(32),) * 6),
        ((b"abcd", b"v"), ((0, b"short"),), (bytes(32),) * 6),
        ((b"abcd", b"v"), ((-1, bytes(32)),), (bytes(32),) * 6),
        ((b"abcd", b"v"), ((2**70, bytes(32)),), (bytes(32),) * 6),
        ((b"abcd", b"v"), (("0", bytes(32)),), (bytes(32),) * 6),
        ((b"abcd", b"v"), ((0, bytes(32)),) * 5000, (bytes(32),) * 6),
        ((b"abcd", b"v"), ((32, bytes(32)),), (bytes(32),) * 6),
        ((b"ab", b"v"), ((31, bytes(32)),), (bytes(32),) * 6),
        ((b"", b""), ((0, bytes(32)),), (bytes(32),) * 6),
        (None, ((0, bytes(32)),), (bytes(32),) * 6),
    ],
)
def test_hostile_proofs_are_false_and_never_raise(core: ModuleType, proof: Any) -> None:
    root = filled(core).root()
    for value in (None, b"", b"v"):
        assert core.state_verify(root, 2, b"abcd", value, proof) is False
        assert core.state_verify(root, 2, b"", value, proof) is False
        assert core.state_verify(root, 2, bytes(500), value, proof) is False
        assert core.state_verify(b"root", 2, b"abcd", value, proof) is False


# Lives of versions and branches


def test_closed_branches_and_released_versions_say_so(core: ModuleType) -> None:
    version = core.empty_state(TABLES)
    branch = version.branch()
    branch.put(0, b"k", b"v")
    second = branch.commit()
    for call in (
        lambda: branch.get(0, b"k"),
        lambda: branch.put(0, b"k", b"v"),
        lambda: branch.delete(0, b"k"),
        lambda: branch.scan(0),
        lambda: branch.count(0),
        lambda: branch.root(),
        lambda: branch.table_root(0),
        lambda: branch.prove(0, b"k"),
        lambda: branch.delete_prefix(0, b""),
        lambda: branch.delete_below(0, b""),
        lambda: branch.commit(),
    ):
        with pytest.raises(StateReleased, match="branch was committed or dropped"):
            call()
    branch.drop()
    version.release()
    version.release()
    for call in (
        lambda: version.get(0, b"k"),
        lambda: version.scan(0),
        lambda: version.count(0),
        lambda: version.root(),
        lambda: version.table_root(0),
        lambda: version.prove(0, b"k"),
        lambda: version.branch(),
    ):
        with pytest.raises(StateReleased, match="version of the state was released"):
            call()
    assert second.get(0, b"k") == b"v"
    with second.branch() as third:
        third.put(0, b"k", b"w")
    with pytest.raises(StateReleased):
        third.root()
    assert second.get(0, b"k") == b"v"


def test_generations_are_unique_and_ascend(core: ModuleType) -> None:
    versions = [core.empty_state(TABLES) for _ in range(3)]
    versions.append(versions[0].branch().commit())
    generations = [version.generation for version in versions]
    assert generations == sorted(set(generations))


def test_a_branch_outlives_its_parent(core: ModuleType) -> None:
    version = filled(core)
    rows, root = version.scan(2), version.root()
    branch = version.branch()
    version.release()
    del version
    gc.collect()
    assert branch.scan(2) == rows
    assert branch.root() == root
    # Nobody else holds these nodes any more; a third party takes a version of them and is not disturbed.
    first = branch.commit()
    second = first.branch()
    assert second.delete_prefix(2, b"") == len(rows)
    assert first.scan(2) == rows
    assert second.table_root(2) == bytes(32)


class Nosy(int):
    """A number that looks at the state while it is being compared."""

    def __new__(cls, value: int, look: Any) -> "Nosy":
        number = super().__new__(cls, value)
        number.look = look  # type: ignore[attr-defined]
        return number

    def __ge__(self, other: int) -> bool:
        self.look()  # type: ignore[attr-defined]
        return int(self) >= other


def test_a_branch_in_use_refuses_a_second_user(core: ModuleType) -> None:
    branch = core.empty_state(TABLES).branch()
    refused = 0

    def intrude() -> None:
        nonlocal refused
        for call in (lambda: branch.get(0, b"k"), lambda: branch.put(0, b"k", b""), branch.commit, branch.drop):
            with pytest.raises(BranchInUse):
                call()
            refused += 1

    branch.put(Nosy(0, intrude), b"k", b"v")
    assert refused == 4
    assert branch.get(0, b"k") == b"v"


def test_a_version_released_in_the_middle_of_a_read_finishes_it(core: ModuleType) -> None:
    version = filled(core)
    rows = version.scan(2)
    assert version.scan(Nosy(2, version.release)) == rows
    with pytest.raises(StateReleased):
        version.root()


def test_wrong_arguments_are_named(core: ModuleType) -> None:
    for target in (core.empty_state(TABLES), core.empty_state(TABLES).branch()):
        for table in (-1, 64, 5, 2**70, "0", None):
            for name, more in (("get", (b"k",)), ("scan", ()), ("count", ()), ("table_root", ()), ("prove", (b"k",))):
                with pytest.raises(ValueError if isinstance(table, int) else TypeError, match="table"):
                    getattr(target, name)(table, *more)
        for key in (b"", b"kk"):
            with pytest.raises(ValueError, match="key must have 1 bytes"):
                target.get(0, key)
        with pytest.raises(TypeError, match="key"):
            target.prove(0, "k")
        with pytest.raises(ValueError, match="prefix"):
            target.scan(0, b"kk")
        with pytest.raises(ValueError, match="after"):
            target.scan(0, after=b"")
        with pytest.raises(ValueError, match="limit"):
            target.scan(0, limit=-1)
        with pytest.raises(TypeError, match="limit"):
            target.scan(0, limit=None)
    branch = core.empty_state(TABLES).branch()
    with pytest.raises(TypeError, match="value"):
        branch.put(0, b"k", "text")
    with pytest.raises(ValueError, match="value"):
        branch.put(0, b"k", bytes(16 * 1024 * 1024 + 1))
    with pytest.raises(ValueError, match="prefix"):
        branch.delete_prefix(0, b"kk")
    with pytest.raises(ValueError, match="prefix"):
        branch.delete_below(0, b"kk")
    with pytest.raises(TypeError, match="prefix"):
        branch.delete_below(0, 5)
    for widths, kind in (({0: 0}, ValueError), ({0: 129}, ValueError), ({64: 1}, ValueError), ({0: "1"}, TypeError)):
        with pytest.raises(kind, match=r"width|table"):
            core.empty_state(widths)
    with pytest.raises(TypeError):
        core.Version()
    with pytest.raises(TypeError):
        core.Branch()
    proof = branch.prove(0, b"k")
    for arguments in (
        ("root", 0, b"k", None),
        (bytes(32), "0", b"k", None),
        (bytes(32), 0, "k", None),
        (bytes(32), 0, b"k", 5),
    ):
        with pytest.raises(TypeError):
            core.state_verify(*arguments, proof)
    with pytest.raises(ValueError, match="table"):
        core.state_verify(bytes(32), 64, b"k", None, proof)
