from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from loopwright.deploy import Variant, read_capture
from loopwright.deploy.counts import ShadowCounts
from loopwright.deploy.message import Request
from loopwright.deploy.model import Served
from loopwright.deploy.shadow import Shadows

Run = Callable[..., Any]


def with_shadow(site: Any, **shadow: Any) -> dict[str, Any]:
    """Return what a desired state needs to serve a model with a shadow of other settings."""
    live, shade = (
        str(site.standin.write_bundle(site.folder / f"{name}.json", **settings))
        for name, settings in (("live", {"slope": 1.0}), ("shade", {"slope": 3.0} | shadow))
    )
    found = (
        Variant(name="live", bundle=live, version="a"),
        Variant(name="shade", bundle=shade, version="b", shadow=True),
    )
    return {"bundle": "", "version": "", "variants": found}


def shadows_in(site: Any, n_rows: int) -> pl.DataFrame:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        frame = read_capture(site.folder / "capture").shadows
        if frame.height >= n_rows:
            return frame
        time.sleep(0.005)
    raise AssertionError(read_capture(site.folder / "capture"))


def shown(site: Any, outcome: str) -> int:
    with site.dial() as line:
        text = line.get("/metrics").hear()[2].decode()
    found = [line for line in text.splitlines() if f'shade",outcome="{outcome}"' in line]
    return int(found[0].rsplit(" ", 1)[1]) if found else 0


def test_a_shadow_answers_the_same_rows_under_the_same_ids_and_is_captured_apart(
    run_endpoint: Run, site: Any
) -> None:
    run_endpoint(**with_shadow(site))

    with site.dial() as line:
        single = line.post({"area": 5.0}).hear()[2]
        batch = line.post([{"area": 1.0}, {"area": 2.0, "inference_id": "mine"}]).hear()[2]
    frame = shadows_in(site, 3)

    assert (single["variant"], single["prediction"]) == ("live", 5.0)
    ids = [single["inference_id"], *(each["inference_id"] for each in batch["predictions"])]
    assert frame["inference_id"].to_list() == ids
    assert frame["prediction"].to_list() == [15.0, 3.0, 6.0]
    assert set(frame["variant"]) == {"shade"}
    live = read_capture(site.folder / "capture").frame
    assert live["inference_id"].to_list() == ids
    assert live["prediction"].to_list() == [5.0, 1.0, 2.0]
    assert set(live["variant"]) == {"live"}


def test_a_shadow_that_fails_or_refuses_is_counted_and_nobody_notices(
    run_endpoint: Run, site: Any
) -> None:
    # on these rows the shadow's answer is no number
    run_endpoint(**with_shadow(site, slope=1e308, golden=float("inf")))

    with site.client() as client:
        answers = client.invoke([{"area": 1e3}, {"area": 1e4}])

    assert [each["prediction"] for each in answers] == [1e3, 1e4]
    end = time.monotonic() + 10
    while shown(site, "failed") < 1 and time.monotonic() < end:
        time.sleep(0.005)
    assert shown(site, "failed") == 1
    assert read_capture(site.folder / "capture").shadows.height == 0


def test_a_slow_shadow_holds_up_no_answer(run_endpoint: Run, site: Any) -> None:
    run_endpoint(**with_shadow(site, delay_s=0.4))

    with site.client() as client:
        began_at = time.monotonic()
        for _ in range(20):
            client.invoke([{"area": 1.0}])
        took_s = time.monotonic() - began_at

    # one row of the shadow takes 0.4 s
    assert took_s < 4.0
    assert shown(site, "answered") < 20


def test_what_a_shadow_has_no_time_for_is_dropped_and_counted() -> None:
    counts: dict[str, ShadowCounts] = {}
    shadows = Shadows(counts=counts, is_busy=lambda: True, max_waiting=3, max_bytes=1000)
    shade = Served(model=None, version="b", variant="shade", is_shadow=True)  # type: ignore[arg-type]

    for _ in range(10):
        shadows.offer(request(b"{}"), (shade,), None)
    shadows.close()

    assert counts["shade"].n_dropped == 7


def test_large_requests_do_not_pile_up_for_a_shadow() -> None:
    counts: dict[str, ShadowCounts] = {}
    shadows = Shadows(counts=counts, is_busy=lambda: True, max_waiting=100, max_bytes=1000)
    shade = Served(model=None, version="b", variant="shade", is_shadow=True)  # type: ignore[arg-type]

    for _ in range(5):
        shadows.offer(request(b"x" * 400), (shade,), None)
    shadows.close()

    assert counts["shade"].n_dropped == 3


def request(body: bytes) -> Request:
    headers = {b"content-type": b"application/json"}
    return Request(method=b"POST", target=b"/invocations", headers=headers, body=body)


@pytest.mark.parametrize("shadow_first", [True, False])
def test_a_shadow_can_become_the_live_variant(
    run_endpoint: Run, site: Any, shadow_first: bool
) -> None:
    listed = with_shadow(site)["variants"]
    run_endpoint(bundle="", version="", variants=listed[:: -1 if shadow_first else 1])
    promoted = Variant(name="shade", bundle=listed[1].bundle, version="b")

    site.desire(bundle="", version="", variants=(promoted,))
    site.wait()

    with site.client() as client:
        assert client.invoke([{"area": 2.0}])[0]["prediction"] == 6.0


@pytest.mark.parametrize("request_id", [None, "r-1"])
def test_a_shadow_is_asked_by_tensors_under_the_same_ids(
    site: Any, run_endpoint: Any, request_id: str | None
) -> None:
    run_endpoint(**with_shadow(site))
    tensors = [
        {"name": "area", "shape": [2], "datatype": "FP64", "data": [1.0, 2.0]},
        {"name": "city", "shape": [2], "datatype": "BYTES", "data": ["Bonn", None]},
    ]
    asked = {"inputs": tensors} | ({"id": request_id} if request_id else {})

    with site.dial() as line:
        status, _, answer = line.post(asked, path="/v2/models/slope/infer").hear()

    assert status == 200
    frame = shadows_in(site, 2)
    outputs = {each["name"]: each["data"] for each in answer["outputs"]}
    assert frame["inference_id"].to_list() == outputs["inference_id"]
    assert frame["prediction"].to_list() == [3.0, 6.0]
