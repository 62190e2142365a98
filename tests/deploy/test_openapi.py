from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from loopwright.deploy.openapi import openapi


def model(standin: ModuleType, *, task: str, classes: Any) -> Any:
    made = standin.SlopeModel(slope=1.0, golden=10.0, delay_s=0.0, task=task)
    made.classes = classes
    return made


@pytest.mark.parametrize(
    ("task", "classes", "prediction", "more"),
    [
        ("regression", None, {"type": "number"}, set()),
        ("binary", ["No", "Yes"], {"enum": ["No", "Yes"]}, {"probability"}),
        ("multiclass", ["a", "b", "c"], {"enum": ["a", "b", "c"]}, {"probabilities"}),
    ],
)
def test_the_answer_is_described_by_task(
    standin: ModuleType, task: str, classes: Any, prediction: Any, more: set[str]
) -> None:
    document = openapi(
        model(standin, task=task, classes=classes), version=3, endpoint="e", needs_token=False
    )

    properties = document["components"]["schemas"]["Answer"]["properties"]
    assert properties["prediction"] == prediction
    assert set(properties) == {"prediction", "inference_id", "model_version", "double"} | more
    assert document["components"]["schemas"]["Label"]["properties"]["label"] == prediction


def test_a_token_is_described_where_one_is_needed(standin: ModuleType) -> None:
    made = model(standin, task="regression", classes=None)

    with_token = openapi(made, version=1, endpoint="e", needs_token=True)
    without = openapi(made, version=1, endpoint="e", needs_token=False)

    assert with_token["security"] == [{"token": []}]
    assert "security" not in without


def test_every_reference_leads_somewhere(standin: ModuleType) -> None:
    document = openapi(
        model(standin, task="binary", classes=["a", "b"]), version=1, endpoint="e", needs_token=True
    )

    def references(value: Any) -> Any:
        if isinstance(value, dict):
            yield from (each for name, each in value.items() if name == "$ref")
            for each in value.values():
                yield from references(each)
        elif isinstance(value, list):
            for each in value:
                yield from references(each)

    found = set(references(document))
    assert found
    for reference in found:
        assert reference.split("/")[-1] in document["components"]["schemas"]
