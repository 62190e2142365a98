from __future__ import annotations

from typing import Any

import msgspec
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.deploy import DeployPlan, Rollout, checked_deploy


def test_a_plain_plan_is_accepted_as_it_is() -> None:
    plan = msgspec.convert({"endpoint": "house-prices"}, DeployPlan)

    assert checked_deploy(plan) is plan
    assert (plan.host, plan.port, plan.rollout.kind) == ("127.0.0.1", None, "all_at_once")
    assert plan.capture_share == 1.0


@pytest.mark.parametrize(
    ("changes", "field", "text"),
    [
        ({"endpoint": "House Prices"}, "name", "cannot name a endpoint"),
        ({"port": 0}, "deploy.port", "not a port"),
        ({"port": 65536}, "deploy.port", "not a port"),
        ({"host": "0.0.0.0"}, "deploy.host", "no token protects it"),  # noqa: S104
        ({"capture_share": 1.5}, "capture_share", "not a share"),
        (
            {"rollout": Rollout(kind="linear")},
            "deploy.rollout.kind",
            r"'linear', which is not possible.*all_at_once",
        ),
        ({"rollout": Rollout(steps=(0.5,))}, "deploy.rollout.steps", "Leave the steps out"),
        ({"workers": 0}, "deploy.workers", "no number of processes"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(
    changes: dict[str, Any], field: str, text: str
) -> None:
    plan = DeployPlan(**({"endpoint": "house-prices"} | changes))

    with pytest.raises(InvalidInputError, match=text) as caught:
        checked_deploy(plan)

    assert caught.value.facts["field"] == field


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `prot`"):
        msgspec.convert({"endpoint": "a", "prot": 1}, DeployPlan)
