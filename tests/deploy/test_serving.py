from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from loopwright.core.digest import digest_file
from loopwright.core.errors import BackendError
from loopwright.deploy import CaptureSettings, read_actual, read_capture

Run = Callable[..., Any]


def test_models_are_switched_under_load_without_a_failed_or_mixed_answer(run_endpoint: Run) -> None:
    site = run_endpoint(slope=1.0)
    slopes = {f"v{number}": float(number) for number in range(1, 8)}
    is_over = threading.Event()
    faults: list[Any] = []
    seen: list[str] = []

    def ask(seed: int) -> None:
        with site.client() as client:
            while not is_over.is_set():
                rows = [{"area": float(seed + number)} for number in range(1 + seed % 3)]
                try:
                    answers = client.invoke(rows)
                except Exception as error:
                    faults.append(error)
                    return
                versions = {answer["model_version"] for answer in answers}
                for row, answer in zip(rows, answers, strict=True):
                    if answer["prediction"] != slopes[answer["model_version"]] * row["area"]:
                        faults.append(answer)
                if len(versions) != 1:
                    faults.append(versions)
                seen.extend(versions)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(1, 7)]
    for thread in threads:
        thread.start()
    for number in range(2, 8):
        site.desire(slope=float(number))
        site.wait()
        # whoever asks after the wait is over is answered by the new version
        with site.client() as client:
            assert client.invoke([{"area": 1.0}])[0]["model_version"] == f"v{number}"
    is_over.set()
    for thread in threads:
        thread.join(10)

    assert faults == []
    assert set(seen) >= {"v1", "v7"}
    captured = read_capture(site.folder / "capture").frame
    versions = captured["version"].to_list()
    assert sorted(versions, key=lambda version: int(version[1:])) == versions
    for version, area, prediction in zip(
        versions, captured["inputs"].struct.field("area"), captured["prediction"], strict=True
    ):
        assert prediction == slopes[version] * area


def test_a_batch_under_way_ends_with_the_model_it_began_with(run_endpoint: Run) -> None:
    site = run_endpoint(slope=1.0, model={"delay_s": 0.03})

    with site.dial() as batch, site.dial() as other:
        batch.post([{"area": 1.0}] * 300)
        other.get("/ping").hear()
        site.desire(slope=5.0)
        site.wait()
        newer = other.post({"area": 1.0}).hear()[2]
        older = batch.hear()[2]

    assert (newer["model_version"], newer["prediction"]) == ("v2", 5.0)
    assert older["model_version"] == "v1"
    assert {each["prediction"] for each in older["predictions"]} == {1.0}


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"golden": -1.0}},
        {"bundle_digest": "sha256:" + "0" * 64},
        {"host": "127.0.0.2"},
        {"port": 1},
        {"capture": CaptureSettings(folder="x", share=7.0)},
    ],
)
def test_a_change_that_cannot_be_carried_out_keeps_the_old_model(
    run_endpoint: Run, change: dict[str, Any]
) -> None:
    site = run_endpoint(slope=2.0)
    site.desire(slope=9.0, **change)

    with pytest.raises(BackendError, match="It still serves version v1"):
        site.wait()

    with site.client() as client:
        answer = client.invoke([{"area": 1.0}])[0]
    actual = read_actual(site.folder)
    assert (answer["prediction"], answer["model_version"]) == (2.0, "v1")
    assert actual is not None
    assert (actual.version, actual.generation, actual.error_generation) == ("v1", 1, 2)


@pytest.mark.parametrize("name", ["garbage", "missing", "."])
def test_a_bundle_that_is_garbage_or_missing_keeps_the_old_model(
    run_endpoint: Run, name: str
) -> None:
    site = run_endpoint(slope=2.0)
    (site.folder / "garbage").write_bytes(b"\x1f\x8b not a bundle")
    site.desire(slope=9.0, bundle=str(site.folder / name))

    with pytest.raises(BackendError, match="is not a model"):
        site.wait()

    with site.client() as client:
        assert client.invoke([{"area": 1.0}])[0]["model_version"] == "v1"


def test_a_bundle_that_is_a_pipe_does_not_hold_up_later_changes(run_endpoint: Run) -> None:
    site = run_endpoint(slope=2.0)
    pipe = site.folder / "pipe"
    os.mkfifo(pipe)
    site.desire(slope=9.0, bundle=str(pipe))
    with pytest.raises(BackendError, match="is not a file"):
        site.wait()

    site.desire(slope=3.0)
    site.wait()

    with site.client() as client:
        assert client.invoke([{"area": 1.0}])[0]["prediction"] == 3.0


def test_a_desired_file_that_cannot_be_read_changes_nothing(run_endpoint: Run) -> None:
    site = run_endpoint(slope=2.0)
    path = site.folder / "desired.json"
    good = path.read_bytes()

    path.write_bytes(b"{")
    ill = site.until(lambda actual: actual.error is not None)
    with site.client() as client:
        version = client.invoke([{"area": 1.0}])[0]["model_version"]
    path.write_bytes(good)
    healed = site.until(lambda actual: actual.error is None)

    assert "desired.json cannot be used" in ill.error
    assert ill.error_generation is None
    assert (version, healed.version) == ("v1", "v1")


def test_a_better_change_after_a_broken_one_is_carried_out(run_endpoint: Run) -> None:
    site = run_endpoint(slope=2.0)
    site.desire(slope=9.0, model={"golden": 0.0})
    with pytest.raises(BackendError):
        site.wait()

    site.desire(slope=3.0)
    actual = site.wait()

    assert (actual.version, actual.error) == ("v3", None)
    with site.client() as client:
        assert client.invoke([{"area": 1.0}])[0]["prediction"] == 3.0


def test_a_bundle_with_the_right_digest_is_served(run_endpoint: Run, site: Any) -> None:
    run_endpoint(slope=2.0)
    path = site.standin.write_bundle(site.folder / "v2.json", slope=4.0)

    site.desire(slope=4.0, bundle_digest=digest_file(path))
    actual = site.wait()

    assert actual.version == "v2"


def test_the_port_that_was_chosen_may_be_written_down(run_endpoint: Run) -> None:
    site = run_endpoint()

    site.desire(slope=3.0, port=site.port)
    by_name = site.wait()
    site.desire(slope=4.0, port=0)
    any_port = site.wait()

    assert (by_name.version, any_port.version) == ("v2", "v3")
    assert by_name.port == any_port.port == site.port


def test_capture_share_and_folder_can_change(run_endpoint: Run) -> None:
    site = run_endpoint()
    elsewhere = site.folder / "elsewhere"

    with site.client() as client:
        client.invoke([{"area": 1.0}])
        site.desire(capture=CaptureSettings(folder=str(elsewhere), share=0.5))
        site.wait()
        client.invoke_many([{"area": 1.0}] * 400, batch_rows=50)
        site.desire(capture=None)
        site.wait()
        client.invoke([{"area": 1.0}])

    assert read_capture(site.folder / "capture").frame.height == 1
    assert 140 < read_capture(elsewhere).frame.height < 260


def test_an_endpoint_told_to_stop_while_it_loads_leaves_at_once(
    site: Any, start_process: Callable[..., Any]
) -> None:
    site.desire(model={"opening_s": 60.0})
    endpoint = start_process(ready=False)
    site.until(lambda actual: actual.pid == endpoint.process.pid)

    assert endpoint.leave() == 0


def test_sighup_has_the_process_look_at_once(
    site: Any, start_process: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_WATCH_S", "600")
    site.desire(slope=1.0)
    endpoint = start_process()
    site.desire(slope=2.0)

    endpoint.process.send_signal(signal.SIGHUP)

    assert site.wait().version == "v2"
