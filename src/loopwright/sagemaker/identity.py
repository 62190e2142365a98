"""STS: who the caller is."""

from __future__ import annotations

from typing import Any

from loopwright.sagemaker.desk import ROLE, Caller, Desk
from loopwright.sagemaker.registry import serves


@serves("sts", "GetCallerIdentity")
def get_caller_identity(desk: Desk, caller: Caller, _given: dict[str, Any]) -> dict[str, Any]:
    """Tell the account, and a role that is taken to have been assumed.

    The SageMaker SDKs find their execution role in this name; a user's name they refuse.
    """
    user = desk.workspace.user
    return {
        "UserId": f"AROALOOPWRIGHT:{user}",
        "Account": caller.account,
        "Arn": f"arn:aws:sts::{caller.account}:assumed-role/{ROLE}/{user}",
    }
