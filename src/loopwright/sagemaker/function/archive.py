"""The zip of a function's code: checked before it is kept, unpacked where the function runs.

Standard library only beside the errors, since the process of a call imports it.
"""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from loopwright.core.errors import InvalidInputError

LARGEST = 64 << 20
"""As many bytes may a zip have."""
_LARGEST_UNPACKED = 262_144_000
_MOST_FILES = 10_000
_ENTRY = b"PK\x01\x02"
_KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1


def check_archive(data: bytes) -> None:
    """Return if this is a zip that can be unpacked without harm.

    Raises
    ------
    InvalidInputError
        If it is none, holds a link, a path out of its folder, or more than may be unpacked.
    """
    if data.count(_ENTRY) > 2 * _MOST_FILES:
        raise InvalidInputError(f"The zip has more than {_MOST_FILES} files.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _checked(archive)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, EOFError) as error:
        raise InvalidInputError(
            "Could not unzip uploaded file. Please check your file, then try to upload again."
        ) from error


def _checked(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    entries = archive.infolist()
    if len(entries) > _MOST_FILES:
        raise InvalidInputError(f"The zip has {len(entries)} files; {_MOST_FILES} are possible.")
    if not entries:
        raise InvalidInputError("Uploaded file must be a non-empty zip")
    if sum(each.file_size for each in entries) >= _LARGEST_UNPACKED:
        raise InvalidInputError(f"Unzipped size must be smaller than {_LARGEST_UNPACKED} bytes")
    for each in entries:
        reason = _fault(each)
        if reason:
            raise InvalidInputError(f"The zip cannot be used: {each.filename[:200]!r} {reason}.")
    return entries


def _fault(entry: zipfile.ZipInfo) -> str:
    """Return what is wrong with an entry; nothing for a file or a folder inside."""
    path, mode = PurePosixPath(entry.filename), entry.external_attr >> 16
    if path.is_absolute() or ".." in path.parts or "\\" in entry.filename:
        return "leads out of its folder"
    if not path.parts or "\0" in entry.orig_filename:
        return "is no name of a file"
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is neither a file nor a folder"
    if entry.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if entry.compress_type not in _KINDS:
        return "is compressed in an unknown way"
    return ""


def unpack(path: Path, folder: Path) -> None:
    """Write the files of a zip into a folder that is empty.

    Raises
    ------
    InvalidInputError
        As `check_archive`, and where an entry holds more than it says, or two are at odds.
    """
    left = _LARGEST_UNPACKED
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in _checked(archive):
                target = folder / entry.filename
                if entry.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("wb") as file:
                    while data := source.read(min(1 << 20, left + 1)):
                        left -= len(data)
                        if left < 0:
                            raise InvalidInputError(
                                f"Unzipped size must be smaller than {_LARGEST_UNPACKED} bytes"
                            )
                        file.write(data)
                mode = entry.external_attr >> 16
                target.chmod(0o755 if mode & 0o100 else 0o644)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise InvalidInputError(f"The zip is damaged: {error}.") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise InvalidInputError(
            f"Two entries of the zip have one name: {error.filename}."
        ) from error
