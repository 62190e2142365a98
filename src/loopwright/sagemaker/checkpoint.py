"""Checkpoints of a training job: brought from S3 before it starts, kept there while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from loopwright.sagemaker.desk import Desk
from loopwright.sagemaker.error import validation
from loopwright.sagemaker.s3.store import split_uri
from loopwright.sagemaker.staging import prefix_entries
from loopwright.train.script_archive import open_regular
from loopwright.train.script_contract import BASE

FOLDER = "checkpoints"
# a file that is being written is left for the next look
_QUIET_S = 1.0
# what is in S3 as it is on disk, by the folder of a job
_kept: dict[str, dict[str, tuple[int, int]]] = {}


def local_path(given: Mapping[str, Any]) -> str:
    """Return where a job finds its checkpoints below `/opt/ml`.

    Raises
    ------
    ApiError
        If it wants them elsewhere, or where something else lies.
    """
    path = given.get("CheckpointConfig", {}).get("LocalPath", f"{BASE}/{FOLDER}")
    found = PurePosixPath(path.rstrip("/"))
    if not found.is_relative_to(BASE) or ".." in found.parts or "\0" in path:
        raise validation(f"CheckpointConfig.LocalPath must be a folder below {BASE}, not {path!r}.")
    inner = found.relative_to(BASE)
    if not inner.parts or inner.parts[0] in ("code", "input", "model", "output"):
        raise validation(
            f"CheckpointConfig.LocalPath cannot be {path!r}, which the job itself has."
        )
    return str(inner)


def restored(desk: Desk, given: Mapping[str, Any], folder: Path) -> str | None:
    """Return a folder with what is in S3 of earlier checkpoints; None if the job wants none."""
    about = given.get("CheckpointConfig")
    if about is None:
        return None
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    known = _kept[str(folder)] = {}
    for bucket, name, entry in prefix_entries(desk, about["S3Uri"].rstrip("/") + "/"):
        target = place / name
        if not target.resolve().is_relative_to(place.resolve()):
            raise validation(f"The key of s3://{bucket}/{entry.key} cannot be a path in the job.")
        # a copy, since the job writes there
        desk.objects.fetch(entry, target)
        known[name] = _state(target)
    return str(place)


def keep(desk: Desk, given: Mapping[str, Any], folder: Path, *, while_running: bool) -> None:
    """Put into S3 what is new or changed in the folder of checkpoints.

    Parameters
    ----------
    while_running
        Whether files may be written just now; such wait for the next look.
    """
    about, place = given.get("CheckpointConfig"), folder / FOLDER
    if about is None or not place.is_dir():
        return
    bucket, prefix = split_uri(about["S3Uri"])
    known = _kept.setdefault(str(folder), {})
    for path in sorted(place.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        name, state = path.relative_to(place).as_posix(), _state(path)
        is_quiet = desk.objects.now() - state[1] / 1e9 >= _QUIET_S
        if known.get(name) == state or (while_running and not is_quiet):
            continue
        try:
            with open_regular(path) as file:
                pieces = iter(lambda: file.read(1 << 20), b"")
                desk.objects.put(bucket, f"{prefix.rstrip('/')}/{name}".lstrip("/"), pieces)
        except FileNotFoundError:
            # an older one that the script has removed
            continue
        known[name] = state


def forget(folder: Path) -> None:
    """Forget what is known of the checkpoints of a job that has ended."""
    _kept.pop(str(folder), None)


def _state(path: Path) -> tuple[int, int]:
    about = path.lstat()
    return about.st_size, about.st_mtime_ns
