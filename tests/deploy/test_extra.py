"""What is asked to be added to answers is added, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.deploy import EndpointClient
from loopwright.deploy.extra import wanted_extras
from loopwright.deploy.message import Request

Run = Callable[..., Any]
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


def asked(target: str, attributes: str = "") -> tuple[str, ...]:
    headers = {ATTRIBUTES.lower().encode(): attributes.encode()} if attributes else {}
    return wanted_extras(Request(method=b"POST", target=target.encode(), headers=headers))


@pytest.mark.parametrize(
    ("target", "attributes", "names"),
    [
        ("/invocations", "", ()),
        ("/invocations?", "", ()),
        ("/invocations?with=", "", ()),
        ("/invocations?with=interval", "", ("interval",)),
        ("/invocations?with=interval,reasons", "", ("interval", "reasons")),
        ("/invocations?with=interval%2Creasons", "", ("interval", "reasons")),
        ("/invocations?with=interval&with=reasons", "", ("interval", "reasons")),
        ("/invocations", "with=interval", ("interval",)),
        ("/invocations", "trace=7; With = interval, reasons", ("interval", "reasons")),
        ("/invocations", "c000b4f9-df62-4c85-a0bf-7c525f9104a4", ()),
    ],
)
def test_names_come_from_the_query_or_the_attributes(
    target: str, attributes: str, names: tuple[str, ...]
) -> None:
    assert asked(target, attributes) == names


def test_another_key_in_the_query_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="The query has 'wit'"):
        asked("/invocations?wit=interval")


def test_a_flood_of_names_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="17 things"):
        asked("/invocations?with=" + ",".join("abcdefghijklmnopq"))


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/invocations?with=double", ""), ("/invocations", f"{ATTRIBUTES}: with=double\r\n")],
)
def test_what_is_asked_for_is_added_to_every_answer(
    run_endpoint: Run, path: str, headers: str
) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, _, answer = line.post([{"area": 1}, {"area": 3}], path=path, headers=headers).hear()

    assert status == 200
    assert [each["double"] for each in answer["predictions"]] == [4.0, 12.0]


def test_what_the_model_cannot_add_is_refused_and_nothing_is_predicted(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, _, answer = line.post({"area": 1}, path="/invocations?with=interval").hear()
        metrics = line.get("/metrics").hear()[2].decode()

    assert status == 400
    assert answer["error"]["field"] == "with"
    assert "loopwright_endpoint_predictions_total{" not in metrics


def test_the_client_asks_for_extras(run_endpoint: Run) -> None:
    site = run_endpoint()

    with EndpointClient("127.0.0.1", site.port) as client:
        answers = client.invoke_many([{"area": 2}, {"area": 3}], extras=("double",), batch_rows=1)

    assert [each["double"] for each in answers] == [8.0, 12.0]
