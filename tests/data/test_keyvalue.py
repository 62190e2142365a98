from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import redis

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.data import RedisSource, Source, open_source
from loopwright.data import keyvalue as keyvalue_module
from loopwright.testing.data_source import CONTRACT_ROWS, DataSourceContract

FIELDS = tuple(CONTRACT_ROWS.columns)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
        yield client


def opened(url: str, pattern: str = "row:*", **options: object) -> Source:
    spec = RedisSource(url="env:REDIS_URL", pattern=pattern, **options)
    return open_source(spec, Path(), environ={"REDIS_URL": url})


def rows(source: Source) -> list[dict[str, object]]:
    return [row for batch in source.batches() for row in batch.to_dicts()]


class TestEveryKindOfValue(DataSourceContract):
    secret = "hunter2secret"

    @pytest.fixture(params=["hash", "json", "both"])
    def source(self, request: pytest.FixtureRequest, redis_url: str, client: redis.Redis) -> Source:
        # backwards: reading must not depend on the order of writing
        for row in reversed(CONTRACT_ROWS.to_dicts()):
            key = f"row:{row['id']:04}"
            if request.param == "json" or (request.param == "both" and row["id"] % 2):
                client.set(key, json.dumps(row))
            else:
                present = {name: value for name, value in row.items() if value is not None}
                client.hset(key, mapping=present)
        fields = None if request.param == "json" else FIELDS
        return opened(redis_url, fields=fields, key=None)


def test_the_key_is_a_column_and_the_fields_of_hashes_are_in_order(
    redis_url: str, client: redis.Redis
):
    client.hset("row:b", mapping={"z": 1, "a": "x"})
    client.hset("row:a", mapping={"m": 2})
    client.hset("other:a", mapping={"m": 3})

    found = rows(opened(redis_url))

    assert found == [
        {"key": "row:a", "m": "2", "a": None, "z": None},
        {"key": "row:b", "m": None, "a": "x", "z": "1"},
    ]


def test_nested_documents_become_dotted_columns(redis_url: str, client: redis.Redis):
    client.set("row:1", json.dumps({"home": {"town": "Kent"}, "tags": [1]}))

    assert rows(opened(redis_url, key="customer")) == [
        {"customer": "row:1", "home.town": "Kent", "tags": "[1]"}
    ]


def test_thousands_of_keys_come_once_each_in_order(
    redis_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(keyvalue_module, "_KEYS_PER_PART", 1_500)
    monkeypatch.setattr(keyvalue_module, "SCAN_COUNT", 400)
    with client.pipeline(transaction=False) as pipeline:
        for number in range(12_000):
            pipeline.hset(f"row:{number:05}", mapping={"n": number})
        pipeline.execute()
    source = opened(redis_url)

    found = pl.concat(source.batches())

    assert found["n"].cast(pl.Int64).to_list() == list(range(12_000))
    assert dict(source.schema()) == dict(found.schema)


def test_a_key_that_goes_while_it_is_read_is_left_out(
    redis_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
):
    client.hset("row:1", mapping={"n": 1})
    client.hset("row:2", mapping={"n": 2})
    pipelined = keyvalue_module._pipelined

    def interrupted(*arguments: object) -> object:
        client.delete("row:1")
        return pipelined(*arguments)

    monkeypatch.setattr(keyvalue_module, "_pipelined", interrupted)

    assert [row["n"] for row in rows(opened(redis_url))] == ["2"]


def test_values_that_are_no_rows_are_refused_with_their_key(redis_url: str, client: redis.Redis):
    client.rpush("row:1", "a")
    client.set("text:1", "hello")
    client.set("list:1", "[1]")
    client.hset("raw:1", mapping={"photo": b"\xff\xd8"})
    client.hset("same:1", mapping={"key": "x"})

    for pattern, message in {
        "row:*": r"'row:1' is a list, neither a hash nor a string",
        "text:*": r"'text:1' holds no JSON object",
        "list:*": r"'list:1' holds no JSON object",
        "raw:*": r"'raw:1' or a value in it is not UTF-8",
        "same:*": r"'same:1' has a field 'key'",
    }.items():
        with pytest.raises(InvalidInputError, match=message):
            opened(redis_url, pattern).check()


def test_a_pattern_without_keys_is_refused_with_the_nearest_prefix(
    redis_url: str, client: redis.Redis
):
    client.hset("customer:1", mapping={"n": 1})

    with pytest.raises(InvalidInputError, match=r"no keys 'costumer:\*'.*mean 'customer:\*'"):
        opened(redis_url, "costumer:*").check()
    client.flushdb()
    with pytest.raises(InvalidInputError, match="database is empty"):
        opened(redis_url).check()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": ""}, "pattern of a Redis source is empty"),
        ({"fields": ()}, "fields of a Redis source are empty"),
        ({"fields": ("key",)}, "name of the key column"),
    ],
)
def test_a_source_that_contradicts_itself_is_refused(options: dict[str, object], message: str):
    spec = RedisSource(**{"url": "redis://db", "pattern": "*", **options})

    with pytest.raises(InvalidInputError, match=message):
        open_source(spec, Path(), environ={})


@pytest.mark.parametrize("url", ["http://db:6379", "env:NOWHERE", "redis://db:port/0"])
def test_a_wrong_address_is_refused(url: str):
    with pytest.raises(InvalidInputError) as caught:
        open_source(RedisSource(url=url, pattern="*"), Path(), environ={}).check()

    assert caught.value.facts["field"] == "data.source.url"


def test_a_wrong_password_is_told_without_the_password(redis_url: str):
    url = redis_url.replace("hunter2secret", "wr0ngsecret")

    with pytest.raises(BackendError, match="Correct user and password") as caught:
        opened(url).check()

    assert not caught.value.retryable
    assert "wr0ngsecret" not in str(caught.value)


def test_a_server_that_is_not_there_is_told_in_time_and_without_the_password():
    with pytest.raises(BackendError, match=r"Redis at 127\.0\.0\.1:1/0 cannot be read") as caught:
        opened("redis://ann:hunter2secret@127.0.0.1:1/0").check()

    assert caught.value.retryable
    assert "hunter2secret" not in str(caught.value)


def test_a_server_that_dies_on_the_way_is_told_as_retryable():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_once() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1_000)

        thread = threading.Thread(target=answer_once, daemon=True)
        thread.start()
        port = listener.getsockname()[1]

        with pytest.raises(BackendError) as caught:
            opened(f"redis://127.0.0.1:{port}/0").check()

        listener.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)
    assert caught.value.retryable


def test_neither_the_repr_nor_the_record_of_a_source_shows_its_password():
    spec = RedisSource(url="redis://ann:p@ss:word@db:6379/0", pattern="*")

    assert "p@ss" not in repr(spec)
    assert spec.redacted().url == "redis://ann:***@db:6379/0"
