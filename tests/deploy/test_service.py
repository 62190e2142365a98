from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loopwright.core.digest import digest_bytes
from loopwright.deploy import CaptureSettings, read_capture, read_labels
from loopwright.deploy.named_route import NAMED_ROUTES
from loopwright.deploy.service import ROUTES

Run = Callable[..., Any]


def send(line: Any, body: bytes, content_type: str, *, headers: str = "") -> Any:
    """Post to /invocations and return status and body."""
    head = (
        f"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
        f"{headers}Content-Length: {len(body)}\r\n\r\n"
    )
    status, _, answer = line.say(head.encode() + body).hear()
    return status, answer


def test_one_object_gets_one_answer(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, _, answer = line.post({"area": 10, "city": "Bonn"}).hear()

    assert status == 200
    assert set(answer) == {"prediction", "inference_id", "model_version"}
    assert (answer["prediction"], answer["model_version"]) == (20.0, "v1")
    assert len(answer["inference_id"]) == 32


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'[{"area": 1}, {"area": 2, "city": null}]', "application/json"),
        (b'{"instances": [{"area": 1}, {"area": 2}]}', "application/json; charset=utf-8"),
        (b'{"columns": ["city", "area"], "data": [["B", 1], [null, 2]]}', "APPLICATION/JSON"),
        (b'{"area": 1}\n\n{"area": 2}\n', "application/x-ndjson"),
        (b'{"area": 1}\r\n{"area": 2}', "application/jsonlines"),
        (b'city,area\r\n"B, the",1\r\n,2\r\n', "text/csv"),
        (b"\xef\xbb\xbfarea\n1\n2", "text/csv; header=present"),
    ],
)
def test_every_form_of_a_batch_gets_the_same_answers(
    run_endpoint: Run, body: bytes, content_type: str
) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, answer = send(line, body, content_type)

    assert status == 200
    assert answer["model_version"] == "v1"
    assert [each["prediction"] for each in answer["predictions"]] == [2.0, 4.0]
    assert len({each["inference_id"] for each in answer["predictions"]}) == 2


@pytest.mark.parametrize("n_rows", [64, 65, 100, 128, 129, 1_500])
def test_batches_of_several_turns_are_answered_row_by_row(run_endpoint: Run, n_rows: int) -> None:
    site = run_endpoint()
    body = json.dumps([{"area": area} for area in range(n_rows)]).encode()

    with site.dial() as line:
        status, answer = send(line, body, "application/json")

    assert status == 200
    assert [each["prediction"] for each in answer["predictions"]] == [
        2.0 * a for a in range(n_rows)
    ]
    assert len({each["inference_id"] for each in answer["predictions"]}) == n_rows


def test_a_list_of_one_gets_a_list(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        answer = line.post([{"area": 1}]).hear()[2]

    assert [each["prediction"] for each in answer["predictions"]] == [2.0]


@pytest.mark.parametrize("name", ["X-Inference-Id", "X-Amzn-SageMaker-Inference-Id"])
def test_inference_ids_come_from_header_or_row(run_endpoint: Run, name: str) -> None:
    site = run_endpoint()

    with site.dial() as line:
        single = line.post({"area": 1}, headers=f"{name}: one\r\n").hear()[2]
        rows = [{"area": 1}, {"area": 2, "inference_id": "own"}, {"area": 3}]
        batch = line.post(rows, headers=f"{name}: many\r\n").hear()[2]

    assert single["inference_id"] == "one"
    ids = [each["inference_id"] for each in batch["predictions"]]
    assert ids == ["many:0", "own", "many:2"]


@pytest.mark.parametrize(
    ("rows", "facts"),
    [
        ([{"area": 1}, {"area": "big"}], {"row": 1, "field": "area", "value": "big"}),
        ([{"area": None}], {"row": 0, "field": "area", "value": None, "expected": "a number"}),
        ([{"city": "Bonn"}], {"row": 0, "field": "area", "expected": "a number"}),
        ([{"area": True}], {"row": 0, "field": "area", "value": True}),
        ([{"area": 1, "city": 5}], {"row": 0, "field": "city", "expected": "text or null"}),
        ([{"area": 1}, [1, "Bonn"]], {"row": 1, "field": None, "expected": "an object"}),
        ([{"area": 1, "inference_id": ""}], {"row": 0, "field": "inference_id"}),
        ([{"area": 1, "inference_id": "a\nb"}], {"row": 0, "field": "inference_id"}),
        (
            [{"area": 1, "inference_id": "same"}, {"area": 2, "inference_id": "same"}],
            {"row": 1, "field": "inference_id", "value": "same"},
        ),
        ({"area": 1, "inference_id": 5}, {"row": 0, "field": "inference_id", "value": 5}),
        ({"area": [[[1]]]}, {"row": 0, "field": "area", "value": "[[[1]]]"}),
        ({"area": 10**400}, None),
        ([], {"expected": "rows"}),
        ({"columns": ["area", "area"], "data": [[1, 2]]}, {"field": "area"}),
        ({"columns": ["area"], "data": [[1], [1, 2]]}, {"row": 1, "expected": "1 values"}),
        ({"columns": ["area"], "data": [1]}, {"row": 0}),
        ({"columns": "area", "data": []}, {"expected": "lists"}),
    ],
)
def test_bad_rows_are_refused_by_name_and_nothing_is_predicted(
    run_endpoint: Run, rows: Any, facts: dict[str, Any] | None
) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, _, answer = line.post(rows).hear()
        still = line.get("/ping").hear()[0]

    assert (status, still) == (400, 200)
    assert answer["error"]["message"]
    for name, value in (facts or {}).items():
        assert answer["error"][name] == value, name
    assert read_capture(site.folder / "capture").frame.height == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"5",
        b"null",
        b'"text"',
        b"NaN",
        b'{"area": NaN}',
        b'{"area": Infinity}',
        b'{"area": -Infinity}',
        b'{"area": 1e999}',
        b'{"area": 1' + b"0" * 5000 + b"}",
        b'{"area": "\xff\xfe"}',
        b'{"area": "\\ud800"}',
        b"[" * 100_000,
        b'{"area":' * 100_000,
        b'{"area":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"area":' + b"[" * 500 + b"]" * 500 + b"}",
        b'[{"area":1}' + b"," * 3 + b"]",
        b"\x00" * 100,
    ],
)
def test_bodies_that_are_not_usable_json_are_refused(run_endpoint: Run, body: bytes) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, answer = send(line, body, "application/json")
        still = line.get("/ping").hear()[0]

    assert (status, still) == (400, 200)
    assert 0 < len(json.dumps(answer)) < 2000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"area\n",
        b"area,area\n1,2\n",
        b"area\n1,2\n",
        b'area\n"1\n',
        b"area\nnan\n",
        b"area\n1e999\n",
        b"area\n1_000\n",
        b"area\n\x00\n",
        b"\xff\xfearea\n1\n",
        b"city\nBonn\n",
        b"area\n" + b"9" * 200_000,
    ],
)
def test_bodies_that_are_not_usable_csv_are_refused(run_endpoint: Run, body: bytes) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, answer = send(line, body, "text/csv")

    assert status == 400
    assert answer["error"]["message"]


@pytest.mark.parametrize(
    "body", [b"[" + b"{}," * 500_000 + b"{}]", b'[{"area":1}' + b',{"area":1}' * 100_000 + b"]"]
)
def test_too_many_rows_are_refused_before_they_are_read(run_endpoint: Run, body: bytes) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, answer = send(line, body, "application/json")

    assert status == 413
    assert "more than 100000 rows" in answer["error"]["message"]


@pytest.mark.parametrize("path", ["/invocations", "/labels", "/v2/models/standin/infer"])
def test_packed_bodies_are_refused_as_such(run_endpoint: Run, path: str) -> None:
    site = run_endpoint()

    with site.dial() as line:
        line.post({"area": 1.0}, path=path, headers="Content-Encoding: gzip\r\n")
        status, _, answer = line.hear()
        line.post({"area": 1.0}, headers="Content-Encoding: identity\r\n")
        plain, _, _ = line.hear()

    assert (status, plain) == (415, 200)
    assert "packed as 'gzip'" in answer["error"]["message"]


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "text/html"],
)
def test_types_that_any_web_page_may_send_are_refused(run_endpoint: Run, content_type: str) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, answer = send(line, b'{"area": 1}', content_type)

    assert status == 415
    assert "application/json" in answer["error"]["message"]


def test_a_model_that_raises_fails_one_request_and_tells_no_secrets(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        failed = line.post({"area": 1, "city": "Boom"}).hear()
        fine = line.post({"area": 1}).hear()
        metrics = line.get("/metrics").hear()[2].decode()

    assert failed[0] == 500
    assert set(failed[2]["error"]) == {"message", "reference"}
    assert "ZeroDivision" not in json.dumps(failed[2])
    assert fine[0] == 200
    assert "loopwright_endpoint_model_errors_total 1" in metrics


def test_a_model_that_answers_nan_is_an_error_not_a_null(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, _, answer = line.post({"area": 1, "city": "Nowhere"}).hear()

    assert status == 500
    assert "prediction" not in answer
    assert read_capture(site.folder / "capture").frame.height == 0


def test_what_is_answered_is_captured(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        line.post({"area": 7, "city": "Bonn", "inference_id": "a", "extra": 1}).hear()
        line.post([{"area": 8, "inference_id": "b"}, {"area": 9, "inference_id": "c"}]).hear()

    frame = read_capture(site.folder / "capture").frame
    assert frame["inference_id"].to_list() == ["a", "b", "c"]
    assert frame["version"].unique().to_list() == ["v1"]
    assert frame["prediction"].to_list() == [14.0, 16.0, 18.0]
    assert frame.unnest("inputs")["area"].to_list() == [7.0, 8.0, 9.0]
    assert frame.unnest("inputs")["city"].to_list() == ["Bonn", None, None]


def test_predictions_go_on_when_capture_cannot(run_endpoint: Run) -> None:
    site = run_endpoint(capture=CaptureSettings(folder="/dev/null/capture"))

    with site.dial() as line:
        status, _, answer = line.post([{"area": 1}, {"area": 2}]).hear()
        metrics = line.get("/metrics").hear()[2].decode()

    assert (status, len(answer["predictions"])) == (200, 2)
    assert "loopwright_endpoint_dropped_captures 2.0" in metrics


def test_labels_are_on_the_disk_when_they_are_accepted(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        one = line.post({"inference_id": "a", "label": 1}, path="/labels").hear()
        two = line.post(
            [{"inference_id": "b", "label": 2.5}, {"inference_id": "c", "label": -1}],
            path="/labels",
        ).hear()

    assert (one[0], one[2]) == (202, {"accepted": 1})
    assert (two[0], two[2]) == (202, {"accepted": 2})
    frame = read_labels(site.folder / "labels").frame
    assert frame["label"].to_list() == [1.0, 2.5, -1.0]
    assert frame["source"].unique().to_list() == ["endpoint"]


@pytest.mark.parametrize(
    "labels",
    [
        {"inference_id": "a"},
        {"inference_id": "a", "label": None},
        {"inference_id": "a", "label": "high"},
        {"inference_id": "a", "label": True},
        {"inference_id": "a", "label": [1]},
        {"inference_id": "", "label": 1},
        {"inference_id": "a", "label": 1, "at": "1999-01-01"},
        [{"inference_id": "a", "label": 1}, 5],
        7,
    ],
)
def test_bad_labels_are_refused_and_none_of_them_kept(run_endpoint: Run, labels: Any) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, _, answer = line.post(labels, path="/labels").hear()

    assert status == 400
    assert answer["error"]["message"]
    assert not (site.folder / "labels").exists()


def test_labels_that_cannot_be_kept_are_not_accepted(run_endpoint: Run) -> None:
    site = run_endpoint()
    (site.folder / "labels").write_text("a file is in the way")

    with site.dial() as line:
        status, headers, answer = line.post(
            {"inference_id": "a", "label": 1}, path="/labels"
        ).hear()

    assert (status, headers["retry-after"]) == (503, "5")
    assert "could not be written" in answer["error"]["message"]


def test_unknown_routes_and_methods_are_told_what_there_is(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        nowhere = line.get("/models").hear()
        wrong = line.get("/invocations").hear()
        deleted = line.get("/", method="DELETE").hear()
        options = line.get("/invocations", method="OPTIONS").hear()
        with_query = line.get("/ping?full=1").hear()
        absolute = line.get("http://localhost/ping").hear()

    assert nowhere[0] == 404
    assert "/invocations" in nowhere[2]["error"]["message"]
    assert (wrong[0], wrong[1]["allow"]) == (405, "POST")
    assert (deleted[0], deleted[1]["allow"]) == (405, "GET, HEAD")
    assert options[0] == 405
    assert "access-control-allow-origin" not in options[1]
    assert (with_query[0], absolute[0]) == (200, 200)


def test_ping_home_and_openapi_describe_the_model(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        ping = line.get("/ping").hear()[2]
        home = line.get("/").hear()[2]
        document = line.get("/openapi.json").hear()[2]
        example = document["components"]["schemas"]["Row"]["example"]
        status = line.post(example).hear()[0]

    assert ping == {
        "status": "ok",
        "endpoint": "prices",
        "model": "slope",
        "model_version": "v1",
        "task": "regression",
        "generation": 1,
        "pid": os.getpid(),
    }
    assert {route["path"] for route in home["routes"]} == {path.decode() for path in ROUTES}
    described = {path.replace("/versions/{version}", "") for path in document["paths"]}
    assert described == {path.decode() for path in ROUTES} | set(NAMED_ROUTES)
    assert document["components"]["schemas"]["Row"]["required"] == ["area"]
    assert status == 200


def test_metrics_end_with_how_the_loop_is(run_endpoint: Run) -> None:
    site = run_endpoint()
    (site.folder / "loop.prom").write_text('loopwright_alarms_open{loop="shop",kind="data"} 1\n')

    with site.dial() as line:
        text = line.get("/metrics").hear()[2].decode()

    assert text.endswith('\nloopwright_alarms_open{loop="shop",kind="data"} 1\n')


def test_metrics_count_requests_rows_and_time(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        line.post({"area": 1}).hear()
        line.post([{"area": 1}, {"area": 2}]).hear()
        line.post({"area": "no"}).hear()
        line.get("/nowhere").hear()
        text = line.get("/metrics").hear()[2].decode()

    lines = text.splitlines()
    assert 'loopwright_endpoint_requests_total{route="/invocations",code="200"} 2' in lines
    assert 'loopwright_endpoint_requests_total{route="/invocations",code="400"} 1' in lines
    assert 'loopwright_endpoint_requests_total{route="other",code="404"} 1' in lines
    assert 'loopwright_endpoint_predictions_total{version="v1"} 3' in lines
    assert "loopwright_endpoint_captured_predictions 3.0" in lines
    assert "loopwright_endpoint_invocation_seconds_count 3" in lines
    assert 'loopwright_endpoint_invocation_seconds_bucket{le="+Inf"} 3' in lines


def test_every_route_needs_the_token_where_there_is_one(run_endpoint: Run) -> None:
    site = run_endpoint(token_digest=digest_bytes(b"secret"))
    wrong = ("", "Authorization: Bearer wrong\r\n", "Authorization: Basic secret\r\n",
             "Authorization: Bearer\r\n", "Authorization: Bearer secret\r\n" * 2)  # fmt: skip

    with site.dial() as line:
        for path in (*ROUTES, b"/nowhere"):
            for method in ("GET", "POST", "DELETE", "OPTIONS"):
                for headers in wrong:
                    status, answered, _ = line.get(
                        path.decode(), method=method, headers=headers
                    ).hear()
                    assert (status, answered["www-authenticate"]) == (401, "Bearer")
        right = "Authorization: Bearer secret\r\n"
        assert line.post({"area": 1}, headers=right).hear()[0] == 200
        assert line.get("/ping", headers="X: y\r\n" + right).hear()[0] == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8080", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:80", 200),
        ("prices.internal:80", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ],
)
def test_a_name_that_is_not_ours_is_refused_where_there_is_no_token(
    run_endpoint: Run, host: str, status: int
) -> None:
    site = run_endpoint(allowed_hosts=("Prices.internal",))

    with site.dial() as line:
        found = line.say(f"GET /ping HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).hear()[0]

    assert found == status


def test_nothing_from_a_request_becomes_a_path(run_endpoint: Run, tmp_path: Path) -> None:
    site = run_endpoint()
    before = sorted(path.name for path in site.folder.iterdir())
    evil = "../../../tmp/evil"

    with site.dial() as line:
        line.post({"area": 1, "inference_id": evil}).hear()
        line.post({"inference_id": evil, "label": 1}, path="/labels").hear()
        for path in ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//proc/self/root"):
            assert line.get(path).hear()[0] == 404

    after = sorted(path.name for path in site.folder.iterdir())
    assert set(after) - set(before) == {"capture", "labels"}


def test_columns_the_model_does_not_read_are_refused_where_that_is_asked_for(
    run_endpoint: Run,
) -> None:
    site = run_endpoint(unknown_columns="refuse")

    with site.dial() as line:
        known, _, _ = line.post({"area": 1, "inference_id": "a"}).hear()
        status, _, answer = line.post([{"area": 1}, {"area": 1, "aera": 2}]).hear()
        csv, _ = send(line, b"area,more\n1,2\n", "text/csv")

    assert (known, status, csv) == (200, 400, 400)
    assert (answer["error"]["row"], answer["error"]["field"]) == (1, "aera")


def test_the_policy_may_change_while_the_endpoint_runs(run_endpoint: Run) -> None:
    site = run_endpoint()
    row = {"area": 1, "more": 2}

    with site.dial() as line:
        before, _, _ = line.post(row).hear()
        site.desire(unknown_columns="refuse")
        site.wait()
        after, _, _ = line.post(row).hear()

    assert (before, after) == (200, 400)
