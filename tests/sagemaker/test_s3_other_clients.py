"""S3 through what reads and writes tables: polars, pyarrow, obstore."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import obstore
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from obstore.store import S3Store
from pyarrow.fs import S3FileSystem

from .conftest import Server


@pytest.fixture(scope="module")
def tables(s3: Any) -> str:
    s3.create_bucket(Bucket="tables")
    return "tables"


def test_polars_writes_and_scans(server: Server, tables: str) -> None:
    options = {
        "aws_endpoint_url": server.url,
        "aws_access_key_id": server.key.id,
        "aws_secret_access_key": server.key.secret,
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
    }
    written = pl.DataFrame({"a": range(1000)})

    written.write_parquet(f"s3://{tables}/polars/t.parquet", storage_options=options)
    read = pl.scan_parquet(f"s3://{tables}/polars/*.parquet", storage_options=options).collect()

    assert read.equals(written)


def test_pyarrow_writes_and_reads_a_folder(server: Server, tables: str) -> None:
    where = urlsplit(server.url)
    files = S3FileSystem(
        endpoint_override=where.netloc,
        scheme="http",
        access_key=server.key.id,
        secret_key=server.key.secret,
        region="us-east-1",
    )

    pq.write_table(pa.table({"a": range(10)}), f"{tables}/arrow/1.parquet", filesystem=files)
    pq.write_table(pa.table({"a": range(5)}), f"{tables}/arrow/2.parquet", filesystem=files)

    assert ds.dataset(f"{tables}/arrow", filesystem=files).count_rows() == 15


def test_obstore_sends_in_parts_and_lists(server: Server, tables: str) -> None:
    store = S3Store(
        tables,
        endpoint=server.url,
        access_key_id=server.key.id,
        secret_access_key=server.key.secret,
        region="us-east-1",
        client_options={"allow_http": True},
    )
    data = bytes(range(256)) * 40_000

    obstore.put(store, "ob/x", data, chunk_size=5 << 20, use_multipart=True)

    assert bytes(obstore.get(store, "ob/x").bytes()) == data
    assert [each["path"] for page in obstore.list(store, "ob") for each in page] == ["ob/x"]
