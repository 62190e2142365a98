"""Small models of every kind, as an endpoint opens them, and the long way to their answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from loopwright.deploy.capture import CaptureLog
from loopwright.deploy.invocation import invocation
from loopwright.deploy.message import Request, Response
from loopwright.deploy.model import Served
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
from loopwright.train.predictor_file import pack_predictor
from loopwright.tune import families_of

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


def model_of(
    task: Task, algorithm: str, folder: Path, *, rows: pl.DataFrame | None = None
) -> ServingModel:
    """Return a small model as an endpoint opens it."""
    rows = table(task) if rows is None else rows
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


def captured(log: CaptureLog) -> list[dict[str, Any]]:
    lines = [line for path in log.folder.glob("*") for line in path.read_bytes().splitlines()]
    found = [msgspec.json.decode(line) for line in lines]
    return [{name: value for name, value in each.items() if name != "at"} for each in found]
