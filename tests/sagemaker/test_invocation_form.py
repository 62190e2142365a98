"""The words in which algorithms answer, by the version of their image."""

from __future__ import annotations

import json

import pytest

from loopwright.sagemaker.invocation_form import answer_of

OURS = json.dumps({"predictions": [{"prediction": 1.5}, {"prediction": 2.5}]}).encode()


@pytest.mark.parametrize(
    ("tag", "between"),
    [("1", ","), ("latest", ","), ("0.90-1-cpu-py3", ","), ("1.2-2", "\n"), ("1.7-1", "\n")],
)
def test_a_csv_answer_is_in_lines_from_1_2_2_on(tag: str, between: str) -> None:
    settings = {
        "algorithm": "xgboost",
        "hyperparameters": {"objective": "reg:squarederror"},
        "tag": tag,
    }

    body, kind = answer_of(OURS, "text/csv", settings)

    assert kind.startswith("text/csv")
    assert body.decode().strip() == between.join(("1.5", "2.5"))


def test_a_batch_transform_is_in_lines_whatever_the_image() -> None:
    settings = {"algorithm": "xgboost", "hyperparameters": {}, "tag": "1"}

    body, _ = answer_of(OURS, "text/csv", settings, is_batch=True)

    assert body.decode().split() == ["1.5", "2.5"]
