"""Experiments and their trials: what the runs of a client belong to."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from loopwright.core.errors import LoopwrightError
from loopwright.loop.experiment import add_to_experiment, find_experiment, start_experiment
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.model_record import modified_at
from loopwright.sagemaker.pipeline.pipeline_record import in_time
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.search import searchable
from loopwright.sagemaker.shelf import Shelf, page_of
from loopwright.sagemaker.tag import drop_tags, keep_tags
from loopwright.store import Record

_log = logging.getLogger(__name__)
EXPERIMENTS = Shelf(
    kind="experiment",
    missing="Experiment '{name}' does not exist.",
    missing_code="ResourceNotFound",
    taken="Experiment names must be unique within an AWS account and region. Experiment with name "
    "({name}) already exists.",
)
TRIALS = Shelf(
    kind="experiment-trial",
    missing="Trial '{name}' does not exist.",
    missing_code="ResourceNotFound",
    taken="Trial names must be unique within an AWS account and region. Trial with name ({name}) "
    "already exists.",
)


def change_request(desk: Desk, shelf: Shelf, record: Record, given: Mapping[str, Any]) -> None:
    """Write the members of a request that a record does not have, or has otherwise."""
    shelf.change(desk, record, request={**record.body["request"], **given})


def by_whom(desk: Desk, record: Record) -> dict[str, Any]:
    """Return who made a record and when."""
    by = {"UserProfileName": desk.workspace.user}
    return {
        "CreationTime": record.created_at,
        "CreatedBy": by,
        "LastModifiedTime": modified_at(record),
        "LastModifiedBy": by,
    }


@serves("sagemaker", "CreateExperiment")
def create_experiment(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep an experiment."""
    record = EXPERIMENTS.create(desk, caller, given["ExperimentName"], given)
    keep_tags(desk, record.body["arn"], given.get("Tags", []))
    return {"ExperimentArn": record.body["arn"]}


@serves("sagemaker", "DescribeExperiment")
def describe_experiment(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return an experiment."""
    return _experiment(desk, EXPERIMENTS.get(desk, caller, given["ExperimentName"]))


def _experiment(desk: Desk, record: Record) -> dict[str, Any]:
    request = record.body["request"]
    return {
        "ExperimentName": record.body["name"],
        "ExperimentArn": record.body["arn"],
        "DisplayName": request.get("DisplayName", record.body["name"]),
        "Description": request.get("Description"),
        **by_whom(desk, record),
    }


@serves("sagemaker", "ListExperiments")
def list_experiments(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List experiments."""
    page, token = page_of(
        EXPERIMENTS.all(desk, caller),
        in_time(given),
        summary=lambda record: _experiment(desk, record),
        name="ExperimentName",
    )
    return {"ExperimentSummaries": page, "NextToken": token}


@serves("sagemaker", "UpdateExperiment")
def update_experiment(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Change the title or the description of an experiment."""
    record = EXPERIMENTS.get(desk, caller, given["ExperimentName"])
    change_request(desk, EXPERIMENTS, record, given)
    return {"ExperimentArn": record.body["arn"]}


@serves("sagemaker", "DeleteExperiment")
def delete_experiment(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Forget an experiment that has no trials."""
    with desk.workspace.metadata.transaction():
        record = EXPERIMENTS.get(desk, caller, given["ExperimentName"])
        if trials_of(desk, caller, record.body["name"]):
            raise validation(
                f"Experiment '{record.body['name']}' cannot be deleted because it has associated "
                "trials. Delete all trials of the experiment first."
            )
        EXPERIMENTS.delete(desk, record)
    drop_tags(desk, record.body["arn"])
    return {"ExperimentArn": record.body["arn"]}


def trials_of(desk: Desk, caller: Caller, experiment: str) -> list[Record]:
    """Return the trials of an experiment."""
    return [
        each
        for each in TRIALS.all(desk, caller)
        if each.body["request"]["ExperimentName"] == experiment
    ]


@serves("sagemaker", "CreateTrial")
def create_trial(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep a trial of an experiment that is there."""
    with desk.workspace.metadata.transaction():
        EXPERIMENTS.get(desk, caller, given["ExperimentName"])
        record = TRIALS.create(desk, caller, given["TrialName"], given)
    keep_tags(desk, record.body["arn"], given.get("Tags", []))
    return {"TrialArn": record.body["arn"]}


@serves("sagemaker", "DescribeTrial")
def describe_trial(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return a trial."""
    return _trial(desk, TRIALS.get(desk, caller, given["TrialName"]))


def _trial(desk: Desk, record: Record) -> dict[str, Any]:
    request = record.body["request"]
    return {
        "TrialName": record.body["name"],
        "TrialArn": record.body["arn"],
        "DisplayName": request.get("DisplayName", record.body["name"]),
        "ExperimentName": request["ExperimentName"],
        "MetadataProperties": request.get("MetadataProperties"),
        **by_whom(desk, record),
    }


@serves("sagemaker", "ListTrials")
def list_trials(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List trials: of an experiment, of a component, or all."""
    from loopwright.sagemaker.trial_component import parents_of, require_component

    found = TRIALS.all(desk, caller)
    if experiment := given.get("ExperimentName"):
        EXPERIMENTS.get(desk, caller, experiment)
        found = trials_of(desk, caller, experiment)
    if component := given.get("TrialComponentName"):
        require_component(desk, caller, component)
        names = parents_of(desk, caller, component)
        found = [each for each in found if each.body["name"] in names]
    page, token = page_of(
        found, in_time(given), summary=lambda record: _trial(desk, record), name="TrialName"
    )
    return {"TrialSummaries": page, "NextToken": token}


@serves("sagemaker", "UpdateTrial")
def update_trial(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Change the title of a trial."""
    record = TRIALS.get(desk, caller, given["TrialName"])
    change_request(desk, TRIALS, record, given)
    return {"TrialArn": record.body["arn"]}


@serves("sagemaker", "DeleteTrial")
def delete_trial(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Forget a trial with which no component is associated."""
    from loopwright.sagemaker.trial_component import components_of

    with desk.workspace.metadata.transaction():
        record = TRIALS.get(desk, caller, given["TrialName"])
        if components_of(desk, caller, record.body["name"]):
            raise validation(
                f"Trial '{record.body['name']}' cannot be deleted because it has associated trial "
                "components. Disassociate all trial components of the trial first."
            )
        TRIALS.delete(desk, record)
    drop_tags(desk, record.body["arn"])
    return {"TrialArn": record.body["arn"]}


def check_experiment(desk: Desk, caller: Caller, config: Mapping[str, Any] | None) -> None:
    """Return if the experiment and the trial that a job shall belong to are there.

    Raises
    ------
    ApiError
        If one of them is not, or the trial belongs to another experiment.
    """
    name, trial = (config or {}).get("ExperimentName"), (config or {}).get("TrialName")
    if name:
        EXPERIMENTS.get(desk, caller, name)
    if not trial:
        return
    owner = TRIALS.get(desk, caller, trial).body["request"]["ExperimentName"]
    if name and owner != name:
        raise ApiError(
            "ResourceNotFound", f"Trial '{trial}' does not exist in experiment '{name}'."
        )


def enter_job(desk: Desk, caller: Caller, config: Mapping[str, Any] | None, job_id: str) -> None:
    """Put a job into loopwright's own experiment of the same name, begun if there is none.

    There, `loopwright experiments` compares it; names are lower case there.
    """
    if not (config and config.get("ExperimentName")):
        return
    known = EXPERIMENTS.find(desk, caller, config["ExperimentName"])
    name = config["ExperimentName"].lower()
    try:
        if find_experiment(desk.workspace, name) is None:
            about = known.body["request"].get("Description", "") if known else ""
            start_experiment(desk.workspace, name, hypothesis=about)
        add_to_experiment(desk.workspace, name, [job_id])
    except LoopwrightError as error:
        _log.warning("The job %s is not in the experiment %s: %s", job_id, name, error)


@searchable("Experiment", arn="ExperimentArn")
def _experiments(desk: Desk, caller: Caller) -> Iterator[dict[str, Any]]:
    for record in EXPERIMENTS.all(desk, caller):
        yield _experiment(desk, record)


@searchable("ExperimentTrial", arn="TrialArn", member="Trial")
def _trials(desk: Desk, caller: Caller) -> Iterator[dict[str, Any]]:
    from loopwright.sagemaker.trial_component import components_of

    for record in TRIALS.all(desk, caller):
        members = components_of(desk, caller, record.body["name"])
        listed = [{"TrialComponentName": name} for name in members]
        yield {**_trial(desk, record), "TrialComponentSummaries": listed}
