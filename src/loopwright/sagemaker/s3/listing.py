"""Listings of a bucket, in both versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.s3.bucket import owner
from loopwright.sagemaker.s3.embedded import embedded
from loopwright.sagemaker.s3.index import Entry
from loopwright.sagemaker.s3.object import quoted
from loopwright.sagemaker.s3.store import ObjectStore

_MOST = 1000
_LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of a listing: objects, common prefixes, and where the next page begins."""

    entries: list[Entry]
    prefixes: list[str]
    next_after: str | None


def page_of(
    objects: ObjectStore, bucket: str, *, prefix: str, delimiter: str, after: str, limit: int
) -> Page:
    """Return up to `limit` objects and common prefixes above `after`."""
    entries: list[Entry] = []
    prefixes: list[str] = []
    last = after
    # an earlier page may have ended with a common prefix
    if delimiter and after.endswith(delimiter) and after.startswith(prefix):
        after += _LAST
    while limit:
        found = objects.index.list_(bucket, prefix=prefix, after=after, limit=_MOST)
        if not found:
            break
        for entry in found:
            common = _common(entry.key, prefix, delimiter)
            if common is not None and prefixes and prefixes[-1] == common:
                after = entry.key
                continue
            if len(entries) + len(prefixes) >= limit:
                return Page(entries=entries, prefixes=prefixes, next_after=last)
            if common is None:
                entries.append(entry)
                last = after = entry.key
            else:
                prefixes.append(common)
                last = common
                after = common + _LAST
                break  # goes on after all keys below the prefix
    return Page(entries=entries, prefixes=prefixes, next_after=None)


def _common(key: str, prefix: str, delimiter: str) -> str | None:
    if not delimiter:
        return None
    at = key.find(delimiter, len(prefix))
    return None if at < 0 else key[: at + len(delimiter)]


def _shown(given: Mapping[str, Any], text: str | None) -> str | None:
    if text is None:
        return None
    return quote(text, safe="/~") if given.get("EncodingType") == "url" else text


def _contents(page: Page, given: Mapping[str, Any], who: dict[str, str] | None) -> dict[str, Any]:
    return {
        "Contents": [
            {
                "Key": _shown(given, each.key),
                "LastModified": datetime.fromtimestamp(each.modified, UTC),
                "ETag": quoted(each.etag),
                "Size": each.size,
                "StorageClass": "STANDARD",
                "Owner": who,
            }
            for each in page.entries
        ],
        "CommonPrefixes": [{"Prefix": _shown(given, each)} for each in page.prefixes],
        "IsTruncated": page.next_after is not None,
        "Name": given["Bucket"],
        "Prefix": _shown(given, given.get("Prefix", "")),
        "Delimiter": _shown(given, given.get("Delimiter")),
        "EncodingType": given.get("EncodingType"),
    }


def _limit(given: Mapping[str, Any]) -> int:
    limit = given.get("MaxKeys", _MOST)
    if limit < 0:
        raise ApiError(
            "InvalidArgument", "Argument maxKeys must be an integer between 0 and 2147483647"
        )
    return int(min(limit, _MOST))


@serves("s3", "ListObjectsV2")
def list_objects_v2(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List objects; the token of the next page is the last key of this one."""
    desk.objects.bucket(given["Bucket"], owner=given.get("ExpectedBucketOwner"))
    token = given.get("ContinuationToken")
    if token == "":
        raise ApiError("InvalidArgument", "The continuation token provided is incorrect")
    page = page_of(
        embedded(desk),
        given["Bucket"],
        prefix=given.get("Prefix", ""),
        delimiter=given.get("Delimiter", ""),
        after=token if token is not None else given.get("StartAfter", ""),
        limit=_limit(given),
    )
    who = owner(caller) if given.get("FetchOwner") else None
    return {
        **_contents(page, given, who),
        "MaxKeys": _limit(given),
        "KeyCount": len(page.entries) + len(page.prefixes),
        "ContinuationToken": token,
        "NextContinuationToken": page.next_after,
        "StartAfter": _shown(given, given.get("StartAfter")),
    }


@serves("s3", "ListObjects")
def list_objects(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List objects in the first version."""
    desk.objects.bucket(given["Bucket"], owner=given.get("ExpectedBucketOwner"))
    page = page_of(
        embedded(desk),
        given["Bucket"],
        prefix=given.get("Prefix", ""),
        delimiter=given.get("Delimiter", ""),
        after=given.get("Marker", ""),
        limit=_limit(given),
    )
    return {
        **_contents(page, given, owner(caller)),
        "MaxKeys": _limit(given),
        "Marker": _shown(given, given.get("Marker", "")),
        "NextMarker": _shown(given, page.next_after) if given.get("Delimiter") else None,
    }
