"""Keys of the service: random, scoped, and kept as hashes.

A key is 256 random bits, so a fast hash is enough: there is nothing to guess.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, ValidationError

from common.errors import InputError
from common.files import PRIVATE_MODE, write_atomic
from common.record import Record, Sha256, first_problem

Scope = Literal["serve", "events", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
_PREFIX = "ft_"
_BYTES = 32


class KeyRecord(Record):
    """What is kept of a key: its id, what it is for and the hash of its secret."""

    key_id: Annotated[str, Field(pattern=r"\A[0-9a-f]{8}\z")]
    name: Annotated[str, Field(min_length=1, max_length=64)]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    created: str
    sha256: Sha256


class _KeyFile(Record):
    keys: tuple[KeyRecord, ...]


class Keys:
    """The keys in a file of mode 600. The file is read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._by_id: dict[str, KeyRecord] = {}

    def all(self) -> tuple[KeyRecord, ...]:
        """Return the keys that are valid.

        Raises:
            InputError: if the file is not one of keys, or others can read it.
        """
        self._read()
        return tuple(self._by_id.values())

    def new(self, name: str, scopes: Sequence[str]) -> str:
        """Make a key and return it; it is shown this once.

        Raises:
            InputError: if the name or a scope is not one, or as `all`.
        """
        key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(_BYTES)
        try:
            record = KeyRecord.model_validate(
                {
                    "key_id": key_id,
                    "name": name,
                    "scopes": tuple(dict.fromkeys(scopes)),
                    "created": datetime.now(UTC).isoformat(timespec="seconds"),
                    "sha256": _hashed(secret),
                }
            )
        except ValidationError as error:
            raise InputError(
                f"{first_problem(error)}. Scopes are {', '.join(SCOPES)}; a name has 1 to 64 "
                "characters.",
                field="scope",
            ) from None
        self._write((*self.all(), record))
        return f"{_PREFIX}{key_id}_{secret}"

    def revoke(self, key_id: str) -> None:
        """Take a key out; a service that runs refuses it from its next request on.

        Raises:
            InputError: if there is no such key, or as `all`.
        """
        known = self.all()
        left = tuple(one for one in known if one.key_id != key_id)
        if len(left) == len(known):
            raise InputError(f"There is no key {key_id!r}; `keys list` shows them.", field="key_id")
        self._write(left)

    def find(self, presented: str) -> KeyRecord | None:
        """Return the record of a key as a client presents it; None if it is not valid."""
        self._read()
        key_id, _, secret = presented.removeprefix(_PREFIX).partition("_")
        record = self._by_id.get(key_id)
        expected = record.sha256 if record else _hashed("")
        same = hmac.compare_digest(_hashed(secret).encode(), expected.encode())
        return record if record is not None and same and secret else None

    def _read(self) -> None:
        try:
            state = self._path.stat()
        except FileNotFoundError:
            self._seen, self._by_id = None, {}
            return
        seen = (state.st_mtime_ns, state.st_size, state.st_ino)
        if seen == self._seen:
            return
        if state.st_mode & 0o077:
            raise InputError(
                f"{self._path.name}: others can read it; `chmod 600` it.", field="keys"
            )
        try:
            content = json.loads(self._path.read_bytes())
            records = _KeyFile.model_validate(content).keys
        except (ValueError, ValidationError):
            raise InputError(f"{self._path.name}: is no file of keys.", field="keys") from None
        self._by_id, self._seen = {one.key_id: one for one in records}, seen

    def _write(self, records: Sequence[KeyRecord]) -> None:
        content = _KeyFile(keys=tuple(records)).model_dump_json(indent=2).encode()
        write_atomic(self._path, content, mode=PRIVATE_MODE)


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
