"""Experiments, trials, components and their metrics through boto3."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from loopwright.loop.experiment import get_experiment
from loopwright.settings import read_settings
from loopwright.wiring import open_workspace

from .conftest import Server, image

Train = Callable[..., dict[str, Any]]


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


@pytest.fixture
def name(sagemaker: Any) -> str:
    """Return the name of a new experiment, trial and component, not associated yet."""
    name = f"e-{time.time_ns()}"
    sagemaker.create_experiment(ExperimentName=name, Description="deeper is better")
    sagemaker.create_trial(TrialName=name, ExperimentName=name, DisplayName="first")
    sagemaker.create_trial_component(
        TrialComponentName=name,
        Parameters={"depth": {"NumberValue": 3.0}, "kind": {"StringValue": "tree"}},
        Status={"PrimaryStatus": "InProgress"},
    )
    return name


def test_a_run_is_logged_as_the_sdk_does_it(server: Server, sagemaker: Any, name: str) -> None:
    metrics = server.client("sagemaker-metrics")
    at = datetime(2026, 1, 1, tzinfo=UTC)
    points = [
        {"MetricName": "loss", "Timestamp": at, "Step": step, "Value": value}
        for step, value in enumerate([1.0, 0.5, 0.75])
    ]

    sagemaker.associate_trial_component(TrialComponentName=name, TrialName=name)
    answer = metrics.batch_put_metrics(TrialComponentName=name, MetricData=points[:2])
    metrics.batch_put_metrics(TrialComponentName=name, MetricData=points[2:])
    sagemaker.update_trial_component(
        TrialComponentName=name,
        Status={"PrimaryStatus": "Completed", "Message": "done"},
        EndTime=at,
        Parameters={"depth": {"NumberValue": 4.0}},
        ParametersToRemove=["kind"],
        OutputArtifacts={"model": {"Value": "s3://b/m.tar.gz", "MediaType": "application/gzip"}},
    )

    assert answer.get("Errors", []) == []
    seen = sagemaker.describe_trial_component(TrialComponentName=name)
    assert seen["Parameters"] == {"depth": {"NumberValue": 4.0}}
    assert seen["Status"]["PrimaryStatus"] == "Completed"
    assert seen["OutputArtifacts"]["model"]["Value"] == "s3://b/m.tar.gz"
    (loss,) = seen["Metrics"]
    assert (loss["MetricName"], loss["Count"]) == ("loss", 3)
    assert (loss["Min"], loss["Max"], loss["Last"], loss["Avg"]) == (0.5, 1.0, 0.75, 0.75)
    got = metrics.batch_get_metrics(
        MetricQueries=[
            {
                "MetricName": "loss",
                "ResourceArn": seen["TrialComponentArn"],
                "MetricStat": "Last",
                "Period": "IterationNumber",
                "XAxisType": "IterationNumber",
            }
        ]
    )["MetricQueryResults"][0]
    assert (got["XAxisValues"], got["MetricValues"]) == ([0, 1, 2], [1.0, 0.5, 0.75])


def test_components_are_found_by_trial_parameter_and_metric(
    server: Server, sagemaker: Any, name: str
) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    server.client("sagemaker-metrics").batch_put_metrics(
        TrialComponentName=name,
        MetricData=[{"MetricName": "auc", "Timestamp": at, "Step": 0, "Value": 0.9}],
    )
    sagemaker.associate_trial_component(TrialComponentName=name, TrialName=name)

    def found(*rules: tuple[str, str, str]) -> list[str]:
        filters = [{"Name": a, "Operator": b, "Value": c} for a, b, c in rules]
        answer = sagemaker.search(
            Resource="ExperimentTrialComponent", SearchExpression={"Filters": filters}
        )
        return [each["TrialComponent"]["TrialComponentName"] for each in answer["Results"]]

    of_trial = ("Parents.TrialName", "Equals", name)
    assert found(of_trial) == [name]
    assert found(("TrialComponentName", "Equals", name), of_trial) == [name]
    assert found(of_trial, ("Parameters.depth.NumberValue", "LessThan", "3.5")) == [name]
    assert found(of_trial, ("Parameters.depth.NumberValue", "GreaterThan", "3.5")) == []
    assert found(of_trial, ("Metrics.auc.Last", "GreaterThan", "0.8")) == [name]
    assert found(("Parents.TrialName", "Equals", "no-such-trial")) == []
    listed = sagemaker.list_trial_components(ExperimentName=name)["TrialComponentSummaries"]
    assert [each["TrialComponentName"] for each in listed] == [name]


def test_a_training_job_is_a_component_of_its_trial(
    server: Server, sagemaker: Any, train: Train, name: str
) -> None:
    spec = {
        **image("anything:1"),
        "ContainerEntrypoint": ["/bin/bash", "-c"],
        "ContainerArguments": ["echo 'auc: 0.5'; echo 'auc: 0.7'"],
        "MetricDefinitions": [{"Name": "auc", "Regex": "auc: ([0-9.]+)"}],
    }
    experiment = {
        "ExperimentName": name,
        "TrialName": name,
        "TrialComponentDisplayName": "Training",
    }

    job = train(
        AlgorithmSpecification=spec,
        HyperParameters={"depth": "3", "kind": "tree"},
        ExperimentConfig=experiment,
    )

    listed = sagemaker.list_trial_components(TrialName=name)["TrialComponentSummaries"]
    own = f"{job['TrainingJobName']}-aws-training-job"
    assert [(each["TrialComponentName"], each["DisplayName"]) for each in listed] == [
        (own, "Training")
    ]
    by_source = sagemaker.list_trial_components(SourceArn=job["TrainingJobArn"])
    assert len(by_source["TrialComponentSummaries"]) == 1
    seen = sagemaker.describe_trial_component(TrialComponentName=own)
    assert seen["Source"]["SourceArn"] == job["TrainingJobArn"]
    assert seen["Parameters"]["depth"] == {"NumberValue": 3.0}
    assert seen["Parameters"]["kind"] == {"StringValue": "tree"}
    assert (
        seen["OutputArtifacts"]["SageMaker.ModelArtifact"]["Value"]
        == (job["ModelArtifacts"]["S3ModelArtifacts"])
    )
    assert [(each["MetricName"], each["Max"]) for each in seen["Metrics"]] == [("auc", 0.7)]
    workspace = open_workspace(read_settings({}, home=server.home))
    try:
        mine = get_experiment(workspace, name)
        jobs = [workspace.compute.get(each).name for each in mine.jobs]
    finally:
        workspace.metadata.close()
    assert (mine.hypothesis, jobs) == ("deeper is better", [job["TrainingJobName"]])
    sagemaker.disassociate_trial_component(TrialComponentName=own, TrialName=name)
    assert sagemaker.list_trial_components(TrialName=name)["TrialComponentSummaries"] == []


def test_experiments_and_trials_are_listed_changed_and_deleted(sagemaker: Any, name: str) -> None:
    sagemaker.associate_trial_component(TrialComponentName=name, TrialName=name)
    sagemaker.update_experiment(ExperimentName=name, DisplayName="Title")
    sagemaker.update_trial(TrialName=name, DisplayName="second")

    assert sagemaker.describe_experiment(ExperimentName=name)["DisplayName"] == "Title"
    assert sagemaker.describe_experiment(ExperimentName=name)["Description"] == "deeper is better"
    assert sagemaker.describe_trial(TrialName=name)["DisplayName"] == "second"
    trials = sagemaker.list_trials(ExperimentName=name)["TrialSummaries"]
    assert [each["TrialName"] for each in trials] == [name]
    trials = sagemaker.list_trials(TrialComponentName=name)["TrialSummaries"]
    assert [each["TrialName"] for each in trials] == [name]
    assert name in [
        each["ExperimentName"]
        for each in sagemaker.list_experiments(MaxResults=100)["ExperimentSummaries"]
    ]
    for call, arguments in (
        (sagemaker.delete_experiment, {"ExperimentName": name}),
        (sagemaker.delete_trial, {"TrialName": name}),
        (sagemaker.delete_trial_component, {"TrialComponentName": name}),
    ):
        assert refused(call, **arguments)[0] == "ValidationException"
    sagemaker.disassociate_trial_component(TrialComponentName=name, TrialName=name)
    sagemaker.delete_trial_component(TrialComponentName=name)
    sagemaker.delete_trial(TrialName=name)
    sagemaker.delete_experiment(ExperimentName=name)
    assert refused(sagemaker.describe_experiment, ExperimentName=name) == (
        "ResourceNotFound",
        f"Experiment '{name}' does not exist.",
    )


def test_what_is_there_or_is_not_is_told_in_awss_words(
    server: Server, sagemaker: Any, train: Train, name: str
) -> None:
    code, message = refused(sagemaker.create_experiment, ExperimentName=name)
    assert (code, message) == (
        "ValidationException",
        "Experiment names must be unique within an AWS account and region. Experiment with name "
        f"({name}) already exists.",
    )
    assert (
        "already exists" in refused(sagemaker.create_trial, TrialName=name, ExperimentName=name)[1]
    )
    assert "already exists" in refused(sagemaker.create_trial_component, TrialComponentName=name)[1]
    assert refused(sagemaker.create_trial, TrialName="t", ExperimentName="none") == (
        "ResourceNotFound",
        "Experiment 'none' does not exist.",
    )
    assert refused(sagemaker.describe_trial_component, TrialComponentName="none") == (
        "ResourceNotFound",
        "TrialComponent 'none' does not exist.",
    )
    with pytest.raises(ClientError, match="Trial 'none' does not exist"):
        train(
            AlgorithmSpecification={**image("x:1"), "ContainerEntrypoint": ["true"]},
            ExperimentConfig={"ExperimentName": name, "TrialName": "none"},
        )
    at = datetime(2026, 1, 1, tzinfo=UTC)
    errors = server.client("sagemaker-metrics").batch_put_metrics(
        TrialComponentName="none",
        MetricData=[{"MetricName": "a", "Timestamp": at, "Step": 0, "Value": 1.0}],
    )["Errors"]
    assert errors == [{"Code": "VALIDATION_ERROR", "MetricIndex": 0}]


def test_lineage_tells_what_came_of_what(sagemaker: Any, name: str) -> None:
    source = {"SourceUri": f"s3://b/{name}.csv"}
    data = sagemaker.create_artifact(
        ArtifactName="data", ArtifactType="DataSet", Source=source, Properties={"rows": "3"}
    )["ArtifactArn"]
    action = sagemaker.create_action(
        ActionName=name, ActionType="Training", Source=source, Status="InProgress"
    )["ActionArn"]
    context = sagemaker.create_context(ContextName=name, ContextType="Endpoint", Source=source)[
        "ContextArn"
    ]
    run = sagemaker.describe_trial_component(TrialComponentName=name)["TrialComponentArn"]
    for start, end, kind in (
        (data, run, "ContributedTo"),
        (run, action, "Produced"),
        (action, context, "AssociatedWith"),
    ):
        sagemaker.add_association(SourceArn=start, DestinationArn=end, AssociationType=kind)

    def reached(arn: str, **more: Any) -> set[str]:
        found = sagemaker.query_lineage(StartArns=[arn], IncludeEdges=True, **more)
        return {each["Arn"] for each in found["Vertices"]} - {arn}

    assert reached(data, Direction="Descendants") == {run, action, context}
    assert reached(data, Direction="Ascendants") == set()
    assert reached(context, Direction="Ascendants", MaxDepth=1) == {action}
    assert reached(run, Filters={"LineageTypes": ["Artifact"]}) == {data}
    listed = sagemaker.list_associations(SourceArn=data)["AssociationSummaries"]
    assert [(each["DestinationArn"], each["SourceType"]) for each in listed] == [(run, "DataSet")]
    sagemaker.update_action(ActionName=name, Status="Completed")
    assert sagemaker.describe_action(ActionName=name)["Status"] == "Completed"
    sagemaker.update_artifact(
        ArtifactArn=data, Properties={"cols": "2"}, PropertiesToRemove=["rows"]
    )
    assert sagemaker.describe_artifact(ArtifactArn=data)["Properties"] == {"cols": "2"}
    assert len(sagemaker.list_artifacts(SourceUri=source["SourceUri"])["ArtifactSummaries"]) == 1
    code, message = refused(
        sagemaker.create_artifact, ArtifactName="d", ArtifactType="DataSet", Source=source
    )
    assert (code, message) == ("ValidationException", f"Artifact '{data}' already exists.")
    assert (
        "already exists"
        in refused(sagemaker.add_association, SourceArn=data, DestinationArn=run)[1]
    )
    assert refused(sagemaker.delete_context, ContextName=name)[0] == "ValidationException"
    sagemaker.delete_association(SourceArn=action, DestinationArn=context)
    sagemaker.delete_context(ContextName=name)
    assert refused(sagemaker.describe_context, ContextName=name)[0] == "ResourceNotFound"
    missing = data.replace(data[-4:], "0000")
    assert refused(sagemaker.add_association, SourceArn=missing, DestinationArn=run)[0] == (
        "ResourceNotFound"
    )
