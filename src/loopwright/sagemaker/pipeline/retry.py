"""When a step that failed is tried again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from loopwright.sagemaker.error import validation

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
_KNOWN = frozenset({*_BY_CODE.values(), *_BY_REASON.values(), "SageMaker.JOB_INTERNAL_ERROR"})
_NUMBERS = {
    "IntervalSeconds": (0, 86_400),
    "BackoffRate": (0, 100),
    "MaxAttempts": (1, 100),
    "ExpireAfterMin": (1, 50_000),
}
_LONGEST_S = 86_400.0
_MOST_ATTEMPTS = 5


def check_policy(step: str, policy: Mapping[str, Any]) -> None:
    """Return if this is a policy.

    Raises
    ------
    ApiError
        If it names errors that there are not, or a number is none or out of range.
    """
    start = "Unable to parse pipeline definition. A retry policy of the step"
    kinds = policy.get("ExceptionType")
    if not isinstance(kinds, list) or not kinds or not all(kind in _KNOWN for kind in kinds):
        raise validation(
            f"{start} {step!r} has the ExceptionType {kinds!r}; there are {sorted(_KNOWN)}."
        )
    for name, (least, most) in _NUMBERS.items():
        value = policy.get(name)
        if value is not None and not least <= float(value) <= most:
            raise validation(f"{start} {step!r} has {name} {value}, not {least} to {most}.")


def exception_type(code: str) -> str:
    """Return what pipelines call an error of an operation; empty for what no retry mends."""
    return _BY_CODE.get(code, "")


def reason_type(reason: str) -> str:
    """Return what pipelines call the reason for which a job failed; empty for what no retry mends."""
    return _BY_REASON.get(reason.partition(":")[0].strip(), "")


def next_try(
    policies: Sequence[Mapping[str, Any]], kind: str, *, state: Mapping[str, Any], now: datetime
) -> datetime | None:
    """Return when a step is tried again, or None if it is not.

    Parameters
    ----------
    policies
        Those of the step; the first that names what failed counts.
    kind
        What failed, as pipelines call it.
    state
        Of the step: `attempts` so far, and when it `began`.
    """
    for policy in policies:
        if not kind or kind not in policy["ExceptionType"]:
            continue
        attempts, minutes = int(state.get("attempts", 0)), policy.get("ExpireAfterMin")
        most = policy.get("MaxAttempts") or (math.inf if minutes else _MOST_ATTEMPTS)
        at = now + timedelta(seconds=_wait_s(policy, attempts))
        if attempts >= float(most):
            return None
        if minutes and at > datetime.fromisoformat(state["began"]) + timedelta(
            minutes=float(minutes)
        ):
            return None
        return at
    return None


def _wait_s(policy: Mapping[str, Any], attempts: int) -> float:
    # the exponent is bounded, since the wait is
    growth = float(policy.get("BackoffRate", 2.0)) ** min(attempts, 100)
    return min(float(policy.get("IntervalSeconds", 1)) * growth, _LONGEST_S)
