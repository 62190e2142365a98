from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from loopwright.core.errors import BackendError
from loopwright.deploy import read_actual, read_capture, read_labels, wait_until_serving


def test_the_process_serves_and_says_so(site: Any, start_process: Callable[..., Any]) -> None:
    site.desire(slope=2.0)

    endpoint = start_process()

    actual = read_actual(site.folder)
    assert actual is not None
    assert actual.pid == endpoint.process.pid
    assert (actual.version, actual.generation, actual.error) == ("v1", 1, None)
    with site.client() as client:
        assert client.invoke([{"area": 10.0}])[0]["prediction"] == 20.0


def test_what_was_answered_is_captured_even_after_kill_9(
    site: Any, start_process: Callable[..., Any]
) -> None:
    site.desire()
    endpoint = start_process()
    answered: list[str] = []
    is_busy = threading.Event()

    def ask() -> None:
        with site.client() as client:
            try:
                while True:
                    for answer in client.invoke([{"area": 1.0}, {"area": 2.0}]):
                        answered.append(answer["inference_id"])
                    if len(answered) > 200:
                        is_busy.set()
            except BackendError:
                is_busy.set()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert is_busy.wait(20)
    endpoint.kill()
    for thread in threads:
        thread.join(20)

    page = read_capture(site.folder / "capture")
    assert len(answered) > 200
    assert set(answered) <= set(page.frame["inference_id"])
    assert page.n_repeated == 0


def test_labels_survive_kill_9_and_the_next_process_goes_on(
    site: Any, start_process: Callable[..., Any]
) -> None:
    site.desire()
    endpoint = start_process()
    with site.client() as client:
        client.send_labels({"a": 1.5, "b": 2})
    endpoint.kill()

    start_process()
    with site.client() as client:
        client.send_labels({"c": 3.0})

    frame = read_labels(site.folder / "labels").frame
    assert frame["inference_id"].to_list() == ["a", "b", "c"]
    assert frame["label"].to_list() == [1.5, 2.0, 3.0]


def test_sigterm_finishes_what_is_under_way_and_exits_0(
    site: Any, start_process: Callable[..., Any]
) -> None:
    site.desire(model={"delay_s": 0.05})
    endpoint = start_process()
    with site.dial() as busy, site.dial() as idle:
        busy.post([{"area": float(area)} for area in range(200)])
        # some turns later it is certainly under way
        idle.get("/ping").hear()

        endpoint.process.terminate()
        status, headers, answer = busy.hear()

        assert status == 200
        assert [each["prediction"] for each in answer["predictions"]][-1] == 398.0
        assert headers["connection"] == "close"
        assert busy.is_closed()
        assert idle.is_closed()
    assert endpoint.process.wait(5) == 0
    assert read_capture(site.folder / "capture").frame.height == 200


def test_a_request_on_its_way_while_the_endpoint_leaves_is_answered(
    site: Any, start_process: Callable[..., Any]
) -> None:
    site.desire()
    endpoint = start_process()
    with site.dial() as line:
        line.get("/ping").hear()
        endpoint.process.terminate()
        line.post({"area": 1.0})
        status, headers, _ = line.hear()
    assert (status, headers.get("connection")) in ((200, None), (200, "close"))
    assert endpoint.process.wait(5) == 0


def test_a_port_in_use_ends_the_process_with_code_2_and_says_what_to_do(
    site: Any, start_process: Callable[..., Any]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        site.desire(port=port)

        endpoint = start_process(ready=False)

        assert endpoint.process.wait(20) == 2
    actual = read_actual(site.folder)
    assert actual is not None
    assert actual.error is not None
    assert f"port {port}: another program listens there" in actual.error
    assert "deploy.port" in endpoint.log()
    with pytest.raises(BackendError, match="another program listens there"):
        site.wait(endpoint.is_alive)


def test_a_broken_bundle_at_the_start_ends_the_process_with_the_reason(
    site: Any, start_process: Callable[..., Any]
) -> None:
    site.desire(model={"golden": -1.0})

    endpoint = start_process(ready=False)

    with pytest.raises(BackendError, match=r"golden row gives 20\.0, not -1\.0.*serves nothing"):
        site.wait(endpoint.is_alive)
    assert endpoint.process.wait(10) == 2


def test_a_second_process_over_one_folder_gives_way(
    site: Any, start_process: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.desire()
    first = start_process()
    second = start_process(ready=False)

    assert second.process.wait(20) == 1

    assert "Another process serves" in second.log()
    assert first.is_alive()
    actual = read_actual(site.folder)
    assert actual is not None
    assert actual.pid == first.process.pid


def test_an_error_left_by_an_earlier_process_is_not_taken_for_the_new_one(
    site: Any, start_process: Callable[..., Any]
) -> None:
    site.desire()
    first = start_process()
    first.kill()
    actual = read_actual(site.folder)
    assert actual is not None
    stale = msgspec.structs.replace(actual, error="The port was taken.", error_generation=1)
    (site.folder / "actual.json").write_bytes(msgspec.json.encode(stale))

    second = start_process()

    assert read_actual(site.folder).pid == second.process.pid  # type: ignore[union-attr]


def test_waiting_ends_when_the_process_does(site: Any) -> None:
    site.desire()

    with pytest.raises(BackendError, match="ended before it served generation 1"):
        wait_until_serving(site.folder, generation=1, timeout_s=20, is_alive=lambda: False)


def test_the_process_loads_neither_tables_nor_numbers_for_itself() -> None:
    # the model brings what it needs; a heavy import here would slow every start and restart
    code = (
        "import sys, loopwright.deploy.server; "
        "print({'polars', 'numpy', 'sqlalchemy', 'http.client'} & set(sys.modules))"
    )

    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert ran.stdout == "set()\n", ran.stderr
