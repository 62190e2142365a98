"""Objects as folders of files: the data of channels, and code out of archives."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from loopwright.sagemaker.desk import Desk
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.s3.index import Entry
from loopwright.sagemaker.s3.store import split_uri

_MOST_CODE = 256 << 20
_MOST_MEMBERS = 10_000
_LARGEST_MANIFEST = 16 << 20


def channel_entries(desk: Desk, channel: Mapping[str, Any]) -> list[tuple[str, str, Entry]]:
    """Return the objects of a channel: each with its bucket and its path within the channel.

    Raises
    ------
    ApiError
        If there is none, or the source is of a kind that is not supported.
    """
    source = channel["DataSource"].get("S3DataSource")
    if source is None:
        raise validation("Only S3 data sources are supported yet by loopwright.")
    kind = source["S3DataType"]
    if kind == "ManifestFile":
        found = list(_of_manifest(desk, source["S3Uri"]))
    elif kind == "S3Prefix":
        found = list(prefix_entries(desk, source["S3Uri"]))
    else:
        raise validation(f"The S3 data type {kind} is not supported yet by loopwright.")
    if not found:
        bucket = split_uri(source["S3Uri"])[0]
        raise validation(
            f'No S3 objects found under S3 URL "{source["S3Uri"]}" given in input data source. '
            f"Please ensure that the bucket exists in the selected region "
            f"({desk.objects.bucket(bucket).region}), that objects exist under that S3 prefix, and "
            f'that the role has "s3:ListBucket" permissions on bucket "{bucket}".'
        )
    return found


def prefix_entries(desk: Desk, uri: str) -> Iterator[tuple[str, str, Entry]]:
    """Yield the objects under a prefix, by their path within it; of one object, its name."""
    bucket, prefix = split_uri(uri)
    if desk.objects.find_bucket(bucket) is None:
        return
    exact = desk.objects.find(bucket, prefix) if prefix else None
    if exact and not prefix.endswith("/"):
        yield bucket, PurePosixPath(prefix).name, exact
    for entry in desk.objects.every(bucket, prefix):
        if entry.key.endswith("/") or entry.key == prefix:
            continue  # a folder, as the console makes them
        rest = entry.key[len(prefix) :]
        if prefix and not prefix.endswith("/") and not rest.startswith("/"):
            # a prefix may end within a name
            rest = entry.key[prefix.rfind("/") + 1 :]
        yield bucket, rest.lstrip("/"), entry


def _of_manifest(desk: Desk, uri: str) -> Iterator[tuple[str, str, Entry]]:
    bucket, key = split_uri(uri)
    try:
        value = json.loads(desk.objects.read(bucket, key, limit=_LARGEST_MANIFEST))
        prefix = value[0]["prefix"]
        names = [str(each) for each in value[1:]]
    except (ValueError, LookupError, TypeError) as error:
        raise validation(f"{uri} is no manifest of S3 objects.") from error
    for name in names:
        own_bucket, own_key = split_uri(prefix + name)
        yield own_bucket, name, desk.objects.get(own_bucket, own_key)


def stage(desk: Desk, entries: Iterable[tuple[str, str, Entry]], folder: Path) -> int:
    """Put objects into a folder, as links where the disk allows it; return how many bytes.

    Raises
    ------
    ApiError
        If a key cannot be a path below the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def put(each: tuple[str, str, Entry]) -> int:
        bucket, name, entry = each
        target = folder / _below(name, f"s3://{bucket}/{entry.key}")
        try:
            desk.objects.link(entry, target)
        except OSError as error:
            raise validation(
                f"The object s3://{bucket}/{entry.key} cannot be a file in the job: "
                f"{error.strerror or error}."
            ) from error
        return entry.size

    if desk.objects.at_once == 1:
        return sum(map(put, entries))
    with ThreadPoolExecutor(desk.objects.at_once) as threads:
        return sum(threads.map(put, entries))


def _below(name: str, shown: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise validation(f"The key of {shown} cannot be a path in the job.")
    return path


def unpack(path: Path, folder: Path) -> None:
    """Unpack a `.tar.gz` of code or of a model, whoever made it.

    Raises
    ------
    ApiError
        If it is torn, too large, or a member is a link, a device, or leaves the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left, n_members = _MOST_CODE * 8, 0
    try:
        with tarfile.open(path, "r:*") as archive:
            for info in archive:
                n_members += 1
                left -= max(0, info.size)
                if n_members > _MOST_MEMBERS or left < 0:
                    raise validation("The archive is too large when it is unpacked.")
                _unpack_one(archive, info, folder)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise validation(f"The archive is torn, or no .tar.gz: {error}.") from error


def _unpack_one(archive: tarfile.TarFile, info: tarfile.TarInfo, folder: Path) -> None:
    name = PurePosixPath(info.name)
    if name.is_absolute() or ".." in name.parts or not (info.isreg() or info.isdir()):
        raise validation(
            f"The member {info.name[:200]!r} of the archive leads out of it, or is a link or a device."
        )
    target = folder / name
    if info.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    content = archive.extractfile(info)
    if content is None:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        while piece := content.read(1 << 20):
            file.write(piece)
    if info.mode & 0o100:
        target.chmod(0o755)


def fetched(desk: Desk, uri: str, target: Path) -> Path:
    """Put one object at a path; `ApiError` if it is not there."""
    bucket, key = split_uri(uri)
    desk.objects.link(desk.objects.get(bucket, key), target)
    return target


def refuse_missing_output(desk: Desk, uri: str) -> None:
    """Refuse an output path in a bucket that does not exist."""
    bucket, _ = split_uri(uri)
    try:
        desk.objects.bucket(bucket)
    except ApiError as error:
        raise validation(
            f"The S3 output bucket {bucket} does not exist: {error.message}."
        ) from error
