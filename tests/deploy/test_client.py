from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from loopwright.core.digest import digest_bytes
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.deploy import EndpointClient, free_port, read_capture, read_labels
from loopwright.deploy.limits import Limits

Run = Callable[..., Any]


def test_answers_come_in_the_order_of_the_rows_whatever_the_batches(run_endpoint: Run) -> None:
    site = run_endpoint()
    rows = [{"area": float(area), "city": None} for area in range(25)]
    ids = [f"id-{number}" for number in range(25)]

    with site.client() as client:
        answers = client.invoke_many(rows, inference_ids=ids, batch_rows=7)

    assert [answer["prediction"] for answer in answers] == [2.0 * row["area"] for row in rows]
    assert [answer["inference_id"] for answer in answers] == ids
    assert {answer["model_version"] for answer in answers} == {"v1"}
    assert "inference_id" not in rows[0]


def test_rows_of_numpy_scalars_are_sent_as_numbers(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.client() as client:
        (answer,) = client.invoke([{"area": np.float64(1.5)}])

    assert answer["prediction"] == 3.0


def test_a_refused_row_comes_back_as_the_error_the_signature_raised(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.client() as client:
        with pytest.raises(InvalidInputError, match="'area' of row 1 is 'big'") as caught:
            client.invoke([{"area": 1}, {"area": "big"}])
        assert client.ping()["status"] == "ok"

    facts = caught.value.facts
    assert (facts["row"], facts["field"], facts["value"]) == (1, "area", "big")


def test_a_failing_model_is_a_backend_error_that_trying_again_does_not_help(
    run_endpoint: Run,
) -> None:
    site = run_endpoint()

    with site.client() as client, pytest.raises(BackendError, match="its log says why") as caught:
        client.invoke([{"area": 1, "city": "Boom"}])

    assert not caught.value.retryable
    assert caught.value.facts["status"] == 500


def test_labels_are_sent(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.client() as client:
        n_sent = client.send_labels({"a": 1.0, "b": 2})

    assert n_sent == 2
    assert read_labels(site.folder / "labels").frame["label"].to_list() == [1.0, 2.0]


def test_the_token_is_sent(run_endpoint: Run) -> None:
    site = run_endpoint(token_digest=digest_bytes(b"secret"))

    with site.client(token="secret") as client:
        assert client.ping()["status"] == "ok"
    with site.client() as client, pytest.raises(BackendError, match="needs its token"):
        client.ping()


def test_a_connection_that_was_closed_meanwhile_is_opened_again(run_endpoint: Run) -> None:
    site = run_endpoint(limits=Limits(idle_timeout_s=0.05))

    with site.client() as client:
        client.ping()
        other = site.dial()
        assert other.is_closed()  # and so is the client's, which is older
        answers = client.invoke([{"area": 1.0}])
        other.line.close()

    assert answers[0]["prediction"] == 2.0
    assert read_capture(site.folder / "capture").frame.height == 1


def test_an_endpoint_that_is_not_there_may_be_tried_again() -> None:
    client = EndpointClient("127.0.0.1", free_port())

    with pytest.raises(BackendError, match="did not answer") as caught:
        client.ping()

    assert caught.value.retryable


def test_something_that_is_no_endpoint_is_told_apart() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer() -> None:
            line, _ = listener.accept()
            with line:
                line.recv(1000)
                line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")

        thread = threading.Thread(target=answer)
        thread.start()
        with (
            EndpointClient("127.0.0.1", listener.getsockname()[1]) as client,
            pytest.raises(BackendError, match="not JSON"),
        ):
            client.ping()
        thread.join(10)


def test_a_url_names_an_endpoint(run_endpoint: Run) -> None:
    site = run_endpoint()

    with EndpointClient.at(f"http://127.0.0.1:{site.port}") as client:
        assert client.ping()["endpoint"] == "prices"
    for url in ("https://127.0.0.1:1", "127.0.0.1:80", "http://127.0.0.1", "http://a:99999", ""):
        with pytest.raises(InvalidInputError, match="not the address of an endpoint"):
            EndpointClient.at(url)


def test_ids_and_rows_must_be_as_many() -> None:
    client = EndpointClient("127.0.0.1", 1)

    with pytest.raises(InvalidInputError, match="2 rows but 1 inference ids"):
        client.invoke([{}, {}], inference_ids=["a"])
