from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.data import FileSource, Source, open_source
from loopwright.testing.data_source import CONTRACT_ROWS, DataSourceContract

SECRET = "hunter2secret"


class S3(BaseHTTPRequestHandler):
    """As much of Amazon's S3 as listing and reading need, over a dict of objects."""

    objects: dict[str, bytes]

    def do_HEAD(self) -> None:
        self.object(with_body=False)

    def do_GET(self) -> None:
        bucket, _, key = urlsplit(self.path).path[1:].partition("/")
        if bucket != "sales":
            gone = b"<Error><Code>NoSuchBucket</Code><Message>no such bucket</Message></Error>"
            return self.reply(404, gone, {})
        if key:
            self.object(with_body=True)
        else:
            self.listing(parse_qs(urlsplit(self.path).query))
        return None

    def object(self, *, with_body: bool) -> None:
        key = unquote(urlsplit(self.path).path).partition("/sales/")[2]
        if "Credential=ann/" not in self.headers.get("Authorization", ""):
            return self.reply(403, b"", {})
        if key not in self.objects:
            return self.reply(404, b"", {})
        body = self.objects[key]
        headers = {"ETag": tag(body), "Last-Modified": "Sun, 22 Nov 2026 12:00:00 GMT"}
        return self.reply(200, body, headers, with_body=with_body)

    def listing(self, query: dict[str, list[str]]) -> None:
        prefix = query.get("prefix", [""])[0]
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-22T12:00:00.000Z"
            f"</LastModified><ETag>{tag(body)}</ETag><Size>{len(body)}</Size></Contents>"
            for key, body in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        self.reply(200, text.encode(), {})

    def reply(
        self, status: int, body: bytes, headers: dict[str, str], *, with_body: bool = True
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


def tag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()}"'


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """Return the objects of the bucket `sales` in a store that speaks as S3 does."""
    S3.objects = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), S3)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ann")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "nowhere-1")
    yield S3.objects
    server.shutdown()
    server.server_close()
    thread.join(timeout=5)


def opened(path: str, **options: object) -> Source:
    return open_source(FileSource(path=path, **options), Path("/"))


class TestBucket(DataSourceContract):
    secret = SECRET

    @pytest.fixture(params=["a/rows.csv", "a/*.csv", "a/", "s*/20??/rows.csv", "odd name/é.csv"])
    def source(self, request: pytest.FixtureRequest, bucket: dict[str, bytes]) -> Source:
        whole = CONTRACT_ROWS.write_csv().encode()
        bucket["x.csv"] = bucket["a/deeper/x.csv"] = b"other\n1\n"
        if request.param == "s*/20??/rows.csv":
            bucket["s1/2025/rows.csv"] = CONTRACT_ROWS.head(9).write_csv().encode()
            bucket["s1/2026/rows.csv"] = CONTRACT_ROWS.slice(9).write_csv().encode()
        elif request.param == "odd name/é.csv":
            bucket["odd name/é.csv"] = whole
        else:
            bucket["a/rows.csv"] = whole
            bucket["a/read.me"] = b"no table"
        return opened(f"s3://sales/{request.param}")


def test_a_fingerprint_changes_with_an_object(bucket: dict[str, bytes]):
    bucket["a.csv"] = b"x\n1\n"
    source = opened("s3://sales/*.csv")
    before = source.fingerprint()

    bucket["b.csv"] = b"x\n2\n"

    assert source.fingerprint() != before
    assert [row for batch in source.batches() for row in batch.rows()] == [("1",), ("2",)]


def test_a_missing_object_is_refused_with_the_nearest_name(bucket: dict[str, bytes]):
    bucket["a/houses.csv"] = b"x\n1\n"

    with pytest.raises(InvalidInputError, match=r"no file s3://sales/a/house\.csv"):
        opened("s3://sales/a/house.csv").check()
    with pytest.raises(InvalidInputError, match=r"no file s3://sales/b/\*\.csv"):
        opened("s3://sales/b/*.csv").check()


def test_a_bucket_that_is_not_there_is_told_as_that(bucket: dict[str, bytes]):
    with pytest.raises(BackendError) as failure:
        opened("s3://sails/a/*.csv").fingerprint()

    assert failure.value.message == "There is no bucket for s3://sails/a/*.csv."


def test_a_broken_object_is_told_by_its_address(bucket: dict[str, bytes]):
    bucket["a.csv"] = b"a,b\n1,2,3\n"

    with pytest.raises(InvalidInputError, match=r"s3://sales/a\.csv, line 2: It has 3 fields"):
        list(opened("s3://sales/a.csv").batches())


def test_more_than_allowed_is_refused_before_it_is_fetched(bucket: dict[str, bytes]):
    bucket["a.csv"] = bucket["b.csv"] = b"x\n" + b"1\n" * 600_000

    with pytest.raises(InvalidInputError, match="more than 2 MiB"):
        opened("s3://sales/*.csv", max_size="2 MiB").check()


def test_wrong_credentials_are_told_without_showing_them(
    bucket: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    bucket["a.csv"] = b"x\n1\n"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "bob")

    with pytest.raises(BackendError, match=r"may not be read.*AWS_ACCESS_KEY_ID") as caught:
        opened("s3://sales/a.csv").check()

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("given", [{}, {"AWS_ACCESS_KEY_ID": "ann"}, {"AWS_SKIP_SIGNATURE": "0"}])
def test_without_credentials_the_error_says_so_and_nothing_is_asked(
    bucket: dict[str, bytes], given: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    bucket["a.csv"] = b"x\n1\n"
    monkeypatch.setattr("loopwright.data.credential._VENDOR", Path("/nowhere"))
    spec = FileSource(path="s3://sales/a.csv")

    with pytest.raises(BackendError, match="holds no credentials for it") as caught:
        open_source(spec, Path("/"), environ=given).check()

    assert "Set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in str(caught.value)
    assert "169.254" not in str(caught.value)


def test_credentials_and_the_endpoint_are_taken_from_the_environment_that_is_given(
    bucket: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    bucket["a.csv"] = b"x\n1\n"
    names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
    given = {name: os.environ[name] for name in names}
    for name in names:
        monkeypatch.delenv(name)
    spec = FileSource(path="s3://sales/a.csv")

    source = open_source(spec, Path("/"), environ=given)

    assert [row for batch in source.batches() for row in batch.rows()] == [("1",)]


@pytest.mark.parametrize(
    "path", ["s3://sales", "s3://sales?x.csv", "s3:///a.csv", "gs://a b/x.csv", "s3://../x.csv"]
)
def test_an_address_without_bucket_and_key_is_refused(path: str):
    with pytest.raises(InvalidInputError) as caught:
        opened(path)

    assert caught.value.facts["field"] == "data.source.path"


@pytest.mark.parametrize("path", ["gs://sales/a.csv", "az://sales/a/*.parquet"])
def test_the_other_stores_are_described_by_their_address(path: str):
    assert opened(path).describe() == f"file {path}"
