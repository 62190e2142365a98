from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import bson
import polars as pl
import pymongo
import pytest

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.data import MongoDbSource, Source, open_source
from loopwright.data import mongodb as mongodb_module
from loopwright.testing.data_source import CONTRACT_ROWS, DataSourceContract

FIELDS = tuple(CONTRACT_ROWS.columns)
PASSWORD = "hunter2secret"


def opened(url: str, collection: str = "rows", **options: Any) -> Source:
    spec = MongoDbSource(url="env:SHOP", database="shop", collection=collection, **options)
    return open_source(spec, Path(), environ={"SHOP": url})


def rows(source: Source) -> list[dict[str, Any]]:
    return [row for batch in source.batches() for row in batch.to_dicts()]


@pytest.fixture
def shop(mongo_wire: Any) -> Any:
    return mongo_wire[1].store["shop"]


@pytest.fixture
def url(mongo_wire: Any) -> str:
    return mongo_wire[0]


class TestMongoDb(DataSourceContract):
    @pytest.fixture(params=["wire", "mongod"])
    def source(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Source:
        documents = [{**row, "_id": row["id"]} for row in reversed(CONTRACT_ROWS.to_dicts())]
        if request.param == "wire":
            url, wire = request.getfixturevalue("mongo_wire")
            wire.store["shop"]["rows"].insert_many(documents)
        else:
            url = request.getfixturevalue("mongod_url")
            with pymongo.MongoClient(url) as client:
                client.drop_database("shop")
                client["shop"]["rows"].insert_many(documents)
        monkeypatch.setattr(mongodb_module, "FETCH_DOCUMENTS", 7)
        return opened(url, fields=FIELDS)


class TestMongoDbWithPassword(DataSourceContract):
    secret = PASSWORD

    @pytest.fixture
    def source(self, mongo_wire: Any) -> Source:
        url, wire = mongo_wire
        documents = [{"_id": row["id"], **row} for row in CONTRACT_ROWS.to_dicts()]
        wire.store["shop"]["rows"].insert_many(documents)
        url = url.replace("//", f"//ann:{PASSWORD}@")
        return opened(f"{url}/?authMechanism=PLAIN&authSource=$external", fields=FIELDS)


def test_every_type_becomes_a_column_or_text(url: str, shop: Any):
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)
    shop.rows.insert_one(
        {
            "_id": bson.ObjectId("65a000000000000000000001"),
            "n": bson.Int64(2**40),
            "price": bson.Decimal128("19.90"),
            "code": bson.Decimal128("12345678901234567890"),
            "at": moment,
            "home": {"town": "Kent", "since": moment},
            "tags": ["a", {"at": moment, "of": bson.ObjectId("65a000000000000000000002")}, b"\x01"],
            "uid": bson.Binary.from_uuid(UUID(int=7)),
            "photo": b"\xff\xd8",
            "like": bson.Regex("^a", "i"),
            "end": bson.MaxKey(),
            "of": bson.DBRef("towns", 3),
            "good": True,
            "none": None,
        }
    )

    (batch,) = opened(url).batches()

    assert batch.to_dicts()[0] == {
        "_id": "65a000000000000000000001",
        "n": 2**40,
        "price": 19.9,
        "code": "12345678901234567890",
        "at": moment,
        "home.town": "Kent",
        "home.since": moment,
        "tags": '["a",{"at":"2026-01-02T03:04:05.678000+00:00","of":"65a000000000000000000002"},'
        '"AQ=="]',
        "uid": "00000000-0000-0000-0000-000000000007",
        "photo": b"\xff\xd8",
        "like": "^a",
        "end": "MaxKey",
        "of.$ref": "towns",
        "of.$id": 3,
        "good": True,
        "none": None,
    }
    assert batch.schema["at"] == pl.Datetime("us", "UTC")
    assert batch.schema["photo"] == pl.Binary


def test_fields_may_lie_in_embedded_documents(url: str, shop: Any):
    shop.rows.insert_many([{"_id": 2, "home": {"town": "Kent", "no": 3}}, {"_id": 1, "x": "y"}])

    found = rows(opened(url, fields=("x", "home.town", "gone")))

    assert found == [
        {"x": "y", "home.town": None, "gone": None},
        {"x": None, "home.town": "Kent", "gone": None},
    ]


def test_a_filter_speaks_extended_json(url: str, shop: Any):
    shop.rows.insert_many([{"_id": n, "at": datetime(2026, 1, n, tzinfo=UTC)} for n in range(1, 6)])

    found = rows(opened(url, filter={"at": {"$gte": {"$date": "2026-01-04T00:00:00Z"}}}))

    assert [row["_id"] for row in found] == [4, 5]


def test_only_documents_beyond_a_border_are_asked_for(url: str, shop: Any):
    shop.rows.insert_many(
        [
            {"_id": 1, "n": 1, "at": datetime(2026, 1, 1, tzinfo=UTC), "name": "a"},
            {"_id": 2, "n": 2.5, "at": datetime(2026, 1, 2, tzinfo=UTC), "name": "b"},
            {"_id": 3, "n": "2", "at": "2026-01-01", "name": 7},
            {"_id": 4, "x": 1},
        ]
    )
    source = opened(url, filter={"_id": {"$lte": 4}})

    def beyond(column: str, value: Any) -> list[int]:
        return [row["_id"] for row in rows(source.since(column, value))]  # type: ignore[attr-defined]

    # values of another type are for the reader to judge
    assert beyond("n", 2.5) == [2, 3]
    assert beyond("at", datetime(2026, 1, 2, tzinfo=UTC)) == [2, 3]
    assert beyond("name", "b") == [2, 3]
    assert beyond("gone.deep", 3) == [1, 2, 3, 4]


def test_object_ids_are_beyond_a_border_of_their_text(url: str, shop: Any):
    ids = [bson.ObjectId(f"65a00000000000000000000{n}") for n in range(4)]
    shop.rows.insert_many([{"_id": each} for each in ids])

    found = rows(opened(url).since("_id", str(ids[2])))  # type: ignore[attr-defined]

    assert [row["_id"] for row in found] == [str(ids[2]), str(ids[3])]


def test_text_at_a_border_is_compared_byte_by_byte(mongo_wire: Any, shop: Any):
    url, wire = mongo_wire
    shop.rows.insert_one({"_id": 1, "name": "b"})

    rows(opened(url).since("name", "a"))  # type: ignore[attr-defined]

    (asked,) = [request for request in wire.requests if "find" in request]
    assert asked["collation"] == {"locale": "simple"}


def test_a_day_is_no_border_as_the_database_has_moments_only(url: str, shop: Any):
    source = opened(url)

    assert source.since("at", datetime(2026, 1, 1, tzinfo=UTC).date()) is source  # type: ignore[attr-defined]


def test_mixed_moments_and_text_become_text(url: str, shop: Any):
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    shop.rows.insert_many([{"_id": 1, "at": moment}, {"_id": 2, "at": "soon"}])

    assert [row["at"] for row in rows(opened(url))] == ["2026-01-02T03:04:05.000000+00:00", "soon"]


def test_moments_outside_the_calendar_are_refused_with_their_document(mongo_wire: Any):
    url, wire = mongo_wire
    wire._find = lambda _: {
        "ok": 1.0,
        "cursor": {
            "id": 0,
            "ns": "shop.rows",
            "firstBatch": [{"_id": 7, "until": bson.datetime_ms.DatetimeMS(2**60)}],
        },
    }

    with pytest.raises(InvalidInputError, match=r"_id '7'.*after 9999"):
        rows(opened(url))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filter": {"$where": "sleep(1)"}}, r"runs a program.*\$where"),
        ({"filter": {"$or": [{"$expr": {"$function": {}}}]}}, r"runs a program.*\$function"),
        ({"fields": ()}, "fields of a MongoDB source are empty"),
        ({"collection": " "}, "collection of a MongoDB source is empty"),
    ],
)
def test_a_source_that_cannot_be_meant_is_refused(options: dict[str, Any], message: str):
    with pytest.raises(InvalidInputError, match=message):
        opened("mongodb://db", **options)


def test_nothing_found_tells_what_is_there(url: str, shop: Any):
    with pytest.raises(InvalidInputError, match="database is empty"):
        opened(url).check()
    shop.customers.insert_one({"a": 1})

    with pytest.raises(InvalidInputError, match=r"no documents.*mean 'customers'"):
        opened(url, "costumers").check()
    with pytest.raises(InvalidInputError, match="Check the filter"):
        opened(url, "customers", filter={"a": 2}).check()


@pytest.mark.parametrize("url", ["http://db", "env:NOWHERE", "mongodb://db:port", "mongodb://a@b@"])
def test_a_wrong_address_is_refused(url: str):
    spec = MongoDbSource(url=url, database="shop", collection="rows")

    with pytest.raises(InvalidInputError) as caught:
        open_source(spec, Path(), environ={}).check()

    assert caught.value.facts["field"] == "data.source.url"


def test_a_wrong_password_is_told_without_the_password(url: str):
    url = url.replace("//", "//ann:wr0ngsecret@") + "/?authMechanism=PLAIN&authSource=$external"

    with pytest.raises(BackendError, match="Correct user and password") as caught:
        opened(url).check()

    assert not caught.value.retryable
    assert "wr0ngsecret" not in str(caught.value)


def test_a_missing_right_and_a_bad_filter_are_told_apart(mongo_wire: Any):
    url, wire = mongo_wire
    wire.fails["find"] = {"code": 13, "errmsg": "not authorized on shop to execute command"}

    with pytest.raises(BackendError, match="the role `read` is enough") as caught:
        opened(url).check()
    assert not caught.value.retryable

    wire.fails["find"] = {"code": 2, "errmsg": "unknown operator: $gtt"}
    with pytest.raises(InvalidInputError, match=r"unknown operator: \$gtt"):
        opened(url, filter={"a": {"$gtt": 1}}).check()


def test_a_server_that_is_not_there_is_told_in_time_and_without_the_password(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(mongodb_module, "CONNECT_TIMEOUT_S", 0.1)

    with pytest.raises(BackendError, match=r"at 127\.0\.0\.1:1 cannot be read") as caught:
        opened(f"mongodb://ann:{PASSWORD}@127.0.0.1:1/").check()

    assert caught.value.retryable
    assert PASSWORD not in str(caught.value)


def test_a_server_that_dies_on_the_way_is_told_as_retryable_and_leaves_nothing(
    mongo_wire: Any, shop: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    url, wire = mongo_wire
    shop.rows.insert_many([{"n": n} for n in range(30)])
    monkeypatch.setattr(mongodb_module, "FETCH_DOCUMENTS", 10)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    wire.dies_in = "getMore"

    with pytest.raises(BackendError) as caught:
        rows(opened(url))

    assert caught.value.retryable
    assert not [*tmp_path.iterdir()]


def test_neither_the_repr_nor_the_record_of_a_source_shows_its_password():
    spec = MongoDbSource(url="mongodb://ann:p@ss:word@db", database="a", collection="b")

    assert "p@ss" not in repr(spec)
    assert spec.redacted().url == "mongodb://ann:***@db"
    assert not re.search("p@ss|word", repr(open_source(spec, Path(), environ={})))


def test_without_pymongo_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "pymongo", None)

    with pytest.raises(BackendError, match=r"pip install 'loopwright\[mongodb\]'"):
        opened("mongodb://db").check()
