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


def test_variants_are_described_by_the_headers_that_choose_one(standin: ModuleType) -> None:
    made = model(standin, task="regression", classes=None)

    document = openapi(made, version=3, endpoint="e", needs_token=False, variants=["main", "next"])

    for path in ("/invocations", "/explain", "/async-invocations"):
        (target,) = [
            each
            for each in document["paths"][path]["post"]["parameters"]
            if each["name"] == "X-Amzn-SageMaker-Target-Variant"
        ]
        assert target["schema"] == {"enum": ["main", "next"]}
    infer = document["paths"]["/v2/models/{name}/infer"]["parameters"]
    assert "X-Amzn-SageMaker-Target-Variant" in [each["name"] for each in infer]


def test_own_code_is_described_as_taking_anything_and_without_the_routes_it_lacks(
    standin: ModuleType,
) -> None:
    made = model(standin, task="own code", classes=None)

    paths = openapi(made, version=3, endpoint="e", needs_token=False)["paths"]

    assert list(paths["/invocations"]["post"]["requestBody"]["content"]) == ["*/*"]
    assert "/explain" not in paths
    assert not any(path.startswith("/v2/models") for path in paths)
