from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.data import FileSource, Source, open_source
from loopwright.data.web import is_metadata, is_public
from loopwright.testing.data_source import CONTRACT_ROWS, DataSourceContract

CSV = CONTRACT_ROWS.write_csv().encode()
BODIES = {
    "/rows.csv": CSV,
    "/rows.csv.gz": gzip.compress(CSV),
    "/deep%20er/rows.jsonl": CONTRACT_ROWS.write_ndjson().encode(),
    "/..%2f..%2fevil.csv": CSV,
    "/untagged.csv": CSV,
    "/get-only.csv": CSV,
}
REDIRECTS = {
    "/moved.csv": "/rows.csv",
    "/loop.csv": "/loop.csv",
    "/metadata.csv": "http://169.254.169.254/latest/meta-data",
    "/file.csv": "file:///etc/passwd",
    "/odd.csv": "http://[::1/rows.csv",
}


class Answer(BaseHTTPRequestHandler):
    """A small file server with the oddities that real ones have."""

    seen: list[tuple[str, str]]
    etag = "1"

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        type(self).seen.append((self.command, self.path))
        if path in REDIRECTS:
            self.send_response(302)
            self.send_header("Location", REDIRECTS[path])
            self.end_headers()
            return None
        if path == "/signed.csv" and "sig=s3cr3t" not in self.path:
            return self.send_error(403)
        if path == "/broken.csv":
            return self.send_error(503)
        if path == "/get-only.csv" and not with_body:
            return self.send_error(405)
        body = CSV if path in ("/signed.csv", "/cut.csv") else BODIES.get(path)
        if body is None:
            return self.send_error(404)
        self.send_response(200)
        if path not in ("/untagged.csv", "/get-only.csv"):
            self.send_header("ETag", type(self).etag)
        self.send_header("Content-Length", str(len(body) + (path == "/cut.csv")))
        self.end_headers()
        if with_body:
            self.wfile.write(body)
        return None

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    """Return the address of a web server on this machine."""
    Answer.seen, Answer.etag = [], "1"
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(timeout=5)


def opened(url: str, **options: object) -> Source:
    return open_source(FileSource(path=url, allow_private=True, **options), Path("/"), environ={})


class TestWeb(DataSourceContract):
    @pytest.fixture(
        params=[
            "rows.csv",
            "rows.csv.gz",
            "deep%20er/rows.jsonl",
            "deep er/rows.jsonl",
            "..%2f..%2fevil.csv",
            "moved.csv",
            "untagged.csv",
            "get-only.csv",
        ]
    )
    def source(self, request: pytest.FixtureRequest, site: str) -> Source:
        return opened(f"{site}/{request.param}")


def test_a_file_that_has_not_changed_is_fetched_once(site: str):
    source = opened(f"{site}/rows.csv")

    source.check("price")
    before = source.fingerprint()
    list(source.batches())
    Answer.etag = "2"
    list(source.batches())

    assert [verb for verb, _ in Answer.seen].count("GET") == 2
    assert source.fingerprint() != before


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.csv", r"answers 404 Not Found\. Correct the address"),
        ("signed.csv", r"answers 403 .*env:NAME"),
        ("loop.csv", "redirects more than 5 times"),
        ("file.csv", "redirects to 'file:///etc/passwd', which is not followed"),
        ("odd.csv", "which is not followed"),
    ],
)
def test_what_cannot_be_read_is_refused(site: str, path: str, message: str):
    with pytest.raises(InvalidInputError, match=message):
        opened(f"{site}/{path}").check()


@pytest.mark.parametrize(("path", "message"), [("broken.csv", "503"), ("cut.csv", "bytes came")])
def test_a_server_in_trouble_is_told_as_retryable(site: str, path: str, message: str):
    with pytest.raises(BackendError, match=message) as caught:
        opened(f"{site}/{path}").check()

    assert caught.value.retryable


def test_a_file_larger_than_allowed_is_given_up(site: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(BODIES, "/rows.csv", b"x\n" + b"1\n" * 2_000_000)

    with pytest.raises(InvalidInputError, match=r"holds more than 2 MiB\. Set max_size"):
        opened(f"{site}/rows.csv", max_size="2 MiB").check()


INSIDE = [
    "127.0.0.1",
    "localhost",
    "[::1]",
    "2130706433",
    "0x7f.1",
    "[::ffff:127.0.0.1]",
    "169.254.169.254",
    "10.0.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104 nothing is bound
]


@pytest.mark.parametrize("host", INSIDE)
def test_addresses_inside_are_refused_unless_they_are_meant(
    site: str, host: str, monkeypatch: pytest.MonkeyPatch
):
    def never(*arguments: object, **keywords: object) -> object:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket, "create_connection", never)
    url = f"http://{host}:{site.rpartition(':')[2]}/rows.csv"

    with pytest.raises(InvalidInputError, match="allow_private: true") as caught:
        open_source(FileSource(path=url), Path("/"), environ={}).check()

    assert caught.value.facts["field"] == "data.source.allow_private"


def test_a_public_host_that_redirects_inside_is_refused(site: str, monkeypatch: pytest.MonkeyPatch):
    # a public name, answered by the test server, which redirects to the metadata service
    port = int(site.rpartition(":")[2])
    resolve, connect = socket.getaddrinfo, socket.create_connection

    def public(host: str, *arguments: object, **keywords: object) -> object:
        if host == "files.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", port))]
        return resolve(host, *arguments, **keywords)

    def to_test_server(address: tuple[str, int], **keywords: object) -> object:
        assert address[0] == "93.184.216.34"
        return connect(("127.0.0.1", port), **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", public)
    monkeypatch.setattr(socket, "create_connection", to_test_server)
    spec = FileSource(path=f"http://files.example:{port}/metadata.csv")

    with pytest.raises(InvalidInputError, match=r"leads to 169\.254\.169\.254"):
        open_source(spec, Path("/"), environ={}).check()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("http://169.254.169.254/latest/meta-data", "where clouds hand out credentials"),
        ("http://[fd00:ec2::254]/latest/meta-data", "where clouds hand out credentials"),
        ("http://localhost:{port}/rows.csv", r"allow_private holds for 127\.0\.0\.1 alone"),
        ("http://10.0.0.1/rows.csv", r"allow_private holds for 127\.0\.0\.1 alone"),
    ],
)
def test_a_private_host_does_not_open_other_private_hosts_by_redirect(
    site: str, target: str, message: str, monkeypatch: pytest.MonkeyPatch
):
    port = site.rpartition(":")[2]
    monkeypatch.setitem(REDIRECTS, "/away.csv", target.format(port=port))
    connect = socket.create_connection

    def to_the_test_server_alone(address: tuple[str, int], **keywords: object) -> object:
        assert address == ("127.0.0.1", int(port))
        return connect(address, **keywords)

    monkeypatch.setattr(socket, "create_connection", to_the_test_server_alone)

    with pytest.raises(InvalidInputError, match=message):
        opened(f"{site}/away.csv").check()

    assert [path for _, path in Answer.seen] == ["/away.csv"]


@pytest.mark.parametrize("host", ["metadata.example", "2852039166", "[::ffff:169.254.169.254]"])
def test_another_name_for_a_metadata_address_is_refused_even_if_private_ones_are_allowed(
    host: str, monkeypatch: pytest.MonkeyPatch
):
    def resolved(host: str, port: int, **_: object) -> object:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)

    with pytest.raises(InvalidInputError, match="where clouds hand out credentials"):
        opened(f"http://{host}/rows.csv").check()


def test_a_metadata_address_is_connected_to_where_the_file_names_it(
    monkeypatch: pytest.MonkeyPatch,
):
    tried: list[object] = []

    def connected(address: tuple[str, int], **_: object) -> object:
        tried.append(address)
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(socket, "create_connection", connected)

    with pytest.raises(BackendError, match="refused"):
        opened("http://169.254.169.254/rows.csv").check()

    assert tried == [("169.254.169.254", 80)]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("fe80::1%eth0", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("168.63.129.16", True),
        ("10.0.0.1", False),
        ("8.8.8.8", False),
    ],
)
def test_metadata_addresses_are_known_however_they_are_written(address: str, expected: bool):
    assert is_metadata(address) == expected


def test_a_name_is_resolved_once_and_connected_to_as_checked(
    site: str, monkeypatch: pytest.MonkeyPatch
):
    # a name whose address changes between the check and the connection
    port = int(site.rpartition(":")[2])
    asked: list[str] = []

    def rebinding(host: str, *arguments: object, **keywords: object) -> object:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", port))]

    def connected(address: tuple[str, int], **keywords: object) -> object:
        assert address == ("93.184.216.34", port)
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(socket, "create_connection", connected)

    with pytest.raises(BackendError, match="refused"):
        open_source(
            FileSource(path=f"http://files.example:{port}/a.csv"), Path(), environ={}
        ).check()

    assert asked == ["files.example"]


@pytest.mark.parametrize(
    "address",
    ["::", "fe80::1%eth0", "fc00::1", "64:ff9b::7f00:1", "2002:7f00:1::", "224.0.0.1", "ff02::1"],
)
def test_other_ways_of_writing_an_inside_address_are_not_public(address: str):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_public(address: str):
    assert is_public(address)


@pytest.mark.parametrize(
    "path",
    [
        "https://ann:hunter2secret@files.example/a.csv",
        "https://files.example/a.csv?X-Amz-Signature=hunter2secret",
        "https://files.example/a.csv?year=1&access_token=hunter2secret",
    ],
)
def test_a_credential_in_the_path_is_refused_without_showing_it(path: str):
    with pytest.raises(InvalidInputError, match="env:NAME") as caught:
        open_source(FileSource(path=path), Path(), environ={})

    assert "hunter2secret" not in str(caught.value) + str(caught.value.facts)


def test_a_signed_address_from_the_environment_is_read_and_never_shown(site: str):
    spec = FileSource(path="env:SALES", allow_private=True)
    source = open_source(spec, Path(), environ={"SALES": f"{site}/signed.csv?sig=s3cr3t"})

    source.check("price")

    assert source.describe() == f"file {site}/signed.csv"
    with pytest.raises(InvalidInputError) as caught:
        source.check("prise")
    assert "s3cr3t" not in str(caught.value)


def test_an_address_that_is_none_is_refused():
    with pytest.raises(InvalidInputError, match="is no address"):
        open_source(FileSource(path="https://[x/rows.csv"), Path(), environ={})


@pytest.mark.parametrize(
    "path",
    [
        "ftp://files.example/a.csv",
        "gopher://files.example/a.csv",
        "smb://files.example/a.csv",
        "file:///etc/a.csv",
        "simplecache::https://files.example/a.csv",
        "https://files.example/x::file:///etc/a.csv",
    ],
)
def test_other_kinds_of_address_are_refused(path: str):
    with pytest.raises(InvalidInputError, match="addresses cannot be read"):
        open_source(FileSource(path=path), Path(), environ={})
