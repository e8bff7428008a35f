"""What can be wrong with a node's directory.

InvalidInput
|-- DirectoryInUse     another process holds it
`-- BadConfiguration
    |-- WrongStore     it belongs to another network or another node
    `-- UnknownFormat  another program, or another version of this one, wrote it
NodeStopped
|-- DamagedStore       committed data are not what was written
`-- StorageFailed      the disk is full or broken: what was promised cannot be kept
SnapshotFailed         a snapshot could not be written; the older ones stand, so the node may go on
"""

from __future__ import annotations

from p2pledger.primitives.errors import BadConfiguration, InvalidInput, NodeStopped, P2PLedgerError

__all__ = ["DamagedStore", "DirectoryInUse", "SnapshotFailed", "StorageFailed", "UnknownFormat", "WrongStore"]


class DirectoryInUse(InvalidInput):
    """Another process holds the directory; the sentence names it."""

    code = "directory_in_use"


class WrongStore(BadConfiguration):
    """The directory belongs to another network or to another node."""

    code = "wrong_store"


class UnknownFormat(BadConfiguration):
    """The file was not written by this program, or by a version whose format is unknown here."""

    code = "unknown_format"


class DamagedStore(NodeStopped):
    """Committed data are not what was written. Says the file, the table and the row, and what to do."""

    code = "damaged_store"


class StorageFailed(NodeStopped):
    """Something could not be made durable. The node must stop: a vote it forgets is a vote it may contradict."""

    code = "storage_failed"


class SnapshotFailed(P2PLedgerError):
    """A snapshot could not be written. Nothing is lost: recovery starts from an older one and replays more."""

    code = "snapshot_failed"
