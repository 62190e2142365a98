"""Where files lie: which ones a path means, and how they become local ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from loopwright.core.digest import digest_value
from loopwright.core.errors import InvalidInputError
from loopwright.core.names import nearest
from loopwright.data.part import PACKED, SUFFIXES, Unpacked, find_kind

if TYPE_CHECKING:
    from loopwright.data.source import FileSource

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(?:://|::.*://)")
# one address behind another, as some libraries read them; an IPv6 host stands in brackets
_CHAIN = re.compile(r"::(?![^/]*\])")
_SECRET = re.compile(r"(?i)[?&][^=&]*(?:sig|token|key|secret|pass|cred|auth)[^=&]*=")
_OBJECT_SCHEMES = ("s3", "gs", "az")
_WEB_SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A local file, and what people call it."""

    path: Path
    label: str


class Place(Protocol):
    """The files that a path means, on this machine or elsewhere."""

    def describe(self) -> str:
        """Return the path without credentials."""
        ...

    def fingerprint(self) -> str | None:
        """Return a digest of the names, sizes and states of the files; None if unknown."""
        ...

    def files(self) -> list[Located]:
        """Return the files in the order of their names, brought here if they were elsewhere.

        Raises
        ------
        InvalidInputError
            If there are none, or they may not be read.
        BackendError
            If the place cannot be reached.
        """
        ...


def open_place(
    spec: FileSource,
    base: Path,
    *,
    environ: Mapping[str, str],
    unpacked: Unpacked,
    max_bytes: int,
) -> Place:
    """Return the place that a file source names; nothing is read yet.

    Raises
    ------
    InvalidInputError
        If the path has a scheme that is not read, holds a credential, or does not tell the kind of
        its files.
    """
    path, is_secret = _resolved(spec.path, environ)
    scheme = match[1].lower() if (match := _SCHEME.match(path)) else ""
    if not scheme:
        _check_kind(path, base)
        return LocalPlace(path, base)
    if scheme not in _OBJECT_SCHEMES + _WEB_SCHEMES or _CHAIN.search(path):
        raise refused(
            f"Files at {scheme}: addresses cannot be read.",
            "Use a path on this machine, or s3://, gs://, az://, https:// or http://.",
            path=spec.path,
        )
    # in the key of an object a question mark stands for any letter
    bare = path.partition("?")[0].partition("#")[0] if scheme in _WEB_SCHEMES else path
    has_user = "@" in bare.partition("://")[2].partition("/")[0]
    if not is_secret and (has_user or _SECRET.search(path)):
        # the path stands in records and displays; the environment does not
        raise refused(
            "The path holds a credential.",
            "Put the whole address in an environment variable and write `path: env:NAME`.",
            path=bare.rpartition("@")[2],
        )
    if scheme in _WEB_SCHEMES:
        from loopwright.data.web import WebPlace

        _check_kind(bare, base)
        return WebPlace(
            path,
            unpacked=unpacked,
            max_bytes=max_bytes,
            allow_private=spec.allow_private,
        )
    from loopwright.data.bucket import BucketPlace

    if not bare.endswith("/"):
        _check_kind(bare, base)
    return BucketPlace(path, environ=environ, unpacked=unpacked, max_bytes=max_bytes)


def _resolved(path: str, environ: Mapping[str, str]) -> tuple[str, bool]:
    if not path.startswith("env:"):
        return path, False
    name = path.removeprefix("env:")
    if not environ.get(name):
        raise refused(
            f"The environment variable {name}, which should hold the path, is not set.",
            f"Set it: export {name}=https://...",
            path=path,
        )
    return environ[name], True


def _check_kind(path: str, base: Path) -> None:
    if find_kind(path) is None and not (base / Path(path).expanduser()).is_dir():
        endings = ", ".join(SUFFIXES)
        raise refused(
            f"The kind of the file {path!r} cannot be told from its name.",
            f"Use a name that ends in {endings}; text may also be packed as {' or '.join(PACKED)}.",
            path=path,
        )


def refused(message: str, hint: str, *, path: str) -> InvalidInputError:
    """Return the error for a path that cannot be used."""
    return InvalidInputError(message, hint=hint, field="data.source.path", value=path)


class LocalPlace:
    """Files on this machine: one, those that match a pattern, or those in a folder."""

    def __init__(self, path: str, base: Path) -> None:
        self._given = path
        self._path = base / Path(path).expanduser()

    def describe(self) -> str:
        """Return the path as the loop file gives it."""
        return self._given

    def fingerprint(self) -> str:
        """Return a digest of the path, size and time of change of every file."""
        facts = [(str(file.path), file.path.stat()) for file in self.files()]
        return digest_value([[name, stat.st_size, stat.st_mtime_ns] for name, stat in facts])

    def files(self) -> list[Located]:
        """Return the files there are now."""
        return [Located(path=path, label=str(path)) for path in self._paths()]

    def _paths(self) -> list[Path]:
        if self._path.is_file():
            return [self._path]
        if self._path.is_dir():
            return self._folder()
        name = self._path.name
        if any(mark in self._given for mark in "*?["):
            anchor = Path(self._path.anchor)
            found = sorted(
                path for path in anchor.glob(str(self._path.relative_to(anchor))) if path.is_file()
            )
            if found:
                return found
            said = f"No file matches {self._given!r}"
        else:
            said = f"There is no file {self._given!r}"
        folder = self._path.parent
        if not folder.is_dir():
            raise refused(
                f"{said}: there is no folder {folder}.", "Correct the path.", path=self._given
            )
        near = nearest(name, [path.name for path in folder.iterdir()])
        hint = f"Did you mean {near!r}?" if near else "Correct the path."
        raise refused(f"{said} in {folder}.", hint, path=self._given)

    def _folder(self) -> list[Path]:
        files = sorted(
            path
            for path in self._path.iterdir()
            if path.is_file() and not path.name.startswith(".") and find_kind(path.name)
        )
        if files:
            return files
        raise refused(
            f"The folder {self._given!r} holds no file that can be read as a table.",
            f"Put files in it that end in {', '.join(SUFFIXES)}.",
            path=self._given,
        )
