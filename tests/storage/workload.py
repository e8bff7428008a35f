"""A chain as a node would store it, the same in every process, and the child processes of the crash tests.

Group ``i`` holds what becomes durable around the block of height ``i + 1``: its batches, the block, a notarisation, a
stray proposal of the same height that never becomes final, the finalisation, the final record, receipts, and own votes.
"""

import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from p2pledger import core
from p2pledger.primitives.blocks import Block, Header
from p2pledger.primitives.errors import P2PLedgerError
from p2pledger.primitives.records import (
    BatchRecord,
    BlockRecord,
    CertificateRecord,
    FinalRecord,
    ForgetRecord,
    ReceiptsRecord,
    Record,
    VoteRecord,
)
from p2pledger.storage import database
from p2pledger.storage.snapshots import Snapshots
from p2pledger.storage.store import Recovered, Store

NETWORK = b"network1"
NODE = b"\x11" * 32
GENESIS = b"\x22" * 32
NOTARISE, NULLIFY, FINALISE = 1, 2, 3


REPOSITORY = Path(__file__).resolve().parent.parent.parent


def start_child(
    command: str, directory: Path, number: int, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """One of the ``run_`` functions below in a process of its own; leave it with its context manager."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.storage.workload", command, str(directory), str(number)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )


def finish_child(child: subprocess.Popen[bytes]) -> list[str]:
    """The words that a child said until its end."""
    said, _ = child.communicate()
    assert child.returncode == 0
    return said.decode().split()


def open_store(directory: Path, *, fresh: bool = True, network_id: bytes = NETWORK, node_key: bytes = NODE) -> Store:
    return Store.open(directory, network_id=network_id, node_key=node_key, name="node-1", fresh=fresh)


def make_block(height: int, view: int, parent: bytes, digests: tuple[bytes, ...]) -> Block:
    header = Header(
        network_id=NETWORK,
        epoch=1,
        view=view,
        height=height,
        parent=parent,
        time_ms=1_700_000_000_000,
        proposer=NODE,
        batches_root=core.merkle_root(list(digests)),
        parent_state_root=sha256(b"state%d" % height).digest(),
        parent_receipts_root=sha256(b"receipts%d" % height).digest(),
        validators_hash=sha256(b"validators").digest(),
    )
    return Block(header, digests)


def make_batch(sequence: int, size_bytes: int) -> BatchRecord:
    data = random.Random(sequence).randbytes(size_bytes)
    return BatchRecord(sha256(data).digest(), NODE, sequence, data)


def block_record(block: Block) -> BlockRecord:
    return BlockRecord(block.id, block.height, block.header.view, block.header.parent, block.encode())


def certificate(kind: int, view: int, block: bytes) -> CertificateRecord:
    return CertificateRecord(kind, 1, view, block, b"certificate %d %d " % (kind, view) + block)


def vote(kind: int, view: int, block: bytes) -> VoteRecord:
    return VoteRecord(1, view, kind, block, b"vote %d %d " % (kind, view) + block)


class Chain:
    """The groups one after the other; ``most_bytes`` bounds a batch."""

    def __init__(self, most_bytes: int = 9000) -> None:
        self.most_bytes = most_bytes
        self.blocks: list[Block] = []

    def group(self) -> list[Record]:
        """The next group."""
        index = len(self.blocks)
        height, view = index + 1, 2 * index + 2
        sizes = random.Random(index)
        batches = [
            make_batch(10 * index + nth, sizes.randrange(1, self.most_bytes)) for nth in range(sizes.randrange(4))
        ]
        parent = self.blocks[-1].id if self.blocks else GENESIS
        block = make_block(height, view, parent, tuple(batch.digest for batch in batches))
        stray = make_block(height, view - 1, parent, ())
        self.blocks.append(block)
        return [
            *batches,
            block_record(stray),
            block_record(block),
            certificate(NOTARISE, view, block.id),
            certificate(NULLIFY, view - 1, bytes(32)),
            certificate(FINALISE, view, block.id),
            FinalRecord(height, block.id),
            ReceiptsRecord(height, block.id, b"\x00\x00\x00\x00" * len(batches)),
            vote(NULLIFY, view - 1, bytes(32)),
            vote(NOTARISE, view, block.id),
            vote(FINALISE, view, block.id),
            *([ForgetRecord((), view)] if index % 5 == 4 else []),
        ]


def missing(store: Store, groups: list[list[Record]]) -> list[str]:
    """Which records of the first groups a store does not have, leaving out what a later group may have let go."""
    loaded = store.load()
    return [fault for index, group in enumerate(groups) for fault in _missing(store, loaded, index, group)]


def _missing(store: Store, loaded: Recovered, index: int, group: list[Record]) -> list[str]:
    votes = {(row.view, row.kind): row.data for row in loaded.votes}
    lost = []
    for record in group:
        match record:
            case BatchRecord(digest, _, _, data):
                found = store.batch(digest) == data
            case BlockRecord(block_id, height, _, _, data):
                stored = store.block(block_id)
                found = stored is not None and stored.data == data and stored.height == height
                if stored is None and not is_final(group, block_id):
                    found = True  # strays may be forgotten by a later group
            case CertificateRecord(kind, _, view, block_id, data) if kind == FINALISE:
                kept = store.certificate(kind, block=block_id)
                found = kept is not None and kept.data == data and kept.view == view
            case FinalRecord(height, block_id):
                at = store.block_at(height)
                found = at is not None and at.id == block_id
            case ReceiptsRecord(height, block_id, codes):
                found = store.receipts(height) == ReceiptsRecord(height, block_id, codes)
            case VoteRecord(_, view, kind, _, data):
                found = view < loaded.view or votes.get((view, kind)) == data
            case _:
                found = True
        if not found:
            lost.append(f"group {index}: {type(record).__name__}")
    if loaded.vote_count < 3 * (index + 1) and any(isinstance(record, VoteRecord) for record in group):
        lost.append(f"group {index}: only {loaded.vote_count} votes")
    return lost


def is_final(group: list[Record], block_id: bytes) -> bool:
    return any(isinstance(record, FinalRecord) and record.block == block_id for record in group)


# Child processes. Each line on stdout is one acknowledgement, and is written after the commit has returned.


def run_commits(directory: Path, count: int) -> None:
    """Commit groups from where the store stands, without end if ``count`` is 0."""
    database.CHECKPOINT_PAGES = 32
    with open_store(directory) as store:
        chain = Chain()
        # The last group may have lost its votes, which are written after its blocks. Again does no harm.
        for group in [chain.group() for _ in range(store.load().height)][-1:]:
            store.commit(group)
        while count == 0 or len(chain.blocks) < count:
            store.commit(chain.group())
            os.write(1, b"%d\n" % len(chain.blocks))


def run_commits_and_die(directory: Path, count: int) -> None:
    """Commit so many groups and leave the logs as they are."""
    store = open_store(directory)
    chain = Chain()
    for _ in range(count):
        store.commit(chain.group())
    os.kill(os.getpid(), signal.SIGKILL)


def run_until_full(directory: Path, limit_bytes: int) -> None:
    """Commit until no file may grow any more, then say the error and whether the store refuses the next group."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    with open_store(directory) as store:
        chain = Chain(60_000)
        try:
            while True:
                store.commit(chain.group())
                os.write(1, b"%d\n" % len(chain.blocks))
        except P2PLedgerError as error:
            os.write(1, b"%s\n" % error.code.encode())
        try:
            store.commit([vote(NULLIFY, 10**6, bytes(32))])
        except P2PLedgerError as error:
            os.write(1, b"%s\n" % error.code.encode())


def run_snapshots(directory: Path, count: int) -> None:
    """Write snapshots of growing height."""
    snapshots = Snapshots(directory, network_id=NETWORK)
    for height in range(1, count + 1):
        snapshots.write(height, NODE, GENESIS, snapshot_rows(height))
        os.write(1, b"%d\n" % height)


def run_snapshot_until_full(directory: Path, limit_bytes: int) -> None:
    """Write a snapshot that may not become longer than the limit."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    try:
        Snapshots(directory, network_id=NETWORK).write(7, NODE, GENESIS, [b"x" * 1000] * 1000)
    except P2PLedgerError as error:
        os.write(1, b"%s\n" % error.code.encode())


def run_hold(directory: Path, _: int) -> None:
    """Hold the directory until stdin ends."""
    with open_store(directory):
        os.write(1, b"%d\n" % os.getpid())
        os.read(0, 1)


def snapshot_rows(height: int) -> list[bytes]:
    return [random.Random(100 * height + nth).randbytes(3000 + 700 * nth) for nth in range(4)]


if __name__ == "__main__":
    globals()["run_" + sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
