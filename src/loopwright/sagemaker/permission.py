"""IAM, as far as the SDKs ask it: the role under which jobs run, and what it may do."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from loopwright.sagemaker.desk import ROLE, Caller, Desk
from loopwright.sagemaker.registry import serves

_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}
_SINCE = datetime(2024, 1, 1, tzinfo=UTC)


def _role(caller: Caller, name: str = ROLE) -> dict[str, Any]:
    return {
        "Path": "/",
        "RoleName": name,
        "RoleId": "AROALOOPWRIGHTLOCAL1",
        "Arn": f"arn:aws:iam::{caller.account}:role/{name}",
        "CreateDate": _SINCE,
        "AssumeRolePolicyDocument": quote(json.dumps(_TRUST)),
        "Description": "Everything that runs on this machine runs under this one role.",
        "MaxSessionDuration": 43_200,
    }


@serves("iam", "GetRole", note="Whatever its name: all that runs here runs under one role.")
def get_role(_desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return a role, which SageMaker may assume; programs bring the names of their own."""
    return {"Role": _role(caller, given["RoleName"])}


@serves("iam", "ListRoles", note="There is one role.")
def list_roles(_desk: Desk, caller: Caller, _given: dict[str, Any]) -> dict[str, Any]:
    """List the one role."""
    return {"Roles": [_role(caller)], "IsTruncated": False}


@serves("iam", "SimulatePrincipalPolicy", note="A key that was given out may do everything.")
def simulate_principal_policy(
    _desk: Desk, _caller: Caller, given: dict[str, Any]
) -> dict[str, Any]:
    """Tell for each action what is true here: who has a key may do it."""
    resources = given.get("ResourceArns") or ["*"]
    return {
        "EvaluationResults": [
            {
                "EvalActionName": action,
                "EvalResourceName": resource,
                "EvalDecision": "allowed",
                "MatchedStatements": [],
                "MissingContextValues": [],
            }
            for action in given["ActionNames"]
            for resource in resources
        ],
        "IsTruncated": False,
    }
