"""Requests that are answered later, over HTTP and across the end of a process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from loopwright.deploy import read_capture
from loopwright.deploy.invocation_queue import InvocationQueue, QueueLimits

Run = Callable[..., Any]
PATH = "/async-invocations"


def answer_of(line: Any, location: str) -> tuple[int, dict[str, str], Any]:
    """Ask until there is an answer."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        status, headers, answer = line.get(location).hear()
        if status != 202:
            return status, headers, answer
        time.sleep(0.01)
    raise AssertionError("no answer came")


def test_a_request_is_taken_in_and_answered_later(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        header = "X-Inference-Id: q1\r\nAccept: application/jsonlines\r\n"
        rows = [{"area": 1}, {"area": "x"}]
        status, headers, taken = line.post(rows, path=f"{PATH}?errors=row", headers=header).hear()
        found, _, body = answer_of(line, headers["location"])

    assert (status, found) == (202, 200)
    assert taken["location"] == headers["location"] == f"{PATH}/{taken['id']}"
    good, bad = (json.loads(each) for each in body.splitlines())
    assert (good["prediction"], good["inference_id"]) == (2.0, "q1:0")
    assert bad["error"]["field"] == "area"
    assert read_capture(site.folder / "capture").frame["inference_id"].to_list() == ["q1:0"]


def test_a_refusal_is_the_answer_too(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        _, headers, _ = line.post({"area": "x"}, path=PATH).hear()
        status, _, answer = answer_of(line, headers["location"])

    assert (status, answer["error"]["field"]) == (400, "area")


def test_a_failing_model_is_the_answer_too(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        _, headers, _ = line.post({"area": 1, "city": "Boom"}, path=PATH).hear()
        status, _, answer = answer_of(line, headers["location"])
        after, _, _ = line.post({"area": 1}).hear()

    assert status == 500
    assert "reference" in answer["error"]
    assert after == 200


def test_an_id_is_answered_once_and_for_one_body_only(run_endpoint: Run) -> None:
    site = run_endpoint()
    header = "X-Inference-Id: q1\r\n"

    with site.dial() as line:
        first = line.post({"area": 1}, path=PATH, headers=header).hear()[2]
        same = line.post({"area": 1}, path=PATH, headers=header).hear()[2]
        answer_of(line, first["location"])
        status, _, answer = line.post({"area": 2}, path=PATH, headers=header).hear()

    assert first == same
    assert (status, answer["error"]["value"]) == (409, "q1")
    assert len(read_capture(site.folder / "capture").frame) == 1


def test_an_unknown_id_and_a_bad_inference_id_are_refused(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        unknown, _, _ = line.get(f"{PATH}/{'0' * 32}").hear()
        header = f"X-Inference-Id: {'x' * 300}\r\n"
        bad, _, _ = line.post({"area": 1}, path=PATH, headers=header).hear()

    assert (unknown, bad) == (404, 400)


def test_a_full_queue_says_when_to_come_again(
    run_endpoint: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InvocationQueue, "claim", lambda _self: None)
    site = run_endpoint()
    default = QueueLimits.__init__.__kwdefaults__ or {}
    assert default.get("max_waiting", 1_000) == 1_000
    folder = site.folder / "async" / "waiting"
    folder.mkdir(parents=True)
    for number in range(1_000):
        (folder / f"{number:032x}.request").touch()

    with site.dial() as line:
        status, headers, _ = line.post({"area": 1}, path=PATH).hear()

    assert (status, headers["retry-after"]) == (429, "1")


def test_requests_survive_the_end_of_the_process(site: Any, start_process: Run) -> None:
    site.desire(model={"delay_s": 0.05})
    process = start_process()
    with site.dial() as line:
        places = [
            line.post({"area": area}, path=PATH, headers=f"X-Inference-Id: r{area}\r\n").hear()[2]
            for area in range(12)
        ]
        answer_of(line, places[1]["location"])

    process.kill()
    start_process()
    with site.dial() as line:
        answers = [answer_of(line, place["location"])[2] for place in places]

    assert [each["prediction"] for each in answers] == [2.0 * area for area in range(12)]
    assert [each["inference_id"] for each in answers] == [f"r{area}" for area in range(12)]
    assert len(read_capture(site.folder / "capture").frame) == 12


def test_the_backlog_is_told_in_the_metrics(run_endpoint: Run) -> None:
    site = run_endpoint(model={"delay_s": 0.3})

    with site.dial() as line:
        for _ in range(3):
            assert line.post({"area": 1}, path=PATH).hear()[0] == 202
        text = line.get("/metrics").hear()[2].decode()

    values = dict(row.rsplit(" ", 1) for row in text.splitlines() if not row.startswith("#"))
    assert 1 <= float(values["loopwright_endpoint_postponed_requests"]) <= 3
    assert 0 <= float(values["loopwright_endpoint_postponed_oldest_seconds"]) < 20
