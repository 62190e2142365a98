"""The short way and the long one: the same answers, the same captured lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.kernel import find_kernel
from loopwright.deploy.capture import CaptureLog
from loopwright.deploy.invocation import invocation
from loopwright.deploy.message import Request, Response
from loopwright.deploy.model import Served
from loopwright.deploy.short_way import ShortWay, find_short_way
from loopwright.prepare import Signature, fit_recipe, suggest
from loopwright.problem import Task
from loopwright.train import (
    ServingModel,
    TrainingData,
    TrainingPart,
    fit_algorithm,
    get_algorithm,
    named_outcome,
    open_bundle,
    pack_bundle,
)
from loopwright.train.calibration import Calibration
from loopwright.train.predictor_file import pack_predictor
from loopwright.tune import families_of

pytestmark = pytest.mark.skipif(find_kernel() is None, reason="there is no kernel")

CASES: list[tuple[Task, str]] = [
    ("regression", "linear-learner"),
    ("binary", "lightgbm"),
    ("multiclass", "decision-tree"),
    ("binary", "knn"),
]
HEADERS = {b"host": b"localhost", b"content-type": b"application/json", b"x-inference-id": b"one"}


def table(task: Task) -> pl.DataFrame:
    rng = np.random.default_rng(5)
    size = rng.uniform(10, 99, 200).round(2)
    town = rng.choice(["Bonn", "Köln", "Ulm"], 200)
    classes = np.array(["low", "middle", "high"])
    target = {
        "regression": size * 3,
        "binary": np.where(size > 50, "yes", "no"),
        "multiclass": classes[np.digitize(size, [40, 70])],
    }[task]
    return pl.DataFrame(
        {
            "size": pl.Series(np.where(rng.random(200) < 0.1, np.nan, size)).fill_nan(None),
            "town": town,
            "has_garden": rng.random(200) < 0.5,
            "rooms": rng.integers(1, 6, 200),
            "target": target,
        }
    )


def model_of(task: Task, algorithm: str, folder: Path) -> ServingModel:
    """Return a small model as an endpoint opens it."""
    rows = table(task)
    inputs = rows.drop("target")
    classes = () if task == "regression" else tuple(rows["target"].unique().sort())
    outcome = named_outcome(task, classes)
    y = (
        rows["target"].to_numpy()
        if task == "regression"
        else outcome.indices(rows["target"].to_list())
    )
    (family,) = families_of((algorithm,))
    fitted, X = fit_recipe(suggest(rows, "target", task, family=family), inputs, y, seed=0)
    part = TrainingPart(X=X, y=y)
    data = TrainingData(train=part, validation=part, n_classes=len(classes))
    fit = fit_algorithm(
        get_algorithm(algorithm), data, task=task, hyperparameters={}, seed=0, threads=1
    )
    members = {
        **pack_predictor(fit.predictor),
        "recipe.json": fitted.to_json().encode(),
        "signature.json": Signature.from_frame(inputs).to_json().encode(),
    }
    path = folder / f"{task}-{algorithm}.tar.gz"
    path.write_bytes(
        pack_bundle(
            members,
            name="short",
            algorithm=algorithm,
            outcome=outcome,
            golden_rows=inputs.head(5).to_dicts(),
        )
    )
    return open_bundle(path)


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


def asked(body: bytes, **headers: bytes) -> Request:
    more = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return Request(method=b"POST", target=b"/invocations", headers=HEADERS | more, body=body)


def long_answer(request: Request, served: Served, capture: CaptureLog | None) -> Response:
    steps = invocation(request, served=served, capture=capture)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            response: Response = stop.value[0]
            return response


def short_way(served: Served, capture: CaptureLog | None) -> ShortWay:
    way = find_short_way(served, capture)
    assert way is not None
    return way


def captured(log: CaptureLog) -> list[dict[str, Any]]:
    lines = [line for path in log.folder.glob("*") for line in path.read_bytes().splitlines()]
    found = [msgspec.json.decode(line) for line in lines]
    return [{name: value for name, value in each.items() if name != "at"} for each in found]


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

    short = short_way(served, None).answer(request)

    if short is not None:
        assert short == long_answer(request, served, None)


@given(row=USUAL)
@settings(max_examples=40, deadline=None)
def test_a_usual_row_goes_the_short_way(model: ServingModel, row: Any) -> None:
    served = Served(model=model, version="v1")

    short = short_way(served, None).answer(asked(json.dumps(row).encode()))

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
        assert way.answer(request) == long_answer(request, served, logs[1])

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

    assert way.answer(asked(body, **headers)) is None


def test_a_calibrated_probability_is_the_same_by_both_ways(tmp_path: Path) -> None:
    model = model_of("binary", "lightgbm", tmp_path)
    calibration = Calibration(method="platt", parameters=(0.5, 0.1))
    calm = replace(model, outcome=replace(model.outcome, calibration=calibration))
    served = Served(model=calm, version="v1")
    rows = table("binary").drop("target").head(20).to_dicts()
    requests = [asked(json.dumps(row).encode()) for row in rows]

    short = [short_way(served, None).answer(each) for each in requests]

    assert short == [long_answer(each, served, None) for each in requests]
    assert short != [short_way(Served(model=model, version="v1"), None).answer(r) for r in requests]


@settings(max_examples=60, deadline=None)
@given(row=USUAL)
def test_both_ways_refuse_the_same_unseen_categories(model: ServingModel, row: Any) -> None:
    served = Served(model=model.with_unseen_categories("refuse"), version=1)
    request = asked(msgspec.json.encode(row))

    short = short_way(served, None).answer(request)
    long = long_answer(request, served, None)

    is_seen = row["town"] in ("Bonn", "Köln", "Ulm")
    assert (short is not None, long.status) == (is_seen, 200 if is_seen else 400)
    if short is None:
        error = json.loads(long.body)["error"]
        assert (error["row"], error["field"], error["value"]) == (0, "town", "Rom")
    else:
        assert short.body == long.body
