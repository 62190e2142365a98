"""The versions of a pipeline as they are kept: each definition that it has had."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from loopwright.core.errors import AlreadyExistsError
from loopwright.sagemaker.desk import Desk
from loopwright.sagemaker.error import ApiError, validation
from loopwright.store import Record

_KIND = "sagemaker/pipeline-version"
_MOST_ALIASES = 10


def _prefix(pipeline: Record) -> str:
    return f"{pipeline.key}/"


def keep_version(desk: Desk, pipeline: Record, aliases: Iterable[str] = ()) -> Record:
    """Keep the definition that a pipeline has now as its version, and return that.

    A version that is kept already stays as it is, but for aliases that come to it.
    """
    store = desk.workspace.metadata
    key = f"{_prefix(pipeline)}{pipeline.body['version']:08d}"
    body = {
        "number": pipeline.body["version"],
        "definition": pipeline.body["definition"],
        "display": "",
        "description": "",
        "aliases": [],
    }
    try:
        record = store.create(_KIND, key, body)
    except AlreadyExistsError:
        record = store.get(_KIND, key)
    return with_aliases(desk, pipeline, record, add=aliases) if aliases else record


def versions_of(desk: Desk, pipeline: Record) -> list[Record]:
    """Return the versions of a pipeline, the first one first."""
    # a pipeline of an older release has kept none
    keep_version(desk, pipeline)
    found: list[Record] = []
    after, prefix = "", _prefix(pipeline)
    while page := desk.workspace.metadata.list_(_KIND, prefix=prefix, after=after):
        found += page
        after = page[-1].key
    return found


def version_of(desk: Desk, pipeline: Record, given: Mapping[str, Any]) -> Record:
    """Return the version that a request names by number or alias; the latest when it names none.

    Raises
    ------
    ApiError
        If there is none, or both are given.
    """
    number, alias = given.get("PipelineVersionId"), given.get("PipelineVersionAlias")
    if number is not None and alias is not None:
        raise validation("Only one of PipelineVersionId and PipelineVersionAlias can be specified.")
    if number is None and alias is None:
        number = pipeline.body["version"]
    for each in versions_of(desk, pipeline):
        if each.body["number"] == number or alias in each.body["aliases"]:
            return each
    shown = f"version '{number}'" if alias is None else f"version with the alias '{alias}'"
    raise ApiError(
        "ResourceNotFound", f"Pipeline '{pipeline.body['arn']}' does not have a {shown}."
    )


def with_aliases(
    desk: Desk,
    pipeline: Record,
    version: Record,
    *,
    add: Iterable[str] = (),
    remove: Iterable[str] = (),
    **changes: str,
) -> Record:
    """Return a version after some changes to it.

    Raises
    ------
    ApiError
        If another version has an alias, one is no alias, or there would be too many.
    """
    gone = set(remove)
    kept = [each for each in version.body["aliases"] if each not in gone]
    new = [each for each in dict.fromkeys(add) if each not in kept]
    for each in new:
        if re.fullmatch(r"\d+", each):
            raise validation(f"The alias {each!r} consists of numbers only.")
    for other in versions_of(desk, pipeline):
        taken = set(new) & set(other.body["aliases"])
        if other.key != version.key and taken:
            raise ApiError(
                "ConflictException",
                f"The alias '{min(taken)}' belongs to version {other.body['number']} of the "
                "pipeline.",
            )
    if len(kept) + len(new) > _MOST_ALIASES:
        raise validation(f"A pipeline version can have {_MOST_ALIASES} aliases at most.")
    body = {**version.body, "aliases": kept + new, **changes}
    return desk.workspace.metadata.replace(version, body)


def forget_versions(desk: Desk, pipeline: Record) -> None:
    """Forget the versions of a pipeline that is deleted."""
    for each in versions_of(desk, pipeline):
        desk.workspace.metadata.delete(_KIND, each.key)
