"""What a power cut leaves, worked out from a trace of power_cut.c.

The model of a disk: bytes that were written to a file are certain once that file was synced after it; of later
writes any sectors may have arrived, in any order. Names that were created, renamed or removed are certain once the
directory was synced; of later ones, those up to some moment arrived (file systems keep the order of their journal).
"""

import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from tests.storage.workload import finish_child, start_child

SECTOR_BYTES = 512
Arrived = Literal["nothing", "some", "everything"]


@dataclass(frozen=True, slots=True)
class Event:
    operation: str
    name: str
    number: int
    data: bytes


def traced(command: str, directory: Path, number: int, scratch: Path) -> list[Event]:
    """Run a child to its end and return what it did in the directory. Skips where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the layer that records writes and syncs")
    library, trace = scratch / "power_cut.so", scratch / "trace"
    source = Path(__file__).with_name("power_cut.c")
    subprocess.run(
        [compiler, "-std=c11", "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True
    )
    directory.mkdir(parents=True)
    environment = {
        "LD_PRELOAD": str(library),
        "POWER_CUT_DIRECTORY": str(directory.resolve()),
        "POWER_CUT_TRACE": str(trace),
    }
    finish_child(start_child(command, directory.resolve(), number, environment))
    return list(_events(trace.read_bytes()))


def _events(trace: bytes) -> Iterator[Event]:
    head = struct.Struct("=cQII")
    place = 0
    while place < len(trace):
        operation, number, name_length, data_length = head.unpack_from(trace, place)
        place += head.size
        name = trace[place : place + name_length].decode()
        data = trace[place + name_length : place + name_length + data_length]
        place += name_length + data_length
        yield Event(operation.decode(), name, number, data)


@dataclass(slots=True)
class File:
    """The bytes that are certain, and the writes and cuts since."""

    certain: bytearray = field(default_factory=bytearray)
    pending: list[Event] = field(default_factory=list)

    def after(self, arrived: Arrived, chance: random.Random) -> bytearray:
        data = bytearray(self.certain)
        share = chance.random()
        for event in self.pending:
            if event.operation == "T":
                if arrived == "everything" or (arrived == "some" and chance.random() < share):
                    _resize(data, event.number)
                continue
            for start, end in _sectors(event.number, len(event.data)):
                if arrived == "everything" or (arrived == "some" and chance.random() < share):
                    if len(data) < start:
                        _resize(data, start)
                    data[start:end] = event.data[start - event.number : end - event.number]
        return data


def _resize(data: bytearray, length: int) -> None:
    del data[length:]
    data.extend(bytes(length - len(data)))


def _sectors(offset: int, length: int) -> Iterator[tuple[int, int]]:
    start, last = offset, offset + length
    while start < last:
        end = min(last, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield start, end
        start = end


class Disk:
    """The files of one directory while a trace is played. ``lies``: syncs are forgotten, which must be noticed."""

    def __init__(self, *, lies: bool = False) -> None:
        self.lies = lies
        self.now: dict[str, File] = {}
        self.certain: dict[str, File] = {}
        self.pending: list[dict[str, File]] = []
        self.acknowledged = 0

    def play(self, event: Event) -> None:
        match event.operation:
            case "C":
                self.now[event.name] = File()
            case "R":
                self.now[event.data.decode()] = self.now.pop(event.name)
            case "U":
                self.now.pop(event.name, None)
            case "W" | "T":
                self.now[event.name].pending.append(event)
            case "S" if not self.lies:
                if event.name:
                    file = self.now[event.name]
                    file.certain, file.pending = file.after("everything", random.Random(0)), []
                else:
                    self.certain, self.pending = dict(self.now), []
            case "A":
                self.acknowledged = int(event.data.split()[-1])
        if event.operation in "CRU":
            self.pending.append(dict(self.now))

    def leave(self, directory: Path, arrived: Arrived, chance: random.Random) -> None:
        """Write what is found after the power comes back."""
        directory.mkdir()
        moments = [self.certain, *self.pending]
        names = {"nothing": moments[0], "some": chance.choice(moments), "everything": moments[-1]}[arrived]
        for name, file in names.items():
            (directory / name).write_bytes(file.after(arrived, chance))
