"""What clients have created, kept as they asked for it: one record for each name."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

import msgspec

from loopwright.core.errors import AlreadyExistsError
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError, validation
from loopwright.store import Record

_PAGE = 10
NOTHING_TO_STOP = "Could not find job to update with name: {name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The records of one kind.

    Parameters
    ----------
    kind
        Of the records and in ARNs: `training-job`.
    missing
        What a client is told of a name that is not there; `{name}` and `{arn}` are filled in.
    taken
        What it is told of a name that is.
    missing_code, taken_code
        AWS's codes of these.
    """

    kind: str
    missing: str
    taken: str
    missing_code: str = "ValidationException"
    taken_code: str = "ValidationException"

    def create(
        self, desk: Desk, caller: Caller, name: str, request: Mapping[str, Any], **more: Any
    ) -> Record:
        """Keep a request under a name; of two clients that create one at once, one is refused."""
        arn = self.arn(caller, name)
        body = {
            "name": name,
            "arn": arn,
            "request": plain(request),
            "modified_at": desk.now().isoformat(),
            **plain(more),
        }
        try:
            return desk.workspace.metadata.create(self._kind, _key(caller, name), body)
        except AlreadyExistsError as error:
            raise ApiError(self.taken_code, self.taken.format(name=name, arn=arn)) from error

    def get(self, desk: Desk, caller: Caller, name: str, *, missing: str = "") -> Record:
        """Return a record, or refuse in AWS's words: those of the kind, or `missing`."""
        found = self.find(desk, caller, name)
        if found is None:
            arn = self.arn(caller, name)
            text = missing or self.missing
            raise ApiError(self.missing_code, text.format(name=name, arn=arn))
        return found

    def find(self, desk: Desk, caller: Caller, name: str) -> Record | None:
        """Return a record, or None."""
        return desk.workspace.metadata.find(*self.place(caller, name))

    def place(self, caller: Caller, name: str) -> tuple[str, str]:
        """Return the kind and the key of a record in the store."""
        return self._kind, _key(caller, name)

    def change(self, desk: Desk, record: Record, **more: Any) -> Record:
        """Write some fields of a record just read."""
        body = {**record.body, "modified_at": desk.now().isoformat(), **plain(more)}
        return desk.workspace.metadata.replace(record, body)

    def delete(self, desk: Desk, record: Record) -> None:
        """Forget a record."""
        desk.workspace.metadata.delete(self._kind, record.key)

    def all(self, desk: Desk, caller: Caller | None = None, *, begins: str = "") -> list[Record]:
        """Return the records of a caller's account and region, or of all, by name.

        Parameters
        ----------
        begins
            How their names begin, for those of a caller.
        """
        prefix = _key(caller, begins) if caller else ""
        found: list[Record] = []
        after = ""
        while page := desk.workspace.metadata.list_(self._kind, prefix=prefix, after=after):
            found += page
            after = page[-1].key
        return found

    def arn(self, caller: Caller, name: str) -> str:
        """Return the ARN of a name."""
        return caller.arn(self.kind, name)

    @property
    def _kind(self) -> str:
        return f"sagemaker/{self.kind}"


def _key(caller: Caller, name: str) -> str:
    return f"{caller.account}/{caller.region}/{name}"


def plain(value: Any) -> Any:
    """Return a value as JSON keeps it: times as ISO 8601."""
    return msgspec.to_builtins(value, builtin_types=())


def page_of(
    records: list[Record],
    given: Mapping[str, Any],
    *,
    summary: Callable[[Record], dict[str, Any]],
    name: str,
    status: str = "",
) -> tuple[list[dict[str, Any]], str | None]:
    """Return a page of summaries, filtered and sorted as a client asks, and the token of the next.

    Parameters
    ----------
    summary
        Makes what is listed of a record; it has `CreationTime` and, mostly, `LastModifiedTime`.
    name, status
        The members of a summary that hold the name and the status.
    """
    kept = [
        each
        for each in map(summary, records)
        if given.get("NameContains", "").lower() in each[name].lower()
        and given.get("StatusEquals") in (None, each.get(status))
        and _is_between(each, given)
    ]
    by = {"Name": name, "Status": status}.get(given.get("SortBy", ""), "CreationTime")
    ascending = given.get("SortOrder", "Descending") == "Ascending"
    kept.sort(key=lambda each: (each[by], each[name]), reverse=not ascending)
    return cut(kept, given)


def page_of_jobs(
    records: list[Record],
    given: Mapping[str, Any],
    *,
    summary: Callable[[Record], dict[str, Any]],
    name: str,
    status: str,
) -> tuple[list[dict[str, Any]], str | None]:
    """Return what `page_of` does, of records whose summaries take a look at a job each.

    As few of them are made as the page and its filters need.
    """
    if given.get("SortBy") == "Status":
        return page_of(records, given, summary=summary, name=name, status=status)
    part = given.get("NameContains", "").lower()
    found = [
        each
        for each in records
        if part in each.body["name"].lower()
        and _is_between({"CreationTime": each.created_at}, given)
    ]
    ascending = given.get("SortOrder", "Descending") == "Ascending"
    if given.get("SortBy") == "Name":
        found.sort(key=lambda each: str(each.body["name"]), reverse=not ascending)
    else:
        found.sort(key=lambda each: (each.created_at, each.body["name"]), reverse=not ascending)
    start = _start(given.get("NextToken"))
    end = start + given.get("MaxResults", _PAGE)
    wanted = given.get("StatusEquals")
    if wanted is None and not any(each.startswith("LastModifiedTime") for each in given):
        page = [summary(each) for each in found[start:end]]
        return page, _token(end) if end < len(found) else None
    rows = (
        row
        for row in map(summary, found)
        if wanted in (None, row[status]) and _is_between(row, given)
    )
    kept = list(islice(rows, start, end + 1))
    return kept[: end - start], _token(end) if len(kept) > end - start else None


def cut(
    rows: list[dict[str, Any]], given: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], str | None]:
    """Return the rows of the page that a client asks for, and the token of the next."""
    start = _start(given.get("NextToken"))
    end = start + given.get("MaxResults", _PAGE)
    return rows[start:end], _token(end) if end < len(rows) else None


def _is_between(each: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    for member in ("CreationTime", "LastModifiedTime"):
        at: datetime | None = each.get(member)
        after, before = given.get(f"{member}After"), given.get(f"{member}Before")
        if at and ((after and at <= after) or (before and at >= before)):
            return False
    return True


def _token(at: int) -> str:
    return base64.urlsafe_b64encode(f"from:{at}".encode()).decode()


def _start(token: str | None) -> int:
    if token is None:
        return 0
    try:
        text = base64.urlsafe_b64decode(token.encode()).decode()
        if text.startswith("from:"):
            return max(0, int(text.removeprefix("from:")))
    except (binascii.Error, ValueError, UnicodeError):
        pass
    raise validation("Invalid pagination token.")
