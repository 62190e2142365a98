"""The records of endpoints."""

from __future__ import annotations

from loopwright.sagemaker.desk import Caller
from loopwright.sagemaker.shelf import Shelf
from loopwright.store import Record

ENDPOINTS = Shelf(
    kind="endpoint",
    missing='Could not find endpoint "{arn}".',
    taken='Cannot create already existing endpoint "{arn}".',
)
GROUP = "/aws/sagemaker/Endpoints"


def caller_of(record: Record) -> Caller:
    """Return in whose name the server goes on with something that was ordered."""
    account, region, _ = record.key.split("/", 2)
    return Caller(access_key="", account=account, region=region)
