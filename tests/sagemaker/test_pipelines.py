"""Pipelines through boto3: definitions in JSON whose steps really run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import ROLE, Server, image, until

DONE = ("Succeeded", "Failed", "Stopped")


def get(path: str) -> dict[str, str]:
    return {"Get": path}


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def training(bucket: str, command: str, **changes: Any) -> dict[str, Any]:
    """Return the arguments of a training step that runs a command."""
    algorithm = {
        **image("anything:1"),
        "ContainerEntrypoint": ["/bin/bash", "-c"],
        "ContainerArguments": [command],
    }
    return {
        "AlgorithmSpecification": algorithm,
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/pipelines"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **changes,
    }


def step(name: str, kind: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"Name": name, "Type": kind, "Arguments": arguments, **more}


def definition(*steps: dict[str, Any], **more: Any) -> str:
    return json.dumps({"Version": "2020-12-01", "Metadata": {}, "Steps": steps, **more})


def condition(left: Any, right: Any, kind: str = "GreaterThanOrEqualTo") -> dict[str, Any]:
    return {"Type": kind, "LeftValue": left, "RightValue": right}


@pytest.fixture
def create(sagemaker: Any) -> Callable[..., str]:
    """Return a function that creates a pipeline and returns its name."""

    def new(text: str, **more: Any) -> str:
        name = f"p-{time.time_ns()}"
        sagemaker.create_pipeline(PipelineName=name, PipelineDefinition=text, RoleArn=ROLE, **more)
        return name

    return new


@pytest.fixture
def run(sagemaker: Any) -> Callable[..., dict[str, Any]]:
    """Return a function that starts a pipeline, and describes the execution once it has ended."""

    def start(name: str, **more: Any) -> dict[str, Any]:
        arn = sagemaker.start_pipeline_execution(PipelineName=name, **more)["PipelineExecutionArn"]
        return finished(sagemaker, arn)

    return start


def finished(sagemaker: Any, arn: str) -> dict[str, Any]:
    found: dict[str, Any] = until(
        lambda: sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn),
        lambda seen: seen["PipelineExecutionStatus"] in DONE,
    )
    return found


def steps_of(sagemaker: Any, execution: dict[str, Any]) -> dict[str, dict[str, Any]]:
    listed = sagemaker.list_pipeline_execution_steps(
        PipelineExecutionArn=execution["PipelineExecutionArn"], MaxResults=100
    )["PipelineExecutionSteps"]
    return {each["StepName"]: each for each in listed}


def test_a_pipeline_trains_decides_and_registers(
    sagemaker: Any, bucket: str, s3: Any, create: Callable[..., str], run: Callable[..., Any]
) -> None:
    s3.put_object(Bucket=bucket, Key="pl/report.json", Body=b'{"auc": {"value": [0.5, 0.875]}}')
    group = f"pl-{time.time_ns()}"
    uri = get("Steps.Train.ModelArtifacts.S3ModelArtifacts")
    specification = {
        "Containers": [{"Image": "any:1", "ModelDataUrl": uri}],
        "SupportedContentTypes": ["text/csv"],
        "SupportedResponseMIMETypes": ["text/csv"],
    }
    auc = {
        "Std:JsonGet": {
            "S3Uri": {"Std:Join": {"On": "/", "Values": [f"s3://{bucket}", "pl", "report.json"]}},
            "Path": "auc.value[1]",
        }
    }
    register = step(
        "Register",
        "RegisterModel",
        {
            "ModelPackageGroupName": group,
            "InferenceSpecification": specification,
            "ModelApprovalStatus": get("Parameters.Approval"),
        },
    )
    model = step(
        "Make",
        "Model",
        {
            "ExecutionRoleArn": ROLE,
            "PrimaryContainer": {"Image": "any:1", "ModelDataUrl": uri},
        },
    )
    train = training(
        bucket,
        'echo "$SM_HP_DEPTH" > /opt/ml/model/depth',
        HyperParameters={"depth": get("Parameters.Depth")},
    )
    name = create(
        definition(
            step("Train", "Training", train),
            step(
                "Check",
                "Condition",
                {
                    "Conditions": [condition(auc, get("Parameters.Least"))],
                    "IfSteps": [register, model],
                    "ElseSteps": [step("Stop", "Fail", {"ErrorMessage": "too bad"})],
                },
                DependsOn=["Train"],
            ),
            Parameters=[
                {"Name": "Depth", "Type": "Integer", "DefaultValue": 3},
                {"Name": "Least", "Type": "Float", "DefaultValue": 0.8},
                {"Name": "Approval", "Type": "String", "DefaultValue": "Approved"},
            ],
            PipelineExperimentConfig={
                "ExperimentName": get("Execution.PipelineName"),
                "TrialName": get("Execution.PipelineExecutionId"),
            },
        )
    )

    good = run(name, PipelineParameters=[{"Name": "Depth", "Value": "7"}])
    bad = run(name, PipelineParameters=[{"Name": "Least", "Value": "0.9"}])

    assert good["PipelineExecutionStatus"] == "Succeeded", steps_of(sagemaker, good)
    seen = steps_of(sagemaker, good)
    assert {name: each["StepStatus"] for name, each in seen.items()} == dict.fromkeys(
        ["Train", "Check", "Register", "Make"], "Succeeded"
    )
    job = seen["Train"]["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
    own = good["PipelineExecutionArn"].rpartition("/")[2]
    assert job.startswith(f"pipelines-{own}-Train-")
    about = sagemaker.describe_training_job(TrainingJobName=job)
    assert about["HyperParameters"] == {"depth": "7"}
    assert good["PipelineExperimentConfig"] == {"ExperimentName": name, "TrialName": own}
    components = sagemaker.list_trial_components(TrialName=own)["TrialComponentSummaries"]
    assert [(each["TrialComponentName"], each["DisplayName"]) for each in components] == [
        (f"{job}-aws-training-job", "Train")
    ]
    assert seen["Check"]["Metadata"]["Condition"]["Outcome"] == "True"
    package = sagemaker.describe_model_package(
        ModelPackageName=seen["Register"]["Metadata"]["RegisterModel"]["Arn"]
    )
    assert package["ModelApprovalStatus"] == "Approved"
    assert (
        package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
        == about["ModelArtifacts"]["S3ModelArtifacts"]
    )
    made = seen["Make"]["Metadata"]["Model"]["Arn"].rpartition("/")[2]
    assert sagemaker.describe_model(ModelName=made)["PrimaryContainer"]["Image"] == "any:1"
    assert bad["PipelineExecutionStatus"] == "Failed"
    assert bad["FailureReason"] == "Step failure: One or multiple steps failed."
    seen = steps_of(sagemaker, bad)
    assert seen["Stop"]["Metadata"]["Fail"]["ErrorMessage"] == "too bad"
    assert "Register" not in seen
    listed = sagemaker.list_pipeline_parameters_for_execution(
        PipelineExecutionArn=good["PipelineExecutionArn"]
    )["PipelineParameters"]
    assert listed == [{"Name": "Depth", "Value": "7"}]


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        (condition("a", "a", "Equals"), True),
        (condition(get("Parameters.N"), "4", "Equals"), True),
        (condition(4, 5, "GreaterThan"), False),
        (condition(4, 5, "LessThan"), True),
        (condition(5, 5, "LessThanOrEqualTo"), True),
        ({"Type": "In", "QueryValue": get("Parameters.N"), "Values": [1, 4]}, True),
        ({"Type": "Not", "Expression": condition(1, 1, "Equals")}, False),
        ({"Type": "Or", "Conditions": [condition(1, 2, "Equals"), condition(1, 1)]}, True),
    ],
)
def test_conditions_of_every_type_choose_the_branch(
    sagemaker: Any,
    create: Callable[..., str],
    run: Callable[..., Any],
    rule: dict[str, Any],
    holds: bool,
) -> None:
    arguments = {
        "Conditions": [rule],
        "IfSteps": [step("Yes", "Fail", {"ErrorMessage": "yes"})],
        "ElseSteps": [step("No", "Fail", {"ErrorMessage": "no"})],
    }
    name = create(
        definition(
            step("C", "Condition", arguments),
            Parameters=[{"Name": "N", "Type": "Integer", "DefaultValue": 4}],
        )
    )

    execution = run(name)

    assert sorted(steps_of(sagemaker, execution)) == ["C", "Yes" if holds else "No"]


def test_a_step_with_the_same_arguments_is_taken_from_the_cache(
    sagemaker: Any, bucket: str, create: Callable[..., str], run: Callable[..., Any]
) -> None:
    cached = {"CacheConfig": {"Enabled": True, "ExpireAfter": "30d"}}
    # the SDKs name the outputs after the execution
    place = {"On": "/", "Values": [f"s3://{bucket}/pl", get("Execution.PipelineExecutionId")]}
    train = training(
        bucket,
        "true",
        HyperParameters={"n": get("Parameters.N")},
        OutputDataConfig={"S3OutputPath": {"Std:Join": place}},
    )
    name = create(
        definition(
            step("T", "Training", train, **cached),
            Parameters=[{"Name": "N", "Type": "String", "DefaultValue": "1"}],
        )
    )

    first, second = run(name), run(name)
    other = run(name, PipelineParameters=[{"Name": "N", "Value": "2"}])

    arns = [steps_of(sagemaker, each)["T"]["Metadata"] for each in (first, second, other)]
    assert arns[0] == arns[1] != arns[2]
    hit = steps_of(sagemaker, second)["T"]["CacheHitResult"]
    assert hit["SourcePipelineExecutionArn"] == first["PipelineExecutionArn"]
    assert "CacheHitResult" not in steps_of(sagemaker, other)["T"]


def test_an_execution_that_failed_goes_on_from_the_step_that_failed(
    sagemaker: Any, bucket: str, s3: Any, create: Callable[..., str], run: Callable[..., Any]
) -> None:
    key = f"pl/later-{time.time_ns()}/data.csv"
    channel = {
        "ChannelName": "train",
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/{key}"}},
    }
    name = create(
        definition(
            step("A", "Training", training(bucket, "true")),
            step(
                "B",
                "Training",
                training(bucket, "true", InputDataConfig=[channel]),
                DependsOn=["A"],
            ),
        )
    )

    execution = run(name)
    before = steps_of(sagemaker, execution)
    s3.put_object(Bucket=bucket, Key=key, Body=b"1\n")
    sagemaker.retry_pipeline_execution(PipelineExecutionArn=execution["PipelineExecutionArn"])
    again = finished(sagemaker, execution["PipelineExecutionArn"])
    after = steps_of(sagemaker, again)

    assert execution["PipelineExecutionStatus"] == "Failed"
    assert before["B"]["FailureReason"].startswith("ClientError: No S3 objects found")
    assert again["PipelineExecutionStatus"] == "Succeeded"
    assert before["A"]["Metadata"] == after["A"]["Metadata"]
    assert refused(
        sagemaker.retry_pipeline_execution, PipelineExecutionArn=again["PipelineExecutionArn"]
    )[0] == ("ConflictException")


def test_a_step_is_tried_again_as_its_policy_says(
    sagemaker: Any, bucket: str, create: Callable[..., str], run: Callable[..., Any]
) -> None:
    many = {"InstanceType": "ml.m5.large", "InstanceCount": 100, "VolumeSizeInGB": 1}
    policy = {
        "ExceptionType": ["SageMaker.RESOURCE_LIMIT"],
        "IntervalSeconds": 1,
        "BackoffRate": 1.0,
        "MaxAttempts": 1,
    }
    name = create(
        definition(
            step(
                "T",
                "Training",
                training(bucket, "true", ResourceConfig=many),
                RetryPolicies=[policy],
            )
        )
    )

    execution = run(name)

    seen = steps_of(sagemaker, execution)["T"]
    assert (seen["StepStatus"], seen["AttemptCount"]) == ("Failed", 1)
    assert "service limit" in seen["FailureReason"]
    assert (seen["EndTime"] - seen["StartTime"]).total_seconds() >= 1


def test_an_execution_that_is_stopped_stops_its_jobs(
    sagemaker: Any, bucket: str, create: Callable[..., str]
) -> None:
    name = create(definition(step("T", "Training", training(bucket, "exec sleep 50"))))
    arn = sagemaker.start_pipeline_execution(PipelineName=name)["PipelineExecutionArn"]

    def job() -> dict[str, Any]:
        listed = sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn)
        metadata = [each.get("Metadata") for each in listed["PipelineExecutionSteps"]]
        if not any(metadata):
            return {}
        own = metadata[0]["TrainingJob"]["Arn"].rpartition("/")[2]
        found: dict[str, Any] = sagemaker.describe_training_job(TrainingJobName=own)
        return found

    until(job, lambda seen: seen.get("SecondaryStatus") == "Training")
    assert refused(sagemaker.delete_pipeline, PipelineName=name)[0] == "ConflictException"
    sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
    execution = finished(sagemaker, arn)

    assert execution["PipelineExecutionStatus"] == "Stopped"
    assert job()["TrainingJobStatus"] == "Stopped"
    code, message = refused(sagemaker.stop_pipeline_execution, PipelineExecutionArn=arn)
    assert code == "ValidationException"
    assert "Only pipelines with 'Executing' status can be stopped" in message


def test_a_callback_step_waits_for_its_answer(sagemaker: Any, create: Callable[..., str]) -> None:
    arguments = {"Conditions": [condition(get("Steps.Ask.OutputParameters['score']"), 0.5)]}
    name = create(
        definition(
            step(
                "Ask",
                "Callback",
                {"x": 1},
                SqsQueueUrl="https://sqs/none",
                OutputParameters=[{"OutputName": "score", "OutputType": "Float"}],
            ),
            step("C", "Condition", {**arguments, "IfSteps": [], "ElseSteps": []}),
        )
    )
    arn = sagemaker.start_pipeline_execution(PipelineName=name)["PipelineExecutionArn"]
    listed = until(
        lambda: sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn)[
            "PipelineExecutionSteps"
        ],
        lambda seen: seen and seen[0]["StepStatus"] == "Executing",
    )
    token = listed[0]["Metadata"]["Callback"]["CallbackToken"]

    sagemaker.send_pipeline_execution_step_success(
        CallbackToken=token, OutputParameters=[{"Name": "score", "Value": "0.75"}]
    )

    execution = finished(sagemaker, arn)
    assert execution["PipelineExecutionStatus"] == "Succeeded"
    assert steps_of(sagemaker, execution)["C"]["Metadata"]["Condition"]["Outcome"] == "True"
    assert refused(sagemaker.send_pipeline_execution_step_failure, CallbackToken=token)[0] == (
        "ConflictException"
    )
    assert refused(sagemaker.send_pipeline_execution_step_failure, CallbackToken="0123456789")[
        0
    ] == ("ResourceNotFound")


def test_selected_steps_read_what_an_earlier_execution_made(
    sagemaker: Any, bucket: str, create: Callable[..., str], run: Callable[..., Any]
) -> None:
    output = {"S3OutputPath": get("Steps.A.OutputDataConfig.S3OutputPath")}
    name = create(
        definition(
            step("A", "Training", training(bucket, "true")),
            step("B", "Training", training(bucket, "true", OutputDataConfig=output)),
        )
    )
    chosen = {"SelectedSteps": [{"StepName": "B"}]}

    code, _ = refused(
        sagemaker.start_pipeline_execution, PipelineName=name, SelectiveExecutionConfig=chosen
    )
    whole = run(name)
    part = run(name, SelectiveExecutionConfig=chosen)

    assert code == "ValidationException"
    before, after = steps_of(sagemaker, whole), steps_of(sagemaker, part)
    assert part["PipelineExecutionStatus"] == "Succeeded", after
    assert after["A"]["Metadata"] == before["A"]["Metadata"]
    assert (
        after["A"]["SelectiveExecutionResult"]["SourcePipelineExecutionArn"]
        == (whole["PipelineExecutionArn"])
    )
    assert after["B"]["Metadata"] != before["B"]["Metadata"]


def test_the_same_token_starts_one_execution(sagemaker: Any, create: Callable[..., str]) -> None:
    name = create(definition(step("F", "Fail", {"ErrorMessage": "x"})))
    token = "t" * 32

    arns = {
        sagemaker.start_pipeline_execution(PipelineName=name, ClientRequestToken=token)[
            "PipelineExecutionArn"
        ]
        for _ in range(3)
    }

    assert len(arns) == 1
    finished(sagemaker, next(iter(arns)))
    listed = sagemaker.list_pipeline_executions(PipelineName=name)["PipelineExecutionSummaries"]
    assert [each["PipelineExecutionArn"] for each in listed] == list(arns)


def test_a_pipeline_is_changed_listed_found_and_deleted(
    sagemaker: Any, s3: Any, bucket: str, create: Callable[..., str], run: Callable[..., Any]
) -> None:
    first = definition(step("F", "Fail", {"ErrorMessage": "first"}))
    second = definition(step("G", "Fail", {"ErrorMessage": "second"}))
    name = create(first, Tags=[{"Key": "k", "Value": "v"}])
    execution = run(name)
    s3.put_object(Bucket=bucket, Key="pl/second.json", Body=second.encode())

    sagemaker.update_pipeline(
        PipelineName=name,
        PipelineDescription="changed",
        PipelineDefinitionS3Location={"Bucket": bucket, "ObjectKey": "pl/second.json"},
    )

    about = sagemaker.describe_pipeline(PipelineName=name)
    assert about["PipelineDefinition"] == second
    assert about["PipelineDescription"] == "changed"
    assert about["LastRunTime"] == execution["CreationTime"]
    kept = sagemaker.describe_pipeline_definition_for_execution(
        PipelineExecutionArn=execution["PipelineExecutionArn"]
    )
    assert kept["PipelineDefinition"] == first
    assert sorted(steps_of(sagemaker, run(name))) == ["G"]
    listed = sagemaker.list_pipelines(PipelineNamePrefix=name)["PipelineSummaries"]
    assert [each["PipelineArn"] for each in listed] == [about["PipelineArn"]]
    assert sagemaker.list_tags(ResourceArn=about["PipelineArn"])["Tags"] == [
        {"Key": "k", "Value": "v"}
    ]
    sagemaker.delete_pipeline(PipelineName=name)
    assert refused(sagemaker.describe_pipeline, PipelineName=name) == (
        "ResourceNotFound",
        f"Pipeline '{about['PipelineArn']}' does not exist.",
    )
    assert refused(
        sagemaker.describe_pipeline_execution,
        PipelineExecutionArn=execution["PipelineExecutionArn"],
    )[0] == ("ResourceNotFound")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "It is no JSON"),
        ("[]", "Expecting start of Json Object."),
        ('{"Version": "2019-01-01"}', "The version '2019-01-01' is not known"),
        (definition(), "There are no steps."),
        (definition(step("A", "EMR", {})), "'EMR', which is not supported yet by loopwright"),
        (definition(step("A", "Fail", {}), step("A", "Fail", {})), "must be unique"),
        (
            definition(
                step("A", "Fail", {}),
                step("B", "Fail", {}, DependsOn=[{"Step": "A", "Trigger": "Failed"}]),
            ),
            "DependsOn with a Trigger, which is not supported yet",
        ),
        (definition(step("A", "Fail", {}, DependsOn=["B"])), "depends on 'B', which is no step"),
        (
            definition(
                step("A", "Fail", {}, DependsOn=["B"]), step("B", "Fail", {}, DependsOn=["A"])
            ),
            "wait for each other: A, B",
        ),
        (
            definition(step("A", "Fail", {"ErrorMessage": get("Parameters.X")})),
            "'X', which is no parameter",
        ),
        (definition(step("A", "Training", {"Nothing": 1})), "Unknown Argument member 'Nothing'."),
        (
            definition(step("A", "Condition", {"Conditions": [{"Type": "Like"}]})),
            "Unknown condition type 'Like'",
        ),
        (
            definition(
                step("A", "Fail", {}),
                Parameters=[{"Name": "N", "Type": "Integer", "DefaultValue": "many"}],
            ),
            "Assigned value [many] for parameter [N] must be a valid Integer.",
        ),
    ],
)
def test_a_definition_that_cannot_be_carried_out_is_refused(
    sagemaker: Any, text: str, said: str
) -> None:
    code, message = refused(
        sagemaker.create_pipeline, PipelineName="bad", PipelineDefinition=text, RoleArn=ROLE
    )

    assert code == "ValidationException"
    assert said in message


def test_what_cannot_be_started_is_refused(sagemaker: Any, create: Callable[..., str]) -> None:
    text = definition(
        step("F", "Fail", {"ErrorMessage": "x"}),
        Parameters=[
            {"Name": "N", "Type": "Integer"},
            {"Name": "K", "Type": "String", "DefaultValue": "a", "EnumValues": ["a", "b"]},
        ],
    )
    name = create(text)

    def said(*parameters: tuple[str, str]) -> str:
        given = [{"Name": key, "Value": value} for key, value in parameters]
        code, message = refused(
            sagemaker.start_pipeline_execution, PipelineName=name, PipelineParameters=given
        )
        assert code == "ValidationException"
        return message

    assert said() == "The parameter [N] has no default value and must be assigned."
    assert said(("N", "x")) == "Assigned value [x] for parameter [N] must be a valid Integer."
    assert "Unknown parameters [M]" in said(("M", "1"))
    assert "must be one of" in said(("N", "1"), ("K", "c"))
    code, message = refused(
        sagemaker.create_pipeline, PipelineName=name, PipelineDefinition=text, RoleArn=ROLE
    )
    assert (code, message) == (
        "ValidationException",
        "Pipeline names must be unique within an AWS account and region. Pipeline with name "
        f"({name}) already exists.",
    )


def test_no_more_steps_run_at_once_than_asked_for(
    sagemaker: Any, bucket: str, create: Callable[..., str], run: Callable[..., Any]
) -> None:
    one = training(bucket, "sleep 0.3")
    name = create(
        definition(step("A", "Training", one), step("B", "Training", one)),
        ParallelismConfiguration={"MaxParallelExecutionSteps": 1},
    )

    seen = steps_of(sagemaker, run(name))

    first, second = sorted(seen.values(), key=lambda each: each["StartTime"])
    assert second["StartTime"] >= first["EndTime"]


def test_a_step_that_reads_an_untaken_branch_never_runs(
    server: Server, create: Callable[..., str], run: Callable[..., Any]
) -> None:
    sagemaker = server.client("sagemaker")
    inner = step("Inner", "Condition", {"Conditions": [condition(1, 1)], "IfSteps": []})
    name = create(
        definition(
            step("C", "Condition", {"Conditions": [condition(1, 2)], "IfSteps": [inner]}),
            step(
                "After",
                "Fail",
                {"ErrorMessage": get("Steps.Inner.Outcome")},
            ),
        )
    )

    execution = run(name)

    assert execution["PipelineExecutionStatus"] == "Succeeded"
    assert sorted(steps_of(sagemaker, execution)) == ["C"]
