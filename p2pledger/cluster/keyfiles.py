"""Secret keys on disk, and keys that are not secret at all."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from p2pledger.primitives.errors import BadConfiguration, InvalidInput
from p2pledger.primitives.keys import Keypair

__all__ = ["KeyFile", "development_keypair"]

_KEY_SCHEMA: Final = "p2pledger.key/1"


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A secret key on disk: JSON, readable by its owner only."""

    name: str
    keypair: Keypair = field(repr=False)

    def save(self, path: Path) -> None:
        """InvalidInput if the file exists: a key is never overwritten."""
        text = json.dumps(
            {
                "schema": _KEY_SCHEMA,
                "name": self.name,
                "public_key": self.keypair.public_key.hex(),
                "secret_seed": self.keypair.seed.hex(),
            },
            indent=2,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise InvalidInput(
                f"the key file {path} exists", hint="Keys are never overwritten: choose another name", code="key_exists"
            ) from None
        except OSError as error:
            raise InvalidInput(
                f"the key file {path} cannot be written", why=error.strerror or str(error), code="key_not_written"
            ) from None
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")

    @classmethod
    def load(cls, path: Path) -> KeyFile:
        """BadConfiguration unless the file is there and is a key file."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            schema = values["schema"]
            if schema != _KEY_SCHEMA:
                raise BadConfiguration(f"the key file has the schema {schema!r}", where=str(path), code="bad_key_file")
            keypair = Keypair.from_seed(bytes.fromhex(values["secret_seed"]))
            name, public_key = str(values["name"]), bytes.fromhex(values["public_key"])
        except FileNotFoundError:
            raise BadConfiguration("there is no such key file", where=str(path), code="no_key") from None
        except OSError as error:
            why = error.strerror or str(error)
            raise BadConfiguration("the key file cannot be read", where=str(path), why=why, code="unreadable") from None
        except (ValueError, KeyError, TypeError) as error:
            why = str(error)
            if isinstance(error, KeyError):
                why = f"{error} is missing"
            elif isinstance(error, TypeError):
                why = "it is not made of texts by name"
            raise BadConfiguration("this is not a key file", where=str(path), why=why, code="bad_key_file") from None
        if keypair.public_key != public_key:
            raise BadConfiguration("the public key does not belong to the secret one", where=str(path))
        return cls(name, keypair)


def development_keypair(seed: int, purpose: str, name: str) -> Keypair:
    """A DEV KEY: anybody who knows the seed has it too. For trials and tests, never for money."""
    return Keypair.from_seed(sha256(f"p2pledger dev key/{seed}/{purpose}/{name}".encode()).digest())
