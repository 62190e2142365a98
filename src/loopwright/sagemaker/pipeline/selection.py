"""Selective executions: some steps run, and read what others made in an earlier execution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.pipeline.definition import Definition
from loopwright.store import Record

_ENDED = ("Succeeded", "Failed", "Stopped")


def taken_over(
    definition: Definition, config: Mapping[str, Any], executions: list[Record]
) -> dict[str, Any]:
    """Return what the record of a selective execution begins with.

    Parameters
    ----------
    config
        The selected steps and the execution that the others are taken from; the latest that has
        ended when none is named.
    executions
        Those of the pipeline.

    Raises
    ------
    ApiError
        If a step is not there, or one that a selected step reads did not succeed before.
    """
    names = [each["StepName"] for each in config["SelectedSteps"]]
    unknown = [name for name in names if name not in definition.steps]
    if unknown:
        raise validation(f"Selected steps [{', '.join(unknown)}] are not steps of the pipeline.")
    read = {
        other for name in names for other in definition.steps[name].refers if other not in names
    }
    source = _source(config, executions)
    steps: dict[str, Any] = {}
    for name in sorted(read):
        state = source.body["steps"].get(name, {}) if source else {}
        if state.get("status") != "Succeeded":
            raise validation(
                f"The step [{name}] is read by the selected steps and has not succeeded in an "
                "earlier execution."
            )
        steps[name] = {**state, "from": source.body["arn"] if source else ""}
    about: dict[str, Any] = {"SelectedSteps": [{"StepName": name} for name in names]}
    if source:
        about["SourcePipelineExecutionArn"] = source.body["arn"]
    return {"steps": steps, "selection": about, "selected": names}


def _source(config: Mapping[str, Any], executions: list[Record]) -> Record | None:
    arn = config.get("SourcePipelineExecutionArn")
    ended = [each for each in executions if each.body["status"] in _ENDED]
    if arn:
        for each in ended:
            if each.body["arn"] == arn:
                return each
        raise ApiError(
            "ResourceNotFound", f"Pipeline execution '{arn}' does not exist, or has not ended."
        )
    return max(ended, key=lambda record: record.created_at, default=None)
