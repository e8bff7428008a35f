"""The address book of a node on disk: read at the start, written now and then and at the end.

It is worth little more than a start that costs nobody anything, so it is not forced to the disk, and a damaged one is
put aside: the node begins with its seeds again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import trio

from p2pledger.network.addressbook import AddressBook
from p2pledger.network.discovery import Discovery
from p2pledger.primitives.errors import PeerFault
from p2pledger.server.config import ServerConfig
from p2pledger.server.journal import Journal

__all__ = ["ADDRESSES_FILE", "Addresses"]

ADDRESSES_FILE: Final = "addresses.bin"
_EVERY_S: Final = 60.0


class Addresses:
    """The discovery of one node with its book's file. The secret of a new book comes from the operating system."""

    def __init__(self, config: ServerConfig, journal: Journal, *, bans: bool) -> None:
        self._path = config.directory / ADDRESSES_FILE
        self._journal = journal
        self.discovery = Discovery(self._read(), seeds=config.seeds or (), degree=config.degree, bans=bans)
        self._written = 0

    def _read(self) -> AddressBook:
        try:
            return AddressBook.decode(self._path.read_bytes())
        except FileNotFoundError:
            pass
        except PeerFault as fault:
            self._journal.write("warning", "addresses_damaged", (("sentence", str(fault)),))
            self._path.replace(self._path.with_suffix(".damaged"))
        except OSError as error:
            self._journal.write("warning", "addresses_unreadable", (("sentence", error.strerror or str(error)),))
        return AddressBook(os.urandom(32))

    async def run(self) -> None:
        """Writes the book every minute in which it changed."""
        while True:
            await trio.sleep(_EVERY_S)
            if self.discovery.changes != self._written:
                self._written = self.discovery.changes
                await trio.to_thread.run_sync(self._write, self.discovery.book.encode())

    def close(self) -> None:
        self._write(self.discovery.book.encode())

    def _write(self, data: bytes) -> None:
        partial = Path(f"{self._path}.partial")
        try:
            partial.write_bytes(data)
            partial.replace(self._path)
        except OSError as error:  # The node goes on: at its next start it asks its seeds.
            self._journal.write("error", "addresses_not_written", (("sentence", error.strerror or str(error)),))
