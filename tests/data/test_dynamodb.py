from __future__ import annotations

import itertools
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import pytest
from boto3.dynamodb.types import TypeSerializer

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.data import DynamoDbSource, Source, open_source
from loopwright.data import dynamodb as dynamodb_module
from loopwright.testing.data_source import CONTRACT_ROWS, DataSourceContract

FIELDS = tuple(CONTRACT_ROWS.columns)
REGION = "eu-central-1"
NUMBERS = itertools.count()


class Tables:
    """Makes tables at the stand-in for DynamoDB, and opens sources over them."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.client = boto3.client("dynamodb", region_name=REGION, endpoint_url=endpoint)

    def table(self, keys: dict[str, str], *, index: dict[str, str] | None = None) -> str:
        """Make an empty table; keys are names and types, the partition key first."""

        def schema(keys: dict[str, str]) -> list[dict[str, str]]:
            kinds = ("HASH", "RANGE")
            return [{"AttributeName": k, "KeyType": t} for k, t in zip(keys, kinds, strict=False)]

        name = f"rows-{next(NUMBERS)}"
        types = {**keys, **(index or {})}
        more: dict[str, Any] = {}
        if index:
            projection = {"ProjectionType": "ALL"}
            more["GlobalSecondaryIndexes"] = [
                {"IndexName": "by-town", "KeySchema": schema(index), "Projection": projection}
            ]
        self.client.create_table(
            TableName=name,
            KeySchema=schema(keys),
            AttributeDefinitions=[
                {"AttributeName": k, "AttributeType": t} for k, t in types.items()
            ],
            BillingMode="PAY_PER_REQUEST",
            **more,
        )
        return name

    def put(self, table: str, *items: dict[str, Any]) -> str:
        serialize = TypeSerializer().serialize
        puts = [
            {"PutRequest": {"Item": {name: serialize(value) for name, value in item.items()}}}
            for item in items
        ]
        for start in range(0, len(puts), 25):
            self.client.batch_write_item(RequestItems={table: puts[start : start + 25]})
        return table

    def opened(self, table: str, **options: Any) -> Source:
        spec = DynamoDbSource(table=table, region=REGION, endpoint="env:DYNAMO", **options)
        return open_source(spec, Path(), environ={"DYNAMO": self.endpoint})


@pytest.fixture(scope="module")
def contract_tables() -> dict[str, str]:
    """Return the tables of the contract that were made already, by kind of reading."""
    return {}


@pytest.fixture
def tables(dynamodb_endpoint: str, aws: None) -> Iterator[Tables]:
    tables = Tables(dynamodb_endpoint)
    yield tables
    tables.client.close()


def rows(source: Source) -> list[dict[str, Any]]:
    return [row for batch in source.batches() for row in batch.to_dicts()]


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a page hold 7 items: what DynamoDB does after a megabyte."""
    request = dynamodb_module._Items._request

    def limited(*arguments: Any) -> dict[str, Any]:
        return {**request(*arguments), "Limit": 7}

    monkeypatch.setattr(dynamodb_module._Items, "_request", limited)


class TestDynamoDb(DataSourceContract):
    secret = "hunter2secret"

    @pytest.fixture(params=["scan", "query", "index"])
    def source(
        self,
        request: pytest.FixtureRequest,
        tables: Tables,
        small_pages: None,
        contract_tables: dict[str, str],
    ) -> Source:
        kind = request.param
        if kind not in contract_tables:
            contract_tables[kind] = self.filled(tables, kind)
        options = {
            "scan": {},
            "query": {"query": "shop = :shop", "values": {":shop": "a"}},
            "index": {"index": "by-town", "consistent": False},
        }[kind]
        return tables.opened(contract_tables[kind], fields=FIELDS, **options)

    def filled(self, tables: Tables, kind: str) -> str:
        items = [
            {**row, "price": Decimal(str(row["price"])), "shop": "a", "at": f"{row['id']:04}"}
            for row in reversed(CONTRACT_ROWS.to_dicts())
        ]
        keys = {"shop": "S", "at": "S"}
        if kind == "query":
            return tables.put(tables.table(keys), *items, *({**i, "shop": "b"} for i in items))
        return tables.put(
            tables.table({"id": "N"}, index=keys if kind == "index" else None), *items
        )


def test_every_type_becomes_a_column_or_text(tables: Tables):
    table = tables.put(
        tables.table({"id": "S"}),
        {
            "id": "x",
            "whole": Decimal(2**53 + 1),
            "price": Decimal("19.90"),
            "code": Decimal("12345678901234567890"),
            "home": {"town": "Kent", "geo": {"lat": Decimal("1.5")}},
            "list": [Decimal(1), "a", {"b": Decimal("0.5")}, None, b"\x01"],
            "texts": {"b", "a"},
            "numbers": {Decimal(10), Decimal(9), Decimal("-0.5")},
            "photo": b"\xff\xd8",
            "good": True,
            "none": None,
        },
    )

    (batch,) = tables.opened(table).batches()

    assert batch.to_dicts()[0] == {
        "code": "12345678901234567890",
        "good": True,
        "home.geo.lat": 1.5,
        "home.town": "Kent",
        "id": "x",
        "list": '[1,"a",{"b":0.5},null,"AQ=="]',
        "none": None,
        "numbers": "[-0.5,9,10]",
        "photo": b"\xff\xd8",
        "price": 19.9,
        "texts": '["a","b"]',
        "whole": 2**53 + 1,
    }
    assert batch.columns == sorted(batch.columns)
    assert batch.schema["photo"] == pl.Binary


def test_rows_come_in_the_order_of_both_keys_whatever_the_order_of_the_scan(
    tables: Tables, small_pages: None, monkeypatch: pytest.MonkeyPatch
):
    keys = [(name, number) for name in ("b", "a", "a\x00", "é") for number in (10, -3, 2, -20)]
    table = tables.table({"name": "S", "n": "N"})
    tables.put(table, *({"name": name, "n": number} for name, number in keys))
    monkeypatch.setattr("loopwright.data.record._RECORDS_PER_PART", 3)
    monkeypatch.setattr("loopwright.data.ordering.RUN_PARTS", 2)

    found = [(row["name"], row["n"]) for row in rows(tables.opened(table))]

    assert found == sorted(keys)


def test_a_filter_names_and_values_reach_the_table(tables: Tables):
    table = tables.put(
        tables.table({"id": "N"}),
        *({"id": n, "size": n * 10, "kind": "even" if n % 2 == 0 else "odd"} for n in range(6)),
    )

    found = tables.opened(
        table,
        filter="#size >= :least AND kind = :kind",
        names={"#size": "size"},
        values={":least": 20, ":kind": "even"},
        fields=("size", "home.town"),
    )

    assert rows(found) == [{"size": 20, "home.town": None}, {"size": 40, "home.town": None}]


def test_only_items_beyond_a_border_are_asked_for(tables: Tables):
    table = tables.put(
        tables.table({"id": "N"}),
        {"id": 1, "n": 1, "at": "2026-01-01"},
        {"id": 2, "n": Decimal("2.5"), "at": "2026-01-02"},
        {"id": 3, "n": "2", "at": 7},
        {"id": 4},
    )
    source = tables.opened(table, filter="id <= :most", values={":most": 4})

    def beyond(column: str, value: Any) -> list[int]:
        return [row["id"] for row in rows(source.since(column, value))]  # type: ignore[attr-defined]

    # values of another type are for the reader to judge
    assert beyond("n", 2.5) == [2, 3]
    assert beyond("at", "2026-01-02") == [2, 3]
    assert beyond("id", 3) == [3, 4]
    assert source.since("home.town", "a") is source  # type: ignore[attr-defined]


def test_a_border_on_a_key_of_a_query_is_left_to_the_reader(tables: Tables):
    table = tables.table({"shop": "S", "at": "S"})
    tables.put(table, *({"shop": "a", "at": f"2026-01-0{n}", "n": n} for n in range(1, 4)))
    source = tables.opened(table, query="shop = :shop", values={":shop": "a"})

    assert [row["n"] for row in rows(source.since("at", "2026-01-02"))] == [1, 2, 3]  # type: ignore[attr-defined]
    assert [row["n"] for row in rows(source.since("n", 2))] == [2, 3]  # type: ignore[attr-defined]


def test_bytes_among_other_values_are_refused_with_their_column(tables: Tables):
    table = tables.put(tables.table({"id": "N"}), {"id": 1, "x": b"\xff"}, {"id": 2, "x": "a"})

    with pytest.raises(InvalidInputError, match="'x' holds bytes in some records"):
        rows(tables.opened(table))


def test_what_is_not_there_is_told_with_the_nearest_name(tables: Tables):
    table = tables.table({"id": "N"}, index={"town": "S"})

    with pytest.raises(InvalidInputError, match=f"no DynamoDB table '{table}x'.*mean '{table}'"):
        tables.opened(f"{table}x").check()
    with pytest.raises(InvalidInputError, match=r"no index 'by-twon'.*mean 'by-town'"):
        tables.opened(table, index="by-twon").check()
    with pytest.raises(InvalidInputError, match="gives no items"):
        tables.opened(table).check()


def test_an_expression_that_dynamodb_refuses_is_told(tables: Tables):
    table = tables.table({"id": "N"})

    with pytest.raises(InvalidInputError, match="DynamoDB refuses to read"):
        tables.opened(table, query="n = :n", values={":n": 1}).check()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": ""}, "table of a DynamoDB source is empty"),
        ({"fields": ()}, "fields of a DynamoDB source are empty"),
        ({"names": {"size": "size"}}, "Write '#size'"),
        ({"values": {"least": 1}}, "Write ':least'"),
        ({"values": {":least": float("nan")}}, "cannot be given to DynamoDB"),
        ({"endpoint": "env:NOWHERE"}, "NOWHERE, which should hold the endpoint, is not set"),
        ({"endpoint": "http://ann:secret@db"}, "not a plain http"),
    ],
)
def test_a_source_that_cannot_be_meant_is_refused(options: dict[str, Any], message: str):
    spec = DynamoDbSource(**{"table": "t", **options})

    with pytest.raises(InvalidInputError, match=message) as caught:
        open_source(spec, Path(), environ={})

    assert "secret" not in str(caught.value)


def test_no_region_and_no_credentials_are_told(aws: None, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InvalidInputError, match="No AWS region is set"):
        open_source(DynamoDbSource(table="t"), Path(), environ={}).check()

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(BackendError, match="AWS_ACCESS_KEY_ID") as caught:
        open_source(DynamoDbSource(table="t", region=REGION), Path(), environ={}).check()
    assert not caught.value.retryable


def test_a_server_that_is_not_there_is_told_as_retryable(
    aws: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(dynamodb_module, "ATTEMPTS", 1)
    spec = DynamoDbSource(table="t", region=REGION, endpoint="http://127.0.0.1:1")

    with pytest.raises(BackendError, match=r"127\.0\.0\.1:1 cannot be read") as caught:
        open_source(spec, Path(), environ={}).check()

    assert caught.value.retryable
    assert "hunter2secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "retryable"), [("AccessDeniedException", False), ("ThrottlingException", True)]
)
def test_refused_and_throttled_requests_are_told_apart(
    tables: Tables, monkeypatch: pytest.MonkeyPatch, code: str, retryable: bool
):
    from botocore.exceptions import ClientError

    def refuse(*_: Any) -> list[str]:
        raise ClientError({"Error": {"Code": code, "Message": "Not now."}}, "Scan")

    monkeypatch.setattr(dynamodb_module._Items, "_keys", refuse)

    with pytest.raises(BackendError, match=r"cannot be read: Not now\.") as caught:
        tables.opened("t").check()

    assert caught.value.retryable is retryable


def test_without_boto3_the_extra_is_named(aws: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)

    with pytest.raises(BackendError, match=r"pip install 'loopwright\[aws\]'"):
        open_source(DynamoDbSource(table="t", region=REGION), Path(), environ={}).check()
