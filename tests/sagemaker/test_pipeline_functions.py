"""Lambda steps of pipelines: what goes in, what comes out, what fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import ROLE, Server, until
from .test_functions import packed
from .test_pipelines import (
    condition,
    create,
    definition,
    finished,
    get,
    refused,
    run,
    step,
    steps_of,
)

__all__ = ["create", "run"]

_SUM = """
def handler(event, context):
    return {"total": sum(event["numbers"]) + event["more"], "is_large": event["more"] > 5,
            "word": event["word"], "ignored": [1]}
"""
_TYPES = {"total": "Integer", "is_large": "Boolean", "word": "String"}
_OUTPUTS = [{"OutputName": name, "OutputType": kind} for name, kind in _TYPES.items()]


@pytest.fixture(scope="module")
def function(server: Server) -> Callable[..., str]:
    """Return a function that creates one of Lambda and returns its ARN."""
    client = server.client("lambda")

    def new(code: str, **changes: Any) -> str:
        made = client.create_function(
            FunctionName=f"step-{time.time_ns()}",
            Runtime="python3.12",
            Handler="app.handler",
            Role=ROLE,
            Code={"ZipFile": packed({"app.py": code})},
            **{"Timeout": 30, **changes},
        )
        return str(made["FunctionArn"])

    return new


def call(name: str, arn: Any, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
    return step(name, "Lambda", arguments, **{"FunctionArn": arn, "OutputParameters": [], **more})


def test_a_function_gets_its_inputs_and_its_outputs_decide(
    sagemaker: Any, function: Callable[..., str], create: Callable[..., str], run: Any
) -> None:
    event = {"numbers": [1, 2], "more": get("Parameters.More"), "word": get("Parameters.Word")}
    rule = {
        "Conditions": [
            condition(get("Steps.Sum.OutputParameters['total']"), 10, "Equals"),
            condition(get("Steps.Sum.OutputParameters['is_large']"), True, "Equals"),
        ],
        "IfSteps": [
            call(
                "Again",
                function("def handler(e, c):\n    return {'said': e['told']}\n"),
                {"told": get("Steps.Sum.OutputParameters['word']")},
                OutputParameters=[{"OutputName": "said", "OutputType": "String"}],
            )
        ],
        "ElseSteps": [step("Stop", "Fail", {"ErrorMessage": "not ten"})],
    }
    name = create(
        definition(
            call(
                "Sum",
                get("Parameters.Function"),
                event,
                OutputParameters=_OUTPUTS,
                CacheConfig={"Enabled": True, "ExpireAfter": "PT1H"},
            ),
            step("Check", "Condition", rule),
            Parameters=[
                {"Name": "More", "Type": "Integer", "DefaultValue": 7},
                {"Name": "Word", "Type": "String", "DefaultValue": "a \u00e9"},
                {"Name": "Function", "Type": "String", "DefaultValue": function(_SUM)},
            ],
        )
    )

    first, again = run(name), run(name)
    other = run(name, PipelineParameters=[{"Name": "More", "Value": "1"}])

    seen = steps_of(sagemaker, first)
    assert first["PipelineExecutionStatus"] == "Succeeded", seen
    told = seen["Sum"]["Metadata"]["Lambda"]
    assert told["Arn"].startswith("arn:aws:lambda:us-east-1:123456789012:function:step-")
    assert told["OutputParameters"] == [
        {"Name": "total", "Value": "10"},
        {"Name": "is_large", "Value": "true"},
        {"Name": "word", "Value": "a \u00e9"},
    ]
    assert seen["Again"]["Metadata"]["Lambda"]["OutputParameters"] == [
        {"Name": "said", "Value": "a \u00e9"}
    ]
    cached = steps_of(sagemaker, again)["Sum"]
    assert cached["CacheHitResult"]["SourcePipelineExecutionArn"] == first["PipelineExecutionArn"]
    assert cached["Metadata"]["Lambda"] == told
    assert other["PipelineExecutionStatus"] == "Failed"
    assert "CacheHitResult" not in steps_of(sagemaker, other)["Sum"]


def test_a_step_whose_function_fails_says_why_and_can_be_retried(
    sagemaker: Any, server: Server, function: Callable[..., str], create: Callable[..., str]
) -> None:
    arn = function("def handler(e, c):\n    raise ValueError('boom')\n")
    outputs = [{"OutputName": "total", "OutputType": "Integer"}]
    name = create(definition(call("Sum", arn, {}, OutputParameters=outputs)))
    client = server.client("lambda")

    said = []
    execution = sagemaker.start_pipeline_execution(PipelineName=name)["PipelineExecutionArn"]
    for code in ("return {'other': 1}", "return {'total': 3}"):
        failed = finished(sagemaker, execution)
        said.append(steps_of(sagemaker, failed)["Sum"]["FailureReason"])
        source = packed({"app.py": f"def handler(e, c):\n    {code}\n"})
        client.update_function_code(FunctionName=arn, ZipFile=source)
        sagemaker.retry_pipeline_execution(PipelineExecutionArn=execution)
    done = finished(sagemaker, execution)

    assert said == [
        "ClientError: The Lambda function failed: ValueError: boom",
        "ClientError: The Lambda function did not return the outputs [total]; it returned [other].",
    ]
    assert done["PipelineExecutionStatus"] == "Succeeded"


def test_a_step_whose_function_is_not_there_fails(
    sagemaker: Any, create: Callable[..., str], run: Any
) -> None:
    arn = "arn:aws:lambda:us-east-1:123456789012:function:nowhere"

    ended = run(create(definition(call("Call", arn, {}))))

    assert steps_of(sagemaker, ended)["Call"]["FailureReason"] == (
        f"ClientError: Function not found: {arn}"
    )


def test_stopping_an_execution_ends_the_call(
    sagemaker: Any, server: Server, function: Callable[..., str], create: Callable[..., str]
) -> None:
    arn = function("import time\ndef handler(e, c):\n    time.sleep(60)\n", Timeout=100)
    name = create(definition(call("Sleep", arn, {})))
    execution = sagemaker.start_pipeline_execution(PipelineName=name)["PipelineExecutionArn"]
    until(
        lambda: sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=execution),
        lambda seen: [s["StepStatus"] for s in seen["PipelineExecutionSteps"]] == ["Executing"],
    )
    group = f"/aws/lambda/{arn.rpartition(':')[2]}"
    logs = server.client("logs")

    sagemaker.stop_pipeline_execution(PipelineExecutionArn=execution)
    ended = finished(sagemaker, execution)

    assert ended["PipelineExecutionStatus"] == "Stopped"
    until(
        lambda: logs.filter_log_events(logGroupName=group)["events"],
        lambda events: any("REPORT RequestId" in each["message"] for each in events),
    )


def test_a_lambda_step_without_a_function_is_refused(sagemaker: Any) -> None:
    text = definition(step("Call", "Lambda", {}, OutputParameters=[]))

    code, message = refused(
        sagemaker.create_pipeline, PipelineName="f-no", PipelineDefinition=text, RoleArn=ROLE
    )

    assert code == "ValidationException"
    assert message == "Unable to parse pipeline definition. The step 'Call' has no FunctionArn."
