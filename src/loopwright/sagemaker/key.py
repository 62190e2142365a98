"""Access keys: the tokens of this home, given out by `loopwright env`, kept in its store."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from loopwright.core.errors import NotFoundError
from loopwright.sagemaker.desk import ACCOUNT
from loopwright.store import MetadataStore, Record

KEYS = "access-key"


class Finds(Protocol):
    """Where a record can be found: a store, or what remembers of it."""

    def find(self, kind: str, key: str) -> Record | None:
        """Return a record, or None."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """A key: its public name, its secret, the account and the person it belongs to."""

    id: str
    secret: str = field(repr=False)
    account: str = ACCOUNT
    user: str = ""
    purpose: str = "person"


def new_key(store: MetadataStore, *, user: str, account: str = ACCOUNT, purpose: str) -> AccessKey:
    """Make a key and keep it."""
    name = base64.b32encode(secrets.token_bytes(10)).decode()
    key = AccessKey(
        id=f"LWKA{name}",
        secret=secrets.token_urlsafe(30),
        account=account,
        user=user,
        purpose=purpose,
    )
    body = {"secret": key.secret, "account": account, "user": user, "purpose": purpose}
    store.create(KEYS, key.id, body)
    return key


def key_of(store: MetadataStore, *, user: str, purpose: str, account: str = ACCOUNT) -> AccessKey:
    """Return the key of a person for a purpose, making it if there is none."""
    for record in store.list_(KEYS):
        body = record.body
        if (body["user"], body["purpose"], body["account"]) == (user, purpose, account):
            return AccessKey(id=record.key, **body)
    return new_key(store, user=user, account=account, purpose=purpose)


def find_key(store: Finds, key_id: str) -> AccessKey | None:
    """Return a key by its public name, or None."""
    if not key_id.isalnum() or len(key_id) > 64:
        return None
    record = store.find(KEYS, key_id)
    return key_in(record) if record else None


def key_in(record: Record) -> AccessKey:
    """Return the key that a record of the kind `KEYS` holds."""
    return AccessKey(id=record.key, **record.body)


def list_keys(store: MetadataStore) -> list[tuple[AccessKey, datetime]]:
    """Return all keys, each with the time when it was made, the oldest first."""
    found: list[tuple[AccessKey, datetime]] = []
    after = ""
    while page := store.list_(KEYS, after=after):
        found += [(AccessKey(id=each.key, **each.body), each.created_at) for each in page]
        after = page[-1].key
    return sorted(found, key=lambda pair: (pair[1], pair[0].id))


def revoke_key(store: MetadataStore, key_id: str) -> AccessKey:
    """Forget a key; the next request that is signed with it is refused.

    Raises
    ------
    NotFoundError
        If there is none of that name.
    """
    known = find_key(store, key_id)
    if known is None:
        raise NotFoundError(
            f"There is no access key {key_id[:64]!r}.",
            hint="`loopwright keys list` shows those that there are.",
            kind="access key",
            name=key_id[:64],
        )
    store.delete(KEYS, known.id)
    return known
