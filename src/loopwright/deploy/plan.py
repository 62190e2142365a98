"""The `deploy` block of a loop file."""

from __future__ import annotations

from typing import Literal

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import checked_name
from loopwright.deploy.address import LOOPBACK, is_loopback
from loopwright.deploy.capture import checked_share
from loopwright.deploy.rollout import Rollout, checked_rollout
from loopwright.deploy.scale import Scale, checked_scale


class DeployPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `deploy` block of a loop file.

    Parameters
    ----------
    endpoint
        Name of the endpoint.
    host
        Address to listen on.
    port
        Port to listen on, 1 to 65535; a free one is chosen when it is absent.
    rollout
        How traffic moves to a new version.
    capture_share
        Share of the predictions that is kept for the monitor, 0 to 1.
    approve
        Who lets the first model go live, and those of rounds that a person causes: `auto`, the
        criteria; `manual`, a person. Absent: as `retrain.approve` says for the loop's own rounds.
    workers
        How many processes answer; they share the port. Bounds, `{least: 0, most: 4, idle: 10
        minutes}`, leave it to the load.
    unknown_columns
        What becomes of columns in a request that the model does not read: `ignore` or `refuse`.
    unseen_categories
        What becomes of a category that training never saw: `allow`, the model answers as the recipe
        has it, or `refuse`.
    """

    endpoint: str
    host: str = LOOPBACK
    port: int | None = None
    rollout: Rollout = msgspec.field(default_factory=Rollout)
    capture_share: float = 1.0
    approve: Literal["auto", "manual"] | None = None
    workers: int | Scale = 1
    unknown_columns: Literal["ignore", "refuse"] = "ignore"
    unseen_categories: Literal["allow", "refuse"] = "allow"


def checked_deploy(plan: DeployPlan) -> DeployPlan:
    """Return the plan if this release can carry it out.

    Raises
    ------
    InvalidInputError
        If the name, the port, the capture share, the workers or the rollout is not one we can serve.
    """
    checked_name(plan.endpoint, what="endpoint")
    checked_share(plan.capture_share)
    if plan.port is not None and not 1 <= plan.port <= 65535:
        raise InvalidInputError(
            f"deploy.port is {plan.port}, which is not a port.",
            hint="Give a number from 1 to 65535, or leave it out to have a free one chosen.",
            field="deploy.port",
            value=plan.port,
        )
    if not is_loopback(plan.host):
        raise InvalidInputError(
            f"deploy.host is {plan.host!r}, which other machines can reach, and no token protects it.",
            hint=f"Use {LOOPBACK}, and a proxy that checks who is asking.",
            field="deploy.host",
            value=plan.host,
        )
    checked_scale(plan.workers, field="deploy.workers")
    checked_rollout(plan.rollout)
    return plan
