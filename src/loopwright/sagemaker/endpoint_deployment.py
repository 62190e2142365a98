"""The deployment of an endpoint in steps: the new fleet beside the old one, watched, finished or undone."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from loopwright.core.errors import LoopwrightError, NotFoundError, WrongStateError
from loopwright.sagemaker.chore import chore
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.endpoint_record import ENDPOINTS, caller_of
from loopwright.sagemaker.endpoint_traffic import counted, first_free, looked_at, mixed
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.serving_plan import planned, served
from loopwright.sagemaker.shelf import plain
from loopwright.store import Record

_log = logging.getLogger(__name__)


def load_beside(desk: Desk, caller: Caller, record: Record) -> None:
    """Load the new fleet beside the one that serves, without a part of the traffic."""
    body = record.body
    change, live = body["change"], body["live"]
    before = live["variants"]
    new = planned(desk, caller, change["config"], first=first_free(before))
    found = served(desk, caller, body["arn"], mixed(before, new, 0.0), live)
    shares = change["shares"]
    ENDPOINTS.change(
        desk,
        record,
        live={**found, "config": live["config"]},
        change={**change, "before": before, "new": new, "left": shares},
    )


@chore()
def move_traffic(desk: Desk) -> None:
    """Carry on every deployment in steps: watch, go on, or give all traffic back."""
    for record in ENDPOINTS.all(desk):
        change = record.body["change"]
        if not change or "new" not in change:
            continue
        try:
            _move(desk, record)
        except (WrongStateError, NotFoundError):
            continue  # another server was as quick
        except (ApiError, LoopwrightError) as error:
            _return(desk, record, str(error))


def _move(desk: Desk, record: Record) -> None:
    body = record.body
    change, caller = body["change"], caller_of(record)
    if "since" in change:
        trouble, is_over = looked_at(desk, caller, body["arn"], change)
        if trouble:
            _return(desk, record, trouble)
            return
        if not is_over:
            return
    left = change["left"]
    if left:
        variants = mixed(change["before"], change["new"], left[0])
        found = served(desk, caller, body["arn"], variants, body["live"])
        # the fleet before stays for a while after the last step
        bake_s = change["bake_s"] if left[1:] else change["bake_s"] + change["stays_s"]
        baseline = plain(counted(desk, body["arn"], change["new"]))
        now = desk.now().isoformat()
        step = {"left": left[1:], "since": now, "baseline": baseline, "bake_s": bake_s}
        live = {**found, "config": body["live"]["config"]}
        ENDPOINTS.change(desk, record, live=live, change={**change, **step})
        return
    found = served(desk, caller, body["arn"], change["new"], body["live"])
    live = {**found, "config": change["config"]["EndpointConfigName"]}
    ENDPOINTS.change(
        desk,
        record,
        change=None,
        live=live,
        plan=change["config"],
        deployment=change["deployment"],
        failure="",
    )


def _return(desk: Desk, record: Record, reason: str) -> None:
    """Give all traffic back to the fleet before."""
    body = record.body
    before = body["change"]["before"]
    try:
        found = served(desk, caller_of(record), body["arn"], before, body["live"])
        live = {**found, "config": body["live"]["config"]}
        ENDPOINTS.change(desk, record, change=None, live=live, failure=reason[:1024])
    except (ApiError, LoopwrightError) as error:
        _log.warning("The endpoint %s cannot go back yet: %s", body["name"], error)


def pending(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what is told of a deployment that is under way."""
    change = body["change"] or {}
    if "new" not in change:
        return None
    total = sum(each["weight"] for each in body["live"]["variants"] if not each["shadow"])
    weights = {each["own"]: each["weight"] / total for each in body["live"]["variants"]}
    return {
        "EndpointConfigName": change["config"]["EndpointConfigName"],
        "StartTime": change["began"],
        "ProductionVariants": [
            {
                "VariantName": each["name"],
                "CurrentWeight": weights.get(each["own"], 0.0),
                "DesiredWeight": each["weight"],
                "CurrentInstanceCount": each["count"],
                "DesiredInstanceCount": each["count"],
            }
            for each in change["new"]
            if not each["shadow"]
        ],
    }


def retained(
    body: Mapping[str, Any], plan: dict[str, Any], excluded: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """Return a plan with the weights, instance counts and capture that the endpoint has now."""
    but = {each["VariantPropertyType"] for each in excluded}
    live, now = body["live"] or {"variants": []}, body.get("plan") or {}
    known = {each["name"]: each for each in live["variants"]}
    variants = []
    for each in plan["ProductionVariants"]:
        kept = known.get(each["VariantName"])
        changes: dict[str, Any] = {}
        if kept is not None and "DesiredWeight" not in but:
            changes["InitialVariantWeight"] = kept["weight"]
        if kept is not None and "DesiredInstanceCount" not in but:
            changes["InitialInstanceCount"] = kept["count"]
        variants.append({**each, **changes})
    found = {**plan, "ProductionVariants": variants}
    if "DataCaptureConfig" in now and "DataCaptureConfig" not in but:
        found["DataCaptureConfig"] = now["DataCaptureConfig"]
    return found
