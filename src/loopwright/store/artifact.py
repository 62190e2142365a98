"""Bytes the loop keeps (snapshots, bundles, reports), named by their digest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from loopwright.core.errors import InvalidInputError, NotFoundError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ArtifactStore(Protocol):
    """Keeps bytes under their SHA-256, written `sha256:<hex>`.

    Any thread and any process may call any method. A reader sees all of an object or nothing of
    it, also when its writer is killed; what is read is compared with its digest every time.

    Raises
    ------
    InvalidInputError
        From every method that takes one, for a digest that is none.
    BackendError
        From every method, when the storage fails or what it holds is damaged.
    """

    def put_bytes(self, data: bytes) -> str:
        """Keep some bytes; return their digest. Keeping the same twice costs nothing."""
        ...

    def put_file(self, path: Path) -> str:
        """Keep a file's bytes, read in pieces; return their digest.

        Raises
        ------
        InvalidInputError
            If the file cannot be read, or changes while it is read.
        """
        ...

    def get_bytes(self, digest: str) -> bytes:
        """Return the bytes of a digest, checked; `NotFoundError` if they are not kept."""
        ...

    def local_path(self, digest: str) -> Path:
        """Return a read-only local file with the bytes of a digest, checked.

        The file belongs to the store: copy it before changing anything. `NotFoundError` if the
        bytes are not kept.
        """
        ...

    def has(self, digest: str) -> bool:
        """Tell whether the bytes of a digest are kept."""
        ...

    def delete(self, digest: str) -> None:
        """Forget the bytes of a digest; nothing happens if there are none."""
        ...


def checked_digest(digest: str) -> str:
    """Return `digest` if it is one; digests become paths, so nothing else may pass."""
    if not _DIGEST.fullmatch(digest):
        raise InvalidInputError(
            f"{digest[:80]!r} is not a digest.",
            hint="A digest is 'sha256:' and 64 hexadecimal digits in lower case.",
            field="digest",
            value=digest[:200],
        )
    return digest


def missing(digest: str, *, where: str) -> NotFoundError:
    """Return the error of asking for bytes that are not kept."""
    return NotFoundError(
        f"The object {digest} is not in {where}.",
        hint="It was deleted, or stored in another home; run the step that makes it again.",
        digest=digest,
    )


def unreadable(path: Path, cause: OSError) -> InvalidInputError:
    """Return the error of storing a file that cannot be read."""
    return InvalidInputError(
        f"The file {path} cannot be stored: {cause.strerror or cause}.",
        hint="Check the path and its permissions.",
        field="path",
        value=str(path),
    )
