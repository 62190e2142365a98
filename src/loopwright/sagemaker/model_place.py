"""Where the model of a container lies on this machine: a bundle of loopwright's, or a user's own code."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loopwright.core.digest import digest_bytes, digest_file
from loopwright.core.errors import InvalidInputError
from loopwright.core.names import new_id
from loopwright.deploy import CodeSettings
from loopwright.deploy.code_archive import archive_names
from loopwright.deploy.code_settings import checked_code
from loopwright.sagemaker.algorithm import SETTINGS_FILE
from loopwright.sagemaker.container import data_uri
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import validation
from loopwright.sagemaker.foreign_model import as_bundle, is_foreign
from loopwright.sagemaker.image import image_of
from loopwright.sagemaker.image_packages import image_packages
from loopwright.sagemaker.model_folder import folder_archive, is_folder
from loopwright.sagemaker.s3.index import Entry
from loopwright.sagemaker.s3.store import split_uri
from loopwright.sagemaker.staging import fetched, unpack
from loopwright.sagemaker.training_order import client_environment
from loopwright.train.archive import pack_archive

_MANIFEST = "manifest.json"
_MOST_MANIFEST = 1 << 20
_LARGEST_MEMBER = 1 << 29
_PROGRAM, _DIRECTORY = "SAGEMAKER_PROGRAM", "SAGEMAKER_SUBMIT_DIRECTORY"
_MEMORY = "2 GiB"
_MOST_PROCESSES = 8


def model_of(desk: Desk, container: Mapping[str, Any]) -> dict[str, Any]:
    """Return what kind of model a container has, and where it lies on this machine.

    A `bundle` has `settings`, where a built-in algorithm left it; a `script` has its `program` and
    its `environment`.

    Raises
    ------
    ApiError
        If there is nothing that can be served.
    """
    uri = data_uri(container)
    if not uri:
        raise validation("The model has no ModelDataUrl, so that there is nothing to serve.")
    models = desk.workspace.home / "sagemaker" / "models"
    if is_folder(container):
        archive = folder_archive(desk, uri, below=models)
        return _model_in(desk, container, archive, models / f"own-{archive.name}")
    bucket, key = split_uri(uri)
    entry = desk.objects.get(bucket, key)
    place = models / f"{entry.file}.tar.gz"
    with _lent(desk, entry, place) as archive:
        return _model_in(desk, container, archive, place)


def _model_in(
    desk: Desk, container: Mapping[str, Any], archive: Path, place: Path
) -> dict[str, Any]:
    members = _bundle_members(archive)
    if members is None and is_foreign(container):
        members = _bundle_members(as_bundle(archive, place))
    if members is None:
        script = _script_of(desk, dict(container.get("Environment", {})), archive, place)
        return {**script, "framework": list(image_packages(container.get("Image", "")))}
    packed = pack_archive(members)
    _put(place, packed)
    settings = members.get(SETTINGS_FILE)
    return {
        "kind": "bundle",
        "path": str(place),
        "digest": digest_bytes(packed),
        "settings": {**json.loads(settings), "tag": _tag(container)} if settings else None,
    }


def _tag(container: Mapping[str, Any]) -> str:
    uri = container.get("Image", "")
    return image_of(uri).tag if uri else ""


def code_settings(
    desk: Desk, caller: Caller, model: Mapping[str, Any], *, n_instances: int = 1
) -> CodeSettings | None:
    """Return how the code of a model is run; None for a bundle.

    Raises
    ------
    ApiError
        If its program cannot be run.
    """
    if model["kind"] == "bundle":
        return None
    cpus = int(desk.workspace.compute.capacity().cpus)
    found = CodeSettings(
        program=model["program"],
        environments=str((desk.workspace.home / "environments").absolute()),
        framework=tuple(model.get("framework", ())),
        processes=max(1, min(n_instances, cpus, _MOST_PROCESSES)),
        memory=_MEMORY,
        variables={**client_environment(desk, caller), **model["environment"]},
    )
    try:
        return checked_code(found)
    except InvalidInputError as error:
        raise validation(f"{_PROGRAM} cannot be {model['program']!r}: {error.hint}") from error


def _script_of(
    desk: Desk, environment: dict[str, str], archive: Path, place: Path
) -> dict[str, Any]:
    program = environment.pop(_PROGRAM, "inference.py")
    submitted = environment.pop(_DIRECTORY, "")
    if submitted.startswith(("s3://", "https://")):
        place = _with_code(desk, archive, submitted, place)
    elif not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        _linked(archive, place)
    try:
        names = archive_names(place)
    except InvalidInputError as error:
        raise validation(str(error)) from error
    if f"code/{program}" not in names:
        raise validation(
            f"The model has no {program!r} in its code, and is no model of one of loopwright's "
            "algorithms: nothing can serve it. Images cannot be pulled."
        )
    return {
        "kind": "script",
        "path": str(place),
        "digest": digest_file(place),
        "program": program,
        "environment": environment,
        "settings": None,
    }


def _with_code(desk: Desk, archive: Path, submitted: str, place: Path) -> Path:
    """Return an archive of a model together with the code that lies elsewhere."""
    bucket, key = split_uri(submitted)
    code = desk.objects.get(bucket, key)
    whole = place.with_name(f"{place.name.removesuffix('.tar.gz')}-{code.file}.tar.gz")
    if whole.exists():
        return whole
    folder = place.with_name(f"unpacked-{new_id()}")
    try:
        unpack(archive, folder / "all")
        unpack(fetched(desk, submitted, folder / "code.tgz"), folder / "code")
        shutil.copytree(folder / "code", folder / "all" / "code", dirs_exist_ok=True)
        packed = folder / "whole.tar.gz"
        with tarfile.open(packed, "w:gz", compresslevel=1) as out:
            for path in sorted((folder / "all").rglob("*")):
                out.add(path, path.relative_to(folder / "all").as_posix(), recursive=False)
        packed.replace(whole)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return whole


@contextmanager
def _lent(desk: Desk, entry: Entry, place: Path) -> Iterator[Path]:
    """Return a file with the bytes of an object, for a while."""
    archive = place.with_name(f".{new_id()}.archive")
    try:
        desk.objects.link(entry, archive)
        yield archive
    finally:
        archive.unlink(missing_ok=True)


def _linked(archive: Path, place: Path) -> None:
    """Keep the bytes of an object under another name, whatever becomes of the object."""
    temporary = place.with_name(f".{place.name}.{new_id()}")
    try:
        os.link(archive, temporary)
    except OSError:
        shutil.copyfile(archive, temporary)
    temporary.replace(place)


def _put(place: Path, content: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.{new_id()}")
    temporary.write_bytes(content)
    temporary.replace(place)


def _bundle_members(archive: Path) -> dict[str, bytes] | None:
    """Return the members of a model of loopwright's, without what else lies in the archive."""
    try:
        with tarfile.open(archive, "r:*") as opened:
            try:
                about = opened.getmember(_MANIFEST)
            except KeyError:
                return None
            content = opened.extractfile(about) if about.size <= _MOST_MANIFEST else None
            manifest = json.loads(content.read()) if content else {}
            wanted = {_MANIFEST, *manifest.get("members", {})}
            if not manifest.get("format"):
                return None
            found = {}
            for info in opened:
                if info.isreg() and info.name in wanted and info.size <= _LARGEST_MEMBER:
                    member = opened.extractfile(info)
                    found[info.name] = member.read() if member else b""
            return found
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise validation(f"The model archive is torn, or no .tar.gz: {error}.") from error
