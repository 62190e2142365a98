"""What reaches a store elsewhere, and what of its answers comes back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.sagemaker.desk import Caller
from loopwright.sagemaker.error import ApiError, StoreAwayError
from loopwright.sagemaker.message import Answer, HeldBody, Request, StreamedBody, StreamPart
from loopwright.sagemaker.s3.cache import Cache
from loopwright.sagemaker.s3.connection import Connection
from loopwright.sagemaker.s3.passing import pass_on
from loopwright.sagemaker.s3.place import StorePlace, store_place

CALLER = Caller(access_key="CLIENT", account="123456789012", region="us-east-1")
SECRET = "the-secret-of-the-store"


@dataclass
class Store:
    """A store that answers as it is told to and keeps what it was asked."""

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    said_length: int | None = None
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture(scope="module")
def site() -> Iterator[Store]:
    """Return the store, which listens as long as these tests run."""
    found = Store()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            found.asked.append((self.command, self.path, headers, body))
            self.send_response(found.status)
            length = len(found.body) if found.said_length is None else found.said_length
            for name, value in {"Content-Length": str(length), **found.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(found.body)
            self.close_connection = found.said_length is not None

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815 as the library calls them

        def log_message(self, *arguments: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    found.url = f"http://127.0.0.1:{http.server_port}"
    yield found
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def store(site: Store) -> Store:
    """Return the store as if it were new."""
    site.status, site.headers, site.body, site.said_length = 200, {}, b"", None
    site.asked.clear()
    return site


@pytest.fixture(scope="module")
def connection(site: Store) -> Iterator[Connection]:
    """Return a connection to the store."""
    with pytest.MonkeyPatch.context() as patch:
        give_keys(patch)
        yield Connection(StorePlace(url=site.url))


def give_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "STOREKEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")


def ask(
    connection: Connection,
    tmp_path: Path,
    method: str = "GET",
    query: str = "",
    *,
    operation: str = "GetObject",
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    **labels: str,
) -> Answer:
    request = Request(
        method=method,
        target=f"/box/key{query}",
        headers=dict(headers or {}),
        body=body or HeldBody(b""),
    )
    named = {"Bucket": "box", "Key": "key", **labels}
    return pass_on(connection, CALLER, request, operation, named, spool=tmp_path)


def refusal(call: Any) -> tuple[str, int]:
    with pytest.raises(ApiError) as caught:
        call()
    return caught.value.code, caught.value.status


def test_what_is_between_the_client_and_this_server_stays_here(
    connection: Connection, store: Store, tmp_path: Path
) -> None:
    ask(
        connection,
        tmp_path,
        query="?X-Amz-Signature=aa&X-Amz-Credential=CLIENT%2F1&X-Amz-Security-Token=t&versionId=7"
        "&x-amz-checksum-mode=ENABLED",
        headers={
            "authorization": "AWS4-HMAC-SHA256 Credential=CLIENT/1",
            "x-amz-security-token": "t",
            "x-amz-date": "20200101T000000Z",
            "x-amz-expected-bucket-owner": CALLER.account,
            "cookie": "c=1",
            "connection": "x-amz-meta-a",
            "te": "trailers",
            "x-forwarded-for": "10.0.0.1",
            "host": "gateway",
            "range": "bytes=0-1",
            "x-amz-meta-a": "1",
        },
    )

    ((_, path, seen, _),) = store.asked
    assert path == "/box/key?versionId=7"
    assert seen.pop("authorization").startswith("AWS4-HMAC-SHA256 Credential=STOREKEY/")
    assert "CLIENT" not in str(seen)
    assert seen.pop("host") == store.url.removeprefix("http://")
    assert set(seen) - {"x-amz-date", "x-amz-content-sha256", "user-agent"} == {
        "accept-encoding",
        "content-length",
        "range",
        "x-amz-checksum-mode",
        "x-amz-meta-a",
    }


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("../../etc/passwd", "/box/../../etc/passwd"),
        ("a//b/", "/box/a//b/"),
        ("a?x=1#y%2F", "/box/a%3Fx%3D1%23y%252F"),
        ("a\r\nx: y", "/box/a%0D%0Ax%3A%20y"),
        ("ü +", "/box/%C3%BC%20%2B"),
    ],
)
def test_keys_are_encoded_anew_and_never_begin_anything_else(
    connection: Connection, store: Store, tmp_path: Path, key: str, path: str
) -> None:
    ask(connection, tmp_path, Key=key)

    assert [each[1] for each in store.asked] == [path]


@pytest.mark.parametrize("name", ["minio", "admin", "..", "A", ".minio.sys", "a/../b"])
def test_no_bucket_opens_the_other_doors_of_a_store(
    connection: Connection, store: Store, tmp_path: Path, name: str
) -> None:
    assert refusal(lambda: ask(connection, tmp_path, Bucket=name))[0] == "InvalidBucketName"
    copied = {"x-amz-copy-source": f"/{name.replace('/', '%2F')}/k"}
    refused = refusal(
        lambda: ask(connection, tmp_path, "PUT", operation="CopyObject", headers=copied)
    )
    # of a path with slashes, the first part is a bucket
    assert refused[0] == "InvalidBucketName"
    assert store.asked == []


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-amz-expected-bucket-owner": "999999999999"}, "AccessDenied"),
        ({"x-amz-meta-a": "b\x00c"}, "InvalidArgument"),
        ({"x-amz-meta-a": "\xe9"}, "InvalidArgument"),
        ({"x-amz-copy-source": "/box/k?acl"}, "InvalidArgument"),
    ],
)
def test_headers_that_are_not_passed_on(
    connection: Connection, store: Store, tmp_path: Path, headers: dict[str, str], code: str
) -> None:
    assert refusal(lambda: ask(connection, tmp_path, headers=headers))[0] == code
    assert store.asked == []


def test_what_administers_a_store_is_not_passed_on(
    connection: Connection, store: Store, tmp_path: Path
) -> None:
    assert refusal(lambda: ask(connection, tmp_path, "PUT", operation="PutBucketPolicy")) == (
        "NotImplemented",
        501,
    )
    assert store.asked == []


def test_a_bucket_is_made_in_the_region_of_the_store(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_keys(monkeypatch)
    connection = Connection(StorePlace(url=store.url, region="garage"))
    body = b"<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>"

    ask(connection, tmp_path, "PUT", operation="CreateBucket", body=HeldBody(body))

    assert b"<LocationConstraint>garage</LocationConstraint>" in store.asked[0][3]


def streamed(*pieces: bytes) -> StreamedBody:
    body = StreamedBody(lambda: None, lambda: None)
    for piece in pieces:
        body.put(piece)
    body.end()
    return body


def test_a_body_that_is_not_what_was_signed_never_reaches_the_store_whole(
    connection: Connection, store: Store, tmp_path: Path
) -> None:
    digest = hashlib.sha256(b"first second").hexdigest()

    def put(*pieces: bytes) -> Answer:
        headers = {"content-length": "12", "x-amz-content-sha256": digest}
        return ask(
            connection,
            tmp_path,
            "PUT",
            operation="PutObject",
            headers=headers,
            body=streamed(*pieces),
        )

    assert put(b"first ", b"second").status == 200
    assert store.asked[0][3] == b"first second"
    assert refusal(lambda: put(b"first ", b"2econd"))[0] == "XAmzContentSHA256Mismatch"
    assert all(each[3] != b"first 2econd" for each in store.asked)


def test_only_what_belongs_to_the_object_comes_back(
    connection: Connection, store: Store, tmp_path: Path
) -> None:
    store.body = b"x" * (3 << 20)
    store.headers = {
        "ETag": '"e"',
        "Set-Cookie": "c=1",
        "X-Amz-Meta-A": "1",
        "Access-Control-Allow-Origin": "*",
        "Content-Type": "text/csv",
    }

    answer = ask(connection, tmp_path)

    assert dict(answer.headers) == {"etag": '"e"', "x-amz-meta-a": "1", "content-type": "text/csv"}
    assert isinstance(answer.body, StreamPart)
    assert b"".join(iter(answer.body.next_piece, b"")) == store.body


def test_an_answer_that_breaks_off_is_no_answer(
    connection: Connection, store: Store, tmp_path: Path
) -> None:
    store.body, store.said_length = b"x" * 100, 3 << 20

    answer = ask(connection, tmp_path)

    assert isinstance(answer.body, StreamPart)
    with pytest.raises(Exception, match="100"):
        list(iter(answer.body.next_piece, b""))


def test_errors_of_the_store_come_back_as_they_are(
    connection: Connection, store: Store, tmp_path: Path
) -> None:
    store.status, store.body = 404, b"<Error><Code>NoSuchKey</Code></Error>"

    answer = ask(connection, tmp_path)

    assert (answer.status, answer.body) == (404, store.body)


def test_a_store_that_refuses_our_keys_does_not_say_so_of_the_client_s(
    connection: Connection, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.status = 403
    store.body = (
        b"<Error><Code>InvalidAccessKeyId</Code><AWSAccessKeyId>STOREKEY</AWSAccessKeyId></Error>"
    )

    with pytest.raises(StoreAwayError, match="refuses the keys of this server") as caught:
        ask(connection, tmp_path)

    assert caught.value.status == 503
    assert "STOREKEY" not in str(caught.value)
    with pytest.raises(BackendError, match="refuses the keys"):
        connection.check()
    assert SECRET not in caplog.text


def test_a_bucket_of_another_region_is_told(
    connection: Connection, store: Store, tmp_path: Path
) -> None:
    store.status, store.headers = 301, {"Location": "http://elsewhere/"}

    assert refusal(lambda: ask(connection, tmp_path))[0] == "PermanentRedirect"
    assert len(store.asked) == 1


def test_a_store_that_is_not_there_answers_503(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_keys(monkeypatch)
    connection = Connection(StorePlace(url="http://127.0.0.1:9"))

    assert refusal(lambda: ask(connection, tmp_path)) == ("ServiceUnavailable", 503)


def test_no_keys_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    give_keys(monkeypatch)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)

    with pytest.raises(InvalidInputError, match="no keys"):
        Connection(StorePlace(url="http://127.0.0.1:9"))
    with pytest.raises(InvalidInputError, match="cannot be read"):
        Connection(StorePlace(url="http://127.0.0.1:9", profile="not there"))


@pytest.mark.parametrize(
    ("url", "region", "found"),
    [
        ("https://s3.eu-central-1.amazonaws.com/", None, "eu-central-1"),
        ("http://localhost:9000", None, None),
        ("http://[::1]:3900", "garage", "garage"),
    ],
)
def test_the_address_of_a_store(url: str, region: str | None, found: str | None) -> None:
    place = store_place(url, region=region)

    assert (place.url, place.region) == (url.rstrip("/"), found)


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket",
        "http://",
        "http://me:hidden@host",
        "http://host/path",
        "http://host?x=hidden",
        "http://host:port",
        "http://ho st",
    ],
)
def test_an_address_that_is_none_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        store_place(url)

    assert "hidden" not in str(caught.value)


def test_copies_of_objects_are_given_again_and_let_go_of_when_there_are_too_many(
    tmp_path: Path,
) -> None:
    cache = Cache(tmp_path / "cache", limit=400)
    loaded: list[str] = []

    def give(name: str, target: str, *, modified: float = 1.0) -> bytes:
        def load(path: Path) -> None:
            loaded.append(name)
            path.write_bytes(b"x" * 100)

        cache.give(name, tmp_path / target, load, size=100, modified=modified)
        return (tmp_path / target).read_bytes()

    for number in range(4):
        give(f"name{number}", f"job/{number}")
    give("name0", "again")

    assert loaded == ["name0", "name1", "name2", "name3"]
    # a job that writes into its input, which is a link, spoils no other's
    spoiled = tmp_path / "again"
    spoiled.chmod(0o600)
    spoiled.write_bytes(b"y" * 100)
    assert give("name0", "third") == b"x" * 100
    give("name4", "fifth")
    assert sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*/name*")) <= 400
    assert (tmp_path / "job" / "1").read_bytes() == b"x" * 100
