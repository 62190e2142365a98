"""Bundles: a model with all it needs to answer, to be judged and to be watched, in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core.digest import canonical_json, digest_bytes
from loopwright.core.errors import InvalidInputError, NotFoundError
from loopwright.core.names import checked_name, did_you_mean
from loopwright.train.archive import ArchiveLimits, open_archive, pack_archive
from loopwright.train.outcome import Outcome
from loopwright.train.serving_model import (
    GOLDEN_MEMBER,
    REQUIRED_MEMBERS,
    ServingModel,
    assembled_model,
    golden_member,
)

MANIFEST_MEMBER = "manifest.json"
_FORMAT = 1
_VERSION_DIGITS = 12


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle says about itself.

    Parameters
    ----------
    format
        Version of the layout; 1.
    name, algorithm
        Of the model.
    outcome
        See `Outcome.to_json`.
    members
        Digest of every other file in the bundle, by name.
    """

    format: int
    name: str
    algorithm: str
    outcome: dict[str, Any]
    members: dict[str, str]


def pack_bundle(
    members: Mapping[str, bytes | Path],
    *,
    name: str,
    algorithm: str,
    outcome: Outcome,
    golden_rows: Sequence[Mapping[str, Any]] = (),
) -> bytes:
    """Return a model as the bytes of a `model.tar.gz`; the same bytes for the same members.

    Parameters
    ----------
    members
        Files by name: `predictor.npz`, `predictor.json`, `recipe.json` and `signature.json` must
        be there; `model/...`, `reference.json`, `evaluation.json`, `problem.json` and others may.
    name
        Name of the model.
    algorithm
        What trained it.
    outcome
        Its task and classes.
    golden_rows
        Raw rows whose answers are packed too, so that whoever opens the bundle can compare.

    Raises
    ------
    InvalidInputError
        If a member is missing, has a name that is not a plain path, or does not make a model.
    """
    checked_name(name, what="model")
    files = {path: _bytes(content) for path, content in members.items()}
    model = _model(files, name=name, algorithm=algorithm, outcome=outcome, version="0" * 12)
    if golden_rows:
        files[GOLDEN_MEMBER] = golden_member(model, golden_rows)
    manifest = Manifest(
        format=_FORMAT,
        name=name,
        algorithm=algorithm,
        outcome=outcome.to_json(),
        members={path: digest_bytes(content) for path, content in files.items()},
    )
    files[MANIFEST_MEMBER] = canonical_json(msgspec.to_builtins(manifest))
    return pack_archive(files)


def open_bundle(source: Path | bytes, *, limits: ArchiveLimits | None = None) -> ServingModel:
    """Return the model in a `model.tar.gz`, ready to answer; the file may come from anywhere.

    Nothing is written, unpickled or executed; every file is compared with its digest, and every
    array and index is checked before use. Neither Polars nor a training library is imported.

    Parameters
    ----------
    source
        The file, or its bytes.
    limits
        How much it may hold.

    Raises
    ------
    NotFoundError
        If there is no such file.
    InvalidInputError
        If it is not a bundle that can be trusted.
    """
    limits = limits or ArchiveLimits()
    data = source if isinstance(source, bytes) else _file_bytes(source, limits)
    members = open_archive(data, limits=limits)
    manifest = _manifest(members)
    version = digest_bytes(data).removeprefix("sha256:")[:_VERSION_DIGITS]
    return _model(
        members,
        name=checked_name(manifest.name, what="model"),
        algorithm=manifest.algorithm,
        outcome=Outcome.from_json(manifest.outcome),
        version=version,
    )


def _model(
    members: Mapping[str, bytes], *, name: str, algorithm: str, outcome: Outcome, version: str
) -> ServingModel:
    for required in REQUIRED_MEMBERS:
        if required not in members:
            raise InvalidInputError(
                f"The bundle of the model {name!r} lacks {required!r}.",
                hint=f"A bundle holds at least {', '.join(REQUIRED_MEMBERS)}.",
                field="members",
                value=required,
            )
    return assembled_model(
        members, name=name, algorithm=algorithm, outcome=outcome, version=version
    )


def _bytes(content: bytes | Path) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def _file_bytes(path: Path, limits: ArchiveLimits) -> bytes:
    try:
        with path.open("rb") as file:
            # one byte more than may be: the archive's own check then says so
            return file.read(limits.packed_bytes + 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        folder = path.parent
        beside = [p.name for p in folder.glob("*.tar.gz")] if folder.is_dir() else []
        raise NotFoundError(
            f"There is no model file {str(path)!r}.",
            hint=did_you_mean(path.name, beside),
            kind="model file",
            name=str(path),
        ) from error


def _manifest(members: Mapping[str, bytes]) -> Manifest:
    try:
        manifest = msgspec.json.decode(members[MANIFEST_MEMBER], type=Manifest)
    except KeyError as error:
        raise _refusal(f"it has no {MANIFEST_MEMBER}") from error
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise _refusal(f"its {MANIFEST_MEMBER} cannot be read ({error})") from error
    if manifest.format != _FORMAT:
        raise InvalidInputError(
            f"The bundle has format {manifest.format}; this loopwright reads format {_FORMAT}.",
            hint="Open it with the loopwright that packed it, or a later one.",
            field="format",
            value=manifest.format,
        )
    listed = set(manifest.members)
    if odd := listed ^ (set(members) - {MANIFEST_MEMBER}):
        raise _refusal(f"{sorted(odd)[0][:80]!r} is in its list or in the archive, but not in both")
    for path, digest in manifest.members.items():
        if digest_bytes(members[path]) != digest:
            raise _refusal(f"{path[:80]!r} does not have the digest that its manifest says")
    return manifest


def _refusal(reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"The model file is not a bundle that can be trusted: {reason}.",
        hint="Pack it again with loopwright, or fetch it again.",
        field="bundle",
        value=reason,
    )
