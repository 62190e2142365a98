"""Fingerprints of values, bytes and files: SHA-256, written `sha256:<hex>`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 1 << 20


def digest_bytes(data: bytes) -> str:
    """Return the digest of some bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Return the digest of a file's bytes, read in pieces."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            sha.update(chunk)
    return "sha256:" + sha.hexdigest()


def canonical_json(value: Any) -> bytes:
    """Return JSON that is the same for equal values: sorted keys, no spaces, UTF-8.

    Raises
    ------
    ValueError
        If the value holds NaN or infinity, which JSON cannot say.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest_value(value: Any) -> str:
    """Return the digest of a value made of JSON types."""
    return digest_bytes(canonical_json(value))
