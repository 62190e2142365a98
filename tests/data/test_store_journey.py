"""Every kind of store in a loop file: refreshed, listed, grown by a cursor, and drafted by `init`."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from loopwright.cli.main import cli
from loopwright.data.document import OpenedRecords
from loopwright.data.duck import OpenedDuckDb

REGION = "eu-central-1"
LOOP = """\
name: customers
problem: {{target: spent, criteria: [{{metric: mape, at_most: 0.3}}]}}
data:
  source: {source}
  refresh: {{every: 1 day, cursor: {cursor}}}
"""

Add = Callable[[range], None]


def run(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["--home", str(folder / "home"), *words])


def answer(folder: Path, *words: str) -> Any:
    result = run(folder, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def customer(n: int) -> dict[str, Any]:
    return {"number": n, "spent": 10 * n + n % 7, "home": {"town": "Kent" if n % 2 else "Renton"}}


@pytest.fixture
def dynamodb(
    dynamodb_endpoint: str, aws: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[str, str, Add]:
    monkeypatch.setenv("SHOP_DYNAMODB", dynamodb_endpoint)
    client = boto3.client("dynamodb", region_name=REGION, endpoint_url=dynamodb_endpoint)
    table = f"customers-{tmp_path.name}"
    client.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "number", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "number", "AttributeType": "N"}],
        BillingMode="PAY_PER_REQUEST",
    )

    def add(numbers: range) -> None:
        puts = [
            {
                "PutRequest": {
                    "Item": {
                        "number": {"N": str(n)},
                        "spent": {"N": str(customer(n)["spent"])},
                        "home": {"M": {"town": {"S": customer(n)["home"]["town"]}}},
                    }
                }
            }
            for n in numbers
        ]
        for start in range(0, len(puts), 25):
            client.batch_write_item(RequestItems={table: puts[start : start + 25]})

    source = f'{{kind: dynamodb, table: {table}, region: {REGION}, endpoint: "env:SHOP_DYNAMODB"}}'
    return source, "number", add


@pytest.fixture
def mongodb(mongo_wire: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, Add]:
    url, wire = mongo_wire
    monkeypatch.setenv("SHOP_MONGODB", url)
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def add(numbers: range) -> None:
        wire.store["shop"]["customers"].insert_many(
            {**customer(n), "created_at": start + timedelta(hours=n)} for n in numbers
        )

    source = '{kind: mongodb, url: "env:SHOP_MONGODB", database: shop, collection: customers}'
    return source, "created_at", add


@pytest.fixture
def duck(tmp_path: Path) -> tuple[str, str, Add]:
    def add(numbers: range) -> None:
        with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS customers (number INTEGER, spent INTEGER, town TEXT)"
            )
            rows = [(n, customer(n)["spent"], customer(n)["home"]["town"]) for n in numbers]
            connection.executemany("INSERT INTO customers VALUES (?, ?, ?)", rows)

    return '{kind: sql, url: "duckdb:///shop.duckdb", table: customers}', "number", add


@pytest.mark.parametrize("kind", ["dynamodb", "mongodb", "duck"])
def test_a_store_is_refreshed_grows_by_its_cursor_and_is_listed(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, cursor, add = request.getfixturevalue(kind)
    (tmp_path / "loop.yaml").write_text(LOOP.format(source=source, cursor=cursor))
    file = str(tmp_path / "loop.yaml")
    n_read: list[int] = []
    for opened in (OpenedRecords, OpenedDuckDb):
        batches = opened.batches

        def counted(self: Any, batches: Any = batches) -> Any:
            for batch in batches(self):
                n_read.append(batch.height)
                yield batch

        monkeypatch.setattr(opened, "batches", counted)

    add(range(1, 61))
    first = answer(tmp_path, "data", "refresh", "--now", file)
    assert (first["state"], first["snapshot"]["n_rows"]) == ("new rows", 60)
    assert answer(tmp_path, "data", "refresh", "--now", file)["state"] == "nothing new"

    add(range(61, 76))
    n_read.clear()
    grown = answer(tmp_path, "data", "refresh", "--now", file)
    assert (grown["snapshot"]["kind"], grown["snapshot"]["n_rows"]) == ("increment", 75)
    # the store left the old rows out; the one at the border came again and was told apart
    assert sum(n_read) == 16

    listed = answer(tmp_path, "data", "list", "customers")
    assert {each["n_rows"] for each in listed} == {60, 75}
    assert "hunter2secret" not in json.dumps(listed)


def test_a_folder_of_images_is_drafted_refreshed_and_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(60):
        place = tmp_path / "photos" / ("cats" if n % 2 else "dogs") / f"{n:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (n % 5 + 3, 4), n).save(place)
    monkeypatch.chdir(tmp_path)
    file = str(tmp_path / "loop.yaml")

    drafted = run(tmp_path, "init", "photos", "--target", "label", "--name", "pets", "-o", file)
    first = answer(tmp_path, "data", "refresh", "--now", file)

    assert drafted.exit_code == 0, drafted.output
    assert 'source: {kind: "images", path: "photos"}' in Path(file).read_text()
    assert (first["state"], first["snapshot"]["n_rows"]) == ("new rows", 60)
    (listed,) = answer(tmp_path, "data", "list", "pets")
    assert listed["source"] == "images photos"


def test_the_address_of_a_store_is_drafted(
    tmp_path: Path,
    mongodb: tuple[str, str, Add],
    dynamodb: tuple[str, str, Add],
    mongo_wire: Any,
    dynamodb_endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_ENDPOINT_URL", dynamodb_endpoint)
    table = f"customers-{tmp_path.name}"
    written = {
        f"{mongo_wire[0]}/shop#customers": 'database: "shop", collection: "customers"',
        f"dynamodb://{table}": f'source: {{kind: "dynamodb", table: "{table}"}}',
    }
    for _, _, add in (mongodb, dynamodb):
        add(range(60))

    for number, (address, source) in enumerate(written.items()):
        file = tmp_path / f"{number}.yaml"
        drafted = run(tmp_path, "init", address, "--target", "spent", "-o", str(file))

        assert drafted.exit_code == 0, drafted.output
        assert source in file.read_text()
