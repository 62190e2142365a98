"""Requests against their shapes, in AWS's sentences."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from loopwright.sagemaker.checking import check
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.model import SERVICES, operation, pattern, service
from loopwright.sagemaker.parsing import json_input

from .conftest import Server


def faults(name: str, given: dict[str, Any]) -> str:
    with pytest.raises(ApiError) as caught:
        check(operation("sagemaker", name).input_shape, given)
    assert caught.value.code == "ValidationException"
    return caught.value.message


def test_a_name_that_does_not_fit_its_pattern() -> None:
    assert faults("DescribeTrainingJob", {"TrainingJobName": "a_b"}) == (
        "1 validation error detected: Value 'a_b' at 'trainingJobName' failed to satisfy "
        "constraint: Member must satisfy regular expression pattern: "
        "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
    )


def test_everything_that_is_wrong_is_told_at_once() -> None:
    text = faults("ListTrainingJobs", {"MaxResults": 101, "SortBy": "Colour"})

    assert text.startswith("2 validation errors detected: ")
    assert "Value '101' at 'maxResults' failed to satisfy constraint: " in text
    assert "Member must have value less than or equal to 100" in text
    assert "Member must satisfy enum value set: [Name, CreationTime, Status]" in text


def test_what_is_missing_is_null() -> None:
    assert faults("DescribeModel", {}) == (
        "1 validation error detected: Value null at 'modelName' failed to satisfy constraint: "
        "Member must not be null"
    )


def test_a_fault_within_a_list_tells_its_place() -> None:
    given = {
        "ResourceArn": "arn:aws:sagemaker:us-east-1:123456789012:model/m",
        "Tags": [{"Key": "k"}],
    }

    assert "Value null at 'tags.1.member.value'" in faults("AddTags", given)


@pytest.mark.parametrize("given", ["ml.m99.42xlarge", "local"])
def test_instance_types_that_botocore_does_not_know_yet(given: str) -> None:
    from loopwright.sagemaker.checking import _faults

    resources = operation("sagemaker", "CreateTrainingJob").input_shape.members["ResourceConfig"]
    shape = resources.members["InstanceType"]

    assert list(_faults(shape, given, "x")) == []
    assert list(_faults(shape, "m5.large", "x"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"TrainingJobName": 3}', "NUMBER_VALUE can not be converted to a String"),
        (b'{"TrainingJobName": ["a"]}', "Unexpected START_ARRAY where a String is expected."),
        (b"[1]", "Start of structure or map found where not expected."),
        (b"{", "The body is no JSON object."),
        (b"[" * 100_000, "The body is no JSON object."),
    ],
)
def test_a_body_of_the_wrong_kind(body: bytes, said: str) -> None:
    with pytest.raises(ApiError) as caught:
        json_input(operation("sagemaker", "DescribeTrainingJob").input_shape, body)

    assert (caught.value.code, caught.value.message) == ("SerializationException", said)


def test_every_pattern_of_the_services_is_understood() -> None:
    unknown = []
    for name in SERVICES:
        model = service(name)
        for shape in model.shape_names:
            text = model.shape_for(shape).metadata.get("pattern")
            if text and pattern(text) is None:
                unknown.append((name, shape, text))

    assert unknown == []


def test_a_pattern_of_java_s() -> None:
    found = pattern(r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)")

    assert found is not None
    assert found.fullmatch("Grüße 1_2@x")
    assert not found.fullmatch("a\tb")
    assert not found.fullmatch("a;b")


def test_the_server_refuses_what_a_client_would_not_send(server: Server) -> None:
    free = Config(parameter_validation=False, retries={"total_max_attempts": 1})
    client = server.client("sagemaker", config=free)

    with pytest.raises(ClientError) as caught:
        client.create_model()

    error = caught.value.response["Error"]
    assert error["Code"] == "ValidationException"
    assert "Value null at 'modelName'" in error["Message"]


def test_operations_that_are_not_there_say_so(sagemaker: Any) -> None:
    with pytest.raises(ClientError) as caught:
        sagemaker.list_notebook_instances()

    assert caught.value.response["Error"]["Code"] == "UnsupportedOperationException"
    assert "ListNotebookInstances is not supported yet" in str(caught.value)


def test_operations_that_nobody_knows() -> None:
    with pytest.raises(ApiError) as caught:
        operation("sagemaker", "MakeCoffee")

    assert caught.value.code == "UnknownOperationException"
