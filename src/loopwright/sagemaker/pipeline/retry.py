"""When a step that failed is tried again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from loopwright.sagemaker.pipeline.definition import Step

_BY_CODE = {
    "InternalFailure": "Step.SERVICE_FAULT",
    "ServiceUnavailable": "Step.SERVICE_FAULT",
    "ThrottlingException": "Step.THROTTLING",
    "ResourceLimitExceeded": "SageMaker.RESOURCE_LIMIT",
}
_BY_REASON = {
    "InternalServerError": "SageMaker.JOB_INTERNAL_ERROR",
    "InternalError": "SageMaker.JOB_INTERNAL_ERROR",
    "CapacityError": "SageMaker.CAPACITY_ERROR",
    "ResourceLimitExceeded": "SageMaker.RESOURCE_LIMIT",
}
_LONGEST_S = 86_400.0


def exception_type(code: str) -> str:
    """Return what pipelines call an error of an operation; empty for what no retry mends."""
    return _BY_CODE.get(code, "")


def reason_type(reason: str) -> str:
    """Return what pipelines call the reason for which a job failed; empty for what no retry mends."""
    return _BY_REASON.get(reason.partition(":")[0].strip(), "")


def next_try(step: Step, kind: str, *, state: Mapping[str, Any], now: datetime) -> datetime | None:
    """Return when a step is tried again, or None if it is not.

    Parameters
    ----------
    kind
        What failed, as pipelines call it.
    state
        Of the step: `attempts` so far, and when it `began`.
    """
    for policy in step.about.get("RetryPolicies") or ():
        if not kind or kind not in policy["ExceptionType"]:
            continue
        attempts = int(state.get("attempts", 0))
        wait_s = float(policy.get("IntervalSeconds", 1)) * (
            float(policy.get("BackoffRate", 2.0)) ** attempts
        )
        at = now + timedelta(seconds=min(wait_s, _LONGEST_S))
        if attempts >= int(
            policy.get("MaxAttempts", 5 if "ExpireAfterMin" not in policy else 10**6)
        ):
            return None
        minutes = policy.get("ExpireAfterMin")
        if minutes is not None:
            began = datetime.fromisoformat(state["began"])
            if at > began + timedelta(minutes=float(minutes)):
                return None
        return at
    return None
