"""The map of the house, held against the code.

Imports only look down, and floors beside each other never import each other. Imports inside functions and
under TYPE_CHECKING count as well: a floor that needs a name from above for its types still knows too much.

    cli
    bench   demo   sim     (side by side; sim knows no server, cluster or api: it drives the same peers without)
    load                   (what is thrown at a network, by bench and demo)
    cluster
    server
    api                    (of the network only its sockets, transport.py, and the certificates they need)
    storage                (knows values, neither node nor network)
    network
    node
    ledger   consensus     (side by side: an engine orders digests, a ledger executes blocks)
    primitives
    core
    _core                  (C; takes the errors and value types that both share from the reference)
    _reference
    _forms                 (data, written by `make forms`)

From primitives to network nothing reads a clock, rolls a die, opens a file or waits: that is what lets the
simulator and the server drive the very same objects. Only transport.py and tls.py, which move bytes,
and certificates.py, which makes keys for them, are free of that rule.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "p2pledger"

# Floor -> what it may import of this package, besides itself. A dotted name opens one module of a floor.
MAP: dict[str, frozenset[str]] = {
    "_core": frozenset({"_reference"}),
    "_reference": frozenset({"_forms"}),
    "_forms": frozenset(),
    "core": frozenset({"_core", "_reference"}),
    "primitives": frozenset({"core"}),
    "ledger": frozenset({"core", "primitives"}),
    "consensus": frozenset({"core", "primitives"}),
    "node": frozenset({"core", "primitives", "ledger", "consensus"}),
    "network": frozenset({"core", "primitives", "ledger", "consensus", "node"}),
    "storage": frozenset({"core", "primitives"}),
    "api": frozenset({"core", "primitives", "network.transport", "network.certificates"}),
    "server": frozenset({"core", "primitives", "ledger", "consensus", "node", "network", "storage", "api"}),
    "cluster": frozenset({"core", "primitives", "ledger", "consensus", "node", "network", "storage", "api", "server"}),
    "load": frozenset({"core", "primitives", "network.transport", "api", "cluster"}),
    "sim": frozenset({"core", "primitives", "ledger", "consensus", "node", "network", "storage"}),
}
# On top of everything; the command line also starts measurements, demonstrations and simulations.
MAP["bench"] = MAP["demo"] = frozenset(MAP) - {"sim", "_core", "_reference", "_forms"}
MAP["cli"] = frozenset(MAP) - {"_core", "_reference", "_forms"}
MAP["__main__"] = frozenset({"cli"})

PURE_FLOORS = frozenset({"primitives", "ledger", "consensus", "node", "network"})
SHELL_FILES = frozenset({"network/transport.py", "network/tls.py", "network/certificates.py"})
IMPURE_MODULES = frozenset(
    {
        # clocks, dice, files and waiting
        "asyncio", "datetime", "os", "pathlib", "random", "secrets", "socket", "sqlite3", "threading", "time",
        "trio",
        # and the ways around them
        "concurrent", "io", "multiprocessing", "select", "selectors", "shutil", "signal", "ssl", "subprocess",
        "tempfile", "uuid",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module: where it stands, and its full dotted name."""

    line: int
    module: str


def modules(package: Path) -> list[Path]:
    """Every Python file of the package, stubs included, save the lazy root, which must name all floors."""
    found = [*package.rglob("*.py"), *package.rglob("*.pyi")]
    return sorted(path for path in found if path != package / "__init__.py")


def floor_of(path: Path, package: Path) -> str:
    """The floor in which a file stands: the first part of its path below the package, without suffix."""
    return path.relative_to(package).parts[0].split(".")[0]


def imports(tree: ast.AST, package: Path) -> Iterator[Import]:
    """All imports of a file; `from p2pledger import x` is told as p2pledger.x where x is a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            for alias in node.names:
                inner = package.joinpath(*source.split(".")[1:], alias.name)
                is_module = source.split(".")[0] == package.name and (
                    inner.is_dir() or any(inner.parent.glob(f"{alias.name}.py*"))
                )
                is_version = source == package.name and alias.name == "__version__"
                if not is_version:
                    yield Import(node.lineno, f"{source}.{alias.name}" if is_module else source)


def layer_faults(path: Path, package: Path = PACKAGE) -> list[str]:
    """What the imports of one file do against the map, one sentence each, with file and line."""
    place = path.relative_to(package.parent).as_posix()
    floor = floor_of(path, package)
    if floor not in MAP:
        return [f"{place}:1: the floor {floor!r} is not on the map; give it a place in tests/test_layers.py"]
    faults = []
    for found in imports(ast.parse(path.read_text(encoding="utf-8"), filename=str(path)), package):
        where = f"{place}:{found.line}"
        parts = found.module.split(".")
        if not parts[0]:
            faults.append(f"{where}: relative import; say the full name, so that floors are seen")
        elif parts == [package.name]:
            faults.append(f"{where}: imports from the package root, which knows all floors; name the module itself")
        elif parts[0] == package.name and parts[1] != floor:
            allowed = MAP[floor]
            if parts[1] not in allowed and ".".join(parts[1:3]) not in allowed:
                faults.append(
                    f"{where}: {floor} imports {found.module}, but may import only "
                    f"{', '.join(sorted(allowed)) or 'nothing of this package'}"
                )
    return list(dict.fromkeys(faults))


def purity_faults(path: Path, package: Path = PACKAGE) -> list[str]:
    """Clocks, dice, files and waiting in one file of the pure floors, one sentence each with its place."""
    place = path.relative_to(package.parent).as_posix()
    floor = floor_of(path, package)
    if floor not in PURE_FLOORS or path.relative_to(package).as_posix() in SHELL_FILES:
        return []
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    faults = []
    for found in imports(tree, package):
        if found.module.split(".")[0] in IMPURE_MODULES:
            faults.append(
                f"{place}:{found.line}: imports {found.module}; {floor} is pure: clock, chance and I/O "
                "come in as arguments and go out as effects"
            )
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
            faults.append(f"{place}:{node.lineno}: calls open(); {floor} is pure: files belong to storage or server")
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            faults.append(f"{place}:{node.lineno}: waits; {floor} is pure: only the shell is async")
    return faults


def test_imports_only_look_down() -> None:
    faults = [fault for path in modules(PACKAGE) for fault in layer_faults(path)]
    assert not faults, "\n" + "\n".join(faults)


def test_pure_floors_read_no_clock_roll_no_die_open_no_file() -> None:
    faults = [fault for path in modules(PACKAGE) for fault in purity_faults(path)]
    assert not faults, "\n" + "\n".join(faults)


def test_the_map_itself_only_looks_down() -> None:
    """No circle: every floor can be put above all that it imports."""
    placed: set[str] = set()
    while len(placed) < len(MAP):
        ready = {
            floor
            for floor, allowed in MAP.items()
            if floor not in placed and {name.split(".")[0] for name in allowed} <= placed
        }
        assert ready, f"a circle among {sorted(set(MAP) - placed)}"
        placed |= ready


# A small house of our own shows that the checks can fail, and that they fail for the right reason.


@pytest.fixture
def house(tmp_path: Path) -> Path:
    package = tmp_path / "p2pledger"
    for file in ("__init__.py", "core.py", "node/__init__.py", "node/pool.py", "network/__init__.py",
                 "network/transport.py", "network/peer.py"):  # fmt: skip
        (package / file).parent.mkdir(parents=True, exist_ok=True)
        (package / file).touch()
    return package


@pytest.mark.parametrize(
    ("file", "source", "fault"),
    [
        ("node/a.py", "import p2pledger.network.peer", "node/a.py:1: node imports p2pledger.network.peer"),
        ("node/a.py", "def f():\n    import p2pledger.network.peer", "a.py:2: node imports p2pledger.network.peer"),
        ("node/a.py", "if TYPE_CHECKING:\n    from p2pledger import network", "a.py:2: node imports"),
        ("ledger/a.py", "from p2pledger.consensus.votes import f", "ledger imports p2pledger.consensus"),
        ("consensus/a.py", "import p2pledger.ledger.state", "consensus imports p2pledger.ledger.state"),
        ("network/a.py", "import p2pledger.storage", "network imports p2pledger.storage"),
        ("storage/a.py", "import p2pledger.node.pool", "storage imports p2pledger.node.pool"),
        ("api/a.py", "from p2pledger.network import peer", "api imports p2pledger.network.peer"),
        ("sim/a.py", "import p2pledger.server", "sim imports p2pledger.server"),
        ("cli/a.py", "from p2pledger import Cluster", "package root"),
        ("node/a.py", "from . import pool", "relative import"),
        ("bazaar/a.py", "", "'bazaar' is not on the map"),
        ("core.pyi", "import p2pledger.node", "core.pyi:1: core imports p2pledger.node"),
    ],
)  # fmt: skip
def test_an_import_upwards_or_sideways_is_named(house: Path, file: str, source: str, fault: str) -> None:
    path = house / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    [sentence] = layer_faults(path, house)
    assert fault in sentence


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("node/a.py", "from p2pledger import core\nfrom p2pledger.node import pool\nimport msgpack"),
        (
            "api/a.py",
            "from p2pledger.network import transport\nfrom p2pledger.network.transport import Stream",
        ),
        ("cli/a.py", "from p2pledger import __version__\nimport p2pledger.sim.world"),
    ],
)
def test_an_import_downwards_is_allowed(house: Path, file: str, source: str) -> None:
    path = house / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    assert layer_faults(path, house) == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("import time", "node/a.py:1: imports time"),
        ("def f():\n    from os import urandom", "node/a.py:2: imports os"),
        ("import os.path", "imports os.path"),
        ("open('x')", "calls open()"),
        ("async def f(): ...", "waits"),
    ],
)
def test_impurity_is_named(house: Path, source: str, fault: str) -> None:
    path = house / "node" / "a.py"
    path.write_text(source)
    [sentence] = purity_faults(path, house)
    assert fault in sentence


def test_the_shell_files_may_wait(house: Path) -> None:
    path = house / "network" / "transport.py"
    path.write_text("import trio\nasync def f(): ...")
    assert purity_faults(path, house) == []
