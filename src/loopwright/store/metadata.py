"""What the loop remembers as records and events, and the store that keeps them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from loopwright.core.errors import (
    AlreadyExistsError,
    InvalidInputError,
    NotFoundError,
    WrongStateError,
)
from loopwright.core.names import did_you_mean

MOST_ROWS = 10_000
_LONGEST_NAME = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One remembered thing: a loop, a job, a model version, ...

    `version` counts the writes since the record was created, from 1. `body` is what JSON can say.
    """

    kind: str
    key: str
    version: int
    body: dict[str, Any]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened, never changed afterwards.

    `seq` grows over the whole store in the order in which events became visible, so a reader that
    goes on after the last `seq` it saw misses nothing.
    """

    seq: int
    stream: str
    kind: str
    body: dict[str, Any]
    at: datetime


class MetadataStore(Protocol):
    """Keeps records and events, and loses none that it confirmed.

    Any thread of a process may call any method; processes that share a store each open it
    themselves. Writers take turns: a transaction sees nothing change but by its own hand, whoever
    else writes. Reads outside a transaction never wait for a writer and see what is committed.
    A body must be JSON with finite numbers and text keys; what comes back is what JSON kept of it
    (a tuple comes back as a list).

    Raises
    ------
    InvalidInputError
        From every method, for a name, a limit or a body that cannot be stored.
    BackendError
        From every method, when the database fails; `retryable` when another try may work.
    """

    def create(self, kind: str, key: str, body: dict[str, Any]) -> Record:
        """Store a new record; `AlreadyExistsError` if the key is taken."""
        ...

    def get(self, kind: str, key: str) -> Record:
        """Return a record; `NotFoundError` with the nearest key if there is none."""
        ...

    def find(self, kind: str, key: str) -> Record | None:
        """Return a record, or None if there is none."""
        ...

    def list_(
        self, kind: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[Record]:
        """Return up to `limit` records (1 to 10,000) by key, those above `after` that start so."""
        ...

    def replace(self, record: Record, body: dict[str, Any]) -> Record:
        """Store the next version of a record just read.

        Raises
        ------
        WrongStateError
            If someone else has written it since, or it was deleted and created again.
        NotFoundError
            If it was deleted.
        """
        ...

    def put(self, kind: str, key: str, body: dict[str, Any]) -> Record:
        """Create the record or overwrite it, whatever it held."""
        ...

    def delete(self, kind: str, key: str) -> None:
        """Forget a record; nothing happens if there is none."""
        ...

    def append(self, stream: str, kind: str, body: dict[str, Any]) -> Event:
        """Add an event to the end of a stream."""
        ...

    def list_events(self, stream: str, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return up to `limit` events (1 to 10,000) of a stream with `seq` above `after`."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Return a context in which everything is kept, or, on an exception, nothing.

        One inside another undoes only its own part when it fails. Keep it short: no other writer
        moves on until it ends.
        """
        ...

    def close(self) -> None:
        """Give connections back; the store cannot be used afterwards."""
        ...


def checked_key(text: str, *, field: str) -> str:
    """Return `text` if it can name a kind, a key or a stream.

    Raises
    ------
    InvalidInputError
        If it is empty, longer than 500 characters, or holds characters a database cannot keep.
    """
    broken = any(ord(letter) < 32 or 0xD800 <= ord(letter) <= 0xDFFF for letter in text)
    if not text or len(text) > _LONGEST_NAME or broken:
        raise InvalidInputError(
            f"{text[:80]!r} cannot be a {field} in the store.",
            hint=f"Use 1 to {_LONGEST_NAME} characters without control characters.",
            field=field,
            value=text[:200],
        )
    return text


def checked_limit(limit: int) -> int:
    """Return `limit` if a page may have so many rows, 1 to 10,000."""
    if not 1 <= limit <= MOST_ROWS:
        raise InvalidInputError(
            f"limit is {limit}.",
            hint=f"Ask for 1 to {MOST_ROWS:,} at a time, and go on with `after`.",
            field="limit",
            value=limit,
        )
    return limit


def json_copy(body: dict[str, Any], *, what: str) -> dict[str, Any]:
    """Return what JSON keeps of a body, sharing nothing with it.

    Raises
    ------
    InvalidInputError
        If the body is not a dict, or holds NaN, infinity or something JSON cannot say.
    """
    if not isinstance(body, dict):
        raise InvalidInputError(
            f"The body of {what} is a {type(body).__name__}.",
            hint="Pass a dict of JSON values.",
            field="body",
        )
    try:
        copy: dict[str, Any] = json.loads(json.dumps(body, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as cause:
        raise InvalidInputError(
            f"The body of {what} cannot be written as JSON: {cause}.",
            hint="Use dicts with text keys, lists, text, finite numbers, true, false and null.",
            field="body",
        ) from cause
    return copy


def prefix_end(prefix: str) -> str | None:
    """Return the smallest text above all that start with `prefix`, or None if there is none.

    Examples
    --------
    >>> prefix_end("loop/")
    'loop0'
    """
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    # surrogates are no characters, so no stored text starts with one
    return stem[:-1] + chr(0xE000 if 0xD800 <= following <= 0xDFFF else following)


def already_exists(kind: str, key: str) -> AlreadyExistsError:
    """Return the error of creating what is there."""
    return AlreadyExistsError(
        f"There is already a {kind} {key!r}.",
        hint="Choose another name, or replace or delete that one.",
        kind=kind,
        key=key,
    )


def not_found(kind: str, key: str, known: Iterable[str]) -> NotFoundError:
    """Return the error of asking for what is not there."""
    return NotFoundError(
        f"There is no {kind} {key!r}.", hint=did_you_mean(key, known), kind=kind, key=key
    )


def stale(held: Record, present: Record) -> WrongStateError:
    """Return the error of replacing what someone else has written since."""
    return WrongStateError(
        f"The {held.kind} {held.key!r} was written by someone else: "
        f"it is at version {present.version}, you hold version {held.version}"
        f"{'' if held.created_at == present.created_at else ' of one deleted since'}.",
        hint="Read it again and decide anew.",
        kind=held.kind,
        key=held.key,
        version=present.version,
    )
