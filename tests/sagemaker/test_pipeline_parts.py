"""The parts of pipelines by themselves: definitions, expressions, conditions, durations, retries."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.sagemaker.calling import fitted
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.model import operation
from loopwright.sagemaker.pipeline.condition import holds
from loopwright.sagemaker.pipeline.definition import parse
from loopwright.sagemaker.pipeline.duration import seconds_of
from loopwright.sagemaker.pipeline.expression import member, path_of, resolved
from loopwright.sagemaker.pipeline.retry import next_try

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "A", "Steps.A.x", "Get"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Get", "Std:Join", "Std:JsonGet", "On", "Values", "Name", "Type", "x"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
MEMBERS = (
    "Name",
    "Type",
    "Arguments",
    "DependsOn",
    "CacheConfig",
    "RetryPolicies",
    "PropertyFiles",
)


@given(
    kind=st.sampled_from(["Training", "Condition", "Fail", "Callback", "RegisterModel", "Tuning"]),
    member_=st.sampled_from(MEMBERS),
    value=VALUES,
    more=VALUES,
)
@settings(max_examples=300, deadline=None)
def test_whatever_a_definition_holds_it_is_parsed_or_refused(
    kind: str, member_: str, value: Any, more: Any
) -> None:
    step = {"Name": "A", "Type": kind, "Arguments": {"Conditions": [value]}, member_: more}
    text = json.dumps({"Version": "2020-12-01", "Steps": [step], "Parameters": value})

    try:
        names = list(parse(text).steps)
    except ApiError as error:
        names = [error.code]

    assert names in (["A"], ["ValidationException"])


def test_a_definition_nested_without_end_is_refused() -> None:
    deep = '{"Name": "S", "Type": "Fail"}'
    rule = '{"Type": "Equals", "LeftValue": 1, "RightValue": 1}'
    for number in range(2000):
        arguments = f'{{"Conditions": [{rule}], "IfSteps": [{deep}]}}'
        deep = f'{{"Name": "C{number}", "Type": "Condition", "Arguments": {arguments}}}'

    with pytest.raises(ApiError, match="Unable to parse pipeline definition"):
        parse(f'{{"Version": "2020-12-01", "Steps": [{deep}]}}')


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Steps.A.B", ["Steps", "A", "B"]),
        ("Steps.A.Outputs['x.y'].Uri", ["Steps", "A", "Outputs", "x.y", "Uri"]),
        ('Outputs["z"][12]', ["Outputs", "z", 12]),
        ("Metrics['validation:auc'].Value", ["Metrics", "validation:auc", "Value"]),
    ],
)
def test_paths_are_taken_apart(text: str, parts: list[str | int]) -> None:
    assert path_of(text) == parts


@pytest.mark.parametrize("text", ["", "a[", "a['x]", "..", "a['x'"])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ApiError):
        path_of(text)


def test_items_of_lists_are_found_by_name_and_by_number() -> None:
    value = {"Outputs": [{"OutputName": "a", "n": 1}, {"OutputName": "b", "n": 2}]}

    assert member(value, path_of("Outputs['b'].n"), shown="") == 2
    assert member(value, path_of("Outputs[0].n"), shown="") == 1
    with pytest.raises(ApiError, match="it has no 'c'"):
        member(value, path_of("Outputs['c'].n"), shown="Outputs['c'].n")


def test_expressions_are_replaced_wherever_they_stand() -> None:
    known = {"a": 1, "b": "x", "c": [1, 2]}
    value = {
        "one": [{"Get": "a"}, "plain"],
        "two": {"Std:Join": {"On": "/", "Values": ["s3:/", {"Get": "b"}, {"Get": "a"}, 0.5]}},
        "three": {"Std:JsonGet": {"S3Uri": {"Get": "b"}, "Path": "k[1]"}},
        "four": {"Get": "a", "other": 1},
    }

    found = resolved(
        value,
        lambda path: known[str(path[0])],
        lambda source: {"k": [source["S3Uri"], "second"]},
    )

    assert found == {
        "one": [1, "plain"],
        "two": "s3://x/1/0.5",
        "three": "second",
        "four": {"Get": "a", "other": 1},
    }


@given(left=st.integers(-5, 5), right=st.integers(-5, 5))
@settings(max_examples=50, deadline=None)
def test_comparisons_are_those_of_numbers_also_where_text_holds_them(left: int, right: int) -> None:
    def said(kind: str, one: Any, other: Any) -> bool:
        return holds({"Type": kind, "LeftValue": one, "RightValue": other}, lambda value: value)

    for one, other in ((left, right), (str(left), right), (left, str(right))):
        assert said("Equals", one, other) == (left == right)
        assert said("GreaterThan", one, other) == (left > right)
        assert said("GreaterThanOrEqualTo", one, other) == (left >= right)
        assert said("LessThan", one, other) == (left < right)
        assert said("LessThanOrEqualTo", one, other) == (left <= right)


def test_what_cannot_be_compared_is_refused() -> None:
    rule = {"Type": "LessThan", "LeftValue": "many", "RightValue": 3}

    with pytest.raises(ApiError, match="cannot compare 'many' with 3"):
        holds(rule, lambda value: value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("P30D", 2_592_000),
        ("30d", 2_592_000),
        ("PT1H30M", 5400),
        ("T30m", 1800),
        ("5h", 18_000),
        ("P1W", 604_800),
        ("P1Y", 31_536_000),
    ],
)
def test_durations_are_read_as_the_sdks_write_them(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "P", "soon", "30", "-1d", "P1.5D"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ApiError, match="no ISO 8601 duration"):
        seconds_of(text)


def test_values_get_the_types_that_a_request_wants() -> None:
    shape = operation("sagemaker", "CreateTrainingJob").input_shape

    found = fitted(
        shape,
        {
            "HyperParameters": {"a": 3, "b": 0.5, "c": True},
            "ResourceConfig": {"InstanceCount": "2", "InstanceType": "ml.m5.large"},
            "EnableNetworkIsolation": "true",
            "StoppingCondition": {"MaxRuntimeInSeconds": "many"},
        },
    )

    assert found["HyperParameters"] == {"a": "3", "b": "0.5", "c": "true"}
    assert found["ResourceConfig"]["InstanceCount"] == 2
    assert found["EnableNetworkIsolation"] is True
    # refused where the request is checked
    assert found["StoppingCondition"]["MaxRuntimeInSeconds"] == "many"


def test_waits_grow_and_end() -> None:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    by_count = [{"ExceptionType": ["Step.THROTTLING"], "IntervalSeconds": 2, "MaxAttempts": 3}]
    by_time = [{"ExceptionType": ["Step.THROTTLING"], "IntervalSeconds": 60, "ExpireAfterMin": 2}]

    def wait(policies: Any, attempts: int, kind: str = "Step.THROTTLING") -> timedelta | None:
        state = {"attempts": attempts, "began": began.isoformat()}
        at = next_try(policies, kind, state=state, now=began)
        return at - began if at else None

    assert [wait(by_count, n) for n in range(4)] == [
        timedelta(seconds=2),
        timedelta(seconds=4),
        timedelta(seconds=8),
        None,
    ]
    assert [wait(by_time, n) for n in (0, 1, 2)] == [
        timedelta(seconds=60),
        timedelta(seconds=120),
        None,
    ]
    assert wait(by_count, 0, "Step.SERVICE_FAULT") is None
    assert wait(by_count, 0, "") is None
