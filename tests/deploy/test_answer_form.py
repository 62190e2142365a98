"""Answers come in the form that a request accepts."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from loopwright.deploy.answer_form import find_form
from loopwright.deploy.model import Served

Run = Callable[..., Any]


def ask(line: Any, body: bytes, *, accept: str, content_type: str = "text/csv") -> Any:
    head = (
        f"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
        f"Accept: {accept}\r\nX-Inference-Id: base\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return line.say(head.encode() + body).hear()


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (b"", b"application/json"),
        (b"*/*", b"application/json"),
        (b"text/html, application/xhtml+xml, */*;q=0.8", b"application/json"),
        (b"Text/CSV", b"text/csv; charset=utf-8; header=absent"),
        (b"text/csv; header=present", b"text/csv; charset=utf-8; header=present"),
        (b"application/json;q=0.5, application/jsonlines", b"application/jsonlines"),
        (b"application/json;q=0, text/csv;q=0.1", b"text/csv; charset=utf-8; header=absent"),
        (b"application/json;q=x", None),
        (b"image/png", None),
    ],
)
def test_the_form_liked_best_is_found(accept: bytes, media_type: bytes | None) -> None:
    form = find_form(accept)

    assert (form and form.media_type) == media_type


def test_rows_without_header_are_answered_as_sagemaker_does(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, headers, body = ask(line, b"10,Bonn\n20,\n", accept="text/csv")

    assert (status, body) == (200, b"20.0\n40.0\n")
    assert headers["content-type"].startswith("text/csv")
    assert (headers["x-inference-id"], headers["x-model-version"]) == ("base", "v1")


def test_json_lines_carry_id_and_version(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        _, _, body = ask(line, b"area\n1\n2\n", accept="application/jsonlines")

    assert [json.loads(each) for each in body.splitlines()] == [
        {"prediction": 2.0, "inference_id": "base:0", "model_version": "v1"},
        {"prediction": 4.0, "inference_id": "base:1", "model_version": "v1"},
    ]


def test_what_cannot_be_sent_is_refused_with_what_can(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, _, answer = ask(line, b"area\n1\n", accept="image/png")

    assert status == 406
    assert "text/csv" in answer["error"]["message"]


def test_csv_has_probabilities_extras_and_errors_in_columns(standin: ModuleType) -> None:
    made = standin.SlopeModel(slope=1.0, golden=10.0, delay_s=0.0, task="multiclass")
    made.classes = ["a", "b, c"]
    form = find_form(b"text/csv;header=present")
    assert form is not None

    body = form.write(
        [
            {"prediction": "a", "probabilities": {"a": 0.75, "b, c": 0.25}, "interval": [1, 2]},
            {"error": {"message": "no"}, "inference_id": "x"},
        ],
        Served(model=made, version=1),
    )

    assert body.decode().splitlines() == [
        'prediction,probability_a,"probability_b, c",interval,error',
        'a,0.75,0.25,"[1,2]",',
        ",,,,no",
    ]


@pytest.mark.parametrize(
    ("body", "content_type", "areas"),
    [
        (b"10,Bonn\n", "text/csv", [10]),
        (b"10,Bonn\n11,\n", "text/csv; header=absent", [10, 11]),
        (b"area,city\n10,Bonn\n", "text/csv; header=present", [10]),
        (b"city,area\nBonn,10\n", "text/csv", [10]),
    ],
)
def test_csv_is_read_with_and_without_header(
    run_endpoint: Run, body: bytes, content_type: str, areas: list[int]
) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, _, answer = ask(line, body, accept="*/*", content_type=content_type)

    assert status == 200
    assert [each["prediction"] for each in answer["predictions"]] == [2.0 * a for a in areas]


@pytest.mark.parametrize("body", [b"Area,City\n10,Bonn\n", b"10\n", b",Bonn\n"])
def test_a_first_line_that_may_be_names_is_not_taken_for_a_row(
    run_endpoint: Run, body: bytes
) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, _, _ = ask(line, body, accept="*/*")

    assert status == 400
