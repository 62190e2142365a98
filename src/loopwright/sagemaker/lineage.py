"""Lineage: contexts, actions and artifacts, and what came of what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from loopwright.core.digest import digest_value
from loopwright.core.errors import AlreadyExistsError
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.experiment import by_whom
from loopwright.sagemaker.pipeline.pipeline_record import in_time
from loopwright.sagemaker.registry import Handler, serves
from loopwright.sagemaker.shelf import Shelf, cut, page_of, plain
from loopwright.sagemaker.tag import drop_tags, keep_tags
from loopwright.sagemaker.trial_component import require_component
from loopwright.store import Record

_EDGES = "sagemaker/association"
_MOST_STEPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A kind of entity: `word` is `Context`, `Action` or `Artifact`."""

    word: str
    shelf: Shelf

    @property
    def is_named(self) -> bool:
        return self.word != "Artifact"

    def name_in(self, caller: Caller, given: Mapping[str, Any]) -> str:
        """Return the name of the record that a request means."""
        if self.is_named:
            return str(given[f"{self.word}Name"]).rpartition("/")[2]
        if arn := given.get("ArtifactArn"):
            return str(arn).rpartition("/")[2]
        if "Source" not in given:
            raise validation("Either ArtifactArn or Source must be specified.")
        seed = [caller.account, caller.region, plain(given["Source"])]
        return digest_value(seed).removeprefix("sha256:")[:32]


def _kind(word: str) -> _Kind:
    return _Kind(
        word=word,
        shelf=Shelf(
            kind=word.lower(),
            missing=f"{word} '{{arn}}' does not exist.",
            missing_code="ResourceNotFound",
            taken=f"{word} '{{arn}}' already exists.",
        ),
    )


_KINDS = tuple(_kind(word) for word in ("Context", "Action", "Artifact"))


def _described(desk: Desk, kind: _Kind, record: Record) -> dict[str, Any]:
    request = {name: each for name, each in record.body["request"].items() if name != "Tags"}
    return {**request, f"{kind.word}Arn": record.body["arn"], **by_whom(desk, record)}


def _create(kind: _Kind) -> Handler:
    def create(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        record = kind.shelf.create(desk, caller, kind.name_in(caller, given), given)
        keep_tags(desk, record.body["arn"], given.get("Tags", []))
        return {f"{kind.word}Arn": record.body["arn"]}

    return create


def _describe(kind: _Kind) -> Handler:
    def describe(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        return _described(desk, kind, kind.shelf.get(desk, caller, kind.name_in(caller, given)))

    return describe


def _update(kind: _Kind) -> Handler:
    def update(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        with desk.workspace.metadata.transaction():
            record = kind.shelf.get(desk, caller, kind.name_in(caller, given))
            request = dict(record.body["request"])
            removed = given.get("PropertiesToRemove", ())
            known = {k: v for k, v in request.get("Properties", {}).items() if k not in removed}
            request["Properties"] = {**known, **given.get("Properties", {})}
            for name in ("Description", "Status", "ArtifactName"):
                if name in given:
                    request[name] = given[name]
            kind.shelf.change(desk, record, request=request)
        return {f"{kind.word}Arn": record.body["arn"]}

    return update


def _list(kind: _Kind) -> Handler:
    def list_(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        about = f"{kind.word}Type"
        found = [
            each
            for each in kind.shelf.all(desk, caller)
            if given.get("SourceUri") in (None, each.body["request"]["Source"]["SourceUri"])
            and given.get(about) in (None, each.body["request"].get(about))
        ]
        page, token = page_of(
            found,
            in_time(given),
            summary=lambda record: _described(desk, kind, record),
            name=f"{kind.word}Name" if kind.is_named else "ArtifactArn",
        )
        return {f"{kind.word}Summaries": page, "NextToken": token}

    return list_


def _delete(kind: _Kind) -> Handler:
    def delete(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        with desk.workspace.metadata.transaction():
            record = kind.shelf.get(desk, caller, kind.name_in(caller, given))
            arn = record.body["arn"]
            if any(arn in (each["source"], each["destination"]) for each in _edges(desk, caller)):
                raise validation(f"{kind.word} '{arn}' has associations: delete them first.")
            kind.shelf.delete(desk, record)
        drop_tags(desk, arn)
        return {f"{kind.word}Arn": arn}

    return delete


for _each in _KINDS:
    serves("sagemaker", f"Create{_each.word}")(_create(_each))
    serves("sagemaker", f"Describe{_each.word}")(_describe(_each))
    serves("sagemaker", f"Update{_each.word}")(_update(_each))
    serves("sagemaker", f"List{_each.word}s")(_list(_each))
    serves("sagemaker", f"Delete{_each.word}")(_delete(_each))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entity:
    """What an ARN stands for, as associations tell it."""

    arn: str
    name: str
    type: str
    lineage: str


def _entity(desk: Desk, caller: Caller, arn: str) -> _Entity:
    """Return what an ARN stands for; `ApiError` if it stands for nothing that has a lineage."""
    kind_name, _, name = arn.rpartition(":")[2].partition("/")
    for kind in _KINDS:
        if kind_name == kind.shelf.kind:
            record = kind.shelf.get(desk, caller, name)
            request = record.body["request"]
            return _Entity(
                arn=arn,
                name=request.get(f"{kind.word}Name", name),
                type=request.get(f"{kind.word}Type", ""),
                lineage=kind.word,
            )
    if kind_name == "experiment-trial-component":
        found = require_component(desk, caller, name)
        source = (found.get("Source") or {}).get("SourceType", "")
        return _Entity(
            arn=arn, name=found["TrialComponentName"], type=source, lineage="TrialComponent"
        )
    raise validation(f"{arn} cannot be a part of a lineage.")


def _key(caller: Caller, source: str, destination: str) -> str:
    digest = digest_value([source, destination]).removeprefix("sha256:")
    return f"{caller.account}/{caller.region}/{digest}"


@serves("sagemaker", "AddAssociation")
def add_association(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep that something has to do with something else; both must be there."""
    source, destination = given["SourceArn"], given["DestinationArn"]
    _entity(desk, caller, source)
    _entity(desk, caller, destination)
    body = {
        "source": source,
        "destination": destination,
        "type": given.get("AssociationType"),
    }
    try:
        desk.workspace.metadata.create(_EDGES, _key(caller, source, destination), body)
    except AlreadyExistsError as error:
        raise validation(
            f"Association between '{source}' and '{destination}' already exists."
        ) from error
    return {"SourceArn": source, "DestinationArn": destination}


@serves("sagemaker", "DeleteAssociation")
def delete_association(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Forget that something has to do with something else."""
    source, destination = given["SourceArn"], given["DestinationArn"]
    key = _key(caller, source, destination)
    if desk.workspace.metadata.find(_EDGES, key) is None:
        raise ApiError(
            "ResourceNotFound",
            f"Association between '{source}' and '{destination}' does not exist.",
        )
    desk.workspace.metadata.delete(_EDGES, key)
    return {"SourceArn": source, "DestinationArn": destination}


def _edges(desk: Desk, caller: Caller) -> list[dict[str, Any]]:
    store, after = desk.workspace.metadata, ""
    found: list[dict[str, Any]] = []
    prefix = f"{caller.account}/{caller.region}/"
    while page := store.list_(_EDGES, prefix=prefix, after=after):
        found += [{**record.body, "created_at": record.created_at} for record in page]
        after = page[-1].key
    return found


@serves("sagemaker", "ListAssociations")
def list_associations(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List associations by their ends and types."""
    found = []
    for each in _edges(desk, caller):
        if given.get("SourceArn") not in (None, each["source"]):
            continue
        if given.get("DestinationArn") not in (None, each["destination"]):
            continue
        if given.get("AssociationType") not in (None, each["type"]):
            continue
        ends = [_seen(desk, caller, each[end]) for end in ("source", "destination")]
        if given.get("SourceType") not in (None, ends[0].type):
            continue
        if given.get("DestinationType") not in (None, ends[1].type):
            continue
        found.append(
            {
                "SourceArn": ends[0].arn,
                "SourceName": ends[0].name,
                "SourceType": ends[0].type,
                "DestinationArn": ends[1].arn,
                "DestinationName": ends[1].name,
                "DestinationType": ends[1].type,
                "AssociationType": each["type"],
                "CreationTime": each["created_at"],
                "CreatedBy": {"UserProfileName": desk.workspace.user},
            }
        )
    by = given.get("SortBy", "CreationTime")
    found.sort(key=lambda one: one[by], reverse=given.get("SortOrder") != "Ascending")
    page, token = cut(found, given)
    return {"AssociationSummaries": page, "NextToken": token}


def _seen(desk: Desk, caller: Caller, arn: str) -> _Entity:
    """Return what an ARN stands for, also when it is gone by now."""
    try:
        return _entity(desk, caller, arn)
    except ApiError:
        return _Entity(arn=arn, name=arn.rpartition("/")[2], type="", lineage="TrialComponent")


@serves("sagemaker", "QueryLineage", note="Filters by type and kind.")
def query_lineage(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return what came of some entities, what they came of, or both."""
    edges = _edges(desk, caller)
    direction = given.get("Direction", "Both")
    reached = dict.fromkeys(given.get("StartArns", ()))
    front, used = list(reached), []
    for _ in range(given.get("MaxDepth", _MOST_STEPS)):
        following = _next(edges, front, direction)
        used += [edge for edge, _ in following]
        front = [arn for _, arn in following if arn not in reached]
        reached |= dict.fromkeys(front)
    filters = given.get("Filters", {})
    entities = [_seen(desk, caller, arn) for arn in reached]
    kept = [
        each
        for each in entities
        if each.type in filters.get("Types", (each.type,))
        and each.lineage in filters.get("LineageTypes", (each.lineage,))
    ]
    rows = [{"Arn": each.arn, "Type": each.type, "LineageType": each.lineage} for each in kept]
    page, token = cut(rows, given)
    listed = {(each["source"], each["destination"]): each["type"] for each in used}
    return {
        "Vertices": page,
        "Edges": [
            {"SourceArn": source, "DestinationArn": destination, "AssociationType": kind}
            for (source, destination), kind in listed.items()
        ]
        if given.get("IncludeEdges", True)
        else [],
        "NextToken": token,
    }


def _next(
    edges: Iterable[Mapping[str, Any]], front: list[str], direction: str
) -> list[tuple[Mapping[str, Any], str]]:
    """Return the edges that lead on from some ARNs, each with where it leads."""
    found: list[tuple[Mapping[str, Any], str]] = []
    for edge in edges:
        if direction != "Ascendants" and edge["source"] in front:
            found.append((edge, edge["destination"]))
        if direction != "Descendants" and edge["destination"] in front:
            found.append((edge, edge["source"]))
    return found
