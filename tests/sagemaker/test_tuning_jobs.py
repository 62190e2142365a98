"""Hyperparameter tuning jobs through boto3, their training jobs really run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError

from loopwright.deploy import free_port

from .conftest import ROLE, Server, archive, channel, image, key_for, started, until

SKLEARN = "sagemaker-scikit-learn:0.23-1-cpu-py3"
SCRIPT = """
import argparse, sys, time
words = argparse.ArgumentParser()
words.add_argument("-x", type=float)
words.add_argument("--kind", default="a")
words.add_argument("--slow", type=float, default=0)
words.add_argument("--breaks", default="")
given = words.parse_args()
if given.breaks:
    sys.exit("broken on purpose")
time.sleep(given.slow)
print(f"loss={(given.x - 0.3) ** 2 + (given.kind == 'b'):.6f}")
"""
Tune = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def code(s3: Any, bucket: str) -> str:
    s3.put_object(Bucket=bucket, Key="tuning/code.tgz", Body=archive({"t.py": SCRIPT}))
    return f"s3://{bucket}/tuning/code.tgz"


def definition(code: str, **changes: Any) -> dict[str, Any]:
    """Return the definition of a script's training jobs."""
    static = {"sagemaker_program": "t.py", "sagemaker_submit_directory": code}
    return {
        "AlgorithmSpecification": {
            **image(SKLEARN),
            "MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.]+)"}],
        },
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": "s3://jobs/tuned"},
        "ResourceConfig": {
            "InstanceType": "ml.m5.large",
            "InstanceCount": 1,
            "VolumeSizeInGB": 1,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 100},
        **changes,
        "StaticHyperParameters": static | changes.get("StaticHyperParameters", {}),
    }


X = {"ContinuousParameterRanges": [{"Name": "x", "MinValue": "0", "MaxValue": "1"}]}


def config(n: int = 3, *, parallel: int = 2, **changes: Any) -> dict[str, Any]:
    return {
        "Strategy": "Random",
        "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"},
        "ResourceLimits": {"MaxNumberOfTrainingJobs": n, "MaxParallelTrainingJobs": parallel},
        "ParameterRanges": X,
        "RandomSeed": 3,
        **changes,
    }


@pytest.fixture
def tune(sagemaker: Any) -> Tune:
    def run(*, wait: bool = True, **given: Any) -> dict[str, Any]:
        name = given.pop("name", f"tune-{time.time_ns() % 10**12}")
        sagemaker.create_hyper_parameter_tuning_job(HyperParameterTuningJobName=name, **given)
        return ended(sagemaker, name) if wait else {"HyperParameterTuningJobName": name}

    return run


def ended(sagemaker: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = until(
        lambda: sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name),
        lambda seen: seen["HyperParameterTuningJobStatus"] in ("Completed", "Failed", "Stopped"),
    )
    return found


def children(sagemaker: Any, name: str, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name, **{"MaxResults": 100, **more}
    )["TrainingJobSummaries"]
    return found


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_a_script_is_searched_and_its_jobs_are_training_jobs(
    sagemaker: Any, code: str, tune: Tune
) -> None:
    tuner = tune(
        HyperParameterTuningJobConfig=config(4, Strategy="Bayesian"),
        TrainingJobDefinition=definition(code),
        Tags=[{"Key": "team", "Value": "a"}],
    )

    name = tuner["HyperParameterTuningJobName"]
    rows = children(sagemaker, name, SortBy="FinalObjectiveMetricValue", SortOrder="Ascending")
    best = tuner["BestTrainingJob"]
    job = sagemaker.describe_training_job(TrainingJobName=best["TrainingJobName"])
    assert tuner["HyperParameterTuningJobStatus"] == "Completed"
    assert tuner["TrainingJobStatusCounters"] == {
        "Completed": 4,
        "InProgress": 0,
        "RetryableError": 0,
        "NonRetryableError": 0,
        "Stopped": 0,
    }
    assert tuner["ObjectiveStatusCounters"] == {"Succeeded": 4, "Pending": 0, "Failed": 0}
    assert tuner["HyperParameterTuningEndTime"] > tuner["CreationTime"]
    assert rows[0]["TrainingJobName"] == best["TrainingJobName"]
    for each in rows:
        x = float(each["TunedHyperParameters"]["x"])
        final = each["FinalHyperParameterTuningJobObjectiveMetric"]
        assert final["MetricName"] == "loss"
        assert final["Value"] == pytest.approx((x - 0.3) ** 2, abs=1e-5)
    assert job["TuningJobArn"] == tuner["HyperParameterTuningJobArn"]
    assert job["HyperParameters"]["x"] == best["TunedHyperParameters"]["x"]
    assert job["ResourceConfig"]["VolumeSizeInGB"] == 1
    assert job["TrainingJobStatus"] == "Completed"
    tags = sagemaker.list_tags(ResourceArn=tuner["HyperParameterTuningJobArn"])["Tags"]
    assert tags == [{"Key": "team", "Value": "a"}]


def test_xgboost_is_tuned_on_the_metric_that_is_asked_for(
    sagemaker: Any, s3: Any, bucket: str, tune: Tune
) -> None:
    X_ = np.random.default_rng(4).normal(size=(300, 3))
    rows = "\n".join(f"{int(x[0] + x[1] > 0)},{x[0]!r},{x[1]!r},{x[2]!r}" for x in X_.tolist())
    for part in ("train", "validation"):
        s3.put_object(Bucket=bucket, Key=f"tuning/{part}/a.csv", Body=rows.encode())
    given = {
        "AlgorithmSpecification": image("sagemaker-xgboost:1.7-1"),
        "RoleArn": ROLE,
        "InputDataConfig": [
            channel(part, f"s3://{bucket}/tuning/{part}/", ContentType="text/csv")
            for part in ("train", "validation")
        ],
        "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/tuned"},
        "HyperParameterTuningResourceConfig": {
            "InstanceType": "ml.m5.large",
            "InstanceCount": 1,
            "VolumeSizeInGB": 1,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 100},
        "StaticHyperParameters": {"objective": "binary:logistic", "num_round": "5"},
    }
    ranges = {
        "ContinuousParameterRanges": [{"Name": "eta", "MinValue": "0.05", "MaxValue": "0.5"}],
        "IntegerParameterRanges": [{"Name": "max_depth", "MinValue": "1", "MaxValue": "4"}],
    }
    objective = {"Type": "Maximize", "MetricName": "validation:auc"}

    tuner = tune(
        HyperParameterTuningJobConfig=config(
            2, ParameterRanges=ranges, HyperParameterTuningJobObjective=objective
        ),
        TrainingJobDefinition=given,
    )

    final = tuner["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]
    job = sagemaker.describe_training_job(
        TrainingJobName=tuner["BestTrainingJob"]["TrainingJobName"]
    )
    assert final["MetricName"] == "validation:auc"
    assert 0.9 < final["Value"] <= 1
    assert job["HyperParameters"]["_tuning_objective_metric"] == "validation:auc"
    assert job["ResourceConfig"]["InstanceCount"] == 1
    wrong = {"Type": "Maximize", "MetricName": "validation:nonsense"}
    code_, said = refused(
        sagemaker.create_hyper_parameter_tuning_job,
        HyperParameterTuningJobName="wrong-metric",
        HyperParameterTuningJobConfig=config(
            ParameterRanges=ranges, HyperParameterTuningJobObjective=wrong
        ),
        TrainingJobDefinition=given,
    )
    assert code_ == "ValidationException"
    assert said.startswith(
        "The objective metric for the hyperparameter tuning job, [validation:nonsense], isn't valid"
    )


def test_a_grid_over_two_definitions_tries_everything_once(
    sagemaker: Any, code: str, tune: Tune
) -> None:
    def grid(*values: str) -> dict[str, Any]:
        return {"CategoricalParameterRanges": [{"Name": "x", "Values": list(values)}]}

    objective = {"Type": "Minimize", "MetricName": "loss"}
    two = [
        definition(
            code,
            DefinitionName=name,
            TuningObjective=objective,
            HyperParameterRanges=grid(*values),
            StaticHyperParameters={"kind": name},
        )
        for name, values in (("a", ("0.1", "0.3")), ("b", ("0.3",)))
    ]

    tuner = tune(
        HyperParameterTuningJobConfig={
            "Strategy": "Grid",
            "ResourceLimits": {"MaxParallelTrainingJobs": 3},
        },
        TrainingJobDefinitions=two,
    )

    rows = children(sagemaker, tuner["HyperParameterTuningJobName"])
    tried = {(e["TrainingJobDefinitionName"], e["TunedHyperParameters"]["x"]) for e in rows}
    assert len(rows) == 3
    assert tried == {("a", "0.1"), ("a", "0.3"), ("b", "0.3")}
    assert tuner["BestTrainingJob"]["TrainingJobDefinitionName"] == "a"
    assert tuner["BestTrainingJob"]["TunedHyperParameters"] == {"x": "0.3"}


def test_a_search_goes_on_from_its_parents(sagemaker: Any, code: str, tune: Tune) -> None:
    first = tune(HyperParameterTuningJobConfig=config(3), TrainingJobDefinition=definition(code))
    parent = first["HyperParameterTuningJobName"]
    warm = {
        "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": parent}],
        "WarmStartType": "IdenticalDataAndAlgorithm",
    }

    second = tune(
        HyperParameterTuningJobConfig=config(1, parallel=1, Strategy="Bayesian"),
        TrainingJobDefinition=definition(code),
        WarmStartConfig=warm,
    )

    key = "FinalHyperParameterTuningJobObjectiveMetric"
    overall = second["OverallBestTrainingJob"]
    values = [each["BestTrainingJob"][key]["Value"] for each in (first, second)]
    assert overall[key]["Value"] == min(values)
    assert overall["TuningJobName"] in (parent, second["HyperParameterTuningJobName"])
    assert second["WarmStartConfig"] == warm


def test_a_search_ends_when_its_target_is_reached(sagemaker: Any, code: str, tune: Tune) -> None:
    tuner = tune(
        HyperParameterTuningJobConfig=config(
            40, parallel=1, TuningJobCompletionCriteria={"TargetObjectiveMetricValue": 2.0}
        ),
        TrainingJobDefinition=definition(code),
    )

    assert tuner["HyperParameterTuningJobStatus"] == "Completed"
    assert tuner["TrainingJobStatusCounters"]["Completed"] == 1


def test_a_search_whose_jobs_all_fail_says_so(sagemaker: Any, code: str, tune: Tune) -> None:
    tuner = tune(
        HyperParameterTuningJobConfig=config(2),
        TrainingJobDefinition=definition(code, StaticHyperParameters={"breaks": "yes"}),
    )

    rows = children(sagemaker, tuner["HyperParameterTuningJobName"], StatusEquals="Failed")
    assert tuner["HyperParameterTuningJobStatus"] == "Failed"
    assert tuner["FailureReason"].startswith("All training jobs failed. Please take a look")
    assert tuner["TrainingJobStatusCounters"]["NonRetryableError"] == 2
    assert tuner["ObjectiveStatusCounters"]["Failed"] == 2
    assert "BestTrainingJob" not in tuner
    assert len(rows) == 2
    assert "broken on purpose" in rows[0]["FailureReason"]


def test_a_search_is_stopped_with_its_jobs_and_can_be_forgotten(
    sagemaker: Any, code: str, tune: Tune
) -> None:
    name = tune(
        HyperParameterTuningJobConfig=config(5),
        TrainingJobDefinition=definition(code, StaticHyperParameters={"slow": "30"}),
        wait=False,
    )["HyperParameterTuningJobName"]
    until(
        lambda: children(sagemaker, name),
        lambda rows: len(rows) == 2 and any("TrainingStartTime" in each for each in rows),
    )
    one = children(sagemaker, name)[0]["TrainingJobName"]
    busy = refused(sagemaker.delete_hyper_parameter_tuning_job, HyperParameterTuningJobName=name)

    sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    tuner = ended(sagemaker, name)

    assert busy[0] == "ResourceInUse"
    assert tuner["HyperParameterTuningJobStatus"] == "Stopped"
    assert tuner["TrainingJobStatusCounters"]["Stopped"] == 2
    again = refused(sagemaker.stop_hyper_parameter_tuning_job, HyperParameterTuningJobName=name)
    assert again == (
        "ValidationException",
        "The request was rejected because the hyperparameter tuning job is in status Stopped.",
    )
    sagemaker.delete_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    gone = refused(sagemaker.describe_hyper_parameter_tuning_job, HyperParameterTuningJobName=name)
    assert gone[0] == "ResourceNotFound"
    assert sagemaker.describe_training_job(TrainingJobName=one)["TrainingJobStatus"] == "Stopped"


def test_requests_that_make_no_search_are_refused(sagemaker: Any, code: str, tune: Tune) -> None:
    plain = definition(code)

    def said(**changes: Any) -> str:
        given = {
            "HyperParameterTuningJobName": "no",
            "HyperParameterTuningJobConfig": config(),
            "TrainingJobDefinition": plain,
            **changes,
        }
        kind, text = refused(
            sagemaker.create_hyper_parameter_tuning_job,
            **{key: value for key, value in given.items() if value is not None},
        )
        assert kind == "ValidationException"
        return text

    def with_config(**changes: Any) -> str:
        return said(HyperParameterTuningJobConfig=config(**changes))

    bare = {**plain, "AlgorithmSpecification": image(SKLEARN)}
    assert said(TrainingJobDefinition=bare) == (
        "A metric is required for this hyperparameter tuning job objective. Provide a metric in the "
        "metric definitions."
    )
    assert "either TrainingJobDefinition or" in said(TrainingJobDefinition=None)
    assert "categorical" in with_config(Strategy="Grid").lower()
    assert "MaxParallelTrainingJobs, 5" in with_config(
        ResourceLimits={"MaxNumberOfTrainingJobs": 2, "MaxParallelTrainingJobs": 5}
    )
    assert "At least one hyperparameter range" in with_config(ParameterRanges={})
    assert "must be Off" in with_config(Strategy="Hyperband", TrainingJobEarlyStoppingType="Auto")
    assert "enum value set: [Bayesian, Random" in with_config(Strategy="Guess")
    assert "No S3 objects found" in said(
        TrainingJobDefinition={
            **plain,
            "InputDataConfig": [channel("train", "s3://jobs/nothing-here/")],
        }
    )
    kind, text = refused(
        sagemaker.create_hyper_parameter_tuning_job,
        HyperParameterTuningJobName="no",
        HyperParameterTuningJobConfig=config(),
        TrainingJobDefinition=plain,
        WarmStartConfig={
            "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "nobody"}],
            "WarmStartType": "TransferLearning",
        },
    )
    assert kind == "ResourceNotFound"
    assert "nobody" in text


def test_a_name_is_taken_once(sagemaker: Any, code: str, tune: Tune) -> None:
    given = {
        "HyperParameterTuningJobConfig": config(1, parallel=1),
        "TrainingJobDefinition": definition(code),
    }
    name = tune(**given)["HyperParameterTuningJobName"]

    taken = refused(
        sagemaker.create_hyper_parameter_tuning_job, HyperParameterTuningJobName=name, **given
    )

    listed = sagemaker.list_hyper_parameter_tuning_jobs(NameContains=name)
    assert taken == (
        "ResourceInUse",
        f"A hyperparameter tuning job with the name, {name}, already exists. Choose a different "
        "name.",
    )
    (row,) = listed["HyperParameterTuningJobSummaries"]
    assert row["Strategy"] == "Random"
    assert row["TrainingJobStatusCounters"]["Completed"] == 1
    rule = {"Name": "HyperParameterTuningJobName", "Operator": "Equals", "Value": name}
    (hit,) = sagemaker.search(
        Resource="HyperParameterTuningJob", SearchExpression={"Filters": [rule]}
    )["Results"]
    assert hit["HyperParameterTuningJob"]["HyperParameterTuningJobStatus"] == "Completed"


CURVES = """
import argparse, time
words = argparse.ArgumentParser()
words.add_argument("-x", type=int)
given = words.parse_args()
for step in range(3 if given.x < 4 else 600):
    print(f"loss={given.x}", flush=True)
    time.sleep(0 if given.x < 4 else 0.1)
"""


@pytest.mark.parametrize("strategy", ["Random", "Hyperband"])
def test_a_job_that_falls_behind_is_ended_early(
    sagemaker: Any, s3: Any, bucket: str, code: str, tune: Tune, strategy: str
) -> None:
    s3.put_object(Bucket=bucket, Key="tuning/curves.tgz", Body=archive({"t.py": CURVES}))
    curves = f"s3://{bucket}/tuning/curves.tgz"

    def one(value: str) -> dict[str, Any]:
        ranges = {"CategoricalParameterRanges": [{"Name": "x", "Values": [value]}]}
        objective = {"Type": "Minimize", "MetricName": "loss"}
        return definition(
            curves,
            DefinitionName=f"d{value}",
            HyperParameterRanges=ranges,
            TuningObjective=objective,
        )

    more = {"TrainingJobEarlyStoppingType": "Auto"} if strategy == "Random" else {}

    tuner = tune(
        HyperParameterTuningJobConfig={
            "Strategy": strategy,
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 4, "MaxParallelTrainingJobs": 1},
            **more,
        },
        # one after the other: the last is far behind
        TrainingJobDefinitions=[one(value) for value in "1239"],
    )

    rows = children(sagemaker, tuner["HyperParameterTuningJobName"])
    assert tuner["HyperParameterTuningJobStatus"] == "Completed"
    assert [each["TrainingJobStatus"] for each in rows] == ["Completed"] * 3 + ["Stopped"]
    assert tuner["BestTrainingJob"]["TunedHyperParameters"] == {"x": "1"}


def test_a_search_goes_on_after_the_server_was_killed(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    home.mkdir(mode=0o700)
    with started(home, port=port) as (process, url):
        first = Server(url=url, home=home, key=key_for(home), pid=process.pid)
        s3, sagemaker = first.client("s3"), first.client("sagemaker")
        s3.create_bucket(Bucket="jobs")
        s3.put_object(Bucket="jobs", Key="c.tgz", Body=archive({"t.py": SCRIPT}))
        sagemaker.create_hyper_parameter_tuning_job(
            HyperParameterTuningJobName="kept",
            HyperParameterTuningJobConfig=config(4),
            TrainingJobDefinition=definition(
                "s3://jobs/c.tgz", StaticHyperParameters={"slow": "0.3"}
            ),
        )
        until(lambda: children(sagemaker, "kept"), lambda rows: len(rows) >= 2)
        process.kill()
        process.wait(10)

    with started(home, port=port) as (process, url):
        second = Server(url=url, home=home, key=first.key, pid=process.pid)
        tuner = ended(second.client("sagemaker"), "kept")

    assert tuner["HyperParameterTuningJobStatus"] == "Completed"
    assert tuner["TrainingJobStatusCounters"]["Completed"] == 4
