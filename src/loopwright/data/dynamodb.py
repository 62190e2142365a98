"""Rows in DynamoDB: the items of a table, of an index, or of one key condition."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from loopwright.core.errors import BackendError, InvalidInputError, LoopwrightError
from loopwright.core.names import did_you_mean
from loopwright.data.document import ORDER_COLUMN, OpenedRecords, listed, number_of
from loopwright.data.ordering import order_key
from loopwright.data.record import Flat, flat_record
from loopwright.data.spec import DynamoDbSource

CONNECT_TIMEOUT_S = 5
ANSWER_TIMEOUT_S = 60
ATTEMPTS = 8
_FIELD = "data.source"
# what a repeated request may well not meet again
_PASSING = frozenset(
    {
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ThrottlingException",
    }
)
_REFUSALS = frozenset(
    {
        "AccessDeniedException",
        "ExpiredTokenException",
        "IncompleteSignatureException",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
    }
)


def open_items(spec: DynamoDbSource, *, environ: Mapping[str, str]) -> OpenedRecords:
    """Return the source of the items that `spec` describes; nothing is read yet.

    A scan gives items in an order of DynamoDB's own, so they are sorted by their primary key, those
    of an index by its keys first. Text compares by its bytes and numbers by their size, as there.

    Raises
    ------
    InvalidInputError
        If the address or a value of an expression cannot be used, or the fields are empty.
    """
    if not spec.table:
        raise _wrong("The table of a DynamoDB source is empty.", "Name the table.", "table")
    if spec.fields is not None and not spec.fields:
        raise _wrong(
            "The fields of a DynamoDB source are empty.", "Name them, or leave it out.", "fields"
        )
    for name in spec.names:
        if not name.startswith("#"):
            raise _wrong(f"The name {name!r} has no '#'.", f"Write '#{name}'.", "names")
    values = {}
    for name, value in spec.values.items():
        if not name.startswith(":"):
            raise _wrong(f"The value {name!r} has no ':'.", f"Write ':{name}'.", "values")
        values[name] = attribute_value(value)
    endpoint = _endpoint(spec.endpoint, environ)
    # the library itself reads only the second of the two
    region = spec.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    return OpenedRecords(_Items(spec=spec, region=region, endpoint=endpoint, values=values))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Items:
    """Reads the items of a table, page by page; `border` is a column and its least value."""

    spec: DynamoDbSource
    region: str | None
    endpoint: str | None
    values: Mapping[str, Mapping[str, Any]]
    border: tuple[str, Any] | None = None

    def describe(self) -> str:
        what = f"index {self.spec.index} of " if self.spec.index else ""
        where = f" at {self.endpoint}" if self.endpoint else ""
        return f"{what}DynamoDB table {self.spec.table}{where}"

    def columns(self, found: Sequence[str]) -> list[str]:
        # an item has its attributes in no order
        return sorted(found) if self.spec.fields is None else list(self.spec.fields)

    def since(self, column: str, value: Any) -> _Items | None:
        # a dot may part the names of maps or stand in the name of an attribute
        if "." in column or not isinstance(value, int | float | str):
            return None
        return replace(self, border=(column, attribute_value(value)))

    def records(self) -> Generator[Flat, None, None]:
        with self._client() as client:
            keys = self._keys(client)
            request = self._request(keys)
            operation = client.query if self.spec.query else client.scan
            while True:
                page = operation(**request)
                for item in page["Items"]:
                    yield self._record(item, keys)
                if not page.get("LastEvaluatedKey"):
                    return
                request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def nothing_found(self) -> InvalidInputError:
        spec = self.spec
        hint = "Check the filter and the key condition; without them every item is a row."
        return InvalidInputError(
            f"The {self.describe()} gives no items.",
            hint=hint if spec.filter or spec.query else "Choose a table with items.",
            field=f"{_FIELD}.{'filter' if spec.filter or spec.query else 'table'}",
            value=spec.table,
        )

    def _keys(self, client: Any) -> list[str]:
        """Return the attributes that the rows are sorted by."""
        table = client.describe_table(TableName=self.spec.table)["Table"]
        keys = [part["AttributeName"] for part in table["KeySchema"]]
        if self.spec.index is None:
            return keys
        indexes = {
            index["IndexName"]: index["KeySchema"]
            for kind in ("GlobalSecondaryIndexes", "LocalSecondaryIndexes")
            for index in table.get(kind) or []
        }
        if self.spec.index not in indexes:
            raise _wrong(
                f"The DynamoDB table {self.spec.table} has no index {self.spec.index!r}.",
                did_you_mean(self.spec.index, indexes) if indexes else "Leave `index` out.",
                "index",
            )
        parts = [part["AttributeName"] for part in indexes[self.spec.index]]
        return list(dict.fromkeys([*parts, *keys]))

    def _request(self, keys: Sequence[str]) -> dict[str, Any]:
        spec = self.spec
        names, values = dict(spec.names), dict(self.values)
        request: dict[str, Any] = {"TableName": spec.table}
        filters = [f"({spec.filter})"] if spec.filter else []
        # a query does not let its filter name a key
        if self.border is not None and not (spec.query and self.border[0] in keys):
            filters.append(_beyond(*self.border, names, values))
        if spec.query:
            request["KeyConditionExpression"] = spec.query
        if spec.index:
            request["IndexName"] = spec.index
        else:
            request["ConsistentRead"] = spec.consistent
        if spec.fields is not None:
            request["ProjectionExpression"] = _projection([*keys, *spec.fields], names)
        if filters:
            request["FilterExpression"] = " AND ".join(filters)
        if names:
            request["ExpressionAttributeNames"] = names
        if values:
            request["ExpressionAttributeValues"] = values
        return request

    def _record(self, item: Mapping[str, Any], keys: Sequence[str]) -> Flat:
        order = order_key([_key_part(item[key]) for key in keys])
        cells = {name: _plain(item[name]) for name in sorted(item)}
        flat = flat_record(cells)
        if self.spec.fields is not None:
            flat = {name: flat.get(name) for name in self.spec.fields}
        return {**flat, ORDER_COLUMN: order}

    @contextmanager
    def _client(self) -> Iterator[Any]:
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError, NoRegionError
        except ImportError as cause:
            raise BackendError(
                "Reading DynamoDB needs the boto3 library, which is not installed.",
                hint="Install it: pip install 'loopwright[aws]'",
            ) from cause
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=ANSWER_TIMEOUT_S,
            retries={"mode": "standard", "max_attempts": ATTEMPTS},
        )
        try:
            client = boto3.session.Session().client(
                "dynamodb",
                region_name=self.region,
                endpoint_url=self.endpoint,
                config=config,
            )
        except NoRegionError as cause:
            raise _wrong(
                "No AWS region is set for the DynamoDB table.",
                "Write `region: eu-central-1`, or set AWS_REGION.",
                "region",
            ) from cause
        except (BotoCoreError, ValueError) as cause:
            raise self._failed(cause) from cause
        try:
            yield client
        except ClientError as cause:
            raise self._answered(cause, client) from cause
        except BotoCoreError as cause:
            raise self._failed(cause) from cause
        finally:
            client.close()

    def _answered(self, cause: Any, client: Any) -> LoopwrightError:
        """Return the error for a request that DynamoDB did not carry out."""
        code = str(cause.response.get("Error", {}).get("Code", ""))
        reason = str(cause.response.get("Error", {}).get("Message", code)).rstrip(".") or code
        if code == "ResourceNotFoundException":
            return _wrong(
                f"There is no DynamoDB table {self.spec.table!r} in this region and account.",
                _tables_hint(client, self.spec.table),
                "table",
            )
        if code == "ValidationException":
            return _wrong(
                f"DynamoDB refuses to read the {self.describe()}: {reason}.",
                "Correct `query`, `filter`, `names` and `values`; every name and value must occur.",
                "filter" if self.spec.filter else "query",
            )
        hint = (
            "Let these credentials DescribeTable, Scan and Query the table, and see that they are "
            "not out of date."
            if code in _REFUSALS
            else "Try again later; a table with more read capacity answers faster."
        )
        return BackendError(
            f"The {self.describe()} cannot be read: {reason}.",
            hint=hint,
            retryable=code in _PASSING,
            field=_FIELD,
        )

    def _failed(self, cause: Exception) -> BackendError:
        name = type(cause).__name__
        if "Credentials" in name or "Profile" in name or "Token" in name:
            return BackendError(
                f"The {self.describe()} cannot be read: {str(cause).rstrip('.')}.",
                hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
                field=_FIELD,
            )
        return BackendError(
            f"The {self.describe()} cannot be read: {str(cause).rstrip('.')}.",
            hint="Check the region and the endpoint, and that this machine reaches it.",
            retryable=True,
            field=f"{_FIELD}.endpoint" if self.endpoint else f"{_FIELD}.region",
        )


def attribute_value(value: object) -> dict[str, Any]:
    """Return a value of a loop file as DynamoDB types it.

    Raises
    ------
    InvalidInputError
        If it is a number that is not finite, or of a type that has no place there.

    Examples
    --------
    >>> attribute_value(["a", 1, None])
    {'L': [{'S': 'a'}, {'N': '1'}, {'NULL': True}]}
    """
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, int) or (isinstance(value, float) and abs(value) < float("inf")):
        return {"N": str(value)}
    if value is None:
        return {"NULL": True}
    if isinstance(value, list | tuple):
        return {"L": [attribute_value(each) for each in value]}
    if isinstance(value, Mapping):
        return {"M": {str(key): attribute_value(each) for key, each in value.items()}}
    raise _wrong(
        f"The value {value!r} cannot be given to DynamoDB.", "Give text or a number.", "values"
    )


def _plain(value: Mapping[str, Any]) -> Any:
    """Return an attribute as a cell, a mapping of cells, or a list as JSON has it."""
    ((kind, held),) = value.items()
    if kind == "N":
        return number_of(Decimal(held))
    if kind == "NULL":
        return None
    if kind == "M":
        return {name: _plain(held[name]) for name in sorted(held)}
    if kind == "L":
        return [listed(_plain(each)) for each in held]
    if kind == "NS":
        return [number_of(each) for each in sorted(map(Decimal, held))]
    if kind in ("SS", "BS"):
        return listed(sorted(held))
    return held


def _key_part(value: Mapping[str, Any]) -> str | bytes | Decimal:
    ((kind, held),) = value.items()
    return Decimal(held) if kind == "N" else held


def _beyond(column: str, value: Mapping[str, Any], names: dict[str, str], values: Any) -> str:
    """Return the condition of the border, and fill in what it names.

    Only values of one type compare there; those of another are for this process to judge.
    """
    names["#loopwright_column"] = column
    ((kind, _),) = value.items()
    values |= {":loopwright_least": value, ":loopwright_kind": {"S": kind}}
    return (
        "(attribute_exists(#loopwright_column) AND "
        "(NOT attribute_type(#loopwright_column, :loopwright_kind) "
        "OR #loopwright_column >= :loopwright_least))"
    )


def _projection(columns: Sequence[str], names: dict[str, str]) -> str:
    """Return the attributes that hold these columns; the names are put in their own place."""
    wanted = dict.fromkeys(
        name for column in columns for name in (column, column.partition(".")[0]) if name
    )
    marks = {f"#loopwright_{number}": name for number, name in enumerate(wanted)}
    names |= marks
    return ", ".join(marks)


def _tables_hint(client: Any, table: str) -> str:
    try:
        return did_you_mean(table, client.list_tables()["TableNames"])
    except Exception:
        # the right to list tables is not needed to read one
        return "Correct the name or the region."


def _endpoint(text: str | None, environ: Mapping[str, str]) -> str | None:
    if text is None:
        return None
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        if not environ.get(name):
            raise _wrong(
                f"The environment variable {name}, which should hold the endpoint, is not set.",
                f"Set it: export {name}=http://host:8000",
                "endpoint",
            )
        text = environ[name]
    if not text.startswith(("http://", "https://")) or "@" in text:
        raise _wrong(
            "The endpoint of a DynamoDB source is not a plain http:// or https:// address.",
            "Write http://host:8000; credentials come from AWS_ACCESS_KEY_ID and the like.",
            "endpoint",
        )
    return text


def _wrong(message: str, hint: str, field: str) -> InvalidInputError:
    return InvalidInputError(message, hint=hint, field=f"{_FIELD}.{field}")
