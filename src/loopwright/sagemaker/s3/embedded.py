"""The embedded store behind the operations of S3."""

from __future__ import annotations

from loopwright.sagemaker.desk import Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.s3.store import ObjectStore


def embedded(desk: Desk) -> ObjectStore:
    """Return the buckets in the home folder; `ApiError` if the home has them elsewhere."""
    if not isinstance(desk.objects, ObjectStore):
        raise ApiError("NotImplemented", "The buckets of this home are not in its folder.")
    return desk.objects
