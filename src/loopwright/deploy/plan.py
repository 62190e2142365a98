"""The `deploy` block of a loop file."""

from __future__ import annotations

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import checked_name
from loopwright.deploy.address import LOOPBACK, is_loopback
from loopwright.deploy.capture import checked_share


class Rollout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How traffic moves to a new model version.

    Parameters
    ----------
    kind
        `all_at_once`: every request after the switch is answered by the new version.
    steps
        Shares of the traffic, for kinds that move it in steps.
    """

    kind: str = "all_at_once"
    steps: tuple[float, ...] = ()


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
    """

    endpoint: str
    host: str = LOOPBACK
    port: int | None = None
    rollout: Rollout = msgspec.field(default_factory=Rollout)
    capture_share: float = 1.0


def checked_deploy(plan: DeployPlan) -> DeployPlan:
    """Return the plan if this release can carry it out.

    Raises
    ------
    InvalidInputError
        If the name, the port, the capture share or the kind of rollout is not one we can serve.
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
    if plan.rollout.kind != "all_at_once" or plan.rollout.steps:
        steps = f" with steps {list(plan.rollout.steps)}" if plan.rollout.steps else ""
        raise InvalidInputError(
            f"deploy.rollout is {plan.rollout.kind!r}{steps}, which this release cannot do.",
            hint="Use {kind: all_at_once}: the new version takes over in one step, between requests.",
            field="deploy.rollout.kind",
            value=plan.rollout.kind,
            expected=["all_at_once"],
        )
    return plan
