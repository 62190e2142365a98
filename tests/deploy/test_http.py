from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from loopwright.deploy.dispatch import WorkQueue
from loopwright.deploy.limits import Limits

Run = Callable[..., Any]

ROW = json.dumps({"area": 10.0}).encode()
HEAD = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_a_connection_is_kept_alive(run_endpoint: Run) -> None:
    site = run_endpoint(slope=3.0)

    with site.dial() as line:
        answers = [line.post({"area": float(area)}).hear() for area in range(5)]

    assert [answer["prediction"] for _, _, answer in answers] == [0.0, 3.0, 6.0, 9.0, 12.0]
    assert all("connection" not in headers for _, headers, _ in answers)


def test_pipelined_requests_are_answered_in_order(run_endpoint: Run) -> None:
    site = run_endpoint()
    n_requests = 60  # more than are read ahead

    with site.dial() as line:
        for number in range(n_requests):
            # slow and quick routes are mixed, so that quick ones could overtake
            line.get("/ping") if number % 3 == 0 else line.post({"area": float(number)})
        answers = [line.hear()[2] for _ in range(n_requests)]

    for number, answer in enumerate(answers):
        assert answer["status" if number % 3 == 0 else "prediction"] == (
            "ok" if number % 3 == 0 else 2.0 * number
        )


def test_a_request_may_come_byte_by_byte(run_endpoint: Run) -> None:
    site = run_endpoint()
    request = HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(ROW), ROW)

    with site.dial() as line:
        line.line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request:
            line.say(bytes([byte]))
        status, _, answer = line.hear()

    assert (status, answer["prediction"]) == (200, 20.0)


def test_chunked_bodies_are_read(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        line.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for byte in ROW:
            line.say(b"1;comment=yes\r\n%c\r\n" % byte)
        line.say(b"0\r\nX-Trailer: ignored\r\n\r\n")
        first = line.hear()
        second = line.post({"area": 1.0}).hear()

    assert (first[0], first[2]["prediction"]) == (200, 20.0)
    assert (second[0], second[2]["prediction"]) == (200, 2.0)


def test_a_client_that_asks_first_is_told_to_continue(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        line.say(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(ROW))
        told, _ = line.head()
        line.say(ROW)
        status, _, answer = line.hear()

    assert (told, status, answer["prediction"]) == (100, 200, 20.0)


def test_a_client_that_asks_first_with_too_much_is_not_told_to_continue(run_endpoint: Run) -> None:
    site = run_endpoint(max_body_bytes=1000)

    with site.dial() as line:
        line.say(HEAD + b"Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n")
        status, headers, _ = line.hear()

    assert (status, headers["connection"]) == (413, "close")


def test_a_body_of_100_mb_is_refused_and_the_client_sees_why(run_endpoint: Run) -> None:
    site = run_endpoint()
    piece = b" " * (1 << 20)

    with site.dial() as line:
        line.say(HEAD + b"Content-Length: %d\r\n\r\n" % (100 << 20))
        for _ in range(100):
            line.say(piece)
        status, _, answer = line.hear()

    assert status == 413
    assert "several requests" in answer["error"]["message"]


def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(run_endpoint: Run) -> None:
    site = run_endpoint(max_body_bytes=1000)

    with site.dial() as line:
        line.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n400\r\n" + b" " * 1024 + b"\r\n")
        status, _, _ = line.hear()

    assert status == 413


def test_large_bodies_of_all_clients_together_are_bounded(run_endpoint: Run) -> None:
    site = run_endpoint(limits=Limits(max_buffered_bytes=3000), max_body_bytes=2000)

    with site.dial() as first, site.dial() as second:
        first.say(HEAD + b"Content-Length: 1900\r\n\r\n" + b" " * 1800)
        second.get("/ping").hear()
        second.say(HEAD + b"Content-Length: 1900\r\n\r\n" + b" " * 1800)
        status, headers, _ = second.hear()
        first.say(b" " * 88 + b'{"area": 1}!'[:12])
        later = first.hear()

    assert (status, headers["retry-after"]) == (503, "1")
    assert later[0] == 400  # the first was read whole: 12 bytes that are not quite JSON
    with site.dial() as third:
        third.say(HEAD + b"Content-Length: 1900\r\n\r\n" + b" " * 1889 + b'{"area": 1}')
        assert third.hear()[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Content-Length: -3\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Content-Length : 3\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"X: a\r\n b\r\n",
        b"X: \x00\r\n",
        b"Sm\x00uggled: a\r\n",
    ],
)
def test_ambiguous_framing_is_refused_and_the_line_closed(run_endpoint: Run, head: bytes) -> None:
    site = run_endpoint()

    with site.dial() as line:
        # were the framing misread, the second request would be answered, too
        line.say(HEAD + head + b"\r\n0\r\n\r\nGET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, headers, _ = line.hear()

        assert status in (400, 501)
        assert headers["connection"] == "close"
        assert line.is_closed()


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /ping\r\n\r\n", 505),
        (b"GET /ping HTTP/3.7\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\n\r\n", 400),
        (b"BREW /ping HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nExpect: cake\r\nContent-Length: 1\r\n\r\n", 417),
        (b"GET /ping HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
        (b"GET /ping HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
    ],
)
def test_what_is_not_a_usable_request_gets_its_status(
    run_endpoint: Run, said: bytes, status: int
) -> None:
    site = run_endpoint()

    with site.dial() as line:
        found, headers, answer = line.say(said).hear()

    assert (found, headers["connection"]) == (status, "close")
    assert answer["error"]["message"]


def test_headers_without_end_are_cut_off(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        line.say(b"GET /ping HTTP/1.1\r\nHost: localhost\r\nX: ")
        found = None
        for _ in range(200):
            try:
                line.say(b"y" * 1000)
            except ConnectionError:
                break
            time.sleep(0.001)
        found = line.hear()[0]

    assert found == 431


def test_requests_before_a_malformed_one_are_answered(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        line.post({"area": 1.0}).get("/ping").say(b"nonsense\r\n\r\n")
        statuses = [line.hear()[0] for _ in range(3)]

        assert statuses == [200, 200, 400]
        assert line.is_closed()


@pytest.mark.parametrize(
    "said",
    [
        b"GET /ping HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        HEAD + b"Content-Length: 100\r\n\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
)
def test_a_request_that_never_ends_is_ended(run_endpoint: Run, said: bytes) -> None:
    site = run_endpoint(limits=Limits(head_timeout_s=0.1, body_timeout_s=0.1))

    with site.dial() as slow, site.dial() as other:
        slow.say(said)
        assert other.get("/ping").hear()[0] == 200
        status, headers, _ = slow.hear()

        assert (status, headers["connection"]) == (408, "close")
        assert slow.is_closed()


def test_a_body_that_trickles_is_ended_although_it_never_stops(run_endpoint: Run) -> None:
    site = run_endpoint(limits=Limits(body_timeout_s=0.1, min_bytes_per_s=10_000, linger_s=0.1))

    with site.dial() as line:
        line.say(HEAD + b"Content-Length: 100000\r\n\r\n")
        began_at = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began_at < 10:
                line.say(b" ")
                time.sleep(0.005)

    assert time.monotonic() - began_at < 5


def test_silent_connections_are_closed_after_the_idle_time(run_endpoint: Run) -> None:
    site = run_endpoint(limits=Limits(idle_timeout_s=0.1))

    with site.dial() as silent, site.dial() as used:
        used.get("/ping").hear()

        assert silent.is_closed()
        assert used.is_closed()


def test_a_client_that_does_not_read_its_answers_is_cut_off(run_endpoint: Run) -> None:
    site = run_endpoint(limits=Limits(write_timeout_s=0.1, min_bytes_per_s=10**9))

    with site.dial() as line:
        line.line.settimeout(5)
        n_asked = 0
        with contextlib.suppress(ConnectionError):
            while n_asked < 100_000:
                line.get("/openapi.json")
                n_asked += 1

    assert n_asked < 100_000


def test_one_connection_too_many_is_told_so(run_endpoint: Run) -> None:
    site = run_endpoint(limits=Limits(max_connections=2))

    with site.dial() as first, site.dial() as second:
        first.get("/ping").hear()
        second.get("/ping").hear()
        with site.dial() as third:
            status, headers, _ = third.hear()
        assert (status, headers["retry-after"]) == (503, "1")
        assert first.get("/ping").hear()[0] == 200


def test_idle_connections_do_not_keep_others_out(
    run_endpoint: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loopwright.deploy.http._SILENT_S", 0.05)
    site = run_endpoint(limits=Limits(max_connections=2))

    with site.dial() as first, site.dial() as second:
        first.get("/ping").hear()
        second.get("/ping").hear()
        time.sleep(0.1)
        first.get("/ping").hear()  # so that the other has been idle for longer
        with site.dial() as third:
            assert third.get("/ping").hear()[0] == 200
            assert second.is_closed()
            assert first.get("/ping").hear()[0] == 200


def test_a_request_under_way_is_not_cut_off_for_another(
    run_endpoint: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loopwright.deploy.http._SILENT_S", 0.01)
    site = run_endpoint(limits=Limits(max_connections=2))

    with site.dial() as first, site.dial() as second:
        for line in (first, second):
            line.get("/ping").hear()
            line.say(b"GET /ping HTTP/1.1\r\nHost: loc")
        time.sleep(0.05)
        with site.dial() as third:
            assert third.hear()[0] == 503
        assert [line.say(b"alhost\r\n\r\n").hear()[0] for line in (first, second)] == [200, 200]


def test_too_many_waiting_requests_are_refused_at_once(run_endpoint: Run) -> None:
    queue: WorkQueue[Any] = WorkQueue(max_waiting=1)
    site = run_endpoint(queue=queue, model={"delay_s": 0.2})
    lines = [site.dial() for _ in range(12)]
    for line in lines:
        line.get("/ping").hear()

    for line in lines:
        line.post({"area": 1.0})
    answers = [line.hear() for line in lines]
    for line in lines:
        line.line.close()

    statuses = [status for status, _, _ in answers]
    assert set(statuses) == {200, 503}
    assert all(int(headers["retry-after"]) >= 1 for status, headers, _ in answers if status == 503)


def test_ping_is_answered_while_a_large_batch_is_worked_on(run_endpoint: Run) -> None:
    site = run_endpoint(model={"delay_s": 0.01})

    with site.dial() as batch, site.dial() as other:
        batch.post([{"area": 1.0}] * 1000)
        for _ in range(5):
            assert other.get("/ping").hear()[0] == 200
        single = other.post({"area": 1.0}).hear()
        batch.line.setblocking(False)
        with pytest.raises(BlockingIOError):
            batch.line.recv(1)  # the single row did not wait for the thousand
        batch.line.settimeout(10)
        many = batch.hear()

    assert single[0] == 200
    assert len(many[2]["predictions"]) == 1000


def test_clients_that_go_away_leave_nothing_behind(run_endpoint: Run) -> None:
    site = run_endpoint(model={"delay_s": 0.001})
    reset = struct.pack("ii", 1, 0)

    for number in range(100):
        line = site.dial()
        line.line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        said = HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(ROW), ROW)
        line.say(said[: 10 + number * 2] if number % 2 else said)
        line.line.close()

    with site.dial() as line:
        for _ in range(100):
            text = line.get("/metrics").hear()[2].decode()
            if "open_connections 1.0" in text and "buffered_bytes 0.0" in text:
                break
            time.sleep(0.02)
    assert "loopwright_endpoint_open_connections 1.0" in text
    assert "loopwright_endpoint_buffered_bytes 0.0" in text
    assert "loopwright_endpoint_waiting_requests 0.0" in text


def test_a_client_may_close_its_side_and_still_get_its_answer(run_endpoint: Run) -> None:
    site = run_endpoint(model={"delay_s": 0.02})

    with site.dial() as line:
        line.post({"area": 4.0})
        line.line.shutdown(socket.SHUT_WR)
        status, _, answer = line.hear()

        assert (status, answer["prediction"]) == (200, 8.0)
        assert line.is_closed()


def test_http_1_0_and_connection_close_end_the_line(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        assert line.say(b"GET /ping HTTP/1.0\r\n\r\n").hear()[1]["connection"] == "close"
        assert line.is_closed()
    with site.dial() as line:
        assert line.get("/ping", headers="Connection: close\r\n").hear()[1]["connection"] == "close"
        assert line.is_closed()


def test_an_upgrade_is_answered_in_http_1_1(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        # what Java's client says first; the body may come later
        said = HEAD + b"Content-Length: %d\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" % len(
            ROW
        )
        first = line.say(said + ROW).hear()
        line.say(said)
        line.say(ROW).get("/ping")
        second, third = line.hear(), line.hear()
        line.say(b"CONNECT elsewhere:80 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        last = line.hear()

        assert [status for status, _, _ in (first, second, third, last)] == [200, 200, 200, 404]
        assert first[2]["prediction"] == second[2]["prediction"] == 20.0
        assert line.is_closed()


def test_head_has_the_headers_of_get_and_no_body(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        body = line.get("/ping").hear()[2]
        _, headers = line.get("/ping", method="HEAD").head()
        status, _, again = line.get("/ping").hear()

    assert int(headers["content-length"]) == len(json.dumps(body, separators=(",", ":")))
    assert (status, again) == (200, body)


def test_every_answer_carries_date_and_safety_headers(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        for path in ("/ping", "/metrics", "/nowhere", "/%2e%2e/etc/passwd"):
            headers = line.get(path, headers="Accept: text/html\r\n").hear()[1]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert headers["date"].endswith("GMT")
            assert "html" not in headers["content-type"]
