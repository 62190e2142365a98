"""Trial components: what a run was given and gave; those of jobs are read from the jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import validation
from loopwright.sagemaker.experiment import EXPERIMENTS, TRIALS, by_whom
from loopwright.sagemaker.job_component import (
    all_job_components,
    find_job_component,
    job_points,
    trial_of_job,
)
from loopwright.sagemaker.pipeline.pipeline_record import in_time
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.search import searchable
from loopwright.sagemaker.shelf import Shelf, cut
from loopwright.sagemaker.tag import drop_tags, keep_tags
from loopwright.sagemaker.trial_metric import drop_points, points_of, summaries
from loopwright.store import Record

COMPONENTS = Shelf(
    kind="experiment-trial-component",
    missing="TrialComponent '{name}' does not exist.",
    missing_code="ResourceNotFound",
    taken="Trial component names must be unique within an AWS account and region. Trial component "
    "with name ({name}) already exists.",
)
_LINKS = "sagemaker/trial-link"
_KEPT = (
    "DisplayName",
    "EndTime",
    "InputArtifacts",
    "MetadataProperties",
    "OutputArtifacts",
    "Parameters",
    "StartTime",
    "Status",
)
_MAPS = ("Parameters", "InputArtifacts", "OutputArtifacts")
_MOST = 300


@serves("sagemaker", "CreateTrialComponent")
def create_component(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep a component."""
    name = given["TrialComponentName"]
    if find_job_component(desk, caller, name) is not None:
        raise validation(COMPONENTS.taken.format(name=name))
    record = COMPONENTS.create(desk, caller, name, given)
    keep_tags(desk, record.body["arn"], given.get("Tags", []))
    return {"TrialComponentArn": record.body["arn"]}


@serves("sagemaker", "DescribeTrialComponent")
def describe_component(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return a component."""
    return require_component(desk, caller, given["TrialComponentName"])


def require_component(desk: Desk, caller: Caller, text: str) -> dict[str, Any]:
    """Return the description of a component, given by name or ARN.

    Raises
    ------
    ApiError
        If there is none.
    """
    name = text.rpartition("/")[2]
    record = COMPONENTS.find(desk, caller, name)
    if record is None:
        found = find_job_component(desk, caller, name)
        if found is not None:
            return found
        record = COMPONENTS.get(desk, caller, name)
    return _described(desk, caller, record)


def _described(desk: Desk, caller: Caller, record: Record) -> dict[str, Any]:
    request = record.body["request"]
    name, arn = record.body["name"], record.body["arn"]
    return {
        "TrialComponentName": name,
        "TrialComponentArn": arn,
        "DisplayName": name,
        **{key: request[key] for key in _KEPT if key in request},
        "Metrics": summaries(points_of(desk, caller, name), source=arn) or None,
        **by_whom(desk, record),
    }


def points_of_component(desk: Desk, caller: Caller, name: str) -> list[dict[str, Any]] | None:
    """Return the values of the metrics of a component, or None if there is none of that name."""
    if COMPONENTS.find(desk, caller, name) is not None:
        return points_of(desk, caller, name)
    return job_points(desk, caller, name)


@serves("sagemaker", "UpdateTrialComponent", note="Not those of jobs, which say what the jobs say.")
def update_component(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Change what is known of a run; parameters and artifacts are added by their names."""
    with desk.workspace.metadata.transaction():
        record = COMPONENTS.get(desk, caller, given["TrialComponentName"])
        request = dict(record.body["request"])
        for name in _KEPT:
            if name in given and name not in _MAPS:
                request[name] = given[name]
        for name in _MAPS:
            removed = set(given.get(f"{name}ToRemove", ()))
            known = {k: v for k, v in request.get(name, {}).items() if k not in removed}
            request[name] = {**known, **given.get(name, {})}
            if len(request[name]) > _MOST:
                raise validation(f"A trial component can have at most {_MOST} {name}.")
        COMPONENTS.change(desk, record, request=request)
    return {"TrialComponentArn": record.body["arn"]}


@serves("sagemaker", "DeleteTrialComponent")
def delete_component(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Forget a component that belongs to no trial."""
    name = given["TrialComponentName"]
    with desk.workspace.metadata.transaction():
        record = COMPONENTS.get(desk, caller, name)
        if parents_of(desk, caller, name):
            raise validation(
                f"TrialComponent '{record.body['arn']}' is linked to 1 or more trials and cannot be "
                "deleted."
            )
        COMPONENTS.delete(desk, record)
        drop_points(desk, caller, name)
    drop_tags(desk, record.body["arn"])
    return {"TrialComponentArn": record.body["arn"]}


@serves("sagemaker", "AssociateTrialComponent")
def associate(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Put a component into a trial."""
    return _linked(desk, caller, given, is_in=True)


@serves("sagemaker", "DisassociateTrialComponent")
def disassociate(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Take a component out of a trial."""
    return _linked(desk, caller, given, is_in=False)


def _linked(desk: Desk, caller: Caller, given: Mapping[str, Any], *, is_in: bool) -> dict[str, Any]:
    component = require_component(desk, caller, given["TrialComponentName"])
    trial = TRIALS.get(desk, caller, given["TrialName"])
    name = component["TrialComponentName"]
    # that a job was taken out of its trial is known by this as well
    desk.workspace.metadata.put(_LINKS, _link(caller, name, trial.body["name"]), {"is_in": is_in})
    return {"TrialComponentArn": component["TrialComponentArn"], "TrialArn": trial.body["arn"]}


def _link(caller: Caller, component: str, trial: str) -> str:
    return f"{caller.account}/{caller.region}/{component}/{trial}"


def parents_of(desk: Desk, caller: Caller, component: str) -> set[str]:
    """Return the trials that a component belongs to."""
    of_job = trial_of_job(desk, caller, component)
    found = {of_job} if of_job else set()
    for record in _links(desk, _link(caller, component, "")):
        trial = record.key.rpartition("/")[2]
        found = found | {trial} if record.body["is_in"] else found - {trial}
    return {trial for trial in found if TRIALS.find(desk, caller, trial) is not None}


def components_of(desk: Desk, caller: Caller, trial: str) -> list[str]:
    """Return the names of the components of a trial."""
    names = {each.key.split("/")[2] for each in _links(desk, f"{caller.account}/{caller.region}/")}
    names |= {
        each["TrialComponentName"]
        for each in all_job_components(desk, caller, trial=trial, names_only=True)
    }
    return sorted(name for name in names if trial in parents_of(desk, caller, name))


def _links(desk: Desk, prefix: str) -> list[Record]:
    store, after = desk.workspace.metadata, ""
    found: list[Record] = []
    while page := store.list_(_LINKS, prefix=prefix, after=after):
        found += page
        after = page[-1].key
    return found


@serves("sagemaker", "ListTrialComponents")
def list_components(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List components: of an experiment, of a trial, of a source, or all."""
    experiment, trial = given.get("ExperimentName"), given.get("TrialName")
    if experiment:
        EXPERIMENTS.get(desk, caller, experiment)
    if trial:
        TRIALS.get(desk, caller, trial)
    wanted = in_time(given)
    found = []
    for each in every_component(desk, caller):
        parents = each["Parents"] or []
        if experiment and experiment not in [one["ExperimentName"] for one in parents]:
            continue
        if trial and trial not in [one["TrialName"] for one in parents]:
            continue
        source = (each.get("Source") or {}).get("SourceArn")
        if given.get("SourceArn") not in (None, source):
            continue
        if _is_in_time(each, wanted):
            found.append({**each, "TrialComponentSource": each.get("Source")})
    by = {"Name": "TrialComponentName"}.get(given.get("SortBy", ""), "CreationTime")
    found.sort(key=lambda each: each[by], reverse=given.get("SortOrder") != "Ascending")
    page, token = cut(found, given)
    return {"TrialComponentSummaries": page, "NextToken": token}


def _is_in_time(each: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    at = each["CreationTime"]
    after, before = given.get("CreationTimeAfter"), given.get("CreationTimeBefore")
    return not ((after and at <= after) or (before and at >= before))


@searchable("ExperimentTrialComponent", arn="TrialComponentArn", member="TrialComponent")
def every_component(desk: Desk, caller: Caller) -> Iterator[dict[str, Any]]:
    """Yield the descriptions of all components, with the trials that they belong to."""
    own = [_described(desk, caller, record) for record in COMPONENTS.all(desk, caller)]
    for each in [*own, *all_job_components(desk, caller)]:
        parents = [
            {
                "TrialName": trial,
                "ExperimentName": TRIALS.get(desk, caller, trial).body["request"]["ExperimentName"],
            }
            for trial in sorted(parents_of(desk, caller, each["TrialComponentName"]))
        ]
        yield {**each, "Parents": parents or None}
