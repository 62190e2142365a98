"""A folder as one `.tar.gz`: the same bytes for the same files, and nothing from outside of it."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

_LEVEL = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedFolder:
    """What went into an archive: how many files of how many bytes, and what was left out and why."""

    n_files: int
    n_bytes: int
    digest: str
    left_out: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "n_files": self.n_files,
            "n_bytes": self.n_bytes,
            "digest": self.digest,
            "left_out": list(self.left_out),
        }


def pack_folder(folder: Path, target: Path, *, others: Sequence[Path] = ()) -> PackedFolder:
    """Write the files below a folder to `target`, which appears whole or not at all.

    Names are sorted; times and owners are left out, so that the same files make the same bytes.
    A link to a file inside the folder is packed as that file; links that lead out of it, devices,
    pipes and sockets are left out.

    Parameters
    ----------
    others
        Folders whose files go into the same archive; of files of one name, the first is taken.

    Raises
    ------
    OSError
        If a file cannot be read, or the disk is full.
    """
    n_files = n_bytes = 0
    left_out: list[str] = []
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            out = _Hashed(file)
            with (
                gzip.GzipFile("", "wb", _LEVEL, cast(IO[bytes], out), mtime=0) as packed,
                tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
            ):
                for path, name, root, reason in _merged([folder, *others]):
                    reason = reason or _unfit(path, root)
                    if reason:
                        left_out.append(f"{name}: {reason}")
                        continue
                    info = _info(path, name)
                    if info.isreg():
                        n_files, n_bytes = n_files + 1, n_bytes + info.size
                        with open_regular(path, follow=True) as content:
                            archive.addfile(info, content)
                    else:
                        archive.addfile(info)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return PackedFolder(
        n_files=n_files,
        n_bytes=n_bytes,
        digest=f"sha256:{out.sha.hexdigest()}",
        left_out=tuple(left_out),
    )


def open_regular(path: Path, *, follow: bool = False) -> BinaryIO:
    """Open a regular file to read, and never wait for the other end of a pipe.

    Raises
    ------
    OSError
        If it cannot be read, is a link and those are not followed, or is no regular file.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(descriptor, "rb")


class _Hashed:
    """A file that is written, and the digest of what went into it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _merged(folders: Sequence[Path]) -> Iterator[tuple[Path, str, Path, str]]:
    """Yield path, name and folder of all that lies below folders, and why it is left out."""
    if len(folders) == 1:
        yield from ((path, name, folders[0], "") for path, name in _below(folders[0]))
        return
    found = [(name, n, path) for n, each in enumerate(folders) for path, name in _below(each)]
    last = ""
    files: set[str] = set()
    for name, number, path in sorted(found):
        is_file = path.is_symlink() or not path.is_dir()
        taken = name == last or any(str(each) in files for each in PurePosixPath(name).parents)
        if taken and not is_file:
            continue
        if is_file and not taken:
            files.add(name)
        last = name
        yield path, name, folders[number], "another host has a file of this name" if taken else ""


def _below(folder: Path) -> Iterator[tuple[Path, str]]:
    if folder.is_symlink():
        yield folder, folder.name
        return
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(root) / name
            yield path, path.relative_to(folder).as_posix()


def _unfit(path: Path, folder: Path) -> str:
    """Return why a path is left out, or an empty text."""
    if path == folder:
        return "a link in place of the folder"
    if path.is_symlink():
        # not `resolve`, which raises for links that lead in a circle
        target = Path(os.path.realpath(path))
        if not target.is_relative_to(folder.resolve()):
            return "a link that leads out of the folder"
        if not target.is_file():
            return "a link to no file"
        return ""
    mode = path.lstat().st_mode
    return "" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "neither a file nor a folder"


def _info(path: Path, name: str) -> tarfile.TarInfo:
    found = path.stat()
    info = tarfile.TarInfo(name)
    if stat.S_ISDIR(found.st_mode):
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    else:
        info.size, info.mode = found.st_size, 0o755 if found.st_mode & 0o100 else 0o644
    return info
