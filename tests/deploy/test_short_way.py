"""The short way and the long one: the same answers, the same captured lines."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.kernel import find_kernel
from loopwright.deploy.capture import CaptureLog
from loopwright.deploy.message import Request, Response
from loopwright.deploy.model import Served
from loopwright.deploy.short_way import find_short_way
from loopwright.deploy.whole_way import find_whole_way
from loopwright.problem import Task
from loopwright.train import (
    ServingModel,
)
from loopwright.train.calibration import Calibration

_spec = importlib.util.spec_from_file_location(
    "small_model", Path(__file__).with_name("small_model.py")
)
assert _spec is not None
assert _spec.loader is not None
small: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(small)
asked, captured, long_answer = small.asked, small.captured, small.long_answer
model_of, table = small.model_of, small.table

pytestmark = pytest.mark.skipif(find_kernel() is None, reason="there is no kernel")

CASES: list[tuple[Task, str]] = [
    ("regression", "linear-learner"),
    ("binary", "lightgbm"),
    ("multiclass", "decision-tree"),
    ("binary", "knn"),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def model(request: Any, tmp_path_factory: pytest.TempPathFactory) -> ServingModel:
    task, algorithm = request.param
    return model_of(task, algorithm, tmp_path_factory.mktemp("models"))


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[tuple[CaptureLog, CaptureLog]]:
    both = CaptureLog(tmp_path / "short"), CaptureLog(tmp_path / "long")
    yield both
    for log in both:
        log.close()


def short_way(
    served: Served, capture: CaptureLog | None, *, whole: bool = False
) -> Callable[[Request], Response | None]:
    """Return what answers by the short way; over the whole way, or without it."""
    over = find_whole_way(served, capture) if whole else None
    assert whole == (over is not None)
    way = find_short_way(served, capture, whole=over)
    assert way is not None

    def answer(request: Request) -> Response | None:
        found = way.answer(request)
        return None if found is None else found[0]

    return answer


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["Bonn", "Ulm", "nowhere", " Ulm ", "", "12", "true"]),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
)
USUAL = st.fixed_dictionaries(
    {
        "size": st.floats(0, 1e6) | st.none(),
        "town": st.sampled_from(["Bonn", "Köln", "Ulm", "Rom"]),
        "has_garden": st.booleans(),
        "rooms": st.integers(0, 9),
    }
)
ANY = st.dictionaries(
    st.sampled_from(["size", "town", "has_garden", "rooms", "target", "else", "inference_id"]),
    VALUES,
)


@given(row=st.one_of(USUAL, ANY, VALUES))
@settings(max_examples=120, deadline=None)
def test_what_goes_the_short_way_is_answered_as_by_the_long_one(
    model: ServingModel, row: Any
) -> None:
    served = Served(model=model, version="v1")
    request = asked(json.dumps(row).encode())

    short = short_way(served, None)(request)

    if short is not None:
        assert short == long_answer(request, served, None)


@given(row=USUAL)
@settings(max_examples=40, deadline=None)
def test_a_usual_row_goes_the_short_way(model: ServingModel, row: Any) -> None:
    served = Served(model=model, version="v1")

    short = short_way(served, None)(asked(json.dumps(row).encode()))

    assert short is not None
    assert short.status == 200


def test_both_ways_capture_the_same(
    model: ServingModel, logs: tuple[CaptureLog, CaptureLog]
) -> None:
    served = Served(model=model, version="v1")
    way = short_way(served, logs[0])
    rows = table(model.task).drop("target").head(30).to_dicts()

    for row in rows:
        request = asked(json.dumps(row).encode())
        assert way(request) == long_answer(request, served, logs[1])

    short, long = (captured(log) for log in logs)
    assert len(short) == 30
    assert short == long


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"size": 1e999, "town": "Ulm", "has_garden": true, "rooms": 1}', {}),
        (b'{"size": NaN, "town": "Ulm", "has_garden": true, "rooms": 1}', {}),
        (b'[{"size": 1, "town": "Ulm", "has_garden": true, "rooms": 1}]', {}),
        (b'{"instances": [], "a": 1, "b": 2}', {}),
        (b'{"size": 1, "town": "Ulm", "has_garden": true, "rooms": 1}', {"accept": b"text/csv"}),
        (
            b'{"size": 1, "town": "Ulm", "has_garden": true, "rooms": 1}',
            {"x_amzn_sagemaker_custom_attributes": b"with=interval"},
        ),
        (
            b'{"size": 1, "town": "Ulm", "has_garden": true, "rooms": 1}',
            {"x_inference_id": b"a\x00b"},
        ),
    ],
)
def test_what_is_unusual_goes_the_long_way(
    model: ServingModel, body: bytes, headers: dict[str, bytes]
) -> None:
    way = short_way(Served(model=model, version="v1"), None)

    assert way(asked(body, **headers)) is None


def test_a_calibrated_probability_is_the_same_by_both_ways(tmp_path: Path) -> None:
    model = model_of("binary", "lightgbm", tmp_path)
    calibration = Calibration(method="platt", parameters=(0.5, 0.1))
    calm = replace(model, outcome=replace(model.outcome, calibration=calibration))
    served = Served(model=calm, version="v1")
    rows = table("binary").drop("target").head(20).to_dicts()
    requests = [asked(json.dumps(row).encode()) for row in rows]

    short = [short_way(served, None)(each) for each in requests]

    assert short == [long_answer(each, served, None) for each in requests]
    assert short != [short_way(Served(model=model, version="v1"), None)(r) for r in requests]


@settings(max_examples=60, deadline=None)
@given(row=USUAL)
def test_both_ways_refuse_the_same_unseen_categories(model: ServingModel, row: Any) -> None:
    served = Served(model=model.with_unseen_categories("refuse"), version=1)
    request = asked(msgspec.json.encode(row))

    short = short_way(served, None)(request)
    long = long_answer(request, served, None)

    is_seen = row["town"] in ("Bonn", "Köln", "Ulm")
    assert (short is not None, long.status) == (is_seen, 200 if is_seen else 400)
    if short is None:
        error = json.loads(long.body)["error"]
        assert (error["row"], error["field"], error["value"]) == (0, "town", "Rom")
    else:
        assert short.body == long.body
