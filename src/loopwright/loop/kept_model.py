"""The model of any old job, from its folder, else from what a round kept of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loopwright.core.errors import WrongStateError
from loopwright.loop.workspace import Workspace
from loopwright.train import Outcome, ServingModel, model_members
from loopwright.train.serving_model import REQUIRED_MEMBERS, assembled_model
from loopwright.tune.entry import Entry, find_entry, model_name

_TRAIN = ("train", "refit")


def job_members(workspace: Workspace, entry: Entry) -> dict[str, Path]:
    """Return the files of a job's model by their name in a bundle.

    Raises
    ------
    WrongStateError
        If the job has left no model of a built-in algorithm, or it is not kept any more.
    """
    job = workspace.compute.get(entry.job)
    if all((job.out / name).is_file() for name in REQUIRED_MEMBERS):
        return model_members(job.folder)
    kept = _kept_members(workspace, entry)
    if kept and all(workspace.artifacts.has(digest) for digest in kept.values()):
        return {name: workspace.artifacts.local_path(digest) for name, digest in kept.items()}
    if entry.kind == "script":
        said = "runs a script: its model is its own, and is not opened here"
    elif entry.state != "succeeded":
        said = f"is {entry.state} and has left no model"
    else:
        said = "has left a model that is not kept any more: its folder was cleaned up"
    raise WrongStateError(
        f"The job {entry.job} ({entry.name}) {said}.",
        hint=f"`loopwright jobs show {entry.job}` shows what is on record of it.",
        job=entry.job,
    )


def job_model(workspace: Workspace, job_id: str) -> ServingModel:
    """Return the model that a training job left, ready to answer.

    Raises
    ------
    NotFoundError
        If there is no such job.
    WrongStateError
        If it has left no model of a built-in algorithm, or it is not kept any more.
    """
    entry = find_entry(workspace.metadata, workspace.compute, job_id)
    members = {
        name: path.read_bytes()
        for name, path in job_members(workspace, entry).items()
        if "/" not in name
    }
    return assembled_model(
        members,
        name=model_name(entry.name),
        algorithm=entry.algorithm,
        outcome=outcome_of_entry(entry),
        version=entry.job[-12:],
    )


def outcome_of_entry(entry: Entry) -> Outcome:
    """Return what a job's model says, in the words of the problem."""
    return Outcome(task=entry.task, classes=entry.classes)  # type: ignore[arg-type]


def _kept_members(workspace: Workspace, entry: Entry) -> dict[str, str]:
    """Return the digests of the model's files as a round of the job's loop kept them."""
    loop = entry.labels.get("loop")
    after = ""
    while loop and (
        page := workspace.metadata.list_("step", prefix=f"{loop}/", after=after, limit=1000)
    ):
        for step in page:
            if step.key.rpartition("/")[2].partition(".")[0] not in _TRAIN:
                continue
            jobs: list[dict[str, Any]] = (step.body.get("output") or {}).get("jobs", [])
            for each in jobs:
                if each.get("job") == entry.job and "members" in each:
                    wanted = each["members"].items()
                    told = ("validation.parquet", "training.json")
                    return {name: digest for name, digest in wanted if name not in told}
        after = page[-1].key
    return {}
