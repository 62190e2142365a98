"""Jobs that a server noted and ended before it started them: the next one starts them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from loopwright.compute import JobSpec
from loopwright.core.errors import LoopwrightError
from loopwright.sagemaker import processing_job, training_job, transform_job
from loopwright.sagemaker.chore import chore
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.image import image_of
from loopwright.sagemaker.processing_order import processing_spec
from loopwright.sagemaker.training_order import training_spec
from loopwright.sagemaker.transform_order import transform_spec
from loopwright.store import Record

_log = logging.getLogger(__name__)
_BEGAN = datetime.now(UTC)
_Spec = Callable[[Desk, Caller, Mapping[str, Any], str], JobSpec]


# once, in effect: what is noted later is started by whoever noted it
@chore(every_s=86_400.0)
def submit_again(desk: Desk) -> None:
    """Start the jobs that were noted before this server began and are not known to compute."""
    for record in training_job.unsettled(desk):
        if training_job.job_of(desk, record) is None:
            _submit(desk, record, _training)
    for record in processing_job.PROCESSING.all(desk):
        if record.body.get("settled") is None and processing_job.job_of(desk, record) is None:
            _submit(desk, record, _processing)
    for record in transform_job.TRANSFORMS.all(desk):
        if record.body.get("settled") is None and transform_job.job_of(desk, record) is None:
            _submit(desk, record, _transform)


def _training(desk: Desk, caller: Caller, request: Mapping[str, Any], arn: str) -> JobSpec:
    image = image_of(request["AlgorithmSpecification"]["TrainingImage"])
    return training_spec(desk, caller, request, arn=arn, image=image)


def _processing(desk: Desk, caller: Caller, request: Mapping[str, Any], arn: str) -> JobSpec:
    return processing_spec(desk, caller, request, arn=arn, request=request)


def _transform(desk: Desk, caller: Caller, request: Mapping[str, Any], arn: str) -> JobSpec:
    return transform_spec(desk, caller, request, arn=arn)


def _submit(desk: Desk, record: Record, spec: _Spec) -> None:
    if record.created_at >= _BEGAN:
        return
    account, region, name = record.key.split("/", 2)
    caller = Caller(access_key="", account=account, region=region)
    try:
        made = spec(desk, caller, record.body["request"], record.body["arn"])
        desk.workspace.compute.submit(made)
    except (ApiError, LoopwrightError) as error:
        # it is told as failed once it is old enough
        _log.warning("The job %s cannot be started again: %s", name, error)
