"""A model that lies in S3 as files below a prefix, as an archive on this machine."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopwright.core.digest import digest_value
from loopwright.core.names import new_id
from loopwright.sagemaker.desk import Desk
from loopwright.sagemaker.error import validation
from loopwright.sagemaker.staging import prefix_entries, stage


def is_folder(container: Mapping[str, Any]) -> bool:
    """Return whether the model of a container is many files, and no archive."""
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    return bool(source) and source.get("S3DataType") == "S3Prefix"


def folder_archive(desk: Desk, uri: str, *, below: Path) -> Path:
    """Return an archive of the files below a prefix; the same one for the same files.

    Raises
    ------
    ApiError
        If there are none, or a key cannot be a path in an archive.
    """
    prefix = f"{uri.rstrip('/')}/"
    entries = list(prefix_entries(desk, prefix))
    if not entries:
        raise validation(f"Could not find model data at {prefix}.")
    about = [[name, entry.etag, entry.size] for _, name, entry in entries]
    place = below / f"folder-{digest_value([prefix, about])[7:31]}.tar.gz"
    if place.exists():
        return place
    folder = below / f"unpacked-{new_id()}"
    try:
        stage(desk, entries, folder / "all")
        packed = folder / "packed.tar.gz"
        with tarfile.open(packed, "w:gz", compresslevel=1) as out:
            for path in sorted((folder / "all").rglob("*")):
                out.add(path, path.relative_to(folder / "all").as_posix(), recursive=False)
        packed.replace(place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return place
