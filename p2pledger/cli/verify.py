"""p2pledger verify and p2pledger doctor: is what is stored right, and is this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from p2pledger.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption
from p2pledger.cli.output import command, emit, say, table

__all__ = ["doctor", "verify"]


@command
def verify(
    node: Annotated[str, typer.Argument(help="A node's name; all nodes of the cluster if not given.")] = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="Check this proof that a block is final instead of stores.")
    ] = None,
    genesis_hash: Annotated[
        str,
        typer.Option("--genesis-hash", metavar="HEX", help="The network's, for --certificate; else the directory's."),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Check stored data offline: checksums, linkage, certificates, signatures, and all blocks executed again.

    The nodes must not be running. Exit code 1 if anything is wrong; the damaged block is named. With --certificate
    a file is checked instead, which needs no store and no node, only the hash of the genesis.
    """
    from p2pledger.cli.audit import Audit, audit_store
    from p2pledger.cluster.consortium import load_genesis, node_directory, suggestion
    from p2pledger.primitives.errors import InvalidInput, P2PLedgerError

    if certificate is not None:
        from p2pledger.cli.certificate import check_file

        check_file(certificate, known_hash(genesis_hash, directory), as_json=as_json)
        return
    genesis = load_genesis(directory)
    seats = {seat.name: seat for seat in genesis.validators}
    if node and node not in seats:
        raise InvalidInput(f"there is no node {node!r}", hint=suggestion(node, list(seats)), code="unknown_node")
    audits: list[Audit] = []
    unreadable: set[str] = set()
    for name in [node] if node else sorted(seats):
        store = node_directory(directory, name)
        if not store.is_dir():
            audits.append(Audit(name, 0, 0, "", (f"{store}: the node's store is missing",)))
            continue
        try:
            audits.append(audit_store(genesis, store, node_key=seats[name].key, name=name))
        except P2PLedgerError as error:
            if error.code == "directory_in_use":
                error.hint = f"Stop the nodes first: p2pledger cluster down --directory {directory}"
            if error.code not in ("damaged_store", "wrong_store", "unknown_format", "storage_failed"):
                raise
            if error.code == "storage_failed":
                # The machine refuses it: that says nothing about what is in it.
                unreadable.add(name)
            audits.append(Audit(name, 0, 0, "", (str(error),)))

    def verdict_of(audit: Audit) -> str:
        if audit.name in unreadable:
            return "UNREADABLE"
        return "DAMAGED" if audit.findings else "sound"

    findings = [f"{audit.name}: {finding}" for audit in audits for finding in audit.findings]
    sound = [audit for audit in audits if not audit.findings]
    for one in sound:
        for other in sound:
            both = min(one.height, other.height)
            if one.name < other.name and one.block_ids[:both] != other.block_ids[:both]:
                at = next(i for i in range(both) if one.block_ids[i] != other.block_ids[i]) + 1
                findings.append(f"{one.name} and {other.name} have different final blocks at height {at}")
    if as_json:
        emit(
            "p2pledger.verify/1",
            {
                "directory": str(directory),
                "ok": not findings,
                "nodes": [
                    {
                        "name": audit.name,
                        "ok": not audit.findings,
                        "verdict": verdict_of(audit).lower(),
                        "height": audit.height,
                        "transactions": audit.transactions,
                        "state_root": audit.state_root,
                        "findings": list(audit.findings),
                    }
                    for audit in audits
                ],
                "findings": findings,
            },
        )
    else:
        rows = [
            (audit.name, verdict_of(audit), audit.height, audit.transactions,
             audit.state_root[:16])
            for audit in audits
        ]  # fmt: skip
        print(
            table(("node", "verdict", "height", "transactions", "state root"), rows, right=("height", "transactions"))
        )
        for finding in findings:
            say(f"  {finding}")
    if findings:
        raise SystemExit(1)


def known_hash(text: str, directory: Path) -> bytes | None:
    """The hash of the genesis that the user knows: as given, or of the cluster in the directory, if there is one."""
    from p2pledger.cluster.consortium import load_genesis
    from p2pledger.primitives.errors import InvalidInput
    from p2pledger.server.config import GENESIS_FILE

    if not text:
        return load_genesis(directory).hash if (directory / GENESIS_FILE).is_file() else None
    try:
        known = bytes.fromhex(text)
    except ValueError:
        known = b""
    if len(known) != 32:
        raise InvalidInput(f"{text!r} is not the hash of a genesis", why="64 hexadecimal digits", code="usage")
    return known


@command
def doctor(
    directory: Annotated[
        Path | None,
        typer.Option("--directory", "-d", help="Whose disk to measure; the current folder's if not given."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check whether this machine is fit to run nodes. Exit code 1 if something would fail."""
    checks = _checks((directory or Path()).absolute())
    if as_json:
        emit("p2pledger.doctor/1", {"ok": all(check["ok"] for check in checks), "checks": checks})
    else:
        marks = {True: "ok", False: "FAILED"}
        print(table(("check", "", "found"), [(item["name"], marks[item["ok"]], item["found"]) for item in checks]))
        for item in checks:
            if item["advice"]:
                say(f"  {item['name']}: {item['advice']}")
    if not all(check["ok"] for check in checks):
        raise SystemExit(1)


def _checks(directory: Path) -> list[dict[str, Any]]:
    import os
    import platform
    import resource
    import shutil
    import socket
    import ssl
    import sys
    import tempfile
    import time
    from statistics import median

    from p2pledger import core
    from p2pledger.primitives.errors import InvalidInput

    checks: list[dict[str, Any]] = []

    def add(name: str, ok: bool, found: str, advice: str = "") -> None:
        checks.append({"name": name, "ok": ok, "found": found, "advice": advice})

    add(
        "python",
        sys.version_info >= (3, 11),
        f"{platform.python_version()} on {platform.system()} {platform.machine()}",
    )
    slow = "" if core.compiled else "nodes run, but far slower; install a C compiler and install p2pledger again"
    add("core", True, core.description(), slow)
    compiler = shutil.which(os.environ.get("CC", "gcc")) or shutil.which("cc")
    add("compiler", True, compiler or "none", "" if compiler or core.compiled else "needed to build the compiled core")
    tls = ssl.HAS_TLSv1_3
    add("tls 1.3", tls, ssl.OPENSSL_VERSION, "" if tls else "this Python's OpenSSL is too old")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= 512
    add("open files", enough, f"{soft} allowed (at most {hard})", "" if enough else "raise it: ulimit -n 4096")
    add("processors", True, str(len(os.sched_getaffinity(0))))
    if not directory.is_dir():
        raise InvalidInput(f"{directory} is not a directory", code="no_directory")
    try:
        syncs = []
        with tempfile.TemporaryFile(dir=directory) as file:
            for _ in range(20):
                file.write(b"\0" * 4096)
                file.flush()
                begun = time.perf_counter()
                os.fsync(file.fileno())
                syncs.append((time.perf_counter() - begun) * 1000)
        middle = median(syncs)
        slow_disk = "every vote waits for the disk: expect slower finality" if middle > 20 else ""
        add("disk fsync", True, f"p50 {middle:.2f} ms, max {max(syncs):.2f} ms in {directory}", slow_disk)
        free = shutil.disk_usage(directory).free / 2**30
        add("disk space", free > 0.5, f"{free:.1f} GiB free", "" if free > 0.5 else "make room")
    except OSError as error:
        add("disk fsync", False, f"{directory}: {error.strerror}", "choose a directory that can be written")
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            add("ports", True, f"127.0.0.1:{listener.getsockname()[1]} is free to listen on")
    except OSError as error:
        add("ports", False, str(error), "nodes listen on 127.0.0.1")
    sane = time.time() > 1_700_000_000
    add("clock", sane, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()), "" if sane else "set the clock")
    return checks
