"""Alarms reach a real web server: once in its eyes, signed, and never somewhere inside by a trick."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.monitor.notice import Notice, Told
from loopwright.monitor.sink import WebhookSink
from loopwright.monitor.webhook import checked_address, post_notice, signature

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOTICE = Notice(
    key="shop-1-opened",
    event="opened",
    loop="shop",
    at=NOW,
    alarms=(
        Told(id="a1", kind="data", subject="price", message="price moved up.", action="Look."),
    ),
)


class Receiver:
    """A web server on this machine that remembers what it was sent."""

    def __init__(self) -> None:
        self.status = 204
        self.location: str | None = None
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append((self.path, headers, body))
                self.send_response(receiver.status)
                if receiver.location:
                    self.send_header("location", receiver.location)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook?team=a b"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def raw_server() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """Start servers that answer one connection by a function; return where each listens."""
    listeners: list[socket.socket] = []

    def started(answer: Callable[[socket.socket], None]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            with line:
                try:
                    answer(line)
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield started
    for listener in listeners:
        listener.close()


def _sink(receiver: Receiver, **said: object) -> WebhookSink:
    url = receiver.url.replace(" ", "%20")
    return msgspec.convert(
        {"kind": "webhook", "url": url, "allow_private": True, **said}, WebhookSink
    )


def test_a_notice_arrives_whole_with_a_key_to_tell_doubles_by(receiver: Receiver) -> None:
    post_notice(_sink(receiver), NOTICE, environ={}, now=NOW)

    path, headers, body = receiver.requests[0]
    assert path == "/hook?team=a%20b"
    assert headers["idempotency-key"] == headers["webhook-id"] == "shop-1-opened"
    assert headers["host"] == f"127.0.0.1:{receiver.server.server_port}"
    told = json.loads(body)
    assert told["alarms"][0]["message"] == "price moved up."
    assert told["text"].startswith("[shop] alarm: data, price")


def test_a_chat_gets_the_text_alone(receiver: Receiver) -> None:
    post_notice(_sink(receiver, body="text"), NOTICE, environ={}, now=NOW)

    assert set(json.loads(receiver.requests[0][2])) == {"text"}


def test_the_signature_is_that_of_standard_webhooks(receiver: Receiver) -> None:
    secret = "whsec_" + base64.b64encode(b"twenty-four bytes secret").decode()
    sink = _sink(receiver, secret="env:HOOK_SECRET", token="env:HOOK_TOKEN")

    post_notice(sink, NOTICE, environ={"HOOK_SECRET": secret, "HOOK_TOKEN": "t0k"}, now=NOW)

    _, headers, body = receiver.requests[0]
    signed = b"shop-1-opened." + headers["webhook-timestamp"].encode() + b"." + body
    wanted = hmac.new(b"twenty-four bytes secret", signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(wanted).decode()
    assert headers["authorization"] == "Bearer t0k"


def test_the_signature_matches_the_example_of_the_specification() -> None:
    # the worked example of github.com/standard-webhooks/standard-webhooks
    found = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "1614265330",
        b'{"test": 2432232314}',
    )

    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 429, 500, 503])
def test_any_answer_but_success_is_tried_again(receiver: Receiver, status: int) -> None:
    receiver.status, receiver.location = status, receiver.url

    with pytest.raises(BackendError, match=str(status)) as caught:
        post_notice(_sink(receiver), NOTICE, environ={}, now=NOW)

    assert caught.value.retryable
    assert len(receiver.requests) == 1  # a redirect is not followed


def test_a_receiver_that_is_down_is_told_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    sink = WebhookSink(url=f"http://127.0.0.1:{port}/", allow_private=True)

    with pytest.raises(BackendError, match="cannot be told") as caught:
        post_notice(sink, NOTICE, environ={}, now=NOW)

    assert caught.value.retryable


def test_a_receiver_that_drips_is_cut_off_at_the_whole_time_limit(
    raw_server: Callable[[Callable[[socket.socket], None]], str],
) -> None:
    def drip(line: socket.socket) -> None:
        line.recv(65_536)
        line.sendall(b"HTTP/1.1 200 OK\r\nx: ")
        for _ in range(100):
            line.sendall(b"y")
            time.sleep(0.1)

    sink = WebhookSink(url=raw_server(drip), allow_private=True, timeout="1 second")
    clock = time.monotonic()

    with pytest.raises(BackendError):
        post_notice(sink, NOTICE, environ={}, now=NOW)

    assert time.monotonic() - clock < 3


@pytest.mark.parametrize(
    "answer",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 999999\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a" * 99_999],
)
def test_a_receiver_that_speaks_no_http_is_a_failure_and_no_crash(
    raw_server: Callable[[Callable[[socket.socket], None]], str], answer: bytes
) -> None:
    def reply(line: socket.socket) -> None:
        line.recv(65_536)
        line.sendall(answer)

    sink = WebhookSink(url=raw_server(reply), allow_private=True, timeout="2 seconds")

    with pytest.raises(BackendError):
        post_notice(sink, NOTICE, environ={}, now=NOW)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "10.1.2.3", "[::1]", "[::ffff:10.0.0.1]"]
)
def test_an_address_inside_is_refused_unless_it_is_meant(host: str) -> None:
    with pytest.raises(InvalidInputError, match="inside a private network"):
        post_notice(WebhookSink(url=f"http://{host}:9/"), NOTICE, environ={}, now=NOW)


def test_a_cloud_s_metadata_service_is_refused_even_if_private_addresses_are_meant() -> None:
    with pytest.raises(InvalidInputError, match="hand out credentials"):
        checked_address("169.254.169.254", 80, place="the webhook", allow_private=True)


def test_what_is_secret_stands_in_no_error(receiver: Receiver) -> None:
    receiver.status = 403
    sink = _sink(receiver, url="env:HOOK", token="env:HOOK_TOKEN")
    environ = {"HOOK": f"{receiver.url.partition('?')[0]}/T0PSECRET", "HOOK_TOKEN": "t0k"}

    with pytest.raises(BackendError) as caught:
        post_notice(sink, NOTICE, environ=environ, now=NOW)

    assert "T0PSECRET" not in str(caught.value)
    assert receiver.requests[0][0].endswith("T0PSECRET")


@pytest.mark.parametrize("value", ["ftp://a.b/c", "http://u:p@a.b/", "http:///x", "http://a.b/\nx"])
def test_an_address_from_the_environment_is_checked_like_one_in_the_file(value: str) -> None:
    with pytest.raises(InvalidInputError, match="url"):
        post_notice(WebhookSink(url="env:HOOK"), NOTICE, environ={"HOOK": value}, now=NOW)


def test_a_token_with_a_line_break_cannot_add_a_header(receiver: Receiver) -> None:
    sink = _sink(receiver, token="env:HOOK_TOKEN")

    with pytest.raises(InvalidInputError, match="no header may hold"):
        post_notice(sink, NOTICE, environ={"HOOK_TOKEN": "a\r\nx-evil: 1"}, now=NOW)

    assert not receiver.requests
